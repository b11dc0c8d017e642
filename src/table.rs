//! The hash table of records: lookups without a lock, one writer per shard.
//!
//! A directory holds one word per shard, the shard's [`Array`]. Of an id, the lowest bits of the
//! high half choose the shard, the prefix of its low half the bucket. Arrays grow and shrink
//! whole, one shard at a time, under that shard's lock: readers go on in the old array, which
//! nobody writes any more, until they load the directory again. Nothing that was unlinked is freed
//! before the collector says so.
#![allow(unsafe_code, reason = "records and arrays are freed by hand, after the last reader")]

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::time::Duration;

use crate::bucket::{
    Array, BITS_MAX, BUCKET_BYTES, Key, Place, SLOT_COUNT, SlotWord, prefetch, prefix_of,
};
use crate::clock::Stopwatch;
use crate::memory::{Memory, OutOfMemory, Pool};
use crate::reclaim::{Collector, Pinned};
use crate::record::{Draft, Record};
use crate::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use crate::token::SessionId;

/// An array grows when it is this full, in hundredths.
const LOAD_MAX_PERCENT: usize = 78;
/// The same for arrays of up to [`SMALL_BITS`] bits, which are a small part of a store's memory:
/// fewer entries overflow, so fewer lookups mispredict.
const SMALL_LOAD_MAX_PERCENT: usize = 50;
const SMALL_BITS: u32 = 8;
/// An array shrinks when it is less full than one part in this many.
const LOAD_MIN_PARTS: usize = 8;
const BITS_MIN: u32 = 1;

/// What all shards share.
pub(crate) struct Table {
    directory: Box<[AtomicU64]>,
    /// The number of shards, less one.
    shard_mask: u64,
    pub(crate) pool: Pool,
    pub(crate) collector: Collector,
}

/// The right to write one shard of a table: lives inside the shard's lock.
pub(crate) struct Writer {
    shard: usize,
    entries: usize,
    bits_min: u32,
    /// How long growing or shrinking took at most.
    resize_max: Duration,
    limbo: VecDeque<Retired>,
    limbo_bytes: usize,
}

/// Where a record is.
#[derive(Clone, Copy)]
pub(crate) struct Spot {
    place: Place,
    memory: NonNull<u8>,
    bytes: usize,
}

/// Memory that readers may still see.
struct Retired {
    stamp: u64,
    memory: NonNull<u8>,
    bytes: usize,
    is_array: bool,
}

// SAFETY: the memory is owned by the table that the writer belongs to.
unsafe impl Send for Writer {}

/// A record that is not published yet: freed when dropped.
pub(crate) struct Fresh<'t> {
    table: &'t Table,
    arena: usize,
    memory: NonNull<u8>,
    bytes: usize,
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        // SAFETY: from `allocate` with these; a published record was forgotten instead.
        unsafe { self.table.pool.free(self.arena, self.memory, self.bytes) };
    }
}

impl Fresh<'_> {
    pub(crate) fn record(&self) -> Record<'_> {
        // SAFETY: `Table::fresh` wrote a record there; it lives as long as `self`.
        unsafe { Record::at(self.memory) }
    }

    /// Sets the wheel node.
    pub(crate) fn set_node(&mut self, node: u32) {
        // SAFETY: not published, and borrowed for writing.
        unsafe { self.record().set_node(node) };
    }

    fn publish(self) -> SlotWord {
        let address = self.memory.as_ptr().expose_provenance() as u64;
        let word = SlotWord::new(address, self.record().id().lo());
        std::mem::forget(self);
        word
    }
}

fn array_memory(array: Array) -> NonNull<u8> {
    let memory = std::ptr::with_exposed_provenance_mut(array.address() as usize);
    // SAFETY: an array's address came from the pool, which gives no null.
    unsafe { NonNull::new_unchecked(memory) }
}

/// Bytes of an array that holds this many entries without growing.
pub(crate) fn array_bytes_for(entries: usize) -> usize {
    BUCKET_BYTES << bits_for(entries)
}

fn entries_max(bits: u32) -> usize {
    let percent = if bits <= SMALL_BITS { SMALL_LOAD_MAX_PERCENT } else { LOAD_MAX_PERCENT };
    (SLOT_COUNT << bits) * percent / 100
}

/// The index bits with which a shard holds this many entries without growing.
fn bits_for(entries: usize) -> u32 {
    (BITS_MIN..BITS_MAX).find(|&bits| entries_max(bits) > entries).unwrap_or(BITS_MAX)
}

impl Table {
    /// A table with its shards' writers.
    pub(crate) fn new(
        shard_count: usize,
        memory: Memory,
        arena_count: usize,
    ) -> Result<(Table, Vec<Writer>), OutOfMemory> {
        debug_assert!(shard_count.is_power_of_two() && shard_count > 1);
        let mut table = Table {
            directory: Box::new([]),
            shard_mask: shard_count as u64 - 1,
            pool: Pool::new(memory, arena_count),
            collector: Collector::new(),
        };
        let arrays: Result<Vec<_>, _> = (0..shard_count)
            .map(|_| table.new_array(BITS_MIN).map(|array| AtomicU64::new(array.0)))
            .collect();
        table.directory = arrays?.into_boxed_slice();
        let writers = (0..shard_count)
            .map(|shard| Writer {
                shard,
                entries: 0,
                bits_min: BITS_MIN,
                resize_max: Duration::ZERO,
                limbo: VecDeque::new(),
                limbo_bytes: 0,
            })
            .collect();
        Ok((table, writers))
    }

    fn new_array(&self, bits: u32) -> Result<Array, OutOfMemory> {
        let memory = self.pool.allocate_array(BUCKET_BYTES << bits)?;
        Ok(Array::new(memory.as_ptr().expose_provenance() as u64, bits))
    }

    pub(crate) fn shard_count(&self) -> usize {
        self.directory.len()
    }

    #[inline(always)]
    pub(crate) fn shard_of(&self, id: SessionId) -> usize {
        (id.hi() & self.shard_mask) as usize
    }

    #[inline(always)]
    fn array(&self, shard: usize) -> Array {
        // SAFETY: callers pass `shard_of`, which is masked to the length, or a writer's shard.
        let word = unsafe { self.directory.get_unchecked(shard) };
        // Acquire pairs with the Release in `resize`: the array's entries are there.
        Array(word.load(Acquire))
    }

    /// What [`Table::find`] gives, if it stands where it is looked for first: all but a few in a
    /// hundred do. None says nothing.
    #[inline(always)]
    pub(crate) fn find_first<'g>(&self, _pinned: Pinned<'g>, id: SessionId) -> Option<Record<'g>> {
        let (hi, lo) = (id.hi(), id.lo());
        // SAFETY: the array was in the directory after the pin was taken.
        let word = unsafe { self.array(self.shard_of(id)).first(Key::new(hi, lo)) }?;
        // SAFETY: a published word is a record's; retired ones stay until the pin ends.
        let record = unsafe { Record::from_word(word) };
        record.is(hi, lo).then_some(record)
    }

    /// Asks for the bucket in which a search for this id begins.
    #[inline(always)]
    pub(crate) fn fetch_bucket(&self, _pinned: Pinned<'_>, id: SessionId) {
        self.array(self.shard_of(id)).fetch_home(id.lo());
    }

    /// Asks for the record that [`Table::find_first`] would give, and the beginning of its data.
    #[inline(always)]
    pub(crate) fn fetch_record(&self, _pinned: Pinned<'_>, id: SessionId) {
        let key = Key::new(id.hi(), id.lo());
        // SAFETY: the array was in the directory after the pin was taken.
        if let Some(word) = unsafe { self.array(self.shard_of(id)).first(key) } {
            // The id and what follows it, 16 bytes behind the beginning: one line or two.
            prefetch(word.address() + 16);
            prefetch(word.address() + 63);
        }
    }

    /// The newest record of this id, be it a session, an alias or a tombstone.
    pub(crate) fn find<'g>(&self, _pinned: Pinned<'g>, id: SessionId) -> Option<Record<'g>> {
        let (hi, lo) = (id.hi(), id.lo());
        let array = self.array(self.shard_of(id));
        let is_it = |word| {
            // SAFETY: a published word is a record's; retired ones stay until the pin ends.
            let record = unsafe { Record::from_word(word) };
            record.is(hi, lo).then_some(record)
        };
        // SAFETY: the array was in the directory after the pin was taken.
        unsafe { array.search(Key::new(hi, lo), is_it) }
    }

    /// Calls `visit` with every record of a shard whose id has this 20-bit prefix of its low
    /// half, or a later one up to the end of that bucket. Returns the next prefix, if any.
    pub(crate) fn visit<'g>(
        &self,
        _pinned: Pinned<'g>,
        shard: usize,
        prefix: u32,
        mut visit: impl FnMut(Record<'g>),
    ) -> Option<u32> {
        let array = self.array(shard);
        let home = array.home(u64::from(prefix));
        let on_word = |word| {
            // SAFETY: a published word is a record's; retired ones stay until the pin ends.
            let record = unsafe { Record::from_word(word) };
            if prefix_of(record.id().lo()) >= prefix {
                visit(record);
            }
        };
        // SAFETY: the array was in the directory after the pin was taken.
        unsafe { array.visit_home(home, on_word) };
        let next = (home + 1) << (BITS_MAX - array.bits());
        (next < 1 << BITS_MAX).then_some(next as u32)
    }

    /// Writes a record that is to be published.
    pub(crate) fn fresh(&self, draft: &Draft<'_>) -> Result<Fresh<'_>, OutOfMemory> {
        // The shard frees it one day, and has to know the arena then.
        let (arena, bytes) = (self.shard_of(draft.id), draft.len());
        let memory = self.pool.allocate(arena, bytes)?;
        // SAFETY: the pool gave `bytes` bytes, aligned to 16, to us alone.
        unsafe { draft.write(memory) };
        Ok(Fresh { table: self, arena, memory, bytes })
    }

    /// Frees all of a shard, which is empty afterwards. Having the table for itself proves that
    /// nobody is pinned.
    pub(crate) fn clear(&mut self, writer: &mut Writer) {
        let array = self.array(writer.shard);
        let mut pieces: Vec<Retired> = writer.limbo.drain(..).collect();
        let mut add = |memory, bytes, is_array| {
            pieces.push(Retired { stamp: 0, memory, bytes, is_array });
        };
        for home in 0..array.bucket_count() as u64 {
            let on_word = |word| {
                // SAFETY: a published word is a record's, and it is not freed yet.
                let record = unsafe { Record::from_word(word) };
                add(record.memory(), record.len(), false);
            };
            // SAFETY: the array is live, and nobody else is there.
            unsafe { array.visit_home(home, on_word) };
        }
        add(array_memory(array), array.bytes(), true);
        self.directory[writer.shard].store(Array::empty().0, Relaxed);
        (writer.entries, writer.limbo_bytes) = (0, 0);
        for piece in &pieces {
            self.free(writer.shard, piece);
        }
    }

    /// Frees what a shard retired.
    fn free(&self, shard: usize, retired: &Retired) {
        if retired.is_array {
            // SAFETY: from `allocate_array` with these bytes; no reader is left.
            unsafe { self.pool.free_array(retired.memory, retired.bytes) };
        } else {
            // SAFETY: from `allocate` with these, see `fresh`; no reader is left.
            unsafe { self.pool.free(shard, retired.memory, retired.bytes) };
        }
    }
}

impl Writer {
    /// The newest record of this id with its place, which is good until the next write.
    pub(crate) fn find<'g>(
        &self,
        table: &Table,
        _pinned: Pinned<'g>,
        id: SessionId,
    ) -> Option<(Spot, Record<'g>)> {
        let (hi, lo) = (id.hi(), id.lo());
        let is_it = |word| {
            // SAFETY: published records of this shard are freed by its writer only.
            unsafe { Record::from_word(word) }.is(hi, lo)
        };
        // SAFETY: arrays of this shard are retired by its writer only, which is borrowed.
        let (place, word) = unsafe { table.array(self.shard).find(Key::new(hi, lo), is_it) }?;
        // SAFETY: reachable now, and retired ones stay until the pin ends.
        let record: Record<'g> = unsafe { Record::from_word(word) };
        Some((Spot { place, memory: record.memory(), bytes: record.len() }, record))
    }

    /// The record for which `is_it` says yes among those whose id has `key` as the lower half of
    /// its low half.
    pub(crate) fn find_key<'g>(
        &self,
        table: &Table,
        _pinned: Pinned<'g>,
        key: u32,
        mut is_it: impl FnMut(Record<'g>) -> bool,
    ) -> Option<Record<'g>> {
        let array = table.array(self.shard);
        let mut found = None;
        let on_word = |word| {
            // SAFETY: reachable now, and retired records stay until the pin ends.
            let record: Record<'g> = unsafe { Record::from_word(word) };
            if record.id().lo() as u32 == key && is_it(record) {
                found = Some(record);
            }
        };
        // SAFETY: arrays of this shard are retired by its writer only, which is borrowed.
        unsafe { array.visit_prefix(u64::from(key), on_word) };
        found
    }

    /// Publishes a record whose id is not in the table. Gives it back if there is no room.
    pub(crate) fn insert<'w, 't>(
        &'w mut self,
        table: &'t Table,
        fresh: Fresh<'t>,
    ) -> Result<Record<'w>, Fresh<'t>> {
        let bits = table.array(self.shard).bits();
        if self.entries >= entries_max(bits) && bits < BITS_MAX {
            // Without memory for a larger array the old one takes what it can.
            self.resize(table, bits + 1);
        }
        let id = fresh.record().id();
        let array = table.array(self.shard);
        if self.entries >= array.bucket_count() * SLOT_COUNT {
            return Err(fresh);
        }
        let word = fresh.publish();
        // SAFETY: `self` is the array's only writer.
        let placed = unsafe { array.insert(Key::new(id.hi(), id.lo()), word) };
        debug_assert!(placed, "a slot was free");
        self.entries += 1;
        // SAFETY: just published; records of this shard are retired by this writer only.
        Ok(unsafe { Record::from_word(word) })
    }

    /// Publishes another record of the same id. The spot must come from [`Writer::find`] for that
    /// id, with no write since. The old record stays readable to those who are pinned.
    pub(crate) fn replace<'w, 't>(
        &'w mut self,
        table: &'t Table,
        spot: Spot,
        fresh: Fresh<'t>,
    ) -> Record<'w> {
        let word = fresh.publish();
        // SAFETY: the caller found the spot with no write since.
        unsafe { table.array(self.shard).replace(spot.place, word) };
        self.retire(table, spot.memory, spot.bytes, false);
        // SAFETY: just published; records of this shard are retired by this writer only.
        unsafe { Record::from_word(word) }
    }

    /// Takes a record out. The spot as for [`Writer::replace`].
    pub(crate) fn remove(&mut self, table: &Table, id: SessionId, spot: Spot) {
        // SAFETY: the caller found the spot with no write since.
        unsafe { table.array(self.shard).remove(Key::new(id.hi(), id.lo()), spot.place) };
        self.entries -= 1;
        self.retire(table, spot.memory, spot.bytes, false);
        let bits = table.array(self.shard).bits();
        if bits > self.bits_min && self.entries < (SLOT_COUNT << bits) / LOAD_MIN_PARTS {
            self.resize(table, bits - 1);
        }
    }

    /// Makes room for this many entries, for good.
    pub(crate) fn reserve(&mut self, table: &Table, entries: usize) -> bool {
        self.bits_min = self.bits_min.max(bits_for(entries));
        self.expect(table, entries)
    }

    /// Makes room for this many entries, which are about to come.
    pub(crate) fn expect(&mut self, table: &Table, entries: usize) -> bool {
        let bits = bits_for(entries);
        table.array(self.shard).bits() >= bits || self.resize(table, bits)
    }

    /// Moves all entries to an array of another size. False without memory.
    #[cold]
    fn resize(&mut self, table: &Table, bits: u32) -> bool {
        let watch = Stopwatch::start();
        let old = table.array(self.shard);
        let Ok(new) = table.new_array(bits) else { return false };
        // SAFETY: `self` is the only writer of both.
        let fits = unsafe { old.copy_into(new) };
        debug_assert!(fits, "arrays are resized to more slots than there are entries");
        // Release pairs with the Acquire in `Table::array`.
        table.directory[self.shard].store(new.0, Release);
        self.retire(table, array_memory(old), old.bytes(), true);
        self.resize_max = self.resize_max.max(watch.elapsed());
        true
    }

    /// How long the shard was locked at most to grow or shrink its array.
    pub(crate) fn resize_max(&self) -> Duration {
        self.resize_max
    }

    fn retire(&mut self, table: &Table, memory: NonNull<u8>, bytes: usize, is_array: bool) {
        let stamp = table.collector.stamp();
        self.limbo_bytes += bytes;
        self.limbo.push_back(Retired { stamp, memory, bytes, is_array });
    }

    /// Frees up to `count_max` pieces that no reader can see any more.
    pub(crate) fn free_retired(&mut self, table: &Table, count_max: usize) {
        for _ in 0..count_max {
            match self.limbo.front() {
                Some(oldest) if table.collector.is_free(oldest.stamp) => {
                    table.free(self.shard, oldest);
                    self.limbo_bytes -= oldest.bytes;
                    self.limbo.pop_front();
                }
                _ => break,
            }
        }
        if self.limbo.is_empty() && self.limbo.capacity() > 1024 {
            self.limbo = VecDeque::new();
        }
    }

    /// Bytes that wait for the last reader.
    pub(crate) fn limbo_bytes(&self) -> usize {
        self.limbo_bytes
    }

    /// Bytes of this shard's array.
    pub(crate) fn array_bytes(&self, table: &Table) -> usize {
        table.array(self.shard).bytes()
    }

    /// Checks the array and calls `visit` with each record.
    ///
    /// # Panics
    /// With the invariant that is broken.
    pub(crate) fn validate(&self, table: &Table, mut visit: impl FnMut(Record<'_>)) {
        let array = table.array(self.shard);
        // SAFETY: arrays of this shard are retired by its writer only, which is borrowed.
        let count = unsafe { array.validate() };
        assert_eq!(count, self.entries, "entries of shard {}", self.shard);
        let mut seen = 0;
        for home in 0..array.bucket_count() as u64 {
            let on_word = |word| {
                // SAFETY: published records of this shard are freed by its writer only.
                let record = unsafe { Record::from_word(word) };
                assert_eq!(table.shard_of(record.id()), self.shard, "record in a foreign shard");
                assert_eq!(array.home(record.id().lo()), home, "slot bits differ from the id");
                seen += 1;
                visit(record);
            };
            // SAFETY: as above.
            unsafe { array.visit_home(home, on_word) };
        }
        assert_eq!(seen, self.entries, "entries reached by home in shard {}", self.shard);
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let buckets: usize =
            self.directory.iter().map(|word| Array(word.load(Relaxed)).bucket_count()).sum();
        f.debug_struct("Table")
            .field("shards", &self.shard_count())
            .field("buckets", &buckets)
            .finish()
    }
}
