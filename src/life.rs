//! The one word of a record that changes while readers look at it: when the session was last
//! seen, with the deadline that follows from it.
//!
//! ```text
//!  63            32 31             0
//! +----------------+----------------+
//! | last seen tick | deadline tick  |   one load tells whether the session lives
//! +----------------+----------------+   and whether it has to be touched
//! ```
//! Clocks start at [`Tick::FIRST`], so that smaller deadlines can mean something else:
//! [`SUPERSEDED`] is the word of a record that is no longer the newest (look the id up again),
//! [`EXPIRED`] that of a session whose expiry is decided. Both refuse every later touch, since a
//! touch is a compare-and-swap from a live word.
//!
//! Everything is `Relaxed`: a record is reached through an Acquire load of its slot, its other
//! fields never change, and no decision that is taken on this word needs to see other memory.

use crate::clock::Tick;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The deadline of a record that another record or a tombstone took the place of.
const SUPERSEDED: u32 = 0;
/// The deadline of a session whose expiry is decided.
const EXPIRED: u32 = 1;

/// A value of the word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Life(pub(crate) u64);

impl Life {
    /// The word of a record that is no session: an alias or a tombstone.
    pub(crate) const DEAD: Life = Life(EXPIRED as u64);

    pub(crate) fn new(last_seen: Tick, deadline: Tick) -> Life {
        Life(u64::from(last_seen.0) << 32 | u64::from(deadline.0))
    }

    #[inline(always)]
    pub(crate) fn last_seen(self) -> Tick {
        Tick((self.0 >> 32) as u32)
    }

    #[inline(always)]
    pub(crate) fn deadline(self) -> Tick {
        Tick(self.0 as u32)
    }

    #[inline(always)]
    pub(crate) fn is_live(self, now: Tick) -> bool {
        self.deadline() > now
    }

    /// Whether the session's expiry is decided, or there is no session.
    pub(crate) fn is_expired(self) -> bool {
        self.deadline().0 == EXPIRED
    }

    pub(crate) fn is_superseded(self) -> bool {
        self.deadline().0 == SUPERSEDED
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
        seen.deadline().0 > EXPIRED
            && next.last_seen() > seen.last_seen()
            && self.0.compare_exchange(seen.0, next.0, Relaxed, Relaxed).is_ok()
    }

    /// Takes the word out of use because another record is published in this one's place.
    /// Returns the last life, in which a touch may have come since the caller loaded it.
    pub(crate) fn supersede(&self) -> Life {
        let mut last = self.load();
        loop {
            let dead = Life::new(last.last_seen(), Tick(SUPERSEDED));
            match self.0.compare_exchange(last.0, dead.0, Relaxed, Relaxed) {
                Ok(_) => return last,
                Err(changed) => last = Life(changed),
            }
        }
    }

    /// Decides that the session has expired, if its deadline has come. None when it has not, be
    /// it that a touch was faster, or that another record has taken this one's place.
    pub(crate) fn expire(&self, now: Tick) -> Option<Life> {
        let mut last = self.load();
        loop {
            if last.is_live(now) || last.is_superseded() {
                return None;
            }
            let dead = Life::new(last.last_seen(), Tick(EXPIRED));
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
        let life = Life::new(Tick(20), Tick(30));
        let next = Life::new(Tick(25), Tick(35));
        let word = LifeWord::new(life);
        assert_eq!(word.expire(Tick(29)), None);
        assert_eq!(word.expire(Tick(30)), Some(life));
        assert!(!word.touch(life, next));
        assert!(!word.load().is_live(Tick::FIRST));
        let word = LifeWord::new(life);
        assert_eq!(word.supersede(), life);
        assert!(!word.touch(life, next) && word.load().is_superseded());
    }

    #[test]
    fn touches_never_go_back() {
        let life = Life::new(Tick(20), Tick(30));
        let word = LifeWord::new(life);
        assert!(!word.touch(life, Life::new(Tick(20), Tick(31))));
        assert!(!word.touch(life, Life::new(Tick(19), Tick(31))));
        assert!(word.touch(life, Life::new(Tick(21), Tick(31))));
        assert_eq!(word.load().deadline(), Tick(31));
    }
}
