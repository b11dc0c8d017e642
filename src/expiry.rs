//! The expiry thread: ends what is due, in bounded batches, and gives memory back.

use crate::clock::TICK;
use crate::error::Result;
use crate::sessions::Sessions;
use crate::sync::Arc;
use crate::worker::Worker;

/// Looks for memory that can go back to the system once in so many rounds.
const TRIM_EVERY: u32 = 20;

/// A thread that can be told to stop.
pub(crate) struct ExpiryThread(Worker);

impl ExpiryThread {
    /// Starts to expire the sessions of a store, for as long as it exists.
    ///
    /// The thread holds the store only while it works on a batch.
    pub(crate) fn start(sessions: &Arc<Sessions>) -> Result<ExpiryThread> {
        let store = Arc::downgrade(sessions);
        let run = move || {
            let mut round = 0_u32;
            let mut trimming = false;
            loop {
                std::thread::park_timeout(TICK);
                let Some(sessions) = store.upgrade() else { return };
                round = round.wrapping_add(1);
                sessions.expire_due();
                sessions.free_retired();
                sessions.pace_reclaim();
                if trimming || round.is_multiple_of(TRIM_EVERY) {
                    // Each call is bounded: once there is something to give back, the next round
                    // goes on.
                    trimming = sessions.common.table.pool.trim() > 0;
                }
            }
        };
        Worker::start("cloakroom-expiry", run).map(ExpiryThread)
    }

    /// Waits for the thread, which stops if its store is gone; not for long.
    pub(crate) fn stop(&mut self) {
        self.0.stop();
    }
}
