//! How sessions end: once, for one reason, and everybody who waits hears of it.

use std::collections::HashMap;
use std::future::Future as _;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use cloakroom::{
    Attributes, CreateOptions, Event, Except, ManualClock, Missing, Reason, SessionId, Store,
};
use cloakroom_shuttle::{IDLE, coin, explore, small, thread, together};
use shuttle::future::block_on;
use shuttle::rand::{Rng as _, thread_rng};

/// A session whose deadline comes while it is touched, ended and bound ends once, or lives on.
#[test]
fn a_deadline_among_other_writes() {
    explore(5000, || {
        let clock = ManualClock::new();
        let store: Store = small(&clock).in_memory().unwrap();
        let owned: bool = coin();
        let options = CreateOptions::new();
        let options = if owned { options.owner("alice") } else { options };
        let id = store.create_with(Attributes::new(), options).unwrap().id();
        let events = store.events();
        clock.advance(IDLE - Duration::from_secs(5));
        let expire = |store: &Store, clock: &ManualClock| {
            clock.advance(Duration::from_secs(10));
            store.expire_due();
        };
        let touch = move |store: &Store| {
            let _ = store.touch(id);
        };
        let bind = move |store: &Store| drop(store.bind(id, "alice"));
        let end = move |store: &Store| drop(store.end(id, Reason::LoggedOut));
        let mut threads = vec![
            thread!(store, clock => expire(&store, &clock)),
            thread!(store => touch(&store)),
            thread!(store => bind(&store)),
        ];
        if coin() {
            threads.push(thread!(store => end(&store)));
        }
        together(threads);
        let expired_late = store.expire_due();
        let lives = store.peek(id, |_| ()).is_ok();
        let reasons: Vec<_> = std::iter::from_fn(|| events.try_recv())
            .filter_map(|event| match event {
                Event::Ended { reason, .. } => Some(reason),
                _ => None,
            })
            .collect();
        assert_eq!(reasons.len(), usize::from(!lives), "{reasons:?}, {expired_late} later");
        if let [reason] = reasons[..] {
            assert_eq!(store.peek(id, |_| ()), Err(Missing::Ended(reason)));
        }
        assert_eq!(store.owner_count("alice") as u64, store.stats().authenticated);
        store.validate();
    });
}

/// A watch resolves, whatever ends the session, and with its reason.
#[test]
fn a_watch_always_resolves() {
    explore(5000, || {
        let clock = ManualClock::new();
        let store: Store = small(&clock).in_memory().unwrap();
        let id = store.create_with(Attributes::new(), CreateOptions::new().owner("alice"));
        let id = id.unwrap().id();
        let kind = thread_rng().gen_range(0..5);
        let watch = move |store: &Store| {
            let watch = store.watch(id);
            if coin() {
                // A task that another executor polled first.
                let mut watch = pin!(watch);
                let _ = watch.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                block_on(watch)
            } else {
                block_on(watch)
            }
        };
        let reasons: Arc<Mutex<Vec<Reason>>> = Arc::default();
        // The mutex is std's: no thread may hold it where another one gets its turn.
        let wait = move |store: &Store, reasons: &Mutex<Vec<Reason>>| {
            let reason = watch(store);
            reasons.lock().unwrap().push(reason);
        };
        let mut threads: Vec<_> =
            (0..2).map(|_| thread!(store, reasons => wait(&store, &reasons))).collect();
        let end = move |store: &Store, clock: &ManualClock| match kind {
            0 => store.end(id, Reason::LoggedOut).unwrap(),
            1 => drop(store.rotate(id).unwrap()),
            2 => drop(store.end_owner("alice", Except(None), Reason::LoggedOut).unwrap()),
            3 => {
                clock.advance(IDLE);
                store.expire_due();
            }
            _ => {
                let new = store.renew(id).unwrap().id();
                store.end(new, Reason::LoggedOut).unwrap();
            }
        };
        threads.push(thread!(store, clock => end(&store, &clock)));
        together(threads);
        let reason = match kind {
            1 => Reason::Rotated,
            3 => Reason::Expired,
            _ => Reason::LoggedOut,
        };
        assert_eq!(*reasons.lock().unwrap(), [reason; 2]);
        assert_eq!(store.stats().watched, 0);
        store.validate();
    });
}

/// A store that goes away resolves its watches and ends its events.
#[test]
fn a_closed_store_lets_everybody_go() {
    explore(2000, || {
        let store: Store = small(&ManualClock::new()).in_memory().unwrap();
        let id = store.create(Attributes::new()).unwrap().id();
        let watch = store.watch(id);
        let events = store.events();
        let threads = vec![
            shuttle::thread::spawn(move || assert_eq!(block_on(watch), Reason::Revoked)),
            shuttle::thread::spawn(move || assert_eq!(events.count(), 1)),
            shuttle::thread::spawn(move || drop(store.create(Attributes::new()).unwrap())),
        ];
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// A watch that is dropped while its session moves leaves nothing behind.
#[test]
fn a_dropped_watch_is_forgotten() {
    explore(5000, || {
        let store: Store = small(&ManualClock::new()).in_memory().unwrap();
        let id = store.create(Attributes::new()).unwrap().id();
        let (dropped, kept) = (store.watch(id), store.watch(id));
        let ends: bool = coin();
        let renew = move |store: &Store| {
            let new = store.renew(id).unwrap().id();
            if ends {
                store.end(new, Reason::LoggedOut).unwrap();
            }
        };
        let expected = if ends { Reason::LoggedOut } else { Reason::Revoked };
        let waits = shuttle::thread::spawn(move || assert_eq!(block_on(kept), expected));
        together(vec![Box::new(move || drop(dropped)), thread!(store => renew(&store))]);
        assert_eq!(store.stats().watched, u64::from(!ends));
        store.validate();
        drop(store);
        waits.join().unwrap();
    });
}

/// What one subscriber hears: each session's beginning and end once, in this order.
fn listen(events: cloakroom::Events<Attributes>) -> (usize, usize) {
    let mut lives: HashMap<SessionId, bool> = HashMap::new();
    for event in events {
        match event {
            Event::Created { id, .. } => assert_eq!(lives.insert(id, true), None, "created again"),
            Event::Rotated { old, new, .. } => {
                assert_eq!(lives.insert(old, false), Some(true), "rotated what was not there");
                assert_eq!(lives.insert(new, true), None, "rotated to what was there");
            }
            Event::Ended { id, .. } => {
                assert_eq!(lives.insert(id, false), Some(true), "ended what was not there");
            }
            _ => {}
        }
    }
    (lives.len(), lives.values().filter(|lives| **lives).count())
}

/// Each event is told once to each subscriber, those of one session in order.
#[test]
fn events_are_told_once() {
    explore(4000, || {
        let clock = ManualClock::new();
        let store: Store = small(&clock).in_memory().unwrap();
        let listeners: Vec<_> = (0..2)
            .map(|_| {
                let events = store.events();
                shuttle::thread::spawn(move || listen(events))
            })
            .collect();
        let shared: Arc<Mutex<Vec<SessionId>>> = Arc::default();
        let work = |store: &Store, clock: &ManualClock, shared: &Mutex<Vec<SessionId>>| {
            for _ in 0..3 {
                let any = |ids: &Vec<SessionId>| ids.get(thread_rng().gen_range(0..4)).copied();
                let id = any(&shared.lock().unwrap());
                match (thread_rng().gen_range(0..6), id) {
                    (0, Some(id)) => drop(store.end(id, Reason::LoggedOut)),
                    (1, Some(id)) => drop(store.rotate(id)),
                    (2, Some(id)) => drop(store.renew(id)),
                    (3, _) => {
                        clock.advance(IDLE / 2);
                        store.expire_due();
                    }
                    (4, _) => drop(store.end_owner("alice", Except(None), Reason::Revoked)),
                    _ => {
                        let options = CreateOptions::new().owner("alice");
                        let id = store.create_with(Attributes::new(), options).unwrap().id();
                        shared.lock().unwrap().push(id);
                    }
                }
            }
        };
        let threads =
            (0..3).map(|_| thread!(store, clock, shared => work(&store, &clock, &shared)));
        together(threads.collect());
        let stats = store.stats();
        store.validate();
        drop(store);
        for listener in listeners {
            let (seen, alive) = listener.join().unwrap();
            assert_eq!(alive as u64, stats.live);
            assert!(seen as u64 >= stats.created);
        }
    });
}
