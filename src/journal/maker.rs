//! Makes the files of the log: each whole before it is used.
//!
//! Header and name are durable, blocks are reserved, before the first frame is written. Then no
//! crash leaves a frame in a file that is not there, and no full disk meets a write.

use std::io;

use uuid::Uuid;

use super::calendar::Calendar;
use super::files::{File, Files, Mapping};
use super::sealing::Seal;
use super::segment::{LAYOUT, SegmentHeader, SegmentName};
use crate::keep::Append;
use crate::sync::Arc;

/// What the segments of a log are made with.
pub(crate) struct Maker<F: Files> {
    pub(crate) files: Arc<F>,
    pub(crate) calendar: Calendar,
    pub(crate) store: Uuid,
    pub(crate) schema: u64,
    pub(crate) body_seed: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) append: Append,
    pub(crate) seal: Seal,
}

/// A segment that can be written.
pub(super) struct Segment<F: Files> {
    pub(super) header: SegmentHeader,
    pub(super) file: Arc<F::File>,
    pub(super) mapping: Option<<F::File as File>::Mapping>,
}

impl<F: Files> Segment<F> {
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        match &mut self.mapping {
            Some(mapping) => mapping.write(offset, bytes),
            None => self.file.write_at(bytes, offset as u64)?,
        }
        Ok(())
    }
}

impl<F: Files> Maker<F> {
    /// Makes a segment without frames; all there is of it is durable.
    pub(super) fn segment(&self, name: SegmentName) -> io::Result<Segment<F>> {
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
            wall_ms: self.calendar.now_ms(),
            schema: self.schema,
            layout: LAYOUT,
            key: self.seal.key(),
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
