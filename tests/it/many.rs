//! `Store::read_many` shows what as many single reads would.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cloakroom::{Attributes, ManualClock, Missing, Reason, SessionId, Store};

use crate::support::{seconds, store_with};

fn with_clock() -> (Store, ManualClock) {
    let clock = ManualClock::new();
    let store = store_with(|b| {
        b.clock(&clock).expiry_thread(false).idle_timeout(seconds(600)).grace(seconds(60))
    });
    (store, clock)
}

fn number(session: &cloakroom::ArchivedAttributes) -> i64 {
    session.get_i64("number").unwrap()
}

fn create(store: &Store, number: i64) -> SessionId {
    store.create(Attributes::from([("number", number.into())])).unwrap().id()
}

fn read_many(store: &Store, ids: &[SessionId]) -> Vec<Result<i64, Missing>> {
    let mut all = Vec::new();
    store.read_many(ids, |index, found| {
        assert_eq!(index, all.len(), "in the order of the ids");
        all.push(found.map(number));
    });
    all
}

// Sessions of every kind in every place of a batch: what the batch asks for beforehand must not
// change what is shown.
#[test]
fn many_reads_are_as_many_single_ones() {
    let (store, clock) = with_clock();
    let old = create(&store, 0);
    clock.advance(seconds(590));
    let mut ids = vec![old];
    for number in 1..200 {
        let id = create(&store, number);
        match number % 7 {
            0 => store.end(id, Reason::LoggedOut).unwrap(),
            1 => drop(store.renew(id).unwrap()),
            2 => drop(store.rotate(id).unwrap()),
            3 => ids.push(SessionId::from(uuid::Uuid::from_u128(number as u128))),
            4 => ids.push(ids[number as usize / 2]),
            _ => {}
        }
        ids.push(id);
    }
    clock.advance(seconds(20));
    let single = |id: &SessionId| store.read(*id, number);
    let expected: Vec<_> = ids.iter().map(single).collect();
    assert_eq!(expected[0], Err(Missing::Ended(Reason::Expired)));
    for missing in [Missing::Unknown, Missing::Ended(Reason::LoggedOut)] {
        assert!(expected.contains(&Err(missing)), "{missing}");
    }
    for len in [0, 1, 15, 16, 17, 32, 33, ids.len()] {
        assert_eq!(read_many(&store, &ids[..len]), expected[..len], "{len}");
        let rest = ids.len() - len;
        assert_eq!(read_many(&store, &ids[rest..]), expected[rest..], "{len}");
    }
}

#[test]
fn many_reads_count_as_activity_and_as_lookups() {
    let (store, clock) = with_clock();
    let ids: Vec<_> = (0..40).map(|number| create(&store, number)).collect();
    for _ in 0..3 {
        clock.advance(seconds(500));
        read_many(&store, &ids);
    }
    let before = store.stats();
    assert!(read_many(&store, &ids).iter().all(Result::is_ok));
    clock.advance(seconds(700));
    assert!(read_many(&store, &ids).iter().all(Result::is_err));
    let stats = store.stats();
    assert_eq!((stats.hits - before.hits, stats.misses - before.misses), (40, 40));
}

// The closure is the caller's: it may use the store, end what is still to come, and panic.
#[test]
fn the_closure_may_use_the_store_and_panic() {
    let (store, _) = with_clock();
    let ids: Vec<_> = (0..20).map(|number| create(&store, number)).collect();
    let mut shown = 0;
    store.read_many(&ids, |index, found| match index {
        0 => store.end(ids[1], Reason::Revoked).unwrap(),
        1 => assert_eq!(found.err(), Some(Missing::Ended(Reason::Revoked))),
        _ => {
            shown += 1;
            assert_eq!(store.read(ids[index], number), found.map(number));
        }
    });
    assert_eq!(shown, 18);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        store.read_many(&ids, |index, _| assert!(index < 3, "as it must"));
    }));
    assert!(panicked.is_err());
    assert_eq!(read_many(&store, &ids[2..]).len(), 18);
    store.update(ids[2], |session| session.set("number", 7)).unwrap();
    assert_eq!(read_many(&store, &ids[2..3]), [Ok(7)]);
}
