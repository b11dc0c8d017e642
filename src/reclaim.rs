//! Who may still see what: lets lookups read memory that writers take out of the table, and tells
//! writers when nobody can see it any more.
//!
//! Epochs with an asymmetric barrier. A lookup *pins*: it copies the global epoch into a slot of
//! its own thread, a plain store without a fence. While it is not pinned the slot holds the *idle
//! mark*, the collector's address, which no other has and no epoch is: so one comparison tells a
//! lookup that the slot at hand is of this collector, and not pinned already. A writer that has
//! unlinked a piece of memory keeps it with a *stamp*, the epoch at that time, and frees it when
//! the epoch is three further. The epoch advances by one when, after a barrier on all threads of
//! the process (`membarrier`, private expedited), every slot is idle or pinned at this epoch.
//!
//! Why three: nothing orders the unlink before the load of the stamp `s`, so the barrier of
//! `s -> s+1` may come before the unlink is visible. The barrier of `s+1 -> s+2` comes after some
//! thread saw `s+1`, hence after the unlink: from then on no new pin can reach the memory. Those
//! who reached it before are pinned at `s+1` at most, and gone before `s+2 -> s+3`.
//!
//! Where `membarrier` is missing (another system, an old kernel, a sandbox) each pin takes a
//! sequentially consistent fence instead, out of line: 13 ns more than without.
//!
//! Each store has a collector of its own, so that a long closure in one store holds up nothing in
//! another, and a thread's slot can count the lookups of that store without sharing a line.
#![allow(unsafe_code, reason = "slots are reached through a thread-local pointer")]

use std::cell::{Cell, RefCell};
use std::ptr;

use crossbeam::utils::CachePadded;

use crate::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU64, Ordering::AcqRel, Ordering::Acquire,
    Ordering::Relaxed, Ordering::Release, Ordering::SeqCst, fence,
};
use crate::sync::{Arc, thread_local};

/// Memory retired by one thread before it tries to advance the epoch, in bytes, at least. The
/// barrier interrupts the other cores (15 us when they are busy), so it has to be rare.
const ADVANCE_BYTES_MIN: u64 = 256 * 1024;
const ADVANCE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// A larger store waits until so small a part of its bytes was retired.
const ADVANCE_PARTS: u64 = 256;

/// How many epochs after its stamp a piece of memory is free.
pub(crate) const EPOCHS_TO_FREE: u64 = 3;

/// A slot that nobody holds.
const FREE: u8 = 0;
/// A slot that a thread holds until it exits.
const TAKEN: u8 = 1;
/// A slot that a thread took while it was being torn down: free once it is not pinned.
const LENT: u8 = 2;

/// Epochs count from here on: no address in a process is as high.
const EPOCH_FIRST: u64 = 1 << 63;
/// Added to the idle mark where no pin may go without a fence: pins compare with the address.
const FENCED: u64 = 1;
/// What the slots of a closed collector hold: its address may be another's one day.
const CLOSED: u64 = 0;

/// What a pin writes. Only the thread that holds it does so.
struct Slot {
    /// The epoch of the pin, or the collector's idle mark.
    epoch: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    retired: AtomicU64,
}

/// One thread's part of a collector.
struct ThreadSlots {
    outer: Slot,
    /// For pins within a pin, which the outer one protects: always idle.
    nested: Slot,
    taken: AtomicU8,
    next: *const CachePadded<ThreadSlots>,
}

/// A macro, since loom's atomics cannot be made in a `const fn`.
macro_rules! slot {
    ($idle:expr) => {
        Slot {
            epoch: AtomicU64::new($idle),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            retired: AtomicU64::new(0),
        }
    };
}

/// A macro for the same reason.
macro_rules! thread_slots {
    ($idle:expr) => {{
        let (outer, nested) = (slot!($idle), slot!($idle));
        ThreadSlots { outer, nested, taken: AtomicU8::new(TAKEN), next: ptr::null() }
    }};
}

struct Slots {
    /// Append-only list: what a thread had is given back when it exits and taken by another, but
    /// lives as long as the collector.
    first: AtomicPtr<CachePadded<ThreadSlots>>,
}

// SAFETY: `ThreadSlots::next` is written before it is published and never again; everything else
// is atomic.
unsafe impl Send for Slots {}
// SAFETY: as for Send.
unsafe impl Sync for Slots {}

impl Drop for Slots {
    fn drop(&mut self) {
        let mut thread = self.first.load(Acquire);
        while !thread.is_null() {
            // SAFETY: all came from Box::into_raw in `take_slots`; nobody holds one once the last
            // reference to the list is gone, as guards and thread-local entries keep one.
            let owned = unsafe { Box::from_raw(thread) };
            thread = owned.next.cast_mut();
        }
    }
}

/// What the threads of one store share.
pub(crate) struct Collector {
    hot: CachePadded<Hot>,
    asymmetric: bool,
    /// Where this collector was when it was pinned first; zero before. It has to stay there.
    place: std::sync::atomic::AtomicU64,
    advancing: AtomicBool,
    slots: Arc<Slots>,
}

struct Hot {
    epoch: AtomicU64,
    /// How many bytes a thread retires before it tries to advance.
    advance_bytes: AtomicU64,
}

/// A thread's pin: memory that was reachable when it was taken stays readable until it is dropped.
pub(crate) struct Guard<'a> {
    slot: &'a Slot,
    /// What the slot holds once this pin has ended.
    idle: u64,
}

/// Proof of a pin that lasts for `'g`, small enough to be passed on in a register.
#[derive(Clone, Copy)]
pub(crate) struct Pinned<'g> {
    slot: &'g Slot,
}

struct Entry {
    slots: Arc<Slots>,
    thread: *const CachePadded<ThreadSlots>,
}

/// The slots of one thread, given back when it exits.
struct Entries(RefCell<Vec<Entry>>);

impl Drop for Entries {
    fn drop(&mut self) {
        // A later thread-local destructor may still use the store: it must not find these slots.
        let _ = CURRENT.try_with(|current| current.set(nobody()));
        for entry in self.0.get_mut().drain(..) {
            // SAFETY: `entry.slots` keeps it alive.
            let thread = unsafe { &*entry.thread };
            // The nested one always holds the idle mark, if not CLOSED. Release: whoever takes the
            // slots sees the mark and the counts.
            thread.outer.epoch.store(thread.nested.epoch.load(Relaxed), Release);
            thread.taken.store(FREE, Release);
        }
    }
}

thread_local! {
    /// This thread's slots in the collector that it used last. No destructor, so that reaching
    /// them costs one load.
    static CURRENT: Cell<*const CachePadded<ThreadSlots>> = const { Cell::new(nobody()) };
    static ENTRIES: Entries = const { Entries(RefCell::new(Vec::new())) };
}

/// The slots of a thread that has none: their words are no collector's idle mark.
#[cfg(not(loom))]
const fn nobody() -> *const CachePadded<ThreadSlots> {
    struct Nobody(CachePadded<ThreadSlots>);
    // SAFETY: as for `Slots`; and nobody ever writes these.
    unsafe impl Sync for Nobody {}
    static NOBODY: Nobody = Nobody(CachePadded::new(thread_slots!(CLOSED)));
    &raw const NOBODY.0
}

/// Loom has no static atomics.
#[cfg(loom)]
const fn nobody() -> *const CachePadded<ThreadSlots> {
    ptr::null()
}

impl Drop for Collector {
    fn drop(&mut self) {
        for thread in self.all_slots() {
            // Relaxed: nobody is pinned any more. Whoever sees another collector at this address
            // sees this too, since the address was free for it only afterwards.
            thread.outer.epoch.store(CLOSED, Relaxed);
            thread.nested.epoch.store(CLOSED, Relaxed);
        }
    }
}

impl Collector {
    pub(crate) fn new() -> Collector {
        Collector {
            hot: CachePadded::new(Hot {
                epoch: AtomicU64::new(EPOCH_FIRST),
                advance_bytes: AtomicU64::new(ADVANCE_BYTES_MIN),
            }),
            asymmetric: barrier::is_available(),
            place: std::sync::atomic::AtomicU64::new(0),
            advancing: AtomicBool::new(false),
            slots: Arc::new(Slots { first: AtomicPtr::new(ptr::null_mut()) }),
        }
    }

    /// Protects what this thread is about to read. About 1 ns; a thread's first pin in a store
    /// costs some hundred.
    #[inline(always)]
    pub(crate) fn pin(&self) -> Guard<'_> {
        let current = CURRENT.with(Cell::get);
        #[cfg(loom)]
        if current.is_null() {
            return self.pin_slow();
        }
        // SAFETY: CURRENT names what lives: `nobody`, or what an entry of this thread keeps.
        let thread: &ThreadSlots = unsafe { &*current };
        let slot = &thread.outer;
        let idle = self.address();
        if slot.epoch.load(Relaxed) != idle {
            return self.pin_slow();
        }
        self.enter(slot);
        Guard { slot, idle }
    }

    #[inline(always)]
    fn address(&self) -> u64 {
        ptr::from_ref(&self.hot).addr() as u64
    }

    /// What the slots of this collector hold while they are not pinned.
    fn idle(&self) -> u64 {
        self.address() + if self.asymmetric { 0 } else { FENCED }
    }

    #[inline(always)]
    fn enter(&self, slot: &Slot) {
        // Relaxed: an old epoch only holds up the collector. The barrier orders this store before
        // every load that follows, as seen by `try_advance`.
        slot.epoch.store(self.hot.epoch.load(Relaxed), Relaxed);
        std::sync::atomic::compiler_fence(SeqCst);
    }

    #[cold]
    #[inline(never)]
    fn pin_slow(&self) -> Guard<'_> {
        match self.place.load(Relaxed) {
            0 => self.place.store(self.address(), Relaxed),
            place => assert_eq!(place, self.address(), "moved after its first pin"),
        }
        let found = ENTRIES.try_with(|entries| self.own_slots(&mut entries.0.borrow_mut()));
        // SAFETY: slots live as long as the collector, which `self` borrows.
        let enter = |thread: *const CachePadded<_>| self.enter_slow(unsafe { &*thread });
        let slot = found.map_or_else(|_| self.lend(), enter);
        Guard { slot, idle: self.idle() }
    }

    /// The slot of a pin of a thread that is being torn down.
    fn lend(&self) -> &Slot {
        let thread = self.take_slots();
        let slot = self.enter_slow(thread);
        // Release: whoever sees this sees the slot pinned, until the pin ends.
        thread.taken.store(LENT, Release);
        slot
    }

    /// As [`Collector::pin`] in such a thread: loom's threads are torn down in no fixed order.
    #[cfg(loom)]
    pub(crate) fn pin_late(&self) -> Guard<'_> {
        Guard { slot: self.lend(), idle: self.idle() }
    }

    fn enter_slow<'s>(&self, thread: &'s ThreadSlots) -> &'s Slot {
        if thread.outer.epoch.load(Relaxed) != self.idle() {
            return &thread.nested;
        }
        self.enter(&thread.outer);
        if !self.asymmetric {
            full_fence();
        }
        &thread.outer
    }

    fn own_slots(&self, entries: &mut Vec<Entry>) -> *const CachePadded<ThreadSlots> {
        let known = entries.iter().find(|entry| Arc::ptr_eq(&entry.slots, &self.slots));
        let thread = match known {
            Some(entry) => entry.thread,
            None => {
                // Collectors that only thread-locals still hold belong to closed stores. CURRENT
                // may name one of them.
                CURRENT.with(|current| current.set(nobody()));
                entries.retain(|entry| Arc::strong_count(&entry.slots) > 1);
                let thread: *const _ = self.take_slots();
                let slots = Arc::clone(&self.slots);
                entries.push(Entry { slots, thread });
                thread
            }
        };
        CURRENT.with(|current| current.set(thread));
        thread
    }

    fn take_slots(&self) -> &CachePadded<ThreadSlots> {
        for thread in self.all_slots() {
            // Acquire pairs with the Release of whoever gave it back, or of the loan and its end.
            let taken = thread.taken.load(Acquire);
            let returned = || thread.outer.epoch.load(Acquire) == self.idle();
            let free = taken == FREE || taken == LENT && returned();
            if !free || thread.taken.compare_exchange(taken, TAKEN, Acquire, Relaxed).is_err() {
                continue;
            }
            // LENT may be that of a later loan than was looked at, which is not over yet.
            if taken == LENT && !returned() {
                // Release: as in `lend`, whose pin still holds the slot.
                thread.taken.store(LENT, Release);
                continue;
            }
            return thread;
        }
        let mut head = self.slots.first.load(Acquire);
        let mut thread = Box::new(CachePadded::new(thread_slots!(self.idle())));
        let new = loop {
            thread.next = head;
            let new = Box::into_raw(thread);
            // AcqRel: publishes the slots, and sees those that others published before.
            match self.slots.first.compare_exchange(head, new, AcqRel, Acquire) {
                Ok(_) => break new,
                Err(changed) => head = changed,
            }
            // SAFETY: made by `into_raw` above, and not published.
            thread = unsafe { Box::from_raw(new) };
        };
        // The slots must be visible to every scan that could miss the pin that follows: the scan
        // comes after a barrier, the pin after this fence.
        fence(SeqCst);
        // SAFETY: published slots live as long as the collector, which `self` borrows.
        unsafe { &*new }
    }

    fn all_slots(&self) -> impl Iterator<Item = &CachePadded<ThreadSlots>> {
        let mut next = self.slots.first.load(Acquire).cast_const();
        std::iter::from_fn(move || {
            // SAFETY: published slots live as long as the collector, which `self` borrows.
            let thread = unsafe { next.as_ref() }?;
            next = thread.next;
            Some(thread)
        })
    }

    /// The stamp for memory that was just unlinked.
    pub(crate) fn stamp(&self) -> u64 {
        if !self.asymmetric {
            // Orders the unlink before the load: without `membarrier` no barrier of another thread
            // does it for us.
            fence(SeqCst);
        }
        self.hot.epoch.load(Acquire)
    }

    /// Whether memory with this stamp can be freed.
    pub(crate) fn is_free(&self, stamp: u64) -> bool {
        // Acquire pairs with the AcqRel in `try_advance`: the readers' last loads happened before.
        self.hot.epoch.load(Acquire) >= stamp.saturating_add(EPOCHS_TO_FREE)
    }

    /// Moves the epoch on if no pin of an older epoch is left. Costs a system call and an
    /// interrupt of the cores that run this process.
    pub(crate) fn try_advance(&self) -> bool {
        if self.advancing.swap(true, Acquire) {
            return false;
        }
        let epoch = self.hot.epoch.load(Relaxed);
        let mut quiet = barrier::all_threads(self.asymmetric);
        // Acquire pairs with the Release of each unpin.
        quiet = quiet
            && self.all_slots().all(|thread| {
                let pinned = thread.outer.epoch.load(Acquire);
                pinned == self.idle() || pinned == epoch
            });
        if quiet {
            self.hot.epoch.fetch_add(1, AcqRel);
        }
        self.advancing.store(false, Release);
        quiet
    }

    /// Sets how much is retired between two attempts to advance, by the bytes of the whole store:
    /// up to four times as much waits to be freed.
    pub(crate) fn pace(&self, bytes: u64) {
        let bytes = (bytes / ADVANCE_PARTS).clamp(ADVANCE_BYTES_MIN, ADVANCE_BYTES_MAX);
        // Relaxed: any old value will do.
        self.hot.advance_bytes.store(bytes, Relaxed);
    }

    /// Notes that this thread retired memory. True when it is time to call
    /// [`Collector::try_advance`].
    pub(crate) fn count_retired(&self, pinned: Pinned<'_>, bytes: usize) -> bool {
        let retired = &pinned.slot.retired;
        if add_own(retired, bytes as u64) < self.hot.advance_bytes.load(Relaxed) {
            return false;
        }
        retired.store(0, Relaxed);
        true
    }

    /// Lookups that found a session and lookups that did not, over all threads.
    pub(crate) fn lookups(&self) -> (u64, u64) {
        let slots = self.all_slots().flat_map(|thread| [&thread.outer, &thread.nested]);
        slots.fold((0, 0), |(hits, misses), slot| {
            (hits + slot.hits.load(Relaxed), misses + slot.misses.load(Relaxed))
        })
    }
}

#[cold]
fn full_fence() {
    fence(SeqCst);
}

/// Adds to a counter that only this thread writes.
#[inline(always)]
fn add_own(counter: &AtomicU64, by: u64) -> u64 {
    let sum = counter.load(Relaxed).wrapping_add(by);
    counter.store(sum, Relaxed);
    sum
}

impl Guard<'_> {
    /// Proof of this pin, for as long as it is borrowed.
    #[inline(always)]
    pub(crate) fn pinned(&self) -> Pinned<'_> {
        Pinned { slot: self.slot }
    }
}

impl Pinned<'_> {
    #[inline(always)]
    pub(crate) fn count_hit(self) {
        add_own(&self.slot.hits, 1);
    }

    pub(crate) fn count_miss(self) {
        add_own(&self.slot.misses, 1);
    }
}

impl Drop for Guard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release: the loads under the pin happened before whoever sees the slot free.
        self.slot.epoch.store(self.idle, Release);
    }
}

mod barrier {
    use crate::sync::atomic::{Ordering::SeqCst, fence};

    const REGISTER_PRIVATE_EXPEDITED: i32 = 16;
    const PRIVATE_EXPEDITED: i32 = 8;

    #[cfg(all(target_os = "linux", not(any(cloakroom_shuttle, loom))))]
    fn membarrier(command: i32) -> bool {
        // SAFETY: membarrier(2) takes three integers and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    #[cfg(not(all(target_os = "linux", not(any(cloakroom_shuttle, loom)))))]
    fn membarrier(_: i32) -> bool {
        false
    }

    /// Registers the process; harmless to repeat.
    pub(super) fn is_available() -> bool {
        membarrier(REGISTER_PRIVATE_EXPEDITED)
    }

    /// A fence on all running threads of the process. False when the system refused.
    pub(super) fn all_threads(asymmetric: bool) -> bool {
        fence(SeqCst);
        let done = !asymmetric || membarrier(PRIVATE_EXPEDITED);
        fence(SeqCst);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_holds_the_epoch_back() {
        let collector = Collector::new();
        let stamp = collector.stamp();
        let guard = collector.pin();
        assert!(collector.try_advance(), "pinned at the present epoch");
        assert!(!collector.try_advance(), "pinned at an older epoch");
        assert!(!collector.is_free(stamp));
        drop(guard);
        assert!(collector.try_advance() && collector.try_advance());
        assert!(collector.is_free(stamp));
    }

    #[test]
    fn nested_pins_end_with_the_outer_one() {
        let collector = Collector::new();
        let other = Collector::new();
        let outer = collector.pin();
        drop(collector.pin());
        // Another store in between takes the thread's current entry away.
        drop(other.pin());
        drop(collector.pin());
        assert!(collector.try_advance());
        assert!(!collector.try_advance(), "the outer pin is still there");
        drop(outer);
        assert!(collector.try_advance());
    }

    #[test]
    fn a_pin_counts_where_another_collector_was_before() {
        let mut place = None;
        for _ in 0..3 {
            let collector = place.insert(Collector::new());
            let guard = collector.pin();
            assert!(collector.try_advance());
            assert!(!collector.try_advance(), "the pin is not seen");
            drop(guard);
        }
    }

    #[test]
    #[should_panic(expected = "moved after its first pin")]
    fn a_pinned_collector_stays_where_it_is() {
        let collector = Collector::new();
        drop(collector.pin());
        let moved = Box::new(collector);
        drop(moved.pin());
    }

    #[test]
    fn threads_give_their_slots_back() {
        let collector = Collector::new();
        for _ in 0..100 {
            std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    let guard = collector.pin();
                    guard.pinned().count_hit();
                    drop(guard);
                });
                // Other than the scope's own end this waits for thread-local destructors.
                thread.join().unwrap();
            });
        }
        assert_eq!(collector.all_slots().count(), 1);
        assert_eq!(collector.lookups(), (100, 0));
        assert!(collector.try_advance());
    }

    #[test]
    fn a_closed_store_leaves_nothing_in_other_threads() {
        for _ in 0..100 {
            drop(Collector::new().pin());
        }
        ENTRIES.with(|entries| assert!(entries.0.borrow().len() <= 2));
    }

    #[test]
    fn a_thread_local_destructor_may_look_up() {
        struct Late(Arc<Collector>);
        impl Drop for Late {
            fn drop(&mut self) {
                drop(self.0.pin());
            }
        }
        std::thread_local!(static LATE: RefCell<Option<Late>> = const { RefCell::new(None) });
        let collector = Arc::new(Collector::new());
        let own = Arc::clone(&collector);
        std::thread::spawn(move || {
            LATE.with(|late| *late.borrow_mut() = Some(Late(Arc::clone(&own))));
            drop(own.pin());
        })
        .join()
        .unwrap();
        for _ in 0..3 {
            assert!(collector.try_advance());
        }
    }
}
