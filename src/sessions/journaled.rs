//! Sessions on their way to the journal: what a change looks like there, and the walk for a
//! snapshot.

use std::time::Duration;

use super::Sessions;
use super::backing::{SCALE, weigh};
use crate::clock::{Nanos, Tick};
use crate::error::{Error, Limit, Reason, Result};
use crate::journal::entry::Entry;
use crate::journal::files::StoreFiles;
use crate::journal::snapshot::Alias;
use crate::journal::stored::Stored;
use crate::journal::{Calendar, Journal};
use crate::reclaim::Pinned;
use crate::record::{Kind, Record, Trailer, nanos};
use crate::stats::JournalStats;
use crate::sync::atomic::Ordering::Relaxed;
use crate::token::SessionId;

/// The journal of a store.
pub(crate) type StoreJournal = Journal<StoreFiles>;

/// What a snapshot came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// The sessions in the snapshot.
    pub sessions: u64,
    /// The length of its file.
    pub bytes: u64,
}

impl Sessions {
    fn journal(&self) -> Option<&StoreJournal> {
        self.journal.get()
    }

    /// Writes down a session that is new or has changed: the record that is about to be published.
    /// Called under its shard's lock.
    pub(super) fn journal_put(&self, record: Record<'_>) -> Result<()> {
        let Some(journal) = self.journal() else { return Ok(()) };
        journal.append(&Entry::Put(self.stored(journal.calendar(), record))).map(drop)
    }

    /// Writes down that a session goes on under another id, whose record nobody knows yet. The old
    /// one is an alias until then.
    pub(super) fn journal_move(
        &self,
        pinned: Pinned<'_>,
        old: SessionId,
        new: SessionId,
        alias_until: Option<Tick>,
    ) -> Result<()> {
        let Some(journal) = self.journal() else { return Ok(()) };
        let Some(record) = self.common.table.find(pinned, new) else { return Ok(()) };
        let calendar = journal.calendar();
        let entry = Entry::Move {
            old,
            at_ms: calendar.now_ms(),
            alias_until_ms: alias_until.map_or(0, |until| calendar.ms(until.start()).max(1)),
            new: self.stored(calendar, record),
        };
        journal.append(&entry).map(drop)
    }

    /// Writes down that a session ends.
    pub(super) fn journal_end(&self, id: SessionId, reason: Reason) -> Result<()> {
        let Some(journal) = self.journal() else { return Ok(()) };
        let at_ms = journal.calendar().now_ms();
        journal.append(&Entry::End { id, reason, at_ms }).map(drop)
    }

    /// Writes down that a new session takes the room of an old one, which ends.
    pub(super) fn journal_instead(
        &self,
        pinned: Pinned<'_>,
        new: SessionId,
        old: SessionId,
    ) -> Result<()> {
        let Some(record) = self.common.table.find(pinned, new) else { return Ok(()) };
        self.journal_put(record)?;
        self.journal_end(old, Reason::Revoked).inspect_err(|_| {
            // Takes back what was written down; nobody has the token.
            let _ = self.journal_end(new, Reason::Revoked);
        })
    }

    /// Notes that a session was seen, at most once per touch granularity of the journal: the first
    /// time in each of its intervals. So after a crash less than an interval is lost.
    pub(super) fn journal_touch(&self, record: Record<'_>, before: Tick, now: Nanos) {
        let Some(journal) = self.journal() else { return };
        let interval = self.touch_interval(record);
        let number = |time: Nanos| u128::from(time.0) / interval.as_nanos().max(1);
        if number(before.start()) != number(now) {
            journal.touch(record.id(), journal.calendar().ms(now));
        }
    }

    /// How much idle time a session may lose by a crash.
    fn touch_interval(&self, record: Record<'_>) -> Duration {
        let idle = self.timeouts(record).idle;
        self.options.keep.touch_granularity.min(idle / 10)
    }

    pub(super) fn journal_stats(&self) -> Option<JournalStats> {
        let stats = self.journal().map(Journal::stats)?;
        let Some(backing) = self.backing() else { return Some(stats) };
        let (unloaded, damaged) = (backing.left(), backing.damage().is_some());
        Some(JournalStats { unloaded, damaged, ..stats })
    }

    /// Writes all sessions to a snapshot, in the background of whatever else happens.
    pub(crate) fn save(&self, generation: u64) -> Result<Option<Saved>> {
        let Some(journal) = self.journal() else { return Ok(None) };
        // What only the file has is in no walk of the memory.
        self.bring_all()?;
        let saved = self.save_to(journal, generation);
        if saved.is_err() {
            journal.count_snapshot_failure();
        }
        saved.map(Some)
    }

    fn save_to(&self, journal: &StoreJournal, generation: u64) -> Result<Saved> {
        // The old snapshot stays until the new one counts. Half a snapshot would take the room that
        // the log needs.
        if !journal.has_room(self.common.budget.sums().0.bytes) {
            return Err(Error::Full(Limit::Disk));
        }
        let mut taking = journal.take_snapshot(generation)?;
        for (index, shard) in self.shards.iter().enumerate() {
            // Whoever wrote to the log before it was turned has published by now what he wrote.
            drop(shard.lock(&self.common));
            let mut prefix = Some(0);
            while let Some(at) = prefix {
                // Nobody holds the store any more but who waits for this.
                if self.closing.load(Relaxed) {
                    return Err(taking.given_up());
                }
                let pin = self.pin();
                let pinned = pin.pinned();
                let (_, now) = self.now();
                let mut pushed = Ok(());
                prefix = self.common.table.visit(pinned, index, at, |record| {
                    if pushed.is_ok() {
                        pushed = self.save_record(&mut taking, journal.calendar(), record, now);
                    }
                });
                pushed?;
            }
        }
        let summary = taking.finish()?;
        Ok(Saved { sessions: summary.counts.live(), bytes: summary.bytes })
    }

    /// A session as the files hold it.
    fn stored<'a>(&self, calendar: &Calendar, record: Record<'a>) -> Stored<'a> {
        let Trailer { created, authenticated, timeouts, owner, label } = self.trailer_of(record);
        let seen = self.common.last_seen(record, record.life().load());
        Stored {
            id: record.id(),
            version: record.version(),
            created_ms: calendar.ms(created.start()),
            authenticated_ms: calendar.ms(authenticated.start()),
            seen_ms: calendar.ms(seen.start()),
            idle_ns: nanos(timeouts.idle),
            lifetime_ns: nanos(timeouts.lifetime),
            owner,
            label,
            data: record.data(),
        }
    }

    fn save_record(
        &self,
        taking: &mut crate::journal::Taking<'_, StoreFiles>,
        calendar: &Calendar,
        record: Record<'_>,
        now: Tick,
    ) -> Result<()> {
        match record.kind() {
            Kind::Live => {
                let life = record.life().load();
                if !life.is_live(now) {
                    return Ok(());
                }
                let stored = self.stored(calendar, record);
                taking.push(&stored)?;
                taking.weigh(SCALE, record.has_owner(), weigh(&stored).bytes);
                Ok(())
            }
            Kind::Alias { successor } if record.absolute() > now => taking.push_alias(Alias {
                id: record.id(),
                successor,
                until_ms: calendar.ms(record.absolute().start()),
            }),
            _ => Ok(()),
        }
    }
}
