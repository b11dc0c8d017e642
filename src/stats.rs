//! The store's numbers.

use std::fmt;
use std::time::Duration;

use crate::error::Reason;

/// The numbers of a store at one moment: from [`Store::stats`](crate::Store::stats).
///
/// Exact when nothing runs; otherwise each number is right at some moment during the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Live sessions, with those that have expired and are not yet tidied up: with the expiry
    /// thread, the last 100 ms or so.
    pub live: u64,
    /// Live sessions without an owner.
    pub anonymous: u64,
    /// Live sessions with an owner.
    pub authenticated: u64,
    /// Owners that have a session.
    pub owners: u64,
    /// Bytes that live sessions take, as [`Builder::bytes_max`](crate::Builder::bytes_max) counts
    /// them.
    pub bytes: u64,
    /// Bytes of the table, the wheels, and of memory that waits for its last reader.
    pub overhead_bytes: u64,
    /// Bytes that the store holds of the system, with what it keeps for later. 0 with
    /// [`Memory::System`](crate::Memory::System).
    pub mapped_bytes: u64,
    /// Ended sessions whose reason is remembered.
    pub remembered: u64,
    /// Lookups that found a session.
    pub hits: u64,
    /// Lookups that found none.
    pub misses: u64,
    /// Sessions created since the store was opened.
    pub created: u64,
    /// Sessions renewed since the store was opened.
    pub renewed: u64,
    /// Sessions ended since the store was opened, in the order of [`Reason::ALL`].
    pub ended: [u64; Reason::ALL.len()],
    /// Uses of a token that had been renewed, after the grace time.
    pub suspicious: u64,
    /// Events that found a subscriber's queue full.
    pub events_dropped: u64,
    /// Watches that wait for their session to end.
    pub watched: u64,
    /// Nodes of the timer wheels: one per session that can expire.
    pub wheel_nodes: u64,
    /// How long a shard was locked at most to grow or shrink its part of the table.
    pub resize_max: Duration,
    /// Live sessions seen in this minute or the one before.
    pub active_1_minute: u64,
    /// Live sessions seen in this minute or the five before.
    pub active_5_minutes: u64,
    /// Live sessions seen in this minute or the 15 before.
    pub active_15_minutes: u64,
    /// The numbers of the journal; None for a store in memory.
    pub journal: Option<JournalStats>,
}

/// The numbers of a store's journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalStats {
    /// The position of the last change. Changes are counted over the whole life of the files.
    pub written: u64,
    /// The position up to which everything is durable. Never goes back.
    pub durable: u64,
    /// Bytes written to the log since the store was opened.
    pub log_bytes: u64,
    /// Syncs of the log since the store was opened.
    pub syncs: u64,
    /// How many of them failed.
    pub sync_failures: u64,
    /// A sync failed, and the snapshot that makes up for it is not there yet: what is written goes
    /// on to survive the end of the process, but not a power loss.
    pub degraded: bool,
    /// Snapshots that failed since the store was opened: the log goes on to grow.
    pub snapshot_failures: u64,
    /// Sessions that are served from the file of the snapshot, until the loader has them in
    /// memory: see [`Load::Mapped`](crate::Load::Mapped). They count as live, with the bytes that
    /// they will take, but not among owners, wheel nodes and active sessions.
    pub unloaded: u64,
    /// The file of the snapshot turned out to be damaged while sessions were served from it: no
    /// write is taken any more. Each fails with [`Error::Damaged`](crate::Error::Damaged), which
    /// tells file, place and cause.
    pub damaged: bool,
}

impl Stats {
    /// How many sessions ended for this reason.
    pub fn ended_by(&self, reason: Reason) -> u64 {
        self.ended[usize::from(reason.code())]
    }

    /// How many sessions were evicted: 0 unless the store is set to evict.
    pub fn evicted(&self) -> u64 {
        self.ended_by(Reason::Evicted)
    }
}

/// One line.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} live ({} authenticated), {} active, {} KiB, {} hits, {} misses, {} created, \
             {} logged out, {} expired, {} rotated, {} revoked, {} evicted",
            self.live,
            self.authenticated,
            self.active_5_minutes,
            self.bytes.div_ceil(1024),
            self.hits,
            self.misses,
            self.created,
            self.ended_by(Reason::LoggedOut),
            self.ended_by(Reason::Expired),
            self.ended_by(Reason::Rotated),
            self.ended_by(Reason::Revoked),
            self.evicted(),
        )
    }
}
