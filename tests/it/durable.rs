//! Sessions survive the process: what was returned is there again, what was ended stays ended.

use std::time::Duration;

use cloakroom::{
    Append, Attributes, Builder, CreateOptions, Durability, Error, Except, ManualClock, Missing,
    OnDamage, Reason, Store,
};

use crate::support::Directory;

fn small() -> Builder<Attributes> {
    Store::builder().segment_bytes(1 << 20)
}

fn data(n: i64) -> Attributes {
    Attributes::from([("n", n.into())])
}

fn n_of(store: &Store, id: cloakroom::SessionId) -> Result<i64, Missing> {
    store.read(id, |s| s.get_i64("n").unwrap())
}

/// Everything that a session is comes back: data, version, owner, label, times.
#[test]
fn everything_comes_back() {
    for append in [Append::Mapped, Append::Written] {
        let directory = Directory::new(&format!("back-{append:?}"));
        let store: Store = small().append(append).open(&directory.0).unwrap();
        let plain = store.create(data(1)).unwrap().id();
        let options = CreateOptions::new()
            .owner("alice")
            .label("Firefox")
            .idle_timeout(Duration::from_secs(3600));
        let owned = store.create_with(data(2), options).unwrap().id();
        store.update(owned, |s| s.set("n", 3)).unwrap();
        let login = store.login(plain, "bob", "Chrome").unwrap().id();
        let before = [owned, login].map(|id| store.info(id).unwrap());
        store.close().unwrap();

        let store: Store = small().append(append).open(&directory.0).unwrap();
        store.validate();
        assert_eq!(store.recovery().unwrap().sessions, 2);
        assert_eq!((n_of(&store, owned), n_of(&store, login)), (Ok(3), Ok(1)));
        assert_eq!(store.get(owned).unwrap().owner(), Some("alice"));
        assert_eq!(store.owner_sessions("bob")[0].id, login);
        assert!(matches!(n_of(&store, plain), Err(Missing::Ended(Reason::Rotated))));
        for (id, before) in [owned, login].into_iter().zip(before) {
            let after = store.info(id).unwrap();
            assert_eq!(after.version, before.version);
            assert_eq!(after.label, before.label);
            let apart = |a: std::time::SystemTime, b: std::time::SystemTime| {
                a.duration_since(b).unwrap_or_else(|error| error.duration())
            };
            let near = Duration::from_millis(200);
            assert!(apart(after.created, before.created) < near);
            assert!(apart(after.authenticated, before.authenticated) < near);
            assert!(apart(after.expires.unwrap(), before.expires.unwrap()) < near);
        }
    }
}

/// A session that ended is not there after a restart, whatever way it ended, also when snapshots
/// come in between.
#[test]
fn ended_stays_ended() {
    let directory = Directory::new("ended");
    for snapshots in [false, true] {
        let store: Store = small().open(&directory.0).unwrap();
        let logged_out = store.create(data(1)).unwrap().id();
        let token = store.create(data(2)).unwrap();
        if snapshots {
            store.snapshot().unwrap().unwrap();
        }
        let rotated = token.id();
        let next = store.rotate(rotated).unwrap().id();
        let mut revoked = Vec::new();
        for n in 0..3 {
            let options = CreateOptions::new().owner("alice");
            revoked.push(store.create_with(data(n), options).unwrap().id());
        }
        store.end(logged_out, Reason::LoggedOut).unwrap();
        assert_eq!(store.end_owner("alice", Except(Some(revoked[2])), Reason::Revoked).unwrap(), 2);
        store.close().unwrap();

        for _ in 0..2 {
            let store: Store = small().open(&directory.0).unwrap();
            store.validate();
            for id in [logged_out, rotated, revoked[0], revoked[1]] {
                assert!(n_of(&store, id).is_err(), "{id} is back");
            }
            assert_eq!((n_of(&store, next), n_of(&store, revoked[2])), (Ok(2), Ok(2)));
            assert_eq!(store.owner_count("alice"), 1);
            store.snapshot().unwrap().unwrap();
        }
        let store: Store = small().open(&directory.0).unwrap();
        store.end_owner("alice", Except(None), Reason::Revoked).unwrap();
    }
}

/// The old token of a renewed session is good for the grace time, also over a restart.
#[test]
fn an_alias_comes_back_for_its_time() {
    for snapshot in [false, true] {
        let directory = Directory::new(&format!("alias-{snapshot}"));
        let clock = ManualClock::new();
        let open = || -> Store { small().clock(&clock).open(&directory.0).unwrap() };
        let store = open();
        let old = store.create(data(1)).unwrap().id();
        let new = store.renew(old).unwrap().id();
        if snapshot {
            store.snapshot().unwrap().unwrap();
        }
        store.close().unwrap();
        let store = open();
        store.validate();
        assert_eq!((n_of(&store, old), n_of(&store, new)), (Ok(1), Ok(1)));
        clock.advance(Duration::from_secs(11));
        assert!(n_of(&store, old).is_err());
        assert_eq!(n_of(&store, new), Ok(1));
        drop(store);
        let store = open();
        assert!(n_of(&store, old).is_err());
        assert_eq!(n_of(&store, new), Ok(1));
    }
}

/// Time goes on while nobody is there; and a touch that was written down counts.
#[test]
fn deadlines_outlive_the_process() {
    let directory = Directory::new("deadlines");
    let clock = ManualClock::new();
    let open = || -> Store {
        let builder = small().clock(&clock).idle_timeout(Duration::from_secs(1000));
        builder.anonymous_idle_timeout(Duration::from_secs(1000)).open(&directory.0).unwrap()
    };
    let store = open();
    let idle = store.create(data(1)).unwrap().id();
    let seen = store.create(data(2)).unwrap().id();
    clock.advance(Duration::from_secs(500));
    store.touch(seen).unwrap();
    store.close().unwrap();
    clock.advance(Duration::from_secs(499));
    let store = open();
    assert_eq!((store.peek(idle, |_| ()), store.peek(seen, |_| ())), (Ok(()), Ok(())));
    drop(store);
    clock.advance(Duration::from_secs(2));
    let store = open();
    assert!(store.peek(idle, |_| ()).is_err());
    assert_eq!(store.peek(seen, |_| ()), Ok(()));
    drop(store);
    clock.advance(Duration::from_secs(600));
    let store = open();
    assert!(store.peek(seen, |_| ()).is_err());
    store.expire_due();
    assert_eq!(store.stats().live, 0);
}

/// Snapshots take the place of the log, and do not lose what happens beside them.
#[test]
fn snapshots_bound_the_log() {
    let directory = Directory::new("snapshots");
    let store: Store = small().snapshot_bytes(4 << 20).open(&directory.0).unwrap();
    let ids: Vec<_> = (0..500).map(|n| store.create(data(n)).unwrap().id()).collect();
    std::thread::scope(|scope| {
        for part in ids.chunks(250) {
            let store = store.clone();
            scope.spawn(move || {
                for round in 0..200 {
                    for &id in part {
                        store.update(id, |s| s.set("n", s.get_i64("n").unwrap() + 1)).unwrap();
                    }
                    if round % 50 == 0 {
                        store.snapshot().unwrap().unwrap();
                    }
                }
            });
        }
    });
    store.close().unwrap();
    assert!(directory.files("log-").len() < 20, "{:?}", directory.files("log-"));
    assert_eq!(directory.files("snapshot-").len(), 1);
    let store: Store = small().open(&directory.0).unwrap();
    store.validate();
    for (n, id) in ids.into_iter().enumerate() {
        assert_eq!(n_of(&store, id), Ok(n as i64 + 200));
    }
}

/// A server that is started again and again, and does little each time, leaves no long log behind:
/// what earlier runs wrote counts as well.
#[test]
fn short_runs_bound_the_log() {
    let directory = Directory::new("short-runs");
    for run in 0..30 {
        let store: Store = small().snapshot_bytes(4 << 20).open(&directory.0).unwrap();
        store.create(data(run)).unwrap();
        // The saver looks five times a second.
        let begun = directory.files("log-").len();
        for _ in 0..100 {
            if begun < 8 || directory.files("log-").len() < begun {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        store.close().unwrap();
        let logs = directory.files("log-").len();
        assert!(logs < 12, "run {run}: {logs} files");
    }
    let store: Store = small().open(&directory.0).unwrap();
    assert_eq!(store.stats().live, 30);
}

/// One that never lives for long finds the time for a snapshot in some of its lives.
#[test]
fn lives_of_moments_bound_the_log() {
    let directory = Directory::new("moments");
    let text = "x".repeat(4096);
    for life in 0..40 {
        let store: Store = small().snapshot_bytes(256 << 10).open(&directory.0).unwrap();
        let id = store.create(data(life)).unwrap().id();
        for _ in 0..16 {
            store.update(id, |s| s.set("text", text.clone())).unwrap();
        }
        // The saver's thread looks five times a second, but for the first moments.
        std::thread::sleep(Duration::from_millis(60));
        drop(store);
    }
    assert_eq!(directory.files("snapshot-").len(), 1);
    assert!(directory.files("log-").len() < 40, "{:?}", directory.files("log-"));
}

/// A directory belongs to one store; who waits gets it once the other has closed.
#[test]
fn a_directory_is_locked() {
    let directory = Directory::new("locked");
    let store: Store = small().open(&directory.0).unwrap();
    let id = store.create(data(7)).unwrap().id();
    let second = small().open(&directory.0);
    assert!(matches!(second, Err(Error::Locked { .. })), "{second:?}");
    let path = directory.0.clone();
    let waiting = std::thread::spawn(move || {
        small().wait_for_lock(Duration::from_secs(30)).open(path).unwrap()
    });
    std::thread::sleep(Duration::from_millis(50));
    store.close().unwrap();
    assert_eq!(n_of(&waiting.join().unwrap(), id), Ok(7));
}

/// Another type of session, or another number of its form, is refused; nothing is changed.
#[test]
fn another_schema_is_refused() {
    #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    struct Cart {
        items: u64,
    }
    let directory = Directory::new("schema");
    let store: Store = small().open(&directory.0).unwrap();
    let id = store.create(data(7)).unwrap().id();
    store.close().unwrap();
    let before = directory.files("").into_iter().map(|file| std::fs::read(file).unwrap());
    let before: Vec<_> = before.collect();
    let other =
        Store::<Cart>::builder().open(&directory.0).map(|store| store.create(Cart { items: 1 }));
    assert!(matches!(other, Err(Error::Unreadable { .. })), "{other:?}");
    let other = small().schema(1).open(&directory.0);
    assert!(matches!(other, Err(Error::Unreadable { .. })), "{other:?}");
    let after = directory.files("").into_iter().map(|file| std::fs::read(file).unwrap());
    assert!(before == after.collect::<Vec<_>>(), "a file was changed");
    let store: Store = small().open(&directory.0).unwrap();
    assert_eq!(n_of(&store, id), Ok(7));
}

/// Damage below what was durable is told with file and offset; the choice to start empty keeps the
/// damaged files, and nobody who was there before.
#[test]
fn damage_is_told() {
    let directory = Directory::new("damage");
    let store: Store = small().open(&directory.0).unwrap();
    let id = store.create(data(7)).unwrap().id();
    store.flush().wait().unwrap();
    for n in 0..10 {
        store.create(data(n)).unwrap();
    }
    store.close().unwrap();
    let segment = directory.files("log-").remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[4096 + 150] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let refused = small().open(&directory.0);
    let text = match refused {
        Err(error @ Error::Damaged { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(text.contains("log-") && text.contains("at byte"), "{text}");
    assert_eq!(std::fs::read(&segment).unwrap(), bytes, "nothing was changed");
    let store: Store =
        small().on_damage(OnDamage::QuarantineAndStartEmpty).open(&directory.0).unwrap();
    assert_eq!(n_of(&store, id), Err(Missing::Unknown));
    assert!(store.recovery().unwrap().quarantine.is_some());
    assert_eq!(directory.files("quarantine-").len(), 1);
    store.create(data(1)).unwrap();
    store.close().unwrap();
    assert_eq!(small().open(&directory.0).unwrap().stats().live, 1);
}

/// A flush can be awaited, and is done when everything before it is durable.
#[test]
fn a_flush_can_be_awaited() {
    let directory = Directory::new("flush");
    let store: Store = small().durability(Durability::Power).open(&directory.0).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for n in 0..20 {
        store.create(data(n)).unwrap();
        runtime.block_on(store.flush()).unwrap();
    }
    let in_memory: Store = Store::builder().in_memory().unwrap();
    in_memory.flush().wait().unwrap();
}

/// Options that make no sense are refused by name.
#[test]
fn absurd_options_are_refused() {
    let directory = Directory::new("options");
    for (builder, name) in [
        (small().segment_bytes(1), "segment_bytes"),
        (small().sync_interval(Duration::ZERO), "sync_interval"),
    ] {
        match builder.open(&directory.0) {
            Err(Error::Option { option, .. }) => assert_eq!(option, name),
            other => panic!("{other:?}"),
        }
    }
    assert!(!directory.0.exists());
}
