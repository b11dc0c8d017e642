//! Sessions whose files are encrypted.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use cloakroom::cookie::Keys;
use cloakroom::directory::{Claim, Directory as Files, Taken};
use cloakroom::{
    Attributes, Builder, CreateOptions, Error, Except, Load, Missing, Reason, SessionId, Store,
    Token,
};

use crate::support::Directory;

const OWNER: &str = "alice@example.org";
const LABEL: &str = "Firefox on Linux";
const SECRET_DATA: &str = "her shopping list";

fn keys(secrets: &[u8]) -> Keys {
    Keys::new(secrets.iter().map(|&byte| [byte; 32])).unwrap()
}

fn builder() -> Builder<Attributes> {
    Store::builder().segment_bytes(1 << 20)
}

fn sealed(secrets: &[u8]) -> Builder<Attributes> {
    builder().encryption(keys(secrets))
}

fn data(text: &str) -> Attributes {
    Attributes::from([("text", text.into())])
}

fn login(store: &Store) -> Token {
    let options = CreateOptions::new().owner(OWNER).label(LABEL);
    store.create_with(data(SECRET_DATA), options).unwrap()
}

fn text_of(store: &Store, id: SessionId) -> Result<String, Missing> {
    store.read(id, |session| session.get_str("text").unwrap_or_default().to_owned())
}

/// All bytes of all files, by name.
fn bytes_in(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    all.sort();
    all
}

fn holds(directory: &Path, text: &str) -> bool {
    bytes_in(directory)
        .iter()
        .any(|(_, bytes)| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
}

/// The text of the error with which files are refused, of which not a byte was changed.
fn refusal(directory: &Directory, builder: Builder<Attributes>) -> String {
    let before = bytes_in(&directory.0);
    let text = match builder.open(&directory.0) {
        Err(error @ Error::Unreadable { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(bytes_in(&directory.0), before, "{text}");
    text
}

/// The log with the snapshot, and a plain store as proof that the search finds what is there.
#[test]
fn no_file_tells_what_a_session_holds() {
    let plain = Directory::new("encryption-plain");
    let store = builder().open(&plain.0).unwrap();
    login(&store);
    store.snapshot().unwrap();
    drop(store);
    let texts = [OWNER, LABEL, SECRET_DATA];
    assert!(texts.iter().all(|text| holds(&plain.0, text)));

    let directory = Directory::new("encryption");
    let store = sealed(&[1]).open(&directory.0).unwrap();
    let first = login(&store);
    store.snapshot().unwrap();
    let second = login(&store);
    store.update(second.id(), |session| session.set("text", SECRET_DATA)).unwrap();
    let third = store.rotate(first.id()).unwrap();
    store.close().unwrap();
    let tokens = [&first, &second, &third].map(|token| token.expose());
    for text in texts.iter().copied().chain(tokens.iter().map(String::as_str)) {
        assert!(!holds(&directory.0, text), "{text}");
    }
}

/// Whatever a store does with the sessions of a snapshot that it maps, or reads, and of the log.
#[test]
fn sessions_come_back_with_their_keys() {
    for load in [Load::Mapped, Load::Whole] {
        let directory = Directory::new(&format!("encryption-back-{load:?}"));
        let store = sealed(&[1]).open(&directory.0).unwrap();
        let saved: Vec<Token> = (0..3).map(|_| login(&store)).collect();
        let nobody = store.create(data("nobody")).unwrap();
        store.snapshot().unwrap();
        let logged = login(&store);
        let moved = store.rotate(saved[1].id()).unwrap();
        store.end(saved[2].id(), Reason::LoggedOut).unwrap();
        store.close().unwrap();

        let again = sealed(&[1]).load(load).loader_thread(false);
        let store = again.open(&directory.0).unwrap();
        assert_eq!(store.recovery().unwrap().from_snapshot, 4);
        let infos = store.owner_sessions(OWNER);
        assert_eq!(infos.len(), 3);
        assert!(infos.iter().all(|info| info.label.as_deref() == Some(LABEL)));
        for token in [&saved[0], &moved, &logged] {
            assert_eq!(text_of(&store, token.id()).as_deref(), Ok(SECRET_DATA));
        }
        assert_eq!(text_of(&store, nobody.id()).as_deref(), Ok("nobody"));
        let ended = Err(Missing::Ended(Reason::LoggedOut));
        assert_eq!(text_of(&store, saved[2].id()), ended);
        assert_eq!(store.end_owner(OWNER, Except(None), Reason::LoggedOut).unwrap(), 3);
        store.validate();
        store.close().unwrap();

        let store = sealed(&[1]).open(&directory.0).unwrap();
        assert_eq!((store.owner_sessions(OWNER).len(), store.stats().live), (0, 1));
    }
}

#[test]
fn other_keys_and_none_are_refused() {
    let directory = Directory::new("encryption-other");
    for with_snapshot in [false, true] {
        let store = sealed(&[1]).open(&directory.0).unwrap();
        let token = login(&store);
        if with_snapshot {
            store.snapshot().unwrap();
        }
        store.close().unwrap();
        let text = refusal(&directory, builder());
        assert!(text.contains("encrypted") && text.contains("Builder::encryption"), "{text}");
        let text = refusal(&directory, sealed(&[2, 3]));
        assert!(text.contains("is not among those that were given"), "{text}");
        // The same where opening may change files.
        refusal(&directory, builder().drop_undecodable(true));
        refusal(&directory, sealed(&[2]).drop_undecodable(true).encrypt_plain(true));
        let store = sealed(&[1, 2]).open(&directory.0).unwrap();
        assert_eq!(text_of(&store, token.id()).as_deref(), Ok(SECRET_DATA));
    }
}

#[test]
fn plain_files_are_encrypted_on_demand() {
    let directory = Directory::new("encryption-takes-over");
    let store = builder().open(&directory.0).unwrap();
    let saved = login(&store);
    store.snapshot().unwrap();
    let logged = login(&store);
    store.close().unwrap();

    let text = refusal(&directory, sealed(&[1]));
    assert!(text.contains("not encrypted") && text.contains("encrypt_plain"), "{text}");
    for _ in 0..2 {
        let store = sealed(&[1]).encrypt_plain(true).open(&directory.0).unwrap();
        assert_eq!(store.owner_sessions(OWNER).len(), 2);
        for token in [&saved, &logged] {
            assert_eq!(text_of(&store, token.id()).as_deref(), Ok(SECRET_DATA));
        }
        store.close().unwrap();
        assert!(!holds(&directory.0, OWNER) && !holds(&directory.0, SECRET_DATA));
    }
    refusal(&directory, builder());
}

/// The old key is needed for as long as a file may have something that it sealed, and no longer.
#[test]
fn keys_change_while_the_store_is_open() {
    let directory = Directory::new("encryption-rotation");
    let ring = keys(&[1]);
    let store = builder().encryption(ring.clone()).open(&directory.0).unwrap();
    let old = login(&store);
    ring.rotate([2; 32]).unwrap();
    let new = login(&store);
    store.close().unwrap();

    let text = refusal(&directory, sealed(&[2]));
    assert!(text.contains("is not among those that were given"), "{text}");
    refusal(&directory, sealed(&[1]));
    let store = sealed(&[2, 1]).loader_thread(false).open(&directory.0).unwrap();
    assert_eq!(store.owner_sessions(OWNER).len(), 2);
    store.snapshot().unwrap();
    store.close().unwrap();

    let store = sealed(&[2]).open(&directory.0).unwrap();
    for token in [&old, &new] {
        assert_eq!(text_of(&store, token.id()).as_deref(), Ok(SECRET_DATA));
    }
}

/// A snapshot during which the key changes has owners under two names.
#[test]
fn an_owner_is_found_under_each_key() {
    let directory = Directory::new("encryption-names");
    let ring = keys(&[1]);
    let store = builder().encryption(ring.clone()).open(&directory.0).unwrap();
    for _ in 0..2000 {
        login(&store);
    }
    std::thread::scope(|scope| {
        let saving = scope.spawn(|| store.snapshot().unwrap());
        for byte in 2..8 {
            ring.rotate([byte; 32]).unwrap();
        }
        saving.join().unwrap();
    });
    store.close().unwrap();
    let all = sealed(&[7, 6, 5, 4, 3, 2, 1]).loader_thread(false);
    let store = all.open(&directory.0).unwrap();
    assert_eq!(store.owner_sessions(OWNER).len(), 2000);
}

/// A segment is begun, which names the newest key, by whoever writes just then with that key in
/// hand, while somebody else waits to change it.
#[test]
fn keys_change_under_load() {
    let directory = Directory::new("encryption-load");
    let ring = keys(&[1, 2]);
    let larger = builder().record_bytes_max(1 << 17);
    let store = larger.encryption(ring.clone()).open(&directory.0).unwrap();
    let writes = AtomicU32::new(0);
    let long = "x".repeat(50_000);
    let ids = std::thread::scope(|scope| {
        let writers = [(); 2].map(|()| {
            scope.spawn(|| {
                let id = store.create(data("")).unwrap().id();
                while writes.fetch_add(1, Relaxed) < 400 {
                    store.update(id, |session| session.set("text", long.as_str())).unwrap();
                }
                id
            })
        });
        for turn in (0_u8..2).cycle() {
            ring.replace([[1 + turn; 32], [2 - turn; 32]]).unwrap();
            if writers.iter().all(|writer| writer.is_finished()) {
                break;
            }
        }
        writers.map(|writer| writer.join().unwrap())
    });
    store.close().unwrap();
    let store = sealed(&[1, 2]).open(&directory.0).unwrap();
    for id in ids {
        assert_eq!(text_of(&store, id).unwrap().len(), long.len());
    }
}

/// What a store and the program's library make of sessions that somebody exchanged, sums and all.
#[test]
fn an_exchanged_session_is_damage() {
    let directory = Directory::new("encryption-forged");
    let store = sealed(&[1]).open(&directory.0).unwrap();
    login(&store);
    store.close().unwrap();
    let other = Directory::new("encryption-forged-other");
    let theirs = sealed(&[1]).open(&other.0).unwrap();
    let token = login(&theirs);
    theirs.close().unwrap();
    // Both are of one owner and key, but not of one store: the identity in the header, with its
    // sum, makes the files of one those of the other.
    let verdict = Files::verify_with(&other.0, keys(&[1]), |_, _| ()).unwrap();
    assert_eq!((verdict.damage.len(), verdict.sessions), (0, 1));
    let store = Files::read(&directory.0).unwrap().contents().store.unwrap();
    for (name, mut bytes) in bytes_in(&other.0).into_iter().filter(|(_, b)| b.len() > 4096) {
        bytes[24..40].copy_from_slice(store.as_bytes());
        let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..4088]);
        bytes[4088..4096].copy_from_slice(&sum.to_le_bytes());
        std::fs::write(other.0.join(name), bytes).unwrap();
    }
    let verdict = Files::verify(&other.0, |_, _| ()).unwrap();
    assert_eq!((verdict.damage.len(), verdict.sessions), (0, 1));
    let verdict = Files::verify_with(&other.0, keys(&[1]), |_, _| ()).unwrap();
    assert!(verdict.damage[0].problem.contains(&token.id().to_string()), "{verdict:?}");
    match sealed(&[1]).open(&other.0) {
        Err(Error::Damaged { problem, .. }) => assert!(problem.contains("was not written so")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn directories_are_read_and_changed_with_keys() {
    let directory = Directory::new("encryption-directory");
    let store = sealed(&[1]).open(&directory.0).unwrap();
    let token = login(&store);
    let copy = Directory::new("encryption-copy");
    assert_eq!(store.backup(&copy.0).unwrap().sessions, 1);
    store.close().unwrap();
    assert!(!holds(&copy.0, OWNER) && !holds(&copy.0, SECRET_DATA));
    let restored = sealed(&[1]).open(&copy.0).unwrap();
    assert_eq!(text_of(&restored, token.id()).as_deref(), Ok(SECRET_DATA));
    drop(restored);

    let closed = Files::read(&directory.0).unwrap();
    assert!(closed.is_encrypted());
    assert_eq!(closed.count().unwrap(), 1);
    let refused = closed.sessions(|_| -> Result<(), Error> { panic!("no key") });
    assert!(matches!(refused, Err(Error::Unreadable { .. })), "{refused:?}");
    assert!(matches!(closed.keys(keys(&[2])), Err(Error::Unreadable { .. })));
    let open = Files::read(&directory.0).unwrap().keys(keys(&[1])).unwrap();
    let mut owners = Vec::new();
    open.sessions(|session| -> Result<(), Error> {
        owners.push((session.id, session.owner.to_owned(), session.label.to_owned()));
        Ok(())
    })
    .unwrap();
    assert_eq!(owners, [(token.id(), OWNER.to_owned(), LABEL.to_owned())]);

    // To the newest of the keys, so that the older one is not needed any more.
    let claim = Claim::open(&directory.0).unwrap().keys(keys(&[2, 1])).unwrap();
    assert_eq!(claim.compact().unwrap().sessions, 1);
    let store = sealed(&[2]).open(&directory.0).unwrap();
    assert_eq!(text_of(&store, token.id()).as_deref(), Ok(SECRET_DATA));
    drop(store);
    // An end holds no session, so it needs no key; it is durable all the same.
    assert_eq!(Claim::open(&directory.0).unwrap().end([token.id()]).unwrap(), 1);
    let store = sealed(&[2]).open(&directory.0).unwrap();
    assert_eq!(text_of(&store, token.id()), Err(Missing::Ended(Reason::Revoked)));
}

#[test]
fn an_import_is_encrypted_from_the_first_byte() {
    let plain = Directory::new("encryption-export");
    let store = builder().open(&plain.0).unwrap();
    let token = login(&store);
    store.close().unwrap();
    let source = Files::read(&plain.0).unwrap();
    let directory = Directory::new("encryption-import");
    let claim = Claim::create(&directory.0).unwrap().keys(keys(&[1])).unwrap();
    let imported = claim.import(source.schema(), Taken::Refuse, |import| {
        source.sessions(|session| import.push(&session))
    });
    assert_eq!(imported.unwrap().sessions, 1);
    drop(claim);
    assert!(!holds(&directory.0, OWNER) && !holds(&directory.0, SECRET_DATA));
    let store = sealed(&[1]).open(&directory.0).unwrap();
    assert_eq!(text_of(&store, token.id()).as_deref(), Ok(SECRET_DATA));
    // Plain files take no keys: they are no more secret for it.
    let refused = Files::read(&plain.0).unwrap().keys(keys(&[1]));
    assert!(matches!(refused, Err(Error::Unreadable { .. })));
}

/// What fits into memory, but not into a file with what sealing adds, is refused as a whole.
#[test]
fn what_would_be_too_long_in_the_file_is_refused() {
    let long = |len: usize| data(&"x".repeat(len));
    let longest = |builder: Builder<Attributes>| builder.record_bytes_max((1 << 24) - 1);
    let memory = longest(builder()).in_memory().unwrap();
    let fits =
        |len: &usize| memory.create(long(*len)).map(|t| memory.end(t.id(), Reason::LoggedOut));
    let len = (0..1 << 24).rev().find(|len| fits(len).is_ok()).unwrap();

    let directory = Directory::new("encryption-long");
    let store = longest(sealed(&[1])).segment_bytes(64 << 20).open(&directory.0).unwrap();
    let id = store.create(long(len - 100)).unwrap().id();
    let refused = store.replace(id, long(len));
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    store.close().unwrap();
    let store = longest(sealed(&[1])).open(&directory.0).unwrap();
    assert_eq!(text_of(&store, id).unwrap().len(), len - 100);
}
