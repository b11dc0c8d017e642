//! The model: what the store promises, in maps and exact times, without a store.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use cloakroom::{Attributes, Missing, Reason, SessionId, Value};

use super::ops::{Edit, Val};

/// Nanoseconds since the start of the clock; `u64::MAX` is never.
pub(super) type Time = u64;
pub(super) const NEVER: Time = u64::MAX;
/// Deadlines are exact to this, and never late.
pub(super) const RESOLUTION: Time = 100_000_000;
/// What is further apart is told apart.
const TICK: Time = 50_000_000;
/// The clock of the store reaches so far, nearly seven years; afterwards it stands still, and
/// what can expire has expired.
pub(super) const REACH: Time = (u32::MAX as u64 - 17) * 50_000_000 - YEAR;
/// A clock begins so long after its origin, which leaves room for the past.
const YEAR: Time = 365 * 24 * 60 * 60 * 1_000_000_000;

pub(super) fn nanos(duration: Duration) -> Time {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

pub(super) fn after(from: Time, by: Duration) -> Time {
    from.saturating_add(nanos(by))
}

/// The data of a session: keys in the order of their insertion.
pub(super) type Data = Vec<(u8, Val)>;

pub(super) fn edited(data: &Data, edits: &[Edit]) -> Data {
    let mut data = data.clone();
    for edit in edits {
        apply(&mut data, edit);
    }
    data
}

pub(super) fn get(data: &Data, key: u8) -> Option<&Val> {
    data.iter().find(|entry| entry.0 == key).map(|entry| &entry.1)
}

pub(super) fn set(data: &mut Data, key: u8, value: Val) {
    match data.iter_mut().find(|entry| entry.0 == key) {
        Some(entry) => entry.1 = value,
        None => data.push((key, value)),
    }
}

fn apply(data: &mut Data, edit: &Edit) {
    match edit {
        Edit::Set(key, value) => set(data, key % 8, value.clone()),
        Edit::Remove(key) => data.retain(|entry| entry.0 != key % 8),
        Edit::Add(key, by) => {
            let Some(Val::Int(old)) = get(data, key % 8).cloned() else {
                return set(data, key % 8, Val::Int((*by).into()));
            };
            set(data, key % 8, Val::Int(old.wrapping_add((*by).into())));
        }
        Edit::Grow(key, by) => {
            let old = match get(data, key % 8) {
                Some(Val::Text(len)) => *len,
                _ => 0,
            };
            set(data, key % 8, Val::Text(old.saturating_add(*by)));
        }
        Edit::Clear => data.clear(),
    }
}

pub(super) fn key_name(key: u8) -> String {
    format!("key{key}")
}

pub(super) fn value_of(value: &Val) -> Value {
    match value {
        Val::Int(number) => Value::Int(*number),
        Val::Text(len) => Value::Text("text8888".repeat((*len).into())),
    }
}

pub(super) fn attributes_of(data: &Data) -> Attributes {
    data.iter().map(|(key, value)| (key_name(*key), value_of(value))).collect()
}

/// The data that attributes hold, in their order.
pub(super) fn data_of(attributes: &Attributes) -> Data {
    let entry = |(key, value): (&str, &Value)| {
        let key = key.strip_prefix("key").and_then(|key| key.parse().ok()).expect("our own key");
        let value = match value {
            Value::Int(number) => Val::Int(*number),
            Value::Text(text) => {
                assert_eq!(text, &"text8888".repeat(text.len() / 8), "a torn text");
                Val::Text((text.len() / 8) as u8)
            }
            other => panic!("a value that nobody stored: {other:?}"),
        };
        (key, value)
    };
    attributes.iter().map(entry).collect()
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Live,
    /// Past its deadline, not yet ended by the expiry.
    Expired,
    Gone,
}

/// One session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) state: State,
    pub(super) data: Data,
    pub(super) version: u32,
    pub(super) owner: String,
    pub(super) label: String,
    pub(super) idle: Duration,
    pub(super) lifetime: Duration,
    pub(super) created: Time,
    pub(super) authenticated: Time,
    /// The store may have stored that it was seen as early as this, and as late as `seen_max`.
    pub(super) seen_min: Time,
    pub(super) seen_max: Time,
    /// Bytes in the budget: learnt from the store, and checked against bounds.
    pub(super) cost: u64,
    pub(super) data_bytes: usize,
}

impl Session {
    pub(super) fn absolute(&self) -> Time {
        after(self.authenticated, self.lifetime)
    }

    /// At this time it is surely gone.
    pub(super) fn deadline(&self) -> Time {
        after(self.seen_max, self.idle).min(self.absolute())
    }

    /// As long as the time is more than [`RESOLUTION`] before this, it surely lives.
    pub(super) fn deadline_min(&self) -> Time {
        after(self.seen_min, self.idle).min(self.absolute())
    }

    pub(super) fn is_anonymous(&self) -> bool {
        self.owner.is_empty()
    }

    /// A touch is stored at most so often.
    fn granularity(&self) -> Time {
        let shorter = self.idle.min(self.lifetime);
        let granularity = (shorter / 64).clamp(Duration::from_secs(1), Duration::from_secs(3600));
        nanos(granularity.min(shorter / 8).max(Duration::from_millis(50)).min(shorter))
    }

    /// The latest time that is stored: nearer to its end a session is touched no more.
    fn seen_last(&self) -> Time {
        self.absolute().saturating_sub(self.granularity())
    }

    /// The store saw it now and has surely stored that.
    pub(super) fn rewritten(&mut self, now: Time) {
        (self.seen_min, self.seen_max) = (now.min(self.seen_last()), now);
    }

    /// The store saw it now, and stored that if it was worth it.
    pub(super) fn touched(&mut self, now: Time) {
        let granularity = self.granularity().saturating_add(RESOLUTION);
        let surely = now - self.seen_max >= granularity;
        let lagging = self.seen_min.max(now.saturating_sub(granularity));
        self.seen_min = if surely { now } else { lagging };
        self.seen_min = self.seen_min.min(self.seen_last());
        self.seen_max = now;
    }

    /// The bounds of what a record with so much data costs.
    pub(super) fn cost_bounds(&self, data_bytes: usize) -> (u64, u64) {
        let record_min = 40 + data_bytes;
        let record_max = record_min + 28 + self.owner.len() + self.label.len();
        let charged_max = record_max + record_max / 8 + 64;
        (record_min as u64 + 32, charged_max as u64 + 32)
    }
}

/// What the store knows of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    /// The present id of a session, be it expired.
    Session(usize),
    /// Renewed away.
    Alias {
        successor: SessionId,
        until: Time,
        over: bool,
    },
    Ended {
        reason: Reason,
        successor: Option<SessionId>,
        at: Time,
        /// How many had ended before this step: in which order one step ends is open.
        number: u64,
        /// Whether it may be forgotten, because of its age.
        old: bool,
    },
    Forgotten,
}

/// An event, comparable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ev {
    Created { id: SessionId, owner: Option<String> },
    LoggedIn { id: SessionId, owner: String },
    Rotated { old: SessionId, new: SessionId, renewed: bool },
    Ended { id: SessionId, reason: Reason, version: u32, owner: String, label: String, data: Data },
    Suspicious { id: SessionId, successor: SessionId },
}

/// What the store counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) created: u64,
    pub(super) renewed: u64,
    pub(super) suspicious: u64,
    pub(super) ended: [u64; 5],
}

/// Everything the model knows.
pub(super) struct World {
    pub(super) now: Time,
    pub(super) remember: Duration,
    /// So many later ends are needed before one may be forgotten.
    pub(super) remember_count: u64,
    pub(super) sessions: Vec<Session>,
    pub(super) ids: HashMap<SessionId, Id>,
    /// All ids in the order in which they were given out.
    pub(super) given: Vec<SessionId>,
    /// In the order in which the sessions came to their owner.
    pub(super) owners: BTreeMap<String, Vec<usize>>,
    pub(super) counts: Counts,
    pub(super) events: Vec<Ev>,
    pub(super) buried: u64,
    /// At the start of this step.
    pub(super) buried_before: u64,
    /// Sessions that ended in this step.
    pub(super) gone: Vec<(usize, Reason)>,
}

impl World {
    pub(super) fn new(remember: Duration, remember_count: u64) -> World {
        World {
            now: 0,
            remember,
            remember_count,
            sessions: Vec::new(),
            ids: HashMap::new(),
            given: Vec::new(),
            owners: BTreeMap::new(),
            counts: Counts::default(),
            events: Vec::new(),
            buried: 0,
            buried_before: 0,
            gone: Vec::new(),
        }
    }

    /// The sessions that take room: live ones, and expired ones that have not been ended.
    pub(super) fn resident(&self) -> impl Iterator<Item = (usize, &Session)> {
        self.sessions.iter().enumerate().filter(|(_, session)| session.state != State::Gone)
    }

    pub(super) fn live(&self) -> impl Iterator<Item = (usize, &Session)> {
        self.sessions.iter().enumerate().filter(|(_, session)| session.state == State::Live)
    }

    pub(super) fn live_of(&self, owner: &str) -> Vec<usize> {
        let mut all = self.owners.get(owner).cloned().unwrap_or_default();
        all.retain(|&n| self.sessions[n].state == State::Live);
        // Of one tick in the order in which they came.
        all.sort_by_key(|&n| self.sessions[n].authenticated.min(REACH) / TICK);
        all
    }

    /// What a lookup of an id has to answer, now that nothing is in doubt. The second part is the
    /// successor of a token that is used too late.
    pub(super) fn resolve(&self, id: SessionId) -> (Result<usize, Missing>, Option<SessionId>) {
        let of_session = |n: usize| match self.sessions[n].state {
            State::Live => Ok(n),
            _ => Err(Missing::Ended(Reason::Expired)),
        };
        match self.ids.get(&id) {
            None | Some(Id::Forgotten) => (Err(Missing::Unknown), None),
            Some(&Id::Session(n)) => (of_session(n), None),
            Some(&Id::Ended { reason, successor, .. }) => (Err(Missing::Ended(reason)), successor),
            Some(&Id::Alias { successor, over: true, .. }) => {
                (Err(Missing::Ended(Reason::Rotated)), Some(successor))
            }
            Some(&Id::Alias { successor, .. }) => {
                let found = match self.ids.get(&successor) {
                    Some(&Id::Session(n)) => of_session(n),
                    Some(&Id::Ended { reason, .. }) => Err(Missing::Ended(reason)),
                    _ => Err(Missing::Ended(Reason::Rotated)),
                };
                (found, None)
            }
        }
    }

    /// As [`World::resolve`], in an operation: expects the event and counts it.
    pub(super) fn look(&mut self, id: SessionId) -> Result<usize, Missing> {
        let (found, successor) = self.resolve(id);
        if let Some(successor) = successor {
            self.counts.suspicious += 1;
            self.events.push(Ev::Suspicious { id, successor });
        }
        found
    }

    pub(super) fn count_lookup<T>(&mut self, found: &Result<T, Missing>) {
        match found {
            Ok(_) => self.counts.hits += 1,
            Err(_) => self.counts.misses += 1,
        }
    }

    /// Whether an id may have been forgotten or not: then only the store can tell.
    pub(super) fn is_doubtful(&self, id: SessionId) -> bool {
        match self.ids.get(&id) {
            Some(&Id::Ended { number, old, .. }) => {
                old || self.buried - number > self.remember_count
            }
            _ => false,
        }
    }

    /// Puts a tombstone in an id's place.
    pub(super) fn bury(&mut self, id: SessionId, reason: Reason, successor: Option<SessionId>) {
        let none = self.remember.is_zero() || self.remember_count == 0;
        self.buried += 1;
        let ended = Id::Ended {
            reason,
            successor,
            at: self.now,
            number: self.buried_before,
            old: nanos(self.remember) < RESOLUTION,
        };
        self.ids.insert(id, if none { Id::Forgotten } else { ended });
    }

    /// Ends a session, however.
    pub(super) fn end(&mut self, n: usize, reason: Reason) {
        let session = &mut self.sessions[n];
        assert_ne!(session.state, State::Gone);
        session.state = State::Gone;
        let (id, owner) = (session.id, session.owner.clone());
        self.events.push(Ev::Ended {
            id,
            reason,
            version: session.version,
            owner: owner.clone(),
            label: session.label.clone(),
            data: session.data.clone(),
        });
        self.counts.ended[reason_index(reason)] += 1;
        self.gone.push((n, reason));
        self.disown(n, &owner);
        self.bury(id, reason, None);
    }

    pub(super) fn own(&mut self, n: usize, owner: &str) {
        if !owner.is_empty() {
            self.owners.entry(owner.to_owned()).or_default().push(n);
        }
    }

    pub(super) fn disown(&mut self, n: usize, owner: &str) {
        if let Some(list) = self.owners.get_mut(owner) {
            list.retain(|&other| other != n);
            if list.is_empty() {
                self.owners.remove(owner);
            }
        }
    }

    /// The expiry ran: whatever is due ends, whatever is old is forgotten. Returns how many
    /// sessions ended.
    pub(super) fn expire(&mut self) -> usize {
        let expired: Vec<usize> = self.resident().map(|(n, _)| n).collect();
        let expired: Vec<usize> =
            expired.into_iter().filter(|&n| self.sessions[n].state == State::Expired).collect();
        let ids: Vec<(SessionId, Id)> = self.ids.iter().map(|(id, state)| (*id, *state)).collect();
        for (id, state) in ids {
            match state {
                Id::Alias { successor, over: true, .. } => {
                    self.bury(id, Reason::Rotated, Some(successor));
                }
                Id::Ended { reason, successor, at, number, old } => {
                    let until = after(at, self.remember);
                    let old = old || self.now.saturating_add(RESOLUTION) >= until;
                    let state = Id::Ended { reason, successor, at, number, old };
                    // Where time stands still nothing is forgotten because of its age.
                    let gone = self.now >= until && until < REACH;
                    self.ids.insert(id, if gone { Id::Forgotten } else { state });
                }
                _ => {}
            }
        }
        for &n in &expired {
            self.end(n, Reason::Expired);
        }
        expired.len()
    }
}

pub(super) fn reason_index(reason: Reason) -> usize {
    Reason::ALL.iter().position(|&other| other == reason).expect("all reasons")
}
