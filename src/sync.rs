//! The synchronization types, in one place so that a model checker can take their place.

#[cfg(not(cloakroom_shuttle))]
pub(crate) use std::{
    sync::atomic,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread_local,
};

#[cfg(cloakroom_shuttle)]
pub(crate) use shuttle::{
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread_local,
};

/// How often [`lock_soon`] asks, and how long it waits in between: about 10 us in all.
#[cfg(not(cloakroom_shuttle))]
const TRIES: u32 = 100;
#[cfg(not(cloakroom_shuttle))]
const PAUSES: u32 = 8;

/// Locks, also after a panic of another holder: nothing that this crate guards is left half
/// written by a panic, since callers' closures run before the first write.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Locks what is held for less than a microsecond most of the time, by many in turn: asks for it
/// again and again for some microseconds, since to sleep and be woken takes as long.
pub(crate) fn lock_soon<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    #[cfg(not(cloakroom_shuttle))]
    for _ in 0..TRIES {
        if let Ok(guard) = mutex.try_lock() {
            return guard;
        }
        for _ in 0..PAUSES {
            std::hint::spin_loop();
        }
    }
    lock(mutex)
}

/// Random bytes of shuttle's, so that a seed gives the same run again.
#[cfg(cloakroom_shuttle)]
pub(crate) mod random {
    use shuttle::rand::RngCore as _;

    pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), std::convert::Infallible> {
        shuttle::rand::thread_rng().fill_bytes(bytes);
        Ok(())
    }
}

/// Atomics for shuttle: std's, hence plain words that are valid when zeroed (buckets live in raw
/// memory), with a scheduling point before each operation. Like shuttle's own they explore
/// sequentially consistent executions only.
#[cfg(cloakroom_shuttle)]
pub(crate) mod atomic {
    use std::sync::atomic as plain;

    pub(crate) use plain::{Ordering, fence};

    /// Lets another thread go first. A sleep is a bare switch: no scheduler takes it for a wish
    /// to be run later, as it would take a yield.
    fn switch() {
        shuttle::thread::sleep(std::time::Duration::ZERO);
    }

    macro_rules! atomic {
        ($name:ident $(<$param:ident>)?, $value:ty,
            $($call:ident($($arg:ident: $type:ty),*) -> $out:ty;)*) => {
            #[repr(transparent)]
            pub(crate) struct $name$(<$param>)?(plain::$name$(<$param>)?);

            #[allow(dead_code, reason = "the same operations for all")]
            impl$(<$param>)? $name$(<$param>)? {
                pub(crate) const fn new(value: $value) -> Self {
                    Self(plain::$name::new(value))
                }

                $(#[track_caller]
                pub(crate) fn $call(&self, $($arg: $type),*) -> $out {
                    switch();
                    self.0.$call($($arg),*)
                })*
            }
        };
    }

    macro_rules! word {
        ($name:ident $(<$param:ident>)?, $value:ty $(, $($more:tt)*)?) => {
            atomic! {
                $name $(<$param>)?, $value,
                load(order: Ordering) -> $value;
                store(value: $value, order: Ordering) -> ();
                swap(value: $value, order: Ordering) -> $value;
                compare_exchange(
                    current: $value, new: $value, success: Ordering, failure: Ordering
                ) -> Result<$value, $value>;
                $($($more)*)?
            }
        };
    }

    macro_rules! number {
        ($name:ident, $value:ty) => {
            word! {
                $name, $value,
                fetch_add(by: $value, order: Ordering) -> $value;
                fetch_sub(by: $value, order: Ordering) -> $value;
                fetch_max(by: $value, order: Ordering) -> $value;
                fetch_min(by: $value, order: Ordering) -> $value;
                fetch_or(by: $value, order: Ordering) -> $value;
            }

            #[allow(dead_code, reason = "the same operations for all")]
            impl $name {
                /// As std's: not one step, but two or more.
                pub(crate) fn fetch_update(
                    &self,
                    success: Ordering,
                    failure: Ordering,
                    mut update: impl FnMut($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    let mut last = self.load(failure);
                    while let Some(next) = update(last) {
                        match self.compare_exchange(last, next, success, failure) {
                            Ok(_) => return Ok(last),
                            Err(changed) => last = changed,
                        }
                    }
                    Err(last)
                }
            }

            impl Default for $name {
                fn default() -> Self {
                    Self::new(0)
                }
            }
        };
    }

    word!(AtomicBool, bool);
    word!(AtomicPtr<T>, *mut T);
    number!(AtomicU8, u8);
    number!(AtomicU32, u32);
    number!(AtomicU64, u64);
    number!(AtomicUsize, usize);
}
