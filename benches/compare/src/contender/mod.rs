//! What a store must do to be measured, and who is measured.

#[cfg(feature = "ours")]
pub mod cloakroom;
pub mod dashmap;
pub mod mini_moka;
pub mod moka;
pub mod papaya;
pub mod quick_cache;
pub mod scc;
pub mod unlocked;

use std::time::Duration;

use crate::cli::Cli;

pub const VALUE_BYTES: usize = 200;
pub type Value = [u8; VALUE_BYTES];

/// Idle timeout of sessions that are to outlive their section.
pub const LONG_IDLE: Duration = Duration::from_secs(30 * 60);

pub struct Setup {
    /// Expected sessions, for the contenders that cannot do without (quick_cache).
    pub sessions: usize,
    /// Shards of `dashmap-ahash`.
    pub shards: usize,
}

/// What a reader has to know of a contender before comparing it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sessions end by themselves when nobody uses them.
    Expires,
    /// A map that several threads may write; nothing ends by itself.
    Map,
    /// A map that only one thread may write: how fast it could be at best.
    Bound,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Expires => "expires",
            Kind::Map => "map",
            Kind::Bound => "bound",
        }
    }
}

/// One store. The measured loops are compiled anew for each, so no call in them is indirect.
pub trait Contender: Send + Sync + Sized + 'static {
    const NAME: &'static str;
    const KIND: Kind = Kind::Map;
    /// Whether several threads may write, or one write while others read.
    const SHARED_WRITES: bool = true;
    type Key: Copy + Send + Sync;

    fn open(setup: &Setup) -> Self;
    /// Adds a session; `draw` is its key where the store does not make its own.
    fn create(&self, draw: u128, value: &Value) -> Self::Key;
    /// The first 8 bytes of a session's data, counted as a use of the session where the store
    /// knows such a thing. Panics if there is none.
    fn read(&self, key: Self::Key) -> u64;
    /// The same of several sessions: the sum of all.
    #[inline]
    fn read_many(&self, keys: &[Self::Key]) -> u64 {
        keys.iter().fold(0, |sum, &key| self.read(key).wrapping_add(sum))
    }
    fn replace(&self, key: Self::Key, value: &Value);
    fn end(&self, key: Self::Key);
    /// Finishes what the store has put off.
    fn settle(&self) {}
    /// Prepares for `_sessions` sessions.
    fn reserve(&self, _sessions: usize) {}
    /// The longest growth of one shard so far, if the store tells.
    fn longest_growth_us(&self) -> Option<u64> {
        None
    }
}

/// A store whose sessions end by themselves, or with a helper's thread.
pub trait Expires: Contender {
    fn open_expiring(setup: &Setup, _window: Duration) -> Self {
        Self::open(setup)
    }
    /// Adds a session that ends after `idle` if nobody reads it.
    fn create_until(&self, draw: u128, value: &Value, idle: Duration);
    /// Called once, on a thread of its own, when the sessions are due.
    fn sweep(&self) {}
    fn live(&self) -> usize;
    /// What was heard about the ends of sessions, if the store tells.
    fn tally(&self) -> Option<String> {
        None
    }
}

/// The byte by which `create_until` marks a value for `sweep`; 0 stays.
pub const MARK_AT: usize = VALUE_BYTES - 1;

pub trait Visit {
    fn visit<C: Contender>(&mut self);
}

pub trait VisitExpiring {
    fn visit<C: Expires>(&mut self);
}

/// Visits the contenders of the sections about reading.
pub fn each(cli: &Cli, visit: &mut impl Visit) {
    fn offer<C: Contender>(cli: &Cli, visit: &mut impl Visit) {
        if cli.admits(C::NAME) {
            visit.visit::<C>();
        }
    }
    #[cfg(feature = "ours")]
    offer::<cloakroom::Cloakroom>(cli, visit);
    offer::<dashmap::Plain>(cli, visit);
    offer::<dashmap::Ahash>(cli, visit);
    offer::<papaya::Papaya>(cli, visit);
    offer::<scc::SccMap>(cli, visit);
    offer::<scc::SccIndex>(cli, visit);
    offer::<quick_cache::QuickCache>(cli, visit);
    offer::<moka::Moka>(cli, visit);
    offer::<mini_moka::MiniMoka>(cli, visit);
    offer::<unlocked::Unlocked>(cli, visit);
}

/// Visits the contenders that can grow and lose sessions under a reader.
pub fn each_expiring(cli: &Cli, visit: &mut impl VisitExpiring) {
    fn offer<C: Expires>(cli: &Cli, visit: &mut impl VisitExpiring) {
        if cli.admits(C::NAME) {
            visit.visit::<C>();
        }
    }
    #[cfg(feature = "ours")]
    offer::<cloakroom::Cloakroom>(cli, visit);
    offer::<dashmap::Plain>(cli, visit);
    offer::<dashmap::Ahash>(cli, visit);
    offer::<papaya::Papaya>(cli, visit);
    offer::<moka::Moka>(cli, visit);
    offer::<mini_moka::MiniMoka>(cli, visit);
}

/// The kind of the contender of this name; None for what is no store in memory.
pub fn kind_of(name: &str) -> Option<Kind> {
    struct Find<'a>(&'a str, Option<Kind>);
    impl Visit for Find<'_> {
        fn visit<C: Contender>(&mut self) {
            if C::NAME == self.0 {
                self.1 = Some(C::KIND);
            }
        }
    }
    let mut find = Find(name, None);
    each(&Cli::everybody(), &mut find);
    find.1
}

/// The bytes that every read reads.
#[inline(always)]
pub fn first_word(data: &[u8]) -> u64 {
    match data.first_chunk() {
        Some(word) => u64::from_le_bytes(*word),
        None => missing(),
    }
}

#[cold]
#[inline(never)]
pub fn missing() -> ! {
    panic!("a session that must be there is missing")
}
