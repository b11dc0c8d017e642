//! How a store keeps its sessions on disk: the choices, their defaults, their bounds.

use std::time::Duration;

#[cfg(feature = "encryption")]
pub(crate) use crate::cookie::keys::Keys;
use crate::error::{Error, Result};

/// Nobody has keys without the feature `encryption`.
#[cfg(not(feature = "encryption"))]
#[derive(Clone, Debug)]
pub(crate) enum Keys {}

/// What a write that returned survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// The end of the process, however it ends (`kill -9`, abort, out of memory). Of a power loss
    /// all but the last [`sync_interval`](crate::Builder::sync_interval); of ends and rotations
    /// less, since they ask for a sync at once. The default.
    #[default]
    Crash,
    /// As `Crash`, and every write asks for a sync at once: when
    /// [`Store::flush`](crate::Store::flush) has returned, it survives a power loss. Writes that
    /// come meanwhile share the next sync.
    Power,
}

/// How a change reaches the log's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Append {
    /// A copy into a mapping of the file; the default.
    #[default]
    Mapped,
    /// A system call for each change.
    Written,
}

/// What opening does when files are damaged below the point that was known to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnDamage {
    /// It fails with [`Error::Damaged`] and changes nothing; the default.
    #[default]
    Refuse,
    /// The files are renamed, to `quarantine-...`, and the store starts empty: everybody has to
    /// log in again, and nobody who was logged out is back.
    QuarantineAndStartEmpty,
}

/// What opening a store does with the sessions of its snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Load {
    /// It maps the file, and serves sessions from it while a thread brings them into memory: the
    /// time to the first answer does not depend on their number. The default.
    ///
    /// Bytes are checked before they are used, so damage may be found when the store is long in
    /// use. Then no wrong byte is served: what the damaged part would tell is answered as unknown,
    /// and every later write is refused with [`Error::Damaged`], so that the files stay as they
    /// are. See [`JournalStats::damaged`](crate::JournalStats::damaged).
    ///
    /// With [`OnDamage::QuarantineAndStartEmpty`] files are read as [`Load::Whole`] does: to start
    /// empty is a choice that can be made only while nobody was answered.
    #[default]
    Mapped,
    /// It reads and checks all there is before it returns: about half a second for each million
    /// sessions.
    Whole,
}

/// The options.
#[derive(Clone, Debug)]
pub(crate) struct Keep {
    pub(crate) durability: Durability,
    pub(crate) append: Append,
    pub(crate) on_damage: OnDamage,
    pub(crate) load: Load,
    /// Whether the store has its own thread for it; tests go without.
    pub(crate) loader_thread: bool,
    pub(crate) sync_interval: Duration,
    pub(crate) touch_granularity: Duration,
    pub(crate) wait_for_lock: Duration,
    pub(crate) segment_bytes: u64,
    pub(crate) snapshot_bytes: u64,
    pub(crate) schema: u64,
    pub(crate) drop_undecodable: bool,
    pub(crate) keys: Option<Keys>,
    pub(crate) encrypt_plain: bool,
}

impl Default for Keep {
    fn default() -> Keep {
        Keep {
            durability: Durability::Crash,
            append: Append::Mapped,
            on_damage: OnDamage::Refuse,
            load: Load::Mapped,
            loader_thread: true,
            sync_interval: Duration::from_secs(1),
            touch_granularity: Duration::from_secs(60),
            wait_for_lock: Duration::ZERO,
            segment_bytes: 16 << 20,
            snapshot_bytes: 64 << 20,
            schema: 0,
            drop_undecodable: false,
            keys: None,
            encrypt_plain: false,
        }
    }
}

/// Bounds of a segment: room for the largest session, and what a mapping may be.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 30;

impl Keep {
    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |option, problem| Err(Error::Option { option, problem });
        if !SEGMENT_BYTES.contains(&self.segment_bytes) {
            let problem = format!("{} is not between 1 MiB and 1 GiB", self.segment_bytes);
            return refuse("segment_bytes", problem);
        }
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(60 * 60));
        if !(least..=most).contains(&self.sync_interval) {
            let problem = format!("{:?} is not between {least:?} and {most:?}", self.sync_interval);
            return refuse("sync_interval", problem);
        }
        Ok(())
    }
}
