//! How many sessions and bytes there are, against how many there may be.

use std::fmt;

use crate::error::Limit;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Whether a session belongs to somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    Anonymous,
    Authenticated,
}

/// What one session takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cost {
    pub(crate) sessions: u64,
    pub(crate) bytes: u64,
}

/// The most that there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) all: Cost,
    pub(crate) anonymous: Cost,
}

/// Two counters that are kept together.
///
/// Relaxed throughout: a counter orders no other memory. A reservation is one compare-and-swap of
/// each. One that fails at the second gives the first back; in between it may refuse another one
/// for which there is room. So both are looked at before the first is taken: what is plainly too
/// much takes nothing, not even for a moment.
struct Sums {
    sessions: AtomicU64,
    bytes: AtomicU64,
}

enum Exceeded {
    Sessions,
    Bytes,
}

/// The next value of a sum that may be so much at most. Nothing more is within any bound.
fn within(max: u64, more: u64) -> impl Fn(u64) -> Option<u64> {
    move |sum| sum.checked_add(more).filter(|&sum| more == 0 || sum <= max)
}

impl Sums {
    const fn new() -> Sums {
        Sums { sessions: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// Whether there is room, without taking it.
    fn check(&self, cost: Cost, max: Cost) -> Result<(), Exceeded> {
        let sums = self.load();
        within(max.sessions, cost.sessions)(sums.sessions).ok_or(Exceeded::Sessions)?;
        within(max.bytes, cost.bytes)(sums.bytes).ok_or(Exceeded::Bytes)?;
        Ok(())
    }

    fn reserve(&self, cost: Cost, max: Cost) -> Result<(), Exceeded> {
        if cost.sessions > 0 {
            self.sessions
                .fetch_update(Relaxed, Relaxed, within(max.sessions, cost.sessions))
                .map_err(|_| Exceeded::Sessions)?;
        }
        if self.bytes.fetch_update(Relaxed, Relaxed, within(max.bytes, cost.bytes)).is_err() {
            self.sessions.fetch_sub(cost.sessions, Relaxed);
            return Err(Exceeded::Bytes);
        }
        Ok(())
    }

    fn release(&self, cost: Cost) {
        if cost.sessions > 0 {
            self.sessions.fetch_sub(cost.sessions, Relaxed);
        }
        self.bytes.fetch_sub(cost.bytes, Relaxed);
    }

    fn add(&self, cost: Cost) {
        self.sessions.fetch_add(cost.sessions, Relaxed);
        self.bytes.fetch_add(cost.bytes, Relaxed);
    }

    fn load(&self) -> Cost {
        Cost { sessions: self.sessions.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }
}

/// The sums over the whole store.
pub(crate) struct Budget {
    all: Sums,
    anonymous: Sums,
    bounds: Bounds,
}

impl Budget {
    pub(crate) fn new(bounds: Bounds) -> Budget {
        Budget { all: Sums::new(), anonymous: Sums::new(), bounds }
    }

    /// Takes room, or tells which limit refused it; then nothing is taken.
    pub(crate) fn reserve(&self, class: Class, cost: Cost) -> Result<(), Limit> {
        let of_all = |exceeded| match exceeded {
            Exceeded::Sessions => Limit::Sessions,
            Exceeded::Bytes => Limit::Bytes,
        };
        if class == Class::Authenticated {
            self.all.check(cost, self.bounds.all).map_err(of_all)?;
            return self.all.reserve(cost, self.bounds.all).map_err(of_all);
        }
        let of_share = |exceeded| match exceeded {
            Exceeded::Sessions => Limit::AnonymousSessions,
            Exceeded::Bytes => Limit::AnonymousBytes,
        };
        self.anonymous.check(cost, self.bounds.anonymous).map_err(of_share)?;
        self.all.check(cost, self.bounds.all).map_err(of_all)?;
        self.anonymous.reserve(cost, self.bounds.anonymous).map_err(of_share)?;
        self.all.reserve(cost, self.bounds.all).map_err(|exceeded| {
            self.anonymous.release(cost);
            of_all(exceeded)
        })
    }

    /// Whether this cost would be within the bounds if every session went that may be evicted for
    /// it: all of them for an authenticated session, the anonymous ones for an anonymous one.
    pub(crate) fn could_fit(&self, class: Class, cost: Cost) -> bool {
        let fits = |kept: Cost, max: Cost| {
            kept.sessions.saturating_add(cost.sessions) <= max.sessions
                && kept.bytes.saturating_add(cost.bytes) <= max.bytes
        };
        let none = Cost { sessions: 0, bytes: 0 };
        if class == Class::Authenticated {
            return fits(none, self.bounds.all);
        }
        let (all, anonymous) = self.sums();
        let kept = Cost {
            sessions: all.sessions.saturating_sub(anonymous.sessions),
            bytes: all.bytes.saturating_sub(anonymous.bytes),
        };
        fits(kept, self.bounds.all) && fits(none, self.bounds.anonymous)
    }

    /// Turns the room of one session into that of another. Only more bytes can be refused: the
    /// number of sessions stays the same.
    pub(crate) fn exchange(&self, old: (Class, Cost), new: (Class, Cost)) -> Result<(), Limit> {
        let more = new.1.bytes.saturating_sub(old.1.bytes);
        let less = old.1.bytes.saturating_sub(new.1.bytes);
        let bytes = |bytes| Cost { sessions: 0, bytes };
        if more > 0 {
            self.reserve(new.0, bytes(more))?;
        }
        if old.0 == Class::Anonymous && new.0 == Class::Authenticated {
            self.anonymous.release(old.1);
        }
        if less > 0 {
            self.release(new.0, bytes(less));
        }
        Ok(())
    }

    /// Undoes [`Budget::exchange`].
    pub(crate) fn exchange_back(&self, old: (Class, Cost), new: (Class, Cost)) {
        if old.0 == Class::Anonymous && new.0 == Class::Authenticated {
            self.anonymous.add(old.1);
            self.all.add(Cost { sessions: 0, bytes: old.1.bytes });
            self.all.release(Cost { sessions: 0, bytes: new.1.bytes });
        } else {
            self.add(old.0, Cost { sessions: 0, ..old.1 });
            self.release(new.0, Cost { sessions: 0, ..new.1 });
        }
    }

    /// Takes room, whether or not there is any.
    pub(crate) fn add(&self, class: Class, cost: Cost) {
        if class == Class::Anonymous {
            self.anonymous.add(cost);
        }
        self.all.add(cost);
    }

    /// Gives room back.
    pub(crate) fn release(&self, class: Class, cost: Cost) {
        if class == Class::Anonymous {
            self.anonymous.release(cost);
        }
        self.all.release(cost);
    }

    /// Everything, and the anonymous part of it.
    pub(crate) fn sums(&self) -> (Cost, Cost) {
        (self.all.load(), self.anonymous.load())
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("sums", &self.sums()).field("bounds", &self.bounds).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(sessions: u64, bytes: u64) -> Cost {
        Cost { sessions, bytes }
    }

    #[test]
    fn a_refused_reservation_takes_nothing() {
        let budget = Budget::new(Bounds { all: cost(4, 1000), anonymous: cost(2, 300) });
        let class = Class::Anonymous;
        assert_eq!(budget.reserve(class, cost(1, 301)), Err(Limit::AnonymousBytes));
        assert_eq!(budget.reserve(class, cost(1, 100)), Ok(()));
        assert_eq!(budget.reserve(class, cost(1, 100)), Ok(()));
        assert_eq!(budget.reserve(class, cost(1, 1)), Err(Limit::AnonymousSessions));
        assert_eq!(budget.sums(), (cost(2, 200), cost(2, 200)));
        let class = Class::Authenticated;
        assert_eq!(budget.reserve(class, cost(1, 801)), Err(Limit::Bytes));
        assert_eq!(budget.reserve(class, cost(1, u64::MAX)), Err(Limit::Bytes));
        assert_eq!(budget.reserve(class, cost(1, 800)), Ok(()));
        assert_eq!(budget.reserve(class, cost(1, 0)), Ok(()));
        assert_eq!(budget.reserve(class, cost(1, 0)), Err(Limit::Sessions));
        assert_eq!(
            budget.exchange((class, cost(1, 800)), (class, cost(1, 801))),
            Err(Limit::Bytes)
        );
        assert_eq!(budget.exchange((class, cost(1, 800)), (class, cost(1, 700))), Ok(()));
        let anonymous = (Class::Anonymous, cost(1, 100));
        assert_eq!(budget.exchange(anonymous, (class, cost(1, 200))), Ok(()));
        assert_eq!(budget.sums(), (cost(4, 1000), cost(1, 100)));
        budget.release(class, cost(1, 100));
        assert_eq!(budget.exchange(anonymous, (Class::Anonymous, cost(1, 150))), Ok(()));
        assert_eq!(budget.sums(), (cost(3, 950), cost(1, 150)));
        budget.release(Class::Anonymous, cost(1, 150));
        budget.release(class, cost(2, 800));
        assert_eq!(budget.sums(), (cost(0, 0), cost(0, 0)));
    }
    /// There is room for one small session at all times, and never for a large one. Whoever tries
    /// the large one must not be in the way of the small one.
    #[test]
    fn what_is_refused_refuses_nobody_else() {
        let bounds = Bounds { all: cost(2, 1000), anonymous: cost(2, 1000) };
        for class in [Class::Anonymous, Class::Authenticated] {
            let budget = Budget::new(bounds);
            assert_eq!(budget.reserve(Class::Authenticated, cost(1, 500)), Ok(()));
            let done = AtomicU64::new(0);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while done.load(Relaxed) == 0 {
                        assert!(budget.reserve(class, cost(1, 600)).is_err());
                    }
                });
                let refused = (0..1_000_000)
                    .filter(|_| match budget.reserve(class, cost(1, 100)) {
                        Ok(()) => {
                            budget.release(class, cost(1, 100));
                            false
                        }
                        Err(_) => true,
                    })
                    .count();
                done.store(1, Relaxed);
                assert_eq!(refused, 0, "{class:?}");
            });
        }
    }
}
