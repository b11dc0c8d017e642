//! Data writes of one session, each atomic under its shard's lock.

use super::updating::{Updating, WakeLate};
use super::{After, Sessions};
use crate::budget::Cost;
use crate::clock::Nanos;
use crate::data::Encoded;
use crate::error::{Error, Limit, Missing, Reason, Result};
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

    /// Replaces a session's data by what `write` makes of it, which runs under the lock. Nothing
    /// changes if it fails or panics. Returns the new version.
    pub(crate) fn write<R, E: From<Error>>(
        &self,
        id: SessionId,
        write: impl FnOnce(Record<'_>) -> Result<(Encoded, R), E>,
    ) -> Result<(u32, R), E> {
        self.begin_write()?;
        let pin = self.pin();
        let pinned = pin.pinned();
        let _late = WakeLate;
        self.bring(pinned, id)?;
        let (mut shard, found, _) = self.find_locked(pinned, id)?;
        let (encoded, result) = {
            let _updating = Updating::begin();
            write(found.record)?
        };
        // Anew: a closure that took long must not bring back what has expired meanwhile.
        let (now, tick) = self.now();
        // The result is the caller's: it is given back, or dropped, with no lock held.
        let written = self.check_size(encoded.data().len()).and_then(|()| {
            if !found.record.life().load().is_live(tick) {
                return Err(Error::Missing(Missing::Ended(Reason::Expired)));
            }
            let draft = self.rewritten(found.record, encoded.data(), now);
            self.settle(&mut shard, found, &draft).map(|()| draft.version)
        });
        shard.tidy(pinned);
        drop(shard);
        let version = written?;
        let after = After { retired_bytes: found.record.len(), ..After::default() };
        self.finish(after, pinned);
        Ok((version, result))
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
        if let Err(error) = self.journal_put(fresh.record()) {
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
