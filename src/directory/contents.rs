//! What the files of a directory are, without a look at the sessions.

use uuid::Uuid;

use super::Directory;
use crate::journal::files::Files as _;

/// What the files are. Positions count the changes of the store over the whole life of its files.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Contents {
    /// The identity of the store.
    #[serde(serialize_with = "as_text")]
    pub store: Option<Uuid>,
    /// How often it was opened.
    pub epoch: u64,
    /// The position of the last change in the files.
    pub position: u64,
    /// The position up to which the files themselves say that everything was durable.
    pub durable: u64,
    /// Bytes behind the end of the log: what a crash leaves, or a server is just writing.
    pub torn_bytes: u64,
    /// The latest time that the files tell of, in Unix milliseconds.
    pub latest_ms: u64,
    /// The snapshot.
    pub snapshot: Option<SnapshotFile>,
    /// The segments of the log behind it, in order.
    pub segments: Vec<SegmentFile>,
    /// Files that do not count any more: the next opening removes them.
    pub others: Vec<OtherFile>,
    /// The bytes of all these files.
    pub bytes: u64,
    /// The bytes that are free on the file system; None where it does not tell.
    pub free_bytes: Option<u64>,
}

/// The snapshot that counts.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct SnapshotFile {
    /// Its name.
    pub name: String,
    /// The length of the file.
    pub bytes: u64,
    /// When it was begun, in Unix milliseconds.
    pub begun_ms: u64,
    /// The sessions in it, with the aliases of renewed ones.
    pub sessions: u64,
    /// Those of them that have an owner.
    pub owned: u64,
    /// The position from which the log is needed besides.
    pub position: u64,
}

/// A segment of the log.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct SegmentFile {
    /// Its name.
    pub name: String,
    /// The length of the file, which is reserved beforehand.
    pub bytes: u64,
    /// The part of it that counts.
    pub used_bytes: u64,
    /// The position of its first frame.
    pub first: u64,
    /// The position of its last frame.
    pub last: u64,
}

/// A file of the store that does not count.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct OtherFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

fn as_text<S: serde::Serializer>(store: &Option<Uuid>, to: S) -> Result<S::Ok, S::Error> {
    match store {
        Some(store) => to.collect_str(store),
        None => to.serialize_none(),
    }
}

impl Contents {
    pub(super) fn of(Directory { still, survey, .. }: &Directory) -> Contents {
        let snapshot = survey.snapshot.as_ref().map(|snapshot| {
            let (fields, counts, name) =
                (snapshot.fields(), snapshot.counts(), survey.snapshot_name());
            SnapshotFile {
                bytes: still.len(&name),
                name,
                begun_ms: fields.high_water_ms,
                sessions: counts.live(),
                owned: counts.owned,
                position: fields.replay_from.position,
            }
        });
        let segments: Vec<SegmentFile> = survey
            .parts()
            .map(|part| SegmentFile {
                bytes: still.len(&part.name),
                name: part.name,
                used_bytes: part.used_bytes,
                first: part.first,
                last: part.last,
            })
            .collect();
        let counts = |name: &str| {
            snapshot.iter().any(|snapshot| snapshot.name == name)
                || segments.iter().any(|segment| segment.name == name)
        };
        let others = still.ours().filter(|name| !counts(name));
        let others: Vec<OtherFile> = others
            .map(|name| OtherFile { bytes: still.len(name), name: name.to_owned() })
            .collect();
        Contents {
            store: survey.store,
            epoch: survey.epoch,
            position: survey.end.last,
            durable: survey.durable,
            torn_bytes: survey.torn_bytes,
            latest_ms: survey.latest_ms(),
            bytes: still.ours().map(|name| still.len(name)).sum(),
            free_bytes: still.free_bytes().ok(),
            snapshot,
            segments,
            others,
        }
    }
}
