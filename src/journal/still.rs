//! The files of a directory as they are at one moment, though somebody may be writing them.
//!
//! What was left behind never changes again, so it is mapped: snapshots, and every segment but the
//! two newest of the newest epoch. One of those is the end of the log, the other may have been
//! prepared to follow it, so they are copied.
//!
//! They are copied from their ends backwards, the newer one first. Frames are written forwards, and
//! a position is called durable behind its frame only. So whatever a copied frame calls durable, it
//! was copied later, and is there; what is missing is the end of the log, which looks torn.
//!
//! An open file stays when its name goes. A name that goes before it was opened, since a snapshot
//! took the place of the log, begins the whole again.

use std::collections::HashMap;
use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use super::files::{File, Files};
use super::recover::{SnapshotName, Survey};
use super::segment::SegmentName;
use crate::error::{Error, Result};
use crate::sync::Arc;

/// How often it is begun again.
const ATTEMPTS: u32 = 16;
/// How often what looks damaged is looked at again: a file that was just being made.
const SECOND_LOOKS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(10);
/// So much is copied at once.
const COPY_BYTES: usize = 64 << 10;

/// Files that do not change; nothing can be done to them.
pub(crate) struct Still<F: Files> {
    files: Arc<F>,
    names: Vec<String>,
    views: HashMap<String, StillFile<F>>,
}

/// One of them.
pub(crate) struct StillFile<F: Files>(Arc<Held<<F::File as File>::View>>);

enum Held<V> {
    Mapped(V),
    Copied(Vec<u8>),
}

impl<F: Files> Clone for StillFile<F> {
    fn clone(&self) -> Self {
        StillFile(Arc::clone(&self.0))
    }
}

impl<F: Files> Deref for StillFile<F> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &*self.0 {
            Held::Mapped(view) => view,
            Held::Copied(bytes) => bytes,
        }
    }
}

/// What a directory holds, whoever uses it meanwhile.
pub(crate) fn look<F: Files>(files: &Arc<F>) -> Result<(Still<F>, Survey<Still<F>>)> {
    let mut looks = 0;
    loop {
        let still = Still::of(files)?;
        match Survey::any(&still) {
            Ok(survey) => return Ok((still, survey)),
            Err(Error::Damaged { .. }) if looks < SECOND_LOOKS => looks += 1,
            Err(error) => return Err(error),
        }
        std::thread::sleep(PAUSE);
    }
}

impl<F: Files> Still<F> {
    /// # Errors
    /// [`Error::Files`].
    pub(crate) fn of(files: &Arc<F>) -> Result<Still<F>> {
        let io = |doing, name: &str, error| Error::Files { file: files.path(name), doing, error };
        for _ in 0..ATTEMPTS {
            let before = files.list().map_err(|error| io("list", "", error))?;
            // The segments behind a snapshot were all there when it got its name. So they are in a
            // list that was begun later.
            let names = files.list().map_err(|error| io("list", "", error))?;
            if snapshots(&before).eq(snapshots(&names)) {
                match Still::open(files, names) {
                    Err((_, error)) if error.kind() == io::ErrorKind::NotFound => {}
                    Err((name, error)) => return Err(io("read", &name, error)),
                    Ok(still) => return Ok(still),
                }
            }
            std::thread::sleep(PAUSE);
        }
        let error = io::Error::other("its files were replaced again and again: try once more");
        Err(io("read", "", error))
    }

    fn open(files: &Arc<F>, names: Vec<String>) -> Result<Still<F>, (String, io::Error)> {
        let mut segments: Vec<SegmentName> =
            names.iter().filter_map(|name| SegmentName::parse(name)).collect();
        segments.sort_unstable_by_key(|name| (name.epoch, name.sequence));
        let newest = segments.last().map_or((0, 0), |name| (name.epoch, name.sequence));
        let mut views = HashMap::new();
        for segment in segments.iter().rev() {
            let name = segment.to_string();
            let is_growing = segment.epoch == newest.0 && segment.sequence + 1 >= newest.1;
            let held = files.open(&name).and_then(|file| match is_growing {
                true => copy(&file).map(Held::Copied),
                false => file.view().map(Held::Mapped),
            });
            let held = held.map_err(|error| (name.clone(), error))?;
            views.insert(name, StillFile(Arc::new(held)));
        }
        for name in snapshots(&names) {
            let view = files.open(name).and_then(|file| file.view());
            let held = Held::Mapped(view.map_err(|error| (name.clone(), error))?);
            views.insert(name.clone(), StillFile(Arc::new(held)));
        }
        Ok(Still { files: Arc::clone(files), names, views })
    }

    /// Names of files that a store makes, finished or not.
    #[cfg(feature = "cli")]
    pub(crate) fn ours(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).filter(|name| is_ours(name))
    }

    /// The length of a file; 0 if it is gone.
    #[cfg(feature = "cli")]
    pub(crate) fn len(&self, name: &str) -> u64 {
        let held = self.views.get(name).map(|view| view.deref().len() as u64);
        held.or_else(|| self.files.open(name).and_then(|file| file.len()).ok()).unwrap_or(0)
    }
}

/// Whether a store makes files of that name.
#[cfg(feature = "cli")]
pub(crate) fn is_ours(name: &str) -> bool {
    let begun = name.strip_suffix(super::recover::UNFINISHED_SUFFIX);
    let segment = begun.or(Some(name)).and_then(SegmentName::parse);
    segment.is_some() || SnapshotName::parse(name).is_some() || SnapshotName::is_unfinished(name)
}

fn snapshots(names: &[String]) -> impl Iterator<Item = &String> {
    names.iter().filter(|name| SnapshotName::parse(name).is_some())
}

/// Copies a file, its end first.
fn copy<T: File>(file: &T) -> io::Result<Vec<u8>> {
    let len = file.len()?;
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    for (number, piece) in bytes.chunks_mut(COPY_BYTES).enumerate().rev() {
        file.read_at(piece, (number * COPY_BYTES) as u64)?;
    }
    Ok(bytes)
}

/// What somebody was about to do to files that are only looked at.
fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "these files are only looked at"))
}

impl<F: Files> Files for Still<F> {
    type File = StillFile<F>;

    fn create(&self, _name: &str) -> io::Result<StillFile<F>> {
        refused()
    }

    fn open(&self, name: &str) -> io::Result<StillFile<F>> {
        self.views.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn open_to_write(&self, _name: &str) -> io::Result<StillFile<F>> {
        refused()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names.clone())
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self) -> io::Result<()> {
        refused()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.files.free_bytes()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path(name)
    }
}

impl<F: Files> File for StillFile<F> {
    type Mapping = <F::File as File>::Mapping;
    type View = StillFile<F>;

    fn len(&self) -> io::Result<u64> {
        Ok(self.deref().len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
        let bytes = from.and_then(|from| from.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        refused()
    }

    fn allocate(&self, _len: u64) -> io::Result<()> {
        refused()
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        refused()
    }

    fn sync(&self) -> io::Result<()> {
        refused()
    }

    fn map(&self, _len: usize) -> io::Result<Self::Mapping> {
        refused()
    }

    fn view(&self) -> io::Result<StillFile<F>> {
        Ok(self.clone())
    }
}
