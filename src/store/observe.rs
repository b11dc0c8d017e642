//! What one can see of a store: lists, numbers, events.

use std::marker::PhantomData;

use super::Store;
use crate::contain::contain;
use crate::data::SessionData;
use crate::error::{Error, Missing, Reason, Result};
use crate::events::{Event, Events};
use crate::session::Info;
use crate::sessions::Place;
use crate::stats::Stats;
use crate::sync::Arc;
use crate::token::{SessionId, Token};
use crate::watch::{Unwatch, Watch};

/// Events that wait in a subscriber's queue, by default.
const EVENTS_MAX: usize = 16 * 1024;

/// Where a listing goes on: see [`Store::sessions`]. Good for as long as the store exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(Place);

/// A part of a listing.
#[derive(Clone, Debug)]
pub struct Page {
    /// Sessions that were live when they were listed.
    pub sessions: Vec<Info>,
    /// Where to go on; None at the end.
    pub next: Option<Cursor>,
}

impl<S: SessionData> Store<S> {
    /// What the store knows of a session besides its data. Does not count as activity.
    ///
    /// # Errors
    /// [`Missing`] if there is no such session, or no more.
    pub fn info(&self, id: SessionId) -> Result<Info, Missing> {
        self.sessions.info(id)
    }

    /// Who is logged in on a session: its owner, or None if it is anonymous. Does not count as
    /// activity.
    ///
    /// Costs a copy of the name; where the data is wanted as well, [`get`](Store::get) gives both.
    ///
    /// # Errors
    /// [`Missing`] if there is no such session, or no more.
    ///
    /// # Examples
    /// ```
    /// use cloakroom::{Attributes, Store};
    ///
    /// let store: Store = Store::builder().in_memory()?;
    /// let visitor = store.create(Attributes::new())?;
    /// assert_eq!(store.owner(visitor.id())?, None);
    /// let token = store.login(visitor.id(), "alice", "Firefox on Linux")?;
    /// assert_eq!(store.owner(token.id())?.as_deref(), Some("alice"));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn owner(&self, id: SessionId) -> Result<Option<String>, Missing> {
        self.sessions.show(id, false, |record| {
            let owner = record.owner();
            (!owner.is_empty()).then(|| owner.to_owned())
        })
    }

    /// Looks up the session of the token with this text, as a request presented it, and returns
    /// the id by which every other call knows the session. Does not count as activity.
    ///
    /// The token of a [renewed](Store::renew) session opens it for the grace time; the id is then
    /// that of the token, and good for as long.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a text that is no token at all; [`Error::Missing`] if there is no
    /// such session, or no more.
    ///
    /// # Examples
    /// ```
    /// use cloakroom::{Attributes, Error, Missing, Reason, Store};
    ///
    /// let store: Store = Store::builder().in_memory()?;
    /// let cookie_value = store.create(Attributes::new())?.expose();
    /// let id = store.find(&cookie_value)?;
    /// store.end(id, Reason::LoggedOut)?;
    ///
    /// let ended = store.find(&cookie_value);
    /// assert!(matches!(ended, Err(Error::Missing(Missing::Ended(Reason::LoggedOut)))));
    /// assert!(matches!(store.find(&"A".repeat(43)), Err(Error::Missing(Missing::Unknown))));
    /// assert!(matches!(store.find("nonsense"), Err(Error::Malformed(_))));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn find(&self, text: &str) -> Result<SessionId> {
        let id = Token::parse(text).map(|token| token.id());
        // What is no token is a lookup that found nothing, too.
        let id = id.inspect_err(|_| self.sessions.pin().pinned().count_miss())?;
        Ok(self.sessions.show(id, false, |_| id)?)
    }

    /// Lists sessions, about `count` at a time, from the beginning (None) or where a page ended.
    /// Takes no lock and stops nobody. In the first seconds after the store was opened on a
    /// directory, it waits until all sessions are in memory.
    ///
    /// A session that lives through the whole listing is listed exactly once; one that comes,
    /// ends or gets another token meanwhile may be listed or not.
    ///
    /// # Examples
    /// ```
    /// use cloakroom::{Attributes, Store};
    ///
    /// let store: Store = Store::builder().in_memory()?;
    /// for _ in 0..1000 {
    ///     store.create(Attributes::new())?;
    /// }
    /// let (mut count, mut cursor) = (0, None);
    /// loop {
    ///     let page = store.sessions(cursor, 100);
    ///     count += page.sessions.len();
    ///     cursor = page.next;
    ///     if cursor.is_none() {
    ///         break;
    ///     }
    /// }
    /// assert_eq!(count, 1000);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn sessions(&self, from: Option<Cursor>, count: usize) -> Page {
        let place = from.map_or(Place { shard: 0, prefix: 0 }, |cursor| cursor.0);
        let (sessions, next) = self.sessions.page(place, count.max(1));
        Page { sessions, next: next.map(Cursor) }
    }

    /// The store's numbers. Costs a short lock of each shard.
    pub fn stats(&self) -> Stats {
        self.sessions.stats()
    }

    /// A future that resolves to the reason when the session ends.
    ///
    /// It follows the session through [`renew`](Store::renew). A new token by
    /// [`rotate`](Store::rotate) or [`login`](Store::login) ends it with [`Reason::Rotated`]: that
    /// is no logout, whoever has the new token goes on. When the store is dropped it resolves to
    /// [`Reason::Revoked`].
    ///
    /// For an id that has ended it resolves at once, for one that the store does not know (any
    /// more) to [`Reason::Expired`].
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use cloakroom::{Attributes, Reason, Store};
    ///
    /// let store: Store = Store::builder().in_memory()?;
    /// let id = store.create(Attributes::new())?.id();
    /// let ended = store.watch(id);
    /// store.end(id, Reason::Revoked)?;
    /// assert_eq!(ended.await, Reason::Revoked);
    /// # Ok::<(), cloakroom::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn watch(&self, id: SessionId) -> Watch {
        match self.sessions.watch(id) {
            Ok(slot) => {
                let sessions: Arc<dyn Unwatch> = self.sessions.clone();
                Watch::new(slot, Arc::downgrade(&sessions))
            }
            Err(Missing::Ended(reason)) => Watch::resolved(id, reason),
            Err(Missing::Unknown) => Watch::resolved(id, Reason::Expired),
        }
    }

    /// Subscribes to what happens from now on. At most 16,384 events wait in the queue; see
    /// [`Events`].
    pub fn events(&self) -> Events<S> {
        self.events_with(EVENTS_MAX)
    }

    /// Subscribes with a queue of this many events. It takes its memory at once, about 64 bytes
    /// per event.
    pub fn events_with(&self, capacity: usize) -> Events<S> {
        if self.sessions.is_forked() {
            return Events::ended();
        }
        Events::new(&self.sessions.events, capacity)
    }

    /// Calls a closure for each event from now on, from a thread of its own, with no lock held: it
    /// may use the store, end the session of its event, drop its handles, or panic, which is
    /// reported like any panic of a thread and followed by the next event. It is called no more
    /// once the store is gone.
    ///
    /// The closure should not own a handle of the same store, or the store is never dropped; it is
    /// given one.
    ///
    /// # Errors
    /// [`Error::Thread`] if no thread can be started.
    pub fn on_event(&self, mut f: impl FnMut(&Store<S>, Event<S>) + Send + 'static) -> Result<()> {
        let events = self.events();
        let sessions = Arc::downgrade(&self.sessions);
        let threads = Arc::downgrade(&self.threads);
        let run = move || {
            for event in events {
                let (Some(threads), Some(sessions)) = (threads.upgrade(), sessions.upgrade())
                else {
                    return;
                };
                let store = Store { sessions, threads, data: PhantomData };
                // Whatever the closure keeps is its own to mend: nothing of ours is torn.
                contain(|| f(&store, event));
            }
        };
        std::thread::Builder::new()
            .name("cloakroom-events".into())
            .spawn(run)
            .map_err(Error::Thread)?;
        Ok(())
    }

    /// Ends expired sessions now, on this thread, as the expiry thread does by itself. Returns how
    /// many. For tests with a [`ManualClock`](crate::ManualClock), and for stores without an
    /// expiry thread.
    pub fn expire_due(&self) -> usize {
        let count = self.sessions.expire_due();
        self.sessions.free_retired();
        count
    }

    /// Makes room for this many sessions of `data_bytes` of archived data each, and touches the
    /// memory, so that nothing stalls for it later. The store keeps the room of the table for good.
    ///
    /// Costs about a second per 4 GiB.
    ///
    /// # Errors
    /// [`Error::Full`] if the system has not so much memory.
    pub fn reserve(&self, sessions: usize, data_bytes: usize) -> Result<()> {
        self.sessions.reserve(sessions, data_bytes)
    }

    /// Checks everything that must hold inside the store while no other thread uses it.
    ///
    /// # Panics
    /// With the invariant that is broken: a bug of this crate.
    #[doc(hidden)]
    pub fn validate(&self) {
        self.sessions.validate();
    }
}
