//! Counts the sessions by the minute in which they were last seen.

use crate::clock::{TICK, Tick};
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

const TICKS_PER_MINUTE: u32 = (60_000 / TICK.as_millis()) as u32;
/// Minutes that are told apart: the one that is running and 15 before it.
const MINUTE_COUNT: u32 = 16;

/// One shard's counts. A touch changes them only when the session was last seen in another minute,
/// so at most once a minute per session.
///
/// Each place holds a minute in the upper half and a count in the lower one, so that a place of an
/// older minute counts as zero without anybody clearing it. Relaxed: each counter stands alone,
/// and the sum is exact when nothing runs.
pub(crate) struct Activity {
    minutes: [AtomicU64; MINUTE_COUNT as usize],
}

fn minute(tick: Tick) -> u32 {
    tick.0 / TICKS_PER_MINUTE
}

impl Activity {
    pub(crate) fn new() -> Activity {
        Activity { minutes: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    fn place(&self, minute: u32) -> &AtomicU64 {
        &self.minutes[(minute % MINUTE_COUNT) as usize]
    }

    /// A session came, seen now.
    pub(crate) fn add(&self, seen: Tick) {
        let minute = u64::from(minute(seen));
        let _ = self.place(minute as u32).fetch_update(Relaxed, Relaxed, |word| {
            match (word >> 32).cmp(&minute) {
                std::cmp::Ordering::Less => Some(minute << 32 | 1),
                std::cmp::Ordering::Equal => Some(word + 1),
                // Seen a quarter of an hour ago, and the place is taken since.
                std::cmp::Ordering::Greater => None,
            }
        });
    }

    /// A session went that was last seen then.
    pub(crate) fn remove(&self, seen: Tick) {
        let minute = minute(seen);
        let _ = self.place(minute).fetch_update(Relaxed, Relaxed, |word| {
            (word >> 32 == u64::from(minute) && word as u32 > 0).then(|| word - 1)
        });
    }

    /// A session was seen again.
    pub(crate) fn moved(&self, from: Tick, to: Tick) {
        if minute(from) != minute(to) {
            self.add(to);
            self.remove(from);
        }
    }

    /// Sessions seen in the minute that is running or the `minutes` before it, at most 15.
    pub(crate) fn seen_within(&self, minutes: u32, now: Tick) -> u64 {
        let last = minute(now);
        (last.saturating_sub(minutes.min(MINUTE_COUNT - 1))..=last)
            .map(|minute| {
                let word = self.place(minute).load(Relaxed);
                if word >> 32 == u64::from(minute) { word & 0xffff_ffff } else { 0 }
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: u32) -> Tick {
        Tick(minute * TICKS_PER_MINUTE + 5)
    }

    #[test]
    fn sessions_are_counted_in_the_minute_they_were_seen() {
        let activity = Activity::new();
        activity.add(at(100));
        activity.add(at(100));
        activity.moved(at(100), at(104));
        assert_eq!(activity.seen_within(1, at(104)), 1);
        assert_eq!(activity.seen_within(5, at(104)), 2);
        activity.remove(at(104));
        assert_eq!(activity.seen_within(15, at(104)), 1);
        assert_eq!(activity.seen_within(15, at(115)), 1);
        assert_eq!(activity.seen_within(15, at(116)), 0);
        assert_eq!(activity.seen_within(15, at(100 + MINUTE_COUNT)), 0, "a jump of a whole round");
        activity.add(at(100 + MINUTE_COUNT));
        activity.remove(at(100));
        assert_eq!(activity.seen_within(15, at(100 + MINUTE_COUNT)), 1);
    }
}
