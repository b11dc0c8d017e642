//! The expiry thread: ends what is due, in bounded batches, and gives memory back.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::clock::TICK;
use crate::error::{Error, Result};
use crate::fork;
use crate::sessions::Sessions;
use crate::sync::Arc;

/// Looks for memory that can go back to the system once in so many rounds.
const TRIM_EVERY: u32 = 20;

/// How long a stop waits for the thread to end, at most. Usually it is in no round, or at the end
/// of one; but it may be in a waker that waits for a lock of whoever stops it.
const STOP_WAIT_MAX: Duration = Duration::from_secs(1);

/// A thread that can be told to stop.
pub(crate) struct ExpiryThread {
    thread: Option<std::thread::JoinHandle<()>>,
    /// Nothing is ever sent: it is closed when the thread has run.
    ended: Receiver<()>,
    generation: u32,
}

impl ExpiryThread {
    /// Starts to expire the sessions of a store, for as long as it exists.
    ///
    /// The thread holds the store only while it works on a batch.
    pub(crate) fn start(sessions: &Arc<Sessions>) -> Result<ExpiryThread> {
        let store = Arc::downgrade(sessions);
        let (running, ended) = channel();
        let run = move || {
            let _running = running;
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
        let thread = std::thread::Builder::new()
            .name("cloakroom-expiry".into())
            .spawn(run)
            .map_err(Error::Thread)?;
        Ok(ExpiryThread { thread: Some(thread), ended, generation: fork::generation() })
    }

    /// Wakes the thread, which stops if its store is gone, and waits for that; not if it is the
    /// caller, and not for long: it ends by itself as soon as it can.
    pub(crate) fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if self.generation != fork::generation() {
            // The thread is the parent's.
            std::mem::forget(thread);
            return;
        }
        thread.thread().unpark();
        if thread.thread().id() == std::thread::current().id() {
            return;
        }
        if self.ended.recv_timeout(STOP_WAIT_MAX) == Err(RecvTimeoutError::Disconnected) {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}
