//! What happened to sessions, told to those who subscribed, through bounded queues.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use crate::clock::Stopwatch;
use crate::error::Reason;
use crate::record::OwnedRecord;
use crate::session::Session;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Condvar, Mutex, lock};
use crate::token::SessionId;
use crate::watch::wake;

/// Something that happened to a session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<S> {
    /// A session was created.
    Created {
        /// Its id.
        id: SessionId,
        /// Its owner, if it was created with one: then this is a login, too.
        owner: Option<String>,
    },
    /// A user logged in on a session that was there already, by [`login`](crate::Store::login) or
    /// [`bind`](crate::Store::bind). At a login it follows the [`Event::Rotated`].
    LoggedIn {
        /// The session's id, at a login the new one.
        id: SessionId,
        /// Whose it is from now on.
        owner: String,
    },
    /// A session goes on under another id.
    Rotated {
        /// The id until now.
        old: SessionId,
        /// The id from now on.
        new: SessionId,
        /// True for [`renew`](crate::Store::renew), where the old id is good for the grace time;
        /// false for [`rotate`](crate::Store::rotate) and [`login`](crate::Store::login).
        renewed: bool,
    },
    /// A session ended; for an expired one the reason is [`Reason::Expired`]. Told exactly once per
    /// session. A rotation is told as [`Event::Rotated`] instead.
    Ended {
        /// Its id.
        id: SessionId,
        /// Why it ended.
        reason: Reason,
        /// Its last state, with its data.
        session: Session<S>,
    },
    /// The token of a renewed session was used after the grace time: either a very late request,
    /// or somebody else holds a copy of it. Told for every such use.
    Suspicious {
        /// The id that was renewed away.
        id: SessionId,
        /// The id that took its place. It may have ended since.
        successor: SessionId,
    },
}

/// An event before its data has a type.
#[derive(Clone)]
pub(crate) enum RawEvent {
    Created { id: SessionId, owner: Option<String> },
    LoggedIn { id: SessionId, owner: String },
    Rotated { old: SessionId, new: SessionId, renewed: bool },
    Ended { reason: Reason, record: OwnedRecord },
    Suspicious { id: SessionId, successor: SessionId },
}

impl RawEvent {
    fn typed<S: crate::SessionData>(self) -> Event<S> {
        match self {
            RawEvent::Created { id, owner } => Event::Created { id, owner },
            RawEvent::LoggedIn { id, owner } => Event::LoggedIn { id, owner },
            RawEvent::Rotated { old, new, renewed } => Event::Rotated { old, new, renewed },
            RawEvent::Ended { reason, record } => {
                Event::Ended { id: record.record().id(), reason, session: Session::new(record) }
            }
            RawEvent::Suspicious { id, successor } => Event::Suspicious { id, successor },
        }
    }
}

/// One subscriber's queue.
pub(crate) struct Queue {
    events: ArrayQueue<RawEvent>,
    dropped: AtomicU64,
    closed: AtomicBool,
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    threads: u32,
    waker: Option<Waker>,
}

impl Queue {
    fn push(&self, event: RawEvent) {
        if self.events.push(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn wake(&self) {
        let waker = {
            let mut waiting = lock(&self.waiting);
            if waiting.threads > 0 {
                self.wake.notify_all();
            }
            waiting.waker.take()
        };
        if let Some(waker) = waker {
            wake(waker);
        }
    }

    /// Takes the next event, unless there is none; then false for "the store is gone".
    fn pop(&self) -> Result<RawEvent, bool> {
        // Closed is read first: what was pushed before it closed is still told.
        let open = !self.closed.load(Ordering::Acquire);
        self.events.pop().ok_or(open)
    }
}

/// All subscribers of a store.
pub(crate) struct Subscribers {
    queues: Mutex<Vec<Arc<Queue>>>,
    count: AtomicUsize,
    /// Drops of subscribers that left.
    dropped_before: AtomicU64,
}

impl Subscribers {
    pub(crate) fn new() -> Subscribers {
        Subscribers {
            queues: Mutex::new(Vec::new()),
            count: AtomicUsize::new(0),
            dropped_before: AtomicU64::new(0),
        }
    }

    pub(crate) fn subscribe(&self, capacity: usize) -> Arc<Queue> {
        let queue = Arc::new(Queue {
            events: ArrayQueue::new(capacity.max(1)),
            dropped: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            waiting: Mutex::new(Waiting::default()),
            wake: Condvar::new(),
        });
        let mut queues = lock(&self.queues);
        queues.push(Arc::clone(&queue));
        self.count.store(queues.len(), Ordering::Release);
        queue
    }

    fn unsubscribe(&self, queue: &Arc<Queue>) {
        let mut queues = lock(&self.queues);
        queues.retain(|other| !Arc::ptr_eq(other, queue));
        self.count.store(queues.len(), Ordering::Release);
        self.dropped_before.fetch_add(queue.dropped.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Queues an event for everybody, in the order of the calls. `event` runs only if somebody
    /// listens. Wakes nobody: that is [`Subscribers::wake`], to be called with no lock held.
    pub(crate) fn push(&self, event: impl FnOnce() -> RawEvent) -> bool {
        // Acquire pairs with the Release of `subscribe`: who subscribed before hears of it.
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let queues = lock(&self.queues);
        let Some((last, others)) = queues.split_last() else { return false };
        let event = event();
        for queue in others {
            queue.push(event.clone());
        }
        last.push(event);
        true
    }

    pub(crate) fn wake(&self) {
        let queues = lock(&self.queues).clone();
        for queue in queues {
            queue.wake();
        }
    }

    /// Ends every queue: what is in it is still told.
    pub(crate) fn close(&self) {
        let queues = std::mem::take(&mut *lock(&self.queues));
        for queue in queues {
            queue.closed.store(true, Ordering::Release);
            queue.wake();
        }
    }

    /// Events that found a queue full, over all subscribers.
    pub(crate) fn dropped(&self) -> u64 {
        let queues = lock(&self.queues);
        let now: u64 = queues.iter().map(|queue| queue.dropped.load(Ordering::Relaxed)).sum();
        now + self.dropped_before.load(Ordering::Relaxed)
    }
}

/// The events of a store, from the subscription on: made by
/// [`Store::events`](crate::Store::events).
///
/// A bounded queue: while it is full, further events are dropped and counted
/// ([`Events::dropped`]); the store never waits for a subscriber. Read it from a thread
/// ([`Events::recv`], or as an iterator) or as a `Stream`. It ends when the store is dropped, after
/// the last event was told.
///
/// Events of one session come in the order in which they happened.
pub struct Events<S> {
    queue: Arc<Queue>,
    store: std::sync::Weak<Subscribers>,
    data: PhantomData<fn() -> S>,
}

impl<S: crate::SessionData> Events<S> {
    pub(crate) fn new(store: &Arc<Subscribers>, capacity: usize) -> Events<S> {
        let queue = store.subscribe(capacity);
        Events { queue, store: Arc::downgrade(store), data: PhantomData }
    }

    /// A queue that has ended.
    pub(crate) fn ended() -> Events<S> {
        let store = Arc::new(Subscribers::new());
        let events = Events::new(&store, 1);
        store.close();
        events
    }

    /// The next event, if there is one now.
    pub fn try_recv(&self) -> Option<Event<S>> {
        self.queue.pop().ok().map(RawEvent::typed)
    }

    /// Waits for the next event. None when the store is gone.
    pub fn recv(&self) -> Option<Event<S>> {
        self.wait(None)
    }

    /// Waits for the next event, at most this long. None also when the store is gone.
    pub fn recv_timeout(&self, timeout: Duration) -> Option<Event<S>> {
        self.wait(Some(timeout))
    }

    fn wait(&self, timeout: Option<Duration>) -> Option<Event<S>> {
        match self.queue.pop() {
            Ok(event) => return Some(event.typed()),
            Err(false) => return None,
            Err(true) => {}
        }
        let limit = timeout.map(|timeout| (timeout, Stopwatch::start()));
        let mut waiting = lock(&self.queue.waiting);
        waiting.threads += 1;
        let event = loop {
            // How long is left comes before the last look, so that no wait ends without one.
            let left =
                limit.as_ref().map(|(timeout, watch)| timeout.saturating_sub(watch.elapsed()));
            match self.queue.pop() {
                Ok(event) => break Some(event.typed()),
                Err(false) => break None,
                Err(true) if left == Some(Duration::ZERO) => break None,
                Err(true) => {}
            }
            // A wake-up may be in vain: another thread took the event.
            let wake = &self.queue.wake;
            waiting = match left {
                None => wake.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    wake.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        };
        waiting.threads -= 1;
        event
    }

    /// How many events this subscriber lost because its queue was full.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped.load(Ordering::Relaxed)
    }
}

impl<S: crate::SessionData> Iterator for Events<S> {
    type Item = Event<S>;

    fn next(&mut self) -> Option<Event<S>> {
        self.recv()
    }
}

impl<S: crate::SessionData> futures_core::Stream for Events<S> {
    type Item = Event<S>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event<S>>> {
        match self.queue.pop() {
            Ok(event) => return Poll::Ready(Some(event.typed())),
            Err(false) => return Poll::Ready(None),
            Err(true) => {}
        }
        let waker = context.waker().clone();
        let old = lock(&self.queue.waiting).waker.replace(waker);
        drop(old);
        // Between the first look and the waker an event may have come.
        match self.queue.pop() {
            Ok(event) => Poll::Ready(Some(event.typed())),
            Err(false) => Poll::Ready(None),
            Err(true) => Poll::Pending,
        }
    }
}

impl<S> Drop for Events<S> {
    fn drop(&mut self) {
        if let Some(store) = self.store.upgrade() {
            store.unsubscribe(&self.queue);
        }
    }
}

impl<S> fmt::Debug for Events<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("queued", &self.queue.events.len())
            .field("dropped", &self.queue.dropped.load(Ordering::Relaxed))
            .finish()
    }
}
