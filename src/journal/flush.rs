//! Waiting until something is durable: as a future, or blocking.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use super::Shared;
use super::files::Files;
use crate::error::{Error, Result};
use crate::fork;
use crate::sync::{Arc, lock};

/// Resolves when everything that was written before [`Store::flush`](crate::Store::flush) is
/// durable. Await it, or block on [`wait`](Flush::wait). Dropping it takes nothing back.
#[must_use = "nothing is known to be durable before this is awaited or waited for"]
pub struct Flush {
    /// None: there is nothing to wait for.
    target: Option<Arc<dyn Target>>,
    position: u64,
    generation: u32,
}

/// What a flush waits for.
pub(crate) trait Target: Send + Sync {
    /// Whether a position is durable; if not, asks for it, with the waker to be told.
    fn poll(&self, position: u64, waker: Option<&Waker>) -> Option<Result<()>>;
    /// Waits until it is.
    fn wait(&self, position: u64) -> Result<()>;
}

impl Flush {
    pub(crate) fn new(target: Arc<dyn Target>, position: u64) -> Flush {
        Flush { target: Some(target), position, generation: fork::generation() }
    }

    /// For a store in memory, where nothing is ever durable, and nothing is waited for.
    pub(crate) fn nothing() -> Flush {
        Flush { target: None, position: 0, generation: fork::generation() }
    }

    /// Blocks until everything is durable. Not for async code, which awaits instead.
    ///
    /// # Errors
    /// [`Error::NotDurable`] if a sync failed and no snapshot has mended that yet;
    /// [`Error::Forked`].
    pub fn wait(self) -> Result<()> {
        if self.generation != fork::generation() {
            return Err(Error::Forked);
        }
        self.target.as_ref().map_or(Ok(()), |target| target.wait(self.position))
    }
}

impl Future for Flush {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        if self.generation != fork::generation() {
            return Poll::Ready(Err(Error::Forked));
        }
        match &self.target {
            None => Poll::Ready(Ok(())),
            Some(target) => match target.poll(self.position, Some(context.waker())) {
                Some(result) => Poll::Ready(result),
                None => Poll::Pending,
            },
        }
    }
}

impl fmt::Debug for Flush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flush").field("position", &self.position).finish_non_exhaustive()
    }
}

impl<F: Files> Target for Shared<F> {
    fn poll(&self, position: u64, waker: Option<&Waker>) -> Option<Result<()>> {
        let mut commits = lock(&self.commits);
        if self.log.durable() >= position {
            return Some(Ok(()));
        }
        if let Some(problem) = &commits.problem {
            return Some(Err(Error::NotDurable(problem.clone())));
        }
        if let Some(waker) = waker
            && !commits.wakers.iter().any(|known| known.will_wake(waker))
        {
            commits.wakers.push(waker.clone());
        }
        commits.wanted = commits.wanted.max(position);
        self.wake.notify_one();
        None
    }

    fn wait(&self, position: u64) -> Result<()> {
        loop {
            if let Some(result) = self.poll(position, None) {
                return result;
            }
            let commits = lock(&self.commits);
            if self.log.durable() < position && commits.problem.is_none() {
                // Asked again now and then, so that a thread that died is no reason to hang
                // without a sign of life.
                let again = std::time::Duration::from_millis(100);
                drop(
                    self.done.wait_timeout(commits, again).unwrap_or_else(PoisonError::into_inner),
                );
            }
        }
    }
}
