//! Files without a store: they tell the same, and are rewritten all or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use super::super::tests::stored;
use super::model::{History, State};
use super::store::{Disk, MIGRATED, Recovered, SCHEMA, Setting, Work, check, open, recover};
use super::{Seeded, random_of, seeds};
use crate::clock::{Clock, ManualClock};
use crate::error::Error;
use crate::journal::entry::Entry;
use crate::journal::files::crash::{CrashDisk, Random};
use crate::journal::files::faulty::{Fault, Faulty, Kind, Times};
use crate::journal::fold::Fold;
use crate::journal::snapshot::Found;
use crate::journal::still::look;
use crate::journal::stored::Stored;
use crate::journal::{Append, Calendar, Need, Seal, Shared, Survey, Taking, rewrite};
use crate::sync::{Mutex, lock};

/// What a fold makes of a disk, and at which position.
fn folded(disk: &CrashDisk) -> (u64, State) {
    let (still, survey) = look(&Arc::new(disk.clone())).expect("no damage");
    let mut state = State::default();
    let fold = Fold::of(&still, &survey).expect("no damage");
    let told = fold.for_each(|found| -> Result<(), Error> {
        let is_new = match &found {
            Found::Session(stored) => !state.live.contains_key(&stored.id.0),
            Found::Alias(alias) => !state.aliases.contains_key(&alias.id.0),
        };
        assert!(is_new, "told twice");
        state.load(&found);
        Ok(())
    });
    told.expect("no damage");
    (survey.end.last, state)
}

/// Whatever a crash leaves: the files tell the same without a store as with one.
#[test]
fn a_fold_is_what_a_store_recovers() {
    for seed in seeds(8, 400) {
        let _seeded = Seeded(seed);
        let mut random = random_of(8, seed);
        let setting = Setting::draw(&mut random);
        let disk = CrashDisk::new();
        let files: Arc<Disk> = Arc::new(Faulty::new(disk.clone()));
        let shared = open(&files, &setting).expect("an empty disk");
        let mut work = Work::new(&shared, History::new(), setting, 0);
        for _ in 0..60 {
            work.step(&mut random);
            if random.below(3) > 0 {
                continue;
            }
            for image in [disk.kill_image(), disk.crash_image(&mut random)] {
                let Recovered { last, state, .. } = recover(&image).expect("no false alarm");
                let (position, found) = folded(&image);
                assert!(found == state, "{}", found.difference(&state));
                assert_eq!(position, last);
            }
        }
    }
}

/// Writes all that a disk holds to a snapshot in its place, of that type.
fn rewritten(files: &Arc<Disk>, schema: u64) -> Result<(), Error> {
    let survey = Survey::any(&**files)?;
    let fold = Fold::of(&**files, &survey)?;
    let clock = Clock::manual(&ManualClock::new()).expect("no fork");
    let calendar = Calendar::new(&clock, survey.latest_ms());
    rewrite::snapshot(files, &survey, (schema, Seal::Plain), calendar, |taking| {
        fold.for_each(|found| match found {
            Found::Session(stored) => taking.push(&stored),
            Found::Alias(alias) => taking.push_alias(alias),
        })
    })
    .map(drop)
}

#[test]
fn compacting_loses_nothing() {
    rewriting_loses_nothing(SCHEMA);
}

/// Also the files of a migration that did not come to its end are those of one type.
#[test]
fn migrating_loses_nothing() {
    rewriting_loses_nothing(MIGRATED);
}

/// Whichever call fails while files are rewritten, and whatever a power loss leaves of them: the
/// sessions are those of before. Nothing that was durable is lost, no ended session lives.
fn rewriting_loses_nothing(schema: u64) {
    for seed in seeds(1, 60) {
        let _seeded = Seeded(seed);
        let mut random = random_of(9, seed);
        let setting = Setting::draw(&mut random);
        let disk = CrashDisk::new();
        let files: Arc<Disk> = Arc::new(Faulty::new(disk.clone()));
        let shared = open(&files, &setting).expect("an empty disk");
        let mut work = Work::new(&shared, History::new(), setting, 0);
        for _ in 0..80 {
            work.step(&mut random);
        }
        let (durable, last) = (shared.log.durable(), work.history.last());
        let mut history = work.history.clone();
        history.pass(last + 8);
        for kind in Kind::ALL {
            for fault in [Fault::Eio, Fault::Late, Fault::Enospc] {
                for ordinal in 1..60 {
                    let what = format!("{kind:?} number {ordinal}, {fault:?}");
                    let image = disk.kill_image();
                    let files: Arc<Disk> = Arc::new(Faulty::new(image.clone()));
                    files.fail(&[kind], ordinal, Times::Once, fault);
                    let done = rewritten(&files, schema);
                    let least = if done.is_ok() { last } else { durable };
                    check(&image.crash_image(&mut random), &history, least, &what);
                    if done.is_ok() {
                        let survey = Survey::any(&image.kill_image()).expect("no damage");
                        assert_eq!(survey.kind.map(|kind| kind.schema), Some(schema));
                    } else {
                        // And again, by whoever opens it next.
                        let again = Arc::new(Faulty::new(image.crash_image(&mut random)));
                        rewritten(&again, schema).expect(&what);
                    }
                    if kind != Kind::MappedWrite {
                        check(&image.kill_image(), &history, last, &what);
                        let (_, state) = folded(&image.kill_image());
                        assert!(state == *work.history.present(), "{what}");
                    }
                    if files.fired() == 0 {
                        done.expect("nothing failed");
                        break;
                    }
                }
            }
        }
    }
}

/// Somebody who writes a session again and again, each time with the next version.
struct Writer {
    shared: Arc<Shared<Disk>>,
    versions: AtomicU32,
    random: Mutex<Random>,
}

impl Writer {
    fn put(&self) {
        let version = self.versions.load(SeqCst) + 1;
        let stored = Stored { version, data: &[7; 4000], ..stored() };
        self.shared.append(&Entry::Put(stored), Need::Room).expect("room");
        self.versions.store(version, SeqCst);
    }

    /// So much that segments end, with all that else becomes of a log meanwhile.
    fn step(&self) {
        let random = &mut *lock(&self.random);
        (0..random.below(40)).for_each(|_| self.put());
        if random.coin() {
            self.shared.commit().expect("a disk that is well");
        }
        (0..random.below(3)).for_each(|_| self.put());
        if random.below(4) == 0 {
            self.shared.log.prepare_next().expect("room");
        }
        if random.below(150) == 0 {
            self.snapshot();
        }
    }

    fn snapshot(&self) {
        let version = self.versions.load(SeqCst);
        let mut taking = Taking::begin(&self.shared, u64::from(version)).expect("room");
        taking.push(&Stored { version, data: &[7; 4000], ..stored() }).expect("room");
        taking.finish().expect("a disk that is well");
    }
}

/// Between any two calls of the reader somebody writes: ends segments, syncs, takes snapshots. The
/// reader never takes that for damage, and finds nothing older than what was there when it began.
#[test]
fn a_look_beside_a_writer_is_one_state() {
    for seed in seeds(8, 400) {
        let _seeded = Seeded(seed);
        let disk = CrashDisk::new();
        let files: Arc<Disk> = Arc::new(Faulty::new(disk.clone()));
        let append = if seed % 2 == 0 { Append::Mapped } else { Append::Written };
        let setting = Setting { segment_bytes: 1 << 20, append, data_max: 0 };
        let shared = open(&files, &setting).expect("an empty disk");
        let (versions, random) = (AtomicU32::new(0), Mutex::new(random_of(10, seed)));
        let writer = Arc::new(Writer { shared, versions, random });
        writer.put();
        let reader: Arc<Disk> = Arc::new(Faulty::new(disk));
        let meanwhile = Arc::clone(&writer);
        reader.watch(move |_| meanwhile.step());
        for _ in 0..3 {
            // A short log: else its end has moved on before the reader comes there.
            writer.put();
            writer.snapshot();
            writer.shared.log.prepare_next().expect("room");
            let least = writer.versions.load(SeqCst);
            let (still, survey) = look(&reader).unwrap_or_else(|error| panic!("{error}"));
            let fold = Fold::of(&still, &survey).expect("no damage");
            let mut found = None;
            let told = fold.for_each(|session| -> Result<(), Error> {
                let Found::Session(stored) = session else { panic!("an alias") };
                assert!(found.replace(stored.version).is_none(), "told twice");
                Ok(())
            });
            told.expect("no damage");
            assert!(found >= Some(least), "{found:?}, {least} was written");
            assert!(found <= Some(writer.versions.load(SeqCst)));
        }
    }
}
