//! Sessions that end: on demand, by their owner, by their deadline.

use super::{After, Sessions};
use crate::error::{Error, Reason, Result};
use crate::owner::OwnerGuard;
use crate::reclaim::Pinned;
use crate::record::Record;
use crate::shard::NotHere;
use crate::sync::atomic::Ordering::Relaxed;
use crate::token::SessionId;

/// Sessions that the expiry handles in one go: what bounds how long a shard is locked.
const EXPIRE_BATCH: usize = 64;

/// Whether a session could be ended under the locks that were taken.
pub(super) enum Outcome<'g> {
    /// With its last state.
    Done(Record<'g>),
    /// The session has another owner, or another id, than when the locks were taken.
    Changed,
}

impl Sessions {
    pub(crate) fn end(&self, id: SessionId, reason: Reason) -> Result<()> {
        self.end_and(id, reason, |_| ())
    }

    /// Ends a session, then shows its last state to a closure.
    pub(crate) fn end_and<R>(
        &self,
        id: SessionId,
        reason: Reason,
        last: impl FnOnce(Record<'_>) -> R,
    ) -> Result<R> {
        self.begin_write()?;
        let pin = self.pin();
        let pinned = pin.pinned();
        self.bring(pinned, id)?;
        loop {
            let record = self.resolve(pinned, id)?;
            let owner = record.owner();
            let mut after = After::default();
            let outcome = {
                let guard = (!owner.is_empty()).then(|| self.owners.lock(owner));
                self.end_locked(pinned, record.id(), owner, guard.as_ref(), reason, &mut after)
            };
            self.finish(after, pinned);
            if let Outcome::Done(record) = outcome? {
                return Ok(last(record));
            }
        }
    }

    /// Ends a session if it belongs to this owner. Returns whether it did.
    pub(crate) fn end_owned(&self, owner: &str, id: SessionId, reason: Reason) -> Result<bool> {
        self.begin_write()?;
        let pin = self.pin();
        let pinned = pin.pinned();
        let mut after = After::default();
        self.bring(pinned, id)?;
        let ended = {
            let guard = self.owners.lock(owner);
            let target = self.resolve_quietly(pinned, id, &mut after.told);
            let target = target.map_or(id, |record| record.id());
            guard.list(owner).contains(&target)
                && matches!(
                    self.end_locked(pinned, target, owner, Some(&guard), reason, &mut after),
                    Ok(Outcome::Done(_))
                )
        };
        self.finish(after, pinned);
        Ok(ended)
    }

    /// Ends a session that belongs to `owner`, who is locked (or nobody: "").
    pub(super) fn end_locked<'g>(
        &self,
        pinned: Pinned<'g>,
        id: SessionId,
        owner: &str,
        guard: Option<&OwnerGuard<'_>>,
        reason: Reason,
        after: &mut After,
    ) -> Result<Outcome<'g>> {
        let mut shard = self.lock_shard(id);
        // Under the lock, for which this may have waited beyond the deadline.
        let (_, now) = self.now();
        let found = match shard.find(pinned, id, now) {
            Ok(found) => found,
            Err(NotHere::Alias) => return Ok(Outcome::Changed),
            Err(NotHere::Missing(missing)) => return Err(Error::Missing(missing)),
        };
        if found.record.owner() != owner {
            return Ok(Outcome::Changed);
        }
        after.retired_bytes += found.record.len();
        // It ends in any case: an end that could not be written down is told to the caller.
        let journaled = self.journal_end(id, reason);
        let woken = shard.end(found, reason, now, &mut self.sink(after));
        after.woken.extend(woken);
        shard.tidy(pinned);
        drop(shard);
        if let Some(guard) = guard {
            guard.remove(owner, id);
        }
        journaled.map(|()| Outcome::Done(found.record))
    }

    /// Ends all sessions of an owner but one; returns how many.
    pub(crate) fn end_owner(
        &self,
        owner: &str,
        except: Option<SessionId>,
        reason: Reason,
    ) -> Result<usize> {
        self.begin_write()?;
        let pin = self.pin();
        let pinned = pin.pinned();
        let mut after = After::default();
        let mut count = 0;
        self.bring_owner(pinned, owner)?;
        if let Some(id) = except {
            self.bring(pinned, id)?;
        }
        {
            let guard = self.owners.lock(owner);
            // In the grace time of a renewal the caller may know the session by its old id.
            let except = except.and_then(|id| {
                self.resolve_quietly(pinned, id, &mut after.told).ok().map(|record| record.id())
            });
            for id in guard.list(owner) {
                if Some(id) == except {
                    continue;
                }
                let ended = self.end_locked(pinned, id, owner, Some(&guard), reason, &mut after);
                // One that expired a moment ago is left to the expiry.
                count += usize::from(matches!(ended, Ok(Outcome::Done(_))));
            }
        }
        self.finish(after, pinned);
        Ok(count)
    }

    /// Ends what is due and gives memory back. Returns how many sessions expired.
    pub(crate) fn expire_due(&self) -> usize {
        self.check_unlocked();
        if self.is_forked() {
            return 0;
        }
        let mut count = 0;
        for index in 0..self.shards.len() {
            loop {
                let (_, now) = self.now();
                if !self.shards[index].is_due(&self.common, now) {
                    break;
                }
                let pin = self.pin();
                let pinned = pin.pinned();
                let mut after = After::default();
                let expired = {
                    let mut shard = self.shards[index].lock(&self.common);
                    shard.expire(pinned, now, EXPIRE_BATCH, &mut self.sink(&mut after))
                };
                count += expired.count;
                after.retired_bytes += expired.retired_bytes;
                after.woken.extend(expired.woken);
                self.finish(after, pinned);
                for id in expired.owned {
                    count += usize::from(self.expire_owned(pinned, id));
                }
                if !expired.more || self.closing.load(Relaxed) {
                    break;
                }
            }
        }
        count
    }

    /// Ends an expired session under its owner's lock.
    fn expire_owned(&self, pinned: Pinned<'_>, id: SessionId) -> bool {
        let (_, now) = self.now();
        let Some(record) = self.common.table.find(pinned, id) else { return false };
        let owner = record.owner();
        let mut after = After::default();
        let ended = {
            let guard = self.owners.lock(owner);
            let mut shard = self.lock_shard(id);
            match shard.find_expired(pinned, id, now) {
                Some(found) if found.record.owner() == owner => {
                    after.retired_bytes += found.record.len();
                    let woken = shard.end(found, Reason::Expired, now, &mut self.sink(&mut after));
                    after.woken.extend(woken);
                    shard.tidy(pinned);
                    drop(shard);
                    guard.remove(owner, id);
                    true
                }
                // Seen again, ended, or bound to somebody else; if need be the wheel asks again.
                _ => false,
            }
        };
        self.finish(after, pinned);
        ended
    }

    /// Fits the pace of reclamation to the size of the store.
    pub(crate) fn pace_reclaim(&self) {
        self.common.table.collector.pace(self.common.budget.sums().0.bytes);
    }

    /// Frees what waits for its last reader in shards that see no writes. Returns whether there
    /// is more.
    pub(crate) fn free_retired(&self) -> bool {
        self.check_unlocked();
        if self.is_forked() {
            return false;
        }
        let mut waiting = false;
        for shard in &self.shards {
            let mut before = shard.limbo_bytes.load(Relaxed);
            while before > 0 && !self.closing.load(Relaxed) {
                // Unlocked after each batch, so that nobody waits for more than one.
                let left = shard.lock(&self.common).free_retired(EXPIRE_BATCH);
                if left >= before {
                    waiting = true;
                    break;
                }
                before = left;
            }
        }
        if waiting {
            self.common.table.collector.try_advance();
        }
        waiting
    }
}
