//! A snapshot: one immutable file with all sessions of a store, served from where it lies.
//!
//! ```text
//! offset 0  +------------------------------------+
//!           | header, 4096 bytes                 |  written last of all
//!           +------------------------------------+
//!           | entries, in chunks of 256 KiB      |  written while the store is walked
//!           +------------------------------------+  next page; from here on written when the
//!           | slots: the hash index              |  walk is over
//!           +------------------------------------+  next page
//!           | owner rows                         |
//!           +------------------------------------+  next page
//!           | superseded rows, most often none   |
//!           +------------------------------------+  next page
//!           | chunk rows                         |
//!           +------------------------------------+  next page
//!           | page sums                          |
//!           +------------------------------------+
//!           | trailer, 64 bytes                  |
//!           +------------------------------------+
//! ```
//!
//! | section | what it holds | its checksums lie in |
//! |---|---|---|
//! | header | what the file is, where its sections lie (`layout`) | the header |
//! | entries | sessions and aliases as pushed (`framing`) | each one's slot; the chunk rows |
//! | slots | a hash table by id: id bits, entry offset, entry checksum | page sums |
//! | owner rows | owner hash, entry offset; sorted | page sums |
//! | superseded rows | offsets of entries whose id came again later; sorted | page sums |
//! | chunk rows | where each run of entries ends, its checksum; sorted | page sums |
//! | page sums | the checksum of each page of the tables | the header, for `verify` |
//! | trailer | totals, once more | the trailer |
//!
//! So every byte is covered: a tree of checksums, with its root in the header. A reader checks from
//! the top what it is about to use. Opening reads the header with the trailer. A lookup
//! checks the page of slots when it is first touched, then the one entry that it returns. No
//! checksum lies beside the bytes it is of; each is seeded with the file's random salt plus the
//! offset of what it covers. So bytes of another place, of an older file in a recycled block, or
//! put there by somebody who may choose a session's data are not taken for good.
//!
//! The header is zeros until all else is written, so a half-written file is none.
//!
//! Damage is reported with its place, never skipped: the sessions that *can* still be read say
//! nothing of those which cannot. Checksums find accidents. Against someone who can write to the
//! file they are no help, but no bytes whatever make a reader panic, loop or allocate.
//!
//! Sizes: beside the session itself 29 to 37 bytes (the entry's head, padding, slot), 16 more if it
//! has an owner.

mod framing;
mod index;
mod layout;
mod read;
#[cfg(test)]
mod tests;
mod verify;
mod walk;
mod write;

use std::fmt;

pub(crate) use framing::{Alias, EntryOffset, Found};
pub(crate) use layout::{Counts, HeaderFields, LogPosition, Weight, Weights};
pub(crate) use read::{Owned, Snapshot};
pub(crate) use walk::Walk;
pub(crate) use write::{Closing, Sink, Summary, Writer};

/// A part of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Section {
    Header,
    Entries,
    Slots,
    Owners,
    Superseded,
    Chunks,
    Sums,
    Trailer,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Section::Header => "header",
            Section::Entries => "entries",
            Section::Slots => "hash index",
            Section::Owners => "owner index",
            Section::Superseded => "list of superseded entries",
            Section::Chunks => "list of chunks",
            Section::Sums => "page checksums",
            Section::Trailer => "trailer",
        })
    }
}

/// Bytes that are not what was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Damage {
    /// What cannot be trusted.
    pub(crate) what: Section,
    /// Where in the file that begins: the entry, the chunk of entries, the page.
    pub(crate) offset: u64,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "damage in the {} at offset {}", self.what, self.offset)
    }
}

impl std::error::Error for Damage {}

/// Why a file cannot be opened as a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SnapshotProblem {
    /// It does not begin like a snapshot.
    NotOurs,
    /// Its header was never written: whoever wrote it did not come to the end.
    Unfinished,
    /// It needs a later version of this crate.
    Newer { major: u16, minor: u16, flags: u32 },
    /// It was written with the most significant byte first.
    OtherByteOrder,
    /// It ends too early.
    Short { bytes: u64, bytes_needed: u64 },
    /// It was a snapshot once.
    Damaged(Damage),
}

impl From<Damage> for SnapshotProblem {
    fn from(damage: Damage) -> SnapshotProblem {
        SnapshotProblem::Damaged(damage)
    }
}

impl fmt::Display for SnapshotProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotProblem::NotOurs => f.write_str("not a snapshot of sessions"),
            SnapshotProblem::Unfinished => {
                f.write_str("a snapshot that was not written to its end")
            }
            SnapshotProblem::Newer { major, minor, flags } => write!(
                f,
                "a snapshot of the newer format {major}.{minor} with the features {flags:#x}"
            ),
            SnapshotProblem::OtherByteOrder => {
                f.write_str("a snapshot of a machine with another byte order")
            }
            SnapshotProblem::Short { bytes, bytes_needed } => {
                write!(f, "a snapshot cut short: {bytes} of {bytes_needed} bytes")
            }
            SnapshotProblem::Damaged(damage) => write!(f, "a damaged snapshot: {damage}"),
        }
    }
}

impl std::error::Error for SnapshotProblem {}
