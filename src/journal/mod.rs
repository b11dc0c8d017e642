//! The journal: what makes sessions survive the process.
//!
//! ```text
//! a write, under its shard's lock --> append --> log (newest segment) --> files
//! ends, flushes, the interval ------> commit thread --> sync, publish the position --> who waits
//! a snapshot: turn the log, walk the store, sync both, rename, remove what came before
//! ```
//! It knows sessions as bytes with an id ([`stored`]), and neither the table nor the store.

pub(crate) mod backup;
mod calendar;
mod chain;
#[cfg(feature = "cli")]
pub(crate) mod check;
#[cfg(feature = "encryption")]
mod cipher;
mod counted;
pub(crate) mod entry;
pub(crate) mod files;
mod flush;
pub(crate) mod fold;
pub(crate) mod frame;
mod log;
mod maker;
mod recover;
pub(crate) mod rewrite;
pub(crate) mod sealing;
pub(crate) mod segment;
#[allow(dead_code, unused_imports, reason = "the check of a whole file is for tests")]
pub(crate) mod snapshot;
mod snapshots;
pub(crate) mod still;
pub(crate) mod stored;

#[cfg(test)]
pub(crate) mod crash_tests;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::time::Duration;

pub(crate) use calendar::Calendar;
use crossbeam::queue::SegQueue;
use files::Files;
pub use flush::Flush;
use log::Refused;
use log::{Log, Need};
use maker::Maker;
use maker::random;
#[cfg(feature = "cli")]
pub(crate) use recover::Kind;
pub(crate) use recover::{Expected, Survey};
use sealing::{Seal, SealProblem};
pub(crate) use snapshots::Taking;

use self::entry::{Entry, Touches};
use crate::contain::contain;
use crate::error::{Error, Limit, Result};
use crate::fork;
use crate::keep::{Append, Durability};
use crate::stats::JournalStats;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::{Arc, Condvar, Mutex, lock};
use crate::token::SessionId;

/// A snapshot of a store, mapped.
pub(crate) type StoreSnapshot = snapshot::Snapshot<recover::View<files::StoreFiles>>;

/// How a journal is kept.
#[derive(Clone, Debug)]
pub(crate) struct Keeping {
    pub(crate) durability: Durability,
    pub(crate) sync_interval: Duration,
    pub(crate) segment_bytes: u64,
    pub(crate) append: Append,
    pub(crate) schema: u64,
    pub(crate) seal: Seal,
}

/// Touches in one frame.
const TOUCHES_MAX: usize = 1024;

/// The journal of one open store.
pub(crate) struct Journal<F: Files> {
    shared: Arc<Shared<F>>,
    /// That which commits, and that which works ahead.
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    generation: u32,
    /// Whatever has to stay until the last write.
    held: Mutex<Option<Box<dyn std::any::Any + Send>>>,
    snapshot_failures: AtomicU64,
}

pub(crate) struct Shared<F: Files> {
    log: Log<F>,
    durability: Durability,
    sync_interval: Duration,
    /// Touches that wait to be written down.
    touches: SegQueue<(SessionId, u64)>,
    commits: Mutex<Commits>,
    /// Tells the commit thread that there is something to do.
    wake: Condvar,
    /// Tells those who wait for a position.
    done: Condvar,
}

#[derive(Default)]
struct Commits {
    /// The highest position that somebody wants to be durable.
    wanted: u64,
    stop: bool,
    wakers: Vec<std::task::Waker>,
    /// Syncs so far, and how many failed.
    count: u64,
    failures: u64,
    /// What the last failure said, until a snapshot mended it.
    problem: Option<String>,
}

impl<F: Files> Journal<F> {
    /// Goes on behind what a survey found.
    ///
    /// # Errors
    /// [`Error::Files`], [`Error::Full`] without room for a segment, [`Error::Thread`].
    pub(crate) fn open(
        files: Arc<F>,
        survey: &Survey<F>,
        keeping: Keeping,
        calendar: Calendar,
    ) -> Result<Journal<F>> {
        let shared = Arc::new(Shared::open(files, survey, keeping, calendar)?);
        let journal = Journal {
            shared,
            threads: Mutex::new(Vec::new()),
            generation: fork::generation(),
            held: Mutex::new(None),
            snapshot_failures: AtomicU64::new(0),
        };
        journal.start("cloakroom-commit", Shared::run)?;
        journal.shared.log.start_ahead();
        journal.start("cloakroom-ahead", |shared| shared.log.run_ahead())?;
        Ok(journal)
    }

    fn start(&self, name: &str, run: fn(&Shared<F>)) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || run(&shared));
        lock(&self.threads).push(thread.map_err(Error::Thread)?);
        Ok(())
    }

    /// Writes down what is about to be done, under the lock that makes it happen. Returns its
    /// position.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Files`]: then it must not be done, or only if it is an end.
    pub(crate) fn append(&self, entry: &Entry<'_>) -> Result<u64> {
        let urgent = matches!(entry, Entry::End { .. } | Entry::Move { .. });
        let need = if urgent { Need::Reserve } else { Need::Room };
        let position = self.shared.append(entry, need)?;
        if urgent || self.shared.durability == Durability::Power {
            self.shared.request(position);
        }
        Ok(position)
    }

    /// Keeps something until the journal is closed: the lock of its directory.
    pub(crate) fn hold(&self, held: impl std::any::Any + Send) {
        *lock(&self.held) = Some(Box::new(held));
    }

    /// Notes that a session was seen, to be written down soon.
    pub(crate) fn touch(&self, id: SessionId, seen_ms: u64) {
        self.shared.touches.push((id, seen_ms));
    }

    /// Whatever was written so far, to be waited for.
    pub(crate) fn flush(&self) -> Flush {
        self.shared.drain_touches();
        let position = self.shared.log.last_change();
        Flush::new(Arc::clone(&self.shared) as Arc<dyn flush::Target>, position)
    }

    pub(crate) fn calendar(&self) -> &Calendar {
        &self.shared.log.maker().calendar
    }

    pub(crate) fn stats(&self) -> JournalStats {
        let log = &self.shared.log;
        let commits = lock(&self.shared.commits);
        JournalStats {
            written: log.last_change(),
            durable: log.durable(),
            log_bytes: log.bytes(),
            syncs: commits.count,
            sync_failures: commits.failures,
            degraded: log.has_failed(),
            snapshot_failures: self.snapshot_failures.load(Relaxed),
            ..JournalStats::default()
        }
    }

    /// Counts a snapshot that failed.
    pub(crate) fn count_snapshot_failure(&self) {
        self.snapshot_failures.fetch_add(1, Relaxed);
    }

    /// Whether the disk has room for so many bytes; yes where it does not tell.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.shared.log.maker().files.free_bytes().map_or(true, |free| free >= bytes)
    }

    /// Begins a snapshot: whatever the walk of the store may miss from now on is in the log behind
    /// it.
    ///
    /// # Errors
    /// [`Error::Files`], [`Error::Full`].
    pub(crate) fn take_snapshot(&self, generation: u64) -> Result<Taking<'_, F>> {
        Taking::begin(&self.shared, generation)
    }

    /// Writes everything down for good, stops the threads.
    ///
    /// # Errors
    /// [`Error::NotDurable`].
    pub(crate) fn close(&self) -> Result<()> {
        let threads = std::mem::take(&mut *lock(&self.threads));
        if threads.is_empty() {
            return Ok(());
        }
        if self.generation != fork::generation() {
            // The threads are the parent's.
            std::mem::forget(threads);
            return Err(Error::Forked);
        }
        lock(&self.shared.commits).stop = true;
        self.shared.wake.notify_all();
        self.shared.log.stop_ahead();
        for thread in threads {
            // A panic of a thread was reported when it happened.
            let _ = thread.join();
        }
        self.shared.commit()?;
        self.shared.log.mark();
        Ok(())
    }
}

impl<F: Files> Drop for Journal<F> {
    fn drop(&mut self) {
        // Who wants to know whether it worked closes the store.
        let _ = self.close();
        drop(lock(&self.held).take());
    }
}

thread_local! {
    /// The body of the last frame of this thread.
    static BODY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl<F: Files> Shared<F> {
    /// All of a journal but its threads.
    fn open(
        files: Arc<F>,
        survey: &Survey<F>,
        keeping: Keeping,
        calendar: Calendar,
    ) -> Result<Shared<F>> {
        let io = |doing| {
            let file = files.path("");
            move |error| Error::Files { file, doing, error }
        };
        survey.secure(&*files).map_err(|error| told(error.into(), &*files))?;
        let random = || random().map_err(io("make random bytes for"));
        let store = match survey.store {
            Some(store) => store,
            None => uuid::Uuid::from_u64_pair(random()?, random()?),
        };
        let maker = Maker {
            files: Arc::clone(&files),
            calendar,
            store,
            schema: keeping.schema,
            body_seed: random()?,
            segment_bytes: keeping.segment_bytes,
            append: keeping.append,
            seal: keeping.seal,
        };
        let log = Log::begin(maker, survey.epoch + 1, survey.end)
            .map_err(|refused| told(refused, &*files))?;
        Ok(Shared {
            log,
            durability: keeping.durability,
            sync_interval: keeping.sync_interval,
            touches: SegQueue::new(),
            commits: Mutex::new(Commits::default()),
            wake: Condvar::new(),
            done: Condvar::new(),
        })
    }

    fn append(&self, entry: &Entry<'_>, need: Need) -> Result<u64> {
        let Maker { seal, store, .. } = self.log.maker();
        let (Entry::Put(stored) | Entry::Move { new: stored, .. }) = entry else {
            return self.append_sealed(entry, need);
        };
        let appended =
            seal.seal_in_order(*store, stored, |new| self.append_sealed(&entry.with(*new), need));
        appended.unwrap_or_else(|problem| Err(self.unsealed(problem)))
    }

    fn unsealed(&self, problem: SealProblem) -> Error {
        problem.told(self.log.maker().files.path(""), 0)
    }

    fn append_sealed(&self, entry: &Entry<'_>, need: Need) -> Result<u64> {
        let append = |body: &mut Vec<u8>| {
            body.clear();
            entry.encode_into(body);
            let sum = self.log.sum(body);
            self.log.append(entry.kind(), body, sum, need)
        };
        // A thread-local destructor of somebody else may come here after ours.
        let appended = BODY
            .try_with(|body| append(&mut body.borrow_mut()))
            .unwrap_or_else(|_| append(&mut Vec::new()));
        appended.map_err(|refused| told(refused, &*self.log.maker().files))
    }

    /// Asks for a commit of this position.
    fn request(&self, position: u64) {
        let mut commits = lock(&self.commits);
        if position > commits.wanted {
            commits.wanted = position;
            self.wake.notify_one();
        }
    }

    /// The commit thread.
    fn run(&self) {
        loop {
            let stopping = {
                let mut commits = lock(&self.commits);
                if !commits.stop && commits.wanted <= self.log.durable() {
                    let wait = self.wake.wait_timeout(commits, self.sync_interval);
                    commits = wait.unwrap_or_else(std::sync::PoisonError::into_inner).0;
                }
                commits.stop
            };
            if stopping {
                return;
            }
            self.drain_touches();
            if self.log.last_change() > self.log.durable() {
                if self.commit().is_err() {
                    self.pause();
                }
            } else {
                self.log.mark();
            }
        }
    }

    /// Waits before a commit that failed is asked for again.
    fn pause(&self) {
        let commits = lock(&self.commits);
        if !commits.stop {
            let _wait = self.wake.wait_timeout(commits, Duration::from_millis(50));
        }
    }

    fn drain_touches(&self) {
        let mut body = Vec::new();
        loop {
            body.clear();
            for _ in 0..TOUCHES_MAX {
                let Some((id, seen_ms)) = self.touches.pop() else { break };
                Touches::append(&mut body, id, seen_ms);
            }
            let Some(touches) = Touches::of(&body).filter(|_| !body.is_empty()) else { return };
            if self.append(&Entry::Touch(touches), Need::Room).is_err() {
                // On a full disk sessions may expire early after the next start.
                return;
            }
        }
    }

    /// Makes durable what there is, and tells those who wait.
    fn commit(&self) -> Result<()> {
        let committed = self.log.commit();
        let mut commits = lock(&self.commits);
        commits.count += 1;
        let result = match committed {
            Ok(_) => Ok(()),
            Err(error) => {
                commits.failures += 1;
                let problem = error.to_string();
                commits.problem = Some(problem.clone());
                Err(Error::NotDurable(problem))
            }
        };
        self.tell(commits);
        result
    }

    fn tell(&self, mut commits: crate::sync::MutexGuard<'_, Commits>) {
        let wakers = std::mem::take(&mut commits.wakers);
        drop(commits);
        self.done.notify_all();
        for waker in wakers {
            // A panic in somebody's waker is not ours.
            contain(|| waker.wake());
        }
    }

    /// A snapshot took the place of what could not be made durable.
    fn mended(&self, upto: u64, turn: &log::Turn) {
        self.log.recover_at(upto, turn);
        let mut commits = lock(&self.commits);
        if !self.log.has_failed() {
            commits.problem = None;
        }
        self.tell(commits);
    }
}

/// What a caller is told.
fn told<F: Files>(refused: Refused, files: &F) -> Error {
    match refused {
        Refused::Full => Error::Full(Limit::Disk),
        Refused::Io(error) => Error::Files { file: files.path(""), doing: "write to", error },
    }
}
