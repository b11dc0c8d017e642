//! Models of reclamation.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::Acquire, Ordering::Release};
use loom::thread;

use super::reclaim::{Collector, Guard};
use crate::explore;

const FREED: u64 = 0xdead;

/// A pointer to one of two pieces of memory. Freeing is a write, which loom holds against every
/// read that does not happen before it.
struct Memory {
    collector: Collector,
    published: AtomicUsize,
    pieces: [UnsafeCell<u64>; 2],
}

// SAFETY: loom checks the accesses to the pieces; that is what the models are for.
unsafe impl Sync for Memory {}
// SAFETY: as for Sync.
unsafe impl Send for Memory {}

impl Memory {
    fn new() -> Arc<Memory> {
        Arc::new(Memory {
            collector: Collector::new(),
            published: AtomicUsize::new(0),
            pieces: [UnsafeCell::new(7), UnsafeCell::new(7)],
        })
    }

    fn read(&self) {
        self.read_under(self.collector.pin());
    }

    fn read_under(&self, guard: Guard<'_>) {
        let piece = self.published.load(Acquire);
        // SAFETY: loom fails the model if the piece is being freed.
        self.pieces[piece].with(|value| assert_ne!(unsafe { *value }, FREED, "read after free"));
        drop(guard);
    }

    /// Takes the first piece out; the stamp.
    fn unlink(&self) -> u64 {
        self.published.store(1, Release);
        self.collector.stamp()
    }

    fn free_if_due(&self, stamp: u64) -> bool {
        let due = self.collector.is_free(stamp);
        if due {
            // SAFETY: loom fails the model if somebody reads it.
            self.pieces[0].with_mut(|value| unsafe { *value = FREED });
        }
        due
    }
}

/// Reads in a thread of its own.
fn reader(memory: &Arc<Memory>, rounds: usize) -> thread::JoinHandle<()> {
    let memory = Arc::clone(memory);
    thread::spawn(move || (0..rounds).for_each(|_| memory.read()))
}

/// Advances in a thread of its own.
fn advancer(memory: &Arc<Memory>, rounds: usize) -> thread::JoinHandle<()> {
    let memory = Arc::clone(memory);
    thread::spawn(move || {
        for _ in 0..rounds {
            memory.collector.try_advance();
        }
    })
}

/// Guards against a lookup that reads memory which was freed, or belongs to another session by
/// now: one writer unlinks, advances and frees while a reader pins for the first time.
pub fn a_pinned_reader_is_safe() {
    explore("reclaim: one reader", 3, || {
        let memory = Memory::new();
        let reader = reader(&memory, 1);
        let stamp = memory.unlink();
        for _ in 0..3 {
            memory.collector.try_advance();
        }
        memory.free_if_due(stamp);
        reader.join().unwrap();
        (0..3).for_each(|_| assert!(memory.collector.try_advance(), "a pin was left behind"));
        assert!(memory.collector.is_free(stamp), "never freed");
    });
}

/// As above, for a reader that pins again at once: its second pin must not hide the first, and
/// the thread's slot is taken from the thread's own list.
pub fn a_reader_that_pins_again_is_safe() {
    explore("reclaim: two pins", 3, || {
        let memory = Memory::new();
        let reader = reader(&memory, 2);
        let stamp = memory.unlink();
        for _ in 0..3 {
            memory.collector.try_advance();
        }
        memory.free_if_due(stamp);
        reader.join().unwrap();
    });
}

/// Guards against two threads that advance at once, and count one quiet moment twice.
pub fn a_second_advancer_frees_nothing_early() {
    explore("reclaim: second advancer", 3, || {
        let memory = Memory::new();
        let (reader, advancer) = (reader(&memory, 1), advancer(&memory, 2));
        let stamp = memory.unlink();
        for _ in 0..2 {
            memory.collector.try_advance();
        }
        memory.free_if_due(stamp);
        advancer.join().unwrap();
        reader.join().unwrap();
    });
}

/// Guards against an unlink that the reader does not see although the epoch went on: the writer
/// itself never advances, another thread does, so that no barrier of the writer's helps.
pub fn an_advancer_elsewhere_frees_nothing_early() {
    explore("reclaim: the writer does not advance", 3, || {
        let memory = Memory::new();
        let (reader, advancer) = (reader(&memory, 1), advancer(&memory, 3));
        let stamp = memory.unlink();
        memory.free_if_due(stamp);
        advancer.join().unwrap();
        reader.join().unwrap();
    });
}

/// Guards against a slot that is forgotten or shared when its thread exits: two threads, of which
/// the second may take the first one's slot, while memory is freed.
pub fn slots_change_hands_safely() {
    explore("reclaim: slots of two threads", 2, || {
        let memory = Memory::new();
        let (first, second) = (reader(&memory, 1), reader(&memory, 1));
        let stamp = memory.unlink();
        for _ in 0..3 {
            memory.collector.try_advance();
        }
        memory.free_if_due(stamp);
        first.join().unwrap();
        second.join().unwrap();
        assert!(memory.collector.try_advance(), "a pin was left behind");
    });
}

/// Guards against a slot that two threads hold: one pins while it is torn down, which lends it the
/// slot for that pin alone; the other saw the slot back from an earlier loan, and takes it now. The
/// memory that the other one reads is freed once the loan is over.
pub fn a_lent_slot_is_taken_once() {
    explore("reclaim: a slot that is lent", 3, || {
        let memory = Memory::new();
        drop(memory.collector.pin_late());
        let reader = reader(&memory, 1);
        let late = Arc::clone(&memory);
        let late = thread::spawn(move || {
            late.read_under(late.collector.pin_late());
            let stamp = late.unlink();
            for _ in 0..3 {
                late.collector.try_advance();
            }
            late.free_if_due(stamp);
        });
        reader.join().unwrap();
        late.join().unwrap();
    });
}
