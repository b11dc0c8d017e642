//! Sessions by the many: lists, numbers, checks.

use std::collections::HashSet;

use super::Sessions;
use super::updating::is_updating;
use crate::clock::{Nanos, Tick};
use crate::error::{Missing, Reason, Result};
use crate::owner::OwnerGuard;
use crate::reclaim::Pinned;
use crate::record::Record;
use crate::session::Info;
use crate::shard::{class, cost};
use crate::stats::Stats;
use crate::sync::atomic::Ordering::{Acquire, Relaxed};
use crate::token::SessionId;
use crate::version::Version;

/// Where a page of a listing begins: a shard with a 20-bit prefix of ids, which growth does not
/// change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) shard: u32,
    pub(crate) prefix: u32,
}

impl Sessions {
    pub(super) fn describe(&self, record: Record<'_>) -> Info {
        let trailer = self.trailer_of(record);
        let life = record.life().load();
        let last_seen = self.common.last_seen(record, life).max(trailer.created);
        let now = self.clock.now();
        let since = |tick: Tick| now.since(tick.start());
        let wall = |tick: Tick| self.clock.wall(tick.start());
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Info {
            id: record.id(),
            version: Version(record.version()),
            owner: text(trailer.owner),
            label: text(trailer.label),
            created: wall(trailer.created),
            authenticated: wall(trailer.authenticated),
            last_seen: wall(last_seen),
            expires: (life.deadline() != Tick::NEVER)
                .then(|| wall_after(self, now, life.deadline())),
            idle: since(last_seen),
            age: since(trailer.created),
            data_bytes: record.data().len(),
        }
    }

    /// What the store knows of a session. Does not count as activity.
    pub(crate) fn info(&self, id: SessionId) -> Result<Info, Missing> {
        self.show(id, false, |record| self.describe(record))
    }

    /// The owner's live sessions, oldest first.
    pub(crate) fn of_owner(&self, owner: &str) -> Vec<Info> {
        self.check_unlocked();
        if self.is_forked() {
            return Vec::new();
        }
        let pin = self.pin();
        let pinned = pin.pinned();
        // Of a damaged file those are listed that can be read.
        let _ = self.bring_owner(pinned, owner);
        let guard = self.owners.lock(owner);
        let live = self.live_of(pinned, &guard, owner);
        live.into_iter().map(|record| self.describe(record)).collect()
    }

    /// The owner's live sessions, the one first in which he proved longest ago who he is; those of
    /// one tick in the order in which they became his, as far as this process knows it.
    pub(super) fn live_of<'g>(
        &self,
        pinned: Pinned<'g>,
        guard: &OwnerGuard<'_>,
        owner: &str,
    ) -> Vec<Record<'g>> {
        let (_, now) = self.now();
        let ids = guard.list(owner).into_iter();
        let mut live: Vec<_> = ids.filter_map(|id| self.live(pinned, id, now)).collect();
        live.sort_by_key(|record| self.trailer_of(*record).authenticated);
        live
    }

    pub(crate) fn count_of_owner(&self, owner: &str) -> usize {
        self.check_unlocked();
        if self.is_forked() {
            return 0;
        }
        let pin = self.pin();
        let pinned = pin.pinned();
        let _ = self.bring_owner(pinned, owner);
        let guard = self.owners.lock(owner);
        let (_, now) = self.now();
        let ids = guard.list(owner);
        ids.into_iter().filter(|&id| self.live(pinned, id, now).is_some()).count()
    }

    /// The live session with just this id, without counting a lookup.
    pub(super) fn live<'g>(
        &self,
        pinned: Pinned<'g>,
        id: SessionId,
        now: Tick,
    ) -> Option<Record<'g>> {
        loop {
            let record = self.common.table.find(pinned, id)?;
            let life = record.life().load();
            if !(record.is_session() && life.is_superseded()) {
                return life.is_live(now).then_some(record);
            }
        }
    }

    /// Calls `f` with each live session in memory.
    #[cfg(unix)]
    pub(super) fn list_memory(&self, f: impl FnMut(Info)) {
        let place = Some(Place { shard: 0, prefix: 0 });
        let pages = std::iter::successors(Some((Vec::new(), place)), |(_, next)| {
            next.map(|from| self.page_of_memory(from, 1))
        });
        pages.flat_map(|(infos, _)| infos).for_each(f);
    }

    /// The live sessions from a place on, at least `count_min` of them if there are as many.
    /// Returns where to go on.
    pub(crate) fn page(&self, from: Place, count_min: usize) -> (Vec<Info>, Option<Place>) {
        if self.is_forked() {
            return (Vec::new(), None);
        }
        if self.is_backed() {
            if is_updating() {
                return (self.list_beside(), None);
            }
            // Of a damaged file those are listed that are in memory.
            let _ = self.bring_all();
        }
        self.page_of_memory(from, count_min)
    }

    fn page_of_memory(&self, from: Place, count_min: usize) -> (Vec<Info>, Option<Place>) {
        let mut infos = Vec::new();
        let mut place = from;
        while (place.shard as usize) < self.shards.len() {
            // A pin per step: a long listing does not hold memory back.
            let pin = self.pin();
            let pinned = pin.pinned();
            let (_, now) = self.now();
            let next =
                self.common.table.visit(pinned, place.shard as usize, place.prefix, |record| {
                    // A record that was replaced meanwhile is looked up anew.
                    if let Some(record) = self.live(pinned, record.id(), now) {
                        infos.push(self.describe(record));
                    }
                });
            place = match next {
                Some(prefix) => Place { prefix, ..place },
                None => Place { shard: place.shard + 1, prefix: 0 },
            };
            if infos.len() >= count_min {
                break;
            }
        }
        (infos, ((place.shard as usize) < self.shards.len()).then_some(place))
    }

    /// Ends every session that there is; returns how many.
    pub(crate) fn end_all(&self, reason: Reason) -> Result<usize> {
        self.begin_write()?;
        self.bring_all()?;
        let (now, _) = self.now();
        // Relaxed: the locks below hand it to every move that begins later.
        self.moves_until.fetch_max(Tick::at(now).0, Relaxed);
        for shard in &self.shards {
            // Moves that began before may not count themselves: they are over afterwards.
            drop(shard.lock(&self.common));
        }
        let mut count = 0;
        loop {
            let moves = self.moves.load(Acquire);
            count += self.end_listed(reason);
            // A session that got another id meanwhile may have gone where nobody looked again.
            // Later sessions do not count, so that no stream of logins makes this go on for ever.
            if self.moves.load(Acquire) == moves {
                return Ok(count);
            }
        }
    }

    fn end_listed(&self, reason: Reason) -> usize {
        let mut count = 0;
        let mut place = Some(Place { shard: 0, prefix: 0 });
        while let Some(from) = place {
            // Ended as soon as listed, before it gets another id once more.
            let (infos, next) = self.page(from, 1);
            for info in infos {
                // Somebody else may have ended it meanwhile.
                count += usize::from(self.end(info.id, reason).is_ok());
            }
            place = next;
        }
        count
    }

    pub(crate) fn stats(&self) -> Stats {
        self.check_unlocked();
        if self.is_forked() {
            return Stats::default();
        }
        let (all, anonymous) = self.common.budget.sums();
        let (hits, misses) = self.common.table.collector.lookups();
        let (_, now) = self.now();
        let mut stats = Stats {
            live: all.sessions,
            anonymous: anonymous.sessions,
            authenticated: all.sessions.saturating_sub(anonymous.sessions),
            owners: self.owners.len() as u64,
            bytes: all.bytes,
            mapped_bytes: self.common.table.pool.mapped_bytes() as u64,
            hits,
            misses,
            suspicious: self.suspicious.load(Relaxed),
            watched: self.watches.load(Relaxed),
            events_dropped: self.events.dropped(),
            journal: self.journal_stats(),
            ..Stats::default()
        };
        for shard in &self.shards {
            let activity = &shard.activity;
            stats.active_1_minute += activity.seen_within(1, now);
            stats.active_5_minutes += activity.seen_within(5, now);
            stats.active_15_minutes += activity.seen_within(15, now);
            let shard = shard.lock(&self.common);
            let tally = shard.tally();
            stats.created += tally.created;
            stats.renewed += tally.renewed;
            for (sum, ended) in stats.ended.iter_mut().zip(tally.ended) {
                *sum += ended;
            }
            stats.remembered += shard.ended_count() as u64;
            stats.resize_max = stats.resize_max.max(shard.resize_max());
            stats.wheel_nodes += u64::from(shard.wheel_nodes());
            let (array, wheel, limbo) = shard.memory_bytes();
            stats.overhead_bytes += (array + wheel + limbo) as u64;
        }
        stats
    }

    /// Checks what must hold while nothing else runs.
    ///
    /// # Panics
    /// With the invariant that is broken.
    pub(crate) fn validate(&self) {
        self.check_unlocked();
        if self.is_forked() {
            return;
        }
        let is_whole = self.bring_all().is_ok();
        let (mut sessions, mut anonymous, mut bytes) = (0, 0, 0);
        let mut owned: HashSet<(String, SessionId)> = HashSet::new();
        for shard in &self.shards {
            shard.lock(&self.common).validate(|record| {
                let cost = cost(record.len());
                sessions += 1;
                bytes += cost.bytes;
                anonymous += u64::from(class(record) == crate::budget::Class::Anonymous);
                let trailer = record.trailer();
                if let Some(trailer) = trailer.filter(|trailer| !trailer.owner.is_empty()) {
                    owned.insert((trailer.owner.to_owned(), record.id()));
                }
            });
        }
        let (all, some) = self.common.budget.sums();
        if is_whole {
            let sums = (all.sessions, all.bytes);
            assert_eq!(sums, (sessions, bytes), "budget of sessions and bytes");
            assert_eq!(some.sessions, anonymous, "budget of anonymous sessions");
        }
        let mut listed = HashSet::new();
        self.owners.visit(|owner, ids| {
            for &id in ids {
                assert!(listed.insert((owner.to_owned(), id)), "{owner} lists {id} twice");
            }
        });
        let different: Vec<_> = listed.symmetric_difference(&owned).take(8).collect();
        assert!(different.is_empty(), "owner index or owner is missing: {different:?}");
        self.common.table.pool.validate();
    }
}

/// The wall-clock time of a tick to come.
fn wall_after(sessions: &Sessions, now: Nanos, tick: Tick) -> std::time::SystemTime {
    let present = sessions.clock.wall(now);
    present.checked_add(tick.start().since(now)).unwrap_or(present)
}
