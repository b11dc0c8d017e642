//! All sessions of a store as bytes, over all shards and owners.
//!
//! Lock order: owner stripes, then shards in the order of their index, then the subscribers'
//! list, then a watch slot. Nothing is called out to while any of them is held, other than the
//! closure of an update.

#[cfg(unix)]
mod backing;
#[cfg(unix)]
mod beside;
#[cfg(unix)]
mod bring;
mod create;
mod end;
#[cfg_attr(not(unix), path = "unjournaled.rs")]
mod journaled;
mod list;
mod look;
#[cfg(unix)]
mod restore;
mod rotate;
#[cfg(test)]
mod tests;
mod updating;
mod watching;
mod write;

use std::sync::OnceLock;

#[cfg(unix)]
pub(crate) use backing::{Backing, Check, Loaded};
#[cfg(unix)]
pub(crate) use bring::Brought;
use create::NewSession;
use crossbeam::utils::CachePadded;
pub use journaled::Saved;
pub(crate) use journaled::StoreJournal;
pub(crate) use list::Place;
pub(crate) use rotate::Remake;
use updating::is_updating;

use crate::budget::Budget;
use crate::clock::{Clock, Nanos, StoreClock, TICK, Tick};
use crate::error::{Error, Limit, Result};
use crate::events::{RawEvent, Subscribers};
use crate::fork;
use crate::life::Life;
use crate::options::Options;
use crate::owner::Owners;
use crate::reclaim::{Guard, Pinned};
use crate::record::{Change, OwnedRecord, Record, Trailer};
use crate::shard::{Common, Locked, Shard};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use crate::table::Table;
use crate::timeouts::{Timeouts, TimeoutsTable};
use crate::token::SessionId;
use crate::watch::WatchSlot;

/// The bytes of every session, whatever their type.
pub(crate) struct Sessions {
    pub(crate) common: Common,
    shards: Box<[CachePadded<Shard>]>,
    owners: Owners,
    clock: StoreClock,
    pub(crate) options: Options,
    pub(crate) events: Arc<Subscribers>,
    /// Uses of tokens renewed away.
    suspicious: AtomicU64,
    /// Sessions not created after `moves_until` that got another id.
    moves: AtomicU64,
    /// When somebody wanted to end all sessions last.
    moves_until: AtomicU32,
    /// Watches that wait.
    watches: AtomicU64,
    /// Where the next search for a session to evict begins.
    samples: AtomicU64,
    generation: u32,
    /// Set once what it tells is in memory, or in the backing.
    pub(crate) journal: OnceLock<StoreJournal>,
    /// The snapshot whose sessions are not all in memory yet.
    #[cfg(unix)]
    backing: backing::Slot,
    /// The last handle is gone: what takes long may stop.
    pub(crate) closing: Arc<AtomicBool>,
    #[cfg(test)]
    pub(crate) secrets: std::sync::Mutex<Vec<[u8; 32]>>,
}

/// What has to be done once no lock is held.
#[derive(Default)]
#[must_use]
pub(crate) struct After {
    pub(crate) woken: Vec<Arc<WatchSlot>>,
    told: bool,
    retired_bytes: usize,
}

/// The clock that the options ask for.
pub(crate) fn clock_of(options: &Options) -> Result<Clock> {
    match &options.clock {
        Some(manual) => Clock::manual(manual).ok_or(Error::Forked),
        None => Clock::system(fork::generation()).map_err(Error::Thread),
    }
}

impl Sessions {
    #[allow(unsafe_code, reason = "the clock must not move from where it is followed")]
    pub(crate) fn new(options: Options) -> Result<Arc<Sessions>> {
        fork::watch();
        let clock = StoreClock::new(clock_of(&options)?);
        let shard_count = options.shard_count();
        let arena_count = std::thread::available_parallelism().map_or(4, |n| 4 * usize::from(n));
        let (table, writers) = Table::new(shard_count, options.memory, arena_count)
            .map_err(|_| Error::Full(Limit::Memory))?;
        let timeouts = TimeoutsTable::new();
        timeouts.index_of(options.authenticated);
        timeouts.index_of(options.anonymous);
        let ticks = options.remember.as_nanos() / TICK.as_nanos();
        let common = Common {
            table,
            timeouts,
            budget: Budget::new(options.bounds()),
            remember_ticks: u32::try_from(ticks).unwrap_or(u32::MAX),
            remember_max: options.remember_max as u64,
            tombstones: CachePadded::new(AtomicU64::new(0)),
        };
        let now = Tick::at(clock.now());
        let sessions = Arc::new(Sessions {
            common,
            shards: writers
                .into_iter()
                .map(|writer| CachePadded::new(Shard::new(writer, now)))
                .collect(),
            owners: Owners::new(),
            clock,
            options,
            events: Arc::new(Subscribers::new()),
            suspicious: AtomicU64::new(0),
            moves: AtomicU64::new(0),
            moves_until: AtomicU32::new(0),
            watches: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            generation: fork::generation(),
            journal: OnceLock::new(),
            #[cfg(unix)]
            backing: backing::Slot::new(),
            closing: Arc::new(AtomicBool::new(false)),
            #[cfg(test)]
            secrets: std::sync::Mutex::new(Vec::new()),
        });
        // SAFETY: nobody takes the sessions out of their Arc, they are only ever dropped there.
        unsafe { sessions.clock.follow() };
        Ok(sessions)
    }

    #[cfg(unix)]
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Protects what this thread is about to read.
    #[inline(always)]
    pub(crate) fn pin(&self) -> Guard<'_> {
        self.common.table.collector.pin()
    }

    /// The exact time, with the tick by which deadlines are judged: never behind the one that
    /// lookups see.
    fn now(&self) -> (Nanos, Tick) {
        let now = self.clock.now();
        (now, Tick::at(now).max(self.clock.tick()))
    }

    /// The timeouts of a session.
    pub(crate) fn timeouts(&self, record: Record<'_>) -> Timeouts {
        match record.trailer() {
            Some(trailer) => trailer.timeouts,
            None => {
                self.common.timeouts.get(record.timeouts_index()).unwrap_or(self.options.anonymous)
            }
        }
    }

    /// The life of a session that is seen at `now`.
    fn life_from(&self, record: Record<'_>, now: Nanos) -> Life {
        let (index, timeouts) = (record.timeouts_index(), self.timeouts(record));
        self.common.timeouts.life(index, timeouts, now, record.absolute())
    }

    /// What a record's trailer holds, or would.
    fn trailer_of<'g>(&self, record: Record<'g>) -> Trailer<'g> {
        record.trailer().unwrap_or_else(|| {
            let timeouts = self.timeouts(record);
            let end = record.absolute().start();
            let lifetime = u64::try_from(timeouts.lifetime.as_nanos()).unwrap_or(u64::MAX);
            let created = Tick::at(Nanos(end.0.saturating_sub(lifetime)));
            Trailer { created, authenticated: created, timeouts, owner: "", label: "" }
        })
    }

    fn shard(&self, id: SessionId) -> &Shard {
        &self.shards[self.common.table.shard_of(id)]
    }

    /// What a record was made of.
    fn parts_of<'g>(&self, record: Record<'g>) -> NewSession<'g> {
        let trailer = self.trailer_of(record);
        NewSession {
            data: record.data(),
            owner: trailer.owner,
            label: trailer.label,
            timeouts: trailer.timeouts,
            created: trailer.created,
            authenticated: trailer.authenticated,
            absolute: record.absolute(),
            version: record.version(),
        }
    }

    fn lock_shard(&self, id: SessionId) -> Locked<'_> {
        self.shard(id).lock(&self.common)
    }

    /// Whether this is the child of a fork, where a lock of this store may be held for ever by a
    /// thread that is not here. To be asked before one is taken.
    pub(crate) fn is_forked(&self) -> bool {
        self.generation != fork::generation()
    }

    /// Has to be called before a lock is taken.
    ///
    /// # Panics
    /// Inside the closure of an update, where a lock is held already.
    #[track_caller]
    fn check_unlocked(&self) {
        assert!(
            !is_updating(),
            "cloakroom: inside the closure of `update`, no write and no call that locks (stats, \
             owner_sessions, watch, ...) is allowed, of this or of any other store; lookups are: \
             read, peek, get, find, owner, info, touch, sessions"
        );
    }

    /// Has to be called before a lock is taken to write.
    ///
    /// # Panics
    /// Inside the closure of an update.
    #[track_caller]
    fn begin_write(&self) -> Result<()> {
        self.check_unlocked();
        if self.is_forked() {
            return Err(Error::Forked);
        }
        self.check_undamaged()
    }

    /// Turns a change into events for those who listen.
    fn sink<'a>(&'a self, after: &'a mut After) -> impl FnMut(Change<'_>) + 'a {
        move |change| {
            after.told |= match change {
                Change::Created(record) => self.events.push(|| RawEvent::Created {
                    id: record.id(),
                    owner: record
                        .trailer()
                        .filter(|trailer| !trailer.owner.is_empty())
                        .map(|trailer| trailer.owner.to_owned()),
                }),
                Change::Moved { old, new, renewed } => {
                    self.events.push(|| RawEvent::Rotated { old, new: new.id(), renewed })
                }
                Change::Ended { record, reason } => self
                    .events
                    .push(|| RawEvent::Ended { reason, record: OwnedRecord::copy_of(record) }),
            };
        }
    }

    /// Tells that the session has an owner now who logged in, if that is what it was remade for.
    fn tell_login(&self, id: SessionId, remake: &Remake<'_>, after: &mut After) {
        if let Some(owner) = remake.owner {
            after.told |= self.events.push(|| RawEvent::LoggedIn { id, owner: owner.to_owned() });
        }
    }

    /// Does what had to wait until no lock was held.
    fn finish(&self, after: After, pinned: Pinned<'_>) {
        // All are counted before the first is woken: its task may drop the others.
        let watched = after.woken.iter().filter(|slot| slot.is_watched()).count();
        self.watches.fetch_sub(watched as u64, Relaxed);
        after.woken.iter().for_each(|slot| slot.wake());
        if after.told {
            self.events.wake();
        }
        let collector = &self.common.table.collector;
        if after.retired_bytes > 0 && collector.count_retired(pinned, after.retired_bytes) {
            collector.try_advance();
        }
    }

    /// Makes room for this many sessions of this many bytes.
    pub(crate) fn reserve(&self, sessions: usize, record_bytes: usize) -> Result<()> {
        self.begin_write()?;
        // What is on its way to memory takes of the room.
        self.bring_all()?;
        let full = |_| Error::Full(Limit::Memory);
        let entries = self.share_of(sessions);
        let arrays = self.shards.len() * crate::table::array_bytes_for(entries);
        self.common.table.pool.reserve(sessions, record_bytes, arrays).map_err(full)?;
        for shard in &self.shards {
            if !shard.lock(&self.common).reserve(entries) {
                return Err(Error::Full(Limit::Memory));
            }
        }
        Ok(())
    }

    /// So many of that many sessions may come to one shard.
    fn share_of(&self, sessions: usize) -> usize {
        // Ids are uniform, not even: a shard gets some more than its share.
        let share = sessions.div_ceil(self.shards.len());
        share + 4 * share.isqrt() + 4
    }
}
