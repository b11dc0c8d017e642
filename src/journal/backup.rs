//! A copy of an open journal's files in another directory.

use std::io;
use std::path::Path;

use super::files::Files as _;
use super::files::real::{LOCK_NAME, Lock, RealFiles};
use super::snapshot::Summary;
use super::{Journal, rewrite};
use crate::error::{Error, Result};
use crate::fork;
use crate::sync::Arc;

impl Journal<RealFiles> {
    /// Copies all sessions, as they are after everything that was appended when this was called,
    /// into a directory that is empty, or not there.
    ///
    /// # Errors
    /// [`Error::Files`], also when it is not empty; [`Error::Full`], [`Error::Forked`],
    /// [`Error::Damaged`]. Then nothing is left in it.
    pub(crate) fn backup(&self, directory: &Path) -> Result<Summary> {
        if self.generation != fork::generation() {
            return Err(Error::Forked);
        }
        self.shared.drain_touches();
        let maker = self.shared.log.maker();
        let (target, lock) = empty(directory)?;
        let calendar = maker.calendar.clone();
        let copied = rewrite::copy(&maker.files, &target, maker.schema, calendar);
        if copied.is_err() {
            // What stays is in nobody's way: it is no store.
            let _ = target.remove(LOCK_NAME);
        }
        drop(lock);
        copied
    }
}

/// Takes an empty directory for this copy alone, so that no store begins in it meanwhile.
fn empty(directory: &Path) -> Result<(Arc<RealFiles>, Lock)> {
    let io = |doing| {
        let file = directory.to_owned();
        move |error| Error::Files { file, doing, error }
    };
    let files = RealFiles::open_dir(directory).map_err(io("open"))?;
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
