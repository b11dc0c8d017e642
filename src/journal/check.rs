//! Checks every sum in a directory, then that its files belong together.

use std::path::PathBuf;

use super::entry::Entry;
use super::files::Files;
use super::recover::SnapshotName;
use super::segment::{
    End, First, SEGMENT_HEADER_BYTES, Scan, SegmentHeader, SegmentName, find_later, first,
};
use super::snapshot::{Snapshot, SnapshotProblem};
use super::still::{Still, StillFile};
use crate::error::Error;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) file: PathBuf,
    pub(crate) offset: u64,
    pub(crate) problem: String,
}

impl Finding {
    /// What an error tells of the files; the error itself where it is another one.
    pub(crate) fn of(error: Error) -> Result<Finding, Error> {
        match error {
            Error::Damaged { file, offset, problem } => Ok(Finding { file, offset, problem }),
            Error::Unreadable { file, problem } => Ok(Finding { file, offset: 0, problem }),
            other => Err(other),
        }
    }
}

/// Compares every sum of every file, each file by itself. Calls `progress` with the number of
/// bytes that were checked, and that of all.
pub(crate) fn check<F: Files>(
    still: &Still<F>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<Finding>, Error> {
    let names: Vec<&str> = still.ours().filter(|name| is_finished(name)).collect();
    let total = names.iter().map(|name| still.len(name)).sum();
    let (mut done, mut findings) = (0, Vec::new());
    for name in names {
        let file = still.path(name);
        let io = |error| Error::Files { file: still.path(name), doing: "read", error };
        let bytes = still.open(name).map_err(io)?;
        let found = match SegmentName::parse(name) {
            Some(segment) => check_segment(segment, &bytes),
            None => check_snapshot(name, &bytes, &mut |inside| progress(done + inside, total)),
        };
        findings.extend(found.map(|(offset, problem)| Finding { file, offset, problem }));
        done += bytes.len() as u64;
        progress(done, total);
    }
    Ok(findings)
}

fn is_finished(name: &str) -> bool {
    SegmentName::parse(name).is_some() || SnapshotName::parse(name).is_some()
}

fn check_snapshot<F: Files>(
    name: &str,
    bytes: &StillFile<F>,
    progress: &mut dyn FnMut(u64),
) -> Option<(u64, String)> {
    let snapshot = match Snapshot::open(bytes.clone()) {
        Ok(snapshot) => snapshot,
        Err(SnapshotProblem::Damaged(damage)) => return Some((damage.offset, damage.to_string())),
        Err(problem) => return Some((0, problem.to_string())),
    };
    let generation = snapshot.fields().generation;
    if (SnapshotName { generation }).finished() != name {
        return Some((0, format!("this is generation {generation:016x}")));
    }
    let damage = snapshot.verify(|done, _| progress(done)).err()?;
    Some((damage.offset, damage.to_string()))
}

fn check_segment(name: SegmentName, bytes: &[u8]) -> Option<(u64, String)> {
    let frames = bytes.get(SEGMENT_HEADER_BYTES..).unwrap_or_default();
    let header = match SegmentHeader::decode(bytes) {
        Ok(header) => header,
        // Its making was cut off; nothing was appended to it.
        Err(problem) if problem.is_incomplete() && frames.iter().all(|&byte| byte == 0) => {
            return None;
        }
        Err(problem) => return Some((0, problem.to_string())),
    };
    if header.name() != name {
        return Some((0, format!("this is {}", header.name())));
    }
    // Without its first frame a segment counts for nothing; whether that is damage, the others
    // tell.
    let First::Link(base, _) = first(&header, frames) else { return None };
    let mut scan = Scan::new(&header, base, frames);
    for (offset, head, body) in scan.by_ref() {
        if let Err(problem) = Entry::decode(head.kind, body) {
            return Some(((SEGMENT_HEADER_BYTES + offset) as u64, problem.to_string()));
        }
    }
    let End { offset, last, .. } = scan.end();
    let later = find_later(&header, frames.get(offset..).unwrap_or_default(), last)?;
    (later.durable > last).then(|| {
        let problem = format!(
            "the frame of position {} is missing or damaged; it was durable, as all were up to {}",
            last + 1,
            later.durable
        );
        ((SEGMENT_HEADER_BYTES + offset) as u64, problem)
    })
}
