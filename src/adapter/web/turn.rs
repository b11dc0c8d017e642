//! One change of a request's token at a time: reentrance is a panic, never a hang.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// Locks for as long as the request changes which session it is bound to. Store calls are made
/// meanwhile, and the closure that fills a new session; reading the request's state needs it not.
#[derive(Default)]
pub(super) struct Turn {
    lock: Mutex<()>,
    holder: Mutex<Option<ThreadId>>,
}

pub(super) struct Held<'a> {
    turn: &'a Turn,
    _lock: MutexGuard<'a, ()>,
}

impl Turn {
    /// Waits for others.
    ///
    /// # Panics
    /// If this thread holds the turn already, as it does inside the closure that fills a session.
    pub(super) fn take(&self) -> Held<'_> {
        let this = thread::current().id();
        assert!(
            *lock(&self.holder) != Some(this),
            "a session is changed inside the closure of its own `update`: that is for reading only"
        );
        let held = Held { turn: self, _lock: lock(&self.lock) };
        *lock(&self.holder) = Some(this);
        held
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *lock(&self.turn.holder) = None;
    }
}

/// Whatever panicked under a lock of a request, a closure of the caller's, left its state whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_given_back_and_reentrance_panics() {
        let turn = Turn::default();
        drop(turn.take());
        let held = turn.take();
        let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(turn.take())));
        assert!(again.is_err());
        drop(held);
        drop(turn.take());
    }

    #[test]
    fn a_panic_in_a_turn_gives_it_back() {
        let turn = Turn::default();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _held = turn.take();
            panic!("of the caller's");
        }));
        assert!(panicked.is_err());
        std::thread::scope(|scope| scope.spawn(|| drop(turn.take())).join().unwrap());
    }
}
