//! What a directory holds, on its way into a store that is being opened.

use uuid::Uuid;

use super::durable::{Progress, RecoveryReport};
use crate::clock::{Stopwatch, Tick};
use crate::data::{self, SessionData};
use crate::error::{Error, Result};
use crate::journal::entry::Entry;
use crate::journal::files::{Files as _, StoreFiles};
use crate::journal::snapshot::Found;
use crate::journal::{Calendar, Expected, StoreSnapshot, Survey};
use crate::keep::Load;
use crate::options::Options;
use crate::sessions::{Backing, Check, Sessions};
use crate::sync::Arc;

/// How often progress is told, in sessions.
const PROGRESS_EVERY: u64 = 8192;

/// A store with all that the files tell, in memory or in its backing.
pub(super) struct Restored {
    pub(super) sessions: Arc<Sessions>,
    pub(super) survey: Survey<StoreFiles>,
    pub(super) calendar: Calendar,
    /// The snapshot, if its sessions are still to be brought into memory.
    pub(super) backing: Option<Arc<Backing>>,
}

/// Where sessions come back to.
pub(super) struct Restoring<'a> {
    pub(super) files: &'a StoreFiles,
    pub(super) expected: Expected<'a>,
    pub(super) load: Load,
    pub(super) watch: &'a Stopwatch,
}

impl Restoring<'_> {
    pub(super) fn run<S: SessionData>(
        &self,
        options: Options,
        report: &mut RecoveryReport,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Restored> {
        let mut survey = Survey::of(self.files, self.expected)?;
        let sessions = Sessions::new(options)?;
        let calendar = Calendar::new(sessions.clock(), survey.latest_ms());
        let mut backing = None;
        if let Some(snapshot) = survey.snapshot.take() {
            if self.load == Load::Mapped && Backing::is_weighed(&snapshot) {
                let file = self.files.path(&survey.snapshot_name());
                let opened = Tick::at(sessions.clock().now());
                let calendar = calendar.clone();
                let reading = (data::check::<S> as Check, self.expected.seal.clone());
                let back = Backing::new(snapshot, file, calendar, opened, reading);
                let back = Arc::new(back);
                report.from_snapshot = back.left();
                sessions.back(Arc::clone(&back));
                backing = Some(back);
            } else {
                let into = (&*sessions, &calendar);
                self.read_all::<S>(&survey, &snapshot, into, report, progress)?;
            }
        }
        report.torn_bytes = survey.torn_bytes;
        let store = survey.store.unwrap_or_default();
        report.changes = survey.replay(self.files, |entry| {
            self.opened::<S>(store, &entry, |entry| sessions.apply(&calendar, entry))
        })?;
        report.sessions = sessions.common.budget.sums().0.sessions;
        let left = backing.as_deref().map_or(0, Backing::left);
        report.in_memory = report.sessions.saturating_sub(left);
        Ok(Restored { sessions, survey, calendar, backing })
    }

    /// Calls `f` with an entry of the log, its session opened and checked.
    fn opened<S: SessionData>(
        &self,
        store: Uuid,
        entry: &Entry<'_>,
        f: impl FnOnce(&Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        let (Entry::Put(stored) | Entry::Move { new: stored, .. }) = entry else {
            return f(entry);
        };
        let file = || self.files.path("log");
        let opened = self.expected.seal.open(store, stored, |stored| {
            data::check::<S>(stored.data).map_err(|problem| Error::Unreadable {
                file: file(),
                problem: format!("the data of session {}: {problem}", stored.id),
            })?;
            f(&entry.with(*stored))
        });
        opened.unwrap_or_else(|problem| Err(problem.told(file(), 0)))
    }

    fn read_all<S: SessionData>(
        &self,
        survey: &Survey<StoreFiles>,
        snapshot: &StoreSnapshot,
        (sessions, calendar): (&Sessions, &Calendar),
        report: &mut RecoveryReport,
        progress: &mut impl FnMut(Progress),
    ) -> Result<()> {
        let sessions_total = Backing::sessions_in(snapshot);
        let bytes_total = snapshot.entries_len();
        let mut tell = |sessions, bytes| {
            let elapsed = self.watch.elapsed();
            let problem = None;
            progress(Progress { sessions, sessions_total, bytes, bytes_total, elapsed, problem });
        };
        let store = snapshot.fields().store;
        for found in snapshot.entries() {
            let damaged = |offset, problem: String| Error::Damaged {
                file: self.files.path(&survey.snapshot_name()),
                offset,
                problem,
            };
            let (at, found) = found.map_err(|damage| damaged(damage.offset, damage.to_string()))?;
            match found {
                Found::Session(stored) => {
                    let opened = self.expected.seal.open(store, &stored, |stored| {
                        data::check::<S>(stored.data).map_err(|problem| damaged(at.0, problem))?;
                        sessions.restore(calendar, stored)
                    });
                    opened.unwrap_or_else(|problem| {
                        Err(problem.told(self.files.path(&survey.snapshot_name()), at.0))
                    })?;
                    report.from_snapshot += 1;
                }
                Found::Alias(alias) => sessions.restore_alias(calendar, alias)?,
            }
            let sessions = report.from_snapshot;
            if sessions.is_multiple_of(PROGRESS_EVERY) && sessions < sessions_total {
                tell(sessions, at.0.min(bytes_total));
            }
        }
        tell(sessions_total, bytes_total);
        Ok(())
    }
}
