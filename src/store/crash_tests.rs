//! Whole stores, with all their threads, on a disk that loses power: at any moment, also while
//! they open, and again after that.
//!
//! One thread works on a store and writes down what the sessions hold after each call. Whatever is
//! left of the disk has to open, without a word of damage, as a store that holds exactly what they
//! held after one of the calls: not before the last of which it was said that it is durable; after
//! a `kill -9` the last that returned, or the one that was under way.
//!
//! `CLOAKROOM_FULL=1` runs more of it; `CLOAKROOM_SEED=<seed>` repeats one run that failed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Store;
use super::durable::open_on;
use crate::Attributes;
use crate::clock::Stopwatch;
#[cfg(feature = "encryption")]
use crate::cookie::Keys;
use crate::error::{Error, Reason};
use crate::journal::crash_tests::{Counts, Seeded, random_of, seeds};
use crate::journal::files::StoreFiles;
use crate::journal::files::crash::{CrashDisk, Random};
use crate::journal::files::faulty::{Fault, Faulty, Kind, Times};
use crate::keep::{Append, Durability, Load};
use crate::options::CreateOptions;
use crate::token::SessionId;

/// So many times in a row the power goes.
const DEPTH: usize = 3;
/// So many sessions live at once, about.
const LIVE: usize = 16;

/// What one session holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    n: i64,
    owner: Option<String>,
}

/// What all hold after a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Moment {
    sessions: BTreeMap<SessionId, Content>,
    /// A session whose id only the call would have told, which has not returned.
    unnamed: Option<Content>,
}

impl Moment {
    /// Whether this is what a store holds.
    fn is(&self, found: &BTreeMap<SessionId, Content>) -> bool {
        let mut strangers = found.iter().filter(|(id, _)| !self.sessions.contains_key(id));
        let unnamed = strangers.next().map(|(_, content)| content);
        unnamed == self.unnamed.as_ref()
            && strangers.next().is_none()
            && self.sessions.iter().all(|(id, content)| found.get(id) == Some(content))
    }
}

/// What is known of one life of a store, also to its threads.
#[derive(Clone)]
struct Known {
    /// After each call so far, and after the one that is under way.
    moments: Vec<Arc<Moment>>,
    returned: usize,
    durable: usize,
}

impl Known {
    fn present(&self) -> &Moment {
        &self.moments[self.returned]
    }
}

/// What was left of a disk.
struct Image {
    disk: CrashDisk,
    /// What was known when it was taken, the call under way among it.
    known: Known,
    /// The moment that has to be there at least.
    least: usize,
    is_kill: bool,
}

impl Image {
    /// The disk at this moment. What is known before says what has to be there, what is known
    /// after says what may be.
    fn take(disk: &CrashDisk, known: &Mutex<Known>, random: &mut Random) -> Image {
        let is_kill = random.below(4) == 0;
        let (durable, returned) = {
            let known = known.lock().unwrap();
            (known.durable, known.returned)
        };
        let left = if is_kill { disk.kill_image() } else { disk.crash_image(random) };
        let known = Known { durable, ..known.lock().unwrap().clone() };
        Image { disk: left, known, least: if is_kill { returned } else { durable }, is_kill }
    }

    /// Opens a store on it and compares. Returns what is known of that one's life, of which it is
    /// the beginning.
    fn check(&self, setting: &Setting, what: &str) -> Known {
        let copy = Arc::new(Faulty::new(self.disk.kill_image()));
        let store = setting.open(&copy).unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = contents(&store, &self.known);
        let moments = &self.known.moments[self.least..];
        let Some(index) = moments.iter().rposition(|moment| moment.is(&found)) else {
            panic!(
                "{what}, {}: {found:?}\nis none of {moments:?}",
                if self.is_kill { "killed" } else { "without power" }
            );
        };
        drop(store);
        let at = self.least + index;
        // What was durable before a kill is durable after it, and no more than that.
        let mut moments = self.known.moments[..=at].to_vec();
        moments[at] = Arc::new(Moment { sessions: found, unnamed: None });
        let durable = if self.is_kill { self.known.durable.min(at) } else { at };
        Known { moments, returned: at, durable }
    }
}

/// What the sessions of a store hold: asked for one by one, first of all, and listed.
fn contents(store: &Store<Attributes>, known: &Known) -> BTreeMap<SessionId, Content> {
    let content = |id| {
        let session = store.get(id).ok()?;
        let n = session.get_i64("n").expect("every session has its number");
        Some(Content { n, owner: session.owner().map(str::to_owned) })
    };
    let ids = known.moments.iter().flat_map(|moment| moment.sessions.keys());
    let asked: BTreeMap<_, _> = ids.filter_map(|&id| Some((id, content(id)?))).collect();
    store.validate();
    let (mut found, mut cursor) = (BTreeMap::new(), None);
    loop {
        let page = store.sessions(cursor, 7);
        for info in page.sessions {
            found.insert(info.id, content(info.id).expect("a session that is listed"));
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    for (id, content) in asked {
        assert_eq!(found.get(&id), Some(&content), "{id} is there, and not listed");
    }
    for (id, content) in &found {
        if let Some(owner) = &content.owner {
            let is_listed = store.owner_sessions(owner).iter().any(|info| info.id == *id);
            assert!(is_listed, "{id} is not among its owner's");
        }
    }
    found
}

/// How the stores of one run are opened.
struct Setting {
    durability: Durability,
    append: Append,
    load: Load,
    segment_bytes: u64,
    #[cfg(feature = "encryption")]
    keys: Option<Keys>,
}

impl Setting {
    fn draw(random: &mut Random) -> Setting {
        Setting {
            durability: if random.below(4) == 0 { Durability::Power } else { Durability::Crash },
            append: if random.coin() { Append::Mapped } else { Append::Written },
            load: if random.below(3) == 0 { Load::Whole } else { Load::Mapped },
            segment_bytes: 4096 * (2 + random.below(3) as u64),
            #[cfg(feature = "encryption")]
            keys: random.coin().then(|| Keys::generate().expect("the system gives bytes")),
        }
    }

    fn open(&self, disk: &Arc<Faulty<CrashDisk>>) -> Result<Store<Attributes>, Error> {
        let day = Duration::from_secs(24 * 60 * 60);
        let builder = Store::<Attributes>::builder()
            .shards(2)
            .idle_timeout(day)
            .anonymous_idle_timeout(day)
            .append(self.append)
            .durability(self.durability)
            .load(self.load);
        #[cfg(feature = "encryption")]
        let builder = match &self.keys {
            Some(keys) => builder.encryption(keys.clone()),
            None => builder,
        };
        let mut options = builder.validated()?;
        // Smaller than users may have them, so that there are many.
        options.keep.segment_bytes = self.segment_bytes;
        let files = Arc::new(StoreFiles::Simulated(Faulty::clone(disk)));
        open_on(options, &files, (), Stopwatch::start(), |_| ())
    }
}

struct Run {
    random: Random,
    setting: Setting,
    counts: Counts,
    steps: usize,
}

impl Run {
    /// Opens what an earlier life left, works, dies; then goes on from some of the moments between.
    fn live(&mut self, disk: &CrashDisk, known: Known, depth: usize) {
        self.counts.lives += 1;
        let disk = disk.kill_image();
        let files = Arc::new(Faulty::new(disk.clone()));
        let known = Arc::new(Mutex::new(known));
        let taken: Arc<Mutex<Vec<Image>>> = Arc::default();
        {
            let (known, taken, disk) = (Arc::clone(&known), Arc::clone(&taken), disk.clone());
            let random = Mutex::new(Random::new(self.random.next()));
            files.watch(move |kind| {
                let mut random = random.lock().unwrap();
                // Few operations are syncs and names, and those matter most.
                let every = if matches!(kind, Kind::Write | Kind::MappedWrite) { 16 } else { 3 };
                if Kind::CHANGING.contains(&kind) && random.below(every) == 0 {
                    let image = Image::take(&disk, &known, &mut random);
                    taken.lock().unwrap().push(image);
                }
            });
        }
        let store = self.setting.open(&files).expect("a sound disk");
        self.counts.in_recovery += taken.lock().unwrap().len() as u64;
        for _ in 0..self.steps {
            self.step(&store, &known);
            if self.random.below(8) == 0 {
                let image = Image::take(&disk, &known, &mut self.random);
                taken.lock().unwrap().push(image);
            }
        }
        // Also what is done when it closes.
        drop(store);
        let images = std::mem::take(&mut *taken.lock().unwrap());
        let mut next = Vec::new();
        for image in images {
            self.counts.images += 1;
            let what = format!("life {}, depth {depth}", self.counts.lives);
            let begun = image.check(&self.setting, &what);
            next.push((image.disk, begun));
        }
        for _ in 0..if depth < DEPTH { 2 } else { 0 } {
            if !next.is_empty() {
                let (disk, known) = next.swap_remove(self.random.below(next.len()));
                self.live(&disk, known, depth + 1);
            }
        }
    }

    /// One call, and what is known of it.
    fn step(&mut self, store: &Store<Attributes>, known: &Mutex<Known>) {
        let before = known.lock().unwrap().present().clone();
        let ids: Vec<SessionId> = before.sessions.keys().copied().collect();
        let id = (!ids.is_empty()).then(|| ids[self.random.below(ids.len())]);
        let mut after = before.clone();
        match (self.random.below(16), id) {
            (0, _) => {
                let returned = known.lock().unwrap().returned;
                store.flush().wait().expect("nothing fails");
                known.lock().unwrap().durable = returned;
            }
            (1, _) => {
                store.snapshot().expect("nothing fails");
                self.counts.snapshots += 1;
            }
            (2 | 3, Some(id)) => {
                let content = after.sessions.remove(&id).expect("one of them");
                after.unnamed = Some(content.clone());
                named(known, after, || store.rotate(id).expect("it is there").id());
            }
            (4, Some(id)) => {
                let mut content = after.sessions.remove(&id).expect("one of them");
                let owner = content.owner.get_or_insert_with(|| "ada".to_owned()).clone();
                after.unnamed = Some(content);
                let login = || store.login(id, &owner, "laptop").expect("it is there").id();
                named(known, after, login);
            }
            (kind, Some(id)) if kind < 7 || ids.len() > 2 * LIVE => {
                after.sessions.remove(&id);
                done(known, after, || {
                    store.end(id, Reason::LoggedOut).expect("it is there");
                });
            }
            (kind, Some(id)) if kind < 12 && ids.len() >= LIVE => {
                let content = after.sessions.get_mut(&id).expect("one of them");
                content.n += 1;
                let n = content.n;
                let size = self.random.below(600);
                done(known, after, || {
                    let update = store.update(id, |s| {
                        s.set("n", n);
                        s.set("text", "x".repeat(size));
                    });
                    update.expect("it is there");
                });
            }
            _ => {
                let owner = self.random.coin().then(|| "grace".to_owned());
                after.unnamed = Some(Content { n: 0, owner: owner.clone() });
                let create = || {
                    let options = owner
                        .map_or_else(CreateOptions::new, |owner| CreateOptions::new().owner(owner));
                    let data = Attributes::from([("n", 0.into())]);
                    store.create_with(data, options).expect("there is room").id()
                };
                named(known, after, create);
            }
        }
    }
}

/// A call that gives a session its id.
fn named(known: &Mutex<Known>, mut after: Moment, call: impl FnOnce() -> SessionId) {
    known.lock().unwrap().moments.push(Arc::new(after.clone()));
    let id = call();
    after.sessions.extend(after.unnamed.take().map(|content| (id, content)));
    returned(known, after);
}

fn done(known: &Mutex<Known>, after: Moment, call: impl FnOnce()) {
    known.lock().unwrap().moments.push(Arc::new(after.clone()));
    call();
    returned(known, after);
}

fn returned(known: &Mutex<Known>, after: Moment) {
    let mut known = known.lock().unwrap();
    known.returned += 1;
    let at = known.returned;
    known.moments[at] = Arc::new(after);
}

#[test]
fn whatever_is_left_of_a_disk_is_a_store_as_it_once_was() {
    let mut all = Counts::default();
    for seed in seeds(4, 60) {
        let _seeded = Seeded(seed);
        let mut random = random_of(11, seed);
        let setting = Setting::draw(&mut random);
        let mut run = Run { random, setting, counts: Counts::default(), steps: 60 };
        let known = Known { moments: vec![Arc::default()], returned: 0, durable: 0 };
        run.live(&CrashDisk::new(), known, 0);
        all.add(&run.counts);
    }
    println!("{all}");
    assert!(all.in_recovery > 0 && all.snapshots > 0 && all.images > 10 * all.lives);
}

/// What a failed sync left out of the files is in no copy of them: that is said, not copied.
#[test]
fn a_backup_refuses_to_lack_what_the_files_lack() {
    let setting = Setting::draw(&mut Random::new(7));
    let files = Arc::new(Faulty::new(CrashDisk::new()));
    let store = setting.open(&files).expect("a sound disk");
    let create = || store.create(Attributes::from([("n", 0.into())])).expect("memory serves");
    create();
    files.fail(&[Kind::Sync], 1, Times::ForEver, Fault::Eio);
    assert!(matches!(store.flush().wait(), Err(Error::NotDurable(_))));
    let late = create().id();
    files.inner().evict();
    let target = std::env::temp_dir().join(format!("cloakroom-backup-{}", std::process::id()));
    let refused = store.backup(&target);
    assert!(matches!(refused, Err(Error::NotDurable(_))), "{refused:?}");
    assert!(!target.exists(), "nothing is left of it");

    // As the text says: it works again when a snapshot has been taken.
    files.heal();
    store.snapshot().expect("the disk is sound again");
    assert_eq!(store.backup(&target).expect("all is in the files").sessions, 2);
    let copy = Store::<Attributes>::builder();
    #[cfg(feature = "encryption")]
    let copy = match &setting.keys {
        Some(keys) => copy.encryption(keys.clone()),
        None => copy,
    };
    assert!(copy.open(&target).expect("a copy of a store").get(late).is_ok());
    std::fs::remove_dir_all(&target).expect("the copy can go");
}
