//! The saver thread: takes a snapshot when the log has become long, or a sync has failed.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::sessions::{Saved, Sessions};
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::{Arc, Mutex, lock};
use crate::worker::Worker;

/// How often the thread looks. At first more often: a process that is killed and started again and
/// again may never live for long, and each time it leaves more of the log.
const INTERVAL_FIRST: Duration = Duration::from_millis(5);
const INTERVAL: Duration = Duration::from_millis(200);
/// After a snapshot failed, the next one waits so many rounds: 10 seconds.
const ROUNDS_AFTER_FAILURE: u32 = 50;
/// The log may be so many times the bytes of all sessions.
const LOG_FACTOR: u64 = 2;

/// The thread, which holds the store only while it works.
pub(crate) struct Saver {
    shared: Arc<Shared>,
    thread: Worker,
}

struct Shared {
    /// The generation of the last snapshot. One is taken at a time.
    last: Mutex<u64>,
    /// The log's bytes when it was begun, those found at the start included.
    bytes: AtomicU64,
    /// The bytes of the log that earlier openings left, which count as well: else many short runs
    /// would make it grow without end.
    found: u64,
    snapshot_bytes: u64,
}

impl Saver {
    /// Starts the thread. `last` is the generation of the newest snapshot, `found` the bytes of
    /// the log behind it.
    pub(crate) fn start(
        sessions: &Arc<Sessions>,
        last: u64,
        found: u64,
        snapshot_bytes: u64,
    ) -> Result<Saver> {
        let (last, bytes) = (Mutex::new(last), AtomicU64::new(0));
        let shared = Arc::new(Shared { last, bytes, found, snapshot_bytes });
        let store = Arc::downgrade(sessions);
        let run = {
            let shared = Arc::clone(&shared);
            move || {
                let mut pause = 0;
                let mut interval = INTERVAL_FIRST;
                loop {
                    std::thread::park_timeout(interval);
                    interval = INTERVAL.min(interval * 2);
                    let Some(sessions) = store.upgrade() else { return };
                    if sessions.closing.load(Relaxed) {
                        return;
                    }
                    if pause > 0 {
                        pause -= 1;
                    } else if shared.is_due(&sessions) && shared.save(&sessions).is_err() {
                        // The log goes on to grow; what is wrong with the disk shows in the stats.
                        pause = ROUNDS_AFTER_FAILURE;
                    }
                }
            }
        };
        Ok(Saver { shared, thread: Worker::start("cloakroom-saver", run)? })
    }

    /// Takes a snapshot now.
    pub(crate) fn save(&self, sessions: &Sessions) -> Result<Saved> {
        if self.thread.is_forked() {
            return Err(Error::Forked);
        }
        self.shared.save(sessions)
    }

    /// Waits for the thread, which stops: the files are let go only then. It runs no caller's code.
    pub(crate) fn stop(&mut self) {
        self.thread.finish();
    }
}

impl Shared {
    fn is_due(&self, sessions: &Sessions) -> bool {
        let Some(journal) = sessions.journal.get() else { return false };
        if sessions.is_backed() {
            // The old snapshot serves the store; so it stays for ever if it is damaged.
            return false;
        }
        let stats = journal.stats();
        let live = sessions.common.budget.sums().0.bytes;
        let most = self.snapshot_bytes.max(LOG_FACTOR.saturating_mul(live));
        let log_bytes = stats.log_bytes + self.found;
        stats.degraded || log_bytes.saturating_sub(self.bytes.load(Relaxed)) > most
    }

    fn save(&self, sessions: &Sessions) -> Result<Saved> {
        let mut last = lock(&self.last);
        let bytes = sessions.journal.get().map_or(0, |journal| journal.stats().log_bytes);
        // Also after a failure: a file that could not be removed keeps its name for itself.
        *last += 1;
        let saved = sessions.save(*last)?;
        self.bytes.store(bytes + self.found, Relaxed);
        saved.ok_or(Error::Forked)
    }
}
