//! Lookups, which take no lock: one session, or many together.

use super::Sessions;
use super::updating::{self, is_updating};
use crate::clock::Tick;
use crate::error::{Missing, Reason};
use crate::events::RawEvent;
use crate::life::Life;
use crate::reclaim::{Guard, Pinned};
use crate::record::{Kind, Record};
use crate::sync::atomic::Ordering::Relaxed;
use crate::token::SessionId;

/// How many sessions' lines are asked for before the first is read. Processors keep 10 to 16 misses
/// in flight, and a session has two.
const BATCH_LEN: usize = 16;

impl Sessions {
    /// Shows the live session with this id to `f`. Takes no lock; writes nothing shared unless it
    /// is time to store that the session was seen.
    ///
    /// Deadlines are judged by the tick that the clock's thread keeps. Should that thread not be
    /// run, a session may be returned so much later than its deadline; but a touch that is stored
    /// is judged by the exact time, so that it never brings a session back.
    #[inline(always)]
    pub(crate) fn show<R>(
        &self,
        id: SessionId,
        touch: bool,
        f: impl FnOnce(Record<'_>) -> R,
    ) -> Result<R, Missing> {
        let pin = self.pin();
        match self.look_first(pin.pinned(), id) {
            Some(record) => Ok(f(record)),
            // What it answers has a place of its own, so that a plain hit's stays in registers.
            None => {
                let mut shown = None;
                self.show_on(pin, id, touch, |record| shown = Some(f(record)))?;
                Ok(shown.expect("a session that is found is shown"))
            }
        }
    }

    /// Stores that a session was seen, though it is not read. Not by [`Sessions::show`]: there is
    /// no answer that would need a place.
    pub(crate) fn touch(&self, id: SessionId) -> Result<(), Missing> {
        let pin = self.pin();
        match self.look_first(pin.pinned(), id) {
            Some(_) => Ok(()),
            None => self.show_on(pin, id, true, |_| ()),
        }
    }

    /// The plain hit: a session that stands where it is looked for first, and was seen lately.
    /// None says nothing.
    #[inline(always)]
    fn look_first<'g>(&self, pinned: Pinned<'g>, id: SessionId) -> Option<Record<'g>> {
        let now = self.clock.present();
        let record = self.common.table.find_first(pinned, id)?;
        if !record.life().load().is_fresh(now) {
            return None;
        }
        pinned.count_hit();
        Some(record)
    }

    /// Whatever is not a plain hit. The pin comes along, so that a plain hit need not keep for it
    /// what it does not need itself.
    #[cold]
    #[inline(never)]
    fn show_on<R>(
        &self,
        pin: Guard<'_>,
        id: SessionId,
        touch: bool,
        f: impl FnOnce(Record<'_>) -> R,
    ) -> Result<R, Missing> {
        match self.look(pin.pinned(), id, touch) {
            Ok(record) => Ok(f(record)),
            Err(missing) => self.look_beside(pin.pinned(), id, touch, missing, f),
        }
    }

    /// A session that is to be touched, or not in the first place where it was looked for; an
    /// alias; none.
    pub(crate) fn look<'g>(
        &self,
        pinned: Pinned<'g>,
        id: SessionId,
        touch: bool,
    ) -> Result<Record<'g>, Missing> {
        let now = self.clock.present();
        if let Some(record) = self.common.table.find(pinned, id) {
            let life = record.life().load();
            let seen = life.is_fresh(now)
                || life.is_live(self.clock.tick()) && (!touch || self.seen(pinned, record, life));
            if seen {
                pinned.count_hit();
                return Ok(record);
            }
        }
        self.look_again(pinned, id, touch)
    }

    fn look_again<'g>(
        &self,
        pinned: Pinned<'g>,
        id: SessionId,
        touch: bool,
    ) -> Result<Record<'g>, Missing> {
        if self.is_backed() {
            if is_updating() {
                // `look_beside` goes on.
                return Err(Missing::Unknown);
            }
            self.bring_to_look(pinned, id);
        }
        self.look_in_memory(pinned, id, touch)
    }

    pub(super) fn look_in_memory<'g>(
        &self,
        pinned: Pinned<'g>,
        id: SessionId,
        touch: bool,
    ) -> Result<Record<'g>, Missing> {
        let found = if self.is_forked() { Err(Missing::Unknown) } else { self.resolve(pinned, id) };
        match found {
            Ok(record) => {
                pinned.count_hit();
                let life = record.life().load();
                if touch && !life.is_superseded() && !self.seen(pinned, record, life) {
                    return self.look_in_memory(pinned, id, touch);
                }
                Ok(record)
            }
            Err(missing) => {
                pinned.count_miss();
                Err(missing)
            }
        }
    }

    /// Stores that a session was seen, unless it was seen later. False if it ended meanwhile, or
    /// its deadline came: the caller may have judged by a tick that is behind, when the thread
    /// that keeps it was not run, and what is stored here is the exact time.
    fn seen<'g>(&self, pinned: Pinned<'g>, mut record: Record<'g>, mut life: Life) -> bool {
        let (now, tick) = self.now();
        loop {
            if !life.is_superseded() && !life.is_live(tick) {
                return false;
            }
            let next = self.life_from(record, now);
            if record.life().touch(life, next) {
                let shard = self.shard(record.id());
                let (from, to) =
                    (self.common.last_seen(record, life), self.common.last_seen(record, next));
                shard.activity.moved(from, to);
                self.journal_touch(record, from, now);
                return true;
            }
            life = record.life().load();
            if life.is_superseded() {
                // Written meanwhile, perhaps by somebody with an earlier clock.
                match self.common.table.find(pinned, record.id()) {
                    Some(newer) if newer.is_session() => record = newer,
                    _ => return false,
                }
                life = record.life().load();
            }
            if life.is_expired() {
                return false;
            }
            if life.fresh_until() >= self.life_from(record, now).fresh_until() {
                return true;
            }
        }
    }

    /// Follows an id to the live session that it stands for: itself, or the successor of an alias
    /// in its grace time.
    pub(super) fn resolve<'g>(
        &self,
        pinned: Pinned<'g>,
        id: SessionId,
    ) -> Result<Record<'g>, Missing> {
        let mut told = false;
        let found = self.resolve_quietly(pinned, id, &mut told);
        if told && is_updating() {
            // A shard is locked, perhaps of another store.
            updating::wake_later(&self.events);
        } else if told {
            self.events.wake();
        }
        found
    }

    /// As [`Sessions::resolve`], for those who hold a lock: sets `told` when the subscribers have
    /// to be woken once it is given back.
    pub(super) fn resolve_quietly<'g>(
        &self,
        pinned: Pinned<'g>,
        id: SessionId,
        told: &mut bool,
    ) -> Result<Record<'g>, Missing> {
        loop {
            let (_, now) = self.now();
            let Some(record) = self.common.table.find(pinned, id) else {
                return Err(Missing::Unknown);
            };
            let missing = match record.kind() {
                Kind::Live => {
                    let life = record.life().load();
                    if life.is_live(now) {
                        return Ok(record);
                    }
                    if !record.life().has_expired(now) {
                        // A touch was faster; or it is superseded, before which another record
                        // was published in its place.
                        continue;
                    }
                    Missing::Ended(Reason::Expired)
                }
                Kind::Alias { successor } if record.absolute() > now => {
                    return self.resolve_successor(pinned, successor, now);
                }
                Kind::Alias { successor } => {
                    *told |= self.report_suspicious(id, successor);
                    Missing::Ended(Reason::Rotated)
                }
                Kind::Ended { reason, successor } => {
                    if let Some(successor) = successor {
                        *told |= self.report_suspicious(id, successor);
                    }
                    Missing::Ended(reason)
                }
            };
            return Err(missing);
        }
    }

    /// One step from an alias: an alias of an alias is dead, so that at most two tokens of a
    /// session are good at a time.
    fn resolve_successor<'g>(
        &self,
        pinned: Pinned<'g>,
        id: SessionId,
        now: Tick,
    ) -> Result<Record<'g>, Missing> {
        loop {
            let Some(record) = self.common.table.find(pinned, id) else {
                return Err(Missing::Ended(Reason::Rotated));
            };
            let life = record.life().load();
            return match record.kind() {
                Kind::Live if life.is_live(now) => Ok(record),
                Kind::Live if !record.life().has_expired(now) => continue,
                Kind::Live => Err(Missing::Ended(Reason::Expired)),
                Kind::Alias { .. } => Err(Missing::Ended(Reason::Rotated)),
                Kind::Ended { reason, .. } => Err(Missing::Ended(reason)),
            };
        }
    }

    /// Whether somebody has to be woken.
    pub(super) fn report_suspicious(&self, id: SessionId, successor: SessionId) -> bool {
        self.suspicious.fetch_add(1, Relaxed);
        self.events.push(|| RawEvent::Suspicious { id, successor })
    }

    /// Shows each of these sessions to `f`, with its place in the list, in order, as
    /// [`Sessions::show`] does. Pinned for one session at a time.
    #[inline]
    pub(crate) fn show_many(
        &self,
        ids: &[SessionId],
        touch: bool,
        mut f: impl FnMut(usize, Result<Record<'_>, Missing>),
    ) {
        let mut index = 0;
        for batch in ids.chunks(BATCH_LEN) {
            self.fetch(batch);
            for &id in batch {
                let shown = self.show(id, touch, |record| f(index, Ok(record)));
                if let Err(missing) = shown {
                    f(index, Err(missing));
                }
                index += 1;
            }
        }
    }

    /// Asks for the lines that lookups of these sessions will read: first all buckets, then all
    /// records.
    #[inline]
    pub(crate) fn fetch(&self, ids: &[SessionId]) {
        let pin = self.pin();
        let table = &self.common.table;
        for &id in ids {
            table.fetch_bucket(pin.pinned(), id);
        }
        for &id in ids {
            table.fetch_record(pin.pinned(), id);
        }
    }
}
