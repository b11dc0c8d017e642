//! What a directory holds, and whether it is all of it.
//!
//! The newest snapshot says at which segment the log begins that it lacks; without a snapshot that
//! is the first one ever. From there each segment's first frame says where the one before ended.
//! Frames behind that end were discarded by an earlier recovery, and stay so.
//!
//! The last segment ends where its frames end. If a frame behind that end knows the missing one to
//! be durable, the end is damage; otherwise the process or the machine stopped there, and what is
//! behind it was never acknowledged.
//!
//! A survey changes nothing. What it cannot read it refuses, with file and offset.

use std::path::PathBuf;

use uuid::Uuid;

use super::entry::Entry;
use super::files::{File, Files};
use super::segment::{
    First, LAYOUT, Previous, SEGMENT_HEADER_BYTES, Scan, SegmentHeader, SegmentName, Torn,
    find_later, first,
};
use super::snapshot::{Snapshot, SnapshotProblem};
use crate::error::{Error, Result};

/// The bytes of a file of these files.
pub(crate) type View<F> = <<F as Files>::File as File>::View;

/// A name of a snapshot.
pub(crate) struct SnapshotName {
    pub(crate) generation: u64,
}

const SNAPSHOT_PREFIX: &str = "snapshot-";
const SNAPSHOT_SUFFIX: &str = ".snap";
const UNFINISHED_SUFFIX: &str = ".tmp";

impl SnapshotName {
    pub(crate) fn finished(&self) -> String {
        format!("{SNAPSHOT_PREFIX}{:016x}{SNAPSHOT_SUFFIX}", self.generation)
    }

    pub(crate) fn unfinished(&self) -> String {
        format!("{SNAPSHOT_PREFIX}{:016x}{UNFINISHED_SUFFIX}", self.generation)
    }

    /// The name of a snapshot that was finished.
    pub(crate) fn parse(name: &str) -> Option<SnapshotName> {
        let digits = name.strip_prefix(SNAPSHOT_PREFIX)?.strip_suffix(SNAPSHOT_SUFFIX)?;
        let generation = u64::from_str_radix(digits, 16).ok()?;
        let parsed = SnapshotName { generation };
        (parsed.finished() == name).then_some(parsed)
    }

    /// Whether this is what a snapshot that was not finished left behind.
    pub(crate) fn is_unfinished(name: &str) -> bool {
        name.starts_with(SNAPSHOT_PREFIX) && name.ends_with(UNFINISHED_SUFFIX)
    }
}

/// One segment that counts.
struct Used<F: Files> {
    header: SegmentHeader,
    base: u64,
    previous: Previous,
    view: View<F>,
}

/// What was found.
pub(crate) struct Survey<F: Files> {
    /// The identity that the files have; None where there are none.
    pub(crate) store: Option<Uuid>,
    /// The highest epoch that was ever used.
    pub(crate) epoch: u64,
    pub(crate) generation: u64,
    /// The latest wall clock that the files tell of.
    pub(crate) high_water_ms: u64,
    pub(crate) snapshot: Option<Snapshot<View<F>>>,
    /// Where the log ends.
    pub(crate) end: Previous,
    /// The last segment's name, if any counts: it has to be synced before the log goes on.
    pub(crate) last_segment: Option<String>,
    /// Files that do not count any more.
    pub(crate) leftovers: Vec<String>,
    /// Bytes behind the end of the log.
    pub(crate) torn_bytes: u64,
    /// The highest watermark.
    pub(crate) durable: u64,
    used: Vec<Used<F>>,
    /// Segments whose very first frame does not count.
    torn: Vec<(SegmentHeader, Torn, View<F>)>,
}

/// What the files must fit.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) schema: u64,
}

/// Where something was found that stops the reading.
struct Place<'a, F: Files>(&'a F, &'a str);

impl<F: Files> Place<'_, F> {
    fn path(&self) -> PathBuf {
        self.0.path(self.1)
    }

    fn damaged(&self, offset: u64, problem: impl std::fmt::Display) -> Error {
        Error::Damaged { file: self.path(), offset, problem: problem.to_string() }
    }

    fn unreadable(&self, problem: impl std::fmt::Display) -> Error {
        Error::Unreadable { file: self.path(), problem: problem.to_string() }
    }

    fn io(&self, doing: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        let file = self.path();
        move |error| Error::Files { file, doing, error }
    }
}

impl<F: Files> Survey<F> {
    /// Reads what there is; changes nothing.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unreadable`], [`Error::Files`].
    pub(crate) fn of(files: &F, expected: Expected) -> Result<Survey<F>> {
        let names = files.list().map_err(Place(files, "").io("list"))?;
        let mut survey = Survey {
            store: None,
            epoch: 0,
            generation: 0,
            high_water_ms: 0,
            snapshot: None,
            end: Previous::default(),
            last_segment: None,
            leftovers: Vec::new(),
            torn_bytes: 0,
            durable: 0,
            used: Vec::new(),
            torn: Vec::new(),
        };
        survey.find_snapshot(files, &names, expected)?;
        let mut segments = Vec::new();
        for name in names.iter().filter_map(|name| SegmentName::parse(name)) {
            survey.epoch = survey.epoch.max(name.epoch);
            segments.push(name);
        }
        segments.sort_unstable_by_key(|name| (name.sequence, name.epoch));
        survey.find_segments(files, &segments, expected)?;
        survey.check_chain(files)?;
        survey.find_end(files)?;
        survey.check_torn(files)?;
        Ok(survey)
    }

    fn find_snapshot(&mut self, files: &F, names: &[String], expected: Expected) -> Result<()> {
        let mut finished: Vec<u64> = names
            .iter()
            .filter_map(|name| SnapshotName::parse(name).map(|name| name.generation))
            .collect();
        finished.sort_unstable();
        let unfinished = names.iter().filter(|name| SnapshotName::is_unfinished(name));
        self.leftovers.extend(unfinished.cloned());
        let Some(newest) = finished.pop() else { return Ok(()) };
        self.generation = newest;
        let older = finished.iter().map(|&generation| SnapshotName { generation }.finished());
        self.leftovers.extend(older);
        let name = SnapshotName { generation: newest }.finished();
        let place = Place(files, &name);
        let view = files.open(&name).and_then(|file| file.view()).map_err(place.io("read"))?;
        let snapshot = Snapshot::open(view).map_err(|problem| match problem {
            SnapshotProblem::Damaged(damage) => place.damaged(damage.offset, damage),
            SnapshotProblem::Unfinished | SnapshotProblem::Short { .. } => {
                place.damaged(0, problem)
            }
            problem => place.unreadable(problem),
        })?;
        let fields = snapshot.fields();
        check_kind(&place, fields.schema, fields.layout, expected)?;
        self.store = Some(Uuid::from_u128(fields.store));
        self.epoch = fields.replay_from.epoch;
        self.high_water_ms = fields.high_water_ms;
        self.durable = fields.replay_from.position;
        self.snapshot = Some(snapshot);
        Ok(())
    }

    /// Where the log that is not in the snapshot begins: its first segment, its first position.
    fn begin(&self) -> (u64, u64) {
        match &self.snapshot {
            Some(snapshot) => {
                let from = snapshot.fields().replay_from;
                (from.sequence, from.position)
            }
            None => (1, 1),
        }
    }

    fn find_segments(
        &mut self,
        files: &F,
        names: &[SegmentName],
        expected: Expected,
    ) -> Result<()> {
        let (begin, _) = self.begin();
        for &segment in names {
            let name = segment.to_string();
            if segment.sequence < begin {
                self.leftovers.push(name);
                continue;
            }
            let place = Place(files, &name);
            let view = files.open(&name).and_then(|file| file.view()).map_err(place.io("read"))?;
            let frames = view.get(SEGMENT_HEADER_BYTES..).unwrap_or_default();
            let header = match SegmentHeader::decode(&view) {
                Ok(header) => header,
                Err(problem) if problem.is_incomplete() => {
                    // Its header is durable before anything is appended to it.
                    if frames.iter().any(|&byte| byte != 0) {
                        return Err(place.damaged(0, problem));
                    }
                    self.leftovers.push(name);
                    continue;
                }
                Err(problem) => return Err(place.unreadable(problem)),
            };
            if header.name() != segment {
                return Err(place.damaged(0, format_args!("this is {}", header.name())));
            }
            check_kind(&place, header.schema, header.layout, expected)?;
            if *self.store.get_or_insert(header.store) != header.store {
                return Err(place.unreadable("a segment of another store"));
            }
            self.high_water_ms = self.high_water_ms.max(header.wall_ms);
            match first(&header, frames) {
                First::Unused => self.leftovers.push(name),
                First::Link(base, previous) => {
                    self.used.push(Used { header, base, previous, view });
                }
                First::Torn(torn) => self.torn.push((header, torn, view)),
            }
        }
        Ok(())
    }

    fn check_chain(&self, files: &F) -> Result<()> {
        let (sequence, position) = self.begin();
        let Some(first) = self.used.first() else {
            if self.snapshot.is_some() {
                let name = format!("log-*-{sequence:016x}");
                return Err(Place(files, &name).damaged(
                    0,
                    "the segment in which the log goes on behind the snapshot is missing",
                ));
            }
            return Ok(());
        };
        let name = first.header.name().to_string();
        if first.header.sequence != sequence || first.base != position {
            return Err(Place(files, &name).damaged(
                0,
                format_args!(
                    "the log begins at segment {} with position {}, not at {sequence} with \
                     {position}: segments are missing",
                    first.header.sequence, first.base
                ),
            ));
        }
        for pair in self.used.windows(2) {
            let [before, after] = pair else { continue };
            let name = after.header.name().to_string();
            if after.previous.sequence != before.header.sequence
                || after.base != after.previous.last + 1
            {
                return Err(Place(files, &name).damaged(
                    0,
                    format_args!(
                        "it comes after segment {}, but the one before it is {}",
                        after.previous.sequence, before.header.sequence
                    ),
                ));
            }
            self.check_sealed(files, before, after.previous)?;
        }
        Ok(())
    }

    /// A segment before the last must hold all its frames up to the end that the next one tells.
    fn check_sealed(&self, files: &F, segment: &Used<F>, end: Previous) -> Result<()> {
        let name = segment.header.name().to_string();
        let mut chain = 0;
        let mut scan = segment.scan();
        let mut last = segment.base - 1;
        let mut offset = 0;
        while last < end.last {
            let Some((at, header, _)) = scan.next() else {
                let stop = scan.end();
                return Err(Place(files, &name).damaged(
                    (SEGMENT_HEADER_BYTES + stop.offset) as u64,
                    format_args!(
                        "the frame of position {} is missing or damaged; the log goes on to {}",
                        last + 1,
                        end.last
                    ),
                ));
            };
            (last, offset) = (header.position, at);
            chain = scan.chain_value();
        }
        if chain != end.chain {
            let place = Place(files, &name);
            return Err(place.damaged(
                (SEGMENT_HEADER_BYTES + offset) as u64,
                "its last frame is not the one that the next segment tells of",
            ));
        }
        Ok(())
    }

    fn find_end(&mut self, files: &F) -> Result<()> {
        let Some(last) = self.used.last() else {
            let (sequence, position) = self.begin();
            self.end = Previous { sequence: sequence - 1, last: position - 1, chain: 0 };
            return Ok(());
        };
        let name = last.header.name().to_string();
        let mut scan = last.scan();
        let mut durable = self.durable;
        for (_, header, _) in scan.by_ref() {
            durable = durable.max(header.durable);
        }
        let end = scan.end();
        let frames = last.view.get(SEGMENT_HEADER_BYTES..).unwrap_or_default();
        let rest = frames.get(end.offset..).unwrap_or_default();
        let later = find_later(&last.header, rest, end.last);
        if later.is_some_and(|later| later.durable > end.last) || durable > end.last {
            return Err(Place(files, &name).damaged(
                (SEGMENT_HEADER_BYTES + end.offset) as u64,
                format_args!(
                    "the frame of position {} is missing or damaged, and was durable",
                    end.last + 1
                ),
            ));
        }
        self.torn_bytes += nonzero(rest);
        self.durable = durable;
        self.end =
            Previous { sequence: last.header.sequence, last: end.last, chain: end.chain };
        self.last_segment = Some(name);
        Ok(())
    }

    /// Nothing may have been durable in a segment that does not even have its first frame.
    fn check_torn(&mut self, files: &F) -> Result<()> {
        for (header, torn, view) in std::mem::take(&mut self.torn) {
            let name = header.name().to_string();
            let frames = view.get(SEGMENT_HEADER_BYTES..).unwrap_or_default();
            let later = find_later(&header, frames, self.end.last);
            // One that an earlier recovery discarded comes before the log's last segment.
            let is_behind = header.sequence > self.end.sequence;
            if is_behind && later.is_some_and(|later| later.durable > self.end.last) {
                return Err(Place(files, &name).damaged(SEGMENT_HEADER_BYTES as u64, torn));
            }
            self.torn_bytes += nonzero(frames);
            self.leftovers.push(name);
        }
        Ok(())
    }

    /// Calls `apply` with each entry that the snapshot lacks, in order. Returns their number.
    ///
    /// # Errors
    /// That of `apply`, or [`Error::Damaged`].
    pub(crate) fn replay(
        &self,
        files: &F,
        mut apply: impl FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<u64> {
        let mut count = 0;
        for (index, segment) in self.used.iter().enumerate() {
            let end = self.used.get(index + 1).map_or(self.end.last, |next| next.previous.last);
            for (offset, header, body) in segment.scan() {
                if header.position > end {
                    break;
                }
                let entry = Entry::decode(header.kind, body).map_err(|problem| {
                    let name = segment.header.name().to_string();
                    let offset = (SEGMENT_HEADER_BYTES + offset) as u64;
                    Place(files, &name).damaged(offset, problem)
                })?;
                apply(entry)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// The latest time in the log: what happened later than the last segment began.
    pub(crate) fn latest_ms(&self) -> u64 {
        let mut latest = self.high_water_ms;
        for segment in &self.used {
            for (_, header, body) in segment.scan() {
                latest = latest.max(match Entry::decode(header.kind, body) {
                    Ok(Entry::Put(stored)) => stored.seen_ms,
                    Ok(Entry::End { at_ms, .. } | Entry::Move { at_ms, .. }) => at_ms,
                    Ok(Entry::Mark { wall_ms } | Entry::Link { wall_ms, .. }) => wall_ms,
                    _ => 0,
                });
            }
        }
        latest
    }

    /// Frees what was read.
    pub(crate) fn release_segments(&mut self) {
        self.used.clear();
    }
}

impl<F: Files> Used<F> {
    fn scan(&self) -> Scan<'_> {
        let header = SegmentHeader { base: self.base, ..self.header };
        Scan::new(&header, self.view.get(SEGMENT_HEADER_BYTES..).unwrap_or_default())
    }
}

/// How many bytes there are up to the last that is not zero.
fn nonzero(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at as u64 + 1)
}

/// Refuses what another program, or another version of this one, wrote.
fn check_kind<F: Files>(
    place: &Place<'_, F>,
    schema: u64,
    layout: u64,
    expected: Expected,
) -> Result<()> {
    if layout != LAYOUT {
        return Err(place.unreadable(format_args!(
            "archived with layout {layout:#018x}, while this program uses {LAYOUT:#018x}: a crate \
             in it switches features of rkyv (big_endian, unaligned, pointer_width_*)"
        )));
    }
    if schema != expected.schema {
        return Err(place.unreadable(format_args!(
            "written with schema {schema:#x}, while this program has {:#x}: its session type, or \
             the number given to Builder::schema, is another",
            expected.schema
        )));
    }
    Ok(())
}
