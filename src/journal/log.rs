//! The end of the log: appends frames to the newest segment, makes them durable in groups.
//!
//! One lock orders the frames. Under it a frame gets its position, with the watermark of that
//! moment, and is copied to its place; its body was encoded and summed before. So a frame costs a
//! copy of itself, and what was returned to a caller is in the file, whatever becomes of the
//! process.
//!
//! A commit syncs what was appended until it began, oldest segment first, and then publishes the
//! position: no position is durable before the one below it. A commit that fails is never tried
//! again on the same files: nothing more counts as durable until a complete snapshot stands on new
//! files, begun after the failure, with the log behind it ([`Log::recover_at`]).
//!
//! After a write that failed nobody knows what is in the file. The log goes on in a new segment,
//! whose link says that what was refused is not a part of it.
//!
//! A thread works ahead of the frames, see `log/ahead.rs`: it makes the next segment, and touches
//! the pages that the next frames will need.
//!
//! A segment is made whole before it is used, its header durable, its blocks reserved. The first
//! frame in it tells where the segment before ended. The last [`RESERVE_BYTES`] are for ends only,
//! so that a logout finds room on a full disk.

use std::io;
use std::sync::PoisonError;

use super::entry::Entry;
use super::files::{File, Files};
use super::frame::{self, Header, body_sum, frame_len};
use super::maker::{Maker, Segment};
use super::segment::{Previous, SEGMENT_HEADER_BYTES, SegmentName};
use crate::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Release,
};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, lock, lock_soon};

mod ahead;

/// What ends and moves may use of a segment when no other can be made: at most this, and at most
/// a quarter of it.
const RESERVE_BYTES: u64 = 256 * 1024;
/// The first frame of a segment.
const LINK_BYTES: usize = frame_len(32);

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
    /// Tells the thread that works ahead that frames come near to where it is.
    near: Condvar,
    /// One sync at a time. Counts those that failed.
    syncing: Mutex<u64>,
    /// The highest position known to be durable.
    durable: AtomicU64,
    /// A sync failed; what was appended before is not durable, and will not be by syncing.
    failed: AtomicBool,
}

/// Where the log was turned for a snapshot.
#[derive(Clone, Copy)]
pub(crate) struct Turn {
    /// The segment that a reader of the snapshot goes on with.
    pub(crate) name: SegmentName,
    /// The position of its first frame.
    pub(crate) position: u64,
    /// How many syncs had failed before.
    failures: u64,
}

/// The newest segment.
struct Tail<F: Files> {
    segment: Segment<F>,
    offset: usize,
    /// Up to here a write that failed may have left something in the place of zeros.
    soiled: usize,
    last: u64,
    chain: u64,
    /// The last position that somebody cares for: it changed a session, or a snapshot begins
    /// there.
    last_change: u64,
    /// The highest position that the frames themselves say to be durable.
    told: u64,
    /// What the present segment's first frame is to say, while it could not be written.
    unlinked: Option<Previous>,
    /// Older segments that are not synced yet.
    unsynced: Vec<Arc<F::File>>,
    next: Option<Segment<F>>,
    /// Somebody is making the next one.
    making: bool,
    /// Up to here the segment's pages were touched beforehand.
    touched: usize,
    /// The thread that works ahead is to be woken once frames have come here.
    near_at: usize,
    /// That thread runs, and has not been told to end.
    has_thread: bool,
    /// Mappings of older segments, for that thread to unmap: that takes a millisecond.
    unmapped: Vec<<F::File as File>::Mapping>,
    /// Bytes of frames since the log began.
    bytes: u64,
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
            soiled: 0,
            last: previous.last,
            chain: previous.chain,
            last_change: previous.last,
            told: previous.last,
            unlinked: None,
            unsynced: Vec::new(),
            next: None,
            making: false,
            touched: ahead::AHEAD_BYTES,
            near_at: usize::MAX,
            has_thread: false,
            unmapped: Vec::new(),
            bytes: 0,
        };
        tail.link(previous, &maker, previous.last)?;
        let durable = AtomicU64::new(previous.last);
        let failed = AtomicBool::new(false);
        let (tail, syncing) = (Mutex::new(tail), Mutex::new(0));
        let (made, near) = (Condvar::new(), Condvar::new());
        Ok(Log { maker, tail, made, near, syncing, durable, failed })
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
        let mut tail = lock_soon(&self.tail);
        let len = frame_len(body.len());
        if tail.soiled > tail.offset {
            tail = self.settled(tail);
            // Without room for a segment it goes on here, over whatever was left.
            let _ = self.turn(&mut tail);
        }
        self.link(&mut tail)?;
        if !self.fits(tail.offset, len, Need::Room) {
            tail = self.settled(tail);
        }
        if !self.fits(tail.offset, len, Need::Room) {
            if !self.fits(SEGMENT_HEADER_BYTES + LINK_BYTES, len, need) {
                // No segment has room for it, so a new one is of no use.
                return Err(Refused::Full);
            }
            match self.turn(&mut tail) {
                Ok(()) => {}
                Err(_)
                    if need == Need::Reserve
                        && tail.unlinked.is_none()
                        && self.fits(tail.offset, len, need) => {}
                Err(refused) => return Err(refused),
            }
        }
        // Acquire pairs with the AcqRel of whoever published it.
        tail.put(kind, body, sum, self.durable.load(Acquire))?;
        tail.last_change = tail.last;
        if tail.offset >= tail.near_at {
            tail.near_at = usize::MAX;
            self.near.notify_one();
        }
        Ok(tail.last)
    }

    fn fits(&self, offset: usize, len: usize, need: Need) -> bool {
        let segment_bytes = self.maker.segment_bytes;
        let reserve = if need == Need::Room { RESERVE_BYTES.min(segment_bytes / 4) } else { 0 };
        // One header more, so that zeros always follow the last frame.
        let end = (offset + len + frame::HEADER_BYTES) as u64;
        end + reserve <= segment_bytes
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
        let present = Previous { sequence, last: tail.last, chain: tail.chain };
        // Of a segment without its first frame nothing counts.
        tail.unlinked.get_or_insert(present);
        let old = std::mem::replace(&mut tail.segment, next);
        (tail.offset, tail.soiled) = (SEGMENT_HEADER_BYTES, 0);
        (tail.touched, tail.near_at) = (ahead::AHEAD_BYTES, 0);
        tail.unsynced.push(old.file);
        if tail.has_thread {
            tail.unmapped.extend(old.mapping);
        }
        self.link(tail)
    }

    /// Writes the present segment's first frame, if it is not there. There is no way back to the
    /// segment before: an error does not tell whether the frame is in the file.
    fn link(&self, tail: &mut Tail<F>) -> Result<(), Refused> {
        if let Some(previous) = tail.unlinked {
            tail.link(previous, &self.maker, self.durable())?;
            tail.unlinked = None;
        }
        Ok(())
    }

    /// Makes all that was appended so far durable. Returns the position up to which it is.
    ///
    /// # Errors
    /// That of the sync, once; from then on that a snapshot is needed.
    pub(crate) fn commit(&self) -> io::Result<u64> {
        let mut failures = lock(&self.syncing);
        // Under the lock: the sync that failed may be one that this call waited for.
        if self.has_failed() {
            return Err(io::Error::other("an earlier sync failed, and no snapshot was made since"));
        }
        let upto = self.sync(&mut failures)?;
        self.durable.fetch_max(upto, AcqRel);
        Ok(upto)
    }

    /// Syncs what was appended so far, without telling that it is durable.
    fn sync(&self, failures: &mut u64) -> io::Result<u64> {
        let (upto, sealed, file) = {
            let mut tail = lock(&self.tail);
            let sealed = std::mem::take(&mut tail.unsynced);
            (tail.last, sealed, Arc::clone(&tail.segment.file))
        };
        let synced = sealed.iter().chain([&file]).try_for_each(|file| file.sync());
        if synced.is_err() {
            // Appends go on where they are: what they write does not count before a snapshot.
            *failures += 1;
            self.failed.store(true, Release);
        }
        synced.map(|()| upto)
    }

    /// Begins a new segment, at which a snapshot that is made from now on will begin. Returns
    /// where that is.
    pub(crate) fn turn_for_snapshot(&self) -> Result<Turn, Refused> {
        // Before the turn: a sync that fails in between may be one of what comes behind it.
        let failures = *lock(&self.syncing);
        let mut tail = self.settled(lock(&self.tail));
        self.turn(&mut tail)?;
        if self.has_failed() {
            // What they hold is in the snapshot; without it nothing of them counts.
            tail.unsynced.clear();
        }
        // So that its position becomes durable, and is said to be: else nothing would tell that a
        // snapshot is missing.
        tail.last_change = tail.last;
        Ok(Turn { name: tail.segment.header.name(), position: tail.last, failures })
    }

    /// Makes durable what a snapshot may have seen, before the snapshot counts.
    ///
    /// # Errors
    /// That of the sync, or that another one failed since the snapshot began: what is lost then
    /// may be behind its beginning.
    pub(crate) fn sync_for_snapshot(&self, turn: &Turn) -> io::Result<u64> {
        let mut failures = lock(&self.syncing);
        if *failures != turn.failures {
            return Err(io::Error::other("a sync failed since the snapshot was begun"));
        }
        self.sync(&mut failures)
    }

    /// A complete snapshot is durable, with the log up to `upto` behind it: whatever failed
    /// before it was begun does not matter any more.
    pub(crate) fn recover_at(&self, upto: u64, turn: &Turn) {
        let failures = lock(&self.syncing);
        self.durable.fetch_max(upto, AcqRel);
        if *failures == turn.failures {
            self.failed.store(false, Release);
        }
    }

    /// Writes the watermark down where nothing else will: after the last change before a pause.
    pub(crate) fn mark(&self) {
        let entry = Entry::Mark { wall_ms: self.maker.calendar.now_ms() };
        let mut body = Vec::new();
        entry.encode_into(&mut body);
        let sum = self.sum(&body);
        let mut tail = lock(&self.tail);
        let durable = self.durable();
        let is_news = tail.told < tail.last_change && tail.last_change <= durable;
        let fits = self.fits(tail.offset, frame_len(body.len()), Need::Room);
        if is_news && fits && tail.unlinked.is_none() {
            // Without it an old tail that rots looks torn; nothing else depends on it.
            let _ = tail.put(entry.kind(), &body, sum, durable);
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

    /// The position of the last frame.
    #[cfg(test)]
    pub(crate) fn last_position(&self) -> u64 {
        lock(&self.tail).last
    }

    pub(crate) fn maker(&self) -> &Maker<F> {
        &self.maker
    }

    /// The name of the segment that is written.
    #[cfg(test)]
    pub(crate) fn present(&self) -> SegmentName {
        lock(&self.tail).segment.header.name()
    }
}

impl<F: Files> Tail<F> {
    fn put(&mut self, kind: u8, body: &[u8], sum: u64, durable: u64) -> Result<(), Refused> {
        let body_len = body.len() as u32;
        let header = Header { body_len, kind, position: self.last + 1, durable, body_sum: sum };
        let bytes = header.encode(self.segment.header.salt);
        let end = self.offset + header.frame_len();
        self.write(body, &bytes).inspect_err(|_| self.soiled = self.soiled.max(end))?;
        self.offset = end;
        self.last = header.position;
        self.told = self.told.max(durable);
        self.chain = frame::stored_sum(&bytes);
        self.bytes += header.frame_len() as u64;
        Ok(())
    }

    /// Writes a frame. What an error leaves behind is overwritten by the next one.
    fn write(&mut self, body: &[u8], header: &[u8; frame::HEADER_BYTES]) -> io::Result<()> {
        let body_at = self.offset + frame::HEADER_BYTES;
        self.segment.write(body_at, body)?;
        if self.soiled > self.offset {
            let padding = frame::padded(body.len()) - body.len();
            let zeros = [0; frame::ALIGNMENT];
            self.segment.write(body_at + body.len(), zeros.get(..padding).unwrap_or_default())?;
        }
        self.segment.write(self.offset, header)
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
