//! Loss of power and `kill -9` at any moment, three times in a row.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use super::model::History;
use super::store::{Disk, Setting, Work, check, open, recover};
use super::{Counts, Seeded, is_full, random_of, seeds};
use crate::journal::Shared;
use crate::journal::files::crash::{CrashDisk, Random};
use crate::journal::files::faulty::{Faulty, Kind};

const DEPTH: usize = 3;

/// Whether to look, and what was there, with the watermark of that moment.
type Renamed = (bool, Option<(CrashDisk, u64)>);

/// What was left of a disk at some moment.
struct Image {
    disk: CrashDisk,
    /// What has to be there.
    least: u64,
    /// What nothing may take away from there any more.
    durable: u64,
    is_kill: bool,
}

impl Image {
    fn of_crash(disk: CrashDisk, durable: u64) -> Image {
        Image { disk, least: durable, durable, is_kill: false }
    }
}

/// Takes images in the middle of operations.
struct Camera {
    disk: CrashDisk,
    random: Mutex<Random>,
    images: Mutex<Vec<Image>>,
    /// An image at every so-many-th operation.
    every: usize,
    shared: OnceLock<Weak<Shared<Disk>>>,
    /// What was durable when it was opened.
    before: u64,
    /// The last position before the present step.
    appended: AtomicU64,
}

impl Camera {
    fn take(&self, kind: Kind) {
        let mut random = self.random.lock().unwrap();
        // Few operations are syncs and names, and those matter most.
        let is_rare = !matches!(kind, Kind::Write | Kind::MappedWrite);
        let is_due = is_rare || random.below(3) == 0;
        if !Kind::CHANGING.contains(&kind) || !is_due || random.below(self.every) != 0 {
            return;
        }
        let is_kill = random.below(5) == 0;
        let shared = self.shared.get().and_then(Weak::upgrade);
        let durable = shared.map_or(self.before, |shared| shared.log.durable());
        let least = if is_kill { self.appended.load(Relaxed) } else { durable };
        let disk =
            if is_kill { self.disk.kill_image() } else { self.disk.crash_image(&mut random) };
        self.images.lock().unwrap().push(Image { disk, least, durable, is_kill });
    }

    fn developed(&self) -> Vec<Image> {
        std::mem::take(&mut *self.images.lock().unwrap())
    }
}

struct Run {
    random: Random,
    setting: Setting,
    counts: Counts,
    steps: usize,
    every: usize,
    children: usize,
}

impl Run {
    /// Opens what an earlier life left, works, dies; then goes on from some of the moments
    /// between. `durable` was durable before, the history ends with what is there.
    fn live(&mut self, disk: &CrashDisk, history: History, durable: u64, depth: usize) {
        self.counts.lives += 1;
        let begun = recover(disk).expect("a sound disk").last;
        // The link of this life may take the place of a mark.
        let durable = history.before_marks(durable.min(begun));
        let files = Arc::new(Faulty::new(disk.clone()));
        let camera = Arc::new(Camera {
            disk: disk.clone(),
            random: Mutex::new(Random::new(self.random.next())),
            images: Mutex::default(),
            every: self.every,
            shared: OnceLock::new(),
            before: durable,
            appended: history.before_marks(history.last()).into(),
        });
        let watching = Arc::clone(&camera);
        files.watch(move |kind| watching.take(kind));
        let shared = open(&files, &self.setting).expect("a sound disk");
        let mut children = Vec::new();
        let mut work = Work::new(&shared, history, self.setting, depth as u64 * 1000);
        assert_eq!(shared.log.last_position(), begun + 1, "one link");
        self.look(&camera, &work.history, "while opening", true, &mut children);
        let _ = camera.shared.set(Arc::downgrade(&shared));
        for step in 0..self.steps {
            camera.appended.store(work.history.last(), Relaxed);
            work.step(&mut self.random);
            let least = shared.log.durable();
            if self.random.below(3) == 0 {
                let image = disk.crash_image(&mut self.random);
                self.see(Image::of_crash(image, least), &work.history, "between");
            }
            self.look(&camera, &work.history, &format!("step {step}"), false, &mut children);
        }
        assert_eq!(work.refused, 0, "nothing was to fail");
        self.counts.snapshots += work.snapshots;
        let (history, durable) = (work.history, shared.log.durable());
        let killed = disk.kill_image();
        let last = check(&killed, &history, history.last(), "killed at the end");
        if depth >= DEPTH {
            return;
        }
        // A kill, and no power loss between it and the next start.
        let mut whole = history.clone();
        whole.truncate(last);
        self.live(&killed, whole, durable, depth + 1);
        for _ in 0..self.children {
            if children.is_empty() {
                return;
            }
            let index = self.random.below(children.len());
            let (disk, history, durable) = children.swap_remove(index);
            self.live(&disk, history, durable, depth + 1);
        }
    }

    /// Checks the images that were taken; keeps some.
    fn look(
        &mut self,
        camera: &Camera,
        history: &History,
        what: &str,
        is_opening: bool,
        children: &mut Vec<(CrashDisk, History, u64)>,
    ) {
        for image in camera.developed() {
            self.counts.in_recovery += u64::from(is_opening);
            let (is_kill, durable, disk) = (image.is_kill, image.durable, image.disk.clone());
            let at = self.see(image, history, what);
            // Of a kill only what was durable before is durable; of a crash all there is.
            let durable = if is_kill { durable } else { at };
            if self.random.below(if is_opening { 4 } else { 12 }) == 0 && children.len() < 24 {
                let mut history = history.clone();
                history.truncate(at);
                children.push((disk, history, durable));
            }
        }
    }

    fn see(&mut self, image: Image, history: &History, what: &str) -> u64 {
        self.counts.images += 1;
        let how = if image.is_kill { "killed" } else { "without power" };
        check(&image.disk, history, image.least, &format!("{how}, {what}"))
    }
}

/// The whole of it: work, images at any operation, recovery on them, also of these.
#[test]
fn nothing_durable_is_lost_and_nothing_else_appears() {
    let mut all = Counts::default();
    for seed in seeds(30, 60) {
        let _seeded = Seeded(seed);
        let mut random = random_of(1, seed);
        let setting = Setting::draw(&mut random);
        let (steps, children) = if is_full() { (90, 3) } else { (60, 2) };
        let every = if is_full() { 3 } else { 4 };
        let mut run = Run { random, setting, counts: Counts::default(), steps, every, children };
        run.live(&CrashDisk::new(), History::new(), 0, 0);
        all.add(&run.counts);
    }
    println!("{all}");
}

/// The same moment, many times: opening what a crash left, at each of its operations.
#[test]
fn a_crash_in_recovery_changes_nothing() {
    let (mut images, mut lives) = (0, 0);
    for seed in seeds(25, 200) {
        let _seeded = Seeded(seed);
        let mut random = random_of(2, seed);
        let setting = Setting::draw(&mut random);
        let mut run = Run {
            random,
            setting,
            counts: Counts::default(),
            steps: 40,
            every: usize::MAX,
            children: 0,
        };
        let (disk, history, durable, renamed) = run.prepare();
        let mut disks = vec![(disk.kill_image(), history.clone(), durable)];
        if let Some((disk, durable)) = renamed {
            let at = check(&disk, &history, durable, "before the rename is durable");
            let mut history = history.clone();
            history.truncate(at);
            disks.push((disk, history, durable));
        }
        for _ in 0..3 {
            let image = disk.crash_image(&mut run.random);
            let at = check(&image, &history, durable, "before recovery");
            let mut history = history.clone();
            history.truncate(at);
            disks.push((image, history, at));
        }
        for round in 0..3 {
            let mut next = Vec::new();
            for (disk, history, durable) in &disks {
                run.every = 1;
                run.steps = 0;
                lives += 1;
                next.extend(run.reopen(disk, history, *durable, round));
            }
            run.random.next();
            while next.len() > 4 {
                next.swap_remove(run.random.below(next.len()));
            }
            disks = next;
        }
        images += run.counts.images;
    }
    println!("{images} images of {lives} recoveries");
}

impl Run {
    /// A disk as some work leaves it, with what was durable; the same as a kill left it between
    /// the rename of a snapshot and the sync of the directory.
    fn prepare(&mut self) -> (CrashDisk, History, u64, Option<(CrashDisk, u64)>) {
        let disk = CrashDisk::new();
        let files = Arc::new(Faulty::new(disk.clone()));
        let shared = open(&files, &self.setting).expect("an empty disk");
        let (watched, log) = (disk.clone(), Arc::downgrade(&shared));
        let renamed: Arc<Mutex<Renamed>> = Arc::default();
        let seen = Arc::clone(&renamed);
        files.watch(move |kind| {
            let (is_renamed, image) = &mut *seen.lock().unwrap();
            if *is_renamed && let Some(shared) = log.upgrade() {
                *image = Some((watched.kill_image(), shared.log.durable()));
            }
            *is_renamed = kind == Kind::Rename;
        });
        let mut work = Work::new(&shared, History::new(), self.setting, 0);
        for _ in 0..self.steps + self.random.below(self.steps) {
            work.step(&mut self.random);
        }
        let history = work.history;
        let renamed = renamed.lock().unwrap().1.take();
        (disk, history, shared.log.durable(), renamed)
    }

    /// Opens a disk, and dies at each operation of that, or soon after it.
    fn reopen(
        &mut self,
        disk: &CrashDisk,
        history: &History,
        durable: u64,
        round: u64,
    ) -> Vec<(CrashDisk, History, u64)> {
        let disk = disk.kill_image();
        let files = Arc::new(Faulty::new(disk.clone()));
        let taken: Arc<Mutex<Vec<Image>>> = Arc::default();
        let (watched, list) = (disk.clone(), Arc::clone(&taken));
        let random = Mutex::new(Random::new(self.random.next()));
        let appended = history.before_marks(history.last());
        let durable = durable.min(appended);
        files.watch(move |kind| {
            if Kind::CHANGING.contains(&kind) {
                let image = watched.crash_image(&mut random.lock().unwrap());
                let killed = watched.kill_image();
                let mut list = list.lock().unwrap();
                list.push(Image::of_crash(image, durable));
                list.push(Image { disk: killed, least: appended, durable, is_kill: true });
            }
        });
        let shared = open(&files, &self.setting).expect("a sound disk");
        let mut work = Work::new(&shared, history.clone(), self.setting, 10_000 * (round + 1));
        let mut next = Vec::new();
        for image in taken.lock().unwrap().drain(..) {
            let (disk, is_kill) = (image.disk.clone(), image.is_kill);
            let at = self.see(image, &work.history, "in recovery");
            let mut history = work.history.clone();
            history.truncate(at);
            next.push((disk, history, if is_kill { durable } else { at }));
        }
        // What is written after it must be found, and what is durable must stay.
        for _ in 0..3 {
            work.put_some(&mut self.random).expect("nothing fails");
        }
        work.commit().expect("nothing fails");
        let least = shared.log.durable();
        work.put_some(&mut self.random).expect("nothing fails");
        taken.lock().unwrap().clear();
        for _ in 0..2 {
            let image = disk.crash_image(&mut self.random);
            self.see(Image::of_crash(image, least), &work.history, "after recovery");
        }
        next
    }
}
