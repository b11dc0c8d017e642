//! Deadlines that come: sessions expire, aliases die, tombstones are forgotten.

use super::{Found, Locked};
use crate::clock::Tick;
use crate::error::Reason;
use crate::life::Life;
use crate::reclaim::Pinned;
use crate::record::{Change, Kind, Record};
use crate::sync::Arc;
use crate::sync::atomic::Ordering::Relaxed;
use crate::token::SessionId;
use crate::watch::WatchSlot;
use crate::wheel::NodeIndex;

/// What [`Locked::expire`] leaves to do.
#[derive(Default)]
pub(crate) struct Expired {
    /// Sessions with an owner, which are ended under the owner's lock.
    pub(crate) owned: Vec<SessionId>,
    pub(crate) woken: Vec<Arc<WatchSlot>>,
    pub(crate) count: usize,
    pub(crate) retired_bytes: usize,
    /// There is more to do now.
    pub(crate) more: bool,
}

impl Locked<'_> {
    /// Expires and forgets what is due, in one bounded batch.
    pub(crate) fn expire(
        &mut self,
        pinned: Pinned<'_>,
        now: Tick,
        count_max: usize,
        sink: &mut impl FnMut(Change<'_>),
    ) -> Expired {
        let mut expired = Expired::default();
        let mut due = std::mem::take(&mut self.state.due);
        expired.more = self.state.wheel.take_due(now, count_max, &mut due);
        for (node, key) in due.drain(..) {
            self.fire(pinned, now, node, key, &mut expired, sink);
        }
        self.state.due = due;
        expired.more |= self.forget(pinned, now, count_max);
        self.free_retired(2 * count_max);
        let forget_at = self.state.ended.front().map_or(Tick::NEVER, |oldest| oldest.until);
        let next = self.state.wheel.next().unwrap_or(Tick::NEVER).min(forget_at);
        self.shard.next_due.store(next.0, Relaxed);
        expired
    }

    /// A wheel node's time has come: its session expires or is armed anew.
    fn fire(
        &mut self,
        pinned: Pinned<'_>,
        now: Tick,
        node: NodeIndex,
        key: u32,
        expired: &mut Expired,
        sink: &mut impl FnMut(Change<'_>),
    ) {
        let table = &self.common.table;
        let holder = |record: Record<'_>| record.node() == node.0;
        let Some(record) = self.state.writer.find_key(table, pinned, key, holder) else {
            debug_assert!(false, "a wheel node without a session");
            self.state.wheel.remove(node);
            return;
        };
        let Some((spot, record)) = self.state.writer.find(table, pinned, record.id()) else {
            return;
        };
        let found = Found { record, spot };
        if let Kind::Alias { successor } = record.kind() {
            if record.absolute() > now {
                self.state.wheel.rearm(node, record.absolute());
            } else {
                self.bury(found, Reason::Rotated, Some(successor), now);
            }
            return;
        }
        let deadline = record.life().load().deadline();
        if deadline > now {
            self.state.wheel.rearm(node, deadline);
        } else if record.has_owner() {
            // Ended by the caller under the owner's lock, in a moment.
            self.state.wheel.rearm(node, Tick(now.0.saturating_add(1)));
            expired.owned.push(record.id());
        } else if record.life().expire(now).is_none() {
            // A touch came in between.
            self.state.wheel.rearm(node, record.life().load().deadline());
        } else {
            expired.count += 1;
            expired.retired_bytes += record.len();
            expired.woken.extend(self.end(found, Reason::Expired, now, sink));
        }
    }

    /// Moves the life of a session on to what the clock of a write makes of it, before the write
    /// is published: no lookup decides in between that the session has expired. False if one has
    /// done so already; then nothing may be written.
    #[inline]
    pub(crate) fn hold(&self, found: Found<'_>, next: Life) -> bool {
        let word = found.record.life();
        loop {
            let life = word.load();
            if life.is_expired() {
                return false;
            }
            if next.fresh_until() <= life.fresh_until() {
                return true;
            }
            if word.touch(life, next) {
                let last_seen = |life| self.common.last_seen(found.record, life);
                self.shard.activity.moved(last_seen(life), last_seen(next));
                return true;
            }
        }
    }

    /// An expired session with this id that has not been ended yet.
    pub(crate) fn find_expired<'g>(
        &self,
        pinned: Pinned<'g>,
        id: SessionId,
        now: Tick,
    ) -> Option<Found<'g>> {
        let (spot, record) = self.state.writer.find(&self.common.table, pinned, id)?;
        (record.is_session() && record.life().expire(now).is_some())
            .then_some(Found { record, spot })
    }

    /// Forgets tombstones whose time is over, and those beyond the limit: of all shards the oldest
    /// ones, each when its shard comes here. Returns whether there may be more.
    pub(super) fn forget(&mut self, pinned: Pinned<'_>, now: Tick, count_max: usize) -> bool {
        for _ in 0..count_max {
            let Some(key) = self.next_to_forget(now) else { break };
            self.state.ended.pop_front();
            self.forget_one(pinned, key);
        }
        let oldest = self.state.ended.front().map_or(u64::MAX, |oldest| oldest.number);
        // Relaxed: a hint for the expiry, which looks again under the lock.
        self.shard.oldest_tombstone.store(oldest, Relaxed);
        self.next_to_forget(now).is_some()
    }

    fn next_to_forget(&self, now: Tick) -> Option<u32> {
        let oldest = self.state.ended.front()?;
        let over = oldest.until <= now || self.common.is_beyond_limit(oldest.number);
        over.then_some(oldest.key)
    }

    fn forget_one(&mut self, pinned: Pinned<'_>, key: u32) {
        let table = &self.common.table;
        let is_ended = |record: Record<'_>| matches!(record.kind(), Kind::Ended { .. });
        let Some(record) = self.state.writer.find_key(table, pinned, key, is_ended) else { return };
        let id = record.id();
        if let Some((spot, _)) = self.state.writer.find(table, pinned, id) {
            self.state.writer.remove(table, id, spot);
        }
    }
}
