//! One shard's array of buckets, read without a lock while one writer changes it.
//!
//! ```text
//! bucket (64 bytes, one cache line)
//! +--------------------------------+--------+--------+-- --+--------+
//! | control word                   | slot 0 | slot 1 | ... | slot 6 |
//! | tags of slots 0..6 | overflow  |        |        |     |        |
//! | 7 x 8 bits         | 8 bits    | 64 bit | 64 bit |     | 64 bit |
//! +--------------------------------+--------+--------+-- --+--------+
//! slot word
//!  63                                         20 19         0
//! +---------------------------------------------+------------+
//! | address of the record, without its low four | prefix     |
//! | bits, which are zero                        | lo[19..0]  |
//! +---------------------------------------------+------------+
//! ```
//! A slot word of 0 is a free slot; its tag is 0, which some ids have too. Tags in one word make
//! the search a byte-parallel compare without a branch that depends on the data when it hits,
//! which keeps several lookups in flight. The top bits of the prefix choose the bucket, so an array
//! grows without reading a record.
//!
//! An entry whose bucket is full lives in the next one with room. The overflow counter of every
//! bucket that was passed over says so: it goes up before the entry is published, down after it is
//! cleared, and sticks at 255. A search ends at a bucket that nothing overflowed.
//!
//! Orderings. A writer (there is one at a time: the shard's lock) publishes with Release stores: an
//! insert or a removal tag first, then slot; a replacement slot only. Readers load control and
//! slots with Acquire. An entry never moves inside an array, so a reader cannot
//! miss a present one. A reader that meets a slot in the middle of a change sees a tag without its
//! record, or a record of another id: it compares the id in the record.
#![allow(unsafe_code, reason = "buckets live in raw memory of the table")]

use crate::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use crate::tags::{Matches, Pattern, TAG_COUNT, tag_of};

/// Entries per bucket.
pub(crate) const SLOT_COUNT: usize = TAG_COUNT;
/// The bits of a prefix: what a slot word carries of an id besides the record's address.
pub(crate) const PREFIX_BITS: u32 = 20;
/// An array has at most 2 to this many buckets.
pub(crate) const BITS_MAX: u32 = PREFIX_BITS;
pub(crate) const BUCKET_BYTES: usize = 64;

const PREFIX: u64 = (1 << PREFIX_BITS) - 1;
/// How far an address is shifted in a slot word: its low four bits come to lie over the prefix.
const ADDRESS_SHIFT: u32 = 16;
const ADDRESS_ALIGN: u64 = 16;
const OVERFLOW_ONE: u64 = 1 << 56;
const OVERFLOW_STUCK: u64 = 255;

/// Seven entries.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct Bucket {
    control: AtomicU64,
    slots: [AtomicU64; SLOT_COUNT],
}

/// What the bucket knows of an id: where it belongs, and how to tell it from most others.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    /// The low half of the id, of which the bucket uses the prefix.
    pub(crate) lo: u64,
    /// The lower half of the high half, of which the bucket uses the tag.
    hash: u32,
}

impl Key {
    #[inline(always)]
    pub(crate) fn new(hi: u64, lo: u64) -> Key {
        Key { lo, hash: hi as u32 }
    }

    #[inline(always)]
    fn pattern(self) -> Pattern {
        Pattern::new(self.hash)
    }
}

/// Asks the processor for the cache line of an address, whatever is there.
#[inline(always)]
pub(crate) fn prefetch(address: u64) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = std::ptr::without_provenance(address as usize);
        // SAFETY: a hint that reads nothing and cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The prefix of an id with this low half: what orders the entries of a shard.
#[inline(always)]
pub(crate) fn prefix_of(lo: u64) -> u32 {
    (lo & PREFIX) as u32
}

/// A record's address together with the prefix of its id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SlotWord(pub(crate) u64);

impl SlotWord {
    pub(crate) fn new(address: u64, lo: u64) -> SlotWord {
        debug_assert!(
            address.is_multiple_of(ADDRESS_ALIGN) && address >> (64 - ADDRESS_SHIFT) == 0,
            "a record's address has 48 bits and is aligned"
        );
        SlotWord(address << ADDRESS_SHIFT | lo & PREFIX)
    }

    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.0 >> ADDRESS_SHIFT & !(ADDRESS_ALIGN - 1)
    }

    #[inline(always)]
    fn is_free(self) -> bool {
        self.0 == 0
    }

    fn may_be(self, lo: u64) -> bool {
        !self.is_free() && (self.0 ^ lo) & PREFIX == 0
    }
}

/// Where an entry is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    bucket: u64,
    slot: usize,
}

/// An array of buckets: its address and the number of its index bits, in one word.
///
/// The word is what the directory holds, so that one load gives readers an address with the size
/// that belongs to it. Buckets are 64-byte aligned: the low six bits hold 32 - bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Array(pub(crate) u64);

impl Array {
    pub(crate) fn new(address: u64, bits: u32) -> Array {
        debug_assert!((1..=BITS_MAX).contains(&bits) && address & 63 == 0);
        Array(address | u64::from(32 - bits))
    }

    /// An array that nobody may write.
    #[cfg(not(loom))]
    pub(crate) fn empty() -> Array {
        static EMPTY: [Bucket; 2] = [const { Bucket::new() }; 2];
        Array::new(EMPTY.as_ptr().expose_provenance() as u64, 1)
    }

    pub(crate) fn address(self) -> u64 {
        self.0 & !63
    }

    pub(crate) fn bits(self) -> u32 {
        32 - (self.0 & 63) as u32
    }

    pub(crate) fn bucket_count(self) -> usize {
        1 << self.bits()
    }

    pub(crate) fn bytes(self) -> usize {
        self.bucket_count() * BUCKET_BYTES
    }

    /// The bucket in which a search for this id begins.
    #[inline(always)]
    pub(crate) fn home(self, lo: u64) -> u64 {
        // The prefix in the top bits of 32, of which the array's own number are left.
        u64::from((lo as u32) << (32 - PREFIX_BITS) >> (self.0 & 31))
    }

    /// Asks for the bucket in which a search for this id begins.
    #[inline(always)]
    pub(crate) fn fetch_home(self, lo: u64) {
        prefetch(self.address() + self.home(lo) * BUCKET_BYTES as u64);
    }

    #[inline(always)]
    fn mask(self) -> u64 {
        u64::from(u32::MAX >> (self.0 & 31))
    }

    /// # Safety
    /// The array must be live (zeroed at first, not freed), `index` at most the mask.
    #[inline(always)]
    unsafe fn bucket<'a>(self, index: u64) -> &'a Bucket {
        let first = std::ptr::with_exposed_provenance::<Bucket>(self.address() as usize);
        // SAFETY: the caller vouches for the array; an index up to the mask is inside it.
        let bucket = unsafe { first.add(index as usize) };
        // SAFETY: as above; a Bucket is atomics only, for which zeroed memory is valid.
        unsafe { &*bucket }
    }

    /// The first slot word of the home bucket that may belong to `key`, if there is one. A search
    /// has to go on when it does not.
    ///
    /// # Safety
    /// As for [`Array::search`].
    #[inline(always)]
    pub(crate) unsafe fn first(self, key: Key) -> Option<SlotWord> {
        // SAFETY: a home is inside; the caller vouches for the array.
        let bucket = unsafe { self.bucket(self.home(key.lo)) };
        // Acquire as in `Bucket::search`.
        let matches = key.pattern().matches(bucket.control.load(Acquire));
        if !matches.any() {
            return None;
        }
        let word = bucket.slot(matches);
        // The prefix is not compared: a wrong tag is so rare that the record may tell.
        (!word.is_free()).then_some(word)
    }

    /// Calls `visit` with the slot words that may belong to `key` until it returns something.
    ///
    /// # Safety
    /// The array must stay live during the call (pinned, or the shard's lock held).
    pub(crate) unsafe fn search<R>(
        self,
        key: Key,
        mut visit: impl FnMut(SlotWord) -> Option<R>,
    ) -> Option<R> {
        let pattern = key.pattern();
        let home = self.home(key.lo);
        for distance in 0..=self.mask() {
            // SAFETY: the index is masked; the caller vouches for the array.
            let bucket = unsafe { self.bucket((home + distance) & self.mask()) };
            let (found, overflowed) = bucket.search(pattern, key.lo, &mut visit);
            if found.is_some() || !overflowed {
                return found;
            }
        }
        None
    }

    /// The place of the entry for which `is_it` says yes.
    ///
    /// # Safety
    /// As for [`Array::search`], with the shard's lock held.
    pub(crate) unsafe fn find(
        self,
        key: Key,
        mut is_it: impl FnMut(SlotWord) -> bool,
    ) -> Option<(Place, SlotWord)> {
        let pattern = key.pattern();
        let home = self.home(key.lo);
        for distance in 0..=self.mask() {
            let index = (home + distance) & self.mask();
            // SAFETY: the index is masked; the caller vouches for the array.
            let bucket = unsafe { self.bucket(index) };
            let control = bucket.control.load(Relaxed);
            let mut matches = pattern.matches(control);
            while matches.any() {
                let word = bucket.slot(matches);
                if word.may_be(key.lo) && is_it(word) {
                    return Some((Place { bucket: index, slot: matches.first() }, word));
                }
                matches = matches.without_first();
            }
            if control >> 56 == 0 {
                return None;
            }
        }
        None
    }

    /// Publishes an entry whose id is not in the array. False when every slot is taken.
    ///
    /// # Safety
    /// The array is live and the caller is its only writer.
    pub(crate) unsafe fn insert(self, key: Key, word: SlotWord) -> bool {
        let home = self.home(key.lo);
        for distance in 0..=self.mask() {
            // SAFETY: the index is masked; the caller vouches for the array.
            let bucket = unsafe { self.bucket((home + distance) & self.mask()) };
            let control = bucket.control.load(Relaxed);
            if let Some(slot) = bucket.free_slot() {
                // Tag first: if it came last, a reader with an old control word, whose tag for
                // this slot was the same, would find an entry that others do not find yet.
                bucket.control.store(control | u64::from(tag_of(key.hash)) << (slot * 8), Release);
                // Release: the record's bytes come before its address.
                bucket.slots[slot].store(word.0, Release);
                return true;
            }
            if control >> 56 != OVERFLOW_STUCK {
                // Release keeps the counters in order before the tag that they lead to.
                bucket.control.store(control + OVERFLOW_ONE, Release);
            }
        }
        // SAFETY: as for this call.
        unsafe { self.uncount(home, self.mask() + 1) };
        false
    }

    /// Publishes another record of the same id.
    ///
    /// # Safety
    /// The array is live, the caller is its only writer, and `place` came from [`Array::find`]
    /// with no other write since.
    pub(crate) unsafe fn replace(self, place: Place, word: SlotWord) {
        // SAFETY: `place` was found in this array.
        let bucket = unsafe { self.bucket(place.bucket) };
        // Release: the new record's bytes come before its address.
        bucket.slots[place.slot].store(word.0, Release);
    }

    /// Takes an entry out.
    ///
    /// # Safety
    /// As for [`Array::replace`].
    pub(crate) unsafe fn remove(self, key: Key, place: Place) {
        // SAFETY: `place` was found in this array.
        let bucket = unsafe { self.bucket(place.bucket) };
        let control = bucket.control.load(Relaxed);
        // Tag first: whoever still sees it finds the old record or none in the slot.
        bucket.control.store(control & !(0xff << (place.slot * 8)), Release);
        bucket.slots[place.slot].store(0, Release);
        let home = self.home(key.lo);
        let passed = place.bucket.wrapping_sub(home) & self.mask();
        // SAFETY: as for this call.
        unsafe { self.uncount(home, passed) };
    }

    /// Lowers the overflow counters of `count` buckets from `home` on.
    ///
    /// # Safety
    /// As for [`Array::insert`].
    unsafe fn uncount(self, home: u64, count: u64) {
        for distance in 0..count {
            // SAFETY: the index is masked; the caller vouches for the array.
            let bucket = unsafe { self.bucket((home + distance) & self.mask()) };
            let control = bucket.control.load(Relaxed);
            if control >> 56 != OVERFLOW_STUCK {
                bucket.control.store(control - OVERFLOW_ONE, Release);
            }
        }
    }

    /// Copies all entries into an empty array of another size. False when they do not fit.
    ///
    /// # Safety
    /// Both arrays are live; the caller is the only writer of either.
    pub(crate) unsafe fn copy_into(self, other: Array) -> bool {
        for index in 0..=self.mask() {
            // SAFETY: the index is inside; the caller vouches for the array.
            let bucket = unsafe { self.bucket(index) };
            let control = bucket.control.load(Relaxed);
            for (slot, word) in bucket.slots.iter().enumerate() {
                let word = SlotWord(word.load(Relaxed));
                if !word.is_free() {
                    let tag = (control >> (slot * 8)) as u8;
                    let key = Key { lo: word.0, hash: u32::from(tag) << 24 };
                    // SAFETY: as for this call.
                    if !unsafe { other.insert(key, word) } {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Calls `visit` with each entry whose home is this bucket.
    ///
    /// # Safety
    /// As for [`Array::search`].
    pub(crate) unsafe fn visit_home(self, home: u64, visit: impl FnMut(SlotWord)) {
        // SAFETY: as for this call.
        unsafe { self.visit_from(home, |word| self.home(word.0) == home, visit) };
    }

    /// Calls `visit` with each entry of this prefix, and touches no record of another.
    ///
    /// # Safety
    /// As for [`Array::search`].
    pub(crate) unsafe fn visit_prefix(self, lo: u64, visit: impl FnMut(SlotWord)) {
        // SAFETY: as for this call.
        unsafe { self.visit_from(self.home(lo), |word| word.may_be(lo), visit) };
    }

    /// Calls `visit` with those of the entries that `is_wanted`, from a bucket on to the last one
    /// that an entry from there may have overflowed to.
    ///
    /// # Safety
    /// As for [`Array::search`].
    unsafe fn visit_from(
        self,
        home: u64,
        is_wanted: impl Fn(SlotWord) -> bool,
        mut visit: impl FnMut(SlotWord),
    ) {
        for distance in 0..=self.mask() {
            // SAFETY: the index is masked; the caller vouches for the array.
            let bucket = unsafe { self.bucket((home + distance) & self.mask()) };
            let control = bucket.control.load(Acquire);
            for word in &bucket.slots {
                let word = SlotWord(word.load(Acquire));
                if !word.is_free() && is_wanted(word) {
                    visit(word);
                }
            }
            if control >> 56 == 0 {
                return;
            }
        }
    }

    /// Checks what must hold while no writer is at work; returns the number of entries.
    ///
    /// # Safety
    /// As for [`Array::find`].
    ///
    /// # Panics
    /// With the invariant that is broken.
    pub(crate) unsafe fn validate(self) -> usize {
        let mut count = 0;
        let mut passed = vec![0_u64; self.bucket_count()];
        for index in 0..=self.mask() {
            // SAFETY: the index is inside; the caller vouches for the array.
            let bucket = unsafe { self.bucket(index) };
            let control = bucket.control.load(Relaxed);
            for (slot, word) in bucket.slots.iter().enumerate() {
                let word = SlotWord(word.load(Relaxed));
                let tag = control >> (slot * 8) & 0xff;
                if word.is_free() {
                    assert_eq!(tag, 0, "a free slot has a tag in {index}");
                    continue;
                }
                count += 1;
                let home = self.home(word.0);
                for distance in 0..(index.wrapping_sub(home) & self.mask()) {
                    passed[((home + distance) & self.mask()) as usize] += 1;
                }
            }
        }
        for (index, passed) in passed.into_iter().enumerate() {
            // SAFETY: as above.
            let bucket = unsafe { self.bucket(index as u64) };
            let counter = bucket.control.load(Relaxed) >> 56;
            assert!(
                counter == passed || counter == OVERFLOW_STUCK,
                "overflow counter of bucket {index} is {counter}, not {passed}"
            );
        }
        count
    }
}

impl Bucket {
    #[cfg(not(loom))]
    const fn new() -> Bucket {
        Bucket { control: AtomicU64::new(0), slots: [const { AtomicU64::new(0) }; SLOT_COUNT] }
    }

    /// What `visit` makes of the slots that may be the id's; else whether to look further.
    #[inline(always)]
    fn search<R>(
        &self,
        pattern: Pattern,
        lo: u64,
        visit: &mut impl FnMut(SlotWord) -> Option<R>,
    ) -> (Option<R>, bool) {
        // Acquire pairs with the Release of `insert`: an overflow counted here is seen before the
        // entry that it leads to.
        let control = self.control.load(Acquire);
        let mut matches = pattern.matches(control);
        while matches.any() {
            let word = self.slot(matches);
            if word.may_be(lo) {
                let found = visit(word);
                if found.is_some() {
                    return (found, false);
                }
            }
            matches = matches.without_first();
        }
        (None, control >> 56 != 0)
    }

    /// The word at the first of some matches, of which there must be one.
    #[inline(always)]
    fn slot(&self, matches: Matches) -> SlotWord {
        // SAFETY: the first of some matches is below TAG_COUNT, the number of slots.
        let slot = unsafe { self.slots.get_unchecked(matches.first()) };
        // Acquire pairs with the Release of `insert` and `replace`: the record's bytes are there.
        SlotWord(slot.load(Acquire))
    }

    /// The lowest free slot. Relaxed: for the shard's writer, who alone fills slots.
    fn free_slot(&self) -> Option<usize> {
        self.slots.iter().position(|word| SlotWord(word.load(Relaxed)).is_free())
    }
}
