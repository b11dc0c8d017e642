//! Files of the operating system, or on a disk that loses power: so that a test may open a whole
//! store on such a disk.

use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use super::crash::CrashDisk;
use super::faulty::Faulty;
use super::real::{Lock, RealFiles};
use super::{File, Files, Mapping, Pages};

type Simulated = Faulty<CrashDisk>;

/// Either of them; so are its files, their mappings and views.
pub(crate) enum Either<R = RealFiles, S = Simulated> {
    Real(R),
    Simulated(S),
}

/// Does the same with both.
macro_rules! both {
    ($either:expr, $it:ident => $do:expr) => {
        match $either {
            Either::Real($it) => $do,
            Either::Simulated($it) => $do,
        }
    };
}

/// Does something that has another result with each.
macro_rules! each {
    ($either:expr, $it:ident => $do:expr) => {
        match $either {
            Either::Real($it) => $do.map(Either::Real),
            Either::Simulated($it) => $do.map(Either::Simulated),
        }
    };
}

impl Either {
    pub(crate) fn open_dir(path: &Path) -> io::Result<Either> {
        RealFiles::open_dir(path).map(Either::Real)
    }

    #[cfg(feature = "cli")]
    pub(crate) fn open_existing(path: &Path) -> io::Result<Either> {
        RealFiles::open_existing(path).map(Either::Real)
    }

    /// Nobody but the test has a simulated disk.
    pub(crate) fn lock(&self) -> io::Result<Option<Lock>> {
        match self {
            Either::Real(files) => files.lock(),
            Either::Simulated(_) => Ok(None),
        }
    }

    #[cfg(feature = "cli")]
    pub(crate) fn is_locked(&self) -> io::Result<bool> {
        match self {
            Either::Real(files) => files.is_locked(),
            Either::Simulated(_) => Ok(false),
        }
    }
}

impl Files for Either {
    type File = Either<<RealFiles as Files>::File, <Simulated as Files>::File>;

    fn create(&self, name: &str) -> io::Result<Self::File> {
        each!(self, files => files.create(name))
    }

    fn open(&self, name: &str) -> io::Result<Self::File> {
        each!(self, files => files.open(name))
    }

    fn open_to_write(&self, name: &str) -> io::Result<Self::File> {
        each!(self, files => files.open_to_write(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        both!(self, files => files.list())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        both!(self, files => files.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        both!(self, files => files.remove(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        both!(self, files => files.sync_dir())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        both!(self, files => files.free_bytes())
    }

    fn path(&self, name: &str) -> PathBuf {
        both!(self, files => files.path(name))
    }
}

impl<R: File, S: File> File for Either<R, S> {
    type Mapping = Either<R::Mapping, S::Mapping>;
    type View = Either<R::View, S::View>;

    fn len(&self) -> io::Result<u64> {
        both!(self, file => file.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        both!(self, file => file.read_at(buffer, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        both!(self, file => file.write_at(bytes, offset))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        both!(self, file => file.allocate(len))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        both!(self, file => file.set_len(len))
    }

    fn sync(&self) -> io::Result<()> {
        both!(self, file => file.sync())
    }

    fn map(&self, len: usize) -> io::Result<Self::Mapping> {
        each!(self, file => file.map(len))
    }

    fn view(&self) -> io::Result<Self::View> {
        each!(self, file => file.view())
    }

    fn forget_unsynced(&self) {
        both!(self, file => file.forget_unsynced());
    }
}

impl<R: Mapping, S: Mapping> Mapping for Either<R, S> {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        both!(self, mapping => mapping.write(offset, bytes));
    }

    fn pages(&self) -> Option<Pages> {
        both!(self, mapping => mapping.pages())
    }
}

impl<R: Deref<Target = [u8]>, S: Deref<Target = [u8]>> Deref for Either<R, S> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        both!(self, view => view)
    }
}
