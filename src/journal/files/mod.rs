//! The files of a journal, as few operations as it can do with.
//!
//! The journal is generic over them, so the way to the operating system ([`real`]) costs nothing.
//! Tests put others in their place: `crash` loses power, `faulty` makes calls fail.
//!
//! What an operation leaves behind, as far as a journal may rely on it:
//!
//! | done | survives `kill -9` | survives power loss |
//! |---|---|---|
//! | `write_at`, `Mapping::write`, `set_len`, `allocate` | at once | after `sync` of the file |
//! | `create`, `rename`, `remove` | at once | after `sync_dir` |
//!
//! Before that, each of them may be there or not, whatever became of the others: data without the
//! length, the length without data, a part of the data, a later rename without an earlier remove.
//! Only a rename is never half done. After a failed `sync` nothing is known of what it was to make
//! durable, also when a later one succeeds: never retry it, write to a new file.

#[cfg(test)]
pub(crate) mod crash;
#[cfg(test)]
pub(crate) mod either;
#[cfg(test)]
pub(crate) mod faulty;
pub(crate) mod real;

use std::io;
use std::ops::Deref;
use std::path::PathBuf;

pub(crate) use real::Pages;

/// One directory in which a journal keeps its files. Names are plain: no path of several parts.
pub(crate) trait Files: Send + Sync + 'static {
    type File: File;

    /// Creates a file that does not exist, to be read and written: mode 0600 from birth, never
    /// through a symbolic link, close-on-exec.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens for reading only. Refuses symbolic links and what is no regular file.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Opens for reading and writing. Refuses what [`Files::open`] refuses.
    #[cfg_attr(not(test), allow(dead_code, reason = "for the tests of the files"))]
    fn open_to_write(&self, name: &str) -> io::Result<Self::File>;

    /// The names of whatever is in the directory, sorted. Names that are not UTF-8 are left out.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Renames, in the place of whatever had the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all that was created, renamed and removed durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// How many bytes an unprivileged user may still use.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Where a file is, for the texts of errors.
    fn path(&self, name: &str) -> PathBuf;
}

/// An open file.
pub(crate) trait File: Send + Sync + 'static {
    type Mapping: Mapping;
    type View: Deref<Target = [u8]> + Send + Sync + 'static;

    fn len(&self) -> io::Result<u64>;

    /// Fills the buffer, or fails with `UnexpectedEof`.
    #[cfg_attr(not(test), allow(dead_code, reason = "for the tests of the files"))]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of it: interrupted and short writes go on, one without progress is an error.
    /// After an error any part may have been written; to write the same again there is safe.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the file at least this long with its blocks reserved, so that no write inside meets
    /// a full disk. Contents stay, what is new reads as zeroes. Slow where the file system cannot
    /// reserve: zeroes are written then. After an error the file may be longer than before.
    fn allocate(&self, len: u64) -> io::Result<()>;

    #[cfg_attr(not(test), allow(dead_code, reason = "for the tests of the files"))]
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes data and length durable, also of what was written through a mapping before.
    fn sync(&self) -> io::Result<()>;

    /// Maps the first `len` bytes for one writer. They must be [allocated](File::allocate), and
    /// stay: a write to a page that the file does not have kills the process.
    fn map(&self, len: usize) -> io::Result<Self::Mapping>;

    /// Maps the whole file for reading. From then on nobody may change it, by whatever handle or
    /// mapping, for as long as the view lives: only files that are complete are viewed.
    fn view(&self) -> io::Result<Self::View>;

    /// What the operating system does to data that a failed [`File::sync`] did not write: it
    /// calls it clean, so that no later one writes it either. For the simulators.
    #[cfg(test)]
    fn forget_unsynced(&self) {}
}

/// The files of a store.
#[cfg(not(test))]
pub(crate) type StoreFiles = real::RealFiles;
/// The files of a store, which may be on a disk that loses power.
#[cfg(test)]
pub(crate) type StoreFiles = either::Either;

/// The first bytes of a file in memory, writable. May outlive the file's handle.
pub(crate) trait Mapping: Send + 'static {
    /// Copies `bytes` in. Panics when they do not fit.
    fn write(&mut self, offset: usize, bytes: &[u8]);

    /// Its pages, for another thread to touch; None where nothing is gained by that.
    fn pages(&self) -> Option<Pages> {
        None
    }
}
