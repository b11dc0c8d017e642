//! A snapshot whose sessions are served from its file, until they are in memory.
//!
//! Each entry has a bit. It is set, under the shard's lock, once what the entry says is in memory.
//! From then on memory alone is the truth, whatever becomes of the session; before, the entry is,
//! and memory holds nothing for its id. Bits are never cleared.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::budget::Cost;
use crate::clock::{Nanos, Tick};
use crate::error::{Error, Result};
use crate::journal::sealing::{Seal, SealProblem};
use crate::journal::snapshot::{Alias, EntryOffset, Found, Weights};
use crate::journal::stored::Stored;
use crate::journal::{Calendar, StoreSnapshot};
use crate::record::{from_nanos, record_len};
use crate::shard::cost;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::{Arc, Mutex, lock};
use crate::token::SessionId;

/// How [`weigh`] weighs. To be raised when it comes to other results: a snapshot that was weighed
/// otherwise is read as a whole.
pub(super) const SCALE: u64 = 1;

/// Tells what is wrong with data that is no archive of the session's type.
pub(crate) type Check = fn(&[u8]) -> std::result::Result<(), String>;

/// What a session takes in memory: as [`Sessions::draft`](super::Sessions::draft) has it, but for
/// rare ones (timeouts that have no number, deadlines at the end of time).
pub(super) fn weigh(stored: &Stored<'_>) -> Cost {
    let lifetime = from_nanos(stored.lifetime_ns);
    let is_plain = stored.owner.is_empty()
        && stored.label.is_empty()
        && stored.lifetime_ns != u64::MAX
        && Tick::divides(lifetime)
        && stored.created_ms == stored.authenticated_ms;
    let texts = (!is_plain).then_some((stored.owner, stored.label));
    cost(record_len(stored.data.len(), texts))
}

/// The snapshot.
pub(crate) struct Backing {
    pub(super) snapshot: StoreSnapshot,
    pub(super) calendar: Calendar,
    check: Check,
    seal: Seal,
    /// Aliases that were good then are put into memory, also when their time is over.
    pub(super) opened: Tick,
    file: PathBuf,
    loaded: Bits,
    /// Where the loader goes on; None at the end. Comes before all other locks.
    pub(super) walk: Mutex<Option<EntryOffset>>,
    /// Sessions that are not in memory yet.
    left: AtomicU64,
    /// Where the walk is, for those who only want to know.
    bytes: AtomicU64,
    damage: OnceLock<(u64, String)>,
    /// Sessions that were seen where they could not be put into memory.
    seen: Mutex<Vec<(SessionId, Nanos)>>,
}

/// How far the loader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) sessions: u64,
    pub(crate) sessions_total: u64,
    pub(crate) bytes: u64,
    pub(crate) bytes_total: u64,
}

impl Backing {
    /// Whether a snapshot tells what its sessions take in memory, so that it can be served before
    /// they are there.
    pub(crate) fn is_weighed(snapshot: &StoreSnapshot) -> bool {
        let (counts, weights) = (snapshot.counts(), snapshot.weights());
        let sessions = weights.anonymous.sessions.saturating_add(weights.owned.sessions);
        let fits = weights.owned.sessions == counts.owned && sessions <= counts.live();
        weights.scale == SCALE && fits
    }

    /// How many sessions a snapshot has; with the aliases, if it does not tell.
    pub(crate) fn sessions_in(snapshot: &StoreSnapshot) -> u64 {
        let Weights { anonymous, owned, .. } = snapshot.weights();
        let is_weighed = Backing::is_weighed(snapshot);
        if is_weighed { anonymous.sessions + owned.sessions } else { snapshot.counts().live() }
    }

    /// Only for a snapshot that [is weighed](Backing::is_weighed).
    pub(crate) fn new(
        snapshot: StoreSnapshot,
        file: PathBuf,
        calendar: Calendar,
        opened: Tick,
        (check, seal): (Check, Seal),
    ) -> Backing {
        Backing {
            loaded: Bits::new(snapshot.numbers_end()),
            left: AtomicU64::new(Backing::sessions_in(&snapshot)),
            snapshot,
            calendar,
            check,
            seal,
            opened,
            file,
            walk: Mutex::new(Some(EntryOffset(0))),
            bytes: AtomicU64::new(0),
            damage: OnceLock::new(),
            seen: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn weights(&self) -> Weights {
        self.snapshot.weights()
    }

    /// What an id leads to that is not in memory.
    ///
    /// # Errors
    /// [`Error::Damaged`]: then nothing is known of the id.
    pub(super) fn find(&self, id: SessionId) -> Result<Option<(EntryOffset, Found<'_>)>> {
        let found = self.snapshot.find(id);
        let found = found.map_err(|damage| self.damaged(damage.offset, damage.to_string()))?;
        Ok(found.filter(|&(at, _)| !self.is_loaded(at)))
    }

    /// Calls `f` with a session of the file, opened; with its data checked.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::Unreadable`] if its key was taken out of the ring.
    pub(super) fn open<R>(
        &self,
        at: EntryOffset,
        stored: &Stored<'_>,
        f: impl FnOnce(&Stored<'_>) -> R,
    ) -> Result<R> {
        let store = self.snapshot.fields().store;
        let opened = self.seal.open(store, stored, |stored| {
            (self.check)(stored.data).map_err(|problem| self.damaged(at.0, problem))?;
            Ok(f(stored))
        });
        opened.unwrap_or_else(|problem| match problem {
            SealProblem::Changed(_) => Err(self.damaged(at.0, problem.to_string())),
            problem => Err(problem.told(self.file.clone(), at.0)),
        })
    }

    /// The names that an owner may have in the file.
    pub(super) fn names_of(&self, owner: &str) -> Vec<String> {
        self.seal.names_of(self.snapshot.fields().store, owner)
    }

    /// Whether an alias is within its time.
    pub(super) fn is_good(&self, alias: Alias, now: Tick) -> bool {
        Tick::at(self.calendar.nanos(alias.until_ms)) > now
    }

    /// Whether an entry is in memory. Pairs with [`Backing::set_loaded`]: whoever sees the bit
    /// finds what was put into memory before.
    pub(super) fn is_loaded(&self, at: EntryOffset) -> bool {
        self.loaded.has(self.snapshot.number_of(at))
    }

    /// What an entry says is in memory now; called under the lock of its shard.
    pub(super) fn set_loaded(&self, at: EntryOffset, is_session: bool) {
        self.loaded.set(self.snapshot.number_of(at));
        self.left.fetch_sub(u64::from(is_session), Relaxed);
    }

    /// How many sessions are not in memory yet.
    pub(crate) fn left(&self) -> u64 {
        self.left.load(Relaxed)
    }

    pub(super) fn set_position(&self, at: EntryOffset) {
        self.bytes.store(at.0, Relaxed);
    }

    pub(crate) fn loaded(&self) -> Loaded {
        let sessions_total = Backing::sessions_in(&self.snapshot);
        let bytes_total = self.snapshot.entries_len();
        Loaded {
            sessions: sessions_total - self.left().min(sessions_total),
            sessions_total,
            bytes: self.bytes.load(Relaxed).min(bytes_total),
            bytes_total,
        }
    }

    /// Notes that bytes are not those that were written; the error to tell.
    #[cold]
    pub(super) fn damaged(&self, offset: u64, problem: String) -> Error {
        let (offset, problem) = self.damage.get_or_init(|| (offset, problem)).clone();
        Error::Damaged { file: self.file.clone(), offset, problem }
    }

    /// Whether damage was found, and which.
    pub(crate) fn damage(&self) -> Option<Error> {
        let (offset, problem) = self.damage.get()?.clone();
        Some(Error::Damaged { file: self.file.clone(), offset, problem })
    }

    /// Notes that a session was seen which only the file has.
    pub(super) fn note_seen(&self, id: SessionId, seen: Nanos) {
        let mut all = lock(&self.seen);
        match all.iter_mut().find(|(other, _)| *other == id) {
            Some((_, last)) => *last = seen.max(*last),
            None => all.push((id, seen)),
        }
    }

    /// When a session was seen that is in memory now.
    pub(super) fn take_seen(&self, id: SessionId) -> Option<Nanos> {
        let mut all = lock(&self.seen);
        let at = all.iter().position(|(other, _)| *other == id)?;
        Some(all.swap_remove(at).1)
    }
}

/// The place in a store where its backing is, while it has one.
pub(crate) struct Slot {
    /// Whether there is one: all that a call asks that does not need it.
    is_taken: AtomicBool,
    backing: Mutex<Option<Arc<Backing>>>,
}

impl Slot {
    pub(super) fn new() -> Slot {
        Slot { is_taken: AtomicBool::new(false), backing: Mutex::new(None) }
    }

    /// Acquire pairs with the Release of [`Slot::clear`]: whoever finds no backing finds all of it
    /// in memory.
    #[inline]
    pub(super) fn is_taken(&self) -> bool {
        self.is_taken.load(Acquire)
    }

    pub(super) fn get(&self) -> Option<Arc<Backing>> {
        if self.is_taken() { lock(&self.backing).clone() } else { None }
    }

    pub(super) fn put(&self, backing: Arc<Backing>) {
        *lock(&self.backing) = Some(backing);
        self.is_taken.store(true, Release);
    }

    pub(super) fn clear(&self) {
        self.is_taken.store(false, Release);
        let _backing = lock(&self.backing).take();
    }
}

/// One bit for each entry that there may be. Takes its memory where bits are set.
struct Bits(Box<[OnceLock<Box<[AtomicU64]>>]>);

const PART_WORDS: u64 = 512;
const PART_BITS: u64 = 64 * PART_WORDS;

impl Bits {
    fn new(count: u64) -> Bits {
        Bits((0..=count / PART_BITS).map(|_| OnceLock::new()).collect())
    }

    fn word(part: &[AtomicU64], number: u64) -> Option<(&AtomicU64, u64)> {
        part.get((number % PART_BITS / 64) as usize).map(|word| (word, 1 << (number % 64)))
    }

    fn has(&self, number: u64) -> bool {
        let part = self.0.get((number / PART_BITS) as usize).and_then(OnceLock::get);
        let word = part.and_then(|part| Bits::word(part, number));
        word.is_some_and(|(word, bit)| word.load(Acquire) & bit != 0)
    }

    fn set(&self, number: u64) {
        let part = self.0.get((number / PART_BITS) as usize);
        let part = part
            .map(|part| part.get_or_init(|| (0..PART_WORDS).map(|_| AtomicU64::new(0)).collect()));
        if let Some((word, bit)) = part.and_then(|part| Bits::word(part, number)) {
            word.fetch_or(bit, Release);
        }
    }
}

#[cfg(test)]
thread_local! {
    /// Called by this thread when a session is in memory and its bit is not set yet.
    pub(super) static BETWEEN: std::cell::RefCell<Option<Box<dyn Fn()>>> =
        const { std::cell::RefCell::new(None) };
}

#[cfg(test)]
pub(super) fn between() {
    BETWEEN.with_borrow(|hook| hook.iter().for_each(|hook| hook()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_stands_alone() {
        let bits = Bits::new(3 * PART_BITS - 1);
        let numbers = [0, 1, 63, 64, PART_BITS - 1, PART_BITS, 2 * PART_BITS + 77];
        for (index, &number) in numbers.iter().enumerate() {
            assert!(!bits.has(number), "{number}");
            bits.set(number);
            for (other, &number) in numbers.iter().enumerate() {
                assert_eq!(bits.has(number), other <= index, "{number}");
            }
        }
        assert!(!bits.has(u64::MAX));
    }

    /// Whoever changes what a session takes in memory changes what snapshots say of it: then
    /// [`SCALE`] has to be raised, and this table made anew.
    #[test]
    fn weights_are_those_of_this_scale() {
        let data = vec![0; 20_000];
        let day_ns = 24 * 60 * 60 * 1_000_000_000;
        let stored = |len, owner, label, lifetime_ns, authenticated_ms| Stored {
            id: SessionId(1),
            version: 1,
            created_ms: 1,
            authenticated_ms,
            seen_ms: 1,
            idle_ns: day_ns,
            lifetime_ns,
            owner,
            label,
            data: &data[..len],
        };
        let bytes = |stored: Stored<'_>| weigh(&stored).bytes;
        let by_len =
            [0, 1, 100, 200, 1000, 4000, 20_000].map(|len| bytes(stored(len, "", "", day_ns, 1)));
        let by_len_told = [80, 80, 176, 272, 1120, 4384, 20192];
        assert_eq!((SCALE, by_len), (1, by_len_told));
        let others = [
            bytes(stored(200, "alice", "", day_ns, 1)),
            bytes(stored(200, "", "Firefox", day_ns, 1)),
            bytes(stored(200, "", "", u64::MAX, 1)),
            bytes(stored(200, "", "", day_ns, 2)),
            bytes(stored(200, "", "", day_ns + 1, 1)),
        ];
        assert_eq!(others, [320, 320, 304, 304, 304]);
    }
}
