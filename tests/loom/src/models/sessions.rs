//! Models of the writes of one session against its readers, in the order of `shard/mod.rs`: publish
//! the new record or the tombstone, or take the entry out; then supersede the old life. A reader
//! follows `look` and `resolve` of `sessions/mod.rs`.

use std::sync::atomic::{AtomicBool as Flag, Ordering::SeqCst};

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Release};
use loom::thread;

use super::bucket::{Array, Bucket, Key, Place, SlotWord};
use super::life::{Life, LifeWord};
use crate::clock::Tick;
use crate::explore;

const IDLE: u32 = 10;
const CREATED: u32 = 20;
const NOW: u32 = 25;
const LO: u64 = 5;
const TAG: u64 = 9;
/// More lookups than a reader needs beside two writes and growth.
const LOOKUPS_MAX: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Live,
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Missing {
    Unknown,
    Ended,
    Expired,
}

/// A record: what it says never changes, but for its life.
struct Record {
    kind: UnsafeCell<Kind>,
    life: LifeWord,
    /// Whether it was taken out of its slot: what has happened, not what a reader can know.
    replaced: Flag,
}

/// One session: record `index` has the address 16 * (index + 1), and is the session's version of
/// that number.
struct Session {
    directory: AtomicU64,
    arrays: [Array; 2],
    records: Vec<Record>,
    done: AtomicBool,
    _memory: [Box<[Bucket]>; 2],
}

// SAFETY: loom checks the accesses to the records; that is what the models are for.
unsafe impl Sync for Session {}
// SAFETY: as for Sync.
unsafe impl Send for Session {}

fn array(bits: u32) -> (Box<[Bucket]>, Array) {
    let buckets: Box<[Bucket]> = (0..1 << bits).map(|_| Bucket::default()).collect();
    let array = Array::new(buckets.as_ptr().expose_provenance() as u64, bits);
    (buckets, array)
}

fn seen_at(tick: u32) -> Life {
    Life::new(Tick(tick), Tick(tick + IDLE))
}

fn key() -> Key {
    Key::new(TAG, LO)
}

impl Session {
    /// Version 0 is published.
    fn new() -> Session {
        let ((old, first), (new, second)) = (array(1), array(2));
        // Version 0 is the session, 1 its update, 2 its tombstone.
        let record = |life| Record {
            kind: UnsafeCell::new(Kind::Ended),
            life: LifeWord::new(life),
            replaced: Flag::new(false),
        };
        let session = Session {
            directory: AtomicU64::new(first.0),
            arrays: [first, second],
            records: [seen_at(CREATED), seen_at(NOW), Life::DEAD].into_iter().map(record).collect(),
            done: AtomicBool::new(false),
            _memory: [old, new],
        };
        let word = session.write(0, Kind::Live);
        // SAFETY: the arrays live as long as the session, which nobody else has yet.
        assert!(unsafe { first.insert(key(), word) });
        session
    }

    fn array(&self) -> Array {
        Array(self.directory.load(Acquire))
    }

    fn write(&self, version: usize, kind: Kind) -> SlotWord {
        // SAFETY: loom fails the model if another thread is at it.
        self.records[version].kind.with_mut(|place| unsafe { *place = kind });
        SlotWord::new(16 * (version as u64 + 1), LO)
    }

    fn spot(&self) -> (Place, &Record) {
        // SAFETY: the arrays live as long as the session; one thread of each model writes.
        let (place, word) = unsafe { self.array().find(key(), |_| true) }.unwrap();
        (place, &self.records[(word.address() / 16 - 1) as usize])
    }

    fn publish(&self, (place, old): (Place, &Record), version: usize, kind: Kind) {
        let word = self.write(version, kind);
        // SAFETY: as in `spot`, where the place comes from.
        unsafe { self.array().replace(place, word) };
        old.replaced.store(true, SeqCst);
    }

    fn grow(&self) {
        // SAFETY: as in `spot`.
        assert!(unsafe { self.arrays[0].copy_into(self.arrays[1]) });
        self.directory.store(self.arrays[1].0, Release);
    }

    /// `Locked::rewrite`: version 1, last seen at NOW. Returns the old record's last life.
    fn rewrite(&self) -> Life {
        let spot = self.spot();
        self.publish(spot, 1, Kind::Live);
        let last = spot.1.life.supersede();
        let new = &self.spot().1.life;
        let next = new.load();
        if last.fresh_until() > next.fresh_until() {
            new.touch(next, Life::new(last.fresh_until(), next.deadline()));
        }
        last
    }

    /// `Locked::end` with memory for a tombstone, version 2.
    fn end(&self) -> Life {
        let spot = self.spot();
        self.publish(spot, 2, Kind::Ended);
        spot.1.life.supersede()
    }

    /// `Locked::end` without, or `withdraw`.
    fn remove(&self) -> Life {
        let (place, old) = self.spot();
        // SAFETY: as in `spot`, where the place comes from.
        unsafe { self.array().remove(key(), place) };
        old.replaced.store(true, SeqCst);
        old.life.supersede()
    }

    /// `Locked::fire` of a session without owner. Whether it expired.
    fn fire(&self, now: u32) -> bool {
        let expired = self.spot().1.life.expire(Tick(now)).is_some();
        if expired {
            self.end();
        }
        expired
    }

    /// A lookup: the version that it found.
    fn look(&self, now: u32, touch: bool) -> Result<usize, Missing> {
        for lookup in 0..LOOKUPS_MAX {
            let visit = |word: SlotWord| Some((word.address() / 16 - 1) as usize);
            // SAFETY: the arrays live as long as the session.
            let found = unsafe { self.array().search(key(), visit) };
            let Some(version) = found else { return Err(Missing::Unknown) };
            let record = &self.records[version];
            // SAFETY: loom fails the model if another thread is writing it.
            if record.kind.with(|kind| unsafe { *kind }) == Kind::Ended {
                return Err(Missing::Ended);
            }
            let life = record.life.load();
            if life.is_live(Tick(now)) {
                if touch {
                    record.life.touch(life, seen_at(now));
                }
                return Ok(version);
            }
            if !life.is_superseded() {
                return Err(Missing::Expired);
            }
            // The slot may be read stale for a while, but what it should say must have happened.
            assert!(lookup == 0 || record.replaced.load(SeqCst), "superseded before replaced");
            if lookup > 0 {
                // Loom: no stale value is read again after this.
                thread::yield_now();
            }
        }
        panic!("a reader spins");
    }

    fn is_done(&self) -> bool {
        self.done.load(Acquire)
    }
}

/// A writer and a reader.
fn race(write: impl FnOnce(&Session), read: impl FnOnce(&Session) + Send + 'static) {
    let session = Arc::new(Session::new());
    let shared = Arc::clone(&session);
    let reader = thread::spawn(move || read(&shared));
    write(&session);
    session.done.store(true, Release);
    reader.join().unwrap();
}

/// Guards against a user who is thrown out because the session was just updated, and against old
/// data after the update returned. Readers touch, or not.
pub fn update_against_read() {
    for touch in [false, true] {
        explore(&format!("session: update, readers touch: {touch}"), 3, move || {
            race(
                |session| {
                    session.rewrite();
                },
                move |session| {
                    let done = session.is_done();
                    let (first, second) = (session.look(NOW, touch), session.look(NOW, touch));
                    assert!(first.is_ok() && second.is_ok(), "{first:?}, then {second:?}");
                    assert!(second.ok() >= first.ok(), "from {first:?} back to {second:?}");
                    assert!(!done || first == Ok(1), "old data after the update returned");
                },
            );
        });
    }
}

/// As above, right after the array grew: who is still in the old array finds the old record.
pub fn update_after_growth() {
    explore("session: growth, then update", 3, || {
        race(
            |session| {
                session.grow();
                session.rewrite();
            },
            |session| {
                let done = session.is_done();
                let found = session.look(NOW, false);
                assert!(found.is_ok() && (!done || found == Ok(1)), "{found:?}");
            },
        );
    });
}

/// Guards against a logout that is not one: after it returned no lookup finds the session, nor
/// one that found it ended before; and it is neither unknown nor expired.
pub fn end_against_read() {
    explore("session: end", 3, || {
        race(
            |session| {
                session.end();
            },
            |session| {
                let done = session.is_done();
                let (first, second) = (session.look(NOW, true), session.look(NOW, true));
                for found in [first, second] {
                    assert!(matches!(found, Ok(0) | Err(Missing::Ended)), "{found:?}");
                }
                assert!(first.is_ok() || second.is_err(), "ended, then live");
                assert!(!done || first.is_err(), "found after the logout returned");
            },
        );
    });
}

/// Guards against the same where there is no memory for a tombstone.
pub fn removal_against_read() {
    explore("session: end without tombstone", 3, || {
        race(
            |session| {
                session.remove();
            },
            |session| {
                let done = session.is_done();
                let (first, second) = (session.look(NOW, true), session.look(NOW, true));
                for found in [first, second] {
                    assert!(matches!(found, Ok(0) | Err(Missing::Unknown)), "{found:?}");
                }
                assert!(first.is_ok() || second.is_err(), "ended, then live");
                assert!(!done || first.is_err(), "found after the logout returned");
            },
        );
    });
}

/// Guards against an update and a logout of which a reader sees the later one first.
pub fn update_and_end_against_read() {
    explore("session: update, then end", 3, || {
        race(
            |session| {
                session.rewrite();
                session.end();
            },
            |session| {
                let done = session.is_done();
                let found = session.look(NOW, true);
                assert!(matches!(found, Ok(_) | Err(Missing::Ended)), "{found:?}");
                assert!(!done || found.is_err(), "found after the logout returned");
            },
        );
    });
}

/// Guards against a session that expires under a user who was told that it lives: the expiry
/// against a lookup just before the deadline, and another just after.
pub fn expiry_against_read() {
    explore("session: expiry", 3, || {
        let deadline = CREATED + IDLE;
        let session = Arc::new(Session::new());
        let shared = Arc::clone(&session);
        let reader = thread::spawn(move || {
            let first = shared.look(deadline - 1, true);
            (first, shared.look(deadline, false))
        });
        let expired = session.fire(deadline);
        let (first, second) = reader.join().unwrap();
        assert!(second.is_err() || first.is_ok(), "{first:?}, then {second:?}");
        assert!(!expired || second.is_err(), "expired, and found live after the deadline");
        assert!(expired || second.is_ok(), "touched, and {second:?}");
        assert_eq!(expired, session.look(deadline, false).is_err());
    });
}

/// Guards against a lost touch: a lookup that touched a record just before its supersession has
/// told the user that the session goes on from then. The update's time is the earlier one.
pub fn a_touch_survives_an_update() {
    explore("session: touch beside update", 3, || {
        let session = Arc::new(Session::new());
        let shared = Arc::clone(&session);
        let reader = thread::spawn(move || shared.look(NOW + 1, true));
        let last = session.rewrite();
        assert!(reader.join().unwrap().is_ok());
        let life = session.spot().1.life.load();
        assert!(life.fresh_until() >= last.fresh_until(), "from {last:?} back to {life:?}");
    });
}
