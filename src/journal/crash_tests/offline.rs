//! Files without a store: they tell the same, and are rewritten all or not at all.

use std::sync::Arc;

use super::model::{History, State};
use super::store::{Disk, Recovered, SCHEMA, Setting, Work, check, open, recover};
use super::{Seeded, random_of, seeds};
use crate::clock::{Clock, ManualClock};
use crate::error::Error;
use crate::journal::files::crash::CrashDisk;
use crate::journal::files::faulty::{Fault, Faulty, Kind, Times};
use crate::journal::fold::Fold;
use crate::journal::snapshot::Found;
use crate::journal::still::look;
use crate::journal::{Calendar, Survey, rewrite};

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

/// Writes all that a disk holds to a snapshot in its place.
fn compact(files: &Arc<Disk>) -> Result<(), Error> {
    let survey = Survey::any(&**files)?;
    let fold = Fold::of(&**files, &survey)?;
    let clock = Clock::manual(&ManualClock::new()).expect("no fork");
    let calendar = Calendar::new(&clock, survey.latest_ms());
    rewrite::snapshot(files, &survey, SCHEMA, calendar, |taking| {
        fold.for_each(|found| match found {
            Found::Session(stored) => taking.push(&stored),
            Found::Alias(alias) => taking.push_alias(alias),
        })
    })
    .map(drop)
}

/// Whichever call fails while files are compacted, and whatever a power loss leaves of them: the
/// sessions are those of before. Nothing that was durable is lost, no ended session lives.
#[test]
fn compacting_loses_nothing() {
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
                    let done = compact(&files);
                    let least = if done.is_ok() { last } else { durable };
                    check(&image.crash_image(&mut random), &history, least, &what);
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
