//! The files of a store say the same without the store as with it, also while it is in use.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use cloakroom::directory::{Claim, Directory as Files, Schema, StoredSession, Taken};
use cloakroom::{Attributes, Builder, CreateOptions, Error, Reason, SessionId, Store};

use crate::support::Directory;

fn small() -> Builder<Attributes> {
    let month = Duration::from_secs(30 * 24 * 3600);
    let builder = Store::builder().segment_bytes(1 << 20).idle_timeout(month);
    builder.anonymous_idle_timeout(month).lifetime(month)
}

fn data(n: i64) -> Attributes {
    Attributes::from([("n", n.into())])
}

/// What is compared of a session.
type Seen = (u32, String, String, i64);

/// All sessions that the files tell of.
fn in_files(directory: &Directory) -> BTreeMap<SessionId, Seen> {
    let files = Files::read(&directory.0).unwrap();
    let schema = files.schema();
    let mut all = BTreeMap::new();
    let told = files.sessions(|session: StoredSession<'_>| -> Result<(), Error> {
        let n = schema.decode(session.data).unwrap().get_i64("n").unwrap();
        let seen = (session.version, session.owner.to_owned(), session.label.to_owned(), n);
        assert!(all.insert(session.id, seen).is_none(), "told twice");
        Ok(())
    });
    told.unwrap();
    all
}

/// All sessions that a store has.
fn in_store(store: &Store) -> BTreeMap<SessionId, Seen> {
    let mut all = BTreeMap::new();
    let mut cursor = None;
    loop {
        let page = store.sessions(cursor, 1000);
        for info in page.sessions {
            let session = store.get(info.id).unwrap();
            let version: u32 = session.version().to_string().parse().unwrap();
            let owner = session.owner().unwrap_or_default().to_owned();
            let n = session.get_i64("n").unwrap();
            all.insert(info.id, (version, owner, info.label.unwrap_or_default(), n));
        }
        cursor = page.next;
        if cursor.is_none() {
            return all;
        }
    }
}

/// Random work of every kind; after each few steps the files, read beside the store, tell what the
/// store tells.
#[test]
fn files_tell_what_the_store_tells() {
    for seed in 0..if crate::support::full() { 100 } else { 4 } {
        let directory = Directory::new(&format!("fold-{seed}"));
        let mut store: Store = small().open(&directory.0).unwrap();
        let mut random = (seed as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = move |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut ids: Vec<SessionId> = Vec::new();
        for step in 0..400 {
            let pick = |n: u64| (n as usize) % ids.len().max(1);
            let at = pick(next(1 << 20));
            let id = ids.get(at).copied();
            match (next(12), id) {
                (0..=2, _) | (_, None) => ids.push(store.create(data(step)).unwrap().id()),
                (3, _) => {
                    let owner = format!("user-{}", next(5));
                    let options = CreateOptions::new().owner(&owner).label("here");
                    ids.push(store.create_with(data(step), options).unwrap().id());
                }
                (4 | 5, Some(id)) => drop(store.update(id, |s| s.set("n", step)).unwrap()),
                (6, Some(id)) => {
                    store.end(id, Reason::LoggedOut).unwrap();
                    ids.swap_remove(at);
                }
                (7, Some(id)) => ids[at] = store.rotate(id).unwrap().id(),
                (8, Some(id)) => ids[at] = store.renew(id).unwrap().id(),
                (9, Some(id)) => store.touch(id).unwrap(),
                (10, Some(_)) if next(4) == 0 => drop(store.snapshot().unwrap()),
                (11, Some(_)) if next(4) == 0 => {
                    store.close().unwrap();
                    store = small().open(&directory.0).unwrap();
                }
                _ => {}
            }
            if step % 20 == 0 {
                assert!(Files::read(&directory.0).unwrap().is_in_use());
                assert_eq!(in_files(&directory), in_store(&store), "seed {seed}, step {step}");
            }
        }
        let expected = in_store(&store);
        store.close().unwrap();
        assert!(!Files::read(&directory.0).unwrap().is_in_use());
        assert_eq!(in_files(&directory), expected);
        // The same again from a snapshot alone.
        let saved = Claim::open(&directory.0).unwrap().compact().unwrap();
        assert!(saved.sessions >= expected.len() as u64);
        assert_eq!(in_files(&directory), expected);
        let store: Store = small().open(&directory.0).unwrap();
        store.validate();
        assert_eq!(in_store(&store), expected);
    }
}

/// What is read beside writers is one state of the store, never a mixture: of two sessions that are
/// always written one after the other, the second is never ahead, nor more than one step behind.
#[test]
fn reading_beside_writers_sees_one_state() {
    let directory = Directory::new("beside");
    let store: Store = small().snapshot_bytes(1 << 20).open(&directory.0).unwrap();
    let pairs: Vec<[SessionId; 2]> =
        (0..2).map(|_| [(); 2].map(|()| store.create(data(0)).unwrap().id())).collect();
    let rotating = store.create(data(-1)).unwrap().id();
    let is_over = AtomicBool::new(false);
    let rounds = if crate::support::full() { 2000 } else { 60 };
    std::thread::scope(|scope| {
        for pair in &pairs {
            let (store, is_over) = (&store, &is_over);
            scope.spawn(move || {
                for n in 1.. {
                    for id in pair {
                        store.update(*id, |s| drop(s.set("n", n))).unwrap();
                    }
                    if is_over.load(Relaxed) {
                        break;
                    }
                }
            });
        }
        scope.spawn(|| {
            let mut id = rotating;
            for n in 0_u32.. {
                id = store.rotate(id).unwrap().id();
                if n.is_multiple_of(100) {
                    store.snapshot().unwrap();
                }
                if is_over.load(Relaxed) {
                    break;
                }
            }
        });
        let read = std::panic::catch_unwind(|| {
            let mut before = vec![0; pairs.len()];
            for _ in 0..rounds {
                let all = in_files(&directory);
                assert_eq!(all.len(), 5, "{all:?}");
                assert_eq!(all.values().filter(|seen| seen.3 == -1).count(), 1, "{all:?}");
                for (pair, before) in pairs.iter().zip(&mut before) {
                    let [first, second] = pair.map(|id| all[&id].3);
                    assert!(first == second || first == second + 1, "{first} and {second}");
                    assert!(second >= *before, "went back to {second} from {before}");
                    *before = second;
                }
            }
        });
        is_over.store(true, Relaxed);
        if let Err(panic) = read {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Not a byte is changed by whoever only reads, no file is made, and no server is kept out.
#[test]
fn reading_leaves_no_trace() {
    let directory = Directory::new("trace");
    let store: Store = small().open(&directory.0).unwrap();
    store.create(data(1)).unwrap();
    store.close().unwrap();
    std::fs::remove_file(directory.0.join("lock")).unwrap();
    let all = || {
        let files = directory.files("").into_iter();
        files.map(|file| (std::fs::read(&file).unwrap(), file)).collect::<Vec<_>>()
    };
    let before = all();
    let files = Files::read(&directory.0).unwrap();
    let _ = (files.contents(), in_files(&directory));
    assert!(Files::verify(&directory.0, |_, _| ()).unwrap().damage.is_empty());
    assert!(before == all());
    // While the first reader still has the files open.
    let store: Store = small().open(&directory.0).unwrap();
    for n in 0..100 {
        store.create(data(n)).unwrap();
    }
    store.snapshot().unwrap();
    store.close().unwrap();
    let mut count = 0;
    let told = files.sessions(|_| -> Result<(), Error> {
        count += 1;
        Ok(())
    });
    told.unwrap();
    assert_eq!(count, 1, "as it was when it was read");
}

/// Who asks in whatever rhythm whether a directory is in use keeps no server out.
#[test]
fn asking_keeps_nobody_out() {
    let directory = Directory::new("asking");
    drop::<Store>(small().open(&directory.0).unwrap());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                let _ = Files::read(&directory.0);
            }
        });
        for _ in 0..50 {
            let opened = small().open(&directory.0);
            is_over.store(opened.is_err(), Relaxed);
            opened.unwrap().close().unwrap();
        }
        is_over.store(true, Relaxed);
    });
}

/// An import is all or nothing, and keeps what a session is.
#[test]
fn imports_are_whole() {
    let directory = Directory::new("import");
    let schema = Schema::of_attributes(0);
    let bytes = schema.encode(&data(7)).unwrap().unwrap();
    let now_ms = {
        let store: Store = small().open(&directory.0).unwrap();
        store.create(data(1)).unwrap();
        store.close().unwrap();
        Files::read(&directory.0).unwrap().now_ms()
    };
    let session = |n: u128| StoredSession {
        id: uuid::Uuid::from_u128(n).into(),
        version: 9,
        owner: "alice",
        label: "here",
        created_ms: now_ms - 5000,
        authenticated_ms: now_ms - 4000,
        seen_ms: now_ms - 3000,
        idle_timeout: Some(Duration::from_millis(3_600_000)),
        lifetime: None,
        data: &bytes,
    };
    let import = |taken, numbers: &[u128]| {
        let claim = Claim::open(&directory.0).unwrap();
        claim.import(schema, taken, |import| {
            numbers.iter().try_for_each(|&number| import.push(&session(number)))
        })
    };
    assert_eq!(import(Taken::Refuse, &[1, 2]).unwrap().sessions, 3);
    for numbers in [&[3, 2][..], &[4, 4]] {
        let refused = import(Taken::Refuse, numbers);
        assert!(matches!(refused, Err(Error::IdTaken(_))), "{refused:?}");
        assert_eq!(in_files(&directory).len(), 3);
    }
    assert_eq!(import(Taken::Replace, &[2, 3]).unwrap().sessions, 4);
    let claim = Claim::open(&directory.0).unwrap();
    let bad = StoredSession { data: b"no archive", ..session(9) };
    let refused = claim.import(schema, Taken::Refuse, |import| import.push(&bad));
    assert!(matches!(refused, Err(Error::Encode(_))), "{refused:?}");
    let other = Schema { number: 1, ..schema };
    let refused = claim.import(other, Taken::Refuse, |_| -> Result<(), Error> { Ok(()) });
    assert!(matches!(refused, Err(Error::Unreadable { .. })), "{refused:?}");
    drop(claim);

    let files = Files::read(&directory.0).unwrap();
    let mut found = 0;
    let told = files.sessions(|stored| -> Result<(), Error> {
        if stored.id == session(1).id {
            assert_eq!(stored, session(1));
            found += 1;
        }
        Ok(())
    });
    told.unwrap();
    assert_eq!(found, 1);
    let store: Store = small().open(&directory.0).unwrap();
    store.validate();
    assert_eq!(store.owner_sessions("alice").len(), 3);
    assert_eq!(store.get(session(1).id).unwrap().get_i64("n"), Some(7));
}
