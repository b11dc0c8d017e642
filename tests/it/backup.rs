//! A backup is the store of one moment, made while it is in use.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use cloakroom::{Attributes, Builder, CreateOptions, Error, Reason, SessionId, Store};

use crate::support::Directory;

fn small() -> Builder<Attributes> {
    let builder = Store::builder().segment_bytes(1 << 20).snapshot_bytes(1 << 20);
    builder.anonymous_idle_timeout(Duration::from_secs(1800))
}

fn data(n: i64) -> Attributes {
    Attributes::from([("n", n.into())])
}

fn n_of(store: &Store, id: SessionId) -> Option<i64> {
    store.peek(id, |s| s.get_i64("n").unwrap()).ok()
}

/// One thing that a writer did: what these sessions are then; None: ended.
type Step = Vec<(SessionId, Option<i64>)>;

/// How far a writer has come.
#[derive(Default)]
struct Progress {
    begun: AtomicUsize,
    returned: AtomicUsize,
}

/// Works on sessions of its own until it is told to stop. Returns its steps.
fn write(store: &Store, progress: &Progress, is_over: &AtomicBool) -> Vec<Step> {
    let mut ids: Vec<SessionId> = Vec::new();
    let mut steps: Vec<Step> = Vec::new();
    while !is_over.load(SeqCst) {
        let number = steps.len() + 1;
        progress.begun.store(number, SeqCst);
        let (n, at) = (number as i64, (number * 7919) % ids.len().max(1));
        let step = match (number % 8, ids.get(at).copied()) {
            (0, Some(id)) if ids.len() > 20 => {
                store.end(id, Reason::LoggedOut).unwrap();
                ids.swap_remove(at);
                vec![(id, None)]
            }
            (1, Some(id)) => {
                let value = n_of(store, id);
                ids[at] = store.rotate(id).unwrap().id();
                vec![(id, None), (ids[at], value)]
            }
            (2..=6, Some(id)) => {
                store.update(id, |s| drop(s.set("n", n))).unwrap();
                vec![(id, Some(n))]
            }
            _ => {
                let options = CreateOptions::new().owner("alice");
                ids.push(store.create_with(data(n), options).unwrap().id());
                vec![(ids[ids.len() - 1], Some(n))]
            }
        };
        steps.push(step);
        progress.returned.store(number, SeqCst);
    }
    steps
}

/// Whether the copy is what a writer's sessions were after one of these steps, all together.
fn is_one_moment(steps: &[Step], from: usize, to: usize, copy: &Store) -> bool {
    let mut expected: HashMap<SessionId, Option<i64>> = HashMap::new();
    let found: HashMap<SessionId, Option<i64>> =
        steps.iter().flatten().map(|&(id, _)| (id, n_of(copy, id))).collect();
    let mut wrong = found.values().filter(|found| found.is_some()).count();
    for (index, step) in steps.iter().enumerate().take(to) {
        if index >= from && wrong == 0 {
            return true;
        }
        for &(id, state) in step {
            let before = expected.insert(id, state).flatten();
            wrong -= usize::from(before != found[&id]);
            wrong += usize::from(state != found[&id]);
        }
    }
    wrong == 0
}

/// Writers run all the while, snapshots too. Everything that had returned is in the copy, nothing
/// lives that had ended, and the sessions of each writer are in the state after one and the same
/// step of those that it did meanwhile.
#[test]
fn a_backup_is_one_moment_of_a_store_in_use() {
    let rounds = if crate::support::full() { 100 } else { 8 };
    for round in 0..rounds {
        let (directory, copy) = (Directory::new("busy"), Directory::new("busy-copy"));
        let store: Store = small().open(&directory.0).unwrap();
        let old: Vec<SessionId> = (0..2000).map(|n| store.create(data(n)).unwrap().id()).collect();
        let progress = [Progress::default(), Progress::default()];
        let is_over = AtomicBool::new(false);
        let mut bounds = Vec::new();
        let histories: Vec<Vec<Step>> = std::thread::scope(|scope| {
            let writers: Vec<_> = progress
                .iter()
                .map(|progress| scope.spawn(|| write(&store, progress, &is_over)))
                .collect();
            scope.spawn(|| {
                while round % 2 == 1 && !is_over.load(SeqCst) {
                    store.snapshot().unwrap();
                }
            });
            std::thread::sleep(Duration::from_millis(30 * (round % 4)));
            let from = progress.each_ref().map(|progress| progress.returned.load(SeqCst));
            let saved = store.backup(&copy.0);
            let to = progress.each_ref().map(|progress| progress.begun.load(SeqCst));
            bounds.extend(from.into_iter().zip(to));
            is_over.store(true, SeqCst);
            saved.unwrap();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let copy: Store = small().open(&copy.0).unwrap();
        copy.validate();
        for (n, id) in old.iter().enumerate() {
            assert_eq!(n_of(&copy, *id), Some(n as i64));
        }
        for (steps, (from, to)) in histories.iter().zip(bounds) {
            assert!(is_one_moment(steps, from, to, &copy), "round {round}, {from} to {to}");
        }
    }
}

/// The copy is a store of its own: opened, written, closed, opened again; the first knows nothing
/// of it. Its files are for nobody else.
#[test]
fn a_backup_opens_as_a_store() {
    let (directory, copy) = (Directory::new("backup"), Directory::new("backup-copy"));
    let store: Store = small().open(&directory.0).unwrap();
    let kept = store.create(data(1)).unwrap().id();
    let renewed = store.create(data(2)).unwrap().id();
    let successor = store.renew(renewed).unwrap().id();
    let ended = store.create(data(3)).unwrap().id();
    store.end(ended, Reason::LoggedOut).unwrap();
    assert_eq!(store.backup(&copy.0).unwrap().sessions, 3, "with the alias");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&copy.0), 0o700);
    assert!(copy.files("").iter().all(|file| mode(file) == 0o600));
    assert_eq!(copy.files("snapshot-").len(), 1);
    store.update(kept, |s| drop(s.set("n", 9))).unwrap();
    let second: Store = small().open(&copy.0).unwrap();
    second.validate();
    assert_eq!([kept, renewed, successor].map(|id| n_of(&second, id)), [Some(1), Some(2), Some(2)]);
    assert_eq!(n_of(&second, ended), None);
    second.update(kept, |s| drop(s.set("n", 5))).unwrap();
    second.close().unwrap();
    assert_eq!(n_of(&small().open(&copy.0).unwrap(), kept), Some(5));
    assert_eq!(n_of(&store, kept), Some(9));
}

/// What is not empty stays as it is; what fails leaves nothing.
#[test]
fn a_backup_goes_into_an_empty_directory() {
    let (directory, copy) = (Directory::new("refused"), Directory::new("refused-copy"));
    let store: Store = small().open(&directory.0).unwrap();
    store.create(data(1)).unwrap();
    std::fs::create_dir(&copy.0).unwrap();
    let note = copy.0.join("note");
    std::fs::write(&note, "mine").unwrap();
    for path in [&copy.0, &directory.0, &copy.0.join("none").join("none")] {
        let refused = store.backup(path);
        assert!(matches!(refused, Err(Error::Files { .. })), "{refused:?}");
    }
    assert_eq!(copy.files(""), std::slice::from_ref(&note));
    std::fs::remove_file(note).unwrap();
    store.backup(&copy.0).unwrap();
    let second = store.backup(&copy.0).unwrap_err().to_string();
    assert!(second.contains("not empty") && second.contains("refused-copy"), "{second}");

    let in_memory: Store = Store::builder().in_memory().unwrap();
    let nowhere = Directory::new("refused-memory");
    let refused = in_memory.backup(&nowhere.0).unwrap_err().to_string();
    assert!(refused.contains("in memory") && !nowhere.0.exists(), "{refused}");
}

/// Files that cannot be read are no backup: the error tells which, and nothing is left.
#[test]
fn a_backup_of_damaged_files_fails() {
    let (directory, copy) = (Directory::new("rotten"), Directory::new("rotten-copy"));
    let store: Store = small().open(&directory.0).unwrap();
    for n in 0..100 {
        store.create(data(n)).unwrap();
    }
    store.snapshot().unwrap();
    let snapshot = directory.files("snapshot-").remove(0);
    let mut bytes = std::fs::read(&snapshot).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&snapshot, bytes).unwrap();
    let refused = store.backup(&copy.0);
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    assert!(copy.files("").is_empty());
}
