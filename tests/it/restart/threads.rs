//! Many threads at work while another brings sessions into memory.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use cloakroom::{Except, Load, Missing, Reason, SessionId, Store};

use super::{data, filled, n_of, small, unloaded};
use crate::support::{full, owned_by, parallel};

const THREADS: usize = 8;

/// What one session has to be at the end.
#[derive(Clone, Copy)]
struct Expected {
    id: SessionId,
    n: Option<i64>,
}

/// Each thread works on sessions of its own, in another order than the file's, and all of them on
/// one. Nothing is lost, nothing counted twice, and what ended stays so: then, and after a restart.
#[test]
fn nothing_is_lost_while_sessions_are_brought() {
    let rounds = if full() { 20 } else { 2 };
    for round in 0..rounds {
        let count = 16_000;
        let (directory, ids) = filled(&format!("restart-threads-{round}"), small(), |store| {
            (0..count)
                .map(|n| {
                    let owned = n % 4 == 0;
                    let token = match owned {
                        true => store.create_with(data(n), owned_by(&format!("user{}", n % 1000))),
                        false => store.create(data(n)),
                    };
                    token.unwrap().id()
                })
                .collect::<Vec<_>>()
        });
        let store: Store = small().loader_thread(false).open(&directory.0).unwrap();
        assert_eq!(store.recovery().unwrap().in_memory, 0);
        let shared = ids[0];
        let is_over = AtomicBool::new(false);
        let expected: Vec<Vec<Expected>> = std::thread::scope(|scope| {
            scope.spawn(|| {
                // As the thread of a store does, but slower, so that it is on its way all the time.
                while store.load_some(40).unwrap() && !is_over.load(Relaxed) {
                    std::thread::yield_now();
                }
            });
            let work = |thread: usize| {
                let mut own: Vec<_> = ids
                    .iter()
                    .enumerate()
                    .skip(1)
                    .filter(|(n, _)| n % THREADS == thread)
                    .map(|(n, &id)| Expected { id, n: Some(n as i64) })
                    .collect();
                let len = own.len();
                for step in 0..len {
                    let at = (step * 7919 + round) % len;
                    work_on(&store, &mut own[at], step);
                    if step % 8 == 0 {
                        store.update(shared, |s| s.set("n", s.get_i64("n").unwrap() + 1)).unwrap();
                    }
                }
                own
            };
            let expected = parallel(THREADS, work);
            is_over.store(true, Relaxed);
            expected
        });
        let adds = expected.iter().map(|own| own.len().div_ceil(8) as i64).sum::<i64>();
        let check = |store: &Store| {
            assert_eq!(n_of(store, shared), Ok(adds));
            for Expected { id, n } in expected.iter().flatten() {
                match n {
                    Some(n) => assert_eq!(n_of(store, *id), Ok(*n)),
                    None => assert!(n_of(store, *id).is_err(), "{id} is back"),
                }
            }
            let live = 1 + expected.iter().flatten().filter(|e| e.n.is_some()).count() as u64;
            assert_eq!(store.stats().live, live);
        };
        check(&store);
        store.validate();
        assert_eq!(unloaded(&store), 0);
        check(&store);
        store.close().unwrap();
        for load in [Load::Mapped, Load::Whole] {
            let store: Store = small().load(load).open(&directory.0).unwrap();
            check(&store);
            store.validate();
        }
    }
}

fn work_on(store: &Store, own: &mut Expected, step: usize) {
    let id = own.id;
    match step % 7 {
        0 => {
            store.end(id, Reason::LoggedOut).unwrap();
            own.n = None;
        }
        1 => {
            own.id = store.rotate(id).unwrap().id();
            assert_eq!(n_of(store, id), Err(Missing::Ended(Reason::Rotated)));
        }
        2 => {
            own.id = store.renew(id).unwrap().id();
            assert_eq!(n_of(store, id), Ok(own.n.unwrap()));
        }
        3 => {
            store.replace(id, data(5)).unwrap();
            own.n = Some(5);
        }
        4 => {
            let owner = store.owner(id).unwrap();
            if let Some(owner) = owner {
                assert!(store.owner_sessions(&owner).iter().any(|info| info.id == id));
                assert!(store.owner_count(&owner) > 0);
            } else {
                let owner = format!("mine-{id}");
                own.id = store.login(id, &owner, "").unwrap().id();
                assert_eq!(
                    store.end_owner(&owner, Except(Some(own.id)), Reason::Revoked).unwrap(),
                    0
                );
            }
        }
        5 => {
            let n = store.update(id, |s| {
                let n = s.get_i64("n").unwrap() + 1;
                s.set("n", n);
                n
            });
            own.n = Some(n.unwrap());
        }
        _ => assert_eq!(n_of(store, id), Ok(own.n.unwrap())),
    }
}
