//! A store whose sessions survive the process: opened on a directory.

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::migrating::migrate;
use super::restoring::{Restored, Restoring};
use super::{Store, Threads};
use crate::clock::Stopwatch;
use crate::contain::contain;
use crate::data::SessionData;
use crate::error::{Error, Result};
use crate::expiry::ExpiryThread;
use crate::journal::files::real::Lock;
use crate::journal::files::{Files as _, StoreFiles};
use crate::journal::sealing::Seal;
use crate::journal::{Expected, Flush, Journal, Keeping};
use crate::keep::{Load, OnDamage};
use crate::loader::Loader;
use crate::options::{Builder, Options};
use crate::saver::Saver;
use crate::schema::schema_of;
use crate::sessions::{Backing, Brought, Loaded, Saved};
use crate::sync::{Arc, Mutex, lock};

/// How often a lock that somebody else holds is asked for again.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// What opening a store found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The sessions that are there, expired ones included until they are cleared away.
    pub sessions: u64,
    /// Those of them that were in memory when opening returned. The others are served from the
    /// snapshot's file until they are: see [`Load::Mapped`].
    pub in_memory: u64,
    /// The sessions that came from the snapshot, or come from it.
    pub from_snapshot: u64,
    /// The changes that came from the log behind it.
    pub changes: u64,
    /// Bytes behind the end of the log, which were never acknowledged: what a crash leaves.
    pub torn_bytes: u64,
    /// The sessions whose data was made one of the present session type: see
    /// [`Builder::migrate`].
    pub migrated: u64,
    /// The sessions that the migration did not take over.
    pub dropped: u64,
    /// The sessions that were dropped because their data was no archive of their type: see
    /// [`Builder::drop_undecodable`].
    pub undecodable: u64,
    /// Where damaged files were put, if they were.
    pub quarantine: Option<PathBuf>,
    /// How long it took until opening returned, or is about to.
    pub elapsed: Duration,
}

/// How many sessions of the snapshot are in memory: for a progress bar.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The sessions that are in memory so far.
    pub sessions: u64,
    /// The sessions in the snapshot; when the other number is the same, all are in memory. The
    /// log's changes come on top.
    pub sessions_total: u64,
    /// The bytes of the file that were read so far.
    pub bytes: u64,
    /// The bytes that are to be read.
    pub bytes_total: u64,
    /// Since opening began.
    pub elapsed: Duration,
    /// What is wrong with the file, if it turned out to be damaged: then it goes no further, and
    /// the store takes no more writes. See [`Load::Mapped`].
    pub problem: Option<String>,
}

impl Progress {
    /// Of work that counts sessions only, `total` of them at least.
    pub(super) fn counted(sessions: u64, total: u64, elapsed: Duration) -> Progress {
        let sessions_total = total.max(sessions);
        Progress { sessions, sessions_total, bytes: 0, bytes_total: 0, elapsed, problem: None }
    }
}

/// What a store on disk has besides.
pub(super) struct Durable {
    report: RecoveryReport,
    saver: Mutex<Option<Saver>>,
    loader: Mutex<Option<Loader>>,
}

impl<S: SessionData> Builder<S> {
    /// Opens a store whose sessions live in memory and survive the process in `directory`, which
    /// is created if it is not there (its parent is not).
    ///
    /// Returns as soon as sessions can be served: those of the log are read, those of the snapshot
    /// stay in its file, mapped, until a thread has brought them into memory ([`Load::Mapped`]).
    /// Every call works at once, and tells and does the same as later. Those that are about all
    /// sessions (listing, ending all, a snapshot, `reserve`), and a create where the store is full,
    /// wait until all are in memory.
    ///
    /// See [`open_with`](Builder::open_with) for a progress bar, [`Store::recovery`] for what was
    /// found.
    ///
    /// # Errors
    /// [`Error::Locked`] if another store or process uses the directory, [`Error::Damaged`],
    /// [`Error::Unreadable`] for files of another version, session type or layout, of which not a
    /// byte is changed; [`Error::Files`], [`Error::Full`] on a full disk; else as
    /// [`in_memory`](Builder::in_memory).
    ///
    /// # Examples
    /// ```
    /// use cloakroom::{Attributes, Store};
    ///
    /// # let name = format!("cloakroom-doc-{}", std::process::id());
    /// # let directory = std::env::temp_dir().join(name);
    /// let store: Store = Store::builder().open(&directory)?;
    /// let id = store.create(Attributes::from([("cart", 1.into())]))?.id();
    /// store.close()?;
    ///
    /// let store: Store = Store::builder().open(&directory)?;
    /// assert_eq!(store.read(id, |s| s.get_i64("cart"))?, Some(1));
    /// # drop(store);
    /// # let _ = std::fs::remove_dir_all(&directory);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn open(self, directory: impl AsRef<Path>) -> Result<Store<S>> {
        self.open_with(directory, |_| ())
    }

    /// As [`open`](Builder::open), and tells now and then how many sessions of the snapshot are in
    /// memory: from a thread of the store, also when this has returned; with [`Load::Whole`] before
    /// it does. A last time with all of them, or with what stopped it.
    ///
    /// # Errors
    /// As [`open`](Builder::open).
    pub fn open_with(
        self,
        directory: impl AsRef<Path>,
        progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<Store<S>> {
        let watch = Stopwatch::start();
        let options = self.validated()?;
        let (files, held) = claim(directory.as_ref(), options.keep.wait_for_lock)?;
        open_on(options, &files, held, watch, progress)
    }
}

/// Opens a store on files that nobody else uses, for as long as it keeps what is `held`.
pub(super) fn open_on<S: SessionData>(
    options: Options,
    files: &Arc<StoreFiles>,
    held: impl std::any::Any + Send,
    watch: Stopwatch,
    mut progress: impl FnMut(Progress) + Send + 'static,
) -> Result<Store<S>> {
    let keep = options.keep.clone();
    let wants_thread = options.expiry_thread;
    let seal = Seal::of(keep.keys.as_ref());
    let expected = Expected { schema: schema_of::<S>(keep.schema), seal: &seal };
    let mut report = RecoveryReport::default();
    let may_start_empty = keep.on_damage == OnDamage::QuarantineAndStartEmpty;
    let load = if may_start_empty { Load::Whole } else { keep.load };
    let restoring = Restoring { files, expected, load, watch: &watch };
    let restored = migrate::<S>(files, &options, &watch, &mut report, &mut progress)
        .and_then(|()| restoring.run::<S>(options.clone(), &mut report, &mut progress));
    let restored = match restored {
        Err(Error::Damaged { .. }) if may_start_empty => {
            report = RecoveryReport {
                quarantine: Some(quarantine(files)?),
                ..RecoveryReport::default()
            };
            restoring.run::<S>(options, &mut report, &mut progress)?
        }
        restored => restored?,
    };
    let Restored { sessions, survey, calendar, backing } = restored;
    let keeping = Keeping {
        durability: keep.durability,
        sync_interval: keep.sync_interval,
        segment_bytes: keep.segment_bytes,
        append: keep.append,
        schema: expected.schema,
        seal: seal.clone(),
    };
    let journal = Journal::open(Arc::clone(files), &survey, keeping, calendar)?;
    journal.hold(held);
    let (generation, log_bytes) = (survey.generation, survey.log_bytes());
    drop(survey);
    let _ = sessions.journal.set(journal);
    let expiry = wants_thread.then(|| ExpiryThread::start(&sessions)).transpose()?;
    let saver = Saver::start(&sessions, generation, log_bytes, keep.snapshot_bytes)?;
    report.elapsed = watch.elapsed();
    let loader = match backing.filter(|_| keep.loader_thread) {
        Some(backing) => {
            let told = move |backing: &Backing, error: Option<&Error>| {
                let so_far = progress_of(backing, &watch, error);
                contain(|| progress(so_far));
            };
            Some(Loader::start(&sessions, backing, told)?)
        }
        None => None,
    };
    let (saver, loader) = (Mutex::new(Some(saver)), Mutex::new(loader));
    let durable = Durable { report, saver, loader };
    let closing = Arc::clone(&sessions.closing);
    let threads = Arc::new(Threads { closing, expiry: Mutex::new(expiry), durable: Some(durable) });
    Ok(Store { sessions, threads, data: PhantomData })
}

/// How far the loader is.
fn progress_of(backing: &Backing, watch: &Stopwatch, error: Option<&Error>) -> Progress {
    let Loaded { sessions, sessions_total, bytes, bytes_total } = backing.loaded();
    let (elapsed, problem) = (watch.elapsed(), error.map(Error::to_string));
    Progress { sessions, sessions_total, bytes, bytes_total, elapsed, problem }
}

/// Takes the directory for this store alone.
fn claim(directory: &Path, wait: Duration) -> Result<(Arc<StoreFiles>, Lock)> {
    let io = |doing| {
        let file = directory.to_owned();
        move |error| Error::Files { file, doing, error }
    };
    let files = StoreFiles::open_dir(directory).map_err(io("open"))?;
    let watch = Stopwatch::start();
    loop {
        if let Some(held) = files.lock().map_err(io("lock"))? {
            return Ok((Arc::new(files), held));
        }
        if watch.elapsed() >= wait {
            return Err(Error::Locked { directory: directory.to_owned() });
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

/// Renames whatever is there, so that nothing of it is read again.
fn quarantine(files: &StoreFiles) -> Result<PathBuf> {
    let io = |error| Error::Files { file: files.path(""), doing: "quarantine files in", error };
    let names = files.list().map_err(io)?;
    let number = (0_u32..)
        .find(|number| {
            let prefix = format!("quarantine-{number}-");
            !names.iter().any(|name| name.starts_with(&prefix))
        })
        .unwrap_or_default();
    for name in
        names.iter().filter(|name| name.starts_with("log-") || name.starts_with("snapshot-"))
    {
        files.rename(name, &format!("quarantine-{number}-{name}")).map_err(io)?;
    }
    files.sync_dir().map_err(io)?;
    Ok(files.path(&format!("quarantine-{number}-*")))
}

impl<S> Store<S> {
    /// Whatever was written before this call, to be waited for until it is durable: await it, or
    /// call [`wait`](Flush::wait). Asks for a sync at once; all who wait share it.
    ///
    /// For a store in memory there is nothing to wait for.
    pub fn flush(&self) -> Flush {
        self.sessions.journal.get().map_or_else(Flush::nothing, Journal::flush)
    }

    /// Writes all sessions to a snapshot now, so that the log before it can go: takes a moment for
    /// each, in the background of whatever else happens. The store does so by itself when the log
    /// gets long ([`Builder::snapshot_bytes`]). None for a store in memory.
    ///
    /// # Errors
    /// [`Error::Files`], [`Error::Full`]: then the files are as they were. [`Error::Forked`].
    pub fn snapshot(&self) -> Result<Option<Saved>> {
        let Some(durable) = &self.threads.durable else { return Ok(None) };
        let saver = lock(&durable.saver);
        match &*saver {
            Some(saver) => saver.save(&self.sessions).map(Some),
            None => Ok(None),
        }
    }

    /// What opening the store found; None for a store in memory.
    pub fn recovery(&self) -> Option<&RecoveryReport> {
        self.threads.durable.as_ref().map(|durable| &durable.report)
    }

    /// Brings some of the sessions into memory that only the snapshot's file has, so many at most;
    /// whether there are more. For tests, in stores without a thread for it.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Full`].
    #[doc(hidden)]
    pub fn load_some(&self, count_max: usize) -> Result<bool> {
        match self.sessions.backing() {
            Some(backing) => Ok(self.sessions.bring_some(&backing, count_max)? == Brought::Some),
            None => Ok(false),
        }
    }

    /// Makes everything durable and tells whether that worked. Other handles of the store go on
    /// to read; their writes fail once the last handle is gone, as they are then too.
    ///
    /// # Errors
    /// [`Error::NotDurable`], [`Error::Forked`].
    pub fn close(self) -> Result<()> {
        if let Some(journal) = self.sessions.journal.get() {
            journal.flush().wait()?;
        }
        Ok(())
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if let Some(mut loader) = lock(&self.loader).take() {
            loader.stop();
        }
        if let Some(mut saver) = lock(&self.saver).take() {
            saver.stop();
        }
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sessions ({} from the snapshot, {} changes from the log) in {:.0?}",
            self.sessions, self.from_snapshot, self.changes, self.elapsed
        )?;
        let left = self.sessions - self.in_memory.min(self.sessions);
        let parts = [
            (left, "of them from its file until they are in memory"),
            (self.migrated, "migrated to the present session type"),
            (self.dropped, "dropped by the migration"),
            (self.undecodable, "dropped as undecodable"),
        ];
        for (count, what) in parts.into_iter().filter(|&(count, _)| count > 0) {
            write!(f, ", {count} {what}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::Attributes;
    use crate::options::Builder;

    /// The store's last handle goes while a snapshot is written: nobody waits for the rest of it,
    /// and the files are as if it had never been begun.
    #[test]
    fn a_snapshot_is_given_up_when_the_store_closes() {
        let directory =
            std::env::temp_dir().join(format!("cloakroom-given-up-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        let open = || Builder::<Attributes>::new().open(&directory).unwrap();
        let snapshots = || {
            let names =
                std::fs::read_dir(&directory).unwrap().map(|file| file.unwrap().file_name());
            names.filter(|name| name.to_string_lossy().starts_with("snapshot-")).collect::<Vec<_>>()
        };
        let store = open();
        let id = store.create(Attributes::new()).unwrap().id();
        store.snapshot().unwrap().unwrap();
        let before = snapshots();
        let other = store.create(Attributes::new()).unwrap().id();
        store.sessions.closing.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(matches!(store.snapshot(), Err(crate::Error::Files { .. })));
        assert_eq!(snapshots(), before);
        drop(store);

        let store = open();
        assert_eq!((store.peek(id, |_| ()), store.peek(other, |_| ())), (Ok(()), Ok(())));
        drop(store);
        let _ = std::fs::remove_dir_all(&directory);
    }
}
