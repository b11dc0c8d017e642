//! What a writer keeps of each entry until it writes the tables, in memory.
//!
//! 28 bytes of each entry (id, offset, checksum), 16 more of a session with an owner; vectors that
//! grow may hold twice that for a while, untouched. Both are parted by their first byte, so that
//! sorting takes 256 short steps, not a long one, and each part's memory goes back once it is
//! written.

use std::{mem, vec};

use super::layout::{self, OFFSET_LIMIT, Slot};
use super::write::CHUNK_LEN;
use crate::journal::stored::{id_bytes, id_of};
use crate::token::SessionId;

/// Values that come in any order, and leave sorted.
pub(super) struct Parts<T> {
    parts: Vec<Vec<T>>,
    next: usize,
    sorted: vec::IntoIter<T>,
}

impl<T: Ord> Parts<T> {
    pub(super) fn new() -> Parts<T> {
        let parts = (0..=u8::MAX).map(|_| Vec::new()).collect();
        Parts { parts, next: 0, sorted: Vec::new().into_iter() }
    }

    /// `first` orders the values as their own order does. All inserts come before the first take.
    fn insert(&mut self, first: u8, value: T) {
        if let Some(part) = self.parts.get_mut(usize::from(first)) {
            part.push(value);
        }
    }

    fn take(&mut self) -> Option<T> {
        loop {
            if let Some(value) = self.sorted.next() {
                return Some(value);
            }
            let mut part = mem::take(self.parts.get_mut(self.next)?);
            self.next += 1;
            part.sort_unstable();
            self.sorted = part.into_iter();
        }
    }
}

/// An entry, as bytes that sort by id, then the latest first: id, offset from the limit down,
/// both the most significant byte first; then the checksum.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Known([u8; 28]);

impl Known {
    fn new(id: SessionId, offset: u64, sum: u64) -> Known {
        let mut bytes = [0; 28];
        let (for_id, rest) = bytes.split_at_mut(16);
        let (for_offset, for_sum) = rest.split_at_mut(6);
        for_id.copy_from_slice(&id_bytes(id));
        let ([_, _, late @ ..], [_, _, sum @ ..]) =
            ((OFFSET_LIMIT - 1 - offset).to_be_bytes(), Slot::part(sum).to_be_bytes());
        for_offset.copy_from_slice(&late);
        for_sum.copy_from_slice(&sum);
        Known(bytes)
    }

    fn id(&self) -> SessionId {
        id_of(self.array::<0, 16>())
    }

    fn offset(&self) -> u64 {
        OFFSET_LIMIT - 1 - self.six::<16>()
    }

    fn slot(&self) -> Slot {
        let id_bits = layout::id_bits(self.id());
        Slot { id_bits, offset: self.offset(), sum: self.six::<22>() }
    }

    fn array<const FROM: usize, const N: usize>(&self) -> [u8; N] {
        const { assert!(FROM + N <= 28) };
        std::array::from_fn(|index| self.0[FROM + index])
    }

    fn six<const FROM: usize>(&self) -> u64 {
        let [a, b, c, d, e, f] = self.array::<FROM, 6>();
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

/// The hash table, made slot by slot.
pub(super) struct Slots {
    entries: Parts<Known>,
    homes: u64,
    /// The slots that are made.
    made: u64,
    /// The entry that comes next, once its home is reached.
    waiting: Option<Known>,
    id_last: Option<SessionId>,
    /// Offsets of entries whose id was pushed again.
    superseded: Vec<u64>,
}

impl Slots {
    pub(super) fn new() -> Slots {
        Slots {
            entries: Parts::new(),
            homes: 0,
            made: 0,
            waiting: None,
            id_last: None,
            superseded: Vec::new(),
        }
    }

    pub(super) fn insert(&mut self, id: SessionId, offset: u64, sum: u64) {
        let known = Known::new(id, offset, sum);
        self.entries.insert(known.0[0], known);
    }

    /// Fixes the size of the table, before the first [`fill`](Slots::fill).
    pub(super) fn size_for(&mut self, entries: u64) -> u64 {
        self.homes = layout::homes(entries);
        self.homes
    }

    /// Appends slots until the chunk is full; false when there are no more.
    pub(super) fn fill(&mut self, chunk: &mut Vec<u8>) -> bool {
        let mut room = CHUNK_LEN.saturating_sub(chunk.len()) as u64 / Slot::LEN;
        while room > 0 {
            let Some(known) = self.waiting.take().or_else(|| self.newest()) else { return false };
            let free = layout::home(known.id(), self.homes).saturating_sub(self.made).min(room);
            if free > 0 {
                chunk.resize(chunk.len() + (free * Slot::LEN) as usize, 0);
                self.waiting = Some(known);
                (self.made, room) = (self.made + free, room - free);
                continue;
            }
            chunk.extend_from_slice(&known.slot().encode());
            (self.made, room) = (self.made + 1, room - 1);
        }
        true
    }

    /// The latest entry of the next id.
    fn newest(&mut self) -> Option<Known> {
        loop {
            let known = self.entries.take()?;
            if self.id_last.replace(known.id()) != Some(known.id()) {
                return Some(known);
            }
            self.superseded.push(known.offset());
        }
    }

    /// Once all slots are made: the entries that have none, by offset.
    pub(super) fn into_superseded(mut self) -> Vec<u64> {
        self.superseded.sort_unstable();
        self.superseded
    }
}

/// The owner rows, made one by one.
pub(super) struct Owners {
    rows: Parts<(u64, u64)>,
    count: u64,
}

impl Owners {
    pub(super) fn new() -> Owners {
        Owners { rows: Parts::new(), count: 0 }
    }

    pub(super) fn insert(&mut self, hash: u64, offset: u64) {
        self.rows.insert((hash >> 56) as u8, (hash, offset));
    }

    /// Appends rows until the chunk is full; false when there are no more.
    pub(super) fn fill(&mut self, chunk: &mut Vec<u8>, superseded: &[u64]) -> bool {
        while chunk.len() < CHUNK_LEN {
            let Some((hash, offset)) = self.rows.take() else { return false };
            if superseded.binary_search(&offset).is_err() {
                chunk.extend_from_slice(&layout::pair(hash, offset));
                self.count += 1;
            }
        }
        true
    }

    /// The rows made so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_comes_back() {
        let (id, offset, sum) = (SessionId(u128::MAX / 3), 0x0123_4567_89a8, 0xffff_0fed_cba9_8765);
        let known = Known::new(id, offset, sum);
        let slot = Slot { id_bits: 0x5555_5555, offset, sum: 0x0fed_cba9_8765 };
        assert_eq!((known.id(), known.offset(), known.slot()), (id, offset, slot));
        assert_eq!(Slot::decode(slot.encode()), slot);
        assert_eq!(size_of::<Known>(), 28);
    }

    #[test]
    fn the_latest_of_an_id_comes_first() {
        let mut slots = Slots::new();
        for (id, offset) in [(5, 4096), (1 << 127, 5000), (5, 4160), (5, 4128), (4, 5008)] {
            slots.insert(SessionId(id), offset, 0);
        }
        slots.size_for(5);
        let mut chunk = Vec::new();
        assert!(!slots.fill(&mut chunk));
        let offsets: Vec<u64> = chunk
            .chunks(16)
            .map(|slot| Slot::decode(slot.try_into().expect("16 bytes")).offset)
            .collect();
        assert_eq!(offsets, [5008, 4160, 0, 5000]);
        assert_eq!(slots.into_superseded(), [4096, 4128]);
    }
}
