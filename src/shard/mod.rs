//! What one lock guards: a part of the table with its timer wheel.
//!
//! Every write of a session happens here, in one critical section with its check. Nothing is
//! called under the lock but the sink, which only queues; wakers are handed out to be woken later.

mod check;
mod due;
#[cfg(unix)]
mod restore;

use std::collections::VecDeque;

use crossbeam::utils::CachePadded;

use crate::activity::Activity;
use crate::budget::{Budget, Class, Cost};
use crate::clock::Tick;
use crate::error::{Missing, Reason};
use crate::life::Life;
use crate::memory::Pool;
use crate::reclaim::Pinned;
use crate::record::{Change, Draft, Kind, NODE_NONE, Record};
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::sync::{Arc, Mutex, MutexGuard, lock};
use crate::table::{Fresh, Spot, Table, Writer};
use crate::timeouts::{TimeoutsIndex, TimeoutsTable};
use crate::token::SessionId;
use crate::watch::{WatchSlot, Watched};
use crate::wheel::{NODE_COUNT_MAX, NodeIndex, Wheel};

/// What a session takes beside its record: its share of a bucket, and a wheel node.
pub(crate) const OVERHEAD_BYTES: u64 = 32;
const _: () = assert!(NODE_NONE == NODE_COUNT_MAX, "records hold every node and one more value");
/// Retired pieces that each write frees, at most: more than a write retires.
const FREE_PER_WRITE: usize = 4;
/// Tombstones beyond the limit that each write forgets, at most: more than a write makes.
const FORGET_PER_WRITE: usize = 2;

/// What all shards of a store work with.
pub(crate) struct Common {
    pub(crate) table: Table,
    pub(crate) timeouts: TimeoutsTable,
    pub(crate) budget: Budget,
    /// How long the ended are remembered, in ticks.
    pub(crate) remember_ticks: u32,
    /// How many ended sessions the store remembers.
    pub(crate) remember_max: u64,
    /// The number of the next tombstone. On a line of its own: all shards write it.
    pub(crate) tombstones: CachePadded<AtomicU64>,
}

impl Common {
    /// Whether a tombstone is none of the newest, of all shards, that are remembered. Relaxed: a
    /// number that was read late keeps it longer.
    fn is_beyond_limit(&self, number: u64) -> bool {
        number.saturating_add(self.remember_max) < self.tombstones.load(Relaxed)
    }

    /// When a session with this life was last seen, to within its touch granularity.
    pub(crate) fn last_seen(&self, record: Record<'_>, life: Life) -> Tick {
        let known = self.timeouts.granularity_ticks(record.timeouts_index());
        life.last_seen(known.unwrap_or_else(|| {
            record.trailer().map_or(0, |trailer| trailer.timeouts.granularity_ticks())
        }))
    }
}

/// One shard.
pub(crate) struct Shard {
    state: Mutex<State>,
    pub(crate) activity: Activity,
    /// The earliest tick at which there is something to expire or to forget.
    next_due: AtomicU32,
    /// Sessions without an owner; written under the lock, read as a hint without it.
    anonymous: AtomicU64,
    /// The number of the oldest tombstone, or the largest one.
    oldest_tombstone: AtomicU64,
    /// Bytes that wait for their last reader, as of the last write.
    pub(crate) limbo_bytes: AtomicUsize,
}

struct State {
    writer: Writer,
    wheel: Wheel,
    ended: VecDeque<Remembered>,
    watched: Watched,
    tally: Tally,
    due: Vec<(NodeIndex, u32)>,
}

/// A tombstone, by the lower half of its id's low half; `until` is when to forget it, if there
/// were not enough newer ones before.
struct Remembered {
    key: u32,
    until: Tick,
    number: u64,
}

/// What happened in one shard so far.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) created: u64,
    pub(crate) ended: [u64; Reason::ALL.len()],
    pub(crate) renewed: u64,
}

/// A session that was found under the lock.
#[derive(Clone, Copy)]
pub(crate) struct Found<'g> {
    pub(crate) record: Record<'g>,
    spot: Spot,
}

/// Why a session was not found under the lock.
pub(crate) enum NotHere {
    Missing(Missing),
    /// The id became an alias: resolve it again.
    Alias,
}

/// Why a record was not inserted.
pub(crate) enum Refused {
    /// The id is taken.
    Exists,
    /// The system has no memory for it.
    Memory,
}

/// What a record of this many bytes costs.
pub(crate) fn cost(record_bytes: usize) -> Cost {
    Cost { sessions: 1, bytes: Pool::charged(record_bytes) as u64 + OVERHEAD_BYTES }
}

pub(crate) fn class(record: Record<'_>) -> Class {
    if record.has_owner() { Class::Authenticated } else { Class::Anonymous }
}

fn key_of(id: SessionId) -> u32 {
    id.lo() as u32
}

impl Shard {
    pub(crate) fn new(writer: Writer, now: Tick) -> Shard {
        Shard {
            state: Mutex::new(State {
                writer,
                wheel: Wheel::new(now),
                ended: VecDeque::new(),
                watched: Watched::default(),
                tally: Tally::default(),
                due: Vec::new(),
            }),
            activity: Activity::new(),
            next_due: AtomicU32::new(Tick::NEVER.0),
            anonymous: AtomicU64::new(0),
            oldest_tombstone: AtomicU64::new(u64::MAX),
            limbo_bytes: AtomicUsize::new(0),
        }
    }

    pub(crate) fn lock<'a>(&'a self, common: &'a Common) -> Locked<'a> {
        Locked { shard: self, common, state: lock(&self.state) }
    }

    /// The right to write, for whoever has the shard for himself.
    pub(crate) fn writer_mut(&mut self) -> &mut Writer {
        let state = self.state.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        &mut state.writer
    }

    /// Whether there may be sessions without an owner.
    pub(crate) fn has_anonymous(&self) -> bool {
        self.anonymous.load(Relaxed) > 0
    }

    /// Counts a session that comes, or that goes. Relaxed: only under the lock.
    fn count(&self, come: Option<Record<'_>>, gone: Option<Record<'_>>) {
        let anonymous = |record: Option<Record<'_>>| {
            u64::from(record.is_some_and(|record| !record.has_owner()))
        };
        let (more, less) = (anonymous(come), anonymous(gone));
        if more != less {
            self.anonymous.store(self.anonymous.load(Relaxed) + more - less, Relaxed);
        }
    }

    /// Whether there may be something to expire or to forget. Relaxed: a change that is missed is
    /// seen by the next round.
    pub(crate) fn is_due(&self, common: &Common, now: Tick) -> bool {
        self.next_due.load(Relaxed) <= now.0
            || common.is_beyond_limit(self.oldest_tombstone.load(Relaxed))
    }
}

/// A shard whose lock is held.
pub(crate) struct Locked<'a> {
    shard: &'a Shard,
    common: &'a Common,
    state: MutexGuard<'a, State>,
}

impl<'a> Locked<'a> {
    /// The live session with this id.
    pub(crate) fn find<'g>(
        &self,
        pinned: Pinned<'g>,
        id: SessionId,
        now: Tick,
    ) -> Result<Found<'g>, NotHere> {
        let Some((spot, record)) = self.state.writer.find(&self.common.table, pinned, id) else {
            return Err(NotHere::Missing(Missing::Unknown));
        };
        match record.kind() {
            Kind::Live if !record.life().has_expired(now) => Ok(Found { record, spot }),
            Kind::Live => Err(NotHere::Missing(Missing::Ended(Reason::Expired))),
            Kind::Alias { .. } => Err(NotHere::Alias),
            Kind::Ended { reason, .. } => Err(NotHere::Missing(Missing::Ended(reason))),
        }
    }

    /// A session that was found under this lock, after other writes, whether or not a lookup
    /// decided meanwhile that it has expired.
    pub(crate) fn find_again<'g>(&self, pinned: Pinned<'g>, id: SessionId) -> Option<Found<'g>> {
        let (spot, record) = self.state.writer.find(&self.common.table, pinned, id)?;
        record.is_session().then_some(Found { record, spot })
    }

    /// Adds a session. Its cost is reserved by the caller.
    pub(crate) fn insert(
        &mut self,
        pinned: Pinned<'_>,
        mut fresh: Fresh<'a>,
        sink: &mut impl FnMut(Change<'_>),
    ) -> Result<(), Refused> {
        let table = &self.common.table;
        let (id, life) = (fresh.record().id(), fresh.record().life().load());
        if self.is_taken(pinned, id) {
            return Err(Refused::Exists);
        }
        let state = &mut *self.state;
        let mut node = None;
        if life.deadline() != Tick::NEVER {
            node = state.wheel.insert(key_of(id), life.deadline());
            fresh.set_node(node.ok_or(Refused::Memory)?.0);
        }
        let Ok(record) = state.writer.insert(table, fresh) else {
            if let Some(node) = node {
                state.wheel.remove(node);
            }
            return Err(Refused::Memory);
        };
        state.tally.created += 1;
        self.shard.count(Some(record), None);
        self.shard.activity.add(self.common.last_seen(record, life));
        sink(Change::Created(record));
        self.wake_at(life.deadline());
        Ok(())
    }

    /// Puts another record in the place of a live one with the same id. The difference in cost is
    /// settled by the caller; the new record's node is the old one's, set here.
    pub(crate) fn rewrite(&mut self, found: Found<'_>, mut fresh: Fresh<'a>) {
        let next = fresh.record().life().load();
        let node = self.moved_node(found.record, next);
        fresh.set_node(node);
        let record = self.state.writer.replace(&self.common.table, found.spot, fresh);
        let last = found.record.life().supersede();
        self.shard.count(Some(record), Some(found.record));
        let before = self.common.last_seen(found.record, last);
        let now = self.common.last_seen(record, next);
        self.shard.activity.moved(before, now);
        if before > now {
            // A touch of the old record was later than this write's clock: neither last seen nor
            // the deadline goes back. Lost only against another touch, which is later still.
            let on = |tick: Tick| Tick(tick.0.saturating_add(before.0 - now.0));
            let deadline = on(next.deadline()).min(record.absolute());
            let later = Life::new(on(next.fresh_until()), deadline);
            if record.life().touch(next, later) {
                self.shard.activity.moved(now, self.common.last_seen(record, later));
            }
        }
    }

    /// Hands a touch of a session's last record, which came after the clock of this write was
    /// read, on to the one with another id that took its place.
    pub(crate) fn keep_touch(&self, record: Record<'_>, last: Record<'_>, now: Tick) {
        let (next, seen) = (record.life().load(), self.common.last_seen(last, last.life().load()));
        let on = |tick: Tick| Tick(tick.0.saturating_add(seen.0.saturating_sub(now.0)));
        let later = Life::new(on(next.fresh_until()), on(next.deadline()).min(record.absolute()));
        if record.life().touch(next, later) {
            let last_seen = |life| self.common.last_seen(record, life);
            self.shard.activity.moved(last_seen(next), last_seen(later));
        }
    }

    /// The wheel node for a session that goes on with another life. The wheel finds out about
    /// later deadlines by itself; only an earlier one has to be told.
    fn moved_node(&mut self, record: Record<'_>, next: Life) -> u32 {
        let (node, deadline) = (record.node(), next.deadline());
        match (node, deadline) {
            (NODE_NONE, Tick::NEVER) => NODE_NONE,
            (NODE_NONE, _) => {
                self.wake_at(deadline);
                let node = self.state.wheel.insert(key_of(record.id()), deadline);
                // Without a node the session still expires for readers; its memory stays.
                node.map_or(NODE_NONE, |node| node.0)
            }
            (_, Tick::NEVER) => {
                self.state.wheel.remove(NodeIndex(node));
                NODE_NONE
            }
            (_, _) => {
                if deadline < record.life().load().deadline() {
                    self.state.wheel.rearm(NodeIndex(node), deadline);
                    self.wake_at(deadline);
                }
                node
            }
        }
    }

    /// Ends a live session: a tombstone takes its place. Returns who has to be woken.
    pub(crate) fn end(
        &mut self,
        found: Found<'_>,
        reason: Reason,
        now: Tick,
        sink: &mut impl FnMut(Change<'_>),
    ) -> Vec<Arc<WatchSlot>> {
        let record = found.record;
        self.common.budget.release(class(record), cost(record.len()));
        let woken = self.displace(found, reason, now);
        sink(Change::Ended { record, reason });
        woken
    }

    /// Ends a live session whose room in the budget another one takes over.
    pub(crate) fn displace(
        &mut self,
        found: Found<'_>,
        reason: Reason,
        now: Tick,
    ) -> Vec<Arc<WatchSlot>> {
        let last = self.bury(found, reason, None, now);
        self.shard.count(None, Some(found.record));
        self.shard.activity.remove(self.common.last_seen(found.record, last));
        self.state.tally.ended[usize::from(reason.code())] += 1;
        self.state.watched.end(found.record.id(), reason)
    }

    /// Puts a tombstone in the place of a session or an alias.
    fn bury(
        &mut self,
        found: Found<'_>,
        reason: Reason,
        successor: Option<SessionId>,
        now: Tick,
    ) -> Life {
        let record = found.record;
        let id = record.id();
        if record.node() != NODE_NONE {
            self.state.wheel.remove(NodeIndex(record.node()));
        }
        let tombstone = Draft {
            id,
            kind: Kind::Ended { reason, successor },
            life: Life::DEAD,
            absolute: Tick::FIRST,
            version: record.version(),
            node: NODE_NONE,
            timeouts: TimeoutsIndex::EXPLICIT,
            data: &[],
            trailer: None,
        };
        let table = &self.common.table;
        let fresh = table.fresh(&tombstone);
        match fresh {
            Ok(fresh) if self.common.remember_max > 0 && self.common.remember_ticks > 0 => {
                self.state.writer.replace(table, found.spot, fresh);
                let until = Tick(now.0.saturating_add(self.common.remember_ticks));
                let number = self.common.tombstones.fetch_add(1, Relaxed);
                self.state.ended.push_back(Remembered { key: key_of(id), until, number });
                self.shard.oldest_tombstone.fetch_min(number, Relaxed);
                self.wake_at(until);
            }
            // Without memory the session ends all the same; only the reason is not remembered.
            _ => self.state.writer.remove(table, id, found.spot),
        }
        record.life().supersede()
    }

    /// Makes an alias of a live session that goes on under another id. Returns those who watch it.
    pub(crate) fn alias(
        &mut self,
        found: Found<'_>,
        successor: SessionId,
        until: Tick,
    ) -> Result<Vec<Arc<WatchSlot>>, Refused> {
        let id = found.record.id();
        let alias = Draft {
            id,
            kind: Kind::Alias { successor },
            life: Life::DEAD,
            absolute: until,
            version: found.record.version(),
            node: found.record.node(),
            timeouts: TimeoutsIndex::EXPLICIT,
            data: &[],
            trailer: None,
        };
        let table = &self.common.table;
        let mut fresh = table.fresh(&alias).map_err(|_| Refused::Memory)?;
        match found.record.node() {
            NODE_NONE => {
                let node = self.state.wheel.insert(key_of(id), until).ok_or(Refused::Memory)?;
                fresh.set_node(node.0);
            }
            node => self.state.wheel.rearm(NodeIndex(node), until),
        }
        self.wake_at(until);
        self.state.writer.replace(table, found.spot, fresh);
        let last = found.record.life().supersede();
        self.shard.count(None, Some(found.record));
        self.shard.activity.remove(self.common.last_seen(found.record, last));
        self.state.tally.renewed += 1;
        // The successor was counted as created when it was inserted.
        Ok(self.state.watched.take(id))
    }

    /// Whether the id stands for anything: a session, an alias, one that ended.
    pub(crate) fn is_taken(&self, pinned: Pinned<'_>, id: SessionId) -> bool {
        self.state.writer.find(&self.common.table, pinned, id).is_some()
    }

    /// Takes back what [`Locked::insert`] counted for a session that is not new.
    pub(crate) fn uncount_created(&mut self) {
        self.state.tally.created -= 1;
    }

    /// Takes a session out that nobody has seen yet.
    pub(crate) fn withdraw(&mut self, pinned: Pinned<'_>, id: SessionId) {
        let table = &self.common.table;
        let Some((spot, record)) = self.state.writer.find(table, pinned, id) else { return };
        if record.node() != NODE_NONE {
            self.state.wheel.remove(NodeIndex(record.node()));
        }
        self.state.writer.remove(table, id, spot);
        let last = record.life().supersede();
        self.shard.count(None, Some(record));
        self.shard.activity.remove(self.common.last_seen(record, last));
        self.state.tally.created -= 1;
    }

    /// Ends a write: forgets what is too much, frees what nobody sees any more.
    pub(crate) fn tidy(&mut self, pinned: Pinned<'_>) {
        self.forget(pinned, Tick::FIRST, FORGET_PER_WRITE);
        self.free_retired(FREE_PER_WRITE);
    }

    /// Frees up to `count_max` pieces that nobody sees any more. Returns the bytes that still wait.
    pub(crate) fn free_retired(&mut self, count_max: usize) -> usize {
        self.state.writer.free_retired(&self.common.table, count_max);
        let waiting = self.state.writer.limbo_bytes();
        // Relaxed: a hint for the expiry thread.
        self.shard.limbo_bytes.store(waiting, Relaxed);
        waiting
    }

    fn wake_at(&self, tick: Tick) {
        self.shard.next_due.fetch_min(tick.0, Relaxed);
    }

    pub(crate) fn watched(&mut self) -> &mut Watched {
        &mut self.state.watched
    }

    pub(crate) fn reserve(&mut self, entries: usize) -> bool {
        self.state.writer.reserve(&self.common.table, entries)
    }
}
