//! One short test for each bug that `tests/seeded/run` puts into the crate: together the promises
//! that matter most, each provoked without chance. The runner compiles this file alone with the
//! crate, so it uses nothing of the other modules.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::future::Future as _;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use cloakroom::{
    Attributes, Builder, CreateOptions, Error, Event, ManualClock, Missing, Reason, Store, Token,
    WhenFull,
};

/// Two shards, a clock that is moved by hand, and no expiry but where a test calls it.
fn quiet(clock: &ManualClock) -> Builder<Attributes> {
    Store::builder().clock(clock).expiry_thread(false).shards(2).anonymous_share(100)
}

fn quiet_store() -> (ManualClock, Store) {
    let clock = ManualClock::new();
    let store = quiet(&clock).in_memory().unwrap();
    (clock, store)
}

fn numbered(number: i64) -> Attributes {
    Attributes::from([("number", number.into())])
}

fn alice() -> CreateOptions {
    CreateOptions::new().owner("alice")
}

#[test]
fn a_session_is_gone_at_its_deadline_without_the_expiry() {
    let (clock, store) = quiet_store();
    let lifetime = Duration::from_secs(60);
    let options = CreateOptions::new().lifetime(lifetime);
    let id = store.create_with(numbered(1), options).unwrap().id();
    clock.advance(lifetime - Duration::from_millis(100));
    assert!(store.read(id, |_| ()).is_ok());
    clock.advance(Duration::from_millis(100));
    // First the one that does not touch: whoever touches decides the expiry, for the others, too.
    assert_eq!(store.peek(id, |_| ()), Err(Missing::Ended(Reason::Expired)));
    assert_eq!(store.read(id, |_| ()), Err(Missing::Ended(Reason::Expired)));
    assert!(store.get(id).is_err() && store.touch(id).is_err());
}

/// While the closure of one update runs, another one begins and gets all the time it needs.
#[test]
fn nobody_writes_during_an_update() {
    let (_, store) = quiet_store();
    let id = store.create(numbered(0)).unwrap().id();
    let add_one = |s: &mut Attributes| s.set("number", s.get_i64("number").unwrap() + 1);
    thread::scope(|scope| {
        store
            .update(id, |s| {
                let (done, is_done) = mpsc::channel();
                let store = &store;
                scope.spawn(move || {
                    store.update(id, |s| _ = add_one(s)).unwrap();
                    let _ = done.send(());
                });
                assert!(is_done.recv_timeout(Duration::from_millis(200)).is_err());
                add_one(s);
            })
            .unwrap();
    });
    assert_eq!(store.get(id).unwrap().get_i64("number"), Some(2));
}

#[test]
fn none_is_lost_while_shards_grow_and_shrink() {
    let (_, store) = quiet_store();
    let ids: Vec<_> = (0..3000).map(|n| store.create(numbered(n)).unwrap().id()).collect();
    let number = |id| store.read(id, |s| s.get_i64("number"));
    for (n, &id) in (0..).zip(&ids) {
        assert_eq!(number(id), Ok(Some(n)));
    }
    store.validate();
    let (few, most) = ids.split_at(50);
    most.iter().for_each(|&id| store.end(id, Reason::LoggedOut).unwrap());
    for (n, &id) in (0..).zip(few) {
        assert_eq!(number(id), Ok(Some(n)));
    }
    store.validate();
}

/// Uses the store, with a write to each shard, when it is woken.
struct Reenters(Store, AtomicU64);

impl Wake for Reenters {
    fn wake(self: Arc<Self>) {
        for _ in 0..20 {
            let id = self.0.create(Attributes::new()).unwrap().id();
            self.0.end(id, Reason::LoggedOut).unwrap();
        }
        let _ = self.0.events_with(1);
        self.1.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_watch_may_use_the_store_when_it_wakes() {
    let (_, store) = quiet_store();
    let id = store.create(numbered(1)).unwrap().id();
    let woken = Arc::new(Reenters(store.clone(), AtomicU64::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut watch = pin!(store.watch(id));
    assert!(watch.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    store.end(id, Reason::LoggedOut).unwrap();
    assert_eq!(woken.1.load(SeqCst), 1);
}

#[test]
fn a_subscriber_may_use_the_store_when_it_wakes() {
    let (_, store) = quiet_store();
    let events = store.events();
    let woken = Arc::new(Reenters(store.clone(), AtomicU64::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut events = pin!(events);
    let next = futures_core::Stream::poll_next(events.as_mut(), &mut Context::from_waker(&waker));
    assert!(next.is_pending());
    store.create(numbered(1)).unwrap();
    assert_eq!(woken.1.load(SeqCst), 1);
}

#[test]
fn an_owner_without_sessions_is_forgotten() {
    let (_, store) = quiet_store();
    let ids = [1, 2].map(|n| store.create_with(numbered(n), alice()).unwrap().id());
    store.end(ids[0], Reason::LoggedOut).unwrap();
    assert_eq!((store.owner_sessions("alice").len(), store.stats().owners), (1, 1));
    store.end(ids[1], Reason::LoggedOut).unwrap();
    assert_eq!(store.stats().owners, 0);
    store.validate();
}

#[test]
fn an_owner_whose_sessions_expired_is_forgotten() {
    let (clock, store) = quiet_store();
    store.create_with(numbered(1), alice()).unwrap();
    clock.advance(Duration::from_secs(7 * 24 * 3600));
    assert_eq!((store.expire_due(), store.stats().owners), (1, 0));
    store.validate();
}

#[test]
fn an_old_token_is_dead_after_the_grace_time() {
    let clock = ManualClock::new();
    let store = quiet(&clock).grace(Duration::from_secs(10)).in_memory().unwrap();
    let old = store.create(numbered(1)).unwrap().id();
    let new = store.renew(old).unwrap().id();
    clock.advance(Duration::from_millis(9_900));
    assert!(store.read(old, |_| ()).is_ok());
    clock.advance(Duration::from_millis(100));
    assert_eq!(store.read(old, |_| ()), Err(Missing::Ended(Reason::Rotated)));
    assert!(store.read(new, |_| ()).is_ok());
}

/// The users are those who were seen longest ago.
#[test]
fn visitors_evict_no_user() {
    let clock = ManualClock::new();
    let builder = quiet(&clock).sessions_max(20).when_full(WhenFull::EvictLeastRecentlySeen);
    let store = builder.in_memory().unwrap();
    let users: Vec<_> =
        (0..10).map(|n| store.create_with(numbered(n), alice()).unwrap().id()).collect();
    for n in 0..100 {
        clock.advance(Duration::from_secs(1));
        store.create(numbered(n)).unwrap();
    }
    assert_eq!(store.stats().evicted(), 90);
    assert!(users.iter().all(|&id| store.peek(id, |_| ()).is_ok()));
}

#[test]
fn a_write_on_an_old_version_conflicts() {
    let (_, store) = quiet_store();
    let id = store.create(numbered(1)).unwrap().id();
    let seen = store.get(id).unwrap().version();
    store.replace(id, numbered(2)).unwrap();
    let late = store.replace_if(id, seen, numbered(3));
    assert!(matches!(late, Err(Error::Conflict { .. })));
    assert_eq!(store.get(id).unwrap().get_i64("number"), Some(2));
}

/// SHA-256 of 32 zero bytes begins with 66687aadf862bd776c8fc18b8e9f8e20.
#[test]
fn an_id_does_not_tell_its_token() {
    let token = Token::parse(&"A".repeat(Token::TEXT_LEN)).unwrap();
    assert_eq!(token.id().to_string(), "66687aad-f862-bd77-6c8f-c18b8e9f8e20");
}

/// Meanwhile another thread replaces the data, and enough others to free what can be freed.
#[test]
fn what_a_reader_sees_stays_while_it_looks() {
    let (_, store) = quiet_store();
    let text = "text".repeat(100);
    let data = |text: &str| Attributes::from([("text", text.into())]);
    let id = store.create(data(&text)).unwrap().id();
    let seen = store.read(id, |session| {
        thread::scope(|scope| {
            let writes = || {
                for _ in 0..2000 {
                    store.replace(id, data(&"other".repeat(80))).unwrap();
                }
                store.expire_due();
            };
            scope.spawn(writes).join().unwrap();
        });
        session.get_str("text").map(str::to_owned)
    });
    assert_eq!(seen.unwrap().unwrap(), text);
}

#[test]
fn each_end_is_told_once() {
    let (clock, store) = quiet_store();
    let events = store.events();
    let ended = store.create(numbered(1)).unwrap().id();
    let expired = store.create(numbered(2)).unwrap().id();
    store.end(ended, Reason::LoggedOut).unwrap();
    clock.advance(Duration::from_secs(7 * 24 * 3600));
    store.expire_due();
    let told: Vec<_> = std::iter::from_fn(|| events.try_recv())
        .filter_map(|event| match event {
            Event::Ended { id, reason, .. } => Some((id, reason)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(ended, Reason::LoggedOut), (expired, Reason::Expired)]);
}

#[test]
fn a_rotated_token_is_dead_at_once() {
    let (_, store) = quiet_store();
    let old = store.create(numbered(1)).unwrap().id();
    let new = store.rotate(old).unwrap().id();
    assert_eq!(store.read(old, |_| ()), Err(Missing::Ended(Reason::Rotated)));
    assert!(store.read(new, |_| ()).is_ok());
}

/// A store that was just opened on the snapshot of another one, of which nothing is in memory.
#[cfg(unix)]
fn reopened<R>(
    name: &str,
    options: impl Fn(Builder<Attributes>) -> Builder<Attributes>,
    fill: impl FnOnce(&Store) -> R,
) -> (Store, R) {
    let directory =
        std::env::temp_dir().join(format!("cloakroom-seeds-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    let open = || {
        let builder = Store::builder().expiry_thread(false).loader_thread(false);
        options(builder).open(&directory).unwrap()
    };
    let store = open();
    let result = fill(&store);
    store.snapshot().unwrap().unwrap();
    store.close().unwrap();
    let store = open();
    // What is open is there without a name, too.
    std::fs::remove_dir_all(&directory).unwrap();
    (store, result)
}

#[cfg(unix)]
#[test]
fn a_session_ends_that_only_the_file_has() {
    let fill = |store: &Store| store.create(numbered(1)).unwrap().id();
    let (store, id) = reopened("end", |builder| builder, fill);
    store.end(id, Reason::LoggedOut).unwrap();
    assert_eq!(store.peek(id, |_| ()), Err(Missing::Ended(Reason::LoggedOut)));
}

#[cfg(unix)]
#[test]
fn an_owners_limit_counts_what_only_the_file_has() {
    let limited =
        |builder: Builder<Attributes>| builder.sessions_per_owner(1, cloakroom::OwnerLimit::Refuse);
    let fill = |store: &Store| drop(store.create_with(numbered(1), alice()).unwrap());
    let (store, ()) = reopened("limit", limited, fill);
    let second = store.create_with(numbered(2), alice());
    assert!(matches!(second, Err(Error::OwnerFull { sessions_max: 1 })), "{second:?}");
}

#[cfg(unix)]
#[test]
fn what_ended_is_not_brought_back_from_the_file() {
    let forgets = |builder: Builder<Attributes>| builder.remember_ended(Duration::ZERO, 0);
    let fill = |store: &Store| store.create(numbered(1)).unwrap().id();
    let (store, id) = reopened("forgotten", forgets, fill);
    store.end(id, Reason::LoggedOut).unwrap();
    for _ in 0..2 {
        assert_eq!(store.peek(id, |_| ()), Err(Missing::Unknown), "it is back");
        while store.load_some(10).unwrap() {}
    }
}
