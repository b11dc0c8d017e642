//! Data writes of one session, each atomic under its shard's lock.

use super::updating::{Updating, WakeLate};
use super::{After, Sessions};
use crate::budget::Cost;
use crate::clock::Nanos;
use crate::data::Encoded;
use crate::error::{Error, Limit, Missing, Reason, Result};
use crate::life::Life;
use crate::reclaim::Pinned;
use crate::record::{Draft, Kind, NODE_NONE, Record};
use crate::shard::{Found, Locked, NotHere, class, cost};
use crate::token::SessionId;

impl Sessions {
    /// Locks a session's shard and finds it there, at the time that is returned with it.
    pub(super) fn find_locked<'a, 'g>(
        &'a self,
        pinned: Pinned<'g>,
        id: SessionId,
    ) -> Result<(Locked<'a>, Found<'g>, Nanos)> {
        let mut target = id;
        loop {
            let shard = self.lock_shard(target);
            let (now, tick) = self.now();
            match shard.find(pinned, target, tick) {
                Ok(found) => return Ok((shard, found, now)),
                // Also to report the late use of a token that was renewed away.
                Err(NotHere::Alias | NotHere::Missing(Missing::Ended(Reason::Rotated))) => {
                    drop(shard);
                    target = self.resolve(pinned, id)?.id();
                }
                Err(NotHere::Missing(missing)) => return Err(Error::Missing(missing)),
            }
        }
    }

    /// Replaces a session's data by what `write` makes of its record, under the lock: it calls
    /// nothing of others, and takes no time to speak of. Returns the new version.
    pub(crate) fn write(
        &self,
        id: SessionId,
        write: impl FnOnce(Record<'_>) -> Result<Encoded>,
    ) -> Result<u32> {
        self.begin_write()?;
        let pin = self.pin();
        let pinned = pin.pinned();
        self.bring(pinned, id)?;
        let (shard, found, now) = self.find_locked(pinned, id)?;
        let encoded = write(found.record)?;
        self.put(pinned, shard, found, encoded.data(), now)
    }

    /// As [`Sessions::write`], by a closure of the user's, which may take long. Nothing changes if
    /// it fails or panics.
    pub(crate) fn update<R, E: From<Error>>(
        &self,
        id: SessionId,
        update: impl FnOnce(Record<'_>) -> Result<(Encoded, R), E>,
    ) -> Result<R, E> {
        self.begin_write()?;
        let pin = self.pin();
        let pinned = pin.pinned();
        let _late = WakeLate;
        self.bring(pinned, id)?;
        let (shard, found, _) = self.find_locked(pinned, id)?;
        // The result is the caller's: it is given back, or dropped, with no lock held.
        let (encoded, result) = {
            let _updating = Updating::begin();
            update(found.record)?
        };
        // Anew: what has expired while the closure ran must not be brought back.
        let (now, tick) = self.now();
        if found.record.life().has_expired(tick) {
            drop(shard);
            return Err(Error::Missing(Missing::Ended(Reason::Expired)).into());
        }
        self.put(pinned, shard, found, encoded.data(), now)?;
        Ok(result)
    }

    /// Puts data in the place of a session's, then unlocks its shard. Returns the new version.
    fn put<'a>(
        &'a self,
        pinned: Pinned<'_>,
        mut shard: Locked<'a>,
        found: Found<'_>,
        data: &[u8],
        now: Nanos,
    ) -> Result<u32> {
        let written = self.check_size(data.len()).and_then(|()| {
            let draft = self.rewritten(found.record, data, now);
            self.settle(&mut shard, found, &draft).map(|()| draft.version)
        });
        shard.tidy(pinned);
        drop(shard);
        let version = written?;
        let after = After { retired_bytes: found.record.len(), ..After::default() };
        self.finish(after, pinned);
        Ok(version)
    }

    /// The record of a session after a data write.
    fn rewritten<'a>(&self, record: Record<'a>, data: &'a [u8], now: Nanos) -> Draft<'a> {
        Draft {
            id: record.id(),
            kind: Kind::Live,
            life: self.life_from(record, now),
            absolute: record.absolute(),
            version: record.version().wrapping_add(1),
            node: NODE_NONE,
            timeouts: record.timeouts_index(),
            data,
            trailer: record.trailer(),
        }
    }

    /// Publishes a record in the place of another of the same session and class.
    pub(super) fn settle<'a>(
        &'a self,
        shard: &mut Locked<'a>,
        found: Found<'_>,
        draft: &Draft<'_>,
    ) -> Result<()> {
        let class = class(found.record);
        let (old, new) = (cost(found.record.len()), cost(draft.len()));
        let bytes = |bytes| Cost { sessions: 0, bytes };
        let (more, less) =
            (new.bytes.saturating_sub(old.bytes), old.bytes.saturating_sub(new.bytes));
        if more > 0 {
            self.common.budget.reserve(class, bytes(more)).map_err(Error::Full)?;
        }
        let table = &self.common.table;
        let Ok(fresh) = table.fresh(draft) else {
            self.common.budget.release(class, bytes(more));
            return Err(Error::Full(Limit::Memory));
        };
        // Last of all, since a write that is refused is no activity.
        let held = hold(shard, found, draft.life);
        if let Err(error) = held.and_then(|()| self.journal_put(fresh.record())) {
            self.common.budget.release(class, bytes(more));
            return Err(error);
        }
        shard.rewrite(found, fresh);
        if less > 0 {
            self.common.budget.release(class, bytes(less));
        }
        Ok(())
    }
}

/// Sees to it that no lookup tells that a session has expired while it is written: its life goes
/// on to `next`, as its present timeouts have it.
///
/// # Errors
/// [`Error::Missing`] if one has told so.
#[inline]
pub(super) fn hold(shard: &Locked<'_>, found: Found<'_>, next: Life) -> Result<()> {
    if shard.hold(found, next) {
        Ok(())
    } else {
        Err(Error::Missing(Missing::Ended(Reason::Expired)))
    }
}
