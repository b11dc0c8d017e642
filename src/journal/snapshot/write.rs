//! Writes a snapshot, in pieces of 256 KiB whose pace the caller sets.
//!
//! [`Writer`] takes the entries while the store is walked; [`Closing`] writes the tables, then the
//! trailer, the header last of all. The caller syncs the file, then gives it its name. After an
//! error the file is worthless: every later call fails too.

use std::io;

use super::framing::{Alias, Found};
use super::index::{Owners, Slots};
use super::layout::{
    self, Counts, Extent, HEADER_LEN, Header, HeaderFields, OFFSET_LIMIT, PAGE_LEN, Weights,
};
use crate::journal::stored::Stored;

/// What is written at once, at least but for the last of a section; also the unit of checksums of
/// the entries.
pub(super) const CHUNK_LEN: usize = 256 * 1024;

/// Where the bytes go: a file that was empty.
pub(crate) trait Sink {
    /// Writes all bytes, beginning at the offset.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        (**self).write_at(bytes, offset)
    }
}

/// The end of the file, as far as it is not written yet.
struct Tail<S> {
    sink: S,
    bytes: Vec<u8>,
    offset: u64,
    has_failed: bool,
}

impl<S: Sink> Tail<S> {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    /// Fills the last page with zeros.
    fn pad(&mut self) {
        let rest = self.end().next_multiple_of(PAGE_LEN) - self.end();
        self.bytes.resize(self.bytes.len() + rest as usize, 0);
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.offset == HEADER_LEN {
            // Never a header before the end, also where the file is not as new as it should be.
            self.write_at(&[0; HEADER_LEN as usize], 0)?;
        }
        let bytes = std::mem::take(&mut self.bytes);
        if !bytes.is_empty() {
            self.write_at(&bytes, self.offset)?;
        }
        self.offset += bytes.len() as u64;
        self.bytes = bytes;
        self.bytes.clear();
        Ok(())
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.has_failed {
            return Err(io::Error::other("an earlier write of this snapshot failed"));
        }
        let result = self.sink.write_at(bytes, offset);
        self.has_failed = result.is_err();
        result
    }
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Summary {
    pub(crate) counts: Counts,
    /// The length of the file.
    pub(crate) bytes: u64,
}

/// Takes the entries of a snapshot. Keeps 28 bytes of each in memory, 16 more if it has an owner.
pub(crate) struct Writer<S> {
    tail: Tail<S>,
    fields: HeaderFields,
    slots: Slots,
    owners: Owners,
    /// Finished chunk rows.
    chunks: Vec<u8>,
    entry_count: u64,
    weights: Weights,
}

impl<S: Sink> Writer<S> {
    pub(crate) fn new(sink: S, fields: HeaderFields) -> Writer<S> {
        let bytes = Vec::with_capacity(CHUNK_LEN + CHUNK_LEN / 4);
        Writer {
            tail: Tail { sink, bytes, offset: HEADER_LEN, has_failed: false },
            fields,
            slots: Slots::new(),
            owners: Owners::new(),
            chunks: Vec::new(),
            entry_count: 0,
            weights: Weights::default(),
        }
    }

    /// Adds a session, in the place of what was pushed before with the same id.
    ///
    /// # Errors
    /// `InvalidInput` if the session is longer than the format allows; else those of the sink.
    pub(crate) fn push(&mut self, stored: &Stored<'_>) -> io::Result<()> {
        self.push_hashed(stored, layout::owner_hash(self.fields.salt, stored.owner))
    }

    /// Adds an alias, in the place of what was pushed before with the same id.
    ///
    /// # Errors
    /// Those of the sink.
    pub(crate) fn push_alias(&mut self, alias: Alias) -> io::Result<()> {
        self.append(&Found::Alias(alias)).map(|_| ())
    }

    /// Adds what the session that was pushed last weighs. Each has to be weighed, or none.
    pub(crate) fn weigh(&mut self, scale: u64, has_owner: bool, bytes: u64) {
        let Weights { anonymous, owned, .. } = &mut self.weights;
        let class = if has_owner { owned } else { anonymous };
        class.sessions += 1;
        class.bytes += bytes;
        self.weights.scale = scale;
    }

    /// Adds a session whose owner has that hash.
    pub(super) fn push_hashed(&mut self, stored: &Stored<'_>, hash: u64) -> io::Result<()> {
        let offset = self.append(&Found::Session(*stored))?;
        if !stored.owner.is_empty() {
            self.owners.insert(hash, offset);
        }
        Ok(())
    }

    fn append(&mut self, found: &Found<'_>) -> io::Result<u64> {
        let offset = self.tail.end();
        if !found.fits() || offset >= OFFSET_LIMIT {
            let text = "a session, or a snapshot, is longer than its format allows";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if self.tail.bytes.len() >= CHUNK_LEN {
            self.end_chunk();
            self.tail.flush()?;
        }
        let start = self.tail.bytes.len();
        found.encode_into(&mut self.tail.bytes);
        let entry = self.tail.bytes.get(start..).unwrap_or_default();
        let sum = layout::sum(self.fields.salt, offset, entry);
        self.slots.insert(found.id(), offset, sum);
        self.entry_count += 1;
        Ok(offset)
    }

    /// Ends the run of entries that is about to be written.
    fn end_chunk(&mut self) {
        if !self.tail.bytes.is_empty() {
            let sum = layout::sum(self.fields.salt, self.tail.offset, &self.tail.bytes);
            self.chunks.extend_from_slice(&layout::pair(self.tail.end(), sum));
        }
    }

    /// Ends the entries. What is left to write, the caller may throttle.
    pub(crate) fn close(mut self) -> Closing<S> {
        self.end_chunk();
        let (fields, weights) = (self.fields, self.weights);
        let mut header = Header { fields, weights, ..Header::default() };
        header.counts.entries = self.entry_count;
        header.homes = self.slots.size_for(self.entry_count);
        header.entries = Extent { offset: HEADER_LEN, len: self.tail.end() - HEADER_LEN };
        Closing {
            tail: self.tail,
            header,
            stage: Stage::Entries,
            begin: 0,
            slots: Some(self.slots),
            owners: self.owners,
            superseded: Vec::new(),
            copied: 0,
            chunks: self.chunks,
            sums: Vec::new(),
        }
    }

    /// Writes all that is left.
    ///
    /// # Errors
    /// Those of the sink.
    pub(crate) fn finish(self) -> io::Result<Summary> {
        let mut closing = self.close();
        loop {
            if let Some(summary) = closing.step()? {
                return Ok(summary);
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Entries,
    Slots,
    Owners,
    Superseded,
    Chunks,
    Sums,
    Trailer,
    Header,
    Done,
}

/// Writes what comes after the entries.
pub(crate) struct Closing<S> {
    tail: Tail<S>,
    /// Filled in as the sections are written.
    header: Header,
    stage: Stage,
    /// Where the present section begins.
    begin: u64,
    slots: Option<Slots>,
    owners: Owners,
    /// Finished superseded rows as numbers.
    superseded: Vec<u64>,
    /// How much of the present section was taken from memory.
    copied: usize,
    chunks: Vec<u8>,
    sums: Vec<u8>,
}

impl<S: Sink> Closing<S> {
    /// Writes about 256 KiB. Something is left until there is a summary.
    ///
    /// # Errors
    /// Those of the sink.
    pub(crate) fn step(&mut self) -> io::Result<Option<Summary>> {
        match self.stage {
            Stage::Entries => {
                self.tail.pad();
                self.tail.flush()?;
                self.enter(Stage::Slots);
            }
            Stage::Slots | Stage::Owners | Stage::Superseded | Stage::Chunks => {
                self.step_table()?;
            }
            Stage::Sums => {
                let more = copy(&self.sums, &mut self.copied, &mut self.tail.bytes);
                self.tail.flush()?;
                if !more {
                    self.end_sums();
                }
            }
            Stage::Trailer => {
                self.tail.bytes.extend_from_slice(&self.header.encode_trailer());
                self.tail.flush()?;
                self.enter(Stage::Header);
            }
            Stage::Header => {
                self.tail.write_at(&self.header.encode(), 0)?;
                self.enter(Stage::Done);
            }
            Stage::Done => {}
        }
        let Header { counts, file_len, .. } = self.header;
        Ok((self.stage == Stage::Done).then_some(Summary { counts, bytes: file_len }))
    }

    /// Gives the sink back, to sync it.
    pub(crate) fn into_sink(self) -> S {
        self.tail.sink
    }

    fn enter(&mut self, stage: Stage) {
        (self.stage, self.begin, self.copied) = (stage, self.tail.end(), 0);
    }

    /// Writes a piece of a table with the checksums of its pages, which are whole.
    fn step_table(&mut self) -> io::Result<()> {
        let chunk = &mut self.tail.bytes;
        let more = match (self.stage, &mut self.slots) {
            (Stage::Slots, Some(slots)) => slots.fill(chunk),
            (Stage::Owners, _) => self.owners.fill(chunk, &self.superseded),
            (Stage::Superseded, _) => {
                let rows = self.superseded.iter().skip(self.copied).take(CHUNK_LEN / 8);
                rows.for_each(|offset| chunk.extend_from_slice(&offset.to_le_bytes()));
                self.copied += chunk.len() / 8;
                self.copied < self.superseded.len()
            }
            (Stage::Chunks, _) => copy(&self.chunks, &mut self.copied, chunk),
            _ => false,
        };
        let end = self.tail.end();
        self.tail.pad();
        let pages = self.tail.bytes.chunks(PAGE_LEN as usize);
        for (page, offset) in pages.zip((self.tail.offset..).step_by(PAGE_LEN as usize)) {
            let sum = layout::sum(self.header.fields.salt, offset, page);
            self.sums.extend_from_slice(&sum.to_le_bytes());
        }
        self.tail.flush()?;
        if !more {
            self.end_table(Extent { offset: self.begin, len: end - self.begin });
        }
        Ok(())
    }

    fn end_table(&mut self, extent: Extent) {
        match self.stage {
            Stage::Slots => {
                self.header.slots = extent;
                let slots = self.slots.take();
                self.superseded = slots.map(Slots::into_superseded).unwrap_or_default();
                self.header.counts.superseded = self.superseded.len() as u64;
                if !self.superseded.is_empty() {
                    // Some were weighed twice.
                    self.header.weights = Weights::default();
                }
                self.enter(Stage::Owners);
            }
            Stage::Owners => {
                self.header.owners = extent;
                self.header.counts.owned = self.owners.count();
                self.enter(Stage::Superseded);
            }
            Stage::Superseded => {
                self.header.superseded = extent;
                self.enter(Stage::Chunks);
            }
            _ => {
                self.header.chunks = extent;
                self.enter(Stage::Sums);
            }
        }
    }

    fn end_sums(&mut self) {
        let extent = Extent { offset: self.begin, len: self.sums.len() as u64 };
        self.header.sums = extent;
        self.header.sums_sum = layout::sum(self.header.fields.salt, extent.offset, &self.sums);
        self.header.file_len = self.tail.end() + layout::TRAILER_LEN;
        self.enter(Stage::Trailer);
    }
}

/// Copies the next piece; false when it was the last.
fn copy(from: &[u8], copied: &mut usize, to: &mut Vec<u8>) -> bool {
    let rest = from.get(*copied..).unwrap_or_default();
    let piece = rest.get(..CHUNK_LEN).unwrap_or(rest);
    to.extend_from_slice(piece);
    *copied += piece.len();
    *copied < from.len()
}
