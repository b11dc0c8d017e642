//! `Store::watch`: each watch resolves once, with the reason, whatever ends its session.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cloakroom::{Attributes, Except, ManualClock, OwnerLimit, Reason, SessionId, Store, Watch};
use cloakroom::{CreateOptions, WhenFull};

use crate::support::{
    alone, no_hang, on_wake, owned_by, poll_once, resident_bytes, seconds, store_with,
};

/// A watch that has a waker, and what wakes it is counted.
fn polled(store: &Store, id: SessionId, waker: &Waker) -> Watch {
    let mut watch = store.watch(id);
    assert_eq!(Pin::new(&mut watch).poll_with(waker), Poll::Pending);
    watch
}

trait PollWith {
    fn poll_with(self, waker: &Waker) -> Poll<Reason>;
}

impl PollWith for Pin<&mut Watch> {
    fn poll_with(self, waker: &Waker) -> Poll<Reason> {
        Future::poll(self, &mut Context::from_waker(waker))
    }
}

/// A waker that counts how often it is called.
fn counting(woken: &Arc<AtomicUsize>) -> Waker {
    let woken = Arc::clone(woken);
    on_wake(move || {
        woken.fetch_add(1, Ordering::Relaxed);
    })
}

fn create(store: &Store) -> SessionId {
    store.create(Attributes::new()).unwrap().id()
}

// A way to end a session that forgets its watches leaves a socket open after the logout.
#[test]
fn each_way_to_end_resolves_with_its_reason() {
    type End = fn(&Store, SessionId, &ManualClock);
    let ways: [(Reason, End); 10] = [
        (Reason::LoggedOut, |s, id, _| s.end(id, Reason::LoggedOut).unwrap()),
        (Reason::Revoked, |s, id, _| s.end(id, Reason::Revoked).unwrap()),
        (Reason::Revoked, |s, _, _| {
            s.end_owner("alice", Except(None), Reason::Revoked).unwrap();
        }),
        (Reason::LoggedOut, |s, _, _| {
            s.end_all(Reason::LoggedOut).unwrap();
        }),
        (Reason::Expired, |s, _, clock| {
            clock.advance(seconds(3600));
            s.expire_due();
            clock.advance(seconds(1));
            s.expire_due();
        }),
        (Reason::Rotated, |s, id, _| drop(s.rotate(id).unwrap())),
        (Reason::Rotated, |s, id, _| drop(s.login(id, "alice", "again").unwrap())),
        (Reason::Revoked, |s, _, _| {
            s.create_with(Attributes::new(), owned_by("alice")).unwrap();
        }),
        (Reason::Evicted, |s, _, _| {
            s.create_with(Attributes::new(), owned_by("bob")).unwrap();
            s.create_with(Attributes::new(), owned_by("carol")).unwrap();
        }),
        (Reason::Expired, |s, id, clock| {
            s.set_timeouts(id, Duration::ZERO, seconds(60)).unwrap();
            s.expire_due();
            clock.advance(seconds(1));
            s.expire_due();
        }),
    ];
    for (index, (reason, end)) in ways.into_iter().enumerate() {
        let clock = ManualClock::new();
        let store = store_with(|b| {
            b.clock(&clock)
                .expiry_thread(false)
                .sessions_per_owner(1, OwnerLimit::EndOldest)
                .sessions_max(2)
                .when_full(WhenFull::EvictLeastRecentlySeen)
        });
        let id = store.create_with(Attributes::new(), owned_by("alice")).unwrap().id();
        clock.advance(seconds(5));
        let woken = Arc::new(AtomicUsize::new(0));
        let waker = counting(&woken);
        let mut watch = polled(&store, id, &waker);
        assert_eq!(store.stats().watched, 1);
        end(&store, id, &clock);
        assert_eq!(poll_once(&mut watch), Poll::Ready(reason), "way {index}");
        assert_eq!((woken.load(Ordering::Relaxed), store.stats().watched), (1, 0), "way {index}");
        assert_eq!(poll_once(&mut store.watch(id)), Poll::Ready(reason), "way {index}");
        drop(watch);
        store.validate();
    }
}

// A watch of an id that nobody has must not wait for ever.
#[test]
fn a_watch_of_no_session_resolves_at_once() {
    let store = store_with(|b| b);
    let foreign = SessionId::from(uuid::Uuid::from_u128(7));
    assert_eq!(poll_once(&mut store.watch(foreign)), Poll::Ready(Reason::Expired));
    assert_eq!(store.stats().watched, 0);
}

// A renewal is no end: a watch that stays at the old id never hears of the logout. Watches of
// both tokens, made before and after, follow a chain of renewals.
#[test]
fn a_watch_follows_renewals_to_the_end() {
    let store = store_with(|b| b);
    let mut id = create(&store);
    let mut watches = vec![store.watch(id)];
    for _ in 0..5 {
        let next = store.renew(id).unwrap().id();
        watches.push(store.watch(next));
        watches.push(store.watch(id));
        id = next;
        assert!(watches.iter_mut().all(|watch| poll_once(watch) == Poll::Pending));
        assert_eq!(store.stats().watched, watches.len() as u64);
    }
    drop(watches.split_off(6));
    store.update(id, |s| drop(s.set("still", "here"))).unwrap();
    store.bind(id, "alice").unwrap();
    assert!(watches.iter_mut().all(|watch| poll_once(watch) == Poll::Pending));
    let new = store.rotate(id).unwrap().id();
    assert!(watches.iter_mut().all(|watch| poll_once(watch) == Poll::Ready(Reason::Rotated)));
    assert!(store.peek(new, |_| ()).is_ok());
    assert_eq!(store.stats().watched, 0);
}

// A channel per watch makes 100,000 open sockets dear. Each is polled, so that each has a waker;
// one that is left behind never resolves.
#[cfg(target_os = "linux")]
#[test]
fn a_hundred_thousand_watches_are_cheap_and_all_resolve() {
    const COUNT: usize = 100_000;
    if !alone("watch::a_hundred_thousand_watches_are_cheap_and_all_resolve") {
        return;
    }
    let store = store_with(|b| b);
    let ids: Vec<_> = (0..COUNT).map(|_| create(&store)).collect();
    let woken = Arc::new(AtomicUsize::new(0));
    let waker = counting(&woken);
    let before = resident_bytes();
    let mut watches = Vec::with_capacity(COUNT);
    watches.extend(ids.iter().map(|&id| polled(&store, id, &waker)));
    let each = resident_bytes().saturating_sub(before) / COUNT as u64;
    assert!(each < 400, "{each} bytes per watch");
    assert_eq!(store.stats().watched, COUNT as u64);
    assert_eq!(store.end_all(Reason::Revoked).unwrap(), COUNT);
    assert_eq!((woken.load(Ordering::Relaxed), store.stats().watched), (COUNT, 0));
    for watch in &mut watches {
        assert_eq!(poll_once(watch), Poll::Ready(Reason::Revoked));
    }
    println!("{each} bytes per watch");
}

// A waker that is called under a lock deadlocks when its task uses the store at once. It ends
// another session, whose waker ends a third one, and so on; then lists and creates.
#[test]
fn a_waker_may_use_the_store() {
    no_hang("a waker that ends another session", || {
        let store = store_with(|b| b.shards(2));
        let ids: Vec<_> = (0..20).map(|_| create(&store)).collect();
        let done = Arc::new(AtomicUsize::new(0));
        let mut watches = Vec::new();
        for (index, &id) in ids.iter().enumerate() {
            let (store, done, next) = (store.clone(), Arc::clone(&done), ids.get(index + 1));
            let next = next.copied();
            let handle = store.clone();
            let waker = on_wake(move || {
                if let Some(next) = next {
                    store.end(next, Reason::Revoked).unwrap();
                }
                store.create_with(Attributes::new(), owned_by("alice")).unwrap();
                assert!(!store.owner_sessions("alice").is_empty());
                store.stats();
                drop(store.watch(id));
                done.fetch_add(1, Ordering::Relaxed);
            });
            watches.push(polled(&handle, id, &waker));
        }
        store.end(ids[0], Reason::LoggedOut).unwrap();
        assert_eq!(done.load(Ordering::Relaxed), 20);
        assert_eq!(poll_once(&mut watches[0]), Poll::Ready(Reason::LoggedOut));
        assert_eq!(poll_once(&mut watches[19]), Poll::Ready(Reason::Revoked));
        store.validate();
    });
}

// `select!` drops its other branches once one of them is ready, perhaps within the waker. Watches
// of the same session, or of one that ended in the same call, are then out of their list, and a
// drop that looks for its slot until it has ended looks for ever.
#[test]
fn a_waker_may_drop_the_watches_beside_it() {
    type End = fn(&Store, SessionId, &ManualClock);
    let ways: [End; 6] = [
        |s, id, _| s.end(id, Reason::LoggedOut).unwrap(),
        |s, _, _| {
            s.end_owner("alice", Except(None), Reason::Revoked).unwrap();
        },
        |s, _, _| {
            s.end_all(Reason::Revoked).unwrap();
        },
        |s, id, _| drop(s.rotate(id).unwrap()),
        |s, id, _| drop(s.login(id, "alice", "again").unwrap()),
        |s, _, clock| {
            clock.advance(seconds(3600));
            s.expire_due();
            clock.advance(seconds(1));
            s.expire_due();
        },
    ];
    for end in ways {
        no_hang("a waker that drops other watches", move || {
            let clock = ManualClock::new();
            let store = store_with(|b| b.clock(&clock).expiry_thread(false).shards(2));
            let alice = || store.create_with(Attributes::new(), owned_by("alice")).unwrap().id();
            let ids = [alice(), alice()];
            let others = Arc::new(Mutex::new(Vec::new()));
            let drops = Arc::clone(&others);
            let waker = on_wake(move || drop(std::mem::take(&mut *drops.lock().unwrap())));
            let mut first = ids.map(|id| polled(&store, id, &waker));
            others.lock().unwrap().extend(ids.iter().chain(&ids).map(|&id| store.watch(id)));
            end(&store, ids[0], &clock);
            assert!(poll_once(&mut first[0]).is_ready());
            drop(first);
            drop(std::mem::take(&mut *others.lock().unwrap()));
            assert_eq!(store.stats().watched, 0);
            store.validate();
        });
    }
}

fn panicking() -> Waker {
    on_wake(|| panic!("a waker that panics"))
}

// A panic of one task's waker must not lose the others' wake-ups, nor the session's end. Of three
// watches of one session each in turn has the waker that panics.
#[test]
fn a_waker_that_panics_loses_nobody_elses_wake_up() {
    for bad in 0..3 {
        no_hang("a watch beside one whose waker panics", move || {
            let store = store_with(|b| b.shards(2));
            let id = create(&store);
            let waker = |n| if n == bad { panicking() } else { Waker::noop().clone() };
            let mut watches: Vec<_> = (0..3).map(|n| polled(&store, id, &waker(n))).collect();
            let events = store.events();
            let _ = catch_unwind(AssertUnwindSafe(|| store.end(id, Reason::LoggedOut)));
            assert!(store.peek(id, |_| ()).is_err());
            for (n, watch) in watches.iter_mut().enumerate() {
                let resolved = poll_once(watch);
                if resolved != Poll::Ready(Reason::LoggedOut) {
                    // Dropping it would look for its place for ever.
                    std::mem::take(&mut watches).into_iter().for_each(std::mem::forget);
                    panic!("watch {n} is {resolved:?} when that of {bad} panics");
                }
            }
            assert!(events.recv_timeout(seconds(5)).is_some());
            create(&store);
            store.validate();
        });
    }
}

// The expiry thread wakes tasks, too: if it dies of a panic, nothing expires any more.
#[test]
fn the_expiry_thread_survives_a_waker_that_panics() {
    let store = store_with(|b| b.idle_timeout(Duration::from_millis(200)));
    let first = create(&store);
    let watch = polled(&store, first, &panicking());
    let events = store.events();
    assert!(events.recv_timeout(seconds(5)).is_some());
    create(&store);
    let told: Vec<_> = (0..2).map(|_| events.recv_timeout(seconds(3)).is_some()).collect();
    std::mem::forget(watch);
    assert_eq!(told, [true, true], "created and expired");
    assert_eq!(store.stats().live, 0);
}

// A watch that was never polled, or whose session ended before, leaves its slot behind.
#[test]
fn a_dropped_watch_leaves_no_slot() {
    let store = store_with(|b| b);
    let id = create(&store);
    drop(store.watch(id));
    assert_eq!(store.stats().watched, 0);
    let (one, two) = (store.watch(id), store.watch(id));
    drop(one);
    assert_eq!(store.stats().watched, 1);
    let new = store.renew(id).unwrap().id();
    drop(two);
    assert_eq!(store.stats().watched, 0);
    let late = store.watch(new);
    store.end(new, Reason::LoggedOut).unwrap();
    drop(late);
    assert_eq!(store.stats().watched, 0);
    store.validate();
}

// Renewals move a watch to another id while it is dropped: it must neither be left behind nor
// looked for without end.
#[test]
fn watches_are_dropped_while_their_session_is_renewed() {
    no_hang("drop of a watch during renewals", || {
        let store = store_with(|b| b.shards(16));
        let id = Mutex::new(create(&store));
        crate::support::parallel(3, |thread| {
            for _ in 0..1000 {
                let now = *id.lock().unwrap();
                if thread == 0 {
                    *id.lock().unwrap() = store.renew(now).unwrap().id();
                } else {
                    let mut watch = store.watch(now);
                    let _ = poll_once(&mut watch);
                }
            }
        });
        assert_eq!(store.stats().watched, 0);
        store.validate();
    });
}

// Who waits for a session of a store that is dropped would wait for ever.
#[test]
fn a_watch_that_outlives_its_store_resolves() {
    let store = store_with(|b| b);
    let (one, two) = (create(&store), create(&store));
    let woken = Arc::new(AtomicUsize::new(0));
    let waker = counting(&woken);
    let mut polled = polled(&store, one, &waker);
    let mut unpolled = store.watch(two);
    drop(store);
    assert_eq!(woken.load(Ordering::Relaxed), 1);
    assert_eq!(poll_once(&mut polled), Poll::Ready(Reason::Revoked));
    assert_eq!(poll_once(&mut unpolled), Poll::Ready(Reason::Revoked));
}

// `select!` drops the branch that loses: ten thousand requests that end before the session does
// must leave no slot and no waker.
#[test]
fn cancelled_watches_leave_nothing() {
    let store = store_with(|b| b);
    let options = CreateOptions::new().lifetime(Duration::MAX).idle_timeout(Duration::MAX);
    let id = store.create_with(Attributes::new(), options).unwrap().id();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    for _ in 0..2500 {
                        tokio::select! {
                            biased;
                            reason = store.watch(id) => panic!("resolved: {reason}"),
                            () = tokio::task::yield_now() => {}
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(store.stats().watched, 0);
        let waits = tokio::spawn(store.watch(id));
        store.end(id, Reason::LoggedOut).unwrap();
        assert_eq!(waits.await.unwrap(), Reason::LoggedOut);
    });
    store.validate();
}
