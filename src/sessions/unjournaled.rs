//! Where there is no journal: nothing is written down.

use crate::clock::{Nanos, Tick};
use crate::error::{Missing, Reason, Result};
use crate::reclaim::Pinned;
use crate::record::Record;
use crate::session::Info;
use crate::token::SessionId;

use super::Sessions;

/// What a snapshot came to: there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved;

/// No journal.
pub(crate) enum StoreJournal {}

impl Sessions {
    pub(super) fn journal_put(&self, _record: Record<'_>) -> Result<()> {
        Ok(())
    }

    pub(super) fn journal_move(
        &self,
        _pinned: Pinned<'_>,
        _old: SessionId,
        _new: SessionId,
        _alias_until: Option<Tick>,
    ) -> Result<()> {
        Ok(())
    }

    pub(super) fn journal_end(&self, _id: SessionId, _reason: Reason) -> Result<()> {
        Ok(())
    }

    pub(super) fn journal_instead(
        &self,
        _pinned: Pinned<'_>,
        _new: SessionId,
        _old: SessionId,
    ) -> Result<()> {
        Ok(())
    }

    pub(super) fn journal_stats(&self) -> Option<crate::stats::JournalStats> {
        None
    }

    pub(super) fn journal_touch(&self, _record: Record<'_>, _before: Tick, _now: Nanos) {}

    pub(super) fn is_backed(&self) -> bool {
        false
    }

    pub(super) fn check_undamaged(&self) -> Result<()> {
        Ok(())
    }

    pub(super) fn bring(&self, _pinned: Pinned<'_>, _id: SessionId) -> Result<()> {
        Ok(())
    }

    pub(super) fn bring_to_look(&self, _pinned: Pinned<'_>, _id: SessionId) {}

    pub(super) fn bring_owner(&self, _pinned: Pinned<'_>, _owner: &str) -> Result<()> {
        Ok(())
    }

    pub(super) fn bring_all(&self) -> Result<()> {
        Ok(())
    }

    pub(super) fn is_unloaded(&self, _id: SessionId) -> Result<bool> {
        Ok(false)
    }

    pub(crate) fn look_beside<R>(
        &self,
        _pinned: Pinned<'_>,
        _id: SessionId,
        _touch: bool,
        missing: Missing,
        _f: impl FnOnce(Record<'_>) -> R,
    ) -> Result<R, Missing> {
        Err(missing)
    }

    pub(super) fn list_beside(&self) -> Vec<Info> {
        Vec::new()
    }
}
