//! Memory for records and bucket arrays.
//!
//! ```text
//! Pool ----- System -----> the global allocator, for everything
//!   |
//!   +------- HugePages
//!              |
//!   record     |  len <= 131,008         arena (one lock each)  span (slots of one class)
//!              |                           |  16 KiB .. 1 MiB blocks
//!   array      |  bytes < 4 KiB          arena 0, as a record
//!              |  bytes <= 2 MiB         pages (one lock): buddy blocks of 4 KiB .. 2 MiB
//!              |                           |  2 MiB pages
//!              |                         regions: 32 MiB of address space, huge, not in core dumps
//!   either     |  longer                 a mapping of its own
//! ```
//! Lock order: none. An arena's lock and the lock of the pages are never held together; memory is
//! first touched outside both, so nobody waits for another thread's page fault.
//!
//! | part | holds |
//! |---|---|
//! | `class` | the slot and span of a length |
//! | `span` | records in spans, spans in arenas |
//! | `page` | blocks in pages, pages in regions |
//! | `tree` | which units of a page are free |
//! | `mapping` | the system calls |
#![allow(unsafe_code, reason = "an allocator hands out raw memory")]

mod class;
mod mapping;
mod page;
mod span;
mod tree;

use class::Class;
use mapping::PAGE_BYTES;
use page::Pages;
use span::{Arena, Span};
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tree::UNIT_BYTES;

/// Where records and buckets live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Memory {
    /// A pool of 2 MiB huge pages, left out of core dumps; the default. On other systems than
    /// 64-bit Linux it is the same as [`Memory::System`].
    ///
    /// Lookups in large stores miss the TLB less often. Free memory goes back to the system in
    /// whole huge pages only, so a store that shrank holds more than it needs until its sessions,
    /// as they come and go, have moved together: then at most about half as much again, and 20 MiB.
    #[default]
    HugePages,
    /// The global allocator.
    System,
}

/// The system has no more memory for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfMemory;

/// Allocator of records and bucket arrays. Dropping it frees all memory of
/// [`Memory::HugePages`], what is still in use too; under [`Memory::System`] it frees nothing.
pub(crate) struct Pool {
    /// None: everything comes from the global allocator.
    huge: Option<Huge>,
}

struct Huge {
    arenas: Box<[Padded]>,
    pages: Pages,
}

/// Two cache lines, as processors fetch lines in pairs.
#[repr(align(128))]
struct Padded(Mutex<Arena>);

const ARENA_COUNT_MAX: usize = 1024;
const RECORD_ALIGN: usize = 16;
const ARRAY_ALIGN: usize = 64;
/// Arena of arrays shorter than a block.
const ARRAY_ARENA: usize = 0;

const _: () = assert!(class::HEADER_BYTES.is_multiple_of(ARRAY_ALIGN));

const fn assert_shared<T: Send + Sync>() {}
const _: () = assert_shared::<Pool>();

impl Pool {
    /// An empty pool. `arena_count` is rounded up to a power of two, and to at most 1024.
    pub(crate) fn new(memory: Memory, arena_count: usize) -> Pool {
        let count = arena_count.clamp(1, ARENA_COUNT_MAX).next_power_of_two();
        let huge = (memory == Memory::HugePages && mapping::SUPPORTED).then(|| Huge {
            arenas: (0..count).map(|_| Padded(Mutex::new(Arena::new()))).collect(),
            pages: Pages::new(),
        });
        Pool { huge }
    }

    /// The bytes a record of `len` bytes takes, rounding included.
    ///
    /// Exact for `HugePages` but for span headers and tails (below 3.5 %); an upper bound for
    /// most lengths with `System`.
    pub(crate) fn charged(len: usize) -> usize {
        class::charged(len)
    }

    /// An uninitialised record of `len` bytes, 16-byte aligned, from arena `arena` modulo their
    /// number.
    #[inline]
    pub(crate) fn allocate(&self, arena: usize, len: usize) -> Result<NonNull<u8>, OutOfMemory> {
        let Some(huge) = &self.huge else {
            return system_allocate(len.max(1), RECORD_ALIGN, std::alloc::alloc);
        };
        match class::of(len) {
            Some(class) => huge.allocate(arena, class),
            None => huge.pages.take_own(len),
        }
    }

    /// Frees a record.
    ///
    /// # Safety
    /// `record` is from `allocate` of this pool with the same `arena` and `len`. It is freed once,
    /// by any thread, and used no more.
    #[inline]
    pub(crate) unsafe fn free(&self, arena: usize, record: NonNull<u8>, len: usize) {
        let Some(huge) = &self.huge else {
            // SAFETY: all `len` bytes were asked for in `allocate`, and are used no more (caller).
            unsafe { span::poison(record, len) };
            // SAFETY: `allocate` took it from the global allocator with these two (caller).
            return unsafe { system_free(record, len.max(1), RECORD_ALIGN) };
        };
        match class::of(len) {
            // SAFETY: `allocate` took it from this arena with this class (caller).
            Some(class) => unsafe { huge.free(arena, record, class) },
            // SAFETY: `allocate` took a mapping for it (caller).
            None => unsafe { huge.pages.give_own(record) },
        }
    }

    /// A zeroed, 64-byte aligned array of `bytes`, a power of two of at least 128.
    pub(crate) fn allocate_array(&self, bytes: usize) -> Result<NonNull<u8>, OutOfMemory> {
        debug_assert!(bytes.is_power_of_two() && bytes >= 128);
        let Some(huge) = &self.huge else {
            return system_allocate(bytes, ARRAY_ALIGN, std::alloc::alloc_zeroed);
        };
        if bytes > PAGE_BYTES {
            return huge.pages.take_own(bytes);
        }
        let array = match small_array(bytes) {
            Some(class) => huge.allocate(ARRAY_ARENA, class)?,
            None => huge.pages.take(bytes)?,
        };
        // SAFETY: both give at least `bytes` that are ours alone.
        unsafe { array.write_bytes(0, bytes) };
        Ok(array)
    }

    /// Frees an array.
    ///
    /// # Safety
    /// `array` is from `allocate_array` of this pool with the same `bytes`. It is freed once, by
    /// any thread, and used no more.
    pub(crate) unsafe fn free_array(&self, array: NonNull<u8>, bytes: usize) {
        let Some(huge) = &self.huge else {
            // SAFETY: the array is that long and used no more (caller).
            unsafe { span::poison(array, bytes) };
            // SAFETY: `allocate_array` took it from the global allocator with these two (caller).
            return unsafe { system_free(array, bytes, ARRAY_ALIGN) };
        };
        if bytes > PAGE_BYTES {
            // SAFETY: `allocate_array` took a mapping for it (caller).
            unsafe { huge.pages.give_own(array) };
        } else if let Some(class) = small_array(bytes) {
            // SAFETY: `allocate_array` took it from this arena with this class (caller).
            unsafe { huge.free(ARRAY_ARENA, array, class) };
        } else {
            // SAFETY: the array is that long and used no more (caller).
            unsafe { span::poison(array, bytes) };
            // SAFETY: `allocate_array` took a block of this size (caller).
            unsafe { huge.pages.give(array, bytes) };
        }
    }

    /// Touches memory beforehand: the next `count` records of `len` bytes spread over the arenas,
    /// beside `array_bytes` in arrays of at most 2 MiB each, meet no first-touch fault. What has
    /// a mapping of its own still does. `System` ignores the call.
    ///
    /// The memory stays until it is used; `trim` leaves it alone.
    pub(crate) fn reserve(
        &self,
        count: usize,
        len: usize,
        array_bytes: usize,
    ) -> Result<(), OutOfMemory> {
        let Some(huge) = &self.huge else {
            return Ok(());
        };
        let records = match class::of(len) {
            Some(class) if count > 0 => {
                let slots = (class.span_bytes - class::HEADER_BYTES) / class.slot_bytes;
                let arenas = huge.arenas.len().min(class.arena_mask.saturating_add(1));
                // One span more for each arena, as their last ones are partly used.
                count.div_ceil(slots).saturating_add(arenas).saturating_mul(class.span_bytes)
            }
            _ => 0,
        };
        huge.pages.reserve(records.saturating_add(array_bytes).div_ceil(PAGE_BYTES))
    }

    /// Gives free huge pages beyond a few back to the system, at most 64 MiB a call; returns the
    /// bytes given back, 0 when done.
    pub(crate) fn trim(&self) -> usize {
        let Some(huge) = &self.huge else { return 0 };
        let mut idle_bytes = 0;
        for arena in &huge.arenas {
            // The arena is unlocked between two steps, so an allocation waits for one at most.
            for _ in 0..class::COUNT {
                let settled = lock(&arena.0).settle(huge.pages.border());
                let Some(emptied) = settled else { break };
                for (span, span_bytes) in emptied {
                    // SAFETY: `settle` gave up the span, which was taken with this size.
                    unsafe { huge.pages.give(span.into_block(), span_bytes) };
                }
            }
            loop {
                let spare = lock(&arena.0).take_spare();
                let Some((span, span_bytes)) = spare else {
                    break;
                };
                // SAFETY: a spare is empty and was just taken out of its arena.
                unsafe { huge.pages.give(span.into_block(), span_bytes) };
            }
            idle_bytes += lock(&arena.0).idle_bytes();
        }
        huge.pages.trim(idle_bytes)
    }

    /// Bytes of huge pages in use or cached, each counted whole, plus mappings of single blocks:
    /// an upper bound of what is resident. 0 under `System`.
    pub(crate) fn mapped_bytes(&self) -> usize {
        self.huge.as_ref().map_or(0, |huge| huge.pages.mapped_bytes())
    }

    /// Panics naming the broken invariant, if one is. Slow, for tests.
    pub(crate) fn validate(&self) {
        let Some(huge) = &self.huge else { return };
        for (index, arena) in huge.arenas.iter().enumerate() {
            lock(&arena.0).validate(index);
        }
        huge.pages.validate();
    }
}

impl Huge {
    #[inline]
    fn allocate(&self, arena: usize, class: Class) -> Result<NonNull<u8>, OutOfMemory> {
        let index = self.index_of(arena, class);
        let border = self.pages.border();
        if let Some(record) = lock(&self.arenas[index].0).pop(class, border) {
            return Ok(record);
        }
        self.extend(index, class, border)
    }

    /// A record where no span before the border has one: of another span there, if the pages in use
    /// have room for it; else of a span beyond the border; else of a page more. Two threads may add
    /// a span each, which is harmless.
    #[cold]
    fn extend(
        &self,
        index: usize,
        class: Class,
        border: usize,
    ) -> Result<NonNull<u8>, OutOfMemory> {
        let block = match self.pages.take_before_border(class.span_bytes) {
            Some(block) => block,
            None => {
                let drained = lock(&self.arenas[index].0).pop_draining(class);
                if let Some(record) = drained {
                    return Ok(record);
                }
                self.pages.take(class.span_bytes)?
            }
        };
        // SAFETY: the block was just taken with this size; blocks are aligned to their size.
        let span = unsafe { Span::new(block, class, index) };
        Ok(lock(&self.arenas[index].0).adopt(span, class, border))
    }

    /// The arena that serves a class where this one was asked for.
    fn index_of(&self, arena: usize, class: Class) -> usize {
        arena & class.arena_mask & (self.arenas.len() - 1)
    }

    /// # Safety
    /// `record` is from `allocate` with the same `arena` and `class`, is freed once and used no
    /// more.
    #[inline]
    unsafe fn free(&self, arena: usize, record: NonNull<u8>, class: Class) {
        // SAFETY: a record has its whole slot, and is used no more (caller).
        unsafe { span::poison(record, class.slot_bytes) };
        // SAFETY: `allocate` popped it with this class (caller).
        let span = unsafe { Span::of(record, class) };
        let index = self.index_of(arena, class);
        debug_assert_eq!(span.arena(), index, "a record is freed where it was allocated");
        let border = self.pages.border();
        let mut arena = lock(&self.arenas[index].0);
        // SAFETY: this arena popped it with this class; the rest is the caller's duty.
        let empty = unsafe { arena.free(record, span, class, border) };
        drop(arena);
        if let Some(span) = empty {
            // SAFETY: `free` gave up the span, which was taken with the size of its class.
            unsafe { self.pages.give(span.into_block(), class.span_bytes) };
        }
    }
}

/// The class of arrays too short for a block.
fn small_array(bytes: usize) -> Option<Class> {
    if bytes < UNIT_BYTES { class::of(bytes) } else { None }
}

fn system_allocate(
    bytes: usize,
    align: usize,
    allocate: unsafe fn(Layout) -> *mut u8,
) -> Result<NonNull<u8>, OutOfMemory> {
    let layout = Layout::from_size_align(bytes, align).map_err(|_| OutOfMemory)?;
    // SAFETY: `bytes` is not 0: `allocate` asks for 1 at least, arrays for 128.
    NonNull::new(unsafe { allocate(layout) }).ok_or(OutOfMemory)
}

/// # Safety
/// `block` is from `system_allocate` with the same `bytes` and `align`, and is used no more.
unsafe fn system_free(block: NonNull<u8>, bytes: usize, align: usize) {
    // SAFETY: `system_allocate` made a layout of the same two (caller).
    let layout = unsafe { Layout::from_size_align_unchecked(bytes, align) };
    // SAFETY: the block is from the global allocator, with this layout (caller).
    unsafe { std::alloc::dealloc(block.as_ptr(), layout) };
}

/// Locks. A panic while locked is a broken invariant found before anything was changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
