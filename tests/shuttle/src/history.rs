//! Histories: what several threads asked the store about one session, and what it answered.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloakroom::{
    Attributes, Changes, CreateOptions, Error, Except, ManualClock, Missing, Reason, SessionId,
    Store, Version,
};
use shuttle::rand::{Rng, thread_rng};

use crate::{small, together};

/// Keys that patches set.
pub const KEYS: [&str; 4] = ["p0", "p1", "p2", "p3"];
/// Ids that a history may know; later ones are renewed and rotated no more.
const IDS_MAX: usize = 8;

/// The data of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Data {
    pub n: i64,
    pub keys: [i64; 4],
}

impl Data {
    fn of(data: &Attributes) -> Data {
        let number = |key| data.get(key).and_then(|value| value.as_i64()).unwrap_or(0);
        Data { n: number("n"), keys: KEYS.map(number) }
    }
}

/// A question. Sessions are named by their place in the list of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Read(usize),
    Get(usize),
    Update(usize),
    /// If the version is still the second, `n` becomes the third.
    ReplaceIf(usize, u32, i64),
    /// Sets a key to a value.
    Patch(usize, usize, i64),
    Touch(usize),
    Rotate(usize),
    Renew(usize),
    End(usize, Reason),
    EndOwner,
    ExpireDue,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Data(Data),
    Session(u32, Data),
    Version(u32),
    /// The place of a new id.
    Id(usize),
    Count(usize),
    Conflict(u32),
    Missing(Missing),
}

/// A question with its answer. `from` and `to` are moments of one order over all threads;
/// between them the clock may have shown `clock.0` to `clock.1` seconds.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub thread: usize,
    pub from: u64,
    pub to: u64,
    pub clock: (u64, u64),
    pub op: Op,
    pub answer: Answer,
}

#[derive(Default)]
struct Shared {
    moment: AtomicU64,
    /// Seconds by which the clock was told to move, and by which it surely did.
    told: AtomicU64,
    moved: AtomicU64,
    ids: Mutex<Vec<SessionId>>,
    calls: Mutex<Vec<Call>>,
}

struct Player {
    store: Store,
    clock: ManualClock,
    shared: Arc<Shared>,
    thread: usize,
    has_owner: bool,
    /// The last version that this thread saw.
    seen: Version,
    value: i64,
}

/// What happened: the calls, whether the session has an owner.
pub struct History {
    pub calls: Vec<Call>,
    pub has_owner: bool,
}

/// Lets 2 to 4 threads ask at random, then checks the store's invariants.
pub fn play(calls_each: usize) -> History {
    let mut random = thread_rng();
    let clock = ManualClock::new();
    let store: Store = small(&clock).in_memory().unwrap();
    let has_owner = random.gen_bool(0.5);
    let mut options = CreateOptions::new();
    if has_owner {
        options = options.owner("alice");
    }
    let id = store.create_with(Attributes::new(), options).unwrap().id();
    let seen = store.get(id).unwrap().version();
    let shared = Arc::new(Shared::default());
    shared.ids.lock().unwrap().push(id);
    let thread_count = random.gen_range(2..=4);
    let player = |thread| Player {
        store: store.clone(),
        clock: clock.clone(),
        shared: Arc::clone(&shared),
        thread,
        has_owner,
        seen,
        value: 1000 * (thread as i64 + 1),
    };
    let threads = (0..thread_count).map(player).map(|mut player| {
        let calls = thread_rng().gen_range(2..=calls_each);
        Box::new(move || (0..calls).for_each(|_| player.step())) as Box<dyn FnOnce() + Send>
    });
    together(threads.collect());
    store.validate();
    clock.advance(Duration::from_secs(10_000));
    store.expire_due();
    store.validate();
    assert_eq!(store.stats().live, 0, "a session that does not expire");
    let calls = std::mem::take(&mut *shared.calls.lock().unwrap());
    History { calls, has_owner }
}

impl Player {
    fn choose(&mut self) -> Op {
        let mut random = thread_rng();
        let known = self.shared.ids.lock().unwrap().len();
        // Mostly the newest.
        let id = if random.gen_bool(0.6) { known - 1 } else { random.gen_range(0..known) };
        self.value += 1;
        let seen: u32 = self.seen.to_string().parse().unwrap();
        let reasons = [Reason::LoggedOut, Reason::Revoked];
        match random.gen_range(0..100) {
            0..16 => Op::Read(id),
            16..28 => Op::Get(id),
            28..44 => Op::Update(id),
            44..52 => Op::ReplaceIf(id, seen, self.value),
            52..60 => Op::Patch(id, random.gen_range(0..KEYS.len()), self.value),
            60..66 => Op::Touch(id),
            66..74 if known < IDS_MAX => Op::Rotate(id),
            74..84 if known < IDS_MAX => Op::Renew(id),
            84..88 => Op::End(id, reasons[random.gen_range(0..2)]),
            88..92 if self.has_owner => Op::EndOwner,
            92..96 => Op::ExpireDue,
            _ => Op::Get(id),
        }
    }

    fn step(&mut self) {
        if thread_rng().gen_bool(0.12) {
            self.advance();
        }
        let op = self.choose();
        let shared = Arc::clone(&self.shared);
        let earliest = shared.moved.load(Relaxed);
        let from = shared.moment.fetch_add(1, Relaxed);
        let answer = self.ask(op).unwrap_or_else(|error| match error {
            Error::Missing(missing) => Answer::Missing(missing),
            Error::Conflict { current } => Answer::Conflict(current.to_string().parse().unwrap()),
            other => panic!("{other}"),
        });
        let to = shared.moment.fetch_add(1, Relaxed);
        let clock = (earliest, shared.told.load(Relaxed));
        let call = Call { thread: self.thread, from, to, clock, op, answer };
        shared.calls.lock().unwrap().push(call);
    }

    fn advance(&self) {
        let by = [1, 9, 11, 30, 61][thread_rng().gen_range(0..5)];
        self.shared.told.fetch_add(by, Relaxed);
        self.clock.advance(Duration::from_secs(by));
        self.shared.moved.fetch_add(by, Relaxed);
    }

    fn ask(&mut self, op: Op) -> Result<Answer, Error> {
        let place = match op {
            Op::Read(id) | Op::Get(id) | Op::Update(id) | Op::ReplaceIf(id, ..) => id,
            Op::Patch(id, ..) | Op::Touch(id) | Op::Rotate(id) => id,
            Op::Renew(id) | Op::End(id, _) => id,
            Op::EndOwner | Op::ExpireDue => 0,
        };
        let id = self.shared.ids.lock().unwrap()[place];
        let number = |version: Version| version.to_string().parse().unwrap();
        Ok(match op {
            Op::Read(_) => {
                let copy = |data: &cloakroom::ArchivedAttributes| Data {
                    n: data.get_i64("n").unwrap_or(0),
                    keys: KEYS.map(|key| data.get_i64(key).unwrap_or(0)),
                };
                Answer::Data(self.store.read(id, copy)?)
            }
            Op::Get(_) => {
                let session = self.store.get(id)?;
                self.seen = session.version();
                Answer::Session(number(self.seen), Data::of(&session.to_data()?))
            }
            Op::Update(_) => Answer::Data(self.store.update(id, |data| {
                data.set("n", Data::of(data).n + 1);
                Data::of(data)
            })?),
            Op::ReplaceIf(_, _, n) => {
                let data = Attributes::from([("n", n.into())]);
                self.seen = self.store.replace_if(id, self.seen, data)?;
                Answer::Version(number(self.seen))
            }
            Op::Patch(_, key, value) => {
                let changes = Changes::new().set(KEYS[key], value);
                Answer::Version(number(self.store.patch(id, self.seen, &changes)?))
            }
            Op::Touch(_) => {
                self.store.touch(id)?;
                Answer::Done
            }
            Op::Rotate(_) => self.learn(self.store.rotate(id)?.id()),
            Op::Renew(_) => self.learn(self.store.renew(id)?.id()),
            Op::End(_, reason) => {
                self.store.end(id, reason)?;
                Answer::Done
            }
            Op::EndOwner => {
                Answer::Count(self.store.end_owner("alice", Except(None), Reason::Revoked)?)
            }
            Op::ExpireDue => Answer::Count(self.store.expire_due()),
        })
    }

    fn learn(&self, id: SessionId) -> Answer {
        let mut ids = self.shared.ids.lock().unwrap();
        ids.push(id);
        Answer::Id(ids.len() - 1)
    }
}
