//! Lookups inside the closure of an update, of sessions that only the file has: a shard is locked
//! there, so nothing can be brought into memory.

use std::collections::HashMap;

use super::Sessions;
use super::backing::Backing;
use super::updating::{is_updating, wake_later};
use crate::error::{Missing, Reason};
use crate::journal::snapshot::Found;
use crate::journal::stored::Stored;
use crate::reclaim::Pinned;
use crate::record::{Kind, Record};
use crate::session::Info;
use crate::table::Fresh;
use crate::token::SessionId;

impl Sessions {
    /// What a lookup comes to that found nothing in memory. Shows the session to `f` as it will be
    /// there; that it was seen is noted then.
    #[cold]
    #[inline(never)]
    pub(crate) fn look_beside<R>(
        &self,
        pinned: Pinned<'_>,
        id: SessionId,
        touch: bool,
        missing: Missing,
        f: impl FnOnce(Record<'_>) -> R,
    ) -> Result<R, Missing> {
        if missing != Missing::Unknown || !is_updating() || self.is_forked() {
            return Err(missing);
        }
        let Some(backing) = self.backing.get() else {
            // Since that lookup all of it may have come into memory.
            self.common.table.find(pinned, id).ok_or(missing)?;
            return self.look_in_memory(pinned, id, touch).map(f);
        };
        let target = self.target_beside(pinned, &backing, id)?;
        let Some(fresh) = self.fresh_beside(&backing, target) else {
            let is_session =
                || self.common.table.find(pinned, target).is_some_and(|record| record.is_session());
            if target != id && !is_session() {
                return Err(Missing::Ended(Reason::Rotated));
            }
            return self.look_in_memory(pinned, target, touch).map(f);
        };
        let (now, tick) = self.now();
        if !fresh.record().life().load().is_live(tick) {
            return Err(Missing::Ended(Reason::Expired));
        }
        if touch {
            backing.note_seen(target, now);
            if self.fresh_beside(&backing, target).is_none() {
                // It came into memory meanwhile, perhaps without that.
                return self.look_in_memory(pinned, target, touch).map(f);
            }
        }
        Ok(f(fresh.record()))
    }

    /// The session that an id stands for: itself, or the successor of an alias.
    fn target_beside(
        &self,
        pinned: Pinned<'_>,
        backing: &Backing,
        id: SessionId,
    ) -> Result<SessionId, Missing> {
        let (_, now) = self.now();
        if let Some(record) = self.common.table.find(pinned, id) {
            return Ok(match record.kind() {
                Kind::Alias { successor } if record.absolute() > now => successor,
                _ => id,
            });
        }
        match backing.find(id) {
            Ok(Some((_, Found::Alias(alias)))) if backing.is_good(alias, now) => {
                Ok(alias.successor)
            }
            Ok(Some((_, Found::Alias(alias)))) if backing.is_good(alias, backing.opened) => {
                if self.report_suspicious(id, alias.successor) {
                    wake_later(&self.events);
                }
                Err(Missing::Ended(Reason::Rotated))
            }
            _ => Ok(id),
        }
    }

    /// The record that a session which only the file has will be.
    fn fresh_beside<'a>(&'a self, backing: &Backing, id: SessionId) -> Option<Fresh<'a>> {
        let Ok(Some((at, Found::Session(stored)))) = backing.find(id) else { return None };
        let fresh = |stored: &Stored<'_>| {
            self.common.table.fresh(&self.restored(&backing.calendar, stored)).ok()
        };
        backing.open(at, &stored, fresh).ok().flatten()
    }

    /// All live sessions, those in the file and those in memory.
    pub(super) fn list_beside(&self) -> Vec<Info> {
        let mut infos = HashMap::new();
        let (_, now) = self.now();
        if let Some(backing) = self.backing.get() {
            // The file first: what comes into memory meanwhile is found there.
            for (at, found) in backing.snapshot.entries().map_while(Result::ok) {
                let Found::Session(stored) = found else { continue };
                if backing.is_loaded(at) {
                    continue;
                }
                let _ = backing.open(at, &stored, |stored| {
                    let draft = self.restored(&backing.calendar, stored);
                    if draft.life.is_live(now)
                        && let Ok(fresh) = self.common.table.fresh(&draft)
                    {
                        infos.insert(stored.id, self.describe(fresh.record()));
                    }
                });
            }
        }
        self.list_memory(|info| {
            infos.insert(info.id, info);
        });
        infos.into_values().collect()
    }
}
