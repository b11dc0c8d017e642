//! Tokens and owners: who wins when several threads change them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use cloakroom::{
    Attributes, CreateOptions, Error, Except, ManualClock, Missing, OwnerLimit, Reason, Store,
};
use cloakroom_shuttle::{coin, explore, small, thread, together};

fn alice() -> CreateOptions {
    CreateOptions::new().owner("alice")
}

/// Of several rotations of one token just one gets through; the others learn why not.
#[test]
fn one_rotation_wins() {
    explore(3000, || {
        let store: Store = small(&ManualClock::new()).in_memory().unwrap();
        let options = if coin() { alice() } else { CreateOptions::new() };
        let id = store.create_with(Attributes::from([("n", 7.into())]), options).unwrap().id();
        let wins = Arc::new(AtomicUsize::new(0));
        let rotate = move |store: &Store, wins: &AtomicUsize| match store.rotate(id) {
            Ok(token) => {
                wins.fetch_add(1, Relaxed);
                assert_eq!(store.get(token.id()).unwrap().get_i64("n"), Some(7));
            }
            Err(Error::Missing(Missing::Ended(Reason::Rotated))) => {
                assert!(store.get(id).is_err());
            }
            Err(other) => panic!("{other}"),
        };
        together((0..3).map(|_| thread!(store, wins => rotate(&store, &wins))).collect());
        assert_eq!((wins.load(Relaxed), store.stats().live), (1, 1));
        store.validate();
    });
}

/// However a session's token changes meanwhile, its owner's sessions all end.
#[test]
fn no_rotation_slips_past_the_end_of_its_owner() {
    explore(4000, || {
        let store: Store = small(&ManualClock::new()).in_memory().unwrap();
        let id = store.create_with(Attributes::new(), alice()).unwrap().id();
        let rotate = move |store: &Store| {
            let rotated = store.rotate(id).map(|token| token.id());
            if let Ok(new) = rotated {
                let _ = store.renew(new);
            }
        };
        let end = |store: &Store| {
            assert_eq!(store.end_owner("alice", Except(None), Reason::Revoked).unwrap(), 1);
        };
        let label = move |store: &Store| drop(store.set_label(id, "Firefox"));
        together(vec![
            thread!(store => rotate(&store)),
            thread!(store => end(&store)),
            thread!(store => label(&store)),
        ]);
        assert_eq!((store.owner_count("alice"), store.stats().live), (0, 0));
        store.validate();
    });
}

/// Logins of several threads never exceed the owner's limit, nor fall short of it.
#[test]
fn the_limit_of_an_owner_is_exact() {
    explore(3000, || {
        let clock = ManualClock::new();
        let refuse = coin();
        let limit = if refuse { OwnerLimit::Refuse } else { OwnerLimit::EndOldest };
        let store: Store = small(&clock).sessions_per_owner(2, limit).in_memory().unwrap();
        let wins = Arc::new(AtomicUsize::new(0));
        let login = move |store: &Store, wins: &AtomicUsize, kind: u32| {
            let session = || store.create(Attributes::new()).unwrap().id();
            let done = match kind {
                0 => store.create_with(Attributes::new(), alice()).map(drop),
                1 => store.login(session(), "alice", "").map(drop),
                _ => store.bind(session(), "alice"),
            };
            assert!(store.owner_count("alice") <= 2);
            match done {
                Ok(()) => drop(wins.fetch_add(1, Relaxed)),
                Err(Error::OwnerFull { sessions_max: 2 }) if refuse => {}
                Err(other) => panic!("{other}"),
            }
        };
        let kinds = [0, 1, 2, 0];
        together(kinds.map(|kind| thread!(store, wins => login(&store, &wins, kind))).into());
        assert_eq!(wins.load(Relaxed), if refuse { 2 } else { kinds.len() });
        assert_eq!(store.owner_count("alice"), 2);
        store.validate();
    });
}

/// A store that is full stays within its limit, and one that may evict has room for everybody.
#[test]
fn the_limit_of_the_store_is_exact() {
    explore(2000, || {
        let clock = ManualClock::new();
        let evict = coin();
        let mut builder = small(&clock).sessions_max(3).anonymous_share(100);
        if evict {
            builder = builder.when_full(cloakroom::WhenFull::EvictLeastRecentlySeen);
        }
        let store: Store = builder.in_memory().unwrap();
        let wins = Arc::new(AtomicUsize::new(0));
        let create = move |store: &Store, wins: &AtomicUsize| {
            for _ in 0..2 {
                match store.create(Attributes::new()) {
                    Ok(_) => drop(wins.fetch_add(1, Relaxed)),
                    Err(Error::Full(_)) => {}
                    Err(other) => panic!("{other}"),
                }
                assert!(store.stats().live <= 3);
            }
        };
        together((0..3).map(|_| thread!(store, wins => create(&store, &wins))).collect());
        if !evict {
            assert_eq!(wins.load(Relaxed), 3);
        }
        assert!(store.stats().live <= 3);
        store.validate();
    });
}
