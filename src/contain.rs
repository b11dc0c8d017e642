//! Runs what is the caller's, so that its panics end here.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a closure whose panic stops nothing of ours: the panic hook has reported it. A panic may
/// carry a value whose `Drop` panics in turn; what that one carries is never dropped.
pub(crate) fn contain(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
        dropped.unwrap_or_else(std::mem::forget);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Bomb);
        }
    }

    #[test]
    fn no_panic_comes_through() {
        contain(|| panic!("a text"));
        contain(|| std::panic::panic_any(Bomb));
    }
}
