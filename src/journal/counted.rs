//! What of a surveyed log counts: its frames, one by one.

use super::entry::Entry;
use super::files::Files;
use super::frame::Header;
use super::recover::{Place, Survey};
use super::segment::{SEGMENT_HEADER_BYTES, SegmentName};
use super::snapshot::Damage;
use crate::error::{Error, Result};

/// What of a segment counts.
#[cfg(feature = "cli")]
pub(crate) struct SegmentPart {
    pub(crate) name: String,
    /// The positions of its first and last frame.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) used_bytes: u64,
}

/// A frame that counts.
pub(super) struct Frame<'a> {
    name: SegmentName,
    /// Where in the file it begins.
    offset: u64,
    kind: u8,
    pub(super) body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// # Errors
    /// [`Error::Damaged`].
    pub(super) fn entry<F: Files>(&self, files: &F) -> Result<Entry<'a>> {
        Entry::decode(self.kind, self.body)
            .map_err(|problem| Place(files, &self.name.to_string()).damaged(self.offset, problem))
    }
}

impl<F: Files> Survey<F> {
    /// The frames that the snapshot lacks, in order.
    pub(super) fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        self.used.iter().flat_map(|segment| {
            let counts = |frame: &(usize, Header, _)| frame.1.position <= segment.cut.last;
            segment.scan().take_while(counts).map(|(offset, Header { kind, .. }, body)| {
                let offset = (SEGMENT_HEADER_BYTES + offset) as u64;
                Frame { name: segment.header.name(), offset, kind, body }
            })
        })
    }

    /// The segments that are the log behind the snapshot, in order.
    #[cfg(feature = "cli")]
    pub(crate) fn parts(&self) -> impl Iterator<Item = SegmentPart> {
        self.used.iter().map(|segment| SegmentPart {
            name: segment.header.name().to_string(),
            first: segment.base,
            last: segment.cut.last,
            used_bytes: (SEGMENT_HEADER_BYTES + segment.cut.len) as u64,
        })
    }

    /// What is said of a damaged snapshot.
    pub(super) fn damaged(&self, files: &F, damage: Damage) -> Error {
        Place(files, &self.snapshot_name()).damaged(damage.offset, damage)
    }
}
