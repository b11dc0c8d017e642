//! The one word of a record that changes while readers look at it: until when the session needs no
//! touch, with its deadline.
//!
//! ```text
//!            63              32 31                0
//!           +------------------+------------------+
//! live      | fresh until tick | deadline tick    |
//!           +------------------+------------------+
//! dead      | 0 or 1           | fresh until tick |
//!           +------------------+------------------+
//! ```
//! A session is *fresh* for one touch granularity after it was seen, and never beyond its
//! deadline. So one comparison of the whole word with the present tick tells a lookup that the
//! session lives and that there is nothing to store; everything else is decided out of line. When
//! the session was last seen follows from the two: a granularity before.
//!
//! Clocks start at 16, so that smaller ticks in the upper half can mean something else:
//! [`SUPERSEDED`] marks a record that is no longer the newest (look the id up again), [`EXPIRED`] a
//! session whose expiry is decided. Both are never fresh, never live, and refuse every later
//! touch, since a touch is a compare-and-swap from a live word.
//!
//! Everything is `Relaxed`: a record is reached through an Acquire load of its slot, its other
//! fields never change, and no decision that is taken on this word needs to see other memory.

use crate::clock::Tick;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Marks a record that another record or a tombstone took the place of.
const SUPERSEDED: u32 = 0;
/// Marks a session whose expiry is decided.
const EXPIRED: u32 = 1;

/// A value of the word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Life(pub(crate) u64);

impl Life {
    /// The word of a record that is no session: an alias or a tombstone.
    pub(crate) const DEAD: Life = Life((EXPIRED as u64) << 32);

    /// Fresh until that tick, but not beyond the deadline.
    pub(crate) fn new(fresh_until: Tick, deadline: Tick) -> Life {
        Life::of(fresh_until.0.min(deadline.0), deadline.0)
    }

    fn of(upper: u32, lower: u32) -> Life {
        Life(u64::from(upper) << 32 | u64::from(lower))
    }

    fn upper(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn lower(self) -> u32 {
        self.0 as u32
    }

    fn is_dead(self) -> bool {
        self.upper() <= EXPIRED
    }

    /// Until when the session needs no touch, or did not when it was last alive.
    pub(crate) fn fresh_until(self) -> Tick {
        Tick(if self.is_dead() { self.lower() } else { self.upper() })
    }

    /// When the session was last seen, if it is touched at most once in so many ticks. Up to as
    /// much too early where the deadline came before the touch was due again.
    pub(crate) fn last_seen(self, granularity: u32) -> Tick {
        Tick(self.fresh_until().0.saturating_sub(granularity))
    }

    /// When the session expires; for a dead word the beginning of time.
    pub(crate) fn deadline(self) -> Tick {
        Tick(if self.is_dead() { 0 } else { self.lower() })
    }

    /// Whether the session lives and needs no touch; `now` as made by [`Tick::present`].
    #[inline(always)]
    pub(crate) fn is_fresh(self, now: u64) -> bool {
        self.0 > now
    }

    pub(crate) fn is_live(self, now: Tick) -> bool {
        self.deadline() > now
    }

    /// Whether the session's expiry is decided, or there is no session.
    pub(crate) fn is_expired(self) -> bool {
        self.upper() == EXPIRED
    }

    pub(crate) fn is_superseded(self) -> bool {
        self.upper() == SUPERSEDED
    }
}

/// The word itself.
pub(crate) struct LifeWord(AtomicU64);

impl LifeWord {
    pub(crate) fn new(life: Life) -> LifeWord {
        LifeWord(AtomicU64::new(life.0))
    }

    #[inline(always)]
    pub(crate) fn load(&self) -> Life {
        Life(self.0.load(Relaxed))
    }

    /// Moves the session on from `seen` to `next`. False when the word is no longer `seen`:
    /// somebody else touched, replaced, ended or expired the session. Never goes backwards, and
    /// never brings a dead word to life.
    pub(crate) fn touch(&self, seen: Life, next: Life) -> bool {
        !seen.is_dead()
            && next.fresh_until() > seen.fresh_until()
            && self.0.compare_exchange(seen.0, next.0, Relaxed, Relaxed).is_ok()
    }

    /// Takes the word out of use because another record is published in this one's place.
    /// Returns the last life, in which a touch may have come since the caller loaded it.
    pub(crate) fn supersede(&self) -> Life {
        let mut last = self.load();
        loop {
            let dead = Life::of(SUPERSEDED, last.fresh_until().0);
            match self.0.compare_exchange(last.0, dead.0, Relaxed, Relaxed) {
                Ok(_) => return last,
                Err(changed) => last = Life(changed),
            }
        }
    }

    /// Whether the session has expired; if so, that is [decided](LifeWord::expire).
    #[inline]
    pub(crate) fn has_expired(&self, now: Tick) -> bool {
        !self.load().is_live(now) && self.expire(now).is_some()
    }

    /// Decides that the session has expired, if its deadline has come. None when it has not, be
    /// it that a touch was faster, or that another record has taken this one's place. Whoever
    /// tells somebody that a session has expired decides it so, lest a touch whose clock is
    /// earlier brings it back.
    pub(crate) fn expire(&self, now: Tick) -> Option<Life> {
        let mut last = self.load();
        loop {
            if last.is_expired() {
                return Some(last);
            }
            if last.is_live(now) || last.is_superseded() {
                return None;
            }
            let dead = Life::of(EXPIRED, last.fresh_until().0);
            match self.0.compare_exchange(last.0, dead.0, Relaxed, Relaxed) {
                Ok(_) => return Some(last),
                Err(changed) => last = Life(changed),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_word_refuses_touches() {
        let life = Life::new(Tick(25), Tick(30));
        let next = Life::new(Tick(30), Tick(35));
        let word = LifeWord::new(life);
        assert_eq!(word.expire(Tick(29)), None);
        assert_eq!(word.expire(Tick(30)), Some(life));
        assert!(!word.touch(life, next) && !word.touch(word.load(), next));
        assert!(word.load().is_expired() && !word.load().is_live(Tick(16)));
        assert!(!word.load().is_fresh(Tick(16).present()));
        assert_eq!(word.load().last_seen(5), Tick(20), "kept for whoever ends the session");
        assert_eq!(word.supersede().last_seen(5), Tick(20));
        let word = LifeWord::new(life);
        assert_eq!(word.supersede(), life);
        assert!(!word.touch(life, next) && word.load().is_superseded());
        assert!(!word.load().is_fresh(Tick(16).present()));
        assert_eq!(word.expire(Tick(99)), None);
    }

    #[test]
    fn touches_never_go_back() {
        let life = Life::new(Tick(25), Tick(30));
        let word = LifeWord::new(life);
        assert!(!word.touch(life, Life::new(Tick(25), Tick(31))));
        assert!(!word.touch(life, Life::new(Tick(24), Tick(31))));
        assert!(word.touch(life, Life::new(Tick(26), Tick(31))));
        assert_eq!(word.load().deadline(), Tick(31));
    }

    #[test]
    fn whatever_is_fresh_is_live() {
        let ticks = [16, 17, 100, u32::MAX - 1, u32::MAX];
        for fresh_until in ticks {
            for deadline in ticks {
                let life = Life::new(Tick(fresh_until), Tick(deadline));
                for now in [16, 17, 99, 100, u32::MAX - 1] {
                    let fresh = life.is_fresh(Tick(now).present());
                    assert_eq!(fresh, fresh_until > now && deadline > now, "{life:?} at {now}");
                    assert!(!fresh || life.is_live(Tick(now)));
                }
            }
        }
        assert!(!Life::new(Tick(u32::MAX), Tick(u32::MAX)).is_fresh(u64::MAX));
    }
}
