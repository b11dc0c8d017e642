//! Address space from the operating system: whole mappings that unmap themselves.
//!
//! Every mapping is private, anonymous, zero-filled, left out of core dumps and aligned to 2 MiB.
#![allow(unsafe_code, reason = "mmap, munmap and madvise are foreign functions")]

use super::OutOfMemory;
use std::ptr::NonNull;

/// Alignment of every mapping: one huge page.
pub(super) const PAGE_BYTES: usize = 2 << 20;

/// Whether this target has the calls below; elsewhere `Memory::HugePages` means the allocator.
pub(super) const SUPPORTED: bool =
    cfg!(all(target_os = "linux", target_pointer_width = "64", not(miri)));

/// What the kernel is told about a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// Back by huge pages.
    Huge,
    /// Drop contents and memory; the next touch finds zeroes.
    Return,
    /// Fault everything in, writable, contents kept.
    Populate,
    /// Leave out of core dumps.
    Secret,
}

/// An owned mapping; dropping it unmaps it.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; `start` is only ever unmapped here,
// by the one owner.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `bytes` of zeroes at a multiple of 2 MiB.
    pub(super) fn new(bytes: usize) -> Result<Mapping, OutOfMemory> {
        // Rounded to the largest page size in use, so that the tail cut off below starts on a page.
        let bytes = bytes.checked_next_multiple_of(system::GRAIN_BYTES).ok_or(OutOfMemory)?;
        let around = bytes.checked_add(PAGE_BYTES).ok_or(OutOfMemory)?;
        let found = system::map(around).ok_or(OutOfMemory)?;
        let before = found.addr().get().next_multiple_of(PAGE_BYTES) - found.addr().get();
        let after = PAGE_BYTES - before;
        // SAFETY: `before` < PAGE_BYTES < `around`: inside the mapping just made.
        let start = unsafe { found.add(before) };
        // SAFETY: `before + bytes` <= `around`: inside it, or one past its end.
        let end = unsafe { start.add(bytes) };
        if before > 0 {
            // SAFETY: the head of our own mapping, never handed out.
            unsafe { system::unmap(found, before) };
        }
        if after > 0 {
            // SAFETY: the tail of our own mapping, never handed out.
            unsafe { system::unmap(end, after) };
        }
        // SAFETY: contents are not dropped by this advice.
        let _ = unsafe { advise(start, bytes, Advice::Secret) };
        Ok(Mapping { start, bytes })
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Asks for huge pages; a kernel without them refuses, which changes speed only.
    pub(super) fn prefer_huge(&self) {
        // SAFETY: the range is this mapping, and the advice drops no contents.
        let _ = unsafe { advise(self.start, self.bytes, Advice::Huge) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `new`, owned by `self` alone; who drops it gave up all blocks inside.
        unsafe { system::unmap(self.start, self.bytes) };
    }
}

/// Passes `advice` on; false if the kernel refused.
///
/// # Safety
/// The range lies in one mapping of this module. For `Return` nobody uses its contents any more.
pub(super) unsafe fn advise(start: NonNull<u8>, bytes: usize, advice: Advice) -> bool {
    // SAFETY: the caller's duty is exactly this one.
    unsafe { system::advise(start, bytes, advice) }
}

#[cfg(all(target_os = "linux", target_pointer_width = "64", not(miri)))]
mod system {
    use super::Advice;
    use std::ptr::{NonNull, null_mut};

    /// A multiple of every page size Linux has on its 64-bit targets.
    pub(super) const GRAIN_BYTES: usize = 64 << 10;

    pub(super) fn map(bytes: usize) -> Option<NonNull<u8>> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: an anonymous mapping at a place of the kernel's choice touches nothing of ours.
        let start = unsafe { libc::mmap(null_mut(), bytes, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast()) }
    }

    /// # Safety
    /// The range lies in a mapping made by `map`, and nobody uses it any more.
    pub(super) unsafe fn unmap(start: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's duty.
        let result = unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
        debug_assert_eq!(result, 0, "munmap of an own range");
    }

    /// # Safety
    /// As `super::advise`.
    pub(super) unsafe fn advise(start: NonNull<u8>, bytes: usize, advice: Advice) -> bool {
        let code = match advice {
            Advice::Huge => libc::MADV_HUGEPAGE,
            Advice::Return => libc::MADV_DONTNEED,
            Advice::Populate => libc::MADV_POPULATE_WRITE,
            Advice::Secret => libc::MADV_DONTDUMP,
        };
        // SAFETY: the range is mapped, and may lose its contents if `Return` says so.
        unsafe { libc::madvise(start.as_ptr().cast(), bytes, code) == 0 }
    }
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", not(miri))))]
mod system {
    use super::Advice;
    use std::ptr::NonNull;

    pub(super) const GRAIN_BYTES: usize = 64 << 10;

    pub(super) fn map(_bytes: usize) -> Option<NonNull<u8>> {
        None
    }

    /// # Safety
    /// Never called: `map` gives nothing.
    pub(super) unsafe fn unmap(_start: NonNull<u8>, _bytes: usize) {}

    /// # Safety
    /// Never called: `map` gives nothing.
    pub(super) unsafe fn advise(_start: NonNull<u8>, _bytes: usize, _advice: Advice) -> bool {
        false
    }
}
