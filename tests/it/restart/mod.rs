//! A store answers at once after a start, and as if all of its sessions were in memory already.

mod damage;
mod killed;
mod same;
mod threads;

use std::path::Path;
use std::task::Poll;
use std::time::Duration;

use cloakroom::{
    Attributes, Builder, CreateOptions, Error, Event, Except, Limit, Load, ManualClock, Missing,
    OwnerLimit, Reason, SessionId, Store,
};

use crate::support::{Directory, listed, owned_by, poll_once, seconds};

fn small() -> Builder<Attributes> {
    Store::builder().segment_bytes(1 << 20).expiry_thread(false)
}

fn data(n: i64) -> Attributes {
    Attributes::from([("n", n.into())])
}

fn n_of(store: &Store, id: SessionId) -> Result<i64, Missing> {
    store.read(id, |s| s.get_i64("n").unwrap())
}

/// Opens a store that brings nothing into memory by itself.
fn held(builder: Builder<Attributes>, directory: &Path) -> Store {
    builder.loader_thread(false).open(directory).unwrap()
}

fn unloaded(store: &Store) -> u64 {
    store.stats().journal.unwrap().unloaded
}

fn load_all(store: &Store) {
    while store.load_some(100).unwrap() {}
    assert_eq!(unloaded(store), 0);
}

/// A directory with a snapshot of what `fill` puts into a store.
fn filled<R>(
    name: &str,
    builder: Builder<Attributes>,
    fill: impl FnOnce(&Store) -> R,
) -> (Directory, R) {
    let directory = Directory::new(name);
    let store: Store = builder.open(&directory.0).unwrap();
    let result = fill(&store);
    store.snapshot().unwrap().unwrap();
    store.close().unwrap();
    (directory, result)
}

/// Nothing is in memory when opening returns, all is answered; numbers and bytes are right from the
/// start, and stay so while sessions come into memory.
#[test]
fn all_is_answered_from_the_file() {
    let (directory, (ids, before)) = filled("restart-file", small(), |store| {
        let ids: Vec<_> = (0..3000)
            .map(|n: i64| {
                let options = CreateOptions::new();
                let options = match n % 3 {
                    0 => options,
                    1 => options.owner(format!("user{}", n % 50)),
                    _ => options.label("Firefox").idle_timeout(seconds(900)),
                };
                store.create_with(data(n), options).unwrap().id()
            })
            .collect();
        (ids, store.stats())
    });
    let store = held(small(), &directory.0);
    let report = store.recovery().unwrap();
    assert_eq!((report.sessions, report.in_memory, report.from_snapshot), (3000, 0, 3000));
    assert_eq!(unloaded(&store), 3000);
    for (n, &id) in ids.iter().enumerate() {
        if n % 400 == 0 {
            store.load_some(150).unwrap();
        }
        if n % 100 == 0 {
            let stats = store.stats();
            assert_eq!((stats.live, stats.anonymous), (before.live, before.anonymous));
            assert_eq!(stats.bytes, before.bytes);
        }
        assert_eq!(n_of(&store, id), Ok(n as i64));
    }
    assert_eq!((unloaded(&store), store.stats().created), (0, 0));
    load_all(&store);
    store.validate();
    assert_eq!(store.stats().bytes, before.bytes);
    assert!(matches!(
        n_of(&store, SessionId::from(uuid::Uuid::from_u128(7))),
        Err(Missing::Unknown)
    ));
}

/// The thread brings everything, and tells so; then the file serves nobody any more.
#[test]
fn a_thread_brings_all() {
    let (directory, ids) = filled("restart-thread", small(), |store| {
        let ids: Vec<_> = (0..20_000).map(|n| store.create(data(n)).unwrap().id()).collect();
        ids
    });
    for load in [Load::Mapped, Load::Whole] {
        let (told, hear) = std::sync::mpsc::channel();
        let tell = move |progress| told.send(progress).unwrap();
        let store: Store = small().load(load).open_with(&directory.0, tell).unwrap();
        let mut last = None;
        while let Ok(progress) = hear.recv_timeout(seconds(60)) {
            assert!(progress.sessions >= last.map_or(0, |last: u64| last));
            last = Some(progress.sessions);
            assert_eq!(progress.sessions_total, 20_000);
            assert!(progress.bytes <= progress.bytes_total && progress.problem.is_none());
            if progress.sessions == 20_000 {
                break;
            }
        }
        assert_eq!(last, Some(20_000));
        store.validate();
        assert_eq!((unloaded(&store), store.stats().live), (0, 20_000));
        for (n, &id) in ids.iter().enumerate() {
            assert_eq!(n_of(&store, id), Ok(n as i64));
        }
    }
}

/// What ended is not there, however it ended, and whether or not its end is still remembered: in
/// the same run, in the next, and when nothing but its end was brought into memory.
#[test]
fn ended_stays_ended() {
    let builder = || small().remember_ended(seconds(60), 2);
    let (directory, ids) = filled("restart-ended", builder(), |store| {
        (0..40)
            .map(|n| store.create_with(data(n), owned_by(&format!("user{n}"))).unwrap().id())
            .collect::<Vec<_>>()
    });
    for round in 0..3 {
        let store = held(builder(), &directory.0);
        let ended = &ids[round * 10..][..10];
        for (n, &id) in ended.iter().enumerate() {
            match n % 4 {
                0 => store.end(id, Reason::LoggedOut).unwrap(),
                1 => {
                    let owner = format!("user{}", round * 10 + n);
                    assert_eq!(store.end_owner(&owner, Except(None), Reason::Revoked).unwrap(), 1);
                }
                2 => {
                    let owner = format!("user{}", round * 10 + n);
                    assert!(store.end_owned(&owner, id, Reason::Revoked).unwrap());
                }
                _ => drop(store.rotate(id).unwrap()),
            }
        }
        let gone = |store: &Store| {
            for &id in &ids[..(round + 1) * 10] {
                assert!(n_of(store, id).is_err(), "{id} is back");
                assert!(store.end(id, Reason::LoggedOut).is_err());
                assert!(store.update(id, |_| ()).is_err());
            }
        };
        gone(&store);
        if round == 1 {
            load_all(&store);
            gone(&store);
            store.validate();
        }
        drop(store);
        let store = held(builder(), &directory.0);
        gone(&store);
        for (n, &id) in ids.iter().enumerate().skip((round + 1) * 10) {
            assert_eq!(n_of(&store, id), Ok(n as i64));
        }
        let live = |store: &Store, n: usize| store.owner_count(&format!("user{n}"));
        let owned: usize = (0..40).map(|n| live(&store, n)).sum();
        assert_eq!(owned, 40 - (round + 1) * 10 + (round + 1) * 2, "those that were rotated live");
    }
}

/// An owner's limit counts sessions that nobody has asked for yet, and ends the oldest of them.
#[test]
fn limits_of_owners_count_what_is_in_the_file() {
    let clock = ManualClock::new();
    for login in [false, true] {
        let name = format!("restart-owner-limit-{login}");
        let builder = || small().clock(&clock);
        let (directory, (ids, visitor)) = filled(&name, builder(), |store| {
            let ids: Vec<_> = (0..3)
                .map(|n| {
                    clock.advance(seconds(1));
                    store.create_with(data(n), owned_by("alice")).unwrap().id()
                })
                .collect();
            (ids, store.create(data(9)).unwrap().id())
        });
        let another = |store: &Store| match login {
            true => store.login(visitor, "alice", ""),
            false => store.create_with(data(3), owned_by("alice")),
        };
        let refuse = || builder().sessions_per_owner(3, OwnerLimit::Refuse);
        let store = held(refuse(), &directory.0);
        assert!(matches!(another(&store), Err(Error::OwnerFull { sessions_max: 3 })));
        drop(store);
        let store = held(builder().sessions_per_owner(3, OwnerLimit::EndOldest), &directory.0);
        // One of them is in memory already, and not the oldest.
        assert_eq!(n_of(&store, ids[1]), Ok(1));
        clock.advance(seconds(1));
        let new = another(&store).unwrap().id();
        assert_eq!(n_of(&store, ids[0]), Err(Missing::Ended(Reason::Revoked)));
        assert_eq!(listed(&store, "alice"), [ids[1], ids[2], new]);
        store.validate();
        assert_eq!(listed(&store, "alice"), [ids[1], ids[2], new]);
    }
}

/// The store is as full right after the start as it was before.
#[test]
fn limits_of_the_store_count_what_is_in_the_file() {
    let clock = ManualClock::new();
    let builder = || small().clock(&clock).sessions_max(40).anonymous_share(25);
    let (directory, ids) = filled("restart-limits", builder(), |store| {
        let mut ids: Vec<_> = (0..10).map(|n| store.create(data(n)).unwrap().id()).collect();
        ids.extend((10..40).map(|n| store.create_with(data(n), owned_by("a")).unwrap().id()));
        ids
    });
    let store = held(builder(), &directory.0);
    let full = store.create(data(0)).map(|token| token.id());
    assert!(matches!(full, Err(Error::Full(Limit::AnonymousSessions))), "{full:?}");
    let full = store.create_with(data(0), owned_by("b")).map(|token| token.id());
    assert!(matches!(full, Err(Error::Full(Limit::Sessions))), "{full:?}");
    drop(store);
    let store = held(builder(), &directory.0);
    store.end(ids[20], Reason::LoggedOut).unwrap();
    assert_eq!(unloaded(&store), 39);
    store.create_with(data(0), owned_by("b")).unwrap();
    assert_eq!(unloaded(&store), 39, "there was room");
    assert!(store.create_with(data(0), owned_by("b")).is_err());
    store.validate();
    drop(store);
    // What has expired in the file makes room.
    clock.advance(seconds(3600));
    let store = held(builder(), &directory.0);
    store.create(data(0)).unwrap();
    store.validate();
}

/// The old token of a renewed session is good for the grace time, its late use suspicious.
#[test]
fn an_alias_is_good_for_its_time() {
    for (load_first, late) in [(false, false), (false, true), (true, false), (true, true)] {
        let clock = ManualClock::new();
        let builder = || small().clock(&clock).grace(seconds(10));
        let name = format!("restart-alias-{load_first}-{late}");
        let (directory, (old, new)) = filled(&name, builder(), |store| {
            let old = store.create(data(1)).unwrap().id();
            (old, store.renew(old).unwrap().id())
        });
        let store = held(builder(), &directory.0);
        if load_first {
            load_all(&store);
        }
        if late {
            let visitor = store.create(data(2)).unwrap().id();
            clock.advance(seconds(11));
            let rotated = Err(Missing::Ended(Reason::Rotated));
            store.update(visitor, |_| assert_eq!(n_of(&store, old), rotated)).unwrap();
            assert_eq!(store.stats().suspicious, 1);
            assert_eq!(n_of(&store, old), rotated);
            assert_eq!(store.stats().suspicious, 2);
        } else {
            assert_eq!(n_of(&store, old), Ok(1));
            store.end(old, Reason::LoggedOut).unwrap();
            assert!(n_of(&store, new).is_err(), "the session is one");
            continue;
        }
        assert_eq!(n_of(&store, new), Ok(1));
        store.validate();
    }
}

/// What expired in the file, before or after the start, is answered to nobody; its event comes
/// once, with the data.
#[test]
fn expired_sessions_never_show() {
    let clock = ManualClock::new();
    let builder =
        || small().clock(&clock).idle_timeout(seconds(100)).anonymous_idle_timeout(seconds(100));
    let (directory, (early, late)) = filled("restart-expired", builder(), |store| {
        let early = store.create_with(data(1), owned_by("alice")).unwrap().id();
        clock.advance(seconds(50));
        (early, store.create(data(2)).unwrap().id())
    });
    clock.advance(seconds(51));
    let store = held(builder(), &directory.0);
    let events = store.events();
    assert_eq!(store.owner_count("alice"), 0);
    assert_eq!(n_of(&store, early), Err(Missing::Ended(Reason::Expired)));
    assert_eq!(store.peek(late, |_| ()), Ok(()));
    drop(store);
    drop(events);
    let store = held(builder(), &directory.0);
    let events = store.events();
    clock.advance(seconds(60));
    assert_eq!(n_of(&store, late), Err(Missing::Ended(Reason::Expired)));
    assert!(matches!(store.update(early, |_| ()), Err(Error::Missing(Missing::Ended(_)))));
    assert!(store.sessions(None, 10).sessions.is_empty());
    assert_eq!(store.expire_due(), 2);
    assert_eq!(store.stats().live, 0);
    let mut expired: Vec<i64> = std::iter::from_fn(|| events.try_recv())
        .map(|event| match event {
            Event::Ended { reason: Reason::Expired, session, .. } => session.get_i64("n").unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    expired.sort_unstable();
    assert_eq!(expired, [1, 2]);
    store.validate();
}

/// Inside the closure of an update nothing can be brought into memory. Lookups find what is in the
/// file all the same, and that they saw it is not lost.
#[test]
fn lookups_inside_an_update_see_the_file() {
    let clock = ManualClock::new();
    let builder = || {
        let builder = small().clock(&clock).shards(2).grace(seconds(60));
        builder.idle_timeout(seconds(50)).anonymous_idle_timeout(seconds(50))
    };
    let (directory, (ids, old, new)) = filled("restart-inside", builder(), |store| {
        let ids: Vec<_> =
            (0..20).map(|n| store.create_with(data(n), owned_by("alice")).unwrap().id()).collect();
        let old = store.create(data(77)).unwrap().id();
        (ids, old, store.renew(old).unwrap().id())
    });
    let store = held(builder(), &directory.0);
    clock.advance(seconds(40));
    let seen = |s: &mut Attributes| {
        for (n, &id) in ids.iter().enumerate().skip(1) {
            let touch = n % 2 == 0;
            match touch {
                true => assert_eq!(n_of(&store, id), Ok(n as i64)),
                false => assert_eq!(store.peek(id, |s| s.get_i64("n")), Ok(Some(n as i64))),
            }
            assert_eq!(store.owner(id).unwrap().as_deref(), Some("alice"));
            assert_eq!(store.info(id).unwrap().id, id);
        }
        assert_eq!((n_of(&store, old), n_of(&store, new)), (Ok(77), Ok(77)));
        assert_eq!(store.get(old).unwrap().id(), new);
        assert_eq!(store.touch(ids[2]), Ok(()));
        let mut all: Vec<_> =
            store.sessions(None, 1).sessions.into_iter().map(|info| info.id).collect();
        all.sort_unstable();
        let mut expected = ids.clone();
        expected.push(new);
        expected.sort_unstable();
        assert_eq!(all, expected);
        let nobody = SessionId::from(uuid::Uuid::from_u128(7));
        assert_eq!(store.peek(nobody, |_| ()), Err(Missing::Unknown));
        s.set("n", 100);
    };
    store.update(ids[0], seen).unwrap();
    assert_eq!(unloaded(&store), 20);
    clock.advance(seconds(30));
    for (n, &id) in ids.iter().enumerate() {
        assert_eq!(store.peek(id, |_| ()).is_ok(), n % 2 == 0, "{n}: 70 s old, some seen at 40");
    }
    assert_eq!(store.peek(new, |_| ()), Ok(()));
    store.validate();
}

/// Whoever waits for the end of a session that only the file has hears of it.
#[test]
fn a_watch_begins_in_the_file() {
    let (directory, ids) = filled("restart-watch", small(), |store| {
        (0..3).map(|n| store.create_with(data(n), owned_by("a")).unwrap().id()).collect::<Vec<_>>()
    });
    let store = held(small(), &directory.0);
    let mut watch = store.watch(ids[0]);
    assert_eq!(poll_once(&mut watch), Poll::Pending);
    load_all(&store);
    assert_eq!(poll_once(&mut watch), Poll::Pending);
    assert_eq!(store.end_owner("a", Except(Some(ids[1])), Reason::Revoked).unwrap(), 2);
    assert_eq!(poll_once(&mut watch), Poll::Ready(Reason::Revoked));
}

/// Calls that are about all sessions are about those in the file too.
#[test]
fn calls_about_all_include_the_file() {
    let fill = |store: &Store| (0..300).for_each(|n| drop(store.create(data(n)).unwrap()));
    let (directory, ()) = filled("restart-all", small(), fill);
    let store = held(small(), &directory.0);
    let mut count = 0;
    let mut cursor = None;
    loop {
        let page = store.sessions(cursor, 10);
        count += page.sessions.len();
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(count, 300);
    drop(store);
    let store = held(small(), &directory.0);
    let saved = store.snapshot().unwrap().unwrap();
    assert_eq!(saved.sessions, 300);
    drop(store);
    let store = held(small(), &directory.0);
    store.reserve(1000, 200).unwrap();
    drop(store);
    let store = held(small(), &directory.0);
    assert_eq!(store.end_all(Reason::Revoked).unwrap(), 300);
    assert_eq!(store.stats().live, 0);
    store.close().unwrap();
    let store = held(small(), &directory.0);
    assert_eq!((store.stats().live, unloaded(&store)), (0, 0));
}

/// A snapshot that does not tell what its sessions take in memory, as those of the first version,
/// is read as a whole.
#[test]
fn a_snapshot_without_weights_is_read_as_a_whole() {
    let fill = |store: &Store| store.create(data(5)).unwrap().id();
    let (directory, id) = filled("restart-weights", small(), fill);
    let file = directory.files("snapshot-").remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[248..288].fill(0);
    let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..4088]);
    bytes[4088..4096].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&file, bytes).unwrap();
    let store = held(small(), &directory.0);
    assert_eq!((unloaded(&store), store.recovery().unwrap().in_memory), (0, 1));
    assert_eq!(n_of(&store, id), Ok(5));
    store.validate();
}

/// Dropping a store while its thread brings sessions waits for a moment only.
#[test]
fn a_store_closes_while_sessions_are_brought() {
    let fill = |store: &Store| (0..30_000).for_each(|n| drop(store.create(data(n)).unwrap()));
    let (directory, ()) = filled("restart-close", small(), fill);
    for wait_ms in [0, 1, 5, 20] {
        let store: Store = small().open(&directory.0).unwrap();
        std::thread::sleep(Duration::from_millis(wait_ms));
        let other = store.clone();
        store.close().unwrap();
        assert_eq!(other.stats().live, 30_000);
        crate::support::no_hang("dropping", move || drop(other));
    }
}

/// Dropping a store does not wait for a caller's closure, which may wait for that very drop.
#[test]
fn a_closure_that_hears_of_progress_may_block() {
    let fill = |store: &Store| (0..3000).for_each(|n| drop(store.create(data(n)).unwrap()));
    let (directory, ()) = filled("restart-block", small(), fill);
    let (entered, is_inside) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let block = move |_| {
        let _ = entered.send(());
        let _ = released.recv();
    };
    let store: Store = small().open_with(&directory.0, block).unwrap();
    is_inside.recv_timeout(seconds(60)).unwrap();
    crate::support::no_hang("dropping", move || drop(store));
    // The directory is free although that thread is still there.
    let store: Store = small().open(&directory.0).unwrap();
    assert_eq!(store.stats().live, 3000);
    drop(release);
}
