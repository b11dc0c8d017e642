//! Spans: aligned blocks that hold records of one size class, grouped in arenas.
//!
//! ```text
//! offset  0        64       64 + slot                bump                      span_bytes
//!         +--------+--------+--------+-- ... --+-----+------------------------+
//!         | header | record |  free  |         |     | never used, untouched  |
//!         +--------+--------+--------+-- ... --+-----+------------------------+
//!
//! header  0  next      8  link in the arena's list of the class
//!         8  previous  8
//!        16  free      4  offset of the first free record; 0 = none
//!        20  bump      4  offset of the first never used record
//!        24  live      4  records handed out
//!        28  capacity  4  constant from here on
//!        32  slot      4
//!        36  class     4  index
//!        40  arena     4  index
//!        44  bytes     4  of the span
//!
//! free record  0  next free offset  4, then 0xDD if `POISON`
//! ```
//! Records that were freed lately wait in the arena, for the next ones to be allocated: neither of
//! the two then touches a header, whose cache line is seldom at hand. To their spans they are
//! still live.
//!
//! A span is in one of four places: `partial` list (0 < live < capacity), `draining` list (the
//! same, beyond the border of pages that are to run empty: see `page`), `spare` (live = 0, at most
//! one of a class in an arena), or no list (live = capacity). The header of a record is found by
//! masking its address, as spans are aligned to their size and the size follows from the class.
//!
//! The border may have moved since a span was put into its list: the first of `partial` is looked
//! at again when a record is taken from it, and a record of a span beyond the border waits for
//! nobody, but goes back into its span.
//!
//! All but the constants is guarded by the lock of the span's arena. The constants are written
//! before a record of the span is handed out, so whoever holds a record may read them unlocked.
#![allow(unsafe_code, reason = "headers and free lists live inside raw blocks")]

use super::class::{self, Class, HEADER_BYTES};
use std::cell::Cell;
use std::mem::offset_of;
use std::ptr::NonNull;

/// Whether freed records are overwritten, so that use after free shows.
pub(super) const POISON: bool = cfg!(any(test, debug_assertions, cloakroom_poison));
const POISON_BYTE: u8 = 0xDD;
/// The free list link at the start of a free record, which poison leaves alone.
const LINK_BYTES: usize = size_of::<u32>();
/// Longer spans go back when they run empty instead of becoming the spare.
const SPARE_BYTES_MAX: usize = 64 << 10;
/// How many records of a class may wait in an arena, in number and in bytes.
const RECENT_MAX: usize = 256;
const RECENT_BYTES_MAX: usize = 64 << 10;
/// How many spans a [`Arena::pop`] moves to `draining` at most.
const MOVES_MAX: usize = 8;

const OWN_LENGTH: &str = "a record is freed with its own length";

type Link = Option<NonNull<Header>>;

#[repr(C, align(64))]
struct Header {
    next: Cell<Link>,
    previous: Cell<Link>,
    free: Cell<u32>,
    bump: Cell<u32>,
    live: Cell<u32>,
    capacity: u32,
    slot: u32,
    class: u32,
    arena: u32,
    bytes: u32,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES && align_of::<Header>() == 64);
const _: () = assert!(offset_of!(Header, free) == 16 && offset_of!(Header, bytes) == 44);
const _: () = assert!(LINK_BYTES <= 16, "the smallest slot holds a link");

/// A block with a header, in no list.
pub(super) struct Span(NonNull<Header>);

impl Span {
    /// Writes the header of an empty span.
    ///
    /// # Safety
    /// `block` is an unused block of `class.span_bytes`, aligned to its size.
    pub(super) unsafe fn new(block: NonNull<u8>, class: Class, arena: usize) -> Span {
        let header = block.cast::<Header>();
        let value = Header {
            next: Cell::new(None),
            previous: Cell::new(None),
            free: Cell::new(0),
            bump: Cell::new(HEADER_BYTES as u32),
            live: Cell::new(0),
            capacity: ((class.span_bytes - HEADER_BYTES) / class.slot_bytes) as u32,
            slot: class.slot_bytes as u32,
            class: class.index as u32,
            arena: arena as u32,
            bytes: class.span_bytes as u32,
        };
        // SAFETY: the block is ours, longer than a header and more than 64-aligned (caller).
        unsafe { header.write(value) };
        Span(header)
    }

    /// The span of a record.
    ///
    /// # Safety
    /// `record` is from `Arena::pop` with this `class` and not freed.
    pub(super) unsafe fn of(record: NonNull<u8>, class: Class) -> Span {
        let start = record.as_ptr().map_addr(|address| address & !(class.span_bytes - 1));
        // SAFETY: a span is never at address 0: the system does not map that.
        Span(unsafe { NonNull::new_unchecked(start.cast()) })
    }

    /// The arena whose lock guards this span.
    pub(super) fn arena(&self) -> usize {
        header(&self.0).arena as usize
    }

    /// The block again, to be given back.
    pub(super) fn into_block(self) -> NonNull<u8> {
        self.0.cast()
    }

    fn record(&self, offset: u32) -> NonNull<u8> {
        // SAFETY: `offset` is a slot of this span: it came from `bump` below the capacity, or
        // from the free list, which only `Arena::push` feeds.
        unsafe { self.0.cast::<u8>().add(offset as usize) }
    }
}

/// The header behind a link. Private, and called only where one of these holds: the span is in
/// this arena's lists or was just passed in (lock held), or the caller has a record of it and
/// reads constants.
fn header(link: &NonNull<Header>) -> &Header {
    // SAFETY: `Span::new` wrote a header there, and it stays until `into_block`; mutable fields
    // are cells, used under the arena's lock only, so no two threads touch one at a time.
    unsafe { link.as_ref() }
}

/// The spans of some shards. Its owner keeps it behind a lock.
pub(super) struct Arena {
    lists: Box<[List]>,
    spares: usize,
    /// Of all spans.
    span_bytes: usize,
    /// Of the slots of records that are handed out, those that wait here not among them.
    live_bytes: usize,
}

#[derive(Clone, Default)]
struct List {
    partial: Link,
    draining: Link,
    spare: Link,
    /// Free records, the last one freed at the end.
    recent: Vec<NonNull<u8>>,
    /// Set with the first of them.
    class: Option<Class>,
}

// SAFETY: an arena owns the mutable parts of its spans, wherever the thread is that holds it.
unsafe impl Send for Arena {}

impl Arena {
    pub(super) fn new() -> Arena {
        let lists = vec![List::default(); class::COUNT].into();
        Arena { lists, spares: 0, span_bytes: 0, live_bytes: 0 }
    }

    /// A record of `class`, if a span before the border has one.
    #[inline]
    pub(super) fn pop(&mut self, class: Class, border: usize) -> Option<NonNull<u8>> {
        let list = &mut self.lists[class.index];
        if let Some(record) = list.recent.pop() {
            check_poison(record, class.slot_bytes);
            self.live_bytes += class.slot_bytes;
            return Some(record);
        }
        let link = self.first(class, border)?;
        self.live_bytes += class.slot_bytes;
        Some(self.lists[class.index].take_from(link))
    }

    /// A span before the border that has a record, in `partial`.
    #[inline]
    fn first(&mut self, class: Class, border: usize) -> Option<NonNull<Header>> {
        let list = &mut self.lists[class.index];
        for _ in 0..MOVES_MAX {
            match list.partial {
                Some(link) if is_beyond(link, border) => list.relink(link, border),
                _ => break,
            }
        }
        if list.partial.is_none() {
            // The border may have gone, or moved up.
            if let Some(link) = list.draining
                && !is_beyond(link, border)
            {
                list.relink(link, border);
            } else {
                let link = list.spare.take_if(|link| !is_beyond(*link, border))?;
                self.spares -= 1;
                list.link(link, border);
            }
        }
        list.partial
    }

    /// The same from a span beyond the border.
    pub(super) fn pop_draining(&mut self, class: Class) -> Option<NonNull<u8>> {
        let list = &mut self.lists[class.index];
        let link = list.draining?;
        self.live_bytes += class.slot_bytes;
        Some(list.take_from(link))
    }

    /// The bytes in spans that no record takes.
    pub(super) fn idle_bytes(&self) -> usize {
        self.span_bytes - self.live_bytes
    }

    /// Takes a record back. Returns its span if that ran empty and is not wanted here.
    ///
    /// # Safety
    /// `record` is from `pop` of this arena with the same class, and `span` is its span. It is
    /// freed once and used no more.
    #[inline]
    pub(super) unsafe fn free(
        &mut self,
        record: NonNull<u8>,
        span: Span,
        class: Class,
        border: usize,
    ) -> Option<Span> {
        let emptied = if self.keep(record, &span, class, border) {
            None
        } else {
            // SAFETY: the caller's duty.
            unsafe { self.push(record, span, class, border) }
        };
        self.live_bytes -= class.slot_bytes;
        emptied
    }

    /// Keeps a free record for the next [`Arena::pop`], if few enough wait for that, and its span
    /// is not to run empty.
    #[inline]
    fn keep(&mut self, record: NonNull<u8>, span: &Span, class: Class, border: usize) -> bool {
        let list = &mut self.lists[class.index];
        let is_full = list.recent.len() >= RECENT_MAX.min(RECENT_BYTES_MAX / class.slot_bytes);
        if is_full || is_beyond(record, border) {
            return false;
        }
        if POISON {
            assert_eq!(header(&span.0).class as usize, class.index, "{OWN_LENGTH}");
        }
        list.class = Some(class);
        list.recent.push(record);
        true
    }

    /// Puts the records of one class that wait in the arena back into their spans; None if none
    /// wait. Returns spans that ran empty and are not wanted here, with their size. Costs up to
    /// 256 cache misses.
    pub(super) fn settle(&mut self, border: usize) -> Option<Vec<(Span, usize)>> {
        let list = self.lists.iter_mut().find(|list| !list.recent.is_empty())?;
        let class = list.class?;
        let records = std::mem::take(&mut list.recent);
        let push = |record| {
            // SAFETY: `free` was given it as a record of this class.
            let span = unsafe { Span::of(record, class) };
            // SAFETY: as above; it was freed then and has not been popped since.
            unsafe { self.push(record, span, class, border) }
        };
        let emptied = records.into_iter().filter_map(push);
        Some(emptied.map(|span| (span, class.span_bytes)).collect())
    }

    /// Puts a free record back into its span. Returns that if it ran empty and is not wanted here.
    ///
    /// # Safety
    /// As for [`Arena::free`].
    #[inline]
    unsafe fn push(
        &mut self,
        record: NonNull<u8>,
        span: Span,
        class: Class,
        border: usize,
    ) -> Option<Span> {
        let link = span.0;
        let span = header(&link);
        assert_eq!(span.class as usize, class.index, "{OWN_LENGTH}");
        let offset = record.addr().get() - link.addr().get();
        debug_assert!((offset - HEADER_BYTES).is_multiple_of(class.slot_bytes));
        // SAFETY: the record is free now (caller) and 16-aligned, with room for a link.
        unsafe { record.cast::<u32>().write(span.free.get()) };
        span.free.set(offset as u32);
        let live = span.live.get();
        span.live.set(live - 1);
        let list = &mut self.lists[class.index];
        if live == span.capacity {
            list.link(link, border);
        }
        if live > 1 {
            return None;
        }
        list.unlink(link);
        let is_unwanted = class.span_bytes > SPARE_BYTES_MAX || is_beyond(link, border);
        if list.spare.is_some() || is_unwanted {
            self.span_bytes -= class.span_bytes;
            return Some(Span(link));
        }
        list.spare = Some(link);
        self.spares += 1;
        None
    }

    /// Adds a span without live records. Returns its first one, so that none stays empty here.
    pub(super) fn adopt(&mut self, span: Span, class: Class, border: usize) -> NonNull<u8> {
        self.span_bytes += class.span_bytes;
        self.live_bytes += class.slot_bytes;
        let list = &mut self.lists[class.index];
        list.link(span.0, border);
        list.take_from(span.0)
    }

    /// Some spare span with its size, to be given back.
    pub(super) fn take_spare(&mut self) -> Option<(Span, usize)> {
        if self.spares == 0 {
            return None;
        }
        self.spares -= 1;
        let mut spares = self.lists.iter_mut().filter_map(|list| list.spare.take());
        let link = spares.next()?;
        let span_bytes = header(&link).bytes as usize;
        self.span_bytes -= span_bytes;
        Some((Span(link), span_bytes))
    }

    /// Panics unless lists and headers agree.
    pub(super) fn validate(&self, arena: usize) {
        let mut spares = 0;
        for (class, list) in self.lists.iter().enumerate() {
            for first in [list.partial, list.draining] {
                let mut previous = None;
                let mut next = first;
                while let Some(link) = next {
                    let span = header(&link);
                    assert_eq!(span.previous.get(), previous, "span links are symmetric");
                    span.validate(link, class, arena);
                    (previous, next) = (next, span.next.get());
                }
            }
            for &record in &list.recent {
                check_poison(record, list.class.map_or(0, |class| class.slot_bytes));
            }
            if let Some(link) = list.spare {
                spares += 1;
                assert_eq!(header(&link).live.get(), 0, "a spare span is empty");
                header(&link).validate(link, class, arena);
            }
        }
        assert_eq!(spares, self.spares, "the count of spares is right");
    }
}

impl List {
    /// The next record of a span of this list.
    #[inline]
    fn take_from(&mut self, link: NonNull<Header>) -> NonNull<u8> {
        let span = header(&link);
        let offset = span.free.get();
        let record = if offset != 0 {
            let record = Span(link).record(offset);
            span.free.set(unpoison(record, span.slot));
            record
        } else {
            let offset = span.bump.get();
            span.bump.set(offset + span.slot);
            Span(link).record(offset)
        };
        span.live.set(span.live.get() + 1);
        if span.live.get() == span.capacity {
            self.unlink(link);
        }
        record
    }

    #[inline]
    fn link(&mut self, link: NonNull<Header>, border: usize) {
        let first = if is_beyond(link, border) { &mut self.draining } else { &mut self.partial };
        let span = header(&link);
        span.previous.set(None);
        span.next.set(*first);
        if let Some(next) = &*first {
            header(next).previous.set(Some(link));
        }
        *first = Some(link);
    }

    /// Moves a span of one of the lists to the one where it belongs.
    fn relink(&mut self, link: NonNull<Header>, border: usize) {
        self.unlink(link);
        self.link(link, border);
    }

    #[inline]
    fn unlink(&mut self, link: NonNull<Header>) {
        let span = header(&link);
        let (previous, next) = (span.previous.get(), span.next.get());
        match &previous {
            Some(previous) => header(previous).next.set(next),
            None if self.partial == Some(link) => self.partial = next,
            None => self.draining = next,
        }
        if let Some(next) = &next {
            header(next).previous.set(previous);
        }
    }
}

#[inline]
fn is_beyond<T>(place: NonNull<T>, border: usize) -> bool {
    place.addr().get() >= border
}

impl Header {
    fn validate(&self, link: NonNull<Header>, class: usize, arena: usize) {
        assert_eq!(self.class as usize, class, "a span is in the list of its class");
        assert_eq!(self.arena as usize, arena, "a span is in the list of its arena");
        assert!(self.live.get() < self.capacity, "a listed span has room");
        let used = (self.bump.get() - HEADER_BYTES as u32) / self.slot;
        assert!(used <= self.capacity, "bump stays inside the span");
        let mut free = 0;
        let mut offset = self.free.get();
        while offset != 0 {
            free += 1;
            assert!(free <= used, "the free list has an end");
            assert!(offset < self.bump.get(), "a free record was used before");
            assert!((offset - HEADER_BYTES as u32).is_multiple_of(self.slot), "slot offset");
            offset = unpoison(Span(link).record(offset), self.slot);
        }
        assert_eq!(self.live.get() + free, used, "a record is live, free or never used");
    }
}

/// Overwrites a record about to be freed.
///
/// # Safety
/// `record` has `bytes` bytes that nobody uses any more.
pub(super) unsafe fn poison(record: NonNull<u8>, bytes: usize) {
    if POISON {
        // SAFETY: the caller's duty.
        unsafe { record.write_bytes(POISON_BYTE, bytes) };
    }
}

/// If `POISON`, panics if a free record was written to, other than at its link.
#[inline]
fn check_poison(record: NonNull<u8>, slot_bytes: usize) {
    if POISON {
        // SAFETY: the arena was given all of the slot, which `poison` had initialised.
        let bytes = unsafe { std::slice::from_raw_parts(record.as_ptr(), slot_bytes) };
        let intact = bytes[LINK_BYTES..].iter().all(|&byte| byte == POISON_BYTE);
        assert!(intact, "a record was written to after it was freed");
    }
}

/// Reads the link of a free record.
#[inline]
fn unpoison(record: NonNull<u8>, slot: u32) -> u32 {
    check_poison(record, slot as usize);
    // SAFETY: `push` wrote the link, and a free record is nobody's but its arena's.
    unsafe { record.cast::<u32>().read() }
}
