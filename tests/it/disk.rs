//! A disk that is really full: reads go on, ends still succeed, nothing is lost.
//!
//! `tests/run disk` mounts a small file system and sets `CLOAKROOM_SMALL_DISK` to it.

use std::path::PathBuf;
use std::time::Duration;

use cloakroom::{Append, Attributes, Error, Limit, Missing, Reason, SessionId, Store};

use crate::support::Directory;

const BALLAST_BYTES: usize = 6 << 20;

fn data(n: i64) -> Attributes {
    Attributes::from([("n", n.into()), ("text", "x".repeat(3000).into())])
}

fn n_of(store: &Store, id: SessionId) -> Result<i64, Missing> {
    store.read(id, |s| s.get_i64("n").unwrap())
}

#[test]
#[ignore = "needs a small disk: tests/run disk makes one"]
fn a_full_disk_refuses_what_is_new_and_keeps_what_is_there() {
    let disk = PathBuf::from(std::env::var_os("CLOAKROOM_SMALL_DISK").unwrap());
    for append in [Append::Mapped, Append::Written] {
        let ballast = disk.join("ballast");
        std::fs::write(&ballast, vec![1; BALLAST_BYTES]).unwrap();
        let directory = Directory::within(&disk, &format!("full-{append:?}"));
        let builder = || Store::builder().append(append).segment_bytes(1 << 20);
        let store: Store = builder().open(&directory.0).unwrap();

        let mut ids = Vec::new();
        let full = loop {
            match store.create(data(ids.len() as i64)) {
                Ok(token) => ids.push(token.id()),
                Err(error) => break error,
            }
            assert!(ids.len() < 1_000_000, "the disk is not small");
        };
        assert!(matches!(full, Error::Full(Limit::Disk)), "{append:?}: {full}");
        assert!(ids.len() > 100, "{append:?}: only {} sessions", ids.len());

        // Reads go on, writes say what is wrong, ends find the room that was kept for them.
        assert_eq!(n_of(&store, ids[7]), Ok(7));
        let refused = store.update(ids[7], |s| s.set("n", -1)).map(drop);
        assert!(matches!(refused, Err(Error::Full(Limit::Disk))), "{append:?}: {refused:?}");
        assert_eq!(n_of(&store, ids[7]), Ok(7), "half of an update");
        let ended: Vec<SessionId> = ids.drain(..100).collect();
        for &id in &ended {
            store.end(id, Reason::LoggedOut).unwrap();
        }
        store.flush().wait().unwrap();

        // Room again: normal by itself.
        std::fs::remove_file(&ballast).unwrap();
        let mut attempts = 0;
        let after = loop {
            match store.create(data(-2)) {
                Ok(token) => break token.id(),
                Err(Error::Full(Limit::Disk)) => {
                    attempts += 1;
                    assert!(attempts < 600, "{append:?}: still full after half a minute");
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => panic!("{append:?}: {error}"),
            }
        };
        store.close().unwrap();

        let store: Store = builder().open(&directory.0).unwrap();
        store.validate();
        assert_eq!(n_of(&store, after), Ok(-2));
        for (index, &id) in ids.iter().enumerate() {
            assert_eq!(n_of(&store, id), Ok(index as i64 + 100), "{append:?}");
        }
        for &id in &ended {
            assert!(n_of(&store, id).is_err(), "{append:?}: {id} is back");
        }
        println!("{append:?}: {} sessions fitted, 100 ended while it was full", ids.len() + 100);
    }
}
