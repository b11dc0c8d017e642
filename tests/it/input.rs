//! Bad input: each has a defined outcome, and nothing is half written.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use cloakroom::{
    Attributes, Builder, Changes, CreateOptions, Error, Except, Malformed, ManualClock, Missing,
    OwnerLimit, Reason, Result, SessionId, Stats, Store, Token,
};

use crate::support::{
    Data, Stopwatch, alone, no_hang, on_wake, owned_by, parallel, seconds, store_with,
};

fn create(store: &Store) -> SessionId {
    store.create(Attributes::from([("count", 0.into())])).unwrap().id()
}

fn count(store: &Store, id: SessionId) -> i64 {
    store.peek(id, |s| s.get_i64("count")).unwrap().unwrap()
}

/// The message of a panic.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&s| s.to_owned())).unwrap_or_default()
}

// A text that is nearly a token must not be taken for one, by any lenience of base64.
#[test]
fn malformed_tokens_are_refused() {
    let store = store_with(|b| b);
    let good = store.create(Attributes::new()).unwrap().expose();
    let mut bad = vec![String::new(), " ".repeat(43), "=".repeat(43), good.replace('A', "+") + "="];
    bad.extend((0..43).map(|len| good[..len].to_owned()));
    for index in 0..43 {
        for wrong in ["+", "/", "=", " ", "\n", "\0", "\u{e9}", "%"] {
            let mut text = good.clone();
            text.replace_range(index..=index, wrong);
            bad.push(text);
        }
        bad.push(format!("{}{}", &good[..index], &good[index + 1..]));
    }
    bad.extend([
        format!("{good}A"),
        format!("{good}\n"),
        format!("{good}{good}"),
        "a".repeat(9999),
    ]);
    for text in bad {
        assert_eq!(Token::parse(&text).unwrap_err(), Malformed::Token, "{text:?}");
    }
    // Of the last character's 64 values 16 are made by an encoder: the others are second spellings.
    let last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let parsed =
        last.chars().filter(|c| Token::parse(&format!("{}{c}", &good[..42])).is_ok()).count();
    assert_eq!(parsed, 16);
    assert!("67e55044-10b1-426f-9247-bb680e5fe0c".parse::<SessionId>().is_err());
    assert!(good.parse::<SessionId>().is_err());
}

// A token of another store, and an id in the place of a token, must open nothing: whoever reads
// a log or a list has ids. Nor may a lookup of nobody make a session.
#[test]
fn foreign_tokens_and_ids_open_nothing() {
    let (store, other) = (store_with(|b| b), store_with(|b| b));
    let foreign = other.create(Attributes::new()).unwrap();
    let id = create(&store);
    let before = store.stats();
    for strange in [foreign.id(), SessionId::from(uuid::Uuid::nil())] {
        assert_eq!(store.read(strange, |_| ()), Err(Missing::Unknown));
        assert_eq!(store.touch(strange), Err(Missing::Unknown));
        assert!(matches!(store.get(strange), Err(Missing::Unknown)));
        let unknown = |result: Result<()>| matches!(result, Err(Error::Missing(Missing::Unknown)));
        assert!(unknown(store.end(strange, Reason::LoggedOut)));
        assert!(unknown(store.update(strange, |_| ())));
        assert!(unknown(store.replace(strange, Attributes::new()).map(drop)));
        assert!(unknown(store.rotate(strange).map(drop)));
        assert!(unknown(store.renew(strange).map(drop)));
        assert!(unknown(store.bind(strange, "alice")));
        assert!(unknown(store.login(strange, "alice", "").map(drop)));
    }
    let stats = store.stats();
    assert_eq!((stats.live, stats.created), (before.live, before.created));
    assert_eq!(stats.owners, 0);

    // The id's bytes twice over make 32 bytes: as a token they are another session's, or nobody's.
    assert!(Token::parse(&id.to_string()).is_err());
    let hex = uuid::Uuid::from(id).simple().to_string();
    assert!(Token::parse(&hex).is_err());
    let padded = Token::parse(&format!("{hex}AAAAAAAAAAA")).unwrap();
    assert_eq!(store.read(padded.id(), |_| ()), Err(Missing::Unknown));
    store.validate();
}

// Options that contradict each other must be refused when the store is built, by name: found
// out later they are an outage, or a hole.
#[test]
fn contradictory_options_are_refused_by_name() {
    type Set = fn(Builder<Data>) -> Builder<Data>;
    let cases: [(&str, Set); 16] = [
        ("anonymous_share", |b| b.anonymous_share(101)),
        ("anonymous_share", |b| b.anonymous_share(255)),
        ("grace", |b| b.grace(seconds(61))),
        ("grace", |b| b.grace(Duration::MAX)),
        ("record_bytes_max", |b| b.record_bytes_max(0)),
        ("record_bytes_max", |b| b.record_bytes_max(16 << 20)),
        ("record_bytes_max", |b| b.record_bytes_max(usize::MAX)),
        ("sessions_max", |b| b.sessions_max(0)),
        ("bytes_max", |b| b.bytes_max(0)),
        ("bytes_max", |b| b.bytes_max(1000)),
        ("sessions_per_owner", |b| b.sessions_per_owner(0, OwnerLimit::Refuse)),
        ("shards", |b| b.shards(0)),
        ("shards", |b| b.shards(1)),
        ("shards", |b| b.shards(3)),
        ("shards", |b| b.shards(1 << 17)),
        ("anonymous_idle_timeout", |b| {
            b.idle_timeout(seconds(60)).anonymous_idle_timeout(seconds(61))
        }),
    ];
    for (name, set) in cases {
        let error = set(Store::builder()).in_memory().unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        let Error::Option { option, problem } = error else { panic!("{name}: {error}") };
        assert_eq!(option, name);
        assert!(!problem.is_empty());
    }
    let accepted: [Set; 6] = [
        |b| b.anonymous_share(100).grace(seconds(60)).sessions_max(1).shards(2),
        |b| b.record_bytes_max((16 << 20) - 1).grace(Duration::ZERO),
        |b| b.bytes_max(16 * 1024).anonymous_share(0),
        |b| b.idle_timeout(seconds(60)).anonymous_idle_timeout(seconds(60)),
        |b| b.idle_timeout(Duration::ZERO).lifetime(Duration::ZERO),
        |b| b.remember_ended(Duration::MAX, 0).capacity(1),
    ];
    for set in accepted {
        set(Store::builder()).in_memory().unwrap();
    }
}

// Owners and labels come from outside: too long, empty or odd, they are refused or kept as they
// are, and the session is as it was.
#[test]
fn owners_and_labels_have_their_bounds() {
    let store = store_with(|b| b);
    let long = "x".repeat(513);
    let id = create(&store);
    let refused = |result: Result<()>, text: &str| match result {
        Err(error @ Error::InvalidText { what, bytes_max: 512, .. }) => {
            assert_eq!(what, text);
            assert_eq!(error.to_string().ends_with(": shorten it"), what == "label");
        }
        other => panic!("{text}: {other:?}"),
    };
    for owner in ["", long.as_str()] {
        refused(store.bind(id, owner), "owner");
        refused(store.login(id, owner, "").map(drop), "owner");
        refused(store.create_with(Attributes::new(), owned_by(owner)).map(drop), "owner");
    }
    refused(store.set_label(id, &long), "label");
    refused(store.login(id, "alice", &long).map(drop), "label");
    let labelled = CreateOptions::new().label(long.as_str());
    refused(store.create_with(Attributes::new(), labelled).map(drop), "label");
    assert_eq!((store.stats().live, store.stats().owners), (1, 0));
    for owner in ["\0", "a\nb", "\u{1F600}", &"y".repeat(512)] {
        let id = store.create_with(Attributes::new(), owned_by(owner).label(owner)).unwrap().id();
        let info = store.info(id).unwrap();
        assert_eq!((info.owner.as_deref(), info.label.as_deref()), (Some(owner), Some(owner)));
        assert_eq!(store.end_owner(owner, Except(None), Reason::Revoked).unwrap(), 1);
    }
    store.validate();
}

// A closure that panics halfway through its changes must leave the session as it was, every lock
// free and the store usable; also when several threads panic in the same session.
#[test]
fn a_closure_that_panics_changes_nothing() {
    no_hang("a store after a panic", || {
        let store = store_with(|b| b.shards(2));
        let id = create(&store);
        let version = store.info(id).unwrap().version;
        let panics = |f: &dyn Fn()| catch_unwind(AssertUnwindSafe(f)).unwrap_err();
        panics(&|| store.read(id, |_| panic!("in read")).unwrap());
        panics(&|| store.peek(id, |_| panic!("in peek")).unwrap());
        panics(&|| {
            store
                .update(id, |s| {
                    s.set("count", 99);
                    panic!("in update")
                })
                .unwrap();
        });
        panics(&|| {
            let result: Result<()> = store.try_update(id, |s| {
                s.clear();
                panic!("in try_update")
            });
            result.unwrap();
        });
        assert_eq!((count(&store, id), store.info(id).unwrap().version), (0, version));
        parallel(4, |thread| {
            for round in 0..50 {
                let result = catch_unwind(AssertUnwindSafe(|| {
                    store.update(id, |s| {
                        s.set("count", 1 + s.get_i64("count").unwrap());
                        assert!((round + thread) % 2 == 0, "every other one panics");
                    })
                }));
                assert_eq!(result.is_ok(), (round + thread) % 2 == 0);
            }
        });
        assert_eq!(count(&store, id), 100);
        store.end(id, Reason::LoggedOut).unwrap();
        store.validate();
    });
}

/// An application's own error.
#[derive(Debug)]
enum Own {
    No,
    Store(Error),
}

impl From<Error> for Own {
    fn from(error: Error) -> Own {
        Own::Store(error)
    }
}

// Errors of a closure, of the base version or of a key must not leave half a change.
#[test]
fn a_closure_that_fails_changes_nothing() {
    let store = store_with(|b| b);
    let id = create(&store);
    let version = store.info(id).unwrap().version;
    let failed: Result<()> = store.try_update(id, |s| {
        s.clear();
        Err(Error::Encode("the caller's own".into()))
    });
    assert!(matches!(failed, Err(Error::Encode(text)) if text == "the caller's own"));
    let failed = store.try_update(id, |s| {
        s.clear();
        Err::<(), _>(Own::No)
    });
    assert!(matches!(failed, Err(Own::No)));
    let unknown = SessionId::from(uuid::Uuid::nil());
    let failed = store.try_update(unknown, |_| Ok::<_, Own>(()));
    assert!(matches!(failed, Err(Own::Store(Error::Missing(Missing::Unknown)))));
    assert_eq!((count(&store, id), store.info(id).unwrap().version), (0, version));
    let base = store.get(id).unwrap().to_data().unwrap();
    let wanted = Attributes::from([("other", 1.into()), ("count", 7.into())]);
    store.update(id, |s| drop(s.set("count", 5))).unwrap();
    let stale = Changes::between(&base, &wanted);
    assert!(matches!(store.patch(id, version, &stale), Err(Error::Conflict { .. })));
    assert!(store.peek(id, |s| s.get("other").is_none()).unwrap());
    assert_eq!(count(&store, id), 5);
}

/// What is tried inside the closure of an update; the session is the one that is being updated.
type Inside = fn(&Store, SessionId);

/// Runs `inside` within an update: it may work or panic clearly, and must not hang. Afterwards
/// the store is usable.
fn inside_update(name: &'static str, inside: Inside) -> Option<String> {
    no_hang(name, move || {
        let store = store_with(|b| b.shards(2));
        let id = store.create_with(Attributes::new(), owned_by("alice")).unwrap().id();
        let update = || store.update(id, |_| inside(&store, id));
        let result = catch_unwind(AssertUnwindSafe(update));
        store.update(id, |s| drop(s.set("after", true))).unwrap();
        create(&store);
        store.end(id, Reason::LoggedOut).unwrap();
        store.validate();
        result.err().map(|panic| message(&*panic))
    })
}

// A write inside the closure of an update waits for a lock that its own thread holds: for ever,
// if it is not refused. Each write is tried, of the same session and of another, with what else
// takes a lock, of this store and of another.
#[test]
fn writes_inside_an_update_panic_clearly() {
    let writes: [(&str, Inside); 14] = [
        ("create", |s, _| drop(s.create(Attributes::new()))),
        ("update", |s, id| drop(s.update(id, |_| ()))),
        ("update of another", |s, _| {
            drop(s.update(SessionId::from(uuid::Uuid::nil()), |_| ()));
        }),
        ("replace", |s, id| drop(s.replace(id, Attributes::new()))),
        ("rotate", |s, id| drop(s.rotate(id))),
        ("renew", |s, id| drop(s.renew(id))),
        ("login", |s, id| drop(s.login(id, "bob", ""))),
        ("bind", |s, id| drop(s.bind(id, "bob"))),
        ("set_label", |s, id| drop(s.set_label(id, "x"))),
        ("reauthenticated", |s, id| drop(s.reauthenticated(id))),
        ("end", |s, id| drop(s.end(id, Reason::LoggedOut))),
        ("end_owner", |s, _| drop(s.end_owner("alice", Except(None), Reason::Revoked))),
        ("end_all", |s, _| drop(s.end_all(Reason::Revoked))),
        ("reserve", |s, _| drop(s.reserve(10, 100))),
    ];
    let locks: [(&str, Inside); 4] = [
        ("stats", |s, _| assert_eq!(s.stats().live, 1)),
        ("owner_sessions", |s, _| drop(s.owner_sessions("alice"))),
        ("watch", |s, id| drop(s.watch(id))),
        ("a write of another store", |_, _| {
            create(&store_with(|b| b.shards(2)));
        }),
    ];
    for (name, write) in writes.into_iter().chain(locks) {
        let text = inside_update(name, write).unwrap_or_else(|| panic!("{name} did not panic"));
        assert!(text.contains("inside the closure of `update`"), "{name}: {text}");
        assert!(text.contains("owner_sessions") && text.contains("any other store"), "{text}");
    }
}

// Lookups are allowed there, and see the session as it was.
#[test]
fn lookups_inside_an_update_work() {
    let lookups: [(&str, Inside); 10] = [
        ("find", |s, _| assert!(s.find("nonsense").is_err())),
        ("owner", |s, id| assert_eq!(s.owner(id).unwrap().as_deref(), Some("alice"))),
        ("read", |s, id| s.read(id, |_| ()).unwrap()),
        ("peek", |s, id| s.peek(id, |_| ()).unwrap()),
        ("get", |s, id| drop(s.get(id).unwrap())),
        ("info", |s, id| drop(s.info(id).unwrap())),
        ("touch", |s, id| s.touch(id).unwrap()),
        ("sessions", |s, _| assert_eq!(s.sessions(None, 10).sessions.len(), 1)),
        ("debug", |s, _| assert!(format!("{s:?}").contains("live: 1"))),
        ("clone and drop", |s, _| drop(s.clone())),
    ];
    for (name, lookup) in lookups {
        assert_eq!(inside_update(name, lookup), None, "{name}");
    }
}

// What takes a shard's or an owner's lock without being a write must not hang there either.
#[test]
fn nothing_hangs_inside_an_update() {
    let calls: [(&str, Inside); 7] = [
        ("stats", |s, _| assert_eq!(s.stats().live, 1)),
        ("watch", |s, id| drop(s.watch(id))),
        ("owner_count", |s, _| assert_eq!(s.owner_count("alice"), 1)),
        ("owner_sessions", |s, _| drop(s.owner_sessions("alice"))),
        ("expire_due", |s, _| assert_eq!(s.expire_due(), 0)),
        ("events", |s, _| drop(s.events())),
        ("validate", |s, _| s.validate()),
    ];
    let hangs: Vec<_> = calls
        .into_iter()
        .filter(|&(name, call)| {
            catch_unwind(|| inside_update(name, call)).is_err_and(|p| message(&*p).contains("hang"))
        })
        .map(|(name, _)| name)
        .collect();
    assert!(hangs.is_empty(), "inside an update: {hangs:?}");
}

// A watch that a closure holds is dropped inside it, and signs off at a shard that is locked.
#[test]
fn a_watch_dropped_inside_an_update_does_not_hang() {
    no_hang("drop of a watch", || {
        let store = store_with(|b| b.shards(2));
        let id = create(&store);
        let watch = store.watch(id);
        let _ = catch_unwind(AssertUnwindSafe(|| store.update(id, |_| drop(watch))));
        store.update(id, |_| ()).unwrap();
        assert_eq!(store.stats().watched, 0);
    });
}

// Lists by owner lock the owner, who comes before the shard in the order of the locks. While one
// thread lists inside an update, another ends the owner's sessions, which wants both.
#[test]
fn a_list_by_owner_inside_an_update_does_not_deadlock() {
    no_hang("a list by owner inside an update", || {
        let store = store_with(|b| b.shards(2));
        let id = store.create_with(Attributes::new(), owned_by("alice")).unwrap().id();
        let (inside, entered) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    store.update(id, |_| {
                        inside.send(()).unwrap();
                        std::thread::sleep(Duration::from_millis(200));
                        store.owner_count("alice")
                    })
                }));
            });
            entered.recv().unwrap();
            assert_eq!(store.end_owner("alice", Except(None), Reason::Revoked).unwrap(), 1);
        });
        store.validate();
    });
}

/// Uses the store when it is dropped.
struct UsesTheStore(Store);

impl Drop for UsesTheStore {
    fn drop(&mut self) {
        self.0.create(Attributes::new()).unwrap();
        self.0.stats();
    }
}

// What the closure returned is dropped by the store if the write fails after it: with a lock
// still held, a value that uses the store in its drop waits for ever.
#[test]
fn a_result_that_is_dropped_by_a_failed_update_may_use_the_store() {
    no_hang("drop of a result", || {
        let store = store_with(|b| b.shards(2).record_bytes_max(1000));
        let id = create(&store);
        let too_large = store.update(id, |s| {
            s.set("text", "x".repeat(2000));
            UsesTheStore(store.clone())
        });
        assert!(matches!(too_large, Err(Error::TooLarge { .. })));
        drop(too_large);
        store.validate();
    });
}

// The last of many handles ends the threads: two that both think so, or none, leave one behind.
#[test]
fn many_threads_drop_the_store_at_once() {
    no_hang("drop by many threads", || {
        for _ in 0..50 {
            let store = store_with(|b| b.shards(2));
            let events = store.events();
            let watch = store.watch(create(&store));
            let handles: Vec<_> = (0..16).map(|_| Some(store.clone())).collect();
            drop(store);
            let handles: Vec<_> = handles.into_iter().map(std::sync::Mutex::new).collect();
            parallel(16, |index| {
                let handle = handles[index].lock().unwrap().take().unwrap();
                handle.create(Attributes::new()).unwrap();
                drop(handle);
            });
            assert_eq!(events.count(), 17);
            let mut watch = watch;
            let resolved = crate::support::poll_once(&mut watch);
            assert_eq!(resolved, std::task::Poll::Ready(Reason::Revoked));
        }
    });
}

// Who drops the last handle may hold a lock of his own, for which the expiry thread waits in a
// waker just then: a drop that waits for that thread waits for itself. Once the lock is given back
// the thread ends, and with it the store.
#[test]
fn the_store_is_dropped_while_its_thread_is_in_a_waker() {
    no_hang("drop beside a waker that waits", || {
        let own = Arc::new(std::sync::Mutex::new(()));
        let store = store_with(|b| b.anonymous_idle_timeout(Duration::from_millis(200)));
        let mut watch = store.watch(create(&store));
        let (begin, begun) = std::sync::mpsc::channel();
        let waker = on_wake({
            let own = Arc::clone(&own);
            move || {
                begin.send(()).unwrap();
                drop(own.lock().unwrap());
            }
        });
        let events = store.events();
        let held = own.lock().unwrap();
        let polled = std::pin::Pin::new(&mut watch).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        begun.recv().unwrap();
        let stopwatch = Stopwatch::start();
        drop(store);
        assert!(stopwatch.elapsed() < seconds(3));
        drop(held);
        assert_eq!(events.count(), 1, "the end of the session, then of the store");
    });
}

#[cfg(target_os = "linux")]
fn threads_and_mappings() -> (usize, usize) {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    (threads, std::fs::read_to_string("/proc/self/maps").unwrap().lines().count())
}

// A store that leaves a thread or a mapping behind ends a server that opens one per tenant, or
// a test suite. 200 stores are opened, used by threads, watched, and dropped.
#[cfg(target_os = "linux")]
#[test]
fn open_and_close_leak_no_thread_and_no_mapping() {
    if !alone("input::open_and_close_leak_no_thread_and_no_mapping") {
        return;
    }
    let cycle = |index: u32| {
        let store = store_with(|b| b.expiry_thread(!index.is_multiple_of(3)).shards(16));
        store.on_event(|store, _| assert!(store.stats().created > 0)).unwrap();
        let ids = parallel(2, |_| (0..50).map(|_| create(&store)).collect::<Vec<_>>());
        let watch = store.watch(ids[0][0]);
        store.end_all(Reason::Revoked).unwrap();
        drop(store);
        drop(watch);
    };
    let settled = || {
        for _ in 0..100 {
            if threads_and_mappings().0 <= 2 {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        threads_and_mappings()
    };
    (0..20).for_each(cycle);
    let before = settled();
    (0..200).for_each(cycle);
    let after = settled();
    assert!(after.0 <= before.0, "threads: {before:?}, then {after:?}");
    // The allocator's own mappings, for threads, come and go by the dozen. A store has at least
    // one, so a leak in every third of them, those without an expiry thread, would be 67.
    assert!(after.1 <= before.1 + 50, "mappings: {before:?}, then {after:?}");
}

// `Debug` output ends in logs: no part of a token may be in it.
#[test]
fn no_debug_output_shows_a_token() {
    let store = store_with(|b| b);
    let events = store.events();
    let token = store.create_with(Attributes::new(), owned_by("alice")).unwrap();
    let id = token.id();
    let shown = [
        format!("{token:?} {token:#?} {:?}", Some(&token)),
        format!("{store:?} {:?} {:?}", store.stats(), store.info(id)),
        format!("{:?} {:?} {:?}", store.get(id), store.watch(id), store.sessions(None, 9)),
        format!("{events:?} {:?} {:?}", events.try_recv(), Store::<Data>::builder()),
        format!("{:?} {:?}", store.get(id).unwrap().data(), Token::parse("nonsense")),
    ]
    .join("\n");
    assert!(shown.contains(&id.to_string()), "ids may be shown");
    let secret = token.expose();
    for part in secret.as_bytes().windows(8) {
        assert!(!shown.contains(std::str::from_utf8(part).unwrap()), "{shown}");
    }
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, PartialEq, Debug)]
struct Wide {
    one: u8,
    root: u128,
    list: Vec<u128>,
    text: String,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, PartialEq, Debug)]
struct Nothing;

fn is_aligned<T>(value: &T) -> bool {
    std::ptr::from_ref(value).addr().is_multiple_of(align_of::<T>())
}

// Records are read where they lie: data that needs 16 bytes of alignment, or has no bytes at all,
// must lie right in every size class, after each rewrite, and in a copy.
#[test]
fn data_of_any_alignment_and_none_is_read_in_place() {
    let store: Store<Wide> = Store::builder().in_memory().unwrap();
    let make = |len: usize| Wide {
        one: len as u8,
        root: u128::MAX - len as u128,
        list: (0..len as u128).map(|n| n << 100 | n).collect(),
        text: "x".repeat(len),
    };
    let id = store.create(make(0)).unwrap().id();
    for len in (0..200).chain([300, 500]) {
        store.replace(id, make(len)).unwrap();
        store
            .read(id, |data| {
                assert!(is_aligned(&data.root) && data.list.iter().all(is_aligned), "{len}");
                assert_eq!(data.root.to_native(), u128::MAX - len as u128);
            })
            .unwrap();
        let session = store.get(id).unwrap();
        assert!(is_aligned(&session.root) && session.list.iter().all(is_aligned), "{len}");
        assert_eq!(session.to_data().unwrap(), make(len));
    }
    let root: Store<u128> = Store::builder().in_memory().unwrap();
    let id = root.create(1 << 127).unwrap().id();
    root.update(id, |n| *n += 1).unwrap();
    assert_eq!(root.read(id, |n| (is_aligned(n), n.to_native())), Ok((true, (1 << 127) + 1)));

    let empty: Store<Nothing> = Store::builder().in_memory().unwrap();
    let unit: Store<()> = Store::builder().in_memory().unwrap();
    let bytes: Store<Vec<u8>> = Store::builder().in_memory().unwrap();
    for _ in 0..100 {
        let id = empty.create(Nothing).unwrap().id();
        empty.update(id, |_| ()).unwrap();
        assert_eq!(empty.get(id).unwrap().to_data().unwrap(), Nothing);
        let id = unit.create(()).unwrap().id();
        assert_eq!(unit.replace(id, ()).unwrap(), unit.get(id).unwrap().version());
        let id = bytes.create(Vec::new()).unwrap().id();
        bytes.update(id, |data| assert!(data.is_empty())).unwrap();
        assert!(bytes.get(id).unwrap().is_empty());
    }
    for live in [empty.stats().live, unit.stats().live, bytes.stats().live] {
        assert_eq!(live, 100);
    }
    empty.validate();
}

/// Runs `child` in a forked process; returns its exit code.
#[cfg(unix)]
#[allow(unsafe_code, reason = "a fork is what is tested")]
fn in_fork(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the test is alone in its process, and the child leaves with `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        // Not a panic: it would run the parent's tests on.
        let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(99);
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(code) };
    }
    for _ in 0..200 {
        let mut status = 0;
        // SAFETY: `pid` is our child, `status` is ours.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
        if waited == pid {
            assert!(libc::WIFEXITED(status), "the child was killed: {status}");
            return libc::WEXITSTATUS(status);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // SAFETY: `pid` is our child, which hangs.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    panic!("the child hangs")
}

/// Whether everything in the child of a fork answers as it should; else the number of what not.
#[cfg(unix)]
fn first_wrong_in_child(store: &Store, id: SessionId) -> i32 {
    let forked = |result: Result<()>| matches!(result, Err(Error::Forked));
    let checks = [
        forked(store.create(Attributes::new()).map(drop)),
        forked(store.create_with(Attributes::new(), owned_by("alice")).map(drop)),
        forked(store.update(id, |_| ())),
        forked(store.replace(id, Attributes::new()).map(drop)),
        forked(store.rotate(id).map(drop)),
        forked(store.renew(id).map(drop)),
        forked(store.login(id, "alice", "").map(drop)),
        forked(store.bind(id, "alice")),
        forked(store.set_label(id, "x")),
        forked(store.set_timeouts(id, seconds(1), seconds(1))),
        forked(store.reauthenticated(id)),
        forked(store.end(id, Reason::LoggedOut)),
        forked(store.end_owner("alice", Except(None), Reason::Revoked).map(drop)),
        forked(store.end_all(Reason::Revoked).map(drop)),
        store.read(id, |_| ()).is_err(),
        store.peek(id, |_| ()).is_err(),
        store.get(id).is_err(),
        store.info(id).is_err(),
        store.touch(id).is_err(),
        store.sessions(None, 10).sessions.is_empty(),
    ];
    checks.iter().position(|right| !right).map_or(0, |index| index as i32 + 1)
}

// A fork copies locks that nobody will give back and leaves the threads behind: in the child each
// write must say so and each lookup find nothing, and dropping the store must not wait for a
// thread that is not there. The parent goes on unharmed.
#[cfg(unix)]
#[test]
fn a_store_in_the_child_of_a_fork_answers_and_is_dropped() {
    if !alone("input::a_store_in_the_child_of_a_fork_answers_and_is_dropped") {
        return;
    }
    let store = store_with(|b| b);
    let id = store.create_with(Attributes::from([("count", 1.into())]), owned_by("alice"));
    let id = id.unwrap().id();
    let mut watch = store.watch(id);
    let store = Arc::new(std::sync::Mutex::new(Some(store)));
    let code = in_fork(|| {
        let store = store.lock().unwrap().take().unwrap();
        let wrong = first_wrong_in_child(&store, id);
        drop(store);
        wrong
    });
    assert_eq!(code, 0, "check {code} in the child");
    let store = store.lock().unwrap().take().unwrap();
    assert_eq!(store.owner_count("alice"), 1);
    store.update(id, |s| drop(s.set("count", 2))).unwrap();
    assert_eq!(crate::support::poll_once(&mut watch), std::task::Poll::Pending);
    store.end(id, Reason::LoggedOut).unwrap();
    store.validate();
}

/// As [`first_wrong_in_child`], for what is no lookup and no write.
#[cfg(unix)]
fn first_not_empty_in_child(store: &Store, id: SessionId) -> i32 {
    store.validate();
    let mut watch = store.watch(id);
    let checks = [
        store.stats() == Stats::default(),
        crate::support::poll_once(&mut watch).is_ready(),
        store.expire_due() == 0,
        store.owner_count("alice") == 0,
        store.owner_sessions("alice").is_empty(),
        store.sessions(None, 10).sessions.is_empty(),
        store.events().next().is_none(),
        store.read(id, |_| ()) == Err(Missing::Unknown),
        store.reserve(10, 10).is_err(),
    ];
    checks.iter().position(|right| !right).map_or(0, |index| index as i32 + 1)
}

// The process is forked while one of its threads holds a session's shard and another one the
// owner's stripe: whoever takes one of these locks in the child waits for ever.
#[cfg(unix)]
#[test]
fn nothing_hangs_in_the_child_of_a_fork() {
    if !alone("input::nothing_hangs_in_the_child_of_a_fork") {
        return;
    }
    let store = store_with(|b| b.shards(2));
    let id = store.create_with(Attributes::new(), owned_by("alice")).unwrap().id();
    let (begin, begun) = std::sync::mpsc::channel();
    let (go_on, gone_on) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        // Dropped by a failure, so that nobody waits for it.
        let (store, go_on) = (&store, go_on);
        scope.spawn(move || {
            let held = |_: &mut Attributes| {
                begin.send(()).unwrap();
                gone_on.recv().unwrap();
            };
            store.update(id, held).unwrap();
        });
        begun.recv().unwrap();
        // It takes the stripe, then waits for the shard.
        scope.spawn(move || store.end(id, Reason::LoggedOut).unwrap());
        std::thread::sleep(Duration::from_millis(200));
        let code = in_fork(|| first_not_empty_in_child(store, id));
        go_on.send(()).unwrap();
        assert_eq!(code, 0, "check {code} in the child");
    });
    store.validate();
}

// A `ManualClock` is not the system's, but its sessions are the parent's all the same. The child
// may move its copy of the clock, and make another; the parent's goes on.
#[cfg(unix)]
#[test]
fn a_manual_clock_stays_with_the_process_that_made_it() {
    if !alone("input::a_manual_clock_stays_with_the_process_that_made_it") {
        return;
    }
    let clock = ManualClock::new();
    let store = store_with(|b| b.clock(&clock));
    let id = store.create_with(Attributes::new(), owned_by("alice")).unwrap().id();
    let code = in_fork(|| {
        let lookups = || {
            store.read(id, |_| ()).is_err()
                && store.peek(id, |_| ()).is_err()
                && store.info(id).is_err()
        };
        if !lookups() {
            return 1;
        }
        clock.advance(seconds(1));
        if !lookups() || first_not_empty_in_child(&store, id) != 0 {
            return 2;
        }
        if !matches!(Store::<Data>::builder().clock(&clock).in_memory(), Err(Error::Forked)) {
            return 3;
        }
        let clock = ManualClock::new();
        let own = store_with(|b| b.clock(&clock));
        let id = create(&own);
        if own.read(id, |_| ()).is_err() {
            return 4;
        }
        clock.advance(seconds(7200));
        i32::from(own.read(id, |_| ()).is_ok()) * 5
    });
    assert_eq!(code, 0, "1: found, 2: listed, 3: opened with it; 4 and 5: its own clock");
    clock.advance(seconds(1));
    assert!(store.read(id, |_| ()).is_ok());
    store.validate();
}

// A server that forks its successor at each deploy is a fork of a fork of a fork: each has its own
// stores, with those of all before it still in memory, and needs a clock that none of them stopped.
#[cfg(unix)]
#[test]
fn forks_of_forks_open_stores_that_work() {
    fn fork_on(depth: i32) -> i32 {
        let store = std::mem::ManuallyDrop::new(store_with(|b| b.shards(2)));
        let id = create(&store);
        if store.read(id, |_| ()).is_err() || store.touch(id).is_err() {
            return depth;
        }
        if depth == 40 { 0 } else { in_fork(|| fork_on(depth + 1)) }
    }
    if alone("input::forks_of_forks_open_stores_that_work") {
        assert_eq!(fork_on(1), 0, "the depth at which a new store finds nothing");
    }
}

// Servers fork workers and open their stores there. A store that is new in the child must have a
// clock that runs and an expiry thread, also when the parent's store is still in its memory.
#[cfg(unix)]
#[test]
fn a_new_store_in_the_child_of_a_fork_works() {
    if !alone("input::a_new_store_in_the_child_of_a_fork_works") {
        return;
    }
    let parent = store_with(|b| b);
    create(&parent);
    let code = in_fork(|| {
        let store = store_with(|b| b.idle_timeout(Duration::from_millis(500)));
        let id = store.create(Attributes::new()).unwrap().id();
        if store.read(id, |_| ()).is_err() || store.touch(id).is_err() {
            return 1;
        }
        if store.update(id, |s| drop(s.set("a", 1))).is_err() {
            return 2;
        }
        std::thread::sleep(Duration::from_millis(1500));
        if store.read(id, |_| ()).is_ok() {
            return 3;
        }
        if store.stats().live != 0 {
            return 4;
        }
        drop(store);
        0
    });
    assert_eq!(code, 0, "1: lookup, 2: update, 3: expiry for readers, 4: expiry thread");
    create(&parent);
    parent.validate();
}
