//! A disk in memory that loses power: the worst that a file system may make of it.
//!
//! ```text
//!            content  = what processes read
//!  write --> unsynced = every change since the last sync, in order
//!   sync --> durable  = what is on the medium for certain
//! ```
//! The same for the names of the directory. [`CrashDisk::crash_image`] is `durable` with a part of
//! `unsynced`, drawn by a generator: the same seed draws the same image. What it may do:
//!
//! - Each write is there, lost, torn at a byte, or torn into sectors, each of which is there,
//!   lost, zeroed or garbage. Garbage covers bytes that the write was to change, never those
//!   beside them: a drive does not break the rest of a sector (SQLite assumes the same).
//! - What was written through mappings is there by pages, each in the state of any moment.
//! - The file's length has gone as far as any one of its changes, whatever became of the data.
//! - Each create, rename and remove is there or lost. It does nothing where an earlier one that
//!   it builds on is lost: a file whose create is lost is gone, also under a later name.
//!
//! Rules of [`File`] that the operating system cannot check are checked here, by a panic: a file
//! that is viewed does not change, what is mapped is allocated and stays.
//!
//! Content that has not changed is shared by all images, so one costs about a copy of what has.

mod fate;
mod inode;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{File, Files, Mapping};
pub(crate) use fate::Random;
use fate::{Fate, Mood};
use inode::{Change, Inode, Use};

/// Longer files are a bug of the test, or of what is tested.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// The disk; a clone is the same one.
#[derive(Clone)]
pub(crate) struct CrashDisk {
    state: Arc<Mutex<State>>,
}

type Names = BTreeMap<Arc<str>, u64>;

#[derive(Clone)]
struct State {
    /// Files by their number, also those without a name that are open or may come back.
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: Names,
    durable_names: Names,
    unsynced_names: Vec<NameChange>,
    free_bytes: u64,
}

#[derive(Clone)]
enum NameChange {
    Create { name: Arc<str>, inode: u64 },
    Rename { from: Arc<str>, to: Arc<str>, inode: u64 },
    Remove { name: Arc<str>, inode: u64 },
}

impl CrashDisk {
    pub(crate) fn new() -> CrashDisk {
        CrashDisk::with(State {
            inodes: BTreeMap::new(),
            next_inode: 0,
            names: Names::new(),
            durable_names: Names::new(),
            unsynced_names: Vec::new(),
            free_bytes: 1 << 40,
        })
    }

    fn with(state: State) -> CrashDisk {
        CrashDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// What [`Files::free_bytes`] says from now on. The disk itself never gets full.
    pub(crate) fn set_free_bytes(&self, bytes: u64) {
        lock(&self.state).free_bytes = bytes;
    }

    /// Lets the system need the memory of its cache: of files of which a sync has failed, what it
    /// did not write is gone.
    pub(crate) fn evict(&self) {
        lock(&self.state).inodes.values_mut().for_each(Inode::evict);
    }

    /// Another disk, with what a loss of power at this moment may leave of this one.
    pub(crate) fn crash_image(&self, random: &mut Random) -> CrashDisk {
        let state = lock(&self.state);
        let mut names = state.durable_names.clone();
        let mood = Mood::draw(random, state.unsynced_names.len());
        for (index, change) in state.unsynced_names.iter().enumerate() {
            if mood.fate(index, random) != Fate::Lost {
                change.apply(&mut names);
            }
        }
        let mut image = State {
            inodes: BTreeMap::new(),
            next_inode: state.next_inode,
            durable_names: names.clone(),
            names,
            unsynced_names: Vec::new(),
            free_bytes: state.free_bytes,
        };
        for number in image.names.values() {
            image.inodes.insert(*number, state.inodes[number].after_crash(random));
        }
        CrashDisk::with(image)
    }

    /// Another disk, as the next process finds this one after a `kill -9` at this moment:
    /// everything is there, and what was not synced is not synced yet.
    pub(crate) fn kill_image(&self) -> CrashDisk {
        let mut image = lock(&self.state).clone();
        image.inodes.values_mut().for_each(|inode| inode.uses = [0; 3]);
        image.drop_unreachable();
        CrashDisk::with(image)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A test may go on after a panic that it provoked: each comes before the first change.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn inode(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    /// Forgets the files that no name and no handle leads to any more.
    fn drop_unreachable(&mut self) {
        let mut reachable: Vec<u64> = self.names.values().copied().collect();
        reachable.extend(self.durable_names.values());
        reachable.extend(self.unsynced_names.iter().map(NameChange::inode));
        self.inodes.retain(|number, inode| inode.uses != [0; 3] || reachable.contains(number));
    }
}

impl NameChange {
    fn inode(&self) -> u64 {
        match *self {
            NameChange::Create { inode, .. }
            | NameChange::Rename { inode, .. }
            | NameChange::Remove { inode, .. } => inode,
        }
    }

    /// Changes the names, if the old one means the file that it meant at the time.
    fn apply(&self, names: &mut Names) {
        match self {
            NameChange::Create { name, inode } => {
                names.insert(Arc::clone(name), *inode);
            }
            NameChange::Rename { from, to, inode } if names.get(from) == Some(inode) => {
                names.remove(from);
                names.insert(Arc::clone(to), *inode);
            }
            NameChange::Remove { name, inode } if names.get(name) == Some(inode) => {
                names.remove(name);
            }
            NameChange::Rename { .. } | NameChange::Remove { .. } => {}
        }
    }
}

impl Files for CrashDisk {
    type File = CrashFile;

    fn create(&self, name: &str) -> io::Result<CrashFile> {
        let mut state = lock(&self.state);
        if state.names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        state.change_names(NameChange::Create { name: name.into(), inode });
        drop(state);
        Ok(CrashFile { handle: Handle::new(&self.state, inode, Use::File), writable: true })
    }

    fn open(&self, name: &str) -> io::Result<CrashFile> {
        let inode = lock(&self.state).inode(name)?;
        Ok(CrashFile { handle: Handle::new(&self.state, inode, Use::File), writable: false })
    }

    fn open_to_write(&self, name: &str) -> io::Result<CrashFile> {
        Ok(CrashFile { writable: true, ..self.open(name)? })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.state).names.keys().map(|name| name.to_string()).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = lock(&self.state);
        let inode = state.inode(from)?;
        if from != to {
            state.change_names(NameChange::Rename { from: from.into(), to: to.into(), inode });
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = lock(&self.state);
        let inode = state.inode(name)?;
        state.change_names(NameChange::Remove { name: name.into(), inode });
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.durable_names = state.names.clone();
        state.unsynced_names.clear();
        state.drop_unreachable();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(lock(&self.state).free_bytes)
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("crash-disk").join(name)
    }
}

/// Keeps a file, and counts what it is used for.
struct Handle {
    state: Arc<Mutex<State>>,
    inode: u64,
    used: Use,
}

impl Handle {
    fn new(state: &Arc<Mutex<State>>, inode: u64, used: Use) -> Handle {
        let handle = Handle { state: Arc::clone(state), inode, used };
        handle.with(|inode| inode.uses[used as usize] += 1);
        handle
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inode) -> T) -> T {
        let mut state = lock(&self.state);
        let inode = state.inodes.get_mut(&self.inode);
        act(inode.expect("a file that is in use stays"))
    }

    fn another(&self, used: Use) -> Handle {
        Handle::new(&self.state, self.inode, used)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.with(|inode| inode.uses[self.used as usize] -= 1);
    }
}

/// An open file of a [`CrashDisk`].
pub(crate) struct CrashFile {
    handle: Handle,
    writable: bool,
}

/// A length, or the end of a write.
fn in_memory(bytes: u64) -> io::Result<usize> {
    if bytes > FILE_BYTES_MAX { Err(ErrorKind::FileTooLarge.into()) } else { Ok(bytes as usize) }
}

impl CrashFile {
    fn change(&self, change: Change) -> io::Result<()> {
        if !self.writable {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        self.handle.with(|inode| inode.change(change));
        Ok(())
    }
}

impl File for CrashFile {
    type Mapping = CrashMapping;
    type View = CrashView;

    fn len(&self) -> io::Result<u64> {
        Ok(self.handle.with(|inode| inode.content.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.handle.with(|inode| {
            let from = usize::try_from(offset).unwrap_or(usize::MAX);
            let there = inode.content.get(from..).and_then(|rest| rest.get(..buffer.len()));
            buffer.copy_from_slice(there.ok_or(ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        in_memory(offset.saturating_add(bytes.len() as u64))?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.change(Change::Write { offset: offset as usize, bytes: bytes.into(), mapped: false })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.change(Change::Grow(in_memory(len)?))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Length(in_memory(len)?))
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.with(Inode::sync);
        Ok(())
    }

    fn map(&self, len: usize) -> io::Result<CrashMapping> {
        if !self.writable {
            return Err(ErrorKind::PermissionDenied.into());
        }
        self.handle.with(|inode| {
            if len > inode.content.len() {
                return Err(io::Error::from(ErrorKind::InvalidInput));
            }
            assert!(len <= inode.reserved, "mapped without blocks: a full disk would kill");
            assert_eq!(inode.uses[Use::View as usize], 0, "mapped while it is viewed");
            inode.mapped = inode.mapped.max(len);
            Ok(())
        })?;
        Ok(CrashMapping { handle: self.handle.another(Use::Mapping), len })
    }

    fn view(&self) -> io::Result<CrashView> {
        let content = self.handle.with(|inode| Arc::clone(&inode.content));
        Ok(CrashView { content, _handle: self.handle.another(Use::View) })
    }

    fn forget_unsynced(&self) {
        self.handle.with(Inode::forget_unsynced);
    }
}

/// A mapping of a [`CrashFile`].
pub(crate) struct CrashMapping {
    handle: Handle,
    len: usize,
}

impl Mapping for CrashMapping {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let fits = offset <= self.len && bytes.len() <= self.len - offset;
        assert!(fits, "{} bytes at {offset} of a mapping of {}", bytes.len(), self.len);
        if !bytes.is_empty() {
            let change = Change::Write { offset, bytes: bytes.into(), mapped: true };
            self.handle.with(|inode| inode.change(change));
        }
    }
}

/// A view of a [`CrashFile`].
pub(crate) struct CrashView {
    content: Arc<Vec<u8>>,
    _handle: Handle,
}

impl Deref for CrashView {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.content
    }
}

#[cfg(test)]
mod tests;
