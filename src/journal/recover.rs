//! What a directory holds, and whether it is all of it.
//!
//! The newest snapshot says at which segment the log begins that it lacks; without a snapshot that
//! is the first one ever. How the log goes on from there, and how far, see [`chain`](super::chain).
//!
//! A survey changes nothing. What it cannot read it refuses, with file and offset. Before the log
//! goes on, [`Survey::secure`] makes durable what the survey counted, then removes the rest.

use std::path::PathBuf;

use uuid::Uuid;

use super::chain::{self, Chain, Cut, Segment};
use super::entry::Entry;
use super::files::{File, Files};
use super::sealing::Seal;
use super::segment::{
    First, HeaderProblem, LAYOUT, Previous, SEGMENT_HEADER_BYTES, Scan, SegmentHeader, SegmentName,
    first,
};
use super::snapshot::{HeaderFields, Snapshot, SnapshotProblem};
use super::stored::KeyId;
use crate::error::{Error, Result};

/// The bytes of a file of these files.
pub(crate) type View<F> = <<F as Files>::File as File>::View;

/// A name of a snapshot.
pub(crate) struct SnapshotName {
    pub(crate) generation: u64,
}

const SNAPSHOT_PREFIX: &str = "snapshot-";
const SNAPSHOT_SUFFIX: &str = ".snap";
pub(super) const UNFINISHED_SUFFIX: &str = ".tmp";

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

/// Bytes that are copied at once.
const COPY_BYTES: usize = 1 << 20;

/// A view as bytes.
pub(super) struct Bytes<V>(V);

impl<V: std::ops::Deref<Target = [u8]>> AsRef<[u8]> for Bytes<V> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

type Found<F> = Segment<Bytes<View<F>>>;

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
    /// Files that do not count any more.
    pub(crate) leftovers: Vec<String>,
    /// Bytes behind the end of the log.
    pub(crate) torn_bytes: u64,
    /// The highest watermark.
    pub(crate) durable: u64,
    /// The schema and layout of the data; None where there are no files.
    pub(crate) kind: Option<Kind>,
    /// The key that the newest file names, if sessions are sealed.
    pub(crate) key: Option<KeyId>,
    /// The segments that are the log.
    pub(super) used: Vec<Found<F>>,
    /// Those of them that may not be durable, with how many of their bytes count.
    loose: Vec<(String, usize)>,
}

/// What the files must fit.
#[derive(Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) schema: u64,
    pub(crate) seal: &'a Seal,
}

/// What wrote the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kind {
    pub(crate) schema: u64,
    pub(crate) layout: u64,
    pub(crate) is_sealed: bool,
}

/// Where something was found that stops the reading.
pub(super) struct Place<'a, F: Files>(pub(super) &'a F, pub(super) &'a str);

impl<F: Files> Place<'_, F> {
    fn path(&self) -> PathBuf {
        self.0.path(self.1)
    }

    pub(super) fn damaged(&self, offset: u64, problem: impl std::fmt::Display) -> Error {
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
    pub(crate) fn of(files: &F, expected: Expected<'_>) -> Result<Survey<F>> {
        Survey::fitting(files, Some(expected))
    }

    /// As [`Survey::of`], of whatever session type.
    ///
    /// # Errors
    /// As [`Survey::of`]; that two files have different ones.
    pub(crate) fn any(files: &F) -> Result<Survey<F>> {
        Survey::fitting(files, None)
    }

    fn fitting(files: &F, expected: Option<Expected<'_>>) -> Result<Survey<F>> {
        let names = files.list().map_err(Place(files, "").io("list"))?;
        let mut survey = Survey {
            store: None,
            epoch: 0,
            generation: 0,
            high_water_ms: 0,
            snapshot: None,
            end: Previous::default(),
            leftovers: Vec::new(),
            torn_bytes: 0,
            durable: 0,
            kind: None,
            key: None,
            used: Vec::new(),
            loose: Vec::new(),
        };
        survey.find_snapshot(files, &names, expected)?;
        let mut segments = Vec::new();
        for name in names.iter().filter_map(|name| SegmentName::parse(name)) {
            survey.epoch = survey.epoch.max(name.epoch);
            segments.push(name);
        }
        segments.sort_unstable_by_key(|name| (name.sequence, name.epoch));
        let found = survey.find_segments(files, &segments, expected)?;
        survey.find_end(files, found)?;
        Ok(survey)
    }

    fn find_snapshot(
        &mut self,
        files: &F,
        names: &[String],
        expected: Option<Expected<'_>>,
    ) -> Result<()> {
        let mut finished: Vec<u64> = names
            .iter()
            .filter_map(|name| SnapshotName::parse(name).map(|name| name.generation))
            .collect();
        finished.sort_unstable();
        let is_unfinished = |name: &&String| {
            let segment = name.strip_suffix(UNFINISHED_SUFFIX).and_then(SegmentName::parse);
            SnapshotName::is_unfinished(name) || segment.is_some()
        };
        let unfinished = names.iter().filter(is_unfinished);
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
        if fields.generation != newest {
            let problem = format_args!("this is generation {:016x}", fields.generation);
            return Err(place.damaged(0, problem));
        }
        let HeaderFields { schema, layout, key, .. } = fields;
        let kind = Kind { schema, layout, is_sealed: key.is_some() };
        check_kind(&place, *self.kind.insert(kind), expected)?;
        check_key(&place, key, expected)?;
        self.key = key;
        self.store = Some(fields.store);
        self.epoch = fields.replay_from.epoch;
        self.high_water_ms = fields.high_water_ms;
        self.durable = fields.replay_from.position;
        self.snapshot = Some(snapshot);
        Ok(())
    }

    /// The sequence of the segment in which the log begins that is not in the snapshot.
    fn begin(&self) -> u64 {
        self.snapshot.as_ref().map_or(1, |snapshot| snapshot.fields().replay_from.sequence)
    }

    /// Reads the segments that may belong to the log.
    fn find_segments(
        &mut self,
        files: &F,
        names: &[SegmentName],
        expected: Option<Expected<'_>>,
    ) -> Result<Vec<Found<F>>> {
        let begin = self.begin();
        let mut found = Vec::new();
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
                // Its header is durable before anything is appended to it.
                Err(problem) if is_unfinished(problem) && nonzero(frames) == 0 => {
                    self.leftovers.push(name);
                    continue;
                }
                Err(problem) if problem.is_incomplete() => return Err(place.damaged(0, problem)),
                Err(problem) => return Err(place.unreadable(problem)),
            };
            if header.name() != segment {
                return Err(place.damaged(0, format_args!("this is {}", header.name())));
            }
            let SegmentHeader { schema, layout, key, .. } = header;
            let kind = Kind { schema, layout, is_sealed: key.is_some() };
            // A migration that did not come to its end leaves a segment of the new type without
            // sessions.
            let is_empty = || !holds_sessions(&header, frames);
            if self.kind.is_none_or(|known| known == kind) || !is_empty() {
                check_kind(&place, kind, expected)?;
                check_key(&place, key, expected)?;
                if *self.kind.get_or_insert(kind) != kind {
                    return Err(place.unreadable("a segment with data of another type of session"));
                }
                self.key = key;
            }
            if *self.store.get_or_insert(header.store) != header.store {
                return Err(place.unreadable("a segment of another store"));
            }
            self.high_water_ms = self.high_water_ms.max(header.wall_ms);
            match first(&header, frames) {
                First::Unused => self.leftovers.push(name),
                First::Link(base, previous) => {
                    let (bytes, cut) = (Bytes(view), Cut::default());
                    found.push(Segment { header, base, previous, bytes, cut });
                }
                First::Torn(_) => {
                    self.durable = self.durable.max(chain::claim(&header, frames));
                    self.torn_bytes += nonzero(frames);
                    self.leftovers.push(name);
                }
            }
        }
        Ok(found)
    }

    /// The log's first segment.
    fn first_of(&self, files: &F, found: &[Found<F>]) -> Result<Option<usize>> {
        let Some(snapshot) = &self.snapshot else {
            let is_first =
                |segment: &Found<F>| (segment.base, segment.previous) == (1, Previous::default());
            return Ok(found.iter().rposition(is_first));
        };
        let from = snapshot.fields().replay_from;
        let name = SegmentName { epoch: from.epoch, sequence: from.sequence };
        let is_first =
            |segment: &Found<F>| (segment.header.name(), segment.base) == (name, from.position);
        let first = found.iter().position(is_first);
        first.map(Some).ok_or_else(|| {
            let problem = format_args!(
                "position {} is not here, with which the log goes on behind the snapshot",
                from.position
            );
            Place(files, &name.to_string()).damaged(SEGMENT_HEADER_BYTES as u64, problem)
        })
    }

    fn find_end(&mut self, files: &F, found: Vec<Found<F>>) -> Result<()> {
        let first = self.first_of(files, &found)?;
        let Chain { mut segments, others, claim } = Chain::of(found, first);
        self.durable = self.durable.max(claim);
        for other in others {
            self.torn_bytes += nonzero(other.frames());
            self.leftovers.push(other.header.name().to_string());
        }
        let (name, end) = match segments.last() {
            Some(last) => (last.header.name().to_string(), last.cut),
            None => (format!("log-*-{:016x}.seg", 1), Cut::default()),
        };
        if self.durable > end.last {
            return Err(Place(files, &name).damaged(
                (SEGMENT_HEADER_BYTES + end.len) as u64,
                format_args!(
                    "the frame of position {} is missing or damaged; it was durable, as all were \
                     up to {}",
                    end.last + 1,
                    self.durable
                ),
            ));
        }
        if let Some(last) = segments.last_mut() {
            let rest = last.frames().get(end.len..).unwrap_or_default();
            self.torn_bytes += nonzero(rest);
            last.cut_off_marks(self.durable);
            let sequence = last.header.sequence;
            self.end = Previous { sequence, last: last.cut.last, chain: last.cut.chain };
        }
        let loose = segments.iter().filter(|segment| segment.cut.last > self.durable);
        let len = |segment: &Found<F>| SEGMENT_HEADER_BYTES + segment.cut.len;
        self.loose =
            loose.map(|segment| (segment.header.name().to_string(), len(segment))).collect();
        self.used = segments;
        Ok(())
    }

    /// Makes durable what this survey counts, then removes what it does not.
    ///
    /// What may not be durable is copied, not synced: if a sync failed before, the operating
    /// system may show what was never written, and sync it without an error.
    ///
    /// # Errors
    /// Those of the files. Then everything is as it was, and may be surveyed again.
    pub(crate) fn secure(&self, files: &F) -> std::io::Result<()> {
        for (name, len) in &self.loose {
            let copy = format!("{name}{UNFINISHED_SUFFIX}");
            // Left behind by an earlier attempt, if it is there.
            let _ = files.remove(&copy);
            let view = files.open(name)?.view()?;
            let bytes = view.get(..*len).ok_or(std::io::ErrorKind::UnexpectedEof)?;
            let written = write_copy(files, &copy, bytes);
            written.and_then(|()| files.rename(&copy, name)).inspect_err(|_| {
                let _ = files.remove(&copy);
            })?;
        }
        // Also for the name of the snapshot, if the last process came no further than to that.
        // Until it is durable, what came before must stay.
        files.sync_dir()?;
        for name in &self.leftovers {
            // One that stays is ignored again next time.
            let _ = files.remove(name);
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
        for frame in self.frames() {
            apply(frame.entry(files)?)?;
            count += 1;
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

    /// The bytes of the files that are the log.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.used.iter().map(|segment| segment.bytes.as_ref().len() as u64).sum()
    }

    /// The file of the snapshot.
    pub(crate) fn snapshot_name(&self) -> String {
        SnapshotName { generation: self.generation }.finished()
    }
}

fn write_copy<F: Files>(files: &F, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let file = files.create(name)?;
    let mut offset = 0;
    for piece in bytes.chunks(COPY_BYTES) {
        file.write_at(piece, offset)?;
        offset += piece.len() as u64;
    }
    file.sync()
}

/// Whether a segment tells of what is in sessions.
fn holds_sessions(header: &SegmentHeader, frames: &[u8]) -> bool {
    let First::Link(base, _) = first(header, frames) else { return false };
    Scan::new(header, base, frames).any(|(_, header, body)| {
        !matches!(Entry::decode(header.kind, body), Ok(Entry::Mark { .. } | Entry::Link { .. }))
    })
}

/// Whether this is what a crash in the middle of a segment's making may leave of its header.
fn is_unfinished(problem: HeaderProblem) -> bool {
    // The first sector may be anything until it is synced.
    problem.is_incomplete() || problem == HeaderProblem::NotOurs
}

/// How many bytes there are up to the last that is not zero.
fn nonzero(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at as u64 + 1)
}

/// Refuses what another program, or another version of this one, wrote.
fn check_kind<F: Files>(
    place: &Place<'_, F>,
    Kind { schema, layout, .. }: Kind,
    expected: Option<Expected<'_>>,
) -> Result<()> {
    let Some(expected) = expected else { return Ok(()) };
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

/// Refuses what is sealed with a key that is not there, or not at all where it should be.
fn check_key<F: Files>(
    place: &Place<'_, F>,
    key: Option<KeyId>,
    expected: Option<Expected<'_>>,
) -> Result<()> {
    let Some(Expected { seal, .. }) = expected else { return Ok(()) };
    seal.check(key).map_err(|problem| problem.told(place.path(), 0))
}
