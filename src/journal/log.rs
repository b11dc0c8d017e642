//! The end of the log: appends frames to the newest segment, makes them durable in groups.
//!
//! One lock orders the frames. Under it a frame gets its position, with the watermark of that
//! moment, and is copied to its place; its body was encoded and summed before. So a frame costs a
//! copy of itself, and what was returned to a caller is in the file, whatever becomes of the
//! process.
//!
//! A commit syncs what was appended until it began, oldest segment first, and then publishes the
//! position: no position is durable before the one below it. A commit that fails is never tried
//! again on the same files: the log goes on in a new segment, and nothing more counts as durable
//! until a complete snapshot stands on new files ([`Log::recover_at`]).
//!
//! A segment is made whole before it is used, its header durable, its blocks reserved. The first
//! frame in it tells where the segment before ended. The last [`RESERVE_BYTES`] are for ends only,
//! so that a logout finds room on a full disk.

use std::io;
use std::sync::PoisonError;

use uuid::Uuid;

use super::calendar::Calendar;
use super::entry::Entry;
use super::files::{File, Files, Mapping};
use super::frame::{self, Header, body_sum, frame_len};
use super::segment::{LAYOUT, Previous, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentName};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, lock};

/// What ends and moves may use of a segment when no other can be made.
const RESERVE_BYTES: usize = 256 * 1024;
/// The smallest segment.
pub(crate) const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// How much of a segment is touched beforehand.
const PREFAULT_BYTES: usize = 4 << 20;

/// How frames reach their file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Append {
    /// A copy into a mapping of the file; the default.
    #[default]
    Mapped,
    /// A system call for each frame.
    Written,
}

/// What the segments of a log are made with.
pub(crate) struct Maker<F: Files> {
    pub(crate) files: Arc<F>,
    pub(crate) calendar: Calendar,
    pub(crate) store: Uuid,
    pub(crate) schema: u64,
    pub(crate) body_seed: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) append: Append,
}

/// How urgently a frame needs room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// May be refused on a full disk.
    Room,
    /// May use what is kept for ends.
    Reserve,
}

/// Why a frame was not appended.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The disk is full, or over its quota.
    Full,
    /// Something else went wrong with the files.
    Io(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Refused::Full,
            _ => Refused::Io(error),
        }
    }
}

/// The log of one open store.
pub(crate) struct Log<F: Files> {
    maker: Maker<F>,
    tail: Mutex<Tail<F>>,
    /// Told when nobody is making the next segment any more.
    made: Condvar,
    /// One sync at a time.
    syncing: Mutex<()>,
    /// The highest position known to be durable.
    durable: AtomicU64,
    /// A sync failed; what was appended before is not durable, and will not be by syncing.
    failed: AtomicBool,
}

/// The newest segment.
struct Tail<F: Files> {
    segment: Segment<F>,
    offset: usize,
    last: u64,
    chain: u64,
    /// The last position that changed a session.
    last_change: u64,
    /// Older segments that are not synced yet.
    unsynced: Vec<Arc<F::File>>,
    next: Option<Segment<F>>,
    /// Somebody is making the next one.
    making: bool,
    /// Bytes of frames since the log began.
    bytes: u64,
}

/// A segment that can be written.
struct Segment<F: Files> {
    header: SegmentHeader,
    file: Arc<F::File>,
    mapping: Option<<F::File as File>::Mapping>,
}

impl<F: Files> Log<F> {
    /// Begins a new segment behind what was found.
    pub(crate) fn begin(
        maker: Maker<F>,
        epoch: u64,
        previous: Previous,
    ) -> Result<Log<F>, Refused> {
        let sequence = previous.sequence + 1;
        // From here on the epoch is used up.
        let segment = maker.segment(SegmentName { epoch, sequence })?;
        let mut tail = Tail {
            segment,
            offset: SEGMENT_HEADER_BYTES,
            last: previous.last,
            chain: previous.chain,
            last_change: previous.last,
            unsynced: Vec::new(),
            next: None,
            making: false,
            bytes: 0,
        };
        tail.link(previous, &maker, previous.last)?;
        let durable = AtomicU64::new(previous.last);
        let failed = AtomicBool::new(false);
        let (tail, made, syncing) = (Mutex::new(tail), Condvar::new(), Mutex::new(()));
        Ok(Log { maker, tail, made, syncing, durable, failed })
    }

    /// The sum that a body needs to be appended.
    pub(crate) fn sum(&self, body: &[u8]) -> u64 {
        body_sum(body, self.maker.body_seed)
    }

    /// Appends a frame that changes a session; returns its position. `sum` is from [`Log::sum`].
    ///
    /// # Errors
    /// [`Refused`]: then nothing was appended.
    pub(crate) fn append(
        &self,
        kind: u8,
        body: &[u8],
        sum: u64,
        need: Need,
    ) -> Result<u64, Refused> {
        let mut tail = lock(&self.tail);
        let len = frame_len(body.len());
        if !self.fits(&tail, len, Need::Room) {
            tail = self.settled(tail);
        }
        if !self.fits(&tail, len, Need::Room) {
            match self.turn(&mut tail) {
                Ok(()) if self.fits(&tail, len, Need::Room) => {}
                Ok(()) => return Err(Refused::Full),
                Err(_) if need == Need::Reserve && self.fits(&tail, len, need) => {}
                Err(refused) => return Err(refused),
            }
        }
        // Acquire pairs with the AcqRel of whoever published it.
        tail.put(kind, body, sum, self.durable.load(Acquire))?;
        tail.last_change = tail.last;
        Ok(tail.last)
    }

    fn fits(&self, tail: &Tail<F>, len: usize, need: Need) -> bool {
        let reserve = if need == Need::Room { RESERVE_BYTES } else { 0 };
        // One header more, so that zeros always follow the last frame.
        let end = tail.offset + len + frame::HEADER_BYTES + reserve;
        end as u64 <= self.maker.segment_bytes
    }

    /// Waits until nobody is making the next segment: two must not make the same one.
    fn settled<'a>(&self, mut tail: MutexGuard<'a, Tail<F>>) -> MutexGuard<'a, Tail<F>> {
        while tail.making {
            tail = self.made.wait(tail).unwrap_or_else(PoisonError::into_inner);
        }
        tail
    }

    /// Goes on in the next segment. The tail must be [settled](Log::settled).
    fn turn(&self, tail: &mut Tail<F>) -> Result<(), Refused> {
        let next = match tail.next.take() {
            Some(next) => next,
            None => self.maker.segment(tail.next_name())?,
        };
        let sequence = tail.segment.header.sequence;
        let previous = Previous { sequence, last: tail.last, chain: tail.chain };
        let old = std::mem::replace(&mut tail.segment, next);
        let old_offset = std::mem::replace(&mut tail.offset, SEGMENT_HEADER_BYTES);
        if let Err(refused) = tail.link(previous, &self.maker, self.durable.load(Acquire)) {
            // Back to the old one, which has its reserve left.
            tail.next = Some(std::mem::replace(&mut tail.segment, old));
            tail.offset = old_offset;
            return Err(refused);
        }
        tail.unsynced.push(old.file);
        Ok(())
    }

    /// Whether the next segment should be made now: the present one is half full.
    pub(crate) fn wants_next(&self) -> bool {
        let tail = lock(&self.tail);
        tail.next.is_none() && tail.offset as u64 > self.maker.segment_bytes / 2
    }

    /// Makes the next segment beforehand, so that no append has to.
    pub(crate) fn prepare_next(&self) -> Result<(), Refused> {
        let name = {
            let mut tail = lock(&self.tail);
            if tail.making || tail.next.is_some() {
                return Ok(());
            }
            tail.making = true;
            tail.next_name()
        };
        // Appends go on meanwhile, as long as the present segment has room.
        let made = self.maker.segment(name);
        if let Ok(Segment { mapping: Some(mapping), .. }) = &made {
            mapping.prefault(0, PREFAULT_BYTES);
        }
        let mut tail = lock(&self.tail);
        tail.making = false;
        self.made.notify_all();
        tail.next = Some(made?);
        Ok(())
    }

    /// Makes all that was appended so far durable. Returns the position up to which it is.
    ///
    /// # Errors
    /// That of the sync, once; from then on that a snapshot is needed.
    pub(crate) fn commit(&self) -> io::Result<u64> {
        if self.has_failed() {
            return Err(io::Error::other("an earlier sync failed, and no snapshot was made since"));
        }
        let upto = self.sync()?;
        self.durable.fetch_max(upto, AcqRel);
        Ok(upto)
    }

    /// Syncs what was appended so far, without telling that it is durable.
    fn sync(&self) -> io::Result<u64> {
        let _one = lock(&self.syncing);
        let (upto, sealed, file) = {
            let mut tail = lock(&self.tail);
            let sealed = std::mem::take(&mut tail.unsynced);
            (tail.last, sealed, Arc::clone(&tail.segment.file))
        };
        let synced = sealed.iter().chain([&file]).try_for_each(|file| file.sync());
        if let Err(error) = synced {
            self.failed.store(true, Release);
            // Whatever comes goes to files that the failure has nothing to do with.
            let mut tail = self.settled(lock(&self.tail));
            if Arc::ptr_eq(&tail.segment.file, &file) && self.turn(&mut tail).is_ok() {
                tail.unsynced.retain(|unsynced| !Arc::ptr_eq(unsynced, &file));
            }
            return Err(error);
        }
        Ok(upto)
    }

    /// Begins a new segment, at which a snapshot that is made from now on will begin. Returns
    /// its name with its first position.
    pub(crate) fn turn_for_snapshot(&self) -> Result<(SegmentName, u64), Refused> {
        let mut tail = self.settled(lock(&self.tail));
        self.turn(&mut tail)?;
        Ok((tail.segment.header.name(), tail.last))
    }

    /// Makes durable what a snapshot may have seen, before the snapshot counts.
    pub(crate) fn sync_for_snapshot(&self) -> io::Result<u64> {
        self.sync()
    }

    /// A complete snapshot is durable, with the log up to `upto` behind it: whatever failed
    /// before does not matter any more.
    pub(crate) fn recover_at(&self, upto: u64) {
        self.durable.fetch_max(upto, AcqRel);
        self.failed.store(false, Release);
    }

    /// Writes the watermark down where nothing else will: after the last change before a pause.
    pub(crate) fn mark(&self) {
        let entry = Entry::Mark { wall_ms: self.maker.calendar.now_ms() };
        let mut body = Vec::new();
        entry.encode_into(&mut body);
        let sum = self.sum(&body);
        let mut tail = lock(&self.tail);
        let fits = self.fits(&tail, frame_len(body.len()), Need::Room);
        if tail.last == tail.last_change && fits {
            // Without it an old tail that rots looks torn; nothing else depends on it.
            let _ = tail.put(entry.kind(), &body, sum, self.durable());
        }
    }

    /// Whether a sync failed, and no snapshot came since.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Acquire)
    }

    /// The highest position that is known to be durable. Never goes back.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Acquire)
    }

    /// The position of the last change.
    pub(crate) fn last_change(&self) -> u64 {
        lock(&self.tail).last_change
    }

    /// Bytes of all frames since the log began.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.tail).bytes
    }

    pub(crate) fn maker(&self) -> &Maker<F> {
        &self.maker
    }

    /// The name of the segment that is written.
    pub(crate) fn present(&self) -> SegmentName {
        lock(&self.tail).segment.header.name()
    }
}

impl<F: Files> Tail<F> {
    fn put(&mut self, kind: u8, body: &[u8], sum: u64, durable: u64) -> Result<(), Refused> {
        let body_len = body.len() as u32;
        let header = Header { body_len, kind, position: self.last + 1, durable, body_sum: sum };
        let bytes = header.encode(self.segment.header.salt);
        // What an error leaves behind is overwritten by the next frame.
        self.segment.write(self.offset + frame::HEADER_BYTES, body)?;
        self.segment.write(self.offset, &bytes)?;
        self.offset += header.frame_len();
        self.last = header.position;
        self.chain = frame::stored_sum(&bytes);
        self.bytes += header.frame_len() as u64;
        Ok(())
    }

    /// Puts the first frame into a new segment.
    fn link(&mut self, previous: Previous, maker: &Maker<F>, durable: u64) -> Result<(), Refused> {
        let entry = Entry::Link { previous, wall_ms: maker.calendar.now_ms() };
        let mut body = Vec::new();
        entry.encode_into(&mut body);
        let sum = body_sum(&body, maker.body_seed);
        self.put(entry.kind(), &body, sum, durable)
    }

    fn next_name(&self) -> SegmentName {
        let header = &self.segment.header;
        SegmentName { epoch: header.epoch, sequence: header.sequence + 1 }
    }
}

impl<F: Files> Segment<F> {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        match &mut self.mapping {
            Some(mapping) => mapping.write(offset, bytes),
            None => self.file.write_at(bytes, offset as u64)?,
        }
        Ok(())
    }
}

impl<F: Files> Maker<F> {
    /// Makes a segment without frames; all there is of it is durable.
    fn segment(&self, name: SegmentName) -> io::Result<Segment<F>> {
        let files = &*self.files;
        let text = name.to_string();
        let file = match files.create(&text) {
            // Left behind by an attempt that failed, and never used.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                files.remove(&text)?;
                files.create(&text)?
            }
            created => created?,
        };
        self.fill(name, file).inspect_err(|_| {
            // Gives the blocks back to a disk that is full; if it fails, the next attempt does.
            let _ = files.remove(&text);
        })
    }

    fn fill(&self, name: SegmentName, file: F::File) -> io::Result<Segment<F>> {
        let header = SegmentHeader {
            store: self.store,
            epoch: name.epoch,
            sequence: name.sequence,
            salt: random()?,
            body_seed: self.body_seed,
            base: 0,
            previous: Previous::default(),
            wall_ms: self.calendar.now_ms(),
            schema: self.schema,
            layout: LAYOUT,
        };
        file.allocate(self.segment_bytes)?;
        file.write_at(&header.encode(), 0)?;
        file.sync()?;
        self.files.sync_dir()?;
        let mapping = match self.append {
            Append::Mapped => Some(file.map(self.segment_bytes as usize)?),
            Append::Written => None,
        };
        Ok(Segment { header, file: Arc::new(file), mapping })
    }
}

/// Random bits of the operating system.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(not(cloakroom_shuttle))]
fn fill(bytes: &mut [u8]) -> Result<(), String> {
    getrandom::fill(bytes).map_err(|error| error.to_string())
}

#[cfg(cloakroom_shuttle)]
fn fill(bytes: &mut [u8]) -> Result<(), String> {
    crate::sync::random::fill(bytes).map_err(|never| match never {})
}
