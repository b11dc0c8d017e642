//! What the files should say.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::journal::entry::Entry;
use crate::journal::snapshot::{Alias, Found};
use crate::journal::stored::Stored;
use crate::token::SessionId;

/// One session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Session {
    pub(super) version: u32,
    /// As in [`Stored`]: created, authenticated, seen, idle, lifetime.
    pub(super) times: [u64; 5],
    pub(super) owner: Rc<str>,
    pub(super) label: Rc<str>,
    pub(super) data: Rc<[u8]>,
}

impl Session {
    fn of(stored: &Stored<'_>) -> Session {
        Session {
            version: stored.version,
            times: [
                stored.created_ms,
                stored.authenticated_ms,
                stored.seen_ms,
                stored.idle_ns,
                stored.lifetime_ns,
            ],
            owner: stored.owner.into(),
            label: stored.label.into(),
            data: stored.data.into(),
        }
    }

    pub(super) fn stored(&self, id: u128) -> Stored<'_> {
        let [created_ms, authenticated_ms, seen_ms, idle_ns, lifetime_ns] = self.times;
        Stored {
            id: SessionId(id),
            version: self.version,
            created_ms,
            authenticated_ms,
            seen_ms,
            idle_ns,
            lifetime_ns,
            owner: &self.owner,
            label: &self.label,
            data: &self.data,
        }
    }
}

/// All sessions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct State {
    pub(super) live: BTreeMap<u128, Session>,
    /// The successor of an old id, with the end of its grace time.
    pub(super) aliases: BTreeMap<u128, (u128, u64)>,
}

impl State {
    pub(super) fn apply(&mut self, entry: &Entry<'_>) {
        match entry {
            Entry::Put(stored) => self.put(stored),
            Entry::End { id, .. } => self.end(id.0),
            Entry::Move { old, alias_until_ms, new, .. } => {
                self.end(old.0);
                self.put(new);
                if *alias_until_ms != 0 {
                    self.aliases.insert(old.0, (new.id.0, *alias_until_ms));
                }
            }
            Entry::Touch(touches) => {
                for (id, seen_ms) in touches.iter() {
                    if let Some(session) = self.live.get_mut(&id.0) {
                        session.times[2] = session.times[2].max(seen_ms);
                    }
                }
            }
            Entry::Mark { .. } | Entry::Link { .. } => {}
        }
    }

    fn put(&mut self, stored: &Stored<'_>) {
        self.live.insert(stored.id.0, Session::of(stored));
    }

    fn end(&mut self, id: u128) {
        self.live.remove(&id);
        self.aliases.remove(&id);
        self.aliases.retain(|_, (successor, _)| *successor != id);
    }

    /// What a snapshot holds.
    pub(super) fn load(&mut self, found: &Found<'_>) {
        match found {
            Found::Session(stored) => self.put(stored),
            Found::Alias(Alias { id, successor, until_ms }) => {
                self.aliases.insert(id.0, (successor.0, *until_ms));
            }
        }
    }

    /// In what two states differ.
    pub(super) fn difference(&self, other: &State) -> String {
        let ids: BTreeSet<&u128> = self.live.keys().chain(other.live.keys()).collect();
        let mut all: Vec<String> = ids
            .into_iter()
            .filter(|id| self.live.get(id) != other.live.get(id))
            .map(|id| {
                let say = |state: &State| {
                    state.live.get(id).map(|live| (live.version, live.times[2], live.data.len()))
                };
                format!("{id:x}: {:?} and {:?}", say(self), say(other))
            })
            .collect();
        if self.aliases != other.aliases {
            all.push(format!("aliases {:?} and {:?}", self.aliases, other.aliases));
        }
        all.join(", ")
    }
}

/// The state after every position, and who had ended by then.
#[derive(Clone, Default)]
pub(super) struct History {
    states: Vec<(Rc<State>, Rc<BTreeSet<u128>>)>,
    /// Positions at which nothing stands but how far the log is durable.
    marks: BTreeSet<u64>,
    /// What stands at a position if what was refused with an error was done all the same.
    refused: BTreeMap<u64, Vec<Rc<State>>>,
}

impl History {
    pub(super) fn new() -> History {
        History { states: vec![Default::default()], ..History::default() }
    }

    /// The highest position.
    pub(super) fn last(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    /// The states that may be found at a position.
    pub(super) fn allowed(&self, position: u64) -> Vec<Rc<State>> {
        let sure = self.states.get(position as usize).map(|(state, _)| Rc::clone(state));
        let refused = self.refused.get(&position).into_iter().flatten().cloned();
        sure.into_iter().chain(refused).collect()
    }

    /// An entry that was refused, and may be in the file at the position that follows.
    pub(super) fn refuse(&mut self, entry: &Entry<'_>) {
        let mut state = self.present();
        Rc::make_mut(&mut state).apply(entry);
        self.may_be(state);
    }

    /// The same for what changes no session: a mark, a link.
    pub(super) fn refuse_mark(&mut self) {
        self.may_be(self.present());
    }

    fn may_be(&mut self, state: Rc<State>) {
        let states = self.refused.entry(self.last() + 1).or_default();
        if !states.contains(&state) {
            states.push(state);
        }
    }

    /// What was found at a position is what holds from now on.
    pub(super) fn adopt(&mut self, position: u64, state: State) {
        self.truncate(position);
        self.pass(position);
        if let Some((last, _)) = self.states.last_mut() {
            *last = Rc::new(state);
        }
        self.refused.clear();
    }

    pub(super) fn state(&self, position: u64) -> Rc<State> {
        Rc::clone(&self.states[position as usize].0)
    }

    pub(super) fn present(&self) -> Rc<State> {
        self.state(self.last())
    }

    pub(super) fn ended(&self, position: u64) -> &BTreeSet<u128> {
        &self.states[position as usize].1
    }

    /// Positions at which nothing happened to a session, up to this one.
    pub(super) fn pass(&mut self, position: u64) {
        while self.last() < position {
            let same = self.states[self.states.len() - 1].clone();
            self.states.push(same);
        }
    }

    /// A position at which nothing happened, and which may be given to something else.
    pub(super) fn mark(&mut self, position: u64) {
        self.pass(position);
        self.marks.insert(position);
    }

    /// The last position up to this one that somebody cares for.
    pub(super) fn before_marks(&self, mut position: u64) -> u64 {
        while self.marks.contains(&position) {
            position -= 1;
        }
        position
    }

    /// What happened at a position.
    pub(super) fn append(&mut self, position: u64, entry: &Entry<'_>) {
        assert!(position > self.last(), "position {position} twice");
        self.pass(position - 1);
        let (mut state, mut ended) = self.states[self.states.len() - 1].clone();
        Rc::make_mut(&mut state).apply(entry);
        if let Entry::End { id, .. } | Entry::Move { old: id, .. } = entry {
            Rc::make_mut(&mut ended).insert(id.0);
        }
        self.states.push((state, ended));
    }

    /// Forgets what comes behind a position: it never happened.
    pub(super) fn truncate(&mut self, position: u64) {
        self.states.truncate(position as usize + 1);
        self.marks.retain(|&mark| mark <= position);
    }
}
