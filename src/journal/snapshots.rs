//! Taking a snapshot while the store is in use.
//!
//! ```text
//! 1  turn the log              what the walk may miss is in the new segment, or behind it
//! 2  walk the store            into snapshot-<generation>.tmp
//! 3  sync the snapshot         it holds what it says
//! 4  sync the log              whatever the walk may have seen is durable there too
//! 5  rename, sync directory    from here on the snapshot counts
//! 6  remove what came before   and only now
//! ```
//! A crash before 5 leaves the old files as they were; after it, the new ones. The walk need not
//! see one moment: entries of the log replace whole sessions, so replaying those since step 1 ends
//! in the state of their last position, whatever the walk saw of it.

use std::io;
use std::time::Duration;

use super::Shared;
use super::files::{File, Files};
use super::log::{Log, Turn};
use super::maker::{Maker, random};
use super::recover::SnapshotName;
use super::segment::{LAYOUT, SegmentName};
use super::snapshot::{Alias, HeaderFields, LogPosition, Sink, Summary, Writer};
use super::stored::Stored;
use crate::clock::Stopwatch;
use crate::error::{Error, Result};

/// So much is written between two pauses.
const PAUSE_EVERY_BYTES: u64 = 1 << 20;
/// How many times as long as it worked the walk rests then, for the sake of lookups meanwhile: of
/// a thousand, so few are beside the work that the slowest one in a thousand hardly tells.
const PAUSE_TIMES: u32 = 3;
/// Within these: at most half a gigabyte a second is written, and memory that others retire does
/// not wait for long, since the walk is pinned.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// Rests are short if the log has grown by so much more meanwhile than was written.
const HURRY_BYTES: u64 = 64 << 20;
/// So much is written between two syncs, so that the last one does not stall the log's.
const SYNC_EVERY_BYTES: u64 = 32 << 20;

/// A snapshot in the making. Dropped before it is finished, it leaves nothing behind.
pub(crate) struct Taking<'a, F: Files> {
    shared: &'a Shared<F>,
    name: SnapshotName,
    turn: Turn,
    writer: Option<Writer<FileSink<'a, F>>>,
}

/// A file that is written in step with what else happens.
struct FileSink<'a, F: Files> {
    file: F::File,
    log: &'a Log<F>,
    /// Of the log, when the snapshot was begun.
    log_bytes: u64,
    written: u64,
    unpaused: u64,
    unsynced: u64,
    /// Since the last pause.
    working: Stopwatch,
}

impl<F: Files> FileSink<'_, F> {
    fn pause(&self) -> Duration {
        let grown = self.log.bytes().saturating_sub(self.log_bytes);
        if grown > self.written + HURRY_BYTES {
            return PAUSE_MIN;
        }
        (PAUSE_TIMES * self.working.elapsed()).clamp(PAUSE_MIN, PAUSE_MAX)
    }
}

impl<F: Files> Sink for FileSink<'_, F> {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)?;
        self.written += bytes.len() as u64;
        self.unpaused += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unpaused >= PAUSE_EVERY_BYTES {
            self.unpaused = 0;
            std::thread::sleep(self.pause());
            if self.unsynced >= SYNC_EVERY_BYTES {
                self.unsynced = 0;
                self.file.sync()?;
            }
            self.working = Stopwatch::start();
        }
        Ok(())
    }
}

impl<'a, F: Files> Taking<'a, F> {
    pub(super) fn begin(shared: &'a Shared<F>, generation: u64) -> Result<Taking<'a, F>> {
        let maker = shared.log.maker();
        let files = &*maker.files;
        let name = SnapshotName { generation };
        let io = |error| io_error(files, &name.unfinished(), error);
        let _ = files.remove(&name.unfinished());
        let file = files.create(&name.unfinished()).map_err(io)?;
        let turn = shared.log.turn_for_snapshot().map_err(|refused| super::told(refused, files))?;
        let Turn { name: SegmentName { epoch, sequence }, position, .. } = turn;
        let fields = HeaderFields {
            store: maker.store,
            generation,
            salt: random().map_err(io)?,
            high_water_ms: maker.calendar.now_ms(),
            schema: maker.schema,
            layout: LAYOUT,
            replay_from: LogPosition { epoch, sequence, position },
            key: maker.seal.key(),
        };
        let log = &shared.log;
        let (log_bytes, working) = (log.bytes(), Stopwatch::start());
        let sink = FileSink { file, log, log_bytes, written: 0, unpaused: 0, unsynced: 0, working };
        let writer = Some(Writer::new(sink, fields));
        Ok(Taking { shared, name, turn, writer })
    }

    pub(crate) fn push(&mut self, stored: &Stored<'_>) -> Result<()> {
        let Some(writer) = self.writer.as_mut() else { return Ok(()) };
        let Maker { seal, store, .. } = self.shared.log.maker();
        let pushed = seal.seal(*store, stored, |sealed| writer.push(sealed));
        let pushed = pushed.map_err(|problem| self.shared.unsealed(problem))?;
        pushed.map_err(|error| self.io(error))
    }

    /// Tells what the session that was pushed last takes in memory.
    pub(crate) fn weigh(&mut self, scale: u64, has_owner: bool, bytes: u64) {
        if let Some(writer) = &mut self.writer {
            writer.weigh(scale, has_owner, bytes);
        }
    }

    pub(crate) fn push_alias(&mut self, alias: Alias) -> Result<()> {
        let pushed = self.writer.as_mut().map_or(Ok(()), |writer| writer.push_alias(alias));
        pushed.map_err(|error| self.io(error))
    }

    /// Why the snapshot is not finished: its store closes.
    pub(crate) fn given_up(&self) -> Error {
        self.io(io::Error::new(io::ErrorKind::Interrupted, "the store is being closed"))
    }

    /// Makes the snapshot count, removes what it replaces.
    ///
    /// # Errors
    /// [`Error::Files`]: then what was before still counts.
    pub(crate) fn finish(mut self) -> Result<Summary> {
        let Some(writer) = self.writer.take() else {
            return Err(self.io(io::Error::other("an earlier step failed")));
        };
        let log = &self.shared.log;
        let files = &*log.maker().files;
        let finished = self.write_out(writer, log).and_then(|(summary, upto)| {
            files.rename(&self.name.unfinished(), &self.name.finished())?;
            files.sync_dir()?;
            Ok((summary, upto))
        });
        let (summary, upto) = finished.map_err(|error| self.io(error))?;
        self.shared.mended(upto, &self.turn);
        self.remove_older(files);
        Ok(summary)
    }

    fn write_out(
        &self,
        writer: Writer<FileSink<'_, F>>,
        log: &Log<F>,
    ) -> io::Result<(Summary, u64)> {
        let mut closing = writer.close();
        let summary = loop {
            if let Some(summary) = closing.step()? {
                break summary;
            }
        };
        closing.into_sink().file.sync()?;
        // What the walk saw must not be ahead of what the log will tell after a power loss.
        let upto = log.sync_for_snapshot(&self.turn)?;
        Ok((summary, upto))
    }

    /// What cannot be removed is removed when the store is opened next.
    fn remove_older(&self, files: &F) {
        let Ok(names) = files.list() else { return };
        for name in names {
            let is_older = match (SegmentName::parse(&name), SnapshotName::parse(&name)) {
                (Some(segment), _) => segment.sequence < self.turn.name.sequence,
                (_, Some(snapshot)) => snapshot.generation < self.name.generation,
                _ => false,
            };
            if is_older {
                let _ = files.remove(&name);
            }
        }
        let _ = files.sync_dir();
    }

    fn io(&self, error: io::Error) -> Error {
        io_error(&*self.shared.log.maker().files, &self.name.unfinished(), error)
    }
}

impl<F: Files> Drop for Taking<'_, F> {
    fn drop(&mut self) {
        // Gone already if it was finished.
        let _ = self.shared.log.maker().files.remove(&self.name.unfinished());
    }
}

fn io_error<F: Files>(files: &F, name: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::Full(crate::error::Limit::Disk)
        }
        _ => Error::Files { file: files.path(name), doing: "write", error },
    }
}
