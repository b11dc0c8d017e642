//! Files of another session type: taken over, or refused without a change.

use cloakroom::{Builder, CreateOptions, Error, Load, Missing, OnDamage, Reason, SessionId, Store};

use crate::support::Directory;

mod v0 {
    #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    pub(super) struct Cart {
        pub(super) items: Vec<u32>,
    }
}

mod v1 {
    #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    pub(super) struct Cart {
        pub(super) items: Vec<u32>,
        pub(super) total: u64,
    }
}

#[derive(Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Cart {
    count: u64,
    total: u64,
}

fn builder() -> Builder<Cart> {
    Store::builder().schema(2).segment_bytes(1 << 20)
}

fn migrating() -> Builder<Cart> {
    builder()
        .migrate(0, |old: v0::Cart| {
            (!old.items.is_empty()).then_some(Cart { count: old.items.len() as u64, total: 0 })
        })
        .migrate(1, |old: v1::Cart| Some(Cart { count: old.items.len() as u64, total: old.total }))
}

/// A store with sessions of the first type in the snapshot and in the log behind it: two with
/// items, an empty one, an ended one, and the token and new token of a renewed one.
fn first_type(directory: &Directory) -> [SessionId; 6] {
    let store = Store::<v0::Cart>::builder().segment_bytes(1 << 20).open(&directory.0).unwrap();
    let create = |items: &[u32], owner: &str| {
        let options = CreateOptions::new().owner(owner).label("Firefox");
        store.create_with(v0::Cart { items: items.to_vec() }, options).unwrap().id()
    };
    let (in_snapshot, empty, renewed) =
        (create(&[1], "alice"), create(&[], "bob"), create(&[9], "eve"));
    store.snapshot().unwrap().unwrap();
    let (in_log, ended) = (create(&[1, 2, 3], "alice"), create(&[4], "bob"));
    store.end(ended, Reason::LoggedOut).unwrap();
    store.update(in_snapshot, |cart| cart.items.push(2)).unwrap();
    let new = store.renew(renewed).unwrap().id();
    store.close().unwrap();
    [in_snapshot, in_log, empty, ended, renewed, new]
}

fn cart(store: &Store<Cart>, id: SessionId) -> Result<Cart, Missing> {
    store.get(id).map(|session| session.to_data().unwrap())
}

fn contents(directory: &Directory) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let read = |file: std::path::PathBuf| (file.clone(), std::fs::read(file).unwrap());
    directory.files("").into_iter().map(read).collect()
}

#[test]
fn sessions_of_an_earlier_type_are_taken_over() {
    for load in [Load::Mapped, Load::Whole] {
        let directory = Directory::new(&format!("migrated-{load:?}"));
        let [in_snapshot, in_log, empty, ended, renewed, new] = first_type(&directory);
        let refused = builder().open(&directory.0);
        assert!(matches!(refused, Err(Error::Unreadable { .. })), "{refused:?}");

        let store = migrating().load(load).open(&directory.0).unwrap();
        let report = store.recovery().unwrap().clone();
        assert_eq!((report.migrated, report.dropped, report.undecodable), (3, 1, 0), "{report}");
        assert_eq!(report.sessions, 3, "{report}");
        let text = report.to_string();
        assert!(text.contains("3 migrated") && text.contains("1 dropped"), "{text}");
        assert_eq!(cart(&store, in_snapshot), Ok(Cart { count: 2, total: 0 }));
        assert_eq!(cart(&store, in_log), Ok(Cart { count: 3, total: 0 }));
        assert_eq!(cart(&store, renewed), Ok(Cart { count: 1, total: 0 }), "the old token");
        assert_eq!(cart(&store, new), Ok(Cart { count: 1, total: 0 }));
        assert!(cart(&store, empty).is_err() && cart(&store, ended).is_err());
        let owned = store.owner_sessions("alice");
        let mut ids: Vec<_> = owned.iter().map(|info| info.id).collect();
        ids.sort_by_key(|&id| id != in_snapshot);
        assert_eq!(ids, [in_snapshot, in_log]);
        assert_eq!(owned[0].label.as_deref(), Some("Firefox"));
        store.update(in_log, |cart| cart.total = 7).unwrap();
        store.close().unwrap();

        // From now on the files are of the present type; the migrations may stay or go.
        for builder in [migrating(), builder()] {
            let store = builder.open(&directory.0).unwrap();
            assert_eq!(store.recovery().unwrap().migrated, 0);
            assert_eq!(cart(&store, in_log), Ok(Cart { count: 3, total: 7 }));
            store.close().unwrap();
        }
        let earlier = Store::<v0::Cart>::builder().open(&directory.0).map(drop);
        assert!(matches!(earlier, Err(Error::Unreadable { .. })), "{earlier:?}");
    }
}

#[test]
fn each_earlier_type_has_its_own_migration() {
    let directory = Directory::new("migrated-second");
    let store = Store::<v1::Cart>::builder().schema(1).open(&directory.0).unwrap();
    let id = store.create(v1::Cart { items: vec![5], total: 11 }).unwrap().id();
    store.close().unwrap();
    let store = migrating().open(&directory.0).unwrap();
    assert_eq!(cart(&store, id), Ok(Cart { count: 1, total: 11 }));
}

// A type of the same name, number and size whose fields mean something else: the check of the
// archive finds it, and nothing is lost unless the caller says so.
#[test]
fn data_that_does_not_decode_is_refused_or_dropped() {
    mod other {
        #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        pub(super) struct Flag {
            pub(super) byte: u8,
        }
    }
    #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    struct Flag {
        is_set: bool,
    }
    let directory = Directory::new("undecodable");
    let store = Store::<other::Flag>::builder().segment_bytes(1 << 20).open(&directory.0).unwrap();
    let create = |byte| store.create(other::Flag { byte }).unwrap().id();
    let (good, bad) = (create(1), create(1));
    store.snapshot().unwrap();
    // The older state, which does decode, must not come back.
    store.update(bad, |flag| flag.byte = 77).unwrap();
    let also_bad = create(200);
    store.close().unwrap();

    let before = contents(&directory);
    let refused = Store::<Flag>::builder().open(&directory.0).map(drop);
    assert!(refused.unwrap_err().to_string().contains(&bad.to_string()));
    let refused = builder().migrate(0, |_: Flag| Some(Cart { count: 0, total: 0 }));
    let refused = refused.open(&directory.0).map(drop);
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("cannot be migrated") && text.contains("session"), "{text}");
    assert!(before == contents(&directory), "nothing was changed");

    let dropping = || Store::<Flag>::builder().segment_bytes(1 << 20).drop_undecodable(true);
    let store = dropping().open(&directory.0).unwrap();
    let report = store.recovery().unwrap();
    assert_eq!((report.undecodable, report.migrated, report.sessions), (2, 0, 1), "{report}");
    assert_eq!(store.read(good, |flag| flag.is_set), Ok(true));
    assert_eq!(store.read(bad, |flag| flag.is_set), Err(Missing::Unknown));
    assert_eq!(store.read(also_bad, |flag| flag.is_set), Err(Missing::Unknown));
    store.close().unwrap();
    let again = dropping().open(&directory.0).unwrap();
    assert_eq!(again.recovery().unwrap().undecodable, 0);
    again.close().unwrap();

    // Files of another number, without a migration: what decodes is taken for the present type.
    let store = dropping().schema(9).open(&directory.0).unwrap();
    assert_eq!(store.recovery().unwrap().migrated, 1);
    assert_eq!(store.read(good, |flag| flag.is_set), Ok(true));
}

#[test]
fn a_panic_of_the_migration_is_passed_on_and_changes_nothing() {
    let directory = Directory::new("migration-panics");
    let [in_snapshot, ..] = first_type(&directory);
    let before = contents(&directory);
    let panicking = builder().migrate(0, |_: v0::Cart| panic!("as it must"));
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        panicking.open(&directory.0).map(drop)
    }));
    assert!(opened.is_err());
    assert!(before == contents(&directory), "nothing was changed");
    let store = Store::<v0::Cart>::builder().open(&directory.0).unwrap();
    assert_eq!(store.read(in_snapshot, |cart| cart.items.len()), Ok(2));
    store.close().unwrap();
    let store = migrating().open(&directory.0).unwrap();
    assert_eq!(cart(&store, in_snapshot), Ok(Cart { count: 2, total: 0 }));
}

// Damage that the migration meets first is damage all the same.
#[test]
fn damaged_files_are_not_migrated() {
    let directory = Directory::new("migration-damaged");
    let [in_snapshot, ..] = first_type(&directory);
    let segment = directory.files("log-").pop().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[4096 + 150] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let before = contents(&directory);
    let refused = migrating().open(&directory.0).map(drop);
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    assert!(before == contents(&directory), "nothing was changed");
    let anew = migrating().on_damage(OnDamage::QuarantineAndStartEmpty);
    let store = anew.open(&directory.0).unwrap();
    let report = store.recovery().unwrap();
    assert!(report.quarantine.is_some() && report.migrated == 0, "{report:?}");
    assert_eq!(cart(&store, in_snapshot), Err(Missing::Unknown));
}
