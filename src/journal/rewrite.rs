//! Writes the files of a directory that no store has open: all sessions anew, or single changes.
//!
//! Everything goes the way that it goes in an open store, but for the threads: what was found is
//! made durable, a new segment is begun, a snapshot counts when it is complete. So whatever happens
//! in between, the files are those before or those after.

use super::files::Files;
use super::fold::Fold;
use super::recover::{Kind, SnapshotName, Survey};
use super::sealing::Seal;
use super::segment::{LAYOUT, SegmentName};
use super::snapshot::{Found, Summary};
use super::{Calendar, Keeping, Shared, Taking};
use crate::error::{Error, Result};
use crate::keep::{Append, Durability};
use crate::sync::Arc;

/// The segment that is begun ends with the next opening, so it is as short as it may be.
const SEGMENT_BYTES: u64 = 1 << 20;

/// How the files are written.
fn keeping(schema: u64, seal: Seal, append: Append) -> Keeping {
    Keeping {
        durability: Durability::Crash,
        sync_interval: std::time::Duration::from_secs(1),
        segment_bytes: SEGMENT_BYTES,
        append,
        schema,
        seal,
    }
}

/// Writes a snapshot with what `fill` pushes, in the place of all that is in the directory.
///
/// # Errors
/// That of `fill`, [`Error::Files`], [`Error::Full`]: then the sessions are those from before.
pub(crate) fn snapshot<F: Files, E: From<Error>>(
    files: &Arc<F>,
    survey: &Survey<F>,
    (schema, seal): (u64, Seal),
    calendar: Calendar,
    fill: impl FnOnce(&mut Taking<'_, F>) -> Result<(), E>,
) -> Result<Summary, E> {
    check_layout(&**files, survey.kind)?;
    let keeping = keeping(schema, seal, Append::Written);
    let written = (|| {
        let shared = Shared::open(Arc::clone(files), survey, keeping, calendar)?;
        let mut taking = Taking::begin(&shared, survey.generation + 1)?;
        fill(&mut taking)?;
        let summary = taking.finish()?;
        shared.commit()?;
        shared.log.mark();
        Ok(summary)
    })();
    if written.is_err() && survey.kind.is_none() {
        clear(&**files);
    }
    written
}

/// Removes what is left of a store that did not come to be.
fn clear<F: Files>(files: &F) {
    for name in files.list().unwrap_or_default() {
        let is_ours = SegmentName::parse(&name).is_some() || SnapshotName::parse(&name).is_some();
        if is_ours {
            // What stays is an empty store.
            let _ = files.remove(&name);
        }
    }
}

/// Writes entries without sessions behind the log, durably. Returns their number.
///
/// # Errors
/// [`Error::Files`], [`Error::Full`], [`Error::NotDurable`]: then some of them may be written.
#[cfg(feature = "cli")]
pub(crate) fn append<'a, F: Files>(
    files: &Arc<F>,
    survey: &Survey<F>,
    schema: u64,
    calendar: Calendar,
    entries: impl Iterator<Item = super::entry::Entry<'a>>,
) -> Result<u64> {
    check_layout(&**files, survey.kind)?;
    let keeping = Keeping {
        segment_bytes: 16 << 20,
        ..keeping(schema, Seal::without_keys(survey.key), Append::Mapped)
    };
    let shared = Shared::open(Arc::clone(files), survey, keeping, calendar)?;
    let mut count = 0;
    for entry in entries {
        shared.append(&entry, super::log::Need::Reserve)?;
        count += 1;
    }
    shared.commit()?;
    shared.log.mark();
    Ok(count)
}

/// Pushes what has not expired. `seal` is that of the files which it comes from.
pub(crate) fn push_live<T: Files, F: Files>(
    taking: &mut Taking<'_, T>,
    fold: &Fold<'_, F>,
    seal: &Seal,
    now_ms: u64,
) -> Result<()> {
    fold.for_each(|found| match found {
        Found::Session(stored) if stored.is_live(now_ms) => {
            fold.open(seal, &stored, |opened| taking.push(opened))?
        }
        Found::Alias(alias) if alias.until_ms > now_ms => taking.push_alias(alias),
        _ => Ok(()),
    })
}

/// Refuses to write beside what another build wrote: its data could not be told from ours.
fn check_layout<F: Files>(files: &F, kind: Option<Kind>) -> Result<()> {
    match kind {
        Some(Kind { layout, .. }) if layout != LAYOUT => Err(Error::Unreadable {
            file: files.path(""),
            problem: format!(
                "archived with layout {layout:#018x}, while this program writes {LAYOUT:#018x}: \
                 use one that was built like the server"
            ),
        }),
        _ => Ok(()),
    }
}
