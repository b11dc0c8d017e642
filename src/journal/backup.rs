//! A copy of a directory's files in another one, also while a journal is open on them.

use std::io;
use std::path::Path;

use super::files::real::{LOCK_NAME, Lock};
use super::files::{Files, StoreFiles};
use super::fold::Fold;
use super::rewrite::{self, push_live};
use super::sealing::Seal;
use super::snapshot::Summary;
use super::still::look;
use super::{Calendar, Journal, Survey};
use crate::error::{Error, Result};
use crate::fork;
use crate::sync::Arc;

impl Journal<StoreFiles> {
    /// Copies all sessions, as they are after everything that was appended when this was called,
    /// into a directory that is empty, or not there.
    ///
    /// # Errors
    /// [`Error::NotDurable`] if the files lack some of it, as after a sync that failed;
    /// [`Error::Files`], also when it is not empty; [`Error::Full`], [`Error::Forked`],
    /// [`Error::Damaged`]. Then nothing is left in it.
    pub(crate) fn backup(&self, directory: &Path) -> Result<Summary> {
        if self.generation != fork::generation() {
            return Err(Error::Forked);
        }
        self.shared.drain_touches();
        let maker = self.shared.log.maker();
        let written = self.shared.log.last_change();
        let (still, survey) = look(&maker.files)?;
        if survey.end.last < written {
            // What a sync that failed should have written, the system may have thrown away.
            return Err(Error::NotDurable(format!(
                "{written} changes were written, {} are left in the files: try again when a \
                 snapshot has been taken",
                survey.end.last
            )));
        }
        let kind = (maker.schema, maker.seal.clone());
        copy(&still, &survey, directory, kind, maker.calendar.clone())
    }
}

/// Writes what was found in one directory into another, as one snapshot.
///
/// # Errors
/// As [`Journal::backup`].
pub(crate) fn copy<F: Files>(
    files: &F,
    survey: &Survey<F>,
    directory: &Path,
    (schema, seal): (u64, Seal),
    calendar: Calendar,
) -> Result<Summary> {
    let fold = Fold::of(files, survey)?;
    let (target, lock) = empty(directory)?;
    let now_ms = calendar.now_ms();
    let nothing = Survey::any(&*target)?;
    let kind = (schema, seal.clone());
    let copied = rewrite::snapshot(&target, &nothing, kind, calendar, |taking| {
        push_live(taking, &fold, &seal, now_ms)
    });
    if copied.is_err() {
        // What stays is in nobody's way: it is no store.
        let _ = target.remove(LOCK_NAME);
    }
    drop(lock);
    copied
}

/// Takes an empty directory for this copy alone, so that no store begins in it meanwhile.
fn empty(directory: &Path) -> Result<(Arc<StoreFiles>, Lock)> {
    let io = |doing| {
        let file = directory.to_owned();
        move |error| Error::Files { file, doing, error }
    };
    let files = StoreFiles::open_dir(directory).map_err(io("open"))?;
    let not_empty = || {
        let text = "it is not empty: name a directory that is, or that is not there yet";
        Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, text))
    };
    // Before the lock, so that nothing appears in a directory of somebody else.
    let names = files.list().map_err(io("list"))?;
    if !names.is_empty() {
        return not_empty().map_err(io("back up into"));
    }
    let locked = Error::Locked { directory: directory.to_owned() };
    let lock = files.lock().map_err(io("lock"))?.ok_or(locked)?;
    if files.list().map_err(io("list"))? != [LOCK_NAME] {
        return not_empty().map_err(io("back up into"));
    }
    Ok((Arc::new(files), lock))
}
