//! The operating system's files: one directory, held open.
//!
//! Everything goes by the directory's descriptor, so that it does no harm when somebody renames
//! the directory, or puts another in its place, while it is in use.
//!
//! Who can write to a file here is the process's own user or root, and nobody else:
//! (1) the directory belongs to one of them, and group and others may not write to it;
//! (2) so do the files: made with mode 0600, and checked when opened;
//! (3) no name is followed through a symbolic link.
//! Stores keep out of each other's way by [`RealFiles::lock`].
#![allow(unsafe_code, reason = "mapped files: others can change them, the log writes by address")]

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use memmap2::{Mmap, MmapOptions, MmapRaw};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::{File, Files, Mapping};

/// The name of the file that [`RealFiles::lock`] locks. It is never renamed or removed.
pub(crate) const LOCK_NAME: &str = "lock";

/// How often locking starts again because somebody removed the lock file meanwhile.
const LOCK_ATTEMPTS: u32 = 16;
/// Who only asks whether the directory is locked has the lock for a moment. So somebody who finds
/// it taken asks again so often, after such pauses.
const LOCK_SECOND_TRIES: u32 = 4;
const LOCK_PAUSE: Duration = Duration::from_millis(2);

const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A directory of the operating system.
pub(crate) struct RealFiles {
    dir: fs::File,
    path: PathBuf,
}

impl RealFiles {
    /// Opens a directory, or creates it with mode 0700.
    ///
    /// Its parent must exist: a missing one is a wrong path, or a volume that is not mounted, and
    /// sessions in a place that nobody meant would be lost with the next start. The path itself
    /// may lead through symbolic links, since where it ends is checked.
    ///
    /// # Errors
    /// Refuses what is no directory, what belongs to neither this process's user nor root, and
    /// what group or others may write to.
    pub(crate) fn open_dir(path: &Path) -> io::Result<RealFiles> {
        match rustix::fs::mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) => sync_parent(path)?,
            // Whoever created it may have died before that. Not every file system can do it.
            Err(Errno::EXIST) => drop(sync_parent(path)),
            Err(Errno::NOENT) => {
                return Err(refused(io::ErrorKind::NotFound, path, "its parent does not exist"));
            }
            Err(error) => return Err(error.into()),
        }
        RealFiles::open_existing(path)
    }

    /// Opens a directory that is there. Changes nothing.
    ///
    /// # Errors
    /// As [`RealFiles::open_dir`].
    pub(crate) fn open_existing(path: &Path) -> io::Result<RealFiles> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = match retry_on_intr(|| rustix::fs::openat(CWD, path, flags, Mode::empty())) {
            Ok(dir) => fs::File::from(dir),
            Err(Errno::NOTDIR) => {
                return Err(refused(io::ErrorKind::NotADirectory, path, "it is no directory"));
            }
            Err(error) => return Err(error.into()),
        };
        check_access(&dir.metadata()?, path)?;
        Ok(RealFiles { dir, path: path.to_owned() })
    }

    /// Locks the directory for this handle; None when another holder has it, be it in this
    /// process. The operating system gives it back when the process ends, however it ends.
    pub(crate) fn lock(&self) -> io::Result<Option<Lock>> {
        let flags = OFlags::RDWR | OFlags::CREATE;
        let mut tries = 0;
        for _ in 0..LOCK_ATTEMPTS {
            let file = self.open_with(LOCK_NAME, flags)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) if tries < LOCK_SECOND_TRIES => {
                    tries += 1;
                    std::thread::sleep(LOCK_PAUSE);
                    continue;
                }
                Err(fs::TryLockError::WouldBlock) => return Ok(None),
                Err(fs::TryLockError::Error(error)) => return Err(error),
            }
            // Somebody may have removed the file after it was opened here: then the next to come
            // would create another one, and lock that.
            if self.is_named(LOCK_NAME, &file)? {
                return Ok(Some(Lock { file, process: std::process::id() }));
            }
        }
        let path = self.path(LOCK_NAME);
        Err(refused(io::ErrorKind::Other, &path, "somebody keeps removing it"))
    }

    /// Whether a store has the directory now. Makes no lock file, and keeps no lock.
    #[cfg(feature = "cli")]
    pub(crate) fn is_locked(&self) -> io::Result<bool> {
        let file = match self.open_with(LOCK_NAME, OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        match file.try_lock_shared() {
            // Closing the file would give it back as well.
            Ok(()) => file.unlock().map(|()| false),
            Err(fs::TryLockError::WouldBlock) => Ok(true),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether a name leads to this very file.
    fn is_named(&self, name: &str, file: &fs::File) -> io::Result<bool> {
        match self.open_with(name, OFlags::RDONLY).and_then(|named| named.metadata()) {
            Ok(named) => {
                let file = file.metadata()?;
                Ok((named.dev(), named.ino()) == (file.dev(), file.ino()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Opens a regular file of this directory, not waiting for the other end of a pipe.
    fn open_with(&self, name: &str, flags: OFlags) -> io::Result<fs::File> {
        check_name(name)?;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = match retry_on_intr(|| rustix::fs::openat(&self.dir, name, flags, mode)) {
            Ok(file) => fs::File::from(file),
            // The second on FreeBSD.
            Err(Errno::LOOP | Errno::MLINK) => {
                let path = self.path(name);
                return Err(refused(io::ErrorKind::InvalidInput, &path, "it is a symbolic link"));
            }
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            let path = self.path(name);
            return Err(refused(io::ErrorKind::InvalidInput, &path, "it is no regular file"));
        }
        check_access(&metadata, &self.path(name))?;
        Ok(file)
    }
}

/// Makes a directory's own name durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    match fs::File::open(parent) {
        Ok(dir) => dir.sync_all(),
        // To create a name there takes less than to open it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

fn check_name(name: &str) -> io::Result<()> {
    if matches!(name, "" | "." | "..") || name.contains('/') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("no plain name: {name:?}"),
        ));
    }
    Ok(())
}

/// Refuses what others than this process's user and root may change.
fn check_access(metadata: &fs::Metadata, path: &Path) -> io::Result<()> {
    let user = rustix::process::geteuid().as_raw();
    let owner = metadata.uid();
    if owner != user && owner != 0 {
        let text = format!("it belongs to user {owner}, but this process runs as user {user}");
        return Err(refused(io::ErrorKind::PermissionDenied, path, &text));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & WRITABLE_BY_OTHERS != 0 {
        let text = format!("group or others may write to it (mode {mode:03o}): chmod go-w");
        return Err(refused(io::ErrorKind::PermissionDenied, path, &text));
    }
    Ok(())
}

fn refused(kind: io::ErrorKind, path: &Path, why: &str) -> io::Error {
    io::Error::new(kind, format!("{} is not used: {why}", path.display()))
}

impl Files for RealFiles {
    type File = RealFile;

    fn create(&self, name: &str) -> io::Result<RealFile> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        Ok(RealFile { file: self.open_with(name, flags)? })
    }

    fn open(&self, name: &str) -> io::Result<RealFile> {
        Ok(RealFile { file: self.open_with(name, OFlags::RDONLY)? })
    }

    fn open_to_write(&self, name: &str) -> io::Result<RealFile> {
        Ok(RealFile { file: self.open_with(name, OFlags::RDWR)? })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.dir)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        Ok(rustix::fs::renameat(&self.dir, from, &self.dir, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        Ok(rustix::fs::unlinkat(&self.dir, name, AtFlags::empty())?)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.dir.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// A locked directory, until it is dropped.
pub(crate) struct Lock {
    file: fs::File,
    process: u32,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A forked child shares the lock. It would keep it alive if the file were only closed
        // here; and it must not give it back when it drops its own copy.
        if self.process == std::process::id() {
            // When that fails, closing the file gives it back.
            let _ = self.file.unlock();
        }
    }
}

/// An open file of the operating system.
pub(crate) struct RealFile {
    file: fs::File,
}

/// How many bytes are written at once where blocks cannot be reserved.
const FILL_BYTES: usize = 256 << 10;

impl RealFile {
    /// Reserves blocks; false where the file system cannot. On those that copy on write, such as
    /// btrfs, it holds for the first write to each block only; ZFS promises nothing at all.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn reserve(&self, len: u64) -> io::Result<bool> {
        let flags = rustix::fs::FallocateFlags::empty();
        match retry_on_intr(|| rustix::fs::fallocate(&self.file, flags, 0, len)) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Other systems have other calls, which differ in what they promise.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn reserve(&self, _len: u64) -> io::Result<bool> {
        Ok(false)
    }

    /// Writes every byte up to `len`: what is there again, so that holes are filled too, and
    /// zeroes behind it.
    fn fill(&self, len: u64) -> io::Result<()> {
        let end = self.len()?;
        let mut buffer = vec![0; FILL_BYTES];
        let mut at = 0;
        while at < len {
            let chunk_len = (len - at).min(FILL_BYTES as u64);
            let there = end.saturating_sub(at).min(chunk_len) as usize;
            let chunk = &mut buffer[..chunk_len as usize];
            chunk[there..].fill(0);
            self.file.read_exact_at(&mut chunk[..there], at)?;
            self.file.write_all_at(chunk, at)?;
            at += chunk_len;
        }
        Ok(())
    }
}

impl File for RealFile {
    type Mapping = RealMapping;
    type View = Mmap;

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 || self.reserve(len)? { Ok(()) } else { self.fill(len) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    /// `fdatasync`. Linux counts the dirty pages of a mapping among the file's own.
    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn map(&self, len: usize) -> io::Result<RealMapping> {
        if self.len()? < len as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "mapped beyond the file's end",
            ));
        }
        // No reference to its bytes is ever made. Whoever cuts the file off from outside kills the
        // process by SIGBUS.
        let map = MmapOptions::new().len(len).map_raw(&self.file)?;
        #[cfg(target_os = "linux")]
        // What it holds are sessions: left out of core dumps where the kernel can do that.
        let _ = map.advise(memmap2::Advice::DontDump);
        Ok(RealMapping { map: Arc::new(map) })
    }

    fn view(&self) -> io::Result<Mmap> {
        // SAFETY: the bytes must not be changed, nor cut off, while the view exists. (1) Outside
        // of this process only its own user and root can: `check_access` at the directory and at
        // the file, no symbolic links, mode 0600. Other stores of that user keep out by the lock
        // of the directory, and none writes to a file that it did not begin. (2) In this process
        // nobody writes to a file once it is viewed: `File::view` asks that of the caller, and
        // `CrashDisk` panics in a test that does it. Removing or replacing the name does not
        // touch the file. (3) An administrator who overwrites it in place all the same gives
        // readers wrong bytes, which is why they check sums before they believe them; who cuts it
        // off kills the process by SIGBUS. No check in here could prevent either.
        let map = unsafe { MmapOptions::new().map(&self.file) }?;
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::DontDump);
        Ok(map)
    }
}

/// The first bytes of a file, mapped.
pub(crate) struct RealMapping {
    map: Arc<MmapRaw>,
}

impl Mapping for RealMapping {
    #[inline]
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let len = self.map.len();
        let fits = offset <= len && bytes.len() <= len - offset;
        assert!(fits, "{} bytes at {offset} of a mapping of {len}", bytes.len());
        let place = self.map.as_mut_ptr().wrapping_add(offset);
        // SAFETY: (1) The place is inside of the mapping, which was just checked, and mapped as
        // long as `self.map` lives. (2) Nothing else in this process reads or writes it meanwhile:
        // `RealMapping` is not cloned and `self` is borrowed mutably, that there is one mapping of
        // a file that is written is what `File::map` asks of the caller, and `Pages`, which share
        // the address, only ask the kernel for pages, which leaves the bytes as they are. (3) So
        // `bytes`, a reference to memory of this process, is not in there either: nobody can make
        // one that is.
        unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    fn pages(&self) -> Option<Pages> {
        cfg!(target_os = "linux").then(|| Pages { map: Arc::clone(&self.map) })
    }
}

/// The pages of a mapping, which stays mapped meanwhile.
pub(crate) struct Pages {
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "never made there"))]
    map: Arc<MmapRaw>,
}

impl Pages {
    /// Touches a range beforehand, so that a later write does not fault. What is beyond the end is
    /// ignored. Costs about a microsecond a page.
    pub(crate) fn touch(&self, offset: usize, len: usize) {
        #[cfg(target_os = "linux")]
        {
            let offset = offset.min(self.map.len());
            let len = len.min(self.map.len() - offset);
            // Refused by kernels before 5.14, which changes speed only.
            let _ = self.map.advise_range(memmap2::Advice::PopulateWrite, offset, len);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, len);
    }
}

#[cfg(test)]
pub(crate) mod tests;
