//! The store: what those who embed it see.

#[cfg(unix)]
mod backup;
#[cfg(unix)]
#[cfg(test)]
mod crash_tests;
#[cfg(unix)]
mod durable;
mod identity;
#[cfg(unix)]
mod migrating;
mod observe;
mod options;
#[cfg(unix)]
mod restoring;

use std::fmt;
use std::marker::PhantomData;

#[cfg(unix)]
pub use durable::{Progress, RecoveryReport};
pub use identity::Except;
pub use observe::{Cursor, Page};

use crate::attributes::{Attributes, Changes};
use crate::data::{self, SessionData};
use crate::error::{Error, Missing, Result};
use crate::expiry::ExpiryThread;
use crate::options::{Builder, CreateOptions};
use crate::record::OwnedRecord;
use crate::session::{Session, view};
use crate::sessions::Sessions;
use crate::sync::atomic::{AtomicBool, Ordering::Relaxed};
use crate::sync::{Arc, Mutex, lock};
#[cfg(feature = "tower-sessions-015")]
use crate::token::Secret;
use crate::token::{SessionId, Token};
use crate::version::Version;

/// Sessions in the memory of this process: a cheap handle, to be cloned wherever one is needed.
///
/// See the [crate's documentation](crate) for an overview. All methods are synchronous and take
/// nanoseconds to microseconds; none waits for anything but the lock of one shard, and lookups not
/// even for that.
///
/// Closures given to [`read`](Store::read) and [`peek`](Store::peek) may use the store freely.
/// That of [`update`](Store::update) runs under its session's shard lock: inside it, lookups
/// (`read`, `peek`, `get`, `find`, `owner`, `info`, `touch`, `sessions`) are allowed, but no write
/// and no other call that locks (`stats`, `owner_sessions`, `watch`, `expire_due`, ...), of this or
/// of any other store of this crate: it panics with a clear message. Closures must not block. A
/// panic in one leaves the session as it was and the store usable.
///
/// Dropping the last handle ends the store's threads and resolves every
/// [`Watch`](crate::Watch). It waits for the threads a second at most: one that is in a caller's
/// waker just then ends when the waker returns.
pub struct Store<S = Attributes> {
    sessions: Arc<Sessions>,
    /// After `sessions`: dropped last, so that the threads find the sessions gone.
    threads: Arc<Threads>,
    data: PhantomData<fn() -> S>,
}

/// The store's own threads, which hold the sessions weakly. Dropped with the last handle.
struct Threads {
    closing: Arc<AtomicBool>,
    expiry: Mutex<Option<ExpiryThread>>,
    #[cfg(unix)]
    durable: Option<durable::Durable>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.closing.store(true, Relaxed);
        if let Some(mut expiry) = lock(&self.expiry).take() {
            expiry.stop();
        }
    }
}

impl<S> Clone for Store<S> {
    fn clone(&self) -> Store<S> {
        Store {
            sessions: Arc::clone(&self.sessions),
            threads: Arc::clone(&self.threads),
            data: PhantomData,
        }
    }
}

impl<S> fmt::Debug for Store<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, anonymous) = self.sessions.common.budget.sums();
        f.debug_struct("Store")
            .field("live", &all.sessions)
            .field("anonymous", &anonymous.sessions)
            .field("bytes", &all.bytes)
            .finish_non_exhaustive()
    }
}

impl<S: SessionData> Builder<S> {
    /// Opens a store in memory. Nothing survives the process.
    ///
    /// # Errors
    /// [`Error::Option`] for an option that is absurd or contradicts another, [`Error::Thread`]
    /// if a thread cannot be started, [`Error::Full`] without memory.
    pub fn in_memory(self) -> Result<Store<S>> {
        let options = self.validated()?;
        let wants_thread = options.expiry_thread;
        let sessions = Sessions::new(options)?;
        let expiry = wants_thread.then(|| ExpiryThread::start(&sessions)).transpose()?;
        let closing = Arc::clone(&sessions.closing);
        let threads = Arc::new(Threads {
            closing,
            expiry: Mutex::new(expiry),
            #[cfg(unix)]
            durable: None,
        });
        Ok(Store { sessions, threads, data: PhantomData })
    }
}

impl<S: SessionData> Store<S> {
    /// Options of a new store, with their defaults.
    pub fn builder() -> Builder<S> {
        Builder::new()
    }

    /// Creates an anonymous session and returns its token. Tokens are made here, and where a
    /// session gets another one: [`login`](Store::login), [`rotate`](Store::rotate),
    /// [`renew`](Store::renew). An id is never taken from outside, and an existing session is never
    /// overwritten.
    ///
    /// Costs about 2 microseconds, half of one for the operating system's random bytes.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::TooLarge`], [`Error::Encode`], [`Error::Random`],
    /// [`Error::Forked`].
    pub fn create(&self, data: S) -> Result<Token> {
        self.create_with(data, CreateOptions::new())
    }

    /// Creates a session with an owner, a label or timeouts of its own.
    ///
    /// # Errors
    /// As [`create`](Store::create), with [`Error::OwnerFull`] and [`Error::InvalidText`].
    ///
    /// # Examples
    /// ```
    /// use cloakroom::{Attributes, CreateOptions, Store};
    ///
    /// let store: Store = Store::builder().in_memory()?;
    /// let options = CreateOptions::new().owner("alice").label("Firefox on Linux");
    /// let token = store.create_with(Attributes::new(), options)?;
    /// assert_eq!(store.owner_sessions("alice")[0].id, token.id());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn create_with(&self, data: S, options: CreateOptions) -> Result<Token> {
        let encoded = data::encode(&data)?;
        self.sessions.create(encoded.data(), &options)
    }

    /// Creates a session that a framework's own kind of secret opens. It is drawn here: an id is
    /// never taken from outside.
    #[cfg(feature = "tower-sessions-015")]
    pub(crate) fn create_under<T: Secret>(&self, data: &S, options: &CreateOptions) -> Result<T> {
        let encoded = data::encode(data)?;
        self.sessions.create_under(encoded.data(), options)
    }

    /// Shows a session's data to a closure, in its archived form and without copying it. Counts as
    /// activity, which is noted as [`touch`](Store::touch) says.
    ///
    /// Takes no lock and never waits. While the closure runs, memory that other threads retire is
    /// kept, so it should be short.
    ///
    /// # Errors
    /// [`Missing`] if there is no such session, or no more.
    #[inline(always)]
    pub fn read<R>(&self, id: SessionId, f: impl FnOnce(&S::Archived) -> R) -> Result<R, Missing> {
        self.sessions.show(id, true, |record| f(view::<S>(record.data())))
    }

    /// Shows the data of many sessions to a closure, one after the other in the order of `ids`,
    /// each with its place in `ids`: what as many [`read`](Store::read)s do, in less time where
    /// the sessions are not in the processor's cache, because their memory is asked for 16 at a
    /// time. For servers that take requests in batches, or look several sessions up for one.
    ///
    /// It is no snapshot: each session is shown as it is when its turn comes. A session that is
    /// listed twice is shown twice. Where there is none, the closure gets why.
    ///
    /// # Examples
    /// ```
    /// use cloakroom::{Attributes, Missing, Store};
    ///
    /// let store: Store = Store::builder().in_memory()?;
    /// let alice = store.create(Attributes::from([("visits", 3.into())]))?.id();
    /// let nobody = "67e55044-10b1-426f-9247-bb680e5fe0c8".parse()?;
    ///
    /// let mut visits = [None; 2];
    /// store.read_many(&[alice, nobody], |index, session| match session {
    ///     Ok(session) => visits[index] = session.get_i64("visits"),
    ///     Err(missing) => assert_eq!(missing, Missing::Unknown),
    /// });
    /// assert_eq!(visits, [Some(3), None]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_many(
        &self,
        ids: &[SessionId],
        mut f: impl FnMut(usize, Result<&S::Archived, Missing>),
    ) {
        self.sessions.show_many(ids, true, |index, found| {
            f(index, found.map(|record| view::<S>(record.data())));
        });
    }

    /// As [`read`](Store::read), but does not count as activity.
    ///
    /// # Errors
    /// [`Missing`] if there is no such session, or no more.
    #[inline(always)]
    pub fn peek<R>(&self, id: SessionId, f: impl FnOnce(&S::Archived) -> R) -> Result<R, Missing> {
        self.sessions.show(id, false, |record| f(view::<S>(record.data())))
    }

    /// A copy of a session that may be kept, and held over an `.await`. Counts as activity, which
    /// is noted as [`touch`](Store::touch) says.
    ///
    /// It tells the session's owner, too ([`Session::owner`]). Costs an allocation and a copy more
    /// than [`read`](Store::read).
    ///
    /// # Errors
    /// [`Missing`] if there is no such session, or no more.
    pub fn get(&self, id: SessionId) -> Result<Session<S>, Missing> {
        self.sessions.show(id, true, |record| Session::new(OwnedRecord::copy_of(record)))
    }

    /// As [`get`](Store::get), but does not count as activity.
    fn copy(&self, id: SessionId) -> Result<Session<S>, Missing> {
        self.sessions.show(id, false, |record| Session::new(OwnedRecord::copy_of(record)))
    }

    /// Asks for the memory that a lookup will read: for whoever knows that one comes soon.
    #[cfg(any(feature = "axum-08", feature = "actix-web-4"))]
    pub(crate) fn expect(&self, id: SessionId) {
        self.sessions.fetch(&[id]);
    }

    /// Changes a session's data in one atomic step: the closure sees the newest data, and nobody
    /// else writes the session until its change is there. N threads that each add 1 M times give
    /// exactly N * M. Counts as activity.
    ///
    /// The closure runs once, under the lock of the session's shard. It must not block; for work
    /// that has to wait, use [`get`](Store::get) with [`replace_if`](Store::replace_if).
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Full`], [`Error::TooLarge`], [`Error::Encode`],
    /// [`Error::Forked`]. The session is then as it was.
    ///
    /// # Panics
    /// If called inside the closure of an update, of this or of any other store of this crate, like
    /// any write and any call that locks (`stats`, `owner_sessions`, `watch`, ...).
    pub fn update<R>(&self, id: SessionId, f: impl FnOnce(&mut S) -> R) -> Result<R> {
        self.try_update(id, |data| Ok(f(data)))
    }

    /// As [`update`](Store::update), for closures that may fail, with any error that can also hold
    /// the store's: then nothing changes.
    ///
    /// # Errors
    /// As [`update`](Store::update), or the closure's own.
    ///
    /// # Panics
    /// As [`update`](Store::update).
    ///
    /// # Examples
    /// ```
    /// use cloakroom::{Attributes, SessionId, Store};
    ///
    /// #[derive(Debug)]
    /// enum OrderError {
    ///     CartIsFull,
    ///     Store(cloakroom::Error),
    /// }
    ///
    /// impl From<cloakroom::Error> for OrderError {
    ///     fn from(error: cloakroom::Error) -> OrderError {
    ///         OrderError::Store(error)
    ///     }
    /// }
    ///
    /// fn add_item(store: &Store, id: SessionId) -> Result<i64, OrderError> {
    ///     store.try_update(id, |s| {
    ///         let items = s.get_i64("items").unwrap_or(0);
    ///         if items == 3 {
    ///             return Err(OrderError::CartIsFull);
    ///         }
    ///         s.set("items", items + 1);
    ///         Ok(items + 1)
    ///     })
    /// }
    ///
    /// let store: Store = Store::builder().in_memory()?;
    /// let id = store.create(Attributes::from([("items", 2.into())]))?.id();
    /// assert!(matches!(add_item(&store, id), Ok(3)));
    /// assert!(matches!(add_item(&store, id), Err(OrderError::CartIsFull)));
    /// store.end(id, cloakroom::Reason::LoggedOut)?;
    /// assert!(matches!(add_item(&store, id), Err(OrderError::Store(_))));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn try_update<R, E: From<Error>>(
        &self,
        id: SessionId,
        f: impl FnOnce(&mut S) -> Result<R, E>,
    ) -> Result<R, E> {
        self.sessions.update(id, |record| {
            let mut data = data::decode::<S>(view::<S>(record.data()))?;
            let result = f(&mut data)?;
            Ok((data::encode(&data)?, result))
        })
    }

    /// Replaces a session's data, whatever it was. Counts as activity.
    ///
    /// # Errors
    /// As [`update`](Store::update).
    pub fn replace(&self, id: SessionId, data: S) -> Result<Version> {
        let encoded = data::encode(&data)?;
        self.sessions.write(id, |_| Ok(encoded)).map(Version)
    }

    /// Replaces a session's data if nobody wrote it since the version that the caller saw. Counts
    /// as activity.
    ///
    /// # Errors
    /// [`Error::Conflict`] with the present version; else as [`update`](Store::update).
    ///
    /// # Examples
    /// ```
    /// use cloakroom::{Attributes, Error, Store};
    ///
    /// let store: Store = Store::builder().in_memory()?;
    /// let id = store.create(Attributes::new())?.id();
    /// let seen = store.get(id)?;
    /// store.update(id, |s| { s.set("by", "somebody else"); })?;
    /// let late = store.replace_if(id, seen.version(), Attributes::new());
    /// assert!(matches!(late, Err(Error::Conflict { .. })));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn replace_if(&self, id: SessionId, version: Version, data: S) -> Result<Version> {
        let encoded = data::encode(&data)?;
        let written = self.sessions.write(id, |record| {
            let current = Version(record.version());
            if current == version { Ok(encoded) } else { Err(Error::Conflict { current }) }
        });
        written.map(Version)
    }

    /// Tells the store that a session is in use, without reading or writing data.
    ///
    /// Activity, this as well as that of lookups, is noted at most once per *touch granularity*: a
    /// 64th of the idle timeout or of the lifetime, whichever is shorter, but at least 1 second (or
    /// an eighth, for timeouts of less than 8 seconds) and at most 1 hour. So an idle session may
    /// expire as much early, never late: with 30 minutes, one that was seen at 12:00:00 and again
    /// at 12:00:20 is gone at 12:30:00.
    ///
    /// # Errors
    /// [`Missing`] if there is no such session, or no more: a touch never revives one.
    pub fn touch(&self, id: SessionId) -> Result<(), Missing> {
        self.sessions.touch(id)
    }
}

impl Store<Attributes> {
    /// Applies the changes of single keys in one atomic step: for middlewares that load a session,
    /// let a handler change it, and save it at the end. Changes of different keys never conflict.
    ///
    /// `base` is the version on which the changes were made. If the session is still at it, they
    /// are applied as they are; otherwise a change conflicts only if its very key was changed
    /// meanwhile, to something else.
    ///
    /// # Errors
    /// [`Error::Conflict`], with nothing changed; else as [`update`](Store::update).
    ///
    /// # Examples
    /// ```
    /// use cloakroom::{Attributes, Changes, Store};
    ///
    /// let store: Store = Store::builder().in_memory()?;
    /// let id = store.create(Attributes::from([("cart", 1.into())]))?.id();
    ///
    /// let loaded = store.get(id)?;
    /// let base = loaded.to_data()?;
    /// let mut changed = base.clone();
    /// changed.set("theme", "dark");
    /// // Meanwhile another request changes another key.
    /// store.update(id, |s| { s.set("cart", 2); })?;
    /// store.patch(id, loaded.version(), &Changes::between(&base, &changed))?;
    ///
    /// let session = store.get(id)?;
    /// assert_eq!(session.get_str("theme"), Some("dark"));
    /// assert_eq!(session.get_i64("cart"), Some(2));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn patch(&self, id: SessionId, base: Version, changes: &Changes) -> Result<Version> {
        let written = self.sessions.write(id, |record| {
            let current = Version(record.version());
            let mut data = data::decode::<Attributes>(view::<Attributes>(record.data()))?;
            changes.apply(&mut data, current == base).map_err(|_| Error::Conflict { current })?;
            data::encode(&data)
        });
        written.map(Version)
    }
}
