//! A thread of a store that can be told to stop.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::fork;

/// How long [`Worker::stop`] waits at most. Usually the thread is between two pieces of work, or
/// at the end of one; but it may be in a caller's closure or waker, which waits for whoever stops
/// it.
const STOP_WAIT_MAX: Duration = Duration::from_secs(1);

/// The thread. What tells it to stop is its own matter: it is woken, and looks.
pub(crate) struct Worker {
    thread: Option<std::thread::JoinHandle<()>>,
    /// Nothing is ever sent: it is closed when the thread has run.
    ended: Receiver<()>,
    generation: u32,
}

impl Worker {
    /// # Errors
    /// [`Error::Thread`].
    pub(crate) fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<Worker> {
        let (running, ended) = channel();
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                let _running = running;
                run();
            })
            .map_err(Error::Thread)?;
        Ok(Worker { thread: Some(thread), ended, generation: fork::generation() })
    }

    /// Whether this is the child of a fork, where the thread is not.
    pub(crate) fn is_forked(&self) -> bool {
        self.generation != fork::generation()
    }

    /// Wakes the thread and waits for its end; not if it is the caller, and not for long: it ends
    /// by itself as soon as it can.
    pub(crate) fn stop(&mut self) {
        self.end(|ended| ended.recv_timeout(STOP_WAIT_MAX) == Err(RecvTimeoutError::Disconnected));
    }

    /// As [`stop`](Worker::stop), for as long as it takes: for a thread that runs no caller's code.
    #[cfg(any(unix, test))]
    pub(crate) fn finish(&mut self) {
        self.end(|_| true);
    }

    fn end(&mut self, may_join: impl FnOnce(&Receiver<()>) -> bool) {
        let Some(thread) = self.thread.take() else { return };
        if self.is_forked() {
            // The thread is the parent's.
            std::mem::forget(thread);
            return;
        }
        thread.thread().unpark();
        if thread.thread().id() != std::thread::current().id() && may_join(&self.ended) {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    use super::*;

    #[test]
    fn a_stop_waits_for_the_end() {
        let (stopping, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (asked, ending) = (Arc::clone(&stopping), Arc::clone(&done));
        let mut worker = Worker::start("test", move || {
            while !asked.load(SeqCst) {
                std::thread::park();
            }
            std::thread::sleep(Duration::from_millis(20));
            ending.store(true, SeqCst);
        })
        .unwrap();
        stopping.store(true, SeqCst);
        worker.stop();
        assert!(done.load(SeqCst));
        worker.stop();
    }

    #[test]
    fn a_stop_does_not_wait_for_ever() {
        let (release, held) = channel::<()>();
        let mut worker = Worker::start("test", move || {
            let _ = held.recv();
        })
        .unwrap();
        worker.stop();
        drop(release);
    }

    #[test]
    fn a_thread_that_panics_is_at_its_end() {
        let mut worker = Worker::start("test", || panic!("for the test")).unwrap();
        worker.finish();
    }
}
