//! Files whose operations fail when a test wants them to.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{File, Files, Mapping, Pages};

/// The kinds of operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Create,
    Open,
    OpenToWrite,
    List,
    Rename,
    Remove,
    SyncDir,
    FreeBytes,
    Len,
    Read,
    Write,
    Allocate,
    SetLen,
    Sync,
    Map,
    View,
    /// [`Mapping::write`]. It cannot fail: in the place of an error it does nothing, as if the
    /// process had been gone.
    MappedWrite,
}

impl Kind {
    pub(crate) const ALL: [Kind; 17] = [
        Kind::Create,
        Kind::Open,
        Kind::OpenToWrite,
        Kind::List,
        Kind::Rename,
        Kind::Remove,
        Kind::SyncDir,
        Kind::FreeBytes,
        Kind::Len,
        Kind::Read,
        Kind::Write,
        Kind::Allocate,
        Kind::SetLen,
        Kind::Sync,
        Kind::Map,
        Kind::View,
        Kind::MappedWrite,
    ];

    /// Those that change what is on the disk, or make it durable. When all of them
    /// [halt](Fault::Halt) for ever from the k-th on, a crash image taken at leisure is that of a
    /// loss of power just before the k-th.
    pub(crate) const CHANGING: [Kind; 9] = [
        Kind::Create,
        Kind::Rename,
        Kind::Remove,
        Kind::SyncDir,
        Kind::Write,
        Kind::Allocate,
        Kind::SetLen,
        Kind::Sync,
        Kind::MappedWrite,
    ];
}

/// How an operation fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// `EIO`. Nothing was done; a sync loses what it was to write, for this and all later ones.
    Eio,
    /// `ENOSPC`. Else like `EIO`.
    Enospc,
    /// `EDQUOT`. Else like `EIO`.
    Edquot,
    /// `EIO`, as if the process ended just before: nothing was done, a sync loses nothing.
    Halt,
    /// `EIO`, after all was done.
    Late,
    /// `ENOSPC`, after the first half of a write or allocation was done.
    ShortWrite,
}

impl Fault {
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Fault::Eio | Fault::Halt | Fault::Late => libc::EIO,
            Fault::Enospc | Fault::ShortWrite => libc::ENOSPC,
            Fault::Edquot => libc::EDQUOT,
        })
    }
}

/// How often a fault comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Times {
    Once,
    /// At that operation and at every later one of its kinds.
    ForEver,
}

/// Any files, with faults. A clone is the same one.
#[derive(Clone)]
pub(crate) struct Faulty<F> {
    inner: F,
    faults: Faults,
}

#[derive(Clone, Default)]
struct Faults(Arc<Mutex<Plans>>);

#[derive(Default)]
struct Plans {
    counts: [u64; Kind::ALL.len()],
    plans: Vec<Plan>,
    fired: u64,
    watcher: Option<Watcher>,
    after_sync: Option<Watcher>,
}

/// Told of an operation.
type Watcher = Arc<dyn Fn(Kind) + Send + Sync>;

struct Plan {
    kinds: Vec<Kind>,
    /// So many more operations of its kinds until it comes; then 0.
    left: u64,
    times: Times,
    fault: Fault,
}

impl<F> Faulty<F> {
    pub(crate) fn new(inner: F) -> Faulty<F> {
        Faulty { inner, faults: Faults::default() }
    }

    pub(crate) fn inner(&self) -> &F {
        &self.inner
    }

    /// Lets an operation fail: the `ordinal`-th of these kinds from now on, where 1 is the next.
    /// Faults that were planned before stay.
    pub(crate) fn fail(&self, kinds: &[Kind], ordinal: u64, times: Times, fault: Fault) {
        assert!(ordinal > 0, "the next operation is number 1");
        let plan = Plan { kinds: kinds.to_vec(), left: ordinal, times, fault };
        self.faults.lock().plans.push(plan);
    }

    /// No more faults.
    pub(crate) fn heal(&self) {
        self.faults.lock().plans.clear();
    }

    /// Calls back before each operation; in the middle of things, so with locks held.
    pub(crate) fn watch(&self, watcher: impl Fn(Kind) + Send + Sync + 'static) {
        self.faults.lock().watcher = Some(Arc::new(watcher));
    }

    /// Calls back after each sync of a file that went well.
    pub(crate) fn watch_synced(&self, watcher: impl Fn(Kind) + Send + Sync + 'static) {
        self.faults.lock().after_sync = Some(Arc::new(watcher));
    }

    /// How many operations of a kind there were, those that failed among them.
    pub(crate) fn count(&self, kind: Kind) -> u64 {
        self.faults.lock().counts[kind as usize]
    }

    /// How many operations of these kinds there were.
    pub(crate) fn count_all(&self, kinds: &[Kind]) -> u64 {
        kinds.iter().map(|&kind| self.count(kind)).sum()
    }

    /// How many operations failed by a fault of this.
    pub(crate) fn fired(&self) -> u64 {
        self.faults.lock().fired
    }
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Plans> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation; its fault, if it is to fail. Of several that are due the first
    /// planned one counts.
    fn begin(&self, kind: Kind) -> Option<Fault> {
        let watcher = self.lock().watcher.clone();
        if let Some(watcher) = watcher {
            watcher(kind);
        }
        let mut plans = self.lock();
        plans.counts[kind as usize] += 1;
        let mut due = None;
        plans.plans.retain_mut(|plan| {
            if plan.kinds.contains(&kind) {
                plan.left = plan.left.saturating_sub(1);
                if plan.left == 0 {
                    due = due.or(Some(plan.fault));
                    return plan.times == Times::ForEver;
                }
            }
            true
        });
        plans.fired += u64::from(due.is_some());
        due
    }

    fn check(&self, kind: Kind) -> io::Result<()> {
        self.begin(kind).map_or(Ok(()), |fault| Err(fault.error()))
    }

    /// Does an operation that may fail late.
    fn act<T>(&self, kind: Kind, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.begin(kind) {
            None => act(),
            Some(Fault::Late) => act().and_then(|_| Err(Fault::Late.error())),
            Some(fault) => Err(fault.error()),
        }
    }
}

impl<F: Files> Faulty<F> {
    fn file(&self, inner: F::File) -> FaultyFile<F::File> {
        FaultyFile { inner, faults: self.faults.clone() }
    }
}

impl<F: Files> Files for Faulty<F> {
    type File = FaultyFile<F::File>;

    fn create(&self, name: &str) -> io::Result<Self::File> {
        self.faults.act(Kind::Create, || Ok(self.file(self.inner.create(name)?)))
    }

    fn open(&self, name: &str) -> io::Result<Self::File> {
        self.faults.check(Kind::Open)?;
        Ok(self.file(self.inner.open(name)?))
    }

    fn open_to_write(&self, name: &str) -> io::Result<Self::File> {
        self.faults.check(Kind::OpenToWrite)?;
        Ok(self.file(self.inner.open_to_write(name)?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.faults.check(Kind::List)?;
        self.inner.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.faults.act(Kind::Rename, || self.inner.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.faults.act(Kind::Remove, || self.inner.remove(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.faults.act(Kind::SyncDir, || self.inner.sync_dir())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.faults.check(Kind::FreeBytes)?;
        self.inner.free_bytes()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.inner.path(name)
    }
}

/// An open file, with faults.
pub(crate) struct FaultyFile<F> {
    inner: F,
    faults: Faults,
}

impl<F: File> File for FaultyFile<F> {
    type Mapping = FaultyMapping<F::Mapping>;
    type View = F::View;

    fn len(&self) -> io::Result<u64> {
        self.faults.check(Kind::Len)?;
        self.inner.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.faults.check(Kind::Read)?;
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let Some(fault) = self.faults.begin(Kind::Write) else {
            return self.inner.write_at(bytes, offset);
        };
        match fault {
            Fault::ShortWrite => self.inner.write_at(&bytes[..bytes.len() / 2], offset)?,
            Fault::Late => self.inner.write_at(bytes, offset)?,
            _ => {}
        }
        Err(fault.error())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let Some(fault) = self.faults.begin(Kind::Allocate) else {
            return self.inner.allocate(len);
        };
        match fault {
            Fault::ShortWrite => self.inner.allocate(len / 2)?,
            Fault::Late => self.inner.allocate(len)?,
            _ => {}
        }
        Err(fault.error())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.act(Kind::SetLen, || self.inner.set_len(len))
    }

    fn sync(&self) -> io::Result<()> {
        if let Some(fault) = self.faults.begin(Kind::Sync) {
            match fault {
                Fault::Halt => {}
                Fault::Late => self.inner.sync()?,
                _ => self.inner.forget_unsynced(),
            }
            return Err(fault.error());
        }
        self.inner.sync()?;
        let watcher = self.faults.lock().after_sync.clone();
        watcher.into_iter().for_each(|watcher| watcher(Kind::Sync));
        Ok(())
    }

    fn map(&self, len: usize) -> io::Result<Self::Mapping> {
        self.faults.check(Kind::Map)?;
        Ok(FaultyMapping { inner: self.inner.map(len)?, faults: self.faults.clone() })
    }

    fn view(&self) -> io::Result<Self::View> {
        self.faults.check(Kind::View)?;
        self.inner.view()
    }

    fn forget_unsynced(&self) {
        self.inner.forget_unsynced();
    }
}

/// A mapping whose writes may get lost.
pub(crate) struct FaultyMapping<M> {
    inner: M,
    faults: Faults,
}

impl<M: Mapping> Mapping for FaultyMapping<M> {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        if self.faults.begin(Kind::MappedWrite).is_none() {
            self.inner.write(offset, bytes);
        }
    }

    fn pages(&self) -> Option<Pages> {
        self.inner.pages()
    }
}

#[cfg(test)]
mod tests;
