//! Events: each once, in order, with the last data; a subscriber can neither stop nor harm a store.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use cloakroom::{
    Attributes, Event, Events, Except, ManualClock, Reason, SessionId, Store, WhenFull,
};
use futures_core::Stream as _;

use crate::support::{
    Data, Stopwatch, no_hang, on_wake, owned_by, parallel, poll_once, seconds, store_with,
};

fn data(n: i64) -> Attributes {
    Attributes::from([("n", n.into())])
}

fn create(store: &Store) -> SessionId {
    store.create(data(0)).unwrap().id()
}

/// All events that wait.
fn drain(events: &Events<Data>) -> Vec<Event<Data>> {
    std::iter::from_fn(|| events.try_recv()).collect()
}

/// An event in short: its kind, its id, and what else it says.
fn short(event: &Event<Data>) -> (&'static str, SessionId, String) {
    match event {
        Event::Created { id, owner } => ("created", *id, owner.clone().unwrap_or_default()),
        Event::LoggedIn { id, owner } => ("logged in", *id, owner.clone()),
        Event::Rotated { old, new, renewed } => ("rotated", *old, format!("{new} {renewed}")),
        Event::Ended { id, reason, session } => {
            assert_eq!(session.id(), *id);
            let n = session.get_i64("n").unwrap();
            ("ended", *id, format!("{reason:?} {n} {}", session.owner().unwrap_or_default()))
        }
        Event::Suspicious { id, successor } => ("suspicious", *id, successor.to_string()),
        _ => panic!("an event of a new kind: {event:?}"),
    }
}

// An event that is told twice sends two mails, one that is lost none; an end without the last
// data cannot save the cart. Every kind and every reason comes once, in order.
#[test]
fn each_kind_comes_once_with_reason_and_last_data() {
    let clock = ManualClock::new();
    let store = store_with(|b| {
        b.clock(&clock)
            .expiry_thread(false)
            .sessions_max(3)
            .when_full(WhenFull::EvictLeastRecentlySeen)
    });
    let events = store.events();
    let one = store.create_with(data(1), owned_by("alice")).unwrap().id();
    store.replace(one, data(11)).unwrap();
    let two = store.renew(one).unwrap().id();
    clock.advance(seconds(10));
    assert!(store.read(one, |_| ()).is_err());
    let three = store.rotate(two).unwrap().id();
    store.update(three, |s| drop(s.set("n", 12))).unwrap();
    store.end(three, Reason::LoggedOut).unwrap();
    assert!(store.end(three, Reason::LoggedOut).is_err());
    let four = store.create_with(data(4), owned_by("bob")).unwrap().id();
    store.end_owner("bob", cloakroom::Except(None), Reason::Revoked).unwrap();
    let ids: Vec<_> = (5..9)
        .map(|n| {
            clock.advance(seconds(1));
            store.create_with(data(n), owned_by("carol")).unwrap().id()
        })
        .collect();
    clock.advance(seconds(3600));
    for _ in 0..3 {
        store.expire_due();
        clock.advance(seconds(1));
    }
    let told: Vec<_> = drain(&events).iter().map(short).collect();
    let mut expected = vec![
        ("created", one, "alice".to_owned()),
        ("rotated", one, format!("{two} true")),
        ("suspicious", one, two.to_string()),
        ("rotated", two, format!("{three} false")),
        ("ended", three, "LoggedOut 12 alice".to_owned()),
        ("created", four, "bob".to_owned()),
        ("ended", four, "Revoked 4 bob".to_owned()),
    ];
    expected.extend(ids[..3].iter().map(|&id| ("created", id, "carol".to_owned())));
    expected.push(("ended", ids[0], "Evicted 5 carol".to_owned()));
    expected.push(("created", ids[3], "carol".to_owned()));
    assert_eq!(told[..12], expected[..]);
    let mut expired = told[12..].to_vec();
    expired.sort();
    let mut expected: Vec<_> =
        (1..4).map(|n| ("ended", ids[n], format!("Expired {} carol", n + 5))).collect();
    expected.sort();
    assert_eq!(expired, expected);
}

// A log of logins that misses one way to log in is no log: each of the three tells the owner, at
// once and under the id that the session has from then on. Nothing else does.
#[test]
fn each_login_tells_whose_session_it_is() {
    let store = store_with(|b| b.sessions_per_owner(2, cloakroom::OwnerLimit::Refuse));
    let (one, two, three) = (create(&store), create(&store), create(&store));
    let events = store.events();
    let fresh = store.create_with(data(1), owned_by("alice")).unwrap().id();
    let new = store.login(one, "alice", "phone").unwrap().id();
    store.bind(two, "bob").unwrap();
    let renewed = store.renew(two).unwrap().id();
    let again = store.login(two, "bob", "").unwrap().id();
    let told: Vec<_> = drain(&events).iter().map(short).collect();
    let expected = [
        ("created", fresh, "alice".to_owned()),
        ("rotated", one, format!("{new} false")),
        ("logged in", new, "alice".to_owned()),
        ("logged in", two, "bob".to_owned()),
        ("rotated", two, format!("{renewed} true")),
        ("rotated", renewed, format!("{again} false")),
        ("logged in", again, "bob".to_owned()),
    ];
    assert_eq!(told, expected);
    assert!(store.login(three, "alice", "").is_err() && store.bind(three, "alice").is_err());
    assert!(store.login(new, "bob", "").is_err());
    store.rotate(new).unwrap();
    store.set_label(three, "tablet").unwrap();
    store.reauthenticated(again).unwrap();
    let told: Vec<_> = drain(&events).iter().map(|event| short(event).0).collect();
    assert_eq!(told, ["rotated"], "no login");
}

// A subscriber that does not read must neither grow nor stop the store; what it lost is counted,
// and stays counted when it leaves.
#[test]
fn a_full_queue_drops_and_counts() {
    let store = store_with(|b| b);
    let (slow, fast) = (store.events_with(10), store.events());
    for _ in 0..100 {
        create(&store);
    }
    assert_eq!((slow.dropped(), fast.dropped(), store.stats().events_dropped), (90, 0, 90));
    assert_eq!((drain(&slow).len(), drain(&fast).len()), (10, 100));
    create(&store);
    assert_eq!((drain(&slow).len(), slow.dropped()), (1, 90));
    drop(slow);
    create(&store);
    assert_eq!((store.stats().events_dropped, drain(&fast).len()), (90, 2));
    let one = store.events_with(0);
    create(&store);
    assert_eq!(drain(&one).len(), 1);
}

// A wake-up that is lost leaves a thread waiting although there is an event.
#[test]
fn blocking_receivers_wake() {
    no_hang("a receiver", || {
        let store = store_with(|b| b);
        let events = store.events();
        let (sender, received) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            for event in events {
                sender.send(short(&event).1).unwrap();
            }
        });
        for _ in 0..500 {
            let id = create(&store);
            assert_eq!(received.recv().unwrap(), id);
        }
        drop(store);
        thread.join().unwrap();
    });
}

// A timeout must end the wait, soon, also when other threads take every event away.
#[test]
fn a_timeout_ends_the_wait() {
    let store = store_with(|b| b);
    let events = store.events();
    let watch = Stopwatch::start();
    assert!(events.recv_timeout(Duration::from_millis(50)).is_none());
    assert!(watch.elapsed() >= Duration::from_millis(50));
    assert!(events.recv_timeout(Duration::ZERO).is_none());
    let id = create(&store);
    assert_eq!(short(&events.recv_timeout(Duration::MAX).unwrap()).1, id);
    let done = AtomicUsize::new(0);
    let slowest = parallel(3, |thread| {
        let mut slowest = Duration::ZERO;
        if thread == 0 {
            for _ in 0..5 {
                let watch = Stopwatch::start();
                events.recv_timeout(Duration::from_millis(30));
                slowest = slowest.max(watch.elapsed());
            }
            done.store(1, Ordering::Relaxed);
        }
        while done.load(Ordering::Relaxed) == 0 {
            if thread == 1 {
                events.try_recv();
            } else {
                create(&store);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        slowest
    });
    assert!(slowest[0] < Duration::from_millis(500), "30 ms took {:?}", slowest[0]);
}

// What was queued before the store was dropped is still told; then the iterator ends.
#[test]
fn the_iterator_ends_after_the_last_event() {
    let store = store_with(|b| b);
    let events = store.events();
    let ids: Vec<_> = (0..5).map(|_| create(&store)).collect();
    drop(store);
    assert_eq!(events.map(|event| short(&event).1).collect::<Vec<_>>(), ids);
}

// As a stream, by hand: pending while there is nothing, and the waker is called for the next
// event and for the end.
#[test]
fn the_stream_wakes_for_events_and_for_the_end() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let store = store_with(|b| b);
    let mut events = store.events();
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut poll = || Pin::new(&mut events).poll_next(&mut Context::from_waker(&waker));
    assert!(poll().is_pending() && poll().is_pending());
    let id = create(&store);
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert!(matches!(poll(), Poll::Ready(Some(Event::Created { id: told, .. })) if told == id));
    assert!(poll().is_pending());
    drop(store);
    assert_eq!(count.0.load(Ordering::Relaxed), 2);
    assert!(matches!(poll(), Poll::Ready(None)));
    assert!(matches!(poll(), Poll::Ready(None)));
}

// As a stream under tokio, fed by other threads, and cancelled by timeouts in between.
#[test]
fn the_stream_works_under_tokio() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let store = store_with(|b| b);
    let mut events = store.events();
    let told = runtime.spawn(async move {
        let mut told = 0;
        loop {
            let next = std::future::poll_fn(|context| Pin::new(&mut events).poll_next(context));
            match tokio::time::timeout(Duration::from_millis(1), next).await {
                Ok(Some(_)) => told += 1,
                Ok(None) => return told,
                Err(_) => {}
            }
        }
    });
    parallel(2, |_| {
        for round in 0..1000 {
            create(&store);
            if round % 100 == 0 {
                std::thread::sleep(Duration::from_millis(3));
            }
        }
    });
    drop(store);
    let told = runtime.block_on(async { tokio::time::timeout(seconds(10), told).await });
    assert_eq!(told.expect("the stream does not end").unwrap(), 2000);
}

// A callback under a lock deadlocks as soon as it uses the store. It ends its own session, and
// that one's end makes it create, list, watch, count and subscribe.
#[test]
fn a_callback_may_use_the_store() {
    no_hang("a callback that uses the store", || {
        let store = store_with(|b| b.shards(2));
        let (sender, received) = mpsc::channel();
        store
            .on_event(move |store, event| match event {
                Event::Created { id, owner: None } => store.end(id, Reason::Revoked).unwrap(),
                Event::Ended { id, .. } => {
                    assert!(store.end(id, Reason::Revoked).is_err());
                    let new = store.create_with(data(1), owned_by("alice")).unwrap().id();
                    store.update(new, |s| drop(s.set("n", 2))).unwrap();
                    assert!(store.owner_sessions("alice").iter().any(|info| info.id == new));
                    assert!(store.stats().live >= 1 && poll_once(&mut store.watch(id)).is_ready());
                    drop(store.events());
                    store.sessions(None, 10);
                    sender.send(store.expire_due()).unwrap();
                }
                _ => {}
            })
            .unwrap();
        for _ in 0..100 {
            create(&store);
        }
        for _ in 0..100 {
            assert_eq!(received.recv().unwrap(), 0);
        }
        assert_eq!((store.stats().anonymous, store.owner_count("alice")), (0, 100));
        store.validate();
    });
}

// A panic that ends the callback's thread silences it for good; one that poisons a lock ends the
// store. Every 7th call panics; all the others must come.
#[test]
fn a_callback_that_panics_is_called_again() {
    let store = store_with(|b| b);
    let (sender, received) = mpsc::channel();
    let mut calls = 0;
    store
        .on_event(move |_, _| {
            calls += 1;
            sender.send(calls).unwrap();
            assert!(calls % 7 != 0, "every 7th call");
        })
        .unwrap();
    for _ in 0..70 {
        create(&store);
    }
    for call in 1..=70 {
        assert_eq!(received.recv_timeout(seconds(10)), Ok(call));
    }
    create(&store);
    assert_eq!(received.recv_timeout(seconds(10)), Ok(71));
    store.validate();
}

/// Panics when it is dropped, and so does what that panic carries.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::panic_any(Bomb);
    }
}

struct PanickingWaker(AtomicUsize);

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::panic::panic_any(Bomb);
    }
}

// What a panic carries is dropped by whoever catches it. If that panics in turn, outside of what
// catches it, the thread of the callbacks is gone, or the logout that woke somebody has failed.
#[test]
fn a_panic_that_panics_again_ends_nothing() {
    let store = store_with(|b| b);
    let (sender, told) = mpsc::channel();
    store
        .on_event(move |_, event| {
            sender.send(short(&event).1).unwrap();
            std::panic::panic_any(Bomb);
        })
        .unwrap();
    let ids: Vec<_> = (0..5).map(|_| create(&store)).collect();
    for id in &ids {
        assert_eq!(told.recv_timeout(seconds(10)), Ok(*id));
    }
    let waker = Arc::new(PanickingWaker(AtomicUsize::new(0)));
    let mut watches: Vec<_> = ids.iter().map(|&id| store.watch(id)).collect();
    for watch in &mut watches {
        let waker = Waker::from(Arc::clone(&waker));
        assert!(Pin::new(watch).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    for (index, &id) in ids.iter().enumerate() {
        store.end(id, Reason::LoggedOut).unwrap();
        assert_eq!(waker.0.load(Ordering::Relaxed), index + 1);
        assert_eq!(told.recv_timeout(seconds(10)), Ok(id));
    }
    store.validate();
}

// The last handle is dropped on the callback's own thread, inside the callback: a thread that
// waits for itself hangs. Everybody else must hear of the end.
#[test]
fn the_last_handle_is_dropped_inside_a_callback() {
    no_hang("drop inside a callback", || {
        let store = store_with(|b| b);
        let events = store.events();
        let id = create(&store);
        let mut watch = store.watch(id);
        let last = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&last);
        let (sender, dropped) = mpsc::channel();
        store
            .on_event(move |store, _| {
                drop(kept.lock().unwrap().take().expect("called once more"));
                store.create(data(1)).unwrap();
                sender.send(()).unwrap();
            })
            .unwrap();
        let handle = store.clone();
        *last.lock().unwrap() = Some(store);
        let other = handle.create(data(0));
        drop(handle);
        other.unwrap();
        dropped.recv().unwrap();
        assert_eq!(events.count(), 3);
        assert_eq!(poll_once(&mut watch), Poll::Ready(Reason::Revoked));
    });
}

// A drop that waits for a callback waits as long as the callback likes. It is still inside when
// the last other handle goes; the drop returns, and the callback may use its handle to the end.
#[test]
fn the_store_is_dropped_while_a_callback_runs() {
    no_hang("drop beside a callback", || {
        let store = store_with(|b| b);
        let events = store.events();
        let (inside, entered) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let (sender, done) = mpsc::channel();
        store
            .on_event(move |store, _| {
                inside.send(()).unwrap();
                wait.recv().unwrap();
                store.create(data(1)).unwrap();
                sender.send(store.stats().live).unwrap();
            })
            .unwrap();
        create(&store);
        entered.recv().unwrap();
        drop(store);
        go.send(()).unwrap();
        assert_eq!(done.recv().unwrap(), 2);
        assert_eq!(events.count(), 2);
        // Its thread is gone, with what the closure owned.
        assert!(done.recv().is_err());
    });
}

// A subscriber that left must cost nothing and stop nobody, also when it leaves while events come.
#[test]
fn subscribers_come_and_go() {
    let store = store_with(|b| b);
    let all = store.events();
    parallel(3, |thread| {
        for _ in 0..300 {
            if thread == 0 {
                create(&store);
            } else {
                let mut events = store.events_with(4);
                events.try_recv();
                let waker = Waker::noop();
                let _ = Pin::new(&mut events).poll_next(&mut Context::from_waker(waker));
            }
        }
    });
    assert_eq!(drain(&all).len(), 300);
    let late = store.events();
    assert!(late.try_recv().is_none(), "only what happens from now on");
}

// Threads write different sessions, and end the same ones: events of one session must come in the
// order in which they happened, created first, ended last and once.
#[test]
fn events_of_one_session_come_in_order() {
    let store = store_with(|b| b.shards(16));
    let events = store.events_with(100_000);
    let shared: Vec<_> = (0..200).map(|_| create(&store)).collect();
    parallel(3, |_| {
        for &shared in &shared {
            let mut id = create(&store);
            for round in 0..4 {
                let renewed = if round % 2 == 0 { store.renew(id) } else { store.rotate(id) };
                id = renewed.unwrap().id();
            }
            let _ = store.end(shared, Reason::Revoked);
            store.end(id, Reason::LoggedOut).unwrap();
        }
    });
    // By present id: how many steps the session has behind it.
    let mut steps = HashMap::new();
    let mut ended = 0;
    for event in drain(&events) {
        match event {
            Event::Created { id, .. } => assert_eq!(steps.insert(id, 0), None),
            Event::Rotated { old, new, renewed } => {
                let step = steps.remove(&old).expect("rotated before it was there");
                assert_eq!(renewed, step % 2 == 0);
                steps.insert(new, step + 1);
            }
            Event::Ended { id, reason, .. } => {
                let step = steps.remove(&id).expect("ended before it was there, or twice");
                assert_eq!(step, if reason == Reason::Revoked { 0 } else { 4 });
                ended += 1;
            }
            _ => panic!("{event:?}"),
        }
    }
    assert_eq!((ended, steps.len(), events.dropped()), (800, 0, 0));
}

// The late use of a renewed token is told from within a lookup, wherever that stands: under an
// owner's lock in `end_owner` and `end_owned`, under a shard's in the closure of an update, also of
// one that panics or is another store's. A waker that is called there and uses the store waits for
// a lock that its own thread holds; one that is not called after it is never called.
#[test]
fn a_late_use_wakes_with_no_lock_held() {
    type Use = fn(&Store, SessionId, SessionId);
    let uses: [Use; 5] = [
        |s, old, _| {
            s.end_owner("alice", Except(Some(old)), Reason::Revoked).unwrap();
        },
        |s, old, _| assert!(!s.end_owned("alice", old, Reason::Revoked).unwrap()),
        |s, old, new| s.update(new, |_| assert!(s.peek(old, |_| ()).is_err())).unwrap(),
        |s, old, new| {
            let panics = || s.update::<()>(new, |_| panic!("in vain: {:?}", s.touch(old)));
            catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
        },
        |s, old, _| {
            let other = store_with(|b| b);
            other.update(create(&other), |_| assert!(s.get(old).is_err())).unwrap();
        },
    ];
    for late_use in uses {
        no_hang("a waker that is told of a late use", move || {
            let clock = ManualClock::new();
            let store = store_with(|b| b.clock(&clock).expiry_thread(false).shards(2));
            let old = store.create_with(data(0), owned_by("alice")).unwrap().id();
            let new = store.renew(old).unwrap().id();
            clock.advance(seconds(11));
            let woken = Arc::new(AtomicUsize::new(0));
            let waker = on_wake({
                let (store, woken) = (store.clone(), Arc::clone(&woken));
                move || {
                    store.owner_count("alice");
                    assert!(store.stats().suspicious > 0);
                    woken.fetch_add(1, Ordering::Relaxed);
                }
            });
            let mut events = store.events();
            let polled = Pin::new(&mut events).poll_next(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            late_use(&store, old, new);
            assert_eq!(woken.load(Ordering::Relaxed), 1);
            let told = events.try_recv().map(|event| short(&event));
            assert_eq!(told, Some(("suspicious", old, new.to_string())));
            store.validate();
        });
    }
}
