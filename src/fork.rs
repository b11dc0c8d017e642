//! Notices that the process was forked: the child has none of the store's threads, perhaps a lock
//! that nobody will ever give back, and sessions that the parent goes on to change.
#![allow(unsafe_code, reason = "a fork handler is registered with the C library")]

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

static FORKS: AtomicU32 = AtomicU32::new(0);

/// The generation of the process: what was made in an earlier one belongs to a parent.
pub(crate) fn generation() -> u32 {
    FORKS.load(Relaxed)
}

/// Starts to watch for forks. Harmless to repeat.
#[cfg(all(unix, not(cloakroom_shuttle)))]
pub(crate) fn watch() {
    static WATCHING: std::sync::Once = std::sync::Once::new();
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Relaxed);
        crate::clock::stop_in_child();
    }
    WATCHING.call_once(|| {
        // SAFETY: the handler is a static function that only loads and stores atomics, which a
        // fork handler may do.
        let failed = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        // Out of memory in the C library: forks go unnoticed, all else works.
        debug_assert_eq!(failed, 0);
    });
}

/// There is no fork here.
#[cfg(not(all(unix, not(cloakroom_shuttle))))]
pub(crate) fn watch() {}
