//! Models of the array of buckets.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Release};
use loom::thread;

use super::bucket::{Array, Bucket, Key, PREFIX_BITS, SlotWord};
use crate::explore;

/// An id: `home` is its bucket in an array of four, `number` what only the record knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Id {
    home: u64,
    tag: u64,
    number: u64,
}

impl Id {
    fn lo(self) -> u64 {
        self.number << PREFIX_BITS | self.home << (PREFIX_BITS - 2)
    }

    fn key(self) -> Key {
        Key::new(self.tag << 24, self.lo())
    }
}

/// Fills the first bucket of an array of two.
const FILLERS: [Id; 7] = {
    let mut all = [Id { home: 0, tag: 1, number: 1 }; 7];
    let mut index = 0;
    while index < 7 {
        all[index] = Id { home: 0, tag: index as u64 + 1, number: index as u64 + 1 };
        index += 1;
    }
    all
};
/// Ids that are the same to the bucket: only their records tell them apart. They move to another
/// bucket when the array grows.
const A: Id = Id { home: 1, tag: 9, number: 100 };
const B: Id = Id { home: 1, tag: 9, number: 101 };
/// Another that goes where A goes, with a tag of its own.
const C: Id = Id { home: 1, tag: 8, number: 102 };
const RECORDS: usize = 12;

/// Two arrays, a directory of one shard, and records whose bytes loom watches. Record `index` has
/// the address 16 * (index + 1); none is used twice.
struct Shard {
    directory: AtomicU64,
    arrays: [Array; 2],
    records: Vec<UnsafeCell<u64>>,
    done: AtomicBool,
    _memory: [Box<[Bucket]>; 2],
}

// SAFETY: loom checks the accesses to the records; that is what the models are for.
unsafe impl Sync for Shard {}
// SAFETY: as for Sync.
unsafe impl Send for Shard {}

fn array(bits: u32) -> (Box<[Bucket]>, Array) {
    let buckets: Box<[Bucket]> = (0..1 << bits).map(|_| Bucket::default()).collect();
    let array = Array::new(buckets.as_ptr().expose_provenance() as u64, bits);
    (buckets, array)
}

impl Shard {
    /// With two buckets, to be grown to four; `ids` are inserted, as records 0, 1, and so on.
    fn with(ids: &[Id]) -> Shard {
        let ((old, first), (new, second)) = (array(1), array(2));
        let shard = Shard {
            directory: AtomicU64::new(first.0),
            arrays: [first, second],
            records: (0..RECORDS).map(|_| UnsafeCell::new(0)).collect(),
            done: AtomicBool::new(false),
            _memory: [old, new],
        };
        for (record, &id) in ids.iter().enumerate() {
            shard.insert(id, record);
        }
        shard
    }

    fn array(&self) -> Array {
        Array(self.directory.load(Acquire))
    }

    /// Writes a record's bytes: `replace` puts it in the place of another of that id.
    fn write(&self, id: Id, record: usize) -> SlotWord {
        // SAFETY: loom fails the model if another thread is at it.
        self.records[record].with_mut(|number| unsafe { *number = id.number });
        SlotWord::new(16 * (record as u64 + 1), id.lo())
    }

    fn record_of(word: SlotWord) -> usize {
        (word.address() / 16 - 1) as usize
    }

    fn is(&self, word: SlotWord, id: Id) -> bool {
        // SAFETY: loom fails the model if another thread is writing it.
        self.records[Shard::record_of(word)].with(|number| unsafe { *number == id.number })
    }

    fn insert(&self, id: Id, record: usize) {
        let word = self.write(id, record);
        // SAFETY: the arrays live as long as the shard; one thread of each model writes.
        assert!(unsafe { self.array().insert(id.key(), word) });
    }

    fn replace(&self, id: Id, record: usize) {
        let word = self.write(id, record);
        // SAFETY: as in `insert`.
        let found = unsafe { self.array().find(id.key(), |word| self.is(word, id)) };
        // SAFETY: as in `insert`; the place was found just now.
        unsafe { self.array().replace(found.unwrap().0, word) };
    }

    fn remove(&self, id: Id) {
        // SAFETY: as in `insert`.
        let found = unsafe { self.array().find(id.key(), |word| self.is(word, id)) };
        // SAFETY: as in `insert`; the place was found just now.
        unsafe { self.array().remove(id.key(), found.unwrap().0) };
    }

    fn grow(&self) {
        // SAFETY: as in `insert`.
        assert!(unsafe { self.arrays[0].copy_into(self.arrays[1]) });
        self.directory.store(self.arrays[1].0, Release);
    }

    /// What a reader does.
    fn find(&self, id: Id) -> Option<usize> {
        let visit = |word| self.is(word, id).then(|| Shard::record_of(word));
        // SAFETY: the arrays live as long as the shard.
        unsafe { self.array().search(id.key(), visit) }
    }

    /// The writer's call has returned.
    fn finish(&self) {
        self.done.store(true, Release);
    }

    fn is_done(&self) -> bool {
        self.done.load(Acquire)
    }

    fn validate(&self) -> usize {
        // SAFETY: as in `insert`; the other threads have ended.
        unsafe { self.array().validate() }
    }
}

/// A writer and a reader of a shard with these entries; the shard at last.
fn race(
    ids: &[Id],
    write: impl FnOnce(&Shard),
    read: impl FnOnce(&Shard) + Send + 'static,
) -> Arc<Shard> {
    let shard = Arc::new(Shard::with(ids));
    let shared = Arc::clone(&shard);
    let reader = thread::spawn(move || read(&shared));
    write(&shard);
    shard.finish();
    reader.join().unwrap();
    shard
}

fn fillers_and(id: Id) -> Vec<Id> {
    FILLERS.into_iter().chain([id]).collect()
}

/// Guards against a logged-in user who is "unknown" for a moment because other sessions come and
/// go: a present key is never missed, nor one that overflowed into the next bucket.
pub fn a_present_key_is_never_missed() {
    explore("bucket: present keys beside insert and remove", 3, || {
        let write = |shard: &Shard| {
            shard.remove(FILLERS[2]);
            shard.insert(B, 8);
            shard.remove(B);
        };
        let shard = race(&fillers_and(A), write, |shard| {
            assert_eq!(shard.find(A), Some(7), "overflowed key missed");
            assert_eq!(shard.find(FILLERS[6]), Some(6), "key missed");
        });
        assert_eq!(shard.validate(), 7);
    });
}

/// `A` is inserted where `gone` was, in the bucket after its own; once seen it must stay.
fn insert_where(gone: Id) {
    let write = move |shard: &Shard| {
        shard.remove(gone);
        shard.insert(A, 8);
    };
    let shard = race(&fillers_and(gone), write, |shard| {
        let done = shard.is_done();
        let (first, second) = (shard.find(A), shard.find(A));
        assert!(first.is_none() || second == first, "seen, then missed");
        assert!(!done || first == Some(8), "missed after its insert returned");
    });
    assert_eq!((shard.find(A), shard.validate()), (Some(8), 8));
}

/// Guards against a session that is seen, then not, then again, while it is created: the overflow
/// counter goes up before the tag. An earlier overflow of the bucket leads the reader to the tag.
pub fn an_overflowed_key_once_seen_stays() {
    explore("bucket: insert that overflows", 3, || insert_where(C));
}

/// As above where the slot belonged to an entry of the same tag: a reader that loaded the control
/// word before that entry went finds the new one by its slot, before it has its own tag.
pub fn a_key_of_a_reused_tag_once_seen_stays() {
    explore("bucket: insert with the tag of the one that went", 3, || insert_where(B));
}

/// Guards against a logged-out session that is still found, also one in the next bucket: once
/// missed it stays missed, and after the remover said so it is not found.
pub fn a_removed_key_is_gone() {
    explore("bucket: remove", 3, || {
        let write = |shard: &Shard| {
            shard.remove(A);
            shard.remove(FILLERS[0]);
        };
        let shard = race(&fillers_and(A), write, |shard| {
            let done = shard.is_done();
            let (first, second) = (shard.find(A), shard.find(A));
            assert!(!done || first.is_none(), "found after its removal returned");
            assert!(first.is_some() || second.is_none(), "missed, then seen");
        });
        assert_eq!((shard.find(A), shard.validate()), (None, 6));
    });
}

/// Guards against one user who gets another's session: a slot that changes hands, with the same
/// tag, never yields the wrong record, nor one whose bytes are not there yet.
pub fn a_reused_slot_yields_its_own_id() {
    explore("bucket: slot reuse", 3, || {
        let write = |shard: &Shard| {
            shard.remove(A);
            shard.insert(B, 2);
        };
        let shard = race(&[A, FILLERS[0]], write, |shard| {
            let done = shard.is_done();
            let (a, b) = (shard.find(A), shard.find(B));
            assert!(a.is_none_or(|record| record == 0) && b.is_none_or(|record| record == 2));
            assert!(!done || (a.is_none() && b.is_some()), "{a:?} {b:?} after the writer returned");
            assert_eq!(shard.find(FILLERS[0]), Some(1));
        });
        assert_eq!(shard.validate(), 2);
    });
}

/// Guards against an update that makes its session vanish, shows half a record, or goes back.
pub fn a_replaced_key_is_never_missed() {
    explore("bucket: replace", 3, || {
        let write = |shard: &Shard| {
            shard.replace(A, 1);
            shard.replace(A, 2);
        };
        race(&[A], write, |shard| {
            let done = shard.is_done();
            let (first, second) = (shard.find(A), shard.find(A));
            assert!(first.is_some() && second >= first, "went from {first:?} to {second:?}");
            assert!(!done || first == Some(2), "an old record after the writer returned");
        });
    });
}

/// Guards against sessions that growth loses, for good or for a moment, and against an old array
/// that shows what ended after growth.
pub fn growth_loses_nothing() {
    explore("bucket: growth", 3, || {
        let write = |shard: &Shard| {
            shard.grow();
            shard.remove(FILLERS[3]);
            shard.insert(B, 8);
        };
        let shard = race(&fillers_and(A), write, |shard| {
            let done = shard.is_done();
            assert_eq!(shard.find(A), Some(7), "lost by growth");
            let (removed, inserted) = (shard.find(FILLERS[3]), shard.find(B));
            assert!(!done || (removed.is_none() && inserted == Some(8)));
        });
        assert_eq!(shard.validate(), 8);
        for (record, id) in fillers_and(A).into_iter().enumerate().filter(|&(at, _)| at != 3) {
            assert_eq!(shard.find(id), Some(record));
        }
    });
}
