//! Serves a snapshot from its bytes, as they lie in the file.
//!
//! Nothing is used before its checksum was compared, but for two numbers that can do no harm: an
//! entry's length, which says how many bytes its checksum is to be taken of, and the id by which
//! an owner's session finds its slot. Every offset is checked where it is used. The caller sees to
//! it that nobody changes the bytes.

use std::ops::Deref;

use super::framing::{self, ENTRY_LEN_MIN, EntryOffset, Found};
use super::layout::{
    self, Counts, Extent, HEADER_LEN, Header, HeaderFields, MAGIC, PAGE_LEN, SUM_LEN, Slot, Weights,
};
use super::{Damage, Section, SnapshotProblem};
use crate::journal::stored::Stored;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::token::SessionId;

/// An open snapshot.
pub(crate) struct Snapshot<B> {
    bytes: B,
    pub(super) header: Header,
    /// One bit a page of the tables: whether it was checked. `Relaxed` is enough: the bytes never
    /// change, so whoever sees the bit early or late sees the same page.
    checked: Box<[AtomicU64]>,
}

impl<B: Deref<Target = [u8]>> Snapshot<B> {
    /// Reads the header with the trailer, and compares the file's length. Allocates one bit for
    /// each page of the tables: 10 KiB for ten million sessions.
    ///
    /// # Errors
    /// The bytes are no complete snapshot that this version knows. Sections are not looked into.
    pub(crate) fn open(bytes: B) -> Result<Snapshot<B>, SnapshotProblem> {
        let bytes_len = bytes.len() as u64;
        let Some(head) = bytes.first_chunk() else {
            let short = SnapshotProblem::Short { bytes: bytes_len, bytes_needed: HEADER_LEN };
            let begin = bytes.get(..MAGIC.len()).unwrap_or(&bytes);
            let is_ours = MAGIC.starts_with(begin) || bytes.iter().all(|&byte| byte == 0);
            return Err(if is_ours { short } else { SnapshotProblem::NotOurs });
        };
        let header = Header::decode(head)?;
        if bytes_len < header.file_len {
            let bytes_needed = header.file_len;
            return Err(SnapshotProblem::Short { bytes: bytes_len, bytes_needed });
        }
        let words = (header.sums.len / SUM_LEN).div_ceil(64);
        let checked = (0..words).map(|_| AtomicU64::new(0)).collect();
        let snapshot = Snapshot { bytes, header, checked };
        let trailer = header.trailer();
        let is_whole = bytes_len == header.file_len
            && snapshot.slice(trailer) == Some(header.encode_trailer().as_slice());
        if is_whole {
            Ok(snapshot)
        } else {
            Err(Damage { what: Section::Trailer, offset: trailer.offset }.into())
        }
    }

    pub(crate) fn fields(&self) -> HeaderFields {
        self.header.fields
    }

    pub(crate) fn counts(&self) -> Counts {
        self.header.counts
    }

    pub(crate) fn weights(&self) -> Weights {
        self.header.weights
    }

    /// The length of the entries, all together.
    pub(crate) fn entries_len(&self) -> u64 {
        self.header.entries.len
    }

    /// No entry has this number, or a higher one.
    pub(crate) fn numbers_end(&self) -> u64 {
        self.header.entries.len / ENTRY_LEN_MIN + 1
    }

    /// A number that no other entry has.
    pub(crate) fn number_of(&self, at: EntryOffset) -> u64 {
        at.0.saturating_sub(self.header.entries.offset) / ENTRY_LEN_MIN
    }

    /// What an id leads to. Costs a probe of the hash table (one or two cache lines, whose page is
    /// checked if nobody did so before) with a read of the entry.
    ///
    /// # Errors
    /// Something on the way is damaged: then nothing is known of the id.
    pub(crate) fn find(&self, id: SessionId) -> Result<Option<(EntryOffset, Found<'_>)>, Damage> {
        self.probe(id, |slot| {
            let found = self.entry(slot)?;
            Ok((found.id() == id).then_some((EntryOffset(slot.offset), found)))
        })
    }

    /// The sessions of an owner, in the order of their pushes. Costs a binary search, then two
    /// reads for each. The first error ends it: there may be more sessions then.
    pub(crate) fn owned<'a>(&'a self, owner: &'a str) -> Owned<'a, B> {
        let hash = layout::owner_hash(self.header.fields.salt, owner);
        let row = self.partition_point(Section::Owners, |row| layout::unpair(row).0 < hash);
        Owned { snapshot: self, owner, hash, row }
    }

    /// Offers the slots that may be the id's, one after the other.
    fn probe<T>(
        &self,
        id: SessionId,
        mut accept: impl FnMut(Slot) -> Result<Option<T>, Damage>,
    ) -> Result<Option<T>, Damage> {
        let id_bits = layout::id_bits(id);
        let home = layout::home(id, self.header.homes);
        for index in home..self.row_count::<16>(Section::Slots) {
            let slot = Slot::decode(self.row(Section::Slots, index)?);
            if slot.is_free() {
                break;
            }
            if slot.id_bits == id_bits
                && let Some(accepted) = accept(slot)?
            {
                return Ok(Some(accepted));
            }
        }
        Ok(None)
    }

    /// The entry of a slot.
    fn entry(&self, slot: Slot) -> Result<Found<'_>, Damage> {
        let salt = self.header.fields.salt;
        let damage = Damage { what: Section::Entries, offset: slot.offset };
        let (entry, _) = self.entries_from(slot.offset).and_then(framing::cut).ok_or(damage)?;
        let is_good = Slot::part(layout::sum(salt, slot.offset, entry)) == slot.sum;
        is_good.then(|| Found::decode(entry)).flatten().ok_or(damage)
    }

    /// The entry at an offset, if there is a slot for it.
    pub(super) fn entry_at(&self, offset: u64) -> Result<Found<'_>, Damage> {
        let damage = Damage { what: Section::Entries, offset };
        let id = self.entries_from(offset).and_then(framing::hinted_id).ok_or(damage)?;
        let slot = self.probe(id, |slot| Ok((slot.offset == offset).then_some(slot)))?;
        self.entry(slot.ok_or(damage)?)
    }

    /// The entries from an offset on.
    fn entries_from(&self, offset: u64) -> Option<&[u8]> {
        let Extent { offset: begin, .. } = self.header.entries;
        let end = self.header.entries.end()?;
        let is_inside = offset >= begin && offset.is_multiple_of(8);
        let len = end.checked_sub(offset).filter(|_| is_inside)?;
        self.slice(Extent { offset, len })
    }

    /// The bytes of a place in the file.
    pub(super) fn slice(&self, extent: Extent) -> Option<&[u8]> {
        let begin = usize::try_from(extent.offset).ok()?;
        let end = usize::try_from(extent.end()?).ok()?;
        self.bytes.get(begin..end)
    }

    /// How many rows of that length a table has.
    pub(super) fn row_count<const LEN: usize>(&self, table: Section) -> u64 {
        self.extent(table).len / LEN as u64
    }

    /// A row of a table whose page is in order.
    pub(super) fn row<const LEN: usize>(
        &self,
        table: Section,
        index: u64,
    ) -> Result<[u8; LEN], Damage> {
        let offset = self.extent(table).offset.saturating_add(index.saturating_mul(LEN as u64));
        let page = offset - offset % PAGE_LEN;
        let number = page.saturating_sub(self.header.slots.offset) / PAGE_LEN;
        let word = self.checked.get((number / 64) as usize);
        let bit = 1 << (number % 64);
        if word.is_none_or(|word| word.load(Relaxed) & bit == 0) {
            self.check_page(table, page)?;
            word.map(|word| word.fetch_or(bit, Relaxed));
        }
        let row = self.slice(Extent { offset, len: LEN as u64 });
        let row = row.and_then(|row| row.try_into().ok());
        row.ok_or(Damage { what: table, offset: page })
    }

    /// Compares a page of the tables with its checksum.
    pub(super) fn check_page(&self, table: Section, page: u64) -> Result<(), Damage> {
        let number = page.saturating_sub(self.header.slots.offset) / PAGE_LEN;
        let offset = self.header.sums.offset.saturating_add(number.saturating_mul(SUM_LEN));
        let bytes = self.slice(Extent { offset: page, len: PAGE_LEN });
        let sum =
            bytes.map(|bytes| layout::sum(self.header.fields.salt, page, bytes).to_le_bytes());
        let is_good = sum.is_some_and(|sum| {
            self.slice(Extent { offset, len: SUM_LEN }).is_some_and(|stored| stored == sum)
        });
        if is_good { Ok(()) } else { Err(Damage { what: table, offset: page }) }
    }

    /// How many rows of a sorted table come before the first that is not less.
    pub(super) fn partition_point<const LEN: usize>(
        &self,
        table: Section,
        is_less: impl Fn([u8; LEN]) -> bool,
    ) -> Result<u64, Damage> {
        let (mut low, mut high) = (0, self.row_count::<LEN>(table));
        while low < high {
            let middle = low + (high - low) / 2;
            if is_less(self.row(table, middle)?) { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    fn extent(&self, section: Section) -> Extent {
        match section {
            Section::Header => Extent { offset: 0, len: HEADER_LEN },
            Section::Entries => self.header.entries,
            Section::Slots => self.header.slots,
            Section::Owners => self.header.owners,
            Section::Superseded => self.header.superseded,
            Section::Chunks => self.header.chunks,
            Section::Sums => self.header.sums,
            Section::Trailer => self.header.trailer(),
        }
    }
}

/// The sessions of one owner.
pub(crate) struct Owned<'a, B> {
    snapshot: &'a Snapshot<B>,
    owner: &'a str,
    hash: u64,
    /// The next row; an error that is still to be told.
    row: Result<u64, Damage>,
}

impl<'a, B: Deref<Target = [u8]>> Owned<'a, B> {
    fn advance(&mut self) -> Result<Option<(EntryOffset, Stored<'a>)>, Damage> {
        let count = self.snapshot.row_count::<16>(Section::Owners);
        let first = self.row?;
        for index in first..count {
            let (hash, offset) = layout::unpair(self.snapshot.row(Section::Owners, index)?);
            if hash != self.hash {
                break;
            }
            // Somebody else's session may bear the same hash.
            if let Found::Session(stored) = self.snapshot.entry_at(offset)?
                && stored.owner == self.owner
            {
                self.row = Ok(index + 1);
                return Ok(Some((EntryOffset(offset), stored)));
            }
        }
        Ok(None)
    }
}

impl<'a, B: Deref<Target = [u8]>> Iterator for Owned<'a, B> {
    type Item = Result<(EntryOffset, Stored<'a>), Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.advance().transpose();
        if !matches!(item, Some(Ok(_))) {
            self.row = Ok(u64::MAX);
        }
        item
    }
}
