//! Data writes of several threads: none is lost.

use cloakroom::{Attributes, Changes, ManualClock, Store};
use cloakroom_shuttle::{explore, small, thread, together};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// N threads that each add 1 M times through `update` make N * M.
#[test]
fn no_update_is_lost() {
    explore(4000, || {
        let store: Store = small(&ManualClock::new()).in_memory().unwrap();
        let id = store.create(Attributes::new()).unwrap().id();
        let add = move |store: &Store| {
            for _ in 0..3 {
                let add = |data: &mut Attributes| {
                    let next = data.get("n").and_then(|n| n.as_i64()).unwrap_or(0) + 1;
                    data.set("n", next);
                };
                store.update(id, add).unwrap();
            }
        };
        together((0..3).map(|_| thread!(store => add(&store))).collect());
        let end = store.get(id).unwrap();
        assert_eq!(end.get_i64("n"), Some(9));
        assert_eq!(end.version().to_string(), "10");
        store.validate();
    });
}

/// Patches of different keys all survive, from whatever version they were made.
#[test]
fn patches_of_different_keys_survive() {
    explore(2000, || {
        let store: Store = small(&ManualClock::new()).in_memory().unwrap();
        let id = store.create(Attributes::new()).unwrap().id();
        let patch = move |store: &Store, name: &'static str| {
            for value in 1..=2_i64 {
                let loaded = store.get(id).unwrap();
                let base = loaded.to_data().unwrap();
                let mut changed = base.clone();
                changed.set(name, value);
                let changes = Changes::between(&base, &changed);
                store.patch(id, loaded.version(), &changes).unwrap();
            }
        };
        together(NAMES.map(|name| thread!(store => patch(&store, name))).into());
        let end = store.get(id).unwrap();
        for name in NAMES {
            assert_eq!(end.get_i64(name), Some(2), "{name}");
        }
        store.validate();
    });
}

/// Of several writes that name the same version just one gets through.
#[test]
fn one_replacement_wins() {
    explore(2000, || {
        let store: Store = small(&ManualClock::new()).in_memory().unwrap();
        let id = store.create(Attributes::new()).unwrap().id();
        let seen = store.get(id).unwrap().version();
        let wins = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let replace = move |store: &Store, wins: &std::sync::atomic::AtomicU32| {
            if store.replace_if(id, seen, Attributes::from([("n", 1.into())])).is_ok() {
                wins.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        };
        together((0..3).map(|_| thread!(store, wins => replace(&store, &wins))).collect());
        assert_eq!(wins.load(std::sync::atomic::Ordering::Relaxed), 1);
        store.validate();
    });
}
