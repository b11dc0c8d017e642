//! Which sessions belong to whom.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher as _;

use dashmap::DashMap;

use crate::sync::{Mutex, MutexGuard, lock};
use crate::token::SessionId;

/// Locks over the owners, chosen by hash. A power of two.
const STRIPE_COUNT: usize = 256;
/// Sessions up to which a plain list of them is searched.
const FEW_MAX: usize = 64;

/// The owner index.
///
/// Whatever gives an owner a session or takes one away holds the owner's stripe from before it
/// looks at the session until the index is up to date, so that the index never lists a session
/// that ended nor misses a live one. Stripes come before shards in the lock order.
pub(crate) struct Owners {
    stripes: Box<[Mutex<()>]>,
    hasher: RandomState,
    ids: DashMap<Box<str>, Ids, ahash::RandomState>,
}

/// The lock of an owner.
pub(crate) struct OwnerGuard<'a> {
    owners: &'a Owners,
    _stripe: MutexGuard<'a, ()>,
}

/// One owner's sessions, oldest first.
///
/// Nearly all owners have a handful. But some have tens of thousands (a test account, a crawler
/// that logs in): taking one out must not cost a search of all, under the owner's lock.
enum Ids {
    Few(Vec<SessionId>),
    Many(Box<Many>),
}

#[derive(Default)]
struct Many {
    /// By their number in the order in which they came.
    by_number: BTreeMap<u64, SessionId>,
    numbers: HashMap<SessionId, u64, ahash::RandomState>,
    next: u64,
}

impl Ids {
    fn len(&self) -> usize {
        match self {
            Ids::Few(ids) => ids.len(),
            Ids::Many(many) => many.by_number.len(),
        }
    }

    fn list(&self) -> Vec<SessionId> {
        match self {
            Ids::Few(ids) => ids.clone(),
            Ids::Many(many) => many.by_number.values().copied().collect(),
        }
    }

    fn add(&mut self, id: SessionId) {
        match self {
            Ids::Few(ids) if ids.len() < FEW_MAX => ids.push(id),
            Ids::Few(ids) => {
                let mut many = Box::<Many>::default();
                ids.drain(..).for_each(|id| many.add(id));
                many.add(id);
                *self = Ids::Many(many);
            }
            Ids::Many(many) => many.add(id),
        }
    }

    fn remove(&mut self, id: SessionId) {
        match self {
            Ids::Few(ids) => ids.retain(|&other| other != id),
            Ids::Many(many) => {
                if let Some(number) = many.numbers.remove(&id) {
                    many.by_number.remove(&number);
                }
                // Far below the other bound, so that nobody goes to and fro between the two.
                if many.by_number.len() <= FEW_MAX / 4 {
                    *self = Ids::Few(self.list());
                }
            }
        }
    }

    fn rename(&mut self, old: SessionId, new: SessionId) {
        match self {
            Ids::Few(ids) => {
                for id in ids.iter_mut().filter(|id| **id == old) {
                    *id = new;
                }
            }
            Ids::Many(many) => {
                if let Some(number) = many.numbers.remove(&old) {
                    many.numbers.insert(new, number);
                    many.by_number.insert(number, new);
                }
            }
        }
    }
}

impl Many {
    fn add(&mut self, id: SessionId) {
        self.by_number.insert(self.next, id);
        self.numbers.insert(id, self.next);
        self.next += 1;
    }
}

impl Owners {
    pub(crate) fn new() -> Owners {
        Owners {
            stripes: (0..STRIPE_COUNT).map(|_| Mutex::new(())).collect(),
            hasher: RandomState::new(),
            ids: DashMap::default(),
        }
    }

    fn stripe(&self, owner: &str) -> usize {
        self.hasher.hash_one(owner) as usize % STRIPE_COUNT
    }

    /// Locks an owner. A thread locks one at a time.
    pub(crate) fn lock(&self, owner: &str) -> OwnerGuard<'_> {
        OwnerGuard { owners: self, _stripe: lock(&self.stripes[self.stripe(owner)]) }
    }

    /// Calls `visit` with each owner's sessions, for checks.
    pub(crate) fn visit(&self, mut visit: impl FnMut(&str, &[SessionId])) {
        for entry in &self.ids {
            visit(entry.key(), &entry.value().list());
        }
    }

    /// The number of owners that have a session.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }
}

impl OwnerGuard<'_> {
    /// The owner's sessions, oldest first.
    pub(crate) fn list(&self, owner: &str) -> Vec<SessionId> {
        self.owners.ids.get(owner).map(|ids| ids.list()).unwrap_or_default()
    }

    /// How many there are of them.
    pub(crate) fn count(&self, owner: &str) -> usize {
        self.owners.ids.get(owner).map_or(0, |ids| ids.len())
    }

    pub(crate) fn add(&self, owner: &str, id: SessionId) {
        match self.owners.ids.get_mut(owner) {
            Some(mut ids) => ids.add(id),
            None => {
                self.owners.ids.insert(owner.into(), Ids::Few(vec![id]));
            }
        }
    }

    pub(crate) fn remove(&self, owner: &str, id: SessionId) {
        if let Some(mut ids) = self.owners.ids.get_mut(owner) {
            ids.remove(id);
        }
        self.owners.ids.remove_if(owner, |_, ids| ids.len() == 0);
    }

    /// The session goes on under another id, in its old place of the list.
    pub(crate) fn rename(&self, owner: &str, old: SessionId, new: SessionId) {
        if let Some(mut ids) = self.owners.ids.get_mut(owner) {
            ids.rename(old, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_without_sessions_is_forgotten() {
        let owners = Owners::new();
        let guard = owners.lock("alice");
        guard.add("alice", SessionId(1));
        guard.add("alice", SessionId(2));
        guard.rename("alice", SessionId(1), SessionId(3));
        assert_eq!(guard.list("alice"), [SessionId(3), SessionId(2)]);
        guard.remove("alice", SessionId(3));
        guard.remove("alice", SessionId(9));
        assert_eq!(guard.list("alice").len(), 1);
        guard.remove("alice", SessionId(2));
        assert_eq!((owners.len(), guard.list("alice").len()), (0, 0));
    }
    /// Both forms against a plain list, while the number goes up and down across their bounds.
    #[test]
    fn the_order_stays_however_many_there_are() {
        let owners = Owners::new();
        let guard = owners.lock("alice");
        let mut expected: Vec<SessionId> = Vec::new();
        let mut next = 0;
        for (round, &size) in [3, 100, 60, 5, 200, 17, 16, 65, 0, 70].iter().enumerate() {
            while expected.len() < size {
                next += 1;
                guard.add("alice", SessionId(next));
                expected.push(SessionId(next));
            }
            while expected.len() > size {
                let id = expected.remove(expected.len() * (round + 7) % 13 % expected.len());
                guard.remove("alice", id);
                guard.remove("alice", id);
            }
            for index in (round..size).step_by(3) {
                next += 1;
                guard.rename("alice", expected[index], SessionId(next));
                expected[index] = SessionId(next);
            }
            guard.rename("alice", SessionId(0), SessionId(1 << 100));
            assert_eq!(guard.list("alice"), expected);
            assert_eq!(guard.count("alice"), size);
            assert_eq!(owners.len(), usize::from(size > 0));
        }
    }
}
