//! Sessions on their way from the file of a snapshot into memory.
//!
//! Whoever is about to lock something for the sake of a session brings it first, with no lock held.
//! A thread brings all the others, chunk by chunk, in the order of the file.

use super::Sessions;
use super::backing::{Backing, weigh};
use crate::budget::{Class, Cost};
use crate::clock::Tick;
use crate::error::{Error, Limit, Result};
use crate::journal::snapshot::{Alias, Damage, EntryOffset, Found, Weight};
use crate::journal::stored::Stored;
use crate::reclaim::Pinned;
use crate::record::Kind;
use crate::shard::cost;
use crate::sync::{Arc, lock};
use crate::token::SessionId;

/// What is left after some sessions were brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Brought {
    All,
    Some,
}

impl Sessions {
    /// Whether there are sessions that only the file has.
    #[inline]
    pub(crate) fn is_backed(&self) -> bool {
        self.backing.is_taken()
    }

    pub(crate) fn backing(&self) -> Option<Arc<Backing>> {
        self.backing.get()
    }

    /// Serves a snapshot, of which nothing is in memory. Before anybody else uses the store.
    pub(crate) fn back(&self, backing: Arc<Backing>) {
        // Their room is taken from now on, so that limits hold.
        let cost = |Weight { sessions, bytes }| Cost { sessions, bytes };
        let weights = backing.weights();
        self.common.budget.add(Class::Anonymous, cost(weights.anonymous));
        self.common.budget.add(Class::Authenticated, cost(weights.owned));
        self.backing.put(backing);
    }

    /// Refuses a write when the file turned out to be damaged: it would change what no snapshot
    /// may ever take the place of.
    pub(super) fn check_undamaged(&self) -> Result<()> {
        if !self.is_backed() {
            return Ok(());
        }
        self.backing.get().and_then(|backing| backing.damage()).map_or(Ok(()), Err)
    }

    /// Sees to it that memory has whatever stands for this id. No lock may be held.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Full`] without memory.
    #[inline]
    pub(super) fn bring(&self, pinned: Pinned<'_>, id: SessionId) -> Result<()> {
        if self.is_backed() { self.bring_with_successor(pinned, id) } else { Ok(()) }
    }

    #[cold]
    fn bring_with_successor(&self, pinned: Pinned<'_>, id: SessionId) -> Result<()> {
        let Some(backing) = self.backing.get() else { return Ok(()) };
        self.bring_one(pinned, &backing, id)?;
        match self.common.table.find(pinned, id).map(|record| record.kind()) {
            Some(Kind::Alias { successor }) => self.bring_one(pinned, &backing, successor),
            _ => Ok(()),
        }
    }

    /// As [`Sessions::bring`], for lookups: to them what cannot be read is unknown.
    #[cold]
    pub(super) fn bring_to_look(&self, pinned: Pinned<'_>, id: SessionId) {
        if !self.is_forked() {
            let _ = self.bring_with_successor(pinned, id);
        }
    }

    fn bring_one(&self, pinned: Pinned<'_>, backing: &Backing, id: SessionId) -> Result<()> {
        if self.common.table.find(pinned, id).is_some() {
            return Ok(());
        }
        match backing.find(id)? {
            Some((at, found)) => self.place(pinned, backing, at, &found),
            None => Ok(()),
        }
    }

    /// Brings all sessions of an owner. His stripe may not be locked.
    pub(super) fn bring_owner(&self, pinned: Pinned<'_>, owner: &str) -> Result<()> {
        let Some(backing) = self.backing.get() else { return Ok(()) };
        for name in backing.names_of(owner) {
            for owned in backing.snapshot.owned(&name) {
                let damaged = |damage: Damage| backing.damaged(damage.offset, damage.to_string());
                let (at, stored) = owned.map_err(damaged)?;
                if !backing.is_loaded(at) {
                    self.place(pinned, &backing, at, &Found::Session(stored))?;
                }
            }
        }
        Ok(())
    }

    /// Whether only the file has something for this id, which nobody knows yet.
    pub(super) fn is_unloaded(&self, id: SessionId) -> Result<bool> {
        match self.backing.get() {
            Some(backing) => backing.find(id).map(|found| found.is_some()),
            None => Ok(false),
        }
    }

    /// Makes room in the table for the sessions of a snapshot, as far as there is memory.
    pub(crate) fn reserve_entries(&self, sessions: u64) {
        let entries = self.share_of(usize::try_from(sessions).unwrap_or(usize::MAX));
        for shard in &self.shards {
            if !shard.lock(&self.common).expect(entries) {
                return;
            }
        }
    }

    /// Brings everything. For calls that are about all sessions: they help the thread, then go on.
    pub(crate) fn bring_all(&self) -> Result<()> {
        while let Some(backing) = self.backing.get() {
            if self.bring_some(&backing, usize::MAX)? == Brought::All {
                break;
            }
        }
        Ok(())
    }

    /// Brings the next sessions of the file, so many at most, or to the end of a chunk. The first
    /// error stays: damage does not go away.
    ///
    /// # Errors
    /// As [`Sessions::bring`].
    pub(crate) fn bring_some(&self, backing: &Backing, count_max: usize) -> Result<Brought> {
        let mut next = lock(&backing.walk);
        let Some(from) = *next else { return Ok(Brought::All) };
        if let Some(damage) = backing.damage() {
            return Err(damage);
        }
        let pin = self.pin();
        let pinned = pin.pinned();
        let mut walk = backing.snapshot.entries_since(from);
        let mut count = 0;
        while let Some(entry) = walk.next() {
            let entry = entry.map_err(|damage| backing.damaged(damage.offset, damage.to_string()));
            let (at, found) = entry?;
            if !backing.is_loaded(at) {
                self.place(pinned, backing, at, &found)?;
            }
            *next = Some(walk.position());
            backing.set_position(walk.position());
            count += 1;
            if walk.is_between_chunks() || count >= count_max {
                return Ok(Brought::Some);
            }
        }
        *next = None;
        self.backing.clear();
        Ok(Brought::All)
    }

    /// Puts what an entry says into memory, unless somebody else did.
    fn place(
        &self,
        pinned: Pinned<'_>,
        backing: &Backing,
        at: EntryOffset,
        found: &Found<'_>,
    ) -> Result<()> {
        match found {
            Found::Session(stored) => backing
                .open(at, stored, |stored| self.place_session(pinned, backing, at, stored))?,
            Found::Alias(alias) => self.place_alias(pinned, backing, at, *alias),
        }
    }

    fn place_session(
        &self,
        pinned: Pinned<'_>,
        backing: &Backing,
        at: EntryOffset,
        stored: &Stored<'_>,
    ) -> Result<()> {
        let (id, owner) = (stored.id, stored.owner);
        let draft = self.restored(&backing.calendar, stored);
        let full = Error::Full(Limit::Memory);
        // Read and copied before anything is locked: a page of the file may have to come from disk.
        let Ok(fresh) = self.common.table.fresh(&draft) else { return Err(full) };
        let guard = (!owner.is_empty()).then(|| self.owners.lock(owner));
        let mut shard = self.lock_shard(id);
        if backing.is_loaded(at) {
            return Ok(());
        }
        shard.restore(pinned, fresh).map_err(|_| full)?;
        #[cfg(test)]
        super::backing::between();
        backing.set_loaded(at, true);
        shard.tidy(pinned);
        drop(shard);
        if let Some(guard) = guard {
            guard.add(owner, id);
        }
        self.settle_weight(draft.class(), weigh(stored), cost(draft.len()));
        if let Some(seen) = backing.take_seen(id) {
            self.restore_touch(pinned, id, seen);
        }
        Ok(())
    }

    fn place_alias(
        &self,
        pinned: Pinned<'_>,
        backing: &Backing,
        at: EntryOffset,
        alias: Alias,
    ) -> Result<()> {
        let until = Tick::at(backing.calendar.nanos(alias.until_ms));
        let mut shard = self.lock_shard(alias.id);
        if backing.is_loaded(at) {
            return Ok(());
        }
        if until > backing.opened {
            let placed = shard.restore_alias(pinned, alias.id, alias.successor, until);
            placed.map_err(|_| Error::Full(Limit::Memory))?;
        }
        backing.set_loaded(at, false);
        Ok(())
    }

    /// Turns the room that was taken for a session at the beginning into that which it takes.
    fn settle_weight(&self, class: Class, told: Cost, real: Cost) {
        let bytes = |bytes| Cost { sessions: 0, bytes };
        if real.bytes > told.bytes {
            self.common.budget.add(class, bytes(real.bytes - told.bytes));
        } else if real.bytes < told.bytes {
            self.common.budget.release(class, bytes(told.bytes - real.bytes));
        }
    }
}
