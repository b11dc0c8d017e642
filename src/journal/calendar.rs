//! The wall clock as the files know it, fitted to the clock by which sessions expire.
//!
//! The two are compared once, when a store is opened: from then on the clock that counts suspend
//! leads, so that somebody who sets the wall clock neither ends sessions nor prolongs them. On
//! disk the highest time ever seen is kept; a wall clock that was set back before a start does not
//! give sessions time that they have used up.

use std::time::SystemTime;

use crate::clock::{Clock, Nanos};

const NANOS_PER_MS: u64 = 1_000_000;

/// Translates between the store's clock and Unix milliseconds.
#[derive(Clone)]
pub(crate) struct Calendar {
    clock: Clock,
    /// The same moment on both.
    at: Nanos,
    at_ms: u64,
}

impl Calendar {
    /// Compares the clocks now; `high_water_ms` is the latest time that the files tell of.
    pub(crate) fn new(clock: &Clock, high_water_ms: u64) -> Calendar {
        let at = clock.now();
        let wall = clock.wall(at).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Calendar { clock: clock.clone(), at, at_ms: wall_ms.max(high_water_ms) }
    }

    /// Unix milliseconds, now.
    pub(crate) fn now_ms(&self) -> u64 {
        self.ms(self.clock.now())
    }

    /// A time of the store's clock in Unix milliseconds, rounded down.
    pub(crate) fn ms(&self, time: Nanos) -> u64 {
        match time.0.checked_sub(self.at.0) {
            Some(later) => self.at_ms.saturating_add(later / NANOS_PER_MS),
            None => self.at_ms.saturating_sub((self.at.0 - time.0).div_ceil(NANOS_PER_MS)),
        }
    }

    /// A time in Unix milliseconds on the store's clock; what is before its beginning becomes
    /// that.
    pub(crate) fn nanos(&self, ms: u64) -> Nanos {
        Nanos(match ms.checked_sub(self.at_ms) {
            Some(later) => self.at.0.saturating_add(later.saturating_mul(NANOS_PER_MS)),
            None => self.at.0.saturating_sub((self.at_ms - ms).saturating_mul(NANOS_PER_MS)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn times_go_there_and_back() {
        let manual = ManualClock::new();
        manual.advance(Duration::from_secs(1000));
        let clock = Clock::manual(&manual);
        let calendar = Calendar::new(&clock, 0);
        let now = clock.now();
        for ms in [0, 1, 999, 500_000] {
            let earlier = Nanos(now.0 - ms * NANOS_PER_MS);
            let later = Nanos(now.0 + ms * NANOS_PER_MS);
            assert_eq!(calendar.nanos(calendar.ms(earlier)), earlier);
            assert_eq!(calendar.nanos(calendar.ms(later)), later);
        }
        assert_eq!(calendar.nanos(u64::MAX).0, u64::MAX, "far away, without wrapping");
        assert_eq!(calendar.ms(Nanos(now.0 - 1)), calendar.now_ms() - 1, "rounded down");
    }

    /// A clock that was set back between two runs must not prolong what the first one stored.
    #[test]
    fn time_never_goes_behind_what_the_files_tell() {
        let manual = ManualClock::new();
        let clock = Clock::manual(&manual);
        let later = Calendar::new(&clock, 0).now_ms() + 60_000;
        let calendar = Calendar::new(&clock, later);
        assert_eq!(calendar.now_ms(), later);
        manual.advance(Duration::from_secs(1));
        assert_eq!(calendar.now_ms(), later + 1000);
    }
}
