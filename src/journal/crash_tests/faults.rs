//! Every call of the files failing, once or for ever.

use std::sync::Arc;

use super::model::History;
use super::store::{Disk, Recovered, Setting, Work, check, open, recover};
use super::{Seeded, is_full, random_of, seeds};
use crate::error::{Error, Limit};
use crate::journal::Append;
use crate::journal::files::crash::{CrashDisk, Random};
use crate::journal::files::faulty::{Fault, Faulty, Kind, Times};

/// Those that can fail. A write through a mapping cannot.
const KINDS: [Kind; 13] = [
    Kind::Create,
    Kind::Open,
    Kind::OpenToWrite,
    Kind::List,
    Kind::Rename,
    Kind::Remove,
    Kind::SyncDir,
    Kind::Len,
    Kind::Write,
    Kind::Allocate,
    Kind::Sync,
    Kind::Map,
    Kind::View,
];
const SHORT: [Kind; 2] = [Kind::Write, Kind::Allocate];

type Plan = (Kind, u64, Times, Fault);

/// Works with a fault to come, loses power now and then, dies; then the disk is well again.
fn work_with(plan: Option<Plan>, setting: Setting, random: &mut Random) -> Vec<u64> {
    let what = format!("{plan:?}, {setting:?}");
    let disk = CrashDisk::new();
    let files: Arc<Disk> = Arc::new(Faulty::new(disk.clone()));
    let shared = open(&files, &setting).expect("no fault yet");
    let before: Vec<u64> = KINDS.iter().map(|&kind| files.count(kind)).collect();
    if let Some((kind, ordinal, times, fault)) = plan {
        files.fail(&[kind], ordinal, times, fault);
    }
    let mut work = Work::new(&shared, History::new(), setting, 0);
    work.may_be_late = plan.is_some_and(|(.., fault)| fault == Fault::Late);
    for step in 0..50 {
        work.step(random);
        if random.below(8) == 0 {
            let image = disk.crash_image(random);
            let least = shared.log.durable();
            check(&image, &work.history, least, &format!("{what}, step {step}"));
        }
    }
    let counts = KINDS.iter().zip(before).map(|(&kind, before)| files.count(kind) - before);
    let counts = counts.collect();
    let least = shared.log.durable();
    for _ in 0..2 {
        check(&disk.crash_image(random), &work.history, least, &what);
    }
    let killed = disk.kill_image();
    check(&killed, &work.history, work.history.last(), &format!("{what}, killed"));
    restart(&killed, &work.history, setting, least, random, &what);
    // The disk is well again: so is the store, after a snapshot at the latest.
    files.heal();
    if shared.log.has_failed() {
        assert!(work.commit().is_err(), "{what}: durable without a snapshot");
    }
    work.whole_snapshot().unwrap_or_else(|error| panic!("{what}: {error}"));
    work.put_some(random).unwrap_or_else(|error| panic!("{what}: {error}"));
    work.end_some(random).unwrap_or_else(|error| panic!("{what}: {error}"));
    work.commit().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(shared.log.durable(), work.history.last());
    check(&disk.crash_image(random), &work.history, work.history.last(), &what);
    counts
}

/// Whoever is annoyed by a failed sync starts the process again. What the next one then calls
/// durable must not be what the operating system only pretends to have written.
fn restart(
    killed: &CrashDisk,
    history: &History,
    setting: Setting,
    durable: u64,
    random: &mut Random,
    what: &str,
) {
    let Recovered { last, state, .. } = recover(killed).expect("it was checked");
    let files: Arc<Disk> = Arc::new(Faulty::new(killed.clone()));
    let shared = open(&files, &setting).unwrap_or_else(|error| panic!("{what}: {error}"));
    let least = shared.log.durable();
    let durable = history.before_marks(durable);
    assert!(least >= durable, "{what}: {durable} was durable, {least} is");
    let mut history = history.clone();
    history.adopt(last, state);
    let mut work = Work::new(&shared, history, setting, 1000);
    check(&killed.crash_image(random), &work.history, least, &format!("{what}, started again"));
    work.put_some(random).unwrap_or_else(|error| panic!("{what}: {error}"));
    work.commit().unwrap_or_else(|error| panic!("{what}: {error}"));
    let least = work.history.last();
    check(&killed.crash_image(random), &work.history, least, &format!("{what}, and on"));
}

#[test]
fn no_fault_loses_what_is_durable() {
    let mut runs = 0;
    for seed in seeds(4, 12) {
        let _seeded = Seeded(seed);
        let mut random = random_of(3, seed);
        let mut setting = Setting::draw(&mut random);
        setting.append = if seed % 2 == 0 { Append::Written } else { Append::Mapped };
        let script = random.next();
        let counts = work_with(None, setting, &mut Random::new(script));
        for (kind, count) in KINDS.into_iter().zip(counts) {
            let every = if is_full() { 1 } else { 1 + count / 12 };
            for ordinal in (1..=count).step_by(every as usize) {
                for times in [Times::Once, Times::ForEver] {
                    for fault in [Fault::Eio, Fault::Late, Fault::Enospc, Fault::ShortWrite] {
                        if fault == Fault::ShortWrite && !SHORT.contains(&kind) {
                            continue;
                        }
                        runs += 1;
                        let plan = (kind, ordinal, times, fault);
                        work_with(Some(plan), setting, &mut Random::new(script));
                    }
                }
            }
        }
    }
    println!("{runs} runs with a fault");
}

/// A start that fails leaves everything as it was.
#[test]
fn a_start_that_fails_changes_nothing() {
    for seed in seeds(4, 100) {
        let _seeded = Seeded(seed);
        let mut random = random_of(4, seed);
        let setting = Setting::draw(&mut random);
        let disk = CrashDisk::new();
        let files: Arc<Disk> = Arc::new(Faulty::new(disk.clone()));
        let shared = open(&files, &setting).expect("an empty disk");
        let mut work = Work::new(&shared, History::new(), setting, 0);
        for _ in 0..60 {
            work.step(&mut random);
        }
        let durable = shared.log.durable();
        let faults = [Fault::Eio, Fault::Late].map(|fault| Kind::ALL.map(|kind| (kind, fault)));
        for (kind, fault) in faults.into_iter().flatten() {
            for ordinal in 1..40 {
                let what = format!("{kind:?} number {ordinal}, {fault:?}");
                let killed = disk.kill_image();
                let files: Arc<Disk> = Arc::new(Faulty::new(killed.clone()));
                files.fail(&[kind], ordinal, Times::Once, fault);
                let opened = open(&files, &setting);
                if files.fired() == 0 {
                    break;
                }
                // That of Linux for a mapped write is to do nothing.
                let last = work.history.last();
                let is_kept = opened.is_err();
                let mut history = work.history.clone();
                history.pass(last + 1);
                check(&killed.crash_image(&mut random), &history, durable, &what);
                if kind != Kind::MappedWrite {
                    check(&killed.kill_image(), &history, last, &what);
                }
                drop(opened);
                if is_kept {
                    let files: Arc<Disk> = Arc::new(Faulty::new(killed));
                    let again = open(&files, &setting).unwrap_or_else(|e| panic!("{what}: {e}"));
                    assert!(again.log.durable() >= work.history.before_marks(last), "{what}");
                }
            }
        }
    }
}

/// On a full disk nothing new is written, but sessions end; afterwards all is as before.
#[test]
fn a_full_disk_refuses_sessions_and_admits_ends() {
    for append in [Append::Mapped, Append::Written] {
        for fault in [Fault::Enospc, Fault::Edquot, Fault::ShortWrite] {
            let mut random = random_of(5, 0);
            let setting = Setting { segment_bytes: 16 << 10, append, data_max: 300 };
            let disk = CrashDisk::new();
            let files: Arc<Disk> = Arc::new(Faulty::new(disk.clone()));
            let shared = open(&files, &setting).expect("an empty disk");
            let mut work = Work::new(&shared, History::new(), setting, 0);
            for _ in 0..5 {
                files.fail(&[Kind::Allocate], 1, Times::ForEver, fault);
                let refusal = loop {
                    if let Err(error) = work.put_some(&mut random) {
                        break error;
                    }
                };
                assert!(matches!(refusal, Error::Full(Limit::Disk)), "{refusal:?}");
                assert!(shared.log.prepare_next().is_err());
                for _ in 0..10 {
                    work.end_some(&mut random).expect("room is kept for ends");
                }
                work.commit().expect("a full disk syncs");
                let names = disk_names(&disk);
                assert!(work.put_some(&mut random).is_err());
                assert_eq!(disk_names(&disk), names, "attempts leave nothing behind");
                let last = work.history.last();
                check(&disk.crash_image(&mut random), &work.history, last, "full");
                files.heal();
                work.put_some(&mut random).expect("there is room again");
                work.commit().expect("and the disk is well");
            }
        }
    }
}

fn disk_names(disk: &CrashDisk) -> Vec<String> {
    crate::journal::files::Files::list(disk).expect("no fault")
}
