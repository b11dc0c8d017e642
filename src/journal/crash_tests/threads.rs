//! The same journal with its own thread: what a flush waited for survives.

use std::sync::{Arc, Mutex};

use super::random_of;
use super::store::{Disk, SCHEMA, Setting, open, recover};
use crate::clock::{Clock, ManualClock};
use crate::error::Result;
use crate::journal::entry::Entry;
use crate::journal::files::crash::CrashDisk;
use crate::journal::files::faulty::{Fault, Faulty, Kind, Times};
use crate::journal::stored::Stored;
use crate::journal::{Append, Calendar, Expected, Journal, Need, Seal, Survey};
use crate::token::SessionId;

fn journal(disk: &CrashDisk) -> (Arc<Disk>, Journal<Disk>) {
    let setting = Setting { segment_bytes: 16 << 10, append: Append::Mapped, data_max: 0 };
    let files: Arc<Disk> = Arc::new(Faulty::new(disk.clone()));
    let survey = Survey::of(&*files, Expected { schema: SCHEMA, seal: &Seal::Plain }).unwrap();
    let calendar = Calendar::new(&Clock::manual(&ManualClock::new()).unwrap(), survey.latest_ms());
    let opened = Journal::open(Arc::clone(&files), &survey, setting.keeping(), calendar);
    (files, opened.unwrap())
}

fn put(journal: &Journal<Disk>, id: u128) -> Result<u64> {
    let data = [7; 200];
    let stored = Stored { id: SessionId(id), data: &data, ..crate::journal::tests::stored() };
    journal.append(&Entry::Put(stored))
}

/// Several writers, each of which waits for its own; power is lost while they do.
#[test]
fn what_a_flush_waited_for_survives() {
    let disk = CrashDisk::new();
    let (_files, journal) = journal(&disk);
    std::thread::scope(|scope| {
        for thread in 0..3_u128 {
            let (journal, disk) = (&journal, &disk);
            scope.spawn(move || {
                let mut random = random_of(7, thread as u64);
                for index in 1..=30 {
                    put(journal, thread << 64 | index).unwrap();
                    if index % 5 == 0 {
                        journal.flush().wait().unwrap();
                        let left = recover(&disk.crash_image(&mut random)).unwrap();
                        for index in 1..=index {
                            assert!(left.state.live.contains_key(&(thread << 64 | index)));
                        }
                    }
                }
            });
        }
    });
    journal.close().unwrap();
    let left = recover(&disk.crash_image(&mut random_of(7, 9))).unwrap();
    assert_eq!(left.state.live.len(), 90);
}

/// What is appended while a sync runs is not durable when it ends.
#[test]
fn a_commit_counts_what_was_there_when_it_began() {
    let disk = CrashDisk::new();
    let setting = Setting { segment_bytes: 16 << 10, append: Append::Written, data_max: 0 };
    let files: Arc<Disk> = Arc::new(Faulty::new(disk.clone()));
    let shared = open(&files, &setting).unwrap();
    let late = Arc::downgrade(&shared);
    files.watch_synced(move |_| {
        let entry = Entry::Put(crate::journal::tests::stored());
        late.upgrade().unwrap().append(&entry, Need::Room).unwrap();
    });
    for seed in 0..50 {
        shared.commit().unwrap();
        assert_eq!(shared.log.durable() + 1, shared.log.last_position());
        let left = recover(&disk.crash_image(&mut random_of(7, seed))).unwrap();
        assert!(left.last >= shared.log.durable());
    }
}

/// Two syncs at once, of which the first fails: the second one must not pass for it.
#[test]
fn a_commit_that_waited_for_a_failed_one_fails() {
    let disk = CrashDisk::new();
    let setting = Setting { segment_bytes: 16 << 10, append: Append::Mapped, data_max: 0 };
    let files: Arc<Disk> = Arc::new(Faulty::new(disk.clone()));
    let shared = open(&files, &setting).unwrap();
    let entry = Entry::Put(crate::journal::tests::stored());
    shared.append(&entry, Need::Room).unwrap();
    let (waiting, second) = (Arc::downgrade(&shared), Arc::new(Mutex::new(None)));
    let started = Arc::clone(&second);
    files.fail(&[Kind::Sync], 1, Times::Once, Fault::Eio);
    files.watch(move |kind| {
        let mut started = started.lock().unwrap();
        if kind == Kind::Sync && started.is_none() {
            let shared = waiting.upgrade().unwrap();
            *started = Some(std::thread::spawn(move || shared.commit().is_err()));
            // Time to come to the lock; too little of it lets a bug pass, never fails a test.
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
    });
    assert!(shared.commit().is_err());
    let second = second.lock().unwrap().take().unwrap();
    assert!(second.join().unwrap(), "what the first lost is not durable");
    assert_eq!(shared.log.durable(), 0);
}

/// After a failed sync those who wait hear of it, until a snapshot mends it.
#[test]
fn a_failed_sync_is_told_until_a_snapshot() {
    let disk = CrashDisk::new();
    let (files, journal) = journal(&disk);
    put(&journal, 1).unwrap();
    journal.flush().wait().unwrap();
    put(&journal, 2).unwrap();
    files.fail(&[Kind::Sync], 1, Times::Once, Fault::Eio);
    assert!(journal.flush().wait().is_err());
    put(&journal, 3).unwrap();
    assert!(journal.flush().wait().is_err(), "no sync that succeeds later mends it");
    let durable = journal.stats().durable;
    let mut taking = journal.take_snapshot(1).unwrap();
    for id in 1..=3 {
        let stored = Stored { id: SessionId(id), ..crate::journal::tests::stored() };
        taking.push(&stored).unwrap();
    }
    assert_eq!(journal.stats().durable, durable);
    taking.finish().unwrap();
    put(&journal, 4).unwrap();
    journal.flush().wait().unwrap();
    let left = recover(&disk.crash_image(&mut random_of(7, 0))).unwrap();
    assert_eq!(left.state.live.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(!journal.stats().degraded);
}
