//! Sessions that come back from the files, before anybody else uses the store.

use super::Sessions;
use super::create::NewSession;
use crate::clock::{Nanos, Tick};
use crate::error::{Error, Limit, Reason, Result};
use crate::journal::Calendar;
use crate::journal::entry::Entry;
use crate::journal::snapshot::Alias;
use crate::journal::stored::Stored;
use crate::reclaim::Pinned;
use crate::record::{Draft, from_nanos};
use crate::shard::{class, cost};
use crate::timeouts::Timeouts;
use crate::token::SessionId;

impl Sessions {
    /// Does again what an entry of the log tells.
    pub(crate) fn apply(&self, calendar: &Calendar, entry: &Entry<'_>) -> Result<()> {
        let pin = self.pin();
        let pinned = pin.pinned();
        match entry {
            Entry::Put(stored) => {
                self.bring(pinned, stored.id)?;
                self.restore_one(pinned, calendar, stored)
            }
            Entry::End { id, reason, .. } => {
                self.bring(pinned, *id)?;
                self.restore_gone(pinned, *id, *reason, None)
            }
            Entry::Move { old, alias_until_ms, new, .. } => {
                self.bring(pinned, *old)?;
                self.bring(pinned, new.id)?;
                self.restore_one(pinned, calendar, new)?;
                let until = Tick::at(calendar.nanos(*alias_until_ms));
                let alias = (*alias_until_ms > 0).then_some((new.id, until));
                self.restore_gone(pinned, *old, Reason::Rotated, alias)
            }
            Entry::Touch(touches) => {
                for (id, seen_ms) in touches.iter() {
                    self.bring(pinned, id)?;
                    self.restore_touch(pinned, id, calendar.nanos(seen_ms));
                }
                Ok(())
            }
            Entry::Mark { .. } | Entry::Link { .. } => Ok(()),
        }
    }

    /// Puts a session there, in the place of what it was before.
    pub(crate) fn restore(&self, calendar: &Calendar, stored: &Stored<'_>) -> Result<()> {
        let pin = self.pin();
        self.restore_one(pin.pinned(), calendar, stored)
    }

    /// The record of a session that comes back.
    pub(super) fn restored<'a>(&self, calendar: &Calendar, stored: &Stored<'a>) -> Draft<'a> {
        let timeouts =
            Timeouts { idle: from_nanos(stored.idle_ns), lifetime: from_nanos(stored.lifetime_ns) };
        let authenticated = Tick::at(calendar.nanos(stored.authenticated_ms));
        let session = NewSession {
            data: stored.data,
            owner: stored.owner,
            label: stored.label,
            timeouts,
            created: Tick::at(calendar.nanos(stored.created_ms)),
            authenticated,
            absolute: timeouts.absolute(authenticated.start()),
            version: stored.version,
        };
        self.draft(stored.id, &session, calendar.nanos(stored.seen_ms))
    }

    fn restore_one(
        &self,
        pinned: Pinned<'_>,
        calendar: &Calendar,
        stored: &Stored<'_>,
    ) -> Result<()> {
        let id = stored.id;
        let draft = self.restored(calendar, stored);
        let guard = (!stored.owner.is_empty()).then(|| self.owners.lock(stored.owner));
        let mut shard = self.lock_shard(id);
        let full = Error::Full(Limit::Memory);
        let Ok(fresh) = self.common.table.fresh(&draft) else { return Err(full) };
        match shard.find_again(pinned, id) {
            Some(found) => {
                let old = (class(found.record), cost(found.record.len()));
                let was_owned = found.record.has_owner();
                self.common.budget.release(old.0, old.1);
                self.common.budget.add(draft.class(), cost(draft.len()));
                shard.rewrite(found, fresh);
                shard.tidy(pinned);
                drop(shard);
                if let Some(guard) = guard.filter(|_| !was_owned) {
                    guard.add(stored.owner, id);
                }
            }
            None => {
                // The snapshot may tell of a renewal that the log comes to later.
                shard.forget_alias(pinned, id);
                if shard.restore(pinned, fresh).is_err() {
                    return Err(full);
                }
                shard.tidy(pinned);
                drop(shard);
                self.common.budget.add(draft.class(), cost(draft.len()));
                if let Some(guard) = guard {
                    guard.add(stored.owner, id);
                }
            }
        }
        Ok(())
    }

    /// A session is gone, or an alias until then for another one.
    fn restore_gone(
        &self,
        pinned: Pinned<'_>,
        id: SessionId,
        reason: Reason,
        alias: Option<(SessionId, Tick)>,
    ) -> Result<()> {
        let Some(record) = self.common.table.find(pinned, id) else { return Ok(()) };
        let owner = record.owner();
        let guard = (!owner.is_empty()).then(|| self.owners.lock(owner));
        let mut shard = self.lock_shard(id);
        let Some(found) = shard.find_again(pinned, id) else { return Ok(()) };
        let (_, now) = self.now();
        match alias {
            Some((successor, until)) if until > now => shard
                .restore_renewed(found, successor, until)
                .map_err(|_| Error::Full(Limit::Memory))?,
            _ => shard.restore_end(found, reason, now),
        }
        shard.tidy(pinned);
        drop(shard);
        if let Some(guard) = guard {
            guard.remove(owner, id);
        }
        Ok(())
    }

    /// Puts the alias of a renewed session there, unless its time is over.
    pub(crate) fn restore_alias(&self, calendar: &Calendar, alias: Alias) -> Result<()> {
        let pin = self.pin();
        let pinned = pin.pinned();
        let until = Tick::at(calendar.nanos(alias.until_ms));
        let (_, now) = self.now();
        if until <= now {
            return Ok(());
        }
        let mut shard = self.lock_shard(alias.id);
        let placed = shard.restore_alias(pinned, alias.id, alias.successor, until);
        placed.map_err(|_| Error::Full(Limit::Memory))
    }

    pub(super) fn restore_touch(&self, pinned: Pinned<'_>, id: SessionId, seen: Nanos) {
        let Some(record) = self.common.table.find(pinned, id) else { return };
        if record.is_session() {
            let next = self.life_from(record, seen);
            let life = record.life().load();
            if record.life().touch(life, next) {
                let (from, to) =
                    (self.common.last_seen(record, life), self.common.last_seen(record, next));
                self.shard(id).activity.moved(from, to);
            }
        }
    }
}
