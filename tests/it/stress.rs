//! Whatever many threads do to a store at once, each of them sees what it may see.
//!
//! Guards against what only shows under load: a record freed under its reader (freed memory is
//! poisoned, and each byte that is read is compared), a torn or lost write, a read older than a
//! write that had returned, a session that is missed while its shard grows or shrinks, one that is
//! found after its end, its deadline or its grace time, an event that is lost or told twice,
//! memory or an owner's entry that stays behind.
//!
//! Sessions hold bytes derived from a seed with the number of their writes. What is known of a
//! session is noted in atomics: before a call what the call may do, after it what it did.
//!
//! 5 seconds; 120 with `CLOAKROOM_FULL=1`; or as many as `CLOAKROOM_STRESS_SECONDS` says.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use cloakroom::{
    CreateOptions, Error, Event, Events, Except, ManualClock, Memory, Missing, Reason, SessionId,
    Stats, Store,
};

use super::support::Stopwatch;

const PLACES: usize = 512;
const OWNERS: usize = 16;
const WAVE: usize = 3_000;
const GRACE: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(90);
/// How much earlier than told an idle session may expire: the granularity of touches, and what the
/// clock may leap while a thread that touches is not running.
const IDLE_SLACK: Duration = Duration::from_secs(40);
/// Bytes that an empty store may keep: huge pages in reserve, with those of the smallest arrays.
const MAPPED_MAX: u64 = 12 << 20;
const RESOLUTION: Duration = Duration::from_millis(100);

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap()
}

// ---- Numbers and bytes that follow from a seed -----------------------------------------------

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Payload {
    seed: u64,
    /// How often the session was written.
    count: u64,
    bytes: Vec<u8>,
}

/// The bytes of a session after so many writes: mostly few, sometimes many.
fn bytes_of(seed: u64, count: u64) -> Vec<u8> {
    let base = mixed(seed ^ count.rotate_left(32));
    let size = if base.is_multiple_of(64) { 12_000 } else { 400 };
    let len = (base >> 8) as usize % size;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&mixed(base.wrapping_add(bytes.len() as u64)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

impl Payload {
    fn new(seed: u64, count: u64) -> Payload {
        Payload { seed, count, bytes: bytes_of(seed, count) }
    }
}

/// Compares every byte; returns the number of writes.
fn checked(payload: &ArchivedPayload, seed: u64) -> u64 {
    let count = payload.count.to_native();
    assert_eq!(payload.seed.to_native(), seed, "the data of another session");
    assert!(payload.bytes.as_slice() == bytes_of(seed, count), "torn after {count} writes");
    count
}

// ---- What is known of a session --------------------------------------------------------------

/// A session, under whatever token.
struct Card {
    seed: u64,
    /// Writes that were begun, that succeeded, and the number that the latest of them saw.
    begun: AtomicU64,
    done: AtomicU64,
    written: AtomicU64,
    /// Somebody is about to end it, or has.
    ending: AtomicBool,
    ended: AtomicBool,
    owner: OnceLock<usize>,
    /// `Owner::completed` before it had the owner, `Owner::started` afterwards.
    owned_from: AtomicU64,
    owned_by: AtomicU64,
    /// The end of its lifetime falls between these.
    expires_from: AtomicU64,
    expires_by: AtomicU64,
    is_idle: bool,
    /// A time at which it was surely seen.
    seen: AtomicU64,
}

/// One token of a session.
struct Key {
    id: SessionId,
    card: Arc<Card>,
    /// Somebody is about to give the session another token, or has.
    moving: AtomicBool,
    /// From this time on it must not be found.
    dead_from: AtomicU64,
}

/// Calls of `end_owner`: those begun, those that returned, the latest that returned.
#[derive(Default)]
struct Owner {
    started: AtomicU64,
    completed: AtomicU64,
    latest: AtomicU64,
}

struct Place {
    key: Mutex<Arc<Key>>,
    /// Held by whoever gives the session another token, or puts another session here.
    changing: Mutex<()>,
}

#[derive(Default)]
struct Counts {
    created: AtomicU64,
    rotated: AtomicU64,
    renewed: AtomicU64,
    logged_out: AtomicU64,
    revoked: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, SeqCst);
}

struct World {
    store: Store<Payload>,
    clock: ManualClock,
    /// What the clock shows at least: set once a step of it is done.
    shown: AtomicU64,
    places: Vec<Place>,
    owners: [Owner; OWNERS],
    old: Mutex<VecDeque<Arc<Key>>>,
    counts: Counts,
    stop: AtomicBool,
}

#[derive(Clone, Copy)]
enum Life {
    Endless,
    Lifetime(Duration),
    Idle,
}

impl World {
    fn new(memory: Memory) -> World {
        let clock = ManualClock::new();
        let store = Store::builder()
            .idle_timeout(Duration::MAX)
            .anonymous_idle_timeout(Duration::MAX)
            .lifetime(Duration::MAX)
            .anonymous_share(100)
            .grace(GRACE)
            .remember_ended(Duration::from_secs(5), 4096)
            .shards(4)
            .memory(memory)
            .clock(&clock)
            .in_memory()
            .unwrap();
        World {
            store,
            clock,
            shown: AtomicU64::new(0),
            places: Vec::new(),
            owners: Default::default(),
            old: Mutex::default(),
            counts: Counts::default(),
            stop: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        nanos(self.clock.now())
    }

    fn create(&self, seed: u64, life: Life, owner: Option<usize>) -> Arc<Key> {
        let mut options = CreateOptions::new();
        let card = Card {
            seed,
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
            written: AtomicU64::new(0),
            ending: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            owner: OnceLock::new(),
            owned_from: AtomicU64::new(0),
            owned_by: AtomicU64::new(u64::MAX),
            expires_from: AtomicU64::new(u64::MAX),
            expires_by: AtomicU64::new(u64::MAX),
            is_idle: matches!(life, Life::Idle),
            seen: AtomicU64::new(self.shown.load(SeqCst)),
        };
        if let Some(owner) = owner {
            self.owned(&card, owner);
            options = options.owner(owner.to_string());
        }
        match life {
            Life::Endless => {}
            Life::Lifetime(time) => options = options.lifetime(time),
            Life::Idle => options = options.idle_timeout(IDLE),
        }
        let from = self.shown.load(SeqCst);
        let id = self.store.create_with(Payload::new(seed, 0), options).unwrap().id();
        add(&self.counts.created, 1);
        if let Life::Lifetime(time) = life {
            card.expires_from.store((from + nanos(time)).saturating_sub(nanos(RESOLUTION)), SeqCst);
            card.expires_by.store(self.now() + nanos(time), SeqCst);
        }
        self.has_owner(&card);
        Key::new(id, Arc::new(card))
    }

    /// To be called before a session gets its owner.
    fn owned(&self, card: &Card, owner: usize) {
        card.owned_from.store(self.owners[owner].completed.load(SeqCst), SeqCst);
        card.owner.set(owner).unwrap();
    }

    /// To be called once it has.
    fn has_owner(&self, card: &Card) {
        if let Some(&owner) = card.owner.get() {
            card.owned_by.store(self.owners[owner].started.load(SeqCst), SeqCst);
        }
    }

    /// Whether a call that begins now must not find the session.
    fn is_gone(&self, key: &Key) -> bool {
        let (card, now) = (&key.card, self.shown.load(SeqCst));
        let ended_by_owner = card.owner.get().is_some_and(|&owner| {
            let by = card.owned_by.load(SeqCst);
            self.owners[owner].latest.load(SeqCst) > by
        });
        card.ended.load(SeqCst)
            || ended_by_owner
            || now >= key.dead_from.load(SeqCst)
            || now >= card.expires_by.load(SeqCst)
    }

    /// Whether a call that has returned may have missed the session.
    fn may_be_gone(&self, key: &Key, seen: u64) -> bool {
        let (card, now) = (&key.card, self.now());
        let by_owner = card.owner.get().is_some_and(|&owner| {
            self.owners[owner].started.load(SeqCst) > card.owned_from.load(SeqCst)
        });
        key.moving.load(SeqCst)
            || card.ending.load(SeqCst)
            || by_owner
            || now >= card.expires_from.load(SeqCst)
            || card.is_idle && now >= seen + nanos(IDLE) - nanos(IDLE_SLACK)
    }

    /// Runs a call that sees the number of writes, and compares the answer with what is known.
    fn see(&self, key: &Key, call: impl FnOnce() -> Result<u64, Error>) -> bool {
        let card = &key.card;
        let gone = self.is_gone(key);
        let least = card.written.load(SeqCst);
        let (seen, now) = (card.seen.load(SeqCst), self.shown.load(SeqCst));
        match call() {
            Ok(count) => {
                assert!(!gone, "found after its end: {}", key.id);
                assert!(count >= least, "{count} writes seen, {least} had returned");
                assert!(count <= card.begun.load(SeqCst), "more writes than were begun");
                card.seen.fetch_max(now, SeqCst);
                true
            }
            Err(Error::Missing(missing)) => {
                assert!(gone || self.may_be_gone(key, seen), "missed: {} {missing:?}", key.id);
                false
            }
            Err(Error::Conflict { .. }) => true,
            Err(error) => panic!("{error}"),
        }
    }

    fn look(&self, key: &Key, random: &mut Random) -> bool {
        add(&self.counts.reads, 1);
        let (id, seed) = (key.id, key.card.seed);
        self.see(key, || match random.below(3) {
            0 => Ok(checked(self.store.get(id)?.data(), seed)),
            1 => {
                self.store.touch(id)?;
                Ok(self.store.read(id, |payload| checked(payload, seed))?)
            }
            _ => Ok(self.store.read(id, |payload| checked(payload, seed))?),
        })
    }

    fn write(&self, key: &Key, random: &mut Random) -> bool {
        let (id, card) = (key.id, &key.card);
        add(&self.counts.writes, 1);
        card.begun.fetch_add(1, SeqCst);
        self.see(key, || {
            let count = if random.below(3) > 0 {
                self.store.update(id, |payload| {
                    let count = payload.count + 1;
                    *payload = Payload::new(payload.seed, count);
                    count
                })?
            } else {
                let old = self.store.get(id)?;
                let count = checked(old.data(), card.seed) + 1;
                self.store.replace_if(id, old.version(), Payload::new(card.seed, count))?;
                count
            };
            card.done.fetch_add(1, SeqCst);
            card.written.fetch_max(count, SeqCst);
            Ok(count)
        })
    }

    fn end(&self, key: &Key) {
        let gone = self.is_gone(key);
        key.card.ending.store(true, SeqCst);
        match self.store.end(key.id, Reason::LoggedOut) {
            Ok(()) => {
                assert!(!gone, "ended twice");
                add(&self.counts.logged_out, 1);
                key.card.ended.store(true, SeqCst);
            }
            // It goes on under another token.
            Err(Error::Missing(Missing::Ended(Reason::Rotated))) => {}
            Err(Error::Missing(_)) => assert!(!self.look(key, &mut Random(1)), "ended, but found"),
            Err(error) => panic!("{error}"),
        }
    }

    fn end_owner(&self, number: usize) {
        let owner = &self.owners[number];
        let call = owner.started.fetch_add(1, SeqCst) + 1;
        let ended =
            self.store.end_owner(&number.to_string(), Except(None), Reason::Revoked).unwrap();
        add(&self.counts.revoked, ended as u64);
        owner.latest.fetch_max(call, SeqCst);
        owner.completed.fetch_add(1, SeqCst);
    }

    fn bury(&self, key: Arc<Key>) {
        let mut old = self.old.lock().unwrap();
        if old.len() >= 256 {
            old.pop_front();
        }
        old.push_back(key);
    }

    /// Gives the session at a place another token.
    fn change_token(&self, place: &Place, random: &mut Random) {
        let Ok(_changing) = place.changing.try_lock() else { return };
        let key = place.key();
        key.moving.store(true, SeqCst);
        let (gone, choice) = (self.is_gone(&key), random.below(3));
        let result = match choice {
            0 => self.store.renew(key.id),
            1 if key.card.owner.get().is_none() && key.card.is_endless() => {
                let owner = random.below(OWNERS);
                self.owned(&key.card, owner);
                let result = self.store.login(key.id, &owner.to_string(), "label");
                self.has_owner(&key.card);
                result
            }
            _ => self.store.rotate(key.id),
        };
        match result {
            Ok(token) => {
                assert!(!gone, "another token after the end");
                let (counter, dead_from) = match choice {
                    0 => (&self.counts.renewed, self.now() + nanos(GRACE)),
                    _ => (&self.counts.rotated, 0),
                };
                add(counter, 1);
                key.dead_from.store(dead_from, SeqCst);
                *place.key.lock().unwrap() = Key::new(token.id(), Arc::clone(&key.card));
                self.bury(key);
            }
            // Nobody else moves it: it has ended, and stays so.
            Err(Error::Missing(_)) => self.replace(place, random),
            Err(error) => panic!("{error}"),
        }
    }

    /// Puts another session where one is gone.
    fn refill(&self, place: &Place, random: &mut Random) {
        let Ok(_changing) = place.changing.try_lock() else { return };
        let key = place.key();
        if !self.look(&key, random) {
            self.replace(place, random);
        }
    }

    fn replace(&self, place: &Place, random: &mut Random) {
        let key = self.create(random.next(), random.life(), random.owner());
        self.bury(std::mem::replace(&mut *place.key.lock().unwrap(), key));
    }
}

impl Random {
    fn life(&mut self) -> Life {
        match self.below(4) {
            0 => Life::Lifetime(Duration::from_millis(self.next() % 20_000)),
            1 => Life::Idle,
            _ => Life::Endless,
        }
    }

    fn owner(&mut self) -> Option<usize> {
        (self.below(2) == 0).then(|| self.below(OWNERS))
    }
}

impl Card {
    fn is_endless(&self) -> bool {
        !self.is_idle && self.expires_by.load(SeqCst) == u64::MAX
    }
}

impl Key {
    fn new(id: SessionId, card: Arc<Card>) -> Arc<Key> {
        let dead_from = AtomicU64::new(u64::MAX);
        Arc::new(Key { id, card, moving: AtomicBool::new(false), dead_from })
    }
}

impl Place {
    fn key(&self) -> Arc<Key> {
        Arc::clone(&self.key.lock().unwrap())
    }
}

// ---- What the threads do ---------------------------------------------------------------------

impl World {
    fn runs(&self) -> bool {
        !self.stop.load(SeqCst)
    }

    fn step(&self, random: &mut Random) {
        let place = &self.places[random.below(PLACES)];
        let key = place.key();
        let found = match random.below(1000) {
            0..450 => self.look(&key, random),
            450..700 => self.write(&key, random),
            700..780 => {
                self.change_token(place, random);
                true
            }
            780..860 => {
                self.end(&key);
                false
            }
            860..863 => {
                self.end_owner(random.below(OWNERS));
                true
            }
            863..870 => {
                self.watch(&key);
                true
            }
            870..880 => {
                let owner = random.below(OWNERS).to_string();
                for info in self.store.owner_sessions(&owner) {
                    assert_eq!(info.owner.as_deref(), Some(&*owner));
                }
                true
            }
            _ => {
                let old = self.old.lock().unwrap().iter().nth(random.below(256)).cloned();
                if let Some(old) = old {
                    self.look(&old, random);
                }
                true
            }
        };
        if !found {
            self.refill(place, random);
        }
    }

    fn watch(&self, key: &Key) {
        let mut watch = std::pin::pin!(self.store.watch(key.id));
        let _ = watch.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }

    /// Grows the shards, and shrinks them, by ends or by deadlines that fall together.
    fn waves(&self, random: &mut Random) {
        let mut by_deadline = false;
        while self.runs() {
            by_deadline = !by_deadline;
            let life =
                if by_deadline { Life::Lifetime(Duration::from_secs(30)) } else { Life::Endless };
            let mut wave = Vec::new();
            while wave.len() < WAVE && self.runs() {
                wave.push(self.create(random.next(), life, None));
                self.look(&wave[random.below(wave.len())], random);
            }
            if by_deadline {
                let (from, until) = (&wave[0], &wave[wave.len() - 1]);
                while self.runs() && !self.is_gone(until) {
                    self.look(from, random);
                    self.look(&wave[random.below(wave.len())], random);
                }
            } else {
                wave.iter().for_each(|key| self.end(key));
            }
            (0..100).for_each(|_| _ = self.look(&wave[random.below(wave.len())], random));
        }
    }

    fn advance(&self, random: &mut Random) {
        while self.runs() {
            let leap = if random.below(500) == 0 { 5_000 } else { random.next() % 100 };
            self.clock.advance(Duration::from_millis(leap));
            self.shown.store(self.now(), SeqCst);
            thread::sleep(Duration::from_micros(500));
        }
    }

    /// Lists everything: whatever lives all the while is listed exactly once.
    fn lists(&self) {
        while self.runs() {
            let seen: Vec<_> = self.places.iter().map(|place| self.before_list(place)).collect();
            let mut listed = HashSet::new();
            let mut cursor = None;
            loop {
                let page = self.store.sessions(cursor, 50);
                for info in page.sessions {
                    assert!(listed.insert(info.id), "listed twice: {}", info.id);
                }
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            for (key, seen) in seen {
                let found = listed.contains(&key.id);
                assert!(found || self.may_be_gone(&key, seen), "not listed: {}", key.id);
            }
            let _ = self.store.stats();
        }
    }

    fn before_list(&self, place: &Place) -> (Arc<Key>, u64) {
        let key = place.key();
        let seen = key.card.seen.load(SeqCst);
        (key, seen)
    }

    /// Keeps a list of its own of the live sessions, by the events. Returns what is left of it, or
    /// None when events were dropped.
    fn listens(events: &Events<Payload>) -> Option<HashMap<SessionId, ()>> {
        let mut live = HashMap::new();
        while let Some(event) = events.recv() {
            let is_right = match event {
                Event::Created { id, .. } => live.insert(id, ()).is_none(),
                Event::Rotated { old, new, .. } => {
                    live.remove(&old).is_some() && live.insert(new, ()).is_none()
                }
                Event::Ended { id, session, .. } => {
                    checked(session.data(), session.seed.to_native());
                    live.remove(&id).is_some()
                }
                _ => true,
            };
            if events.dropped() > 0 {
                return None;
            }
            assert!(is_right, "an event twice, out of order, or of an unknown session");
        }
        Some(live)
    }
}

/// Looks up while its thread's other locals are gone already, or not yet.
struct Late(Arc<World>, u64);

impl Drop for Late {
    fn drop(&mut self) {
        let mut random = Random(self.1);
        for _ in 0..20 {
            let key = self.0.places[random.below(PLACES)].key();
            self.0.look(&key, &mut random);
        }
        let key = self.0.places[random.below(PLACES)].key();
        self.0.end(&key);
    }
}

thread_local! {
    static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
}

/// Starts threads that do little and exit.
fn come_and_go(world: &Arc<World>, random: &mut Random) {
    while world.runs() {
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let (world, seed) = (Arc::clone(world), random.next());
                thread::spawn(move || {
                    let late = || {
                        let late = Late(Arc::clone(&world), seed);
                        LATE.with(|slot| slot.borrow_mut().replace(late));
                    };
                    // Destructors run in the order of registration: before and after the store's.
                    if number % 2 == 0 {
                        late();
                    }
                    let mut random = Random(seed);
                    (0..30).for_each(|_| world.step(&mut random));
                    if number % 2 == 1 {
                        late();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

// ---- The run ---------------------------------------------------------------------------------

fn seconds() -> f64 {
    let full = std::env::var_os("CLOAKROOM_FULL").is_some_and(|value| value == "1");
    match std::env::var("CLOAKROOM_STRESS_SECONDS") {
        Ok(text) => text.parse().unwrap(),
        Err(_) if full => 120.0,
        Err(_) => 5.0,
    }
}

/// Stops the others when a thread fails, so that its failure is what the test reports.
struct StopOnPanic<'a>(&'a World);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop.store(true, SeqCst);
        }
    }
}

fn run(memory: Memory, time: Duration) {
    let mut world = World::new(memory);
    let fresh = world.store.stats().overhead_bytes;
    let events = world.store.events_with(1 << 18);
    let listener = thread::spawn(move || World::listens(&events));
    let mut random = Random(u64::from(std::process::id()));
    for _ in 0..PLACES {
        let key = Mutex::new(world.create(random.next(), random.life(), random.owner()));
        world.places.push(Place { key, changing: Mutex::new(()) });
    }
    let world = Arc::new(world);
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let begin = Stopwatch::start();
    thread::scope(|scope| {
        let start = |mut random: Random,
                     work: &'static (dyn Fn(&Arc<World>, &mut Random) + Sync)| {
            let world = &world;
            scope.spawn(move || {
                let _stop = StopOnPanic(world);
                work(world, &mut random);
            });
        };
        for _ in 0..cores.max(2) + 1 {
            start(Random(random.next()), &|world, random| {
                while world.runs() {
                    world.step(random);
                }
            });
        }
        start(Random(random.next()), &|world, random| world.waves(random));
        start(Random(random.next()), &|world, random| world.advance(random));
        start(Random(random.next()), &|world, _| world.lists());
        start(Random(random.next()), &come_and_go);
        while begin.elapsed() < time && world.runs() {
            thread::sleep(Duration::from_millis(20));
        }
        world.stop.store(true, SeqCst);
    });
    check_end(&world, fresh);
    drop(world);
    let left = listener.join().unwrap();
    assert!(left.is_none_or(|left| left.is_empty()), "sessions whose end was not told");
}

/// Nothing runs but the expiry thread: now all numbers are exact.
fn check_end(world: &World, fresh: u64) {
    let store = &world.store;
    for place in &world.places {
        let key = place.key();
        let card = &key.card;
        if let Ok(count) = store.peek(key.id, |payload| checked(payload, card.seed)) {
            assert_eq!(count, card.done.load(SeqCst), "writes lost");
        }
    }
    let peak = store.stats();
    let all = store.end_all(Reason::Revoked).unwrap() as u64;
    for _ in 0..200 {
        world.clock.advance(Duration::from_secs(1));
        store.expire_due();
    }
    // The expiry thread gives memory back once a second, and what it looked at itself during the
    // last steps once it is pinned no more.
    let begin = Stopwatch::start();
    let is_too_much =
        |stats: Stats| stats.mapped_bytes > MAPPED_MAX || stats.overhead_bytes > 2 * fresh;
    while is_too_much(store.stats()) && begin.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(50));
    }
    let (stats, counts) = (store.stats(), &world.counts);
    let load = |counter: &AtomicU64| counter.load(SeqCst);
    assert_eq!((stats.live, stats.bytes, stats.owners), (0, 0, 0), "{stats:?}");
    assert_eq!((stats.wheel_nodes, stats.remembered, stats.watched), (0, 0, 0), "{stats:?}");
    assert_eq!(stats.created, load(&counts.created));
    assert_eq!(stats.renewed, load(&counts.renewed));
    assert_eq!(stats.ended_by(Reason::Rotated), load(&counts.rotated));
    assert_eq!(stats.ended_by(Reason::LoggedOut), load(&counts.logged_out));
    assert_eq!(stats.ended_by(Reason::Revoked), load(&counts.revoked) + all);
    let gone: u64 = stats.ended.iter().sum::<u64>() - stats.ended_by(Reason::Rotated);
    assert_eq!(stats.created, gone, "created and ended differ: {stats:?}");
    assert!(stats.mapped_bytes <= MAPPED_MAX, "{} bytes stay mapped", stats.mapped_bytes);
    assert!(stats.overhead_bytes <= 2 * fresh, "{} of {fresh} bytes", stats.overhead_bytes);
    store.validate();
    println!(
        "{} reads, {} writes, {} created, {} expired, {} rotated or renewed; mapped {} of {} KiB",
        load(&counts.reads),
        load(&counts.writes),
        stats.created,
        stats.ended_by(Reason::Expired),
        load(&counts.rotated) + load(&counts.renewed),
        stats.mapped_bytes >> 10,
        peak.mapped_bytes >> 10,
    );
}

#[test]
fn every_byte_is_right_while_everything_happens() {
    for memory in [Memory::HugePages, Memory::System] {
        run(memory, Duration::from_secs_f64(seconds() / 2.0));
    }
}
