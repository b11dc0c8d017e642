//! The loader thread: brings the sessions of a mapped snapshot into memory, then gives the map
//! back.

use std::time::Duration;

use crate::clock::Stopwatch;
use crate::error::{Error, Result};
use crate::sessions::{Backing, Brought, Sessions};
use crate::sync::Arc;
use crate::sync::atomic::Ordering::Relaxed;
use crate::worker::Worker;

/// Without memory it looks again after so long.
const PAUSE_WITHOUT_MEMORY: Duration = Duration::from_millis(100);
/// How often it looks whether somebody else still uses the map.
const PAUSE_AT_END: Duration = Duration::from_millis(1);
/// After each piece of work it leaves the processor to others for a part of the time it took.
const REST_PARTS: u32 = 8;

/// The thread, which holds the store only while it works on a chunk.
pub(crate) struct Loader(Worker);

impl Loader {
    /// Starts the thread. `told` hears after each chunk how far it is; the error that ends it, if
    /// there is one.
    pub(crate) fn start(
        sessions: &Arc<Sessions>,
        backing: Arc<Backing>,
        mut told: impl FnMut(&Backing, Option<&Error>) + Send + 'static,
    ) -> Result<Loader> {
        let store = Arc::downgrade(sessions);
        let run = move || {
            let mut is_roomy = false;
            loop {
                let Some(sessions) = store.upgrade() else { return };
                if sessions.closing.load(Relaxed) {
                    return;
                }
                let watch = Stopwatch::start();
                if !is_roomy {
                    // Arrays that need not grow later lock no shard for long.
                    sessions.reserve_entries(backing.left());
                    is_roomy = true;
                }
                let brought = sessions.bring_some(&backing, usize::MAX);
                drop(sessions);
                match brought {
                    Ok(Brought::Some) => {
                        // Of the last session it tells below.
                        if backing.left() > 0 {
                            told(&backing, None);
                        }
                        std::thread::park_timeout(watch.elapsed() / REST_PARTS);
                    }
                    Ok(Brought::All) => {
                        told(&backing, None);
                        break;
                    }
                    Err(Error::Full(_)) => std::thread::park_timeout(PAUSE_WITHOUT_MEMORY),
                    Err(error) => {
                        told(&backing, Some(&error));
                        return;
                    }
                }
            }
            // A large map takes a while to give back: nobody's request should have to.
            while Arc::strong_count(&backing) > 1 {
                std::thread::park_timeout(PAUSE_AT_END);
            }
        };
        Worker::start("cloakroom-loader", run).map(Loader)
    }

    /// Waits for the thread, which stops since its store is closing; not for long.
    pub(crate) fn stop(&mut self) {
        self.0.stop();
    }
}
