//! What the store would do if it did one thing after the other.
//!
//! A call takes effect in one moment, but it may read the clock at any moment from its beginning
//! to its end, and more than once. So deadlines are windows: a session lives for sure before the
//! first of the two times, is dead for sure from the second on, and may be either in between.

use cloakroom::{Missing, Reason};

use crate::history::{Answer, Call, Data, Op};
use crate::{GRACE, IDLE};

const IDLE_SECONDS: u64 = IDLE.as_secs();
const GRACE_SECONDS: u64 = GRACE.as_secs();

/// In seconds: the earliest and the latest that it may be.
type Window = (u64, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Entry {
    /// Not given out yet.
    Unknown,
    Live {
        deadline: Window,
    },
    Alias {
        successor: usize,
        until: Window,
    },
    Ended(Reason),
}

/// One session under all its ids.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Model {
    entries: [Entry; 16],
    version: u32,
    data: Data,
}

/// What an id stands for, as far as the clock lets one know.
enum Found {
    /// The live session's place.
    Live(usize),
    Missing(Reason),
}

impl Model {
    /// A session that was just created.
    pub fn new() -> Model {
        let mut entries = [Entry::Unknown; 16];
        entries[0] = Entry::Live { deadline: (IDLE_SECONDS, IDLE_SECONDS) };
        Model { entries, version: 1, data: Data::default() }
    }

    /// All that an id may stand for at a time in this window.
    fn find(&self, id: usize, clock: Window) -> Vec<Found> {
        match self.entries[id] {
            Entry::Unknown => Vec::new(),
            Entry::Ended(reason) => vec![Found::Missing(reason)],
            Entry::Live { deadline } => {
                let mut found = Vec::new();
                if clock.0 < deadline.1 {
                    found.push(Found::Live(id));
                }
                if clock.1 >= deadline.0 {
                    found.push(Found::Missing(Reason::Expired));
                }
                found
            }
            Entry::Alias { successor, until } => {
                let mut found = Vec::new();
                if clock.0 < until.1 {
                    found = match self.entries[successor] {
                        Entry::Alias { .. } => vec![Found::Missing(Reason::Rotated)],
                        _ => self.find(successor, clock),
                    };
                }
                if clock.1 >= until.0 {
                    found.push(Found::Missing(Reason::Rotated));
                }
                found
            }
        }
    }

    /// The model after this call, if the answer is right. `None` if it is not.
    pub fn step(&self, call: &Call) -> Option<Model> {
        match call.op {
            Op::EndOwner => self.end_owner(call),
            Op::ExpireDue => self.expire_due(call),
            Op::Read(id) | Op::Get(id) | Op::Update(id) | Op::ReplaceIf(id, ..) => {
                self.on_session(id, call)
            }
            Op::Patch(id, ..) | Op::Touch(id) | Op::Rotate(id) => self.on_session(id, call),
            Op::Renew(id) | Op::End(id, _) => self.on_session(id, call),
        }
    }

    fn on_session(&self, id: usize, call: &Call) -> Option<Model> {
        let found = self.find(id, call.clock);
        if let Answer::Missing(missing) = call.answer {
            let renewed_before = matches!(call.op, Op::Renew(_))
                && missing == Missing::Ended(Reason::Rotated)
                && found.iter().any(|found| matches!(found, Found::Live(live) if *live != id));
            let is_right = renewed_before
                || found.iter().any(|found| {
                    matches!(found, Found::Missing(reason) if missing == Missing::Ended(*reason))
                });
            return is_right.then(|| self.clone());
        }
        let live = found.into_iter().find_map(|found| match found {
            Found::Live(live) => Some(live),
            Found::Missing(_) => None,
        })?;
        self.on_live(live, call)
    }

    fn on_live(&self, live: usize, call: &Call) -> Option<Model> {
        let mut next = self.clone();
        match (call.op, call.answer) {
            (Op::Read(_), Answer::Data(data)) => {
                next.seen(live, call.clock);
                (data == self.data).then_some(next)
            }
            (Op::Get(_), Answer::Session(version, data)) => {
                next.seen(live, call.clock);
                (version == self.version && data == self.data).then_some(next)
            }
            (Op::Touch(_), Answer::Done) => {
                next.seen(live, call.clock);
                Some(next)
            }
            (Op::Update(_), Answer::Data(data)) => {
                next.data.n += 1;
                next.write(live, call.clock);
                (data == next.data).then_some(next)
            }
            (Op::ReplaceIf(_, base, n), Answer::Version(version)) => {
                next.data = Data { n, ..Data::default() };
                next.write(live, call.clock);
                (base == self.version && version == next.version).then_some(next)
            }
            (Op::ReplaceIf(_, base, _), Answer::Conflict(version)) => {
                (base != self.version && version == self.version).then_some(next)
            }
            (Op::Patch(_, key, value), Answer::Version(version)) => {
                next.data.keys[key] = value;
                next.write(live, call.clock);
                (version == next.version).then_some(next)
            }
            (Op::Rotate(_), Answer::Id(new)) => {
                next.entries[live] = Entry::Ended(Reason::Rotated);
                next.entries[new] = Entry::Live { deadline: later(call.clock, IDLE_SECONDS) };
                Some(next)
            }
            (Op::Renew(id), Answer::Id(new)) if id == live => {
                let until = later(call.clock, GRACE_SECONDS);
                next.entries[live] = Entry::Alias { successor: new, until };
                next.entries[new] = Entry::Live { deadline: later(call.clock, IDLE_SECONDS) };
                Some(next)
            }
            (Op::End(_, reason), Answer::Done) => {
                next.entries[live] = Entry::Ended(reason);
                Some(next)
            }
            _ => None,
        }
    }

    /// A lookup, which may be stored or not.
    fn seen(&mut self, live: usize, clock: Window) {
        if let Entry::Live { deadline } = &mut self.entries[live] {
            deadline.1 = deadline.1.max(clock.1 + IDLE_SECONDS);
        }
    }

    fn write(&mut self, live: usize, clock: Window) {
        self.version += 1;
        let mut deadline = later(clock, IDLE_SECONDS);
        if let Entry::Live { deadline: before } = self.entries[live] {
            // A lookup's touch may be stored after the write that its answer came before.
            deadline.1 = deadline.1.max(before.1);
        }
        self.entries[live] = Entry::Live { deadline };
    }

    fn live(&self) -> Option<(usize, Window)> {
        self.entries.iter().enumerate().find_map(|(place, entry)| match entry {
            Entry::Live { deadline } => Some((place, *deadline)),
            _ => None,
        })
    }

    fn end_owner(&self, call: &Call) -> Option<Model> {
        let mut next = self.clone();
        match (call.answer, self.live()) {
            (Answer::Count(0), None) => Some(next),
            (Answer::Count(0), Some((_, deadline))) => (call.clock.1 >= deadline.0).then_some(next),
            (Answer::Count(1), Some((live, deadline))) if call.clock.0 < deadline.1 => {
                next.entries[live] = Entry::Ended(Reason::Revoked);
                Some(next)
            }
            _ => None,
        }
    }

    /// May leave a session to the next round.
    fn expire_due(&self, call: &Call) -> Option<Model> {
        let mut next = self.clone();
        match (call.answer, self.live()) {
            (Answer::Count(0), _) => Some(next),
            (Answer::Count(1), Some((live, deadline))) if call.clock.1 >= deadline.0 => {
                next.entries[live] = Entry::Ended(Reason::Expired);
                Some(next)
            }
            _ => None,
        }
    }
}

impl Default for Model {
    fn default() -> Model {
        Model::new()
    }
}

fn later(clock: Window, by: u64) -> Window {
    (clock.0 + by, clock.1 + by)
}
