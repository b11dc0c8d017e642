//! A store for tower-sessions 0.15, in which no update is lost.
//!
//! An application on tower-sessions changes one line, the one that makes its store:
//!
//! ```
//! use cloakroom::Store;
//! use cloakroom::tower_sessions::CloakroomStore;
//! use tower_sessions::SessionManagerLayer;
//!
//! let store = CloakroomStore::new(Store::builder().in_memory()?);
//! let layer = SessionManagerLayer::new(store);
//! # let _ = layer;
//! # Ok::<(), cloakroom::Error>(())
//! ```
//!
//! # What is saved
//! tower-sessions loads a session, lets a handler change it, and saves all of it. This store writes
//! the difference between the two, in one atomic step:
//!
//! | while the request ran, others have changed | then this save |
//! |---|---|
//! | other keys, or nothing | keeps both |
//! | the same key, to the same text, truth value or null, or removed it too | is done |
//! | the same key, a [`counter`](CloakroomStore::counter) | adds what this request added |
//! | the same key, otherwise | is refused, or wins ([`OnConflict`]) |
//! | the session's end: a logout, an expiry | is refused: what has ended stays ended |
//!
//! A save that is refused is answered with status 500 by the middleware. After `Session::clear` a
//! save replaces the whole session, whatever others saved. Keys of a map that is one value are not
//! told apart; so give each thing that changes by itself a key of its own.
//!
//! To know what a request started from, a record carries the digests of its values, under the key
//! `cloakroom.loaded`, which is not kept. `cloakroom.expiry` is kept, beside the data. The
//! application's own keys must not have these names. A request that saves more than once is
//! recognised among the last 65,536 that saved.
//!
//! # Ids
//! The store draws each id from the operating system, 128 bits, when it creates the session; the
//! one that tower-sessions drew is replaced. An id that it did not make is never adopted: a save
//! under one is refused. As elsewhere in this crate only the id's digest is kept.
//!
//! # Expiry
//! A record's `expiry_date` decides, not the timeouts of the store, as a time since the last save;
//! [`lifetime`](CloakroomStore::lifetime) puts a bound on it. To have no owner makes a session an
//! anonymous one, whose share of the store's limits is
//! [`anonymous_share`](crate::Builder::anonymous_share): where all sessions come from here, set it
//! to 100.
//!
//! # Rotation
//! To tower-sessions a `cycle_id` is a deletion with a creation. The new session takes over what
//! others saved while the request was under way, with the owner and the label that [`Store`] knows;
//! for that the last 256 deleted sessions are remembered. Between the two there is no session: a
//! request that comes just then finds none.
//!
//! # No cache
//! `CachingSessionStore` hands out copies that know nothing of what was saved since: in front of
//! this store it brings back the lost updates, and saves no time.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value as Json;
use time::OffsetDateTime;
use tower_sessions_core::session::{Id, Record};
use tower_sessions_core::session_store::{self, ExpiredDeletion, SessionStore};

use super::keeper::{Expiry, Keeper, is_applications};
use super::loaded::{LOADED, Loaded};
pub use super::merge::OnConflict;
use super::merge::{Refused, Save};
use super::own::Own;
use super::recent::Recent;
use crate::attributes::{Attributes, Value};
use crate::clock::system_time;
use crate::error::Error;
use crate::store::Store;
use crate::sync::Arc;
use crate::token::{Secret as _, SessionId, ShortToken};

/// A [`Store`] as tower-sessions wants one. A cheap handle, to be cloned.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use cloakroom::Store;
/// use cloakroom::tower_sessions::CloakroomStore;
///
/// let store: Store = Store::builder().anonymous_share(100).in_memory()?;
/// let store = CloakroomStore::new(store)
///     .counter("visits")
///     .lifetime(Duration::from_secs(12 * 60 * 60));
/// # let _ = store;
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CloakroomStore {
    keeper: Keeper,
    /// What each request left of the keys that it changed. A handler may save before the
    /// middleware does: without this its second save would take the first one for somebody
    /// else's, and count twice what it adds to a counter.
    written: Arc<Recent<Request, Own>>,
}

/// Requests that are remembered. Each costs about 100 bytes.
const REQUESTS_MAX: usize = 65_536;

/// A request: one session's data as one load handed it out. Two of the remembered ones have the
/// same number once in 2^48 requests.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Request(u64);

impl CloakroomStore {
    /// Keeps the sessions of tower-sessions in this store, in memory or in a directory.
    pub fn new(store: Store) -> CloakroomStore {
        CloakroomStore { keeper: Keeper::new(store), written: Arc::new(Recent::new(REQUESTS_MAX)) }
    }

    /// Treats this key as a number to which requests add: of two that each add 1 at a time, both
    /// count. Until it is there it is 0.
    ///
    /// Not the default for all integers: two requests that both set `user` to 7, where 3 was
    /// before, mean 7, not 11.
    #[must_use]
    pub fn counter(mut self, key: impl Into<String>) -> CloakroomStore {
        self.keeper.rules.counters.push(key.into());
        self
    }

    /// What a save does with a key that another request has changed meanwhile. Default
    /// [`OnConflict::Refuse`].
    #[must_use]
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> CloakroomStore {
        self.keeper.rules.on_conflict = on_conflict;
        self
    }

    /// How long a session lives at most, from its creation (or a `cycle_id`) on, however often it
    /// is saved. Default `Duration::MAX`: for as long as its `expiry_date` is moved on. OWASP ASVS
    /// 5.0 (7.3.2) asks for a limit.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> CloakroomStore {
        self.keeper.rules.lifetime = lifetime;
        self
    }

    /// The store that holds the sessions.
    pub fn store(&self) -> &Store {
        &self.keeper.store
    }

    /// The id by which [`Store`] knows the session of tower-sessions' id: to bind an owner, to
    /// end all sessions of a user, to watch for the end of one.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use std::sync::Arc;
    /// use cloakroom::{Except, Reason, Store};
    /// use cloakroom::tower_sessions::CloakroomStore;
    /// use tower_sessions::Session;
    ///
    /// let sessions = CloakroomStore::new(Store::builder().in_memory()?);
    /// let session = Session::new(None, Arc::new(sessions.clone()), None);
    /// session.insert("user", "alice").await?;
    /// session.save().await?;
    ///
    /// let id = CloakroomStore::session_id(&session.id().expect("it was saved"));
    /// sessions.store().bind(id, "alice")?;
    /// assert_eq!(sessions.store().end_owner("alice", Except(None), Reason::Revoked)?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn session_id(id: &Id) -> SessionId {
        ShortToken(id.0.to_le_bytes()).id()
    }

    /// When a session expires that the application wrote by the store itself.
    fn expiry_date(&self, id: SessionId) -> OffsetDateTime {
        let expires = self.keeper.store.info(id).ok().and_then(|info| info.expires);
        let days = time::Duration::days(365);
        expires.map_or_else(|| OffsetDateTime::from(system_time()) + days, OffsetDateTime::from)
    }
}

#[async_trait]
impl SessionStore for CloakroomStore {
    /// Creates a session under a new id, which the record then has.
    async fn create(&self, record: &mut Record) -> session_store::Result<()> {
        let pair = |(key, json): (&str, &Json)| Ok((key.to_owned(), to_value(key, json)?));
        let new: Attributes =
            given(&record.data).map(pair).collect::<session_store::Result<_>>()?;
        let before = loaded(record);
        let own = before.as_ref().map(|before| self.written.get(request(before.id(), record)));
        let own = own.unwrap_or_default();
        let mut created = Loaded::of(SessionId(0), &new, &self.keeper.rules);
        let expiry = expiry(record.expiry_date);
        let creation = self.keeper.creation(before.as_ref(), &own, new, expiry);
        let (data, options) = creation.map_err(refused)?;
        let token: ShortToken = self.keeper.store.create_under(&data, &options).map_err(refused)?;
        record.id = Id(i128::from_le_bytes(token.0));
        created.set_id(token.id());
        record.data.insert(LOADED.to_owned(), created.to_text().into());
        Ok(())
    }

    /// Writes what is not as it was loaded. Fails if the session has ended, or was never created.
    async fn save(&self, record: &Record) -> session_store::Result<()> {
        let session = CloakroomStore::session_id(&record.id);
        let request = request(session, record);
        let loaded = loaded(record).filter(|loaded| loaded.id() == session);
        let own = self.written.get(request);
        let rules = &self.keeper.rules;
        let save = Save::of(rules, loaded.as_ref(), &own, given(&record.data), to_value)?;
        let left = self.keeper.save(session, &save, expiry(record.expiry_date));
        let left = left.map_err(not_saved)?;
        // Most requests change nothing but the expiry.
        if !left.is_empty() {
            drop(self.written.put(request, left));
        }
        Ok(())
    }

    async fn load(&self, id: &Id) -> session_store::Result<Option<Record>> {
        let session = CloakroomStore::session_id(id);
        let Some(handed) = self.keeper.load(session).map_err(refused)? else { return Ok(None) };
        let date = handed.expiry.and_then(|expiry| expiry.date).and_then(moment);
        let expiry_date = date.unwrap_or_else(|| self.expiry_date(session));
        if expiry_date <= OffsetDateTime::from(system_time()) {
            return Ok(None);
        }
        let mut data: HashMap<String, Json> =
            handed.data.into_iter().map(|(key, value)| (key, value.into())).collect();
        data.insert(LOADED.to_owned(), handed.loaded.to_text().into());
        Ok(Some(Record { id: *id, data, expiry_date }))
    }

    async fn delete(&self, id: &Id) -> session_store::Result<()> {
        self.keeper.end(CloakroomStore::session_id(id)).map_err(refused)
    }
}

#[async_trait]
impl ExpiredDeletion for CloakroomStore {
    /// Gives the memory of expired sessions back, which the store does by itself as well.
    async fn delete_expired(&self) -> session_store::Result<()> {
        self.keeper.store.expire_due();
        Ok(())
    }
}

/// The request that has this record. A map is told from others by the two keys that std draws for
/// each, which stay with it whatever is inserted, and which only a clone has as well.
fn request(session: SessionId, record: &Record) -> Request {
    Request(record.data.hasher().hash_one(session.lo()))
}

/// What a record was loaded as.
fn loaded(record: &Record) -> Option<Loaded> {
    record.data.get(LOADED).and_then(Json::as_str).and_then(Loaded::from_text)
}

/// A record's data, without what is not the application's.
fn given(data: &HashMap<String, Json>) -> impl Iterator<Item = (&str, &Json)> {
    data.iter().map(|(key, value)| (&**key, value)).filter(|(key, _)| is_applications(key))
}

fn to_value(key: &str, value: &Json) -> session_store::Result<Value> {
    Value::try_from(value.clone()).map_err(|error| {
        session_store::Error::Encode(format!("the value of the key {key:?}: {error}"))
    })
}

/// How a session expires that has to be gone at this moment.
fn expiry(date: OffsetDateTime) -> Expiry {
    let left = date - OffsetDateTime::from(system_time());
    // Up to a second more, so that a time since the last save is the same each time; what is
    // shown is exact, by the date.
    let idle = Duration::try_from(left).map_or(Duration::ZERO, |left| {
        let secs = left.as_secs().saturating_add(u64::from(left.subsec_nanos() > 0));
        Duration::from_secs(secs)
    });
    Expiry { idle, date: Some((date.unix_timestamp(), date.nanosecond())) }
}

fn moment((secs, nanos): (i64, u32)) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(secs).ok()?.replace_nanosecond(nanos).ok()
}

fn refused(error: Error) -> session_store::Error {
    match error {
        Error::Encode(_) | Error::TooLarge { .. } => {
            session_store::Error::Encode(error.to_string())
        }
        error => session_store::Error::Backend(error.to_string()),
    }
}

fn not_saved(error: Refused) -> session_store::Error {
    match error {
        Refused::Store(error) => refused(error),
        conflict => session_store::Error::Backend(conflict.to_string()),
    }
}
