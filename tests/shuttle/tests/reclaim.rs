//! Readers against writers that free memory: freed records are overwritten (`cloakroom_poison`),
//! so whoever reads one sees it.

use cloakroom::{ArchivedAttributes, Attributes, ManualClock, SessionId, Store};
use cloakroom_shuttle::{explore, small, thread, together};
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::thread::sleep;
use std::time::Duration;

/// The most that a payload holds; payloads differ in their size class.
const PAYLOAD_MAX: usize = 300;

/// Data that shows when a byte of it is wrong.
fn payload(value: u8) -> Attributes {
    let length = thread_rng().gen_range(1..PAYLOAD_MAX);
    Attributes::from([("bytes", vec![value; length].into()), ("n", i64::from(value).into())])
}

fn check(data: &ArchivedAttributes) {
    let value = data.get_i64("n").expect("the value is there");
    assert!((1..100).contains(&value), "{value} was never written");
    let bytes = data.get_bytes("bytes").expect("the bytes are there");
    assert!((1..PAYLOAD_MAX).contains(&bytes.len()), "{} bytes", bytes.len());
    assert!(bytes.iter().all(|byte| i64::from(*byte) == value), "{bytes:?} for {value}");
}

/// Reads while everybody else goes on.
fn read(store: &Store, id: SessionId) {
    for _ in 0..3 {
        let done = store.read(id, |data| {
            check(data);
            for _ in 0..thread_rng().gen_range(0..8) {
                sleep(Duration::ZERO);
                // A pin within the pin must not end it.
                let _ = store.peek(id, check);
            }
            check(data);
        });
        done.expect("the session is live all the time");
    }
}

fn write(store: &Store, id: SessionId, from: u8) {
    for value in from..from + 3 {
        store.replace(id, payload(value)).unwrap();
        // Frees what it may: otherwise too little is retired here to be worth it.
        store.expire_due();
        let _ = store.update(id, |data| {
            data.set("other", i64::from(value));
        });
    }
}

#[test]
fn readers_never_see_freed_records() {
    explore(4000, || {
        let store: Store = small(&ManualClock::new()).in_memory().unwrap();
        let id = store.create(payload(1)).unwrap().id();
        together(vec![
            thread!(store => read(&store, id)),
            thread!(store => read(&store, id)),
            thread!(store => write(&store, id, 2)),
            thread!(store => write(&store, id, 20)),
            thread!(store => for _ in 0..4 {
                store.expire_due();
            }),
        ]);
        store.read(id, check).unwrap();
        store.validate();
    });
}

/// Buckets grow, shrink and overflow: a session that is there is found all the time.
#[test]
fn readers_never_miss_a_session() {
    explore(1500, || {
        let builder = small(&ManualClock::new()).remember_ended(Duration::ZERO, 0);
        let store: Store = builder.in_memory().unwrap();
        let id = store.create(payload(1)).unwrap().id();
        let churn = |store: &Store| {
            let ids: Vec<_> = (2..20).map(|n| store.create(payload(n)).unwrap().id()).collect();
            store.expire_due();
            for id in ids {
                store.read(id, check).unwrap();
                store.end(id, cloakroom::Reason::LoggedOut).unwrap();
            }
            store.expire_due();
        };
        let list = move |store: &Store| {
            let mut cursor = None;
            let mut found = 0;
            loop {
                let page = store.sessions(cursor, 5);
                found += page.sessions.iter().filter(|info| info.id == id).count();
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(found, 1, "listed once");
        };
        together(vec![
            thread!(store => (0..30).for_each(|_| store.read(id, check).unwrap())),
            thread!(store => churn(&store)),
            thread!(store => churn(&store)),
            thread!(store => list(&store)),
        ]);
        store.validate();
    });
}
