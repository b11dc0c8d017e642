//! Damage in the file of a snapshot, found while sessions are served from it.

use std::path::{Path, PathBuf};

use cloakroom::{Error, Except, Load, Missing, OnDamage, Reason, SessionId, Store};

use super::{data, filled, held, n_of, small, unloaded};
use crate::support::{Directory, owned_by, seconds};

const SESSIONS: i64 = 3000;

fn store_with_owners() -> (Directory, Vec<SessionId>) {
    let name = format!("restart-damage-{:?}", std::thread::current().id());
    filled(&name, small(), |store| {
        (0..SESSIONS)
            .map(|n| store.create_with(data(n), owned_by(&format!("user{n}"))).unwrap().id())
            .collect()
    })
}

/// Where a section lies, by its place in the header (`docs/format.md`).
fn section(bytes: &[u8], at: usize) -> (usize, usize) {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    (number(at), number(at + 8))
}

fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("snapshot-"))
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Whatever is damaged: no wrong answer, no write once it is known, no file changed or removed, and
/// everybody who asks is told.
#[test]
fn damage_found_late_stops_writes_and_nothing_else() {
    for (header_at, what) in [(136, "entry"), (152, "hash index"), (168, "owner"), (200, "chunk")] {
        let (directory, ids) = store_with_owners();
        let file = directory.files("snapshot-").remove(0);
        let mut bytes = std::fs::read(&file).unwrap();
        let (offset, len) = section(&bytes, header_at);
        bytes[offset + len / 2] ^= 0x10;
        std::fs::write(&file, &bytes).unwrap();
        let store = held(small(), &directory.0);
        assert_eq!(store.recovery().unwrap().sessions, SESSIONS as u64);
        // A create looks up that its id is new, and may meet the damage: then there is another one.
        let new = match store.create(data(7)) {
            Ok(token) => (token.id(), 7),
            Err(Error::Damaged { .. }) if what == "hash index" => {
                let found = ids.iter().enumerate().find(|(_, id)| n_of(&store, **id).is_ok());
                found.map(|(n, &id)| (id, n as i64)).unwrap()
            }
            Err(error) => panic!("{what}: {error}"),
        };
        let (new, value) = new;

        let mut unknown = 0;
        for (n, &id) in ids.iter().enumerate() {
            match n_of(&store, id) {
                Ok(found) => assert_eq!(found, n as i64),
                Err(missing) => {
                    assert_eq!(missing, Missing::Unknown);
                    unknown += 1;
                }
            }
            let owned = store.owner_sessions(&format!("user{n}"));
            assert!(owned.iter().all(|info| info.id == id));
        }
        let expected = if what == "entry" || what == "hash index" { 1..400 } else { 0..1 };
        assert!(expected.contains(&unknown), "{what}: {unknown} unknown");
        let told = loop {
            match store.load_some(100) {
                Ok(true) => {}
                other => break other,
            }
        };
        assert!(matches!(told, Err(Error::Damaged { .. })), "{what}: {told:?}");
        assert!(store.stats().journal.unwrap().damaged, "{what}");

        // Reads go on; no write does.
        assert_eq!(n_of(&store, new), Ok(value));
        let refused = |result: cloakroom::Result<()>| match result {
            Err(Error::Damaged { file: told, offset, problem }) => {
                assert_eq!(told, file);
                assert!(offset >= 4096 && !problem.is_empty());
            }
            other => panic!("{what}: {other:?}"),
        };
        refused(store.create(data(1)).map(drop));
        refused(store.update(new, |_| ()));
        refused(store.rotate(new).map(drop));
        refused(store.renew(new).map(drop));
        refused(store.login(new, "alice", "").map(drop));
        refused(store.end(new, Reason::LoggedOut));
        refused(store.end_owner("user5", Except(None), Reason::Revoked).map(drop));
        refused(store.end_owned("user5", ids[5], Reason::Revoked).map(drop));
        refused(store.end_all(Reason::Revoked).map(drop));
        refused(store.snapshot().map(drop));
        store.validate();
        let logs = directory.files("log-").len();
        drop(store);
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "the snapshot was changed");
        assert_eq!(directory.files("log-").len(), logs);

        // Who asks for all of it before anything is served is refused, and may start empty.
        let before = contents(&directory.0);
        if what != "hash index" && what != "owner" {
            let whole = small().load(Load::Whole).open(&directory.0);
            assert!(matches!(whole, Err(Error::Damaged { .. })), "{what}: {whole:?}");
            assert!(contents(&directory.0) == before);
            let choice = OnDamage::QuarantineAndStartEmpty;
            let store: Store = small().on_damage(choice).open(&directory.0).unwrap();
            assert!(store.recovery().unwrap().quarantine.is_some());
            assert_eq!((store.stats().live, unloaded(&store)), (0, 0));
            assert_eq!(n_of(&store, ids[0]), Err(Missing::Unknown));
            store.create(data(1)).unwrap();
        }
    }
}

/// The thread that brings sessions finds damage, and tells whoever listens to its progress.
#[test]
fn progress_tells_of_damage() {
    let (directory, ids) = store_with_owners();
    let file = directory.files("snapshot-").remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let (offset, len) = section(&bytes, 136);
    bytes[offset + len - 100] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let (told, hear) = std::sync::mpsc::channel();
    let tell = move |progress| told.send(progress).unwrap();
    let store: Store = small().open_with(&directory.0, tell).unwrap();
    let problem = loop {
        let progress = hear.recv_timeout(seconds(60)).unwrap();
        if let Some(problem) = progress.problem {
            break problem;
        }
        assert!(progress.sessions < progress.sessions_total);
    };
    assert!(problem.contains("snapshot-") && problem.contains("at byte"), "{problem}");
    assert!(matches!(store.create(data(1)), Err(Error::Damaged { .. })));
    assert!(ids.iter().filter(|&&id| n_of(&store, id).is_ok()).count() > 2000);
}

/// What the log behind the snapshot needs is read before opening returns, and refuses it.
#[test]
fn damage_that_the_log_needs_refuses_the_start() {
    let (directory, ids) = store_with_owners();
    let store: Store = small().open(&directory.0).unwrap();
    for &id in &ids[..200] {
        store.end(id, Reason::LoggedOut).unwrap();
    }
    store.close().unwrap();
    let file = directory.files("snapshot-").remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let (offset, len) = section(&bytes, 152);
    for page in bytes[offset..offset + len].chunks_mut(4096) {
        page[7] ^= 1;
    }
    std::fs::write(&file, &bytes).unwrap();
    let refused = small().open(&directory.0);
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
}
