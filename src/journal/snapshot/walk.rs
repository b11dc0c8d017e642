//! All sessions of a snapshot in the order of the file, for moving them into memory.
//!
//! A chunk of entries is compared with its checksum as a whole before the first of them is handed
//! out, so a walk reads the file once from front to back, and needs neither slots nor owner rows.

use std::ops::Deref;

use super::framing::{self, EntryOffset, Found};
use super::layout::{self, Extent};
use super::read::Snapshot;
use super::{Damage, Section};

/// A walk over the entries that can be found; superseded ones are left out.
pub(crate) struct Walk<'a, B> {
    snapshot: &'a Snapshot<B>,
    from: u64,
    /// Numbers of the next rows; none before the beginning, or after the end.
    rows: Option<Rows>,
    is_over: bool,
    /// Where the next entry lies.
    at: u64,
    /// What is left of the present chunk.
    rest: &'a [u8],
}

#[derive(Clone, Copy)]
struct Rows {
    chunk: u64,
    superseded: u64,
}

impl<B: Deref<Target = [u8]>> Snapshot<B> {
    /// All sessions and aliases. Costs a checksum over each chunk of 256 KiB when it is reached.
    /// The first error ends the walk.
    pub(crate) fn entries(&self) -> Walk<'_, B> {
        self.entries_since(EntryOffset(0))
    }

    /// Those at an offset or after it, which a walk's [`position`](Walk::position) gave. Checks the
    /// chunk around it once more.
    pub(crate) fn entries_since(&self, from: EntryOffset) -> Walk<'_, B> {
        let EntryOffset(from) = from;
        Walk { snapshot: self, from, rows: None, is_over: false, at: from, rest: &[] }
    }
}

impl<'a, B: Deref<Target = [u8]>> Walk<'a, B> {
    /// Where a later walk goes on.
    pub(crate) fn position(&self) -> EntryOffset {
        EntryOffset(self.at)
    }

    /// Whether the next entry begins another chunk: a walk that goes on there checks none twice.
    pub(crate) fn is_between_chunks(&self) -> bool {
        self.rest.is_empty()
    }

    fn advance(&mut self) -> Result<Option<(EntryOffset, Found<'a>)>, Damage> {
        let mut rows = match self.rows {
            Some(rows) => rows,
            None => self.begin()?,
        };
        loop {
            if self.rest.is_empty() {
                let Some(chunk) = self.chunk(rows.chunk)? else { return Ok(None) };
                rows.chunk += 1;
                (self.at, self.rest) = chunk;
            }
            let offset = self.at;
            let damage = Damage { what: Section::Entries, offset };
            let (entry, rest) = framing::cut(self.rest).ok_or(damage)?;
            (self.at, self.rest) = (offset + entry.len() as u64, rest);
            if offset < self.from || self.is_superseded(offset, &mut rows.superseded)? {
                continue;
            }
            self.rows = Some(rows);
            let found = Found::decode(entry).ok_or(damage)?;
            return Ok(Some((EntryOffset(offset), found)));
        }
    }

    fn begin(&self) -> Result<Rows, Damage> {
        let from = self.from;
        let chunk =
            self.snapshot.partition_point(Section::Chunks, |row| layout::unpair(row).0 <= from)?;
        let superseded = self
            .snapshot
            .partition_point(Section::Superseded, |row| u64::from_le_bytes(row) < from)?;
        Ok(Rows { chunk, superseded })
    }

    /// A chunk by its number: where it begins, its bytes. None behind the last.
    fn chunk(&self, number: u64) -> Result<Option<(u64, &'a [u8])>, Damage> {
        let snapshot = self.snapshot;
        let Extent { offset: first, len } = snapshot.header.entries;
        let row = |number| snapshot.row(Section::Chunks, number).map(layout::unpair);
        let offset = if number == 0 { first } else { row(number - 1)?.0 };
        if number == snapshot.row_count::<16>(Section::Chunks) {
            let is_whole = offset == first + len;
            let damage = Damage { what: Section::Chunks, offset: snapshot.header.chunks.offset };
            return if is_whole { Ok(None) } else { Err(damage) };
        }
        let (end, sum) = row(number)?;
        let damage = Damage { what: Section::Entries, offset };
        let is_inside = first <= offset && offset < end && end <= first + len;
        let len = if is_inside { end - offset } else { return Err(damage) };
        let bytes = snapshot.slice(Extent { offset, len }).ok_or(damage)?;
        let is_good = layout::sum(snapshot.header.fields.salt, offset, bytes) == sum;
        if is_good { Ok(Some((offset, bytes))) } else { Err(damage) }
    }

    /// Whether an entry has no slot; `row` follows the walk.
    fn is_superseded(&self, offset: u64, row: &mut u64) -> Result<bool, Damage> {
        let count = self.snapshot.row_count::<8>(Section::Superseded);
        while *row < count {
            let next = u64::from_le_bytes(self.snapshot.row(Section::Superseded, *row)?);
            if next >= offset {
                return Ok(next == offset);
            }
            *row += 1;
        }
        Ok(false)
    }
}

impl<'a, B: Deref<Target = [u8]>> Iterator for Walk<'a, B> {
    type Item = Result<(EntryOffset, Found<'a>), Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let item = self.advance().transpose();
        self.is_over = !matches!(item, Some(Ok(_)));
        item
    }
}
