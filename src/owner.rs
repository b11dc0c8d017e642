//! Which sessions belong to whom.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use dashmap::DashMap;

use crate::sync::{Mutex, MutexGuard, lock};
use crate::token::SessionId;

/// Locks over the owners, chosen by hash. A power of two.
const STRIPE_COUNT: usize = 256;

/// The owner index.
///
/// Whatever gives an owner a session or takes one away holds the owner's stripe from before it
/// looks at the session until the index is up to date, so that the index never lists a session
/// that ended nor misses a live one. Stripes come before shards in the lock order.
pub(crate) struct Owners {
    stripes: Box<[Mutex<()>]>,
    hasher: RandomState,
    ids: DashMap<Box<str>, Vec<SessionId>, ahash::RandomState>,
}

/// The lock of an owner.
pub(crate) struct OwnerGuard<'a> {
    owners: &'a Owners,
    _stripe: MutexGuard<'a, ()>,
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
            visit(entry.key(), entry.value());
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
        self.owners.ids.get(owner).map(|ids| ids.clone()).unwrap_or_default()
    }

    pub(crate) fn add(&self, owner: &str, id: SessionId) {
        match self.owners.ids.get_mut(owner) {
            Some(mut ids) => ids.push(id),
            None => {
                self.owners.ids.insert(owner.into(), vec![id]);
            }
        }
    }

    pub(crate) fn remove(&self, owner: &str, id: SessionId) {
        if let Some(mut ids) = self.owners.ids.get_mut(owner) {
            ids.retain(|&other| other != id);
        }
        self.owners.ids.remove_if(owner, |_, ids| ids.is_empty());
    }

    /// The session goes on under another id, in its old place of the list.
    pub(crate) fn rename(&self, owner: &str, old: SessionId, new: SessionId) {
        if let Some(mut ids) = self.owners.ids.get_mut(owner) {
            for id in ids.iter_mut().filter(|id| **id == old) {
                *id = new;
            }
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
}
