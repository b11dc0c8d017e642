//! How long a session lives: the timeouts of one session, numbered so that a record holds a byte.

use std::sync::OnceLock;
use std::time::Duration;

use crate::clock::{Nanos, TICK, Tick};
use crate::life::Life;
use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};
use crate::sync::{Mutex, lock};

/// The shortest time between two touches of one session that are both stored, if its timeouts are
/// not short.
const TOUCH_GRANULARITY_MIN: Duration = Duration::from_secs(1);
/// The longest such time, so that last seen means something also where nobody is ever idle.
const TOUCH_GRANULARITY_MAX: Duration = Duration::from_secs(60 * 60);
/// Sessions are touched at most this many times per idle timeout, or lifetime.
const TOUCHES_PER_TIMEOUT: u32 = 64;
/// The same for short timeouts: a session that is in use all the time must not expire for touches
/// that are not stored.
const TOUCHES_PER_SHORT_TIMEOUT: u32 = 8;

/// The timeouts of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Timeouts {
    pub(crate) idle: Duration,
    pub(crate) lifetime: Duration,
}

impl Timeouts {
    /// The tick at which the lifetime of a session that authenticated at `from` is over.
    pub(crate) fn absolute(self, from: Nanos) -> Tick {
        Tick::deadline(from, self.lifetime)
    }

    /// How many ticks a touch has to be later than the last one to be stored.
    pub(crate) fn granularity_ticks(self) -> u32 {
        let shorter = self.idle.min(self.lifetime);
        let granularity = (shorter / TOUCHES_PER_TIMEOUT)
            .clamp(TOUCH_GRANULARITY_MIN, TOUCH_GRANULARITY_MAX)
            .min(shorter / TOUCHES_PER_SHORT_TIMEOUT)
            .max(TICK)
            .min(shorter);
        u32::try_from(granularity.as_nanos() / TICK.as_nanos()).unwrap_or(u32::MAX)
    }
}

/// The number of a pair of timeouts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimeoutsIndex(pub(crate) u8);

impl TimeoutsIndex {
    /// The store has seen too many different pairs: the record itself holds the timeouts.
    pub(crate) const EXPLICIT: TimeoutsIndex = TimeoutsIndex(u8::MAX);
}

/// All pairs of timeouts that a store has met, up to 255. Servers use a handful.
pub(crate) struct TimeoutsTable {
    /// By index; ticks. Written before the first record with that index is published, so lookups
    /// load it Relaxed.
    granularity: [AtomicU32; 255],
    entries: [OnceLock<Timeouts>; 255],
    count: Mutex<usize>,
}

impl TimeoutsTable {
    pub(crate) fn new() -> TimeoutsTable {
        TimeoutsTable {
            granularity: std::array::from_fn(|_| AtomicU32::new(0)),
            entries: std::array::from_fn(|_| OnceLock::new()),
            count: Mutex::new(0),
        }
    }

    /// The number of these timeouts, new or old.
    pub(crate) fn index_of(&self, timeouts: Timeouts) -> TimeoutsIndex {
        // The store's two defaults come first: they are found without the lock.
        let known = |from: usize, to: usize| {
            (from..to).find(|&index| self.entries[index].get() == Some(&timeouts))
        };
        if let Some(index) = known(0, 2) {
            return TimeoutsIndex(index as u8);
        }
        let mut count = lock(&self.count);
        if let Some(index) = known(0, *count) {
            return TimeoutsIndex(index as u8);
        }
        let Some(entry) = self.entries.get(*count) else { return TimeoutsIndex::EXPLICIT };
        self.granularity[*count].store(timeouts.granularity_ticks(), Relaxed);
        let _ = entry.set(timeouts);
        *count += 1;
        TimeoutsIndex((*count - 1) as u8)
    }

    /// The timeouts with this number. None for [`TimeoutsIndex::EXPLICIT`].
    pub(crate) fn get(&self, index: TimeoutsIndex) -> Option<Timeouts> {
        self.entries.get(usize::from(index.0)).and_then(OnceLock::get).copied()
    }

    /// How many ticks a touch has to be later than the last one to be stored. None for
    /// [`TimeoutsIndex::EXPLICIT`].
    pub(crate) fn granularity_ticks(&self, index: TimeoutsIndex) -> Option<u32> {
        self.granularity.get(usize::from(index.0)).map(|ticks| ticks.load(Relaxed))
    }

    /// The life of a session seen at `now`, with these timeouts of this number.
    pub(crate) fn life(
        &self,
        index: TimeoutsIndex,
        timeouts: Timeouts,
        now: Nanos,
        absolute: Tick,
    ) -> Life {
        let granularity =
            self.granularity_ticks(index).unwrap_or_else(|| timeouts.granularity_ticks());
        let fresh_until = Tick::at(now).0.saturating_add(granularity);
        Life::new(Tick(fresh_until), Tick::deadline(now, timeouts.idle).min(absolute))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(idle: u64, lifetime: u64) -> Timeouts {
        Timeouts {
            idle: Duration::from_secs(60 * idle),
            lifetime: Duration::from_secs(60 * lifetime),
        }
    }

    #[test]
    fn pairs_are_numbered_once_and_never_wrap() {
        let table = TimeoutsTable::new();
        for round in 0..2 {
            for idle in 0..255 {
                let index = table.index_of(minutes(idle, 600));
                assert_eq!(index, TimeoutsIndex(idle as u8), "round {round}");
                assert_eq!(table.get(index), Some(minutes(idle, 600)));
            }
        }
        assert_eq!(table.index_of(minutes(1, 1)), TimeoutsIndex::EXPLICIT);
        assert_eq!(table.get(TimeoutsIndex::EXPLICIT), None);
        assert_eq!(table.granularity_ticks(TimeoutsIndex::EXPLICIT), None);
        assert_eq!(table.granularity_ticks(TimeoutsIndex(1)), Some(20));
        assert_eq!(table.granularity_ticks(TimeoutsIndex(64)), Some(20 * 60));
    }

    #[test]
    fn a_touch_is_never_off_by_more_than_an_eighth_of_a_short_timeout() {
        let ticks = |millis| {
            let idle = Duration::from_millis(millis);
            Timeouts { idle, lifetime: Duration::MAX }.granularity_ticks()
        };
        let cases = [(0, 0), (49, 0), (50, 1), (400, 1), (1000, 2), (4000, 10), (8000, 20)];
        for (millis, expected) in cases {
            assert_eq!(ticks(millis), expected, "{millis} ms");
        }
        assert_eq!((ticks(60_000), ticks(128_000)), (20, 40));
    }

    #[test]
    fn the_deadline_is_the_earlier_of_the_two() {
        let (table, now) = (TimeoutsTable::new(), Nanos(0));
        let life = |timeouts: Timeouts| {
            table.life(table.index_of(timeouts), timeouts, now, timeouts.absolute(now))
        };
        let deadline = |secs| Tick::deadline(now, Duration::from_secs(secs));
        assert_eq!(life(minutes(30, 10)).deadline(), deadline(600));
        assert_eq!(life(minutes(30, 100)).deadline(), deadline(1800));
        assert_eq!(life(minutes(64, 100)).fresh_until(), deadline(60));
        assert_eq!(life(minutes(64, 100)).last_seen(20 * 60), Tick::at(now));
        let for_ever = life(Timeouts { idle: Duration::MAX, lifetime: Duration::MAX });
        assert_eq!(for_ever.deadline(), Tick::NEVER);
        assert_eq!(for_ever.fresh_until(), deadline(3600), "touched every hour at least");
        assert!(for_ever.is_live(Tick::LAST));
        let short = Timeouts { idle: Duration::from_millis(300), lifetime: Duration::MAX };
        assert_eq!(life(short).fresh_until(), Tick(Tick::at(now).0 + 1), "seen again at once");
        assert_eq!(life(short).last_seen(1), Tick::at(now));
        let none = Timeouts { idle: Duration::ZERO, lifetime: Duration::MAX };
        assert_eq!(life(none).fresh_until(), life(none).deadline(), "never fresh when dead");
    }
}
