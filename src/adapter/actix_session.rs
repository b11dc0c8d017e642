//! A store for actix-session 0.11, in which no update is lost.
//!
//! An application on actix-session changes one line, the one that makes its store:
//!
//! ```
//! use actix_session::SessionMiddleware;
//! use actix_web::cookie::Key;
//! use cloakroom::Store;
//! use cloakroom::actix_session::CloakroomStore;
//!
//! let store = CloakroomStore::new(Store::builder().in_memory()?);
//! // In the closure of `HttpServer::new`, once per worker:
//! let middleware = SessionMiddleware::new(store.clone(), Key::generate());
//! # let _ = middleware;
//! # Ok::<(), cloakroom::Error>(())
//! ```
//!
//! # What is saved
//! actix-session loads a session, lets a handler change it, and saves all of it. This store writes
//! the difference between the two, in one atomic step:
//!
//! | while the request ran, others have changed | then this update |
//! |---|---|
//! | other keys, or nothing | keeps both |
//! | the same key, to the same text, truth value or null, or removed it too | is done |
//! | the same key, a [`counter`](CloakroomStore::counter) | adds what this request added |
//! | the same key, otherwise | is refused, or wins ([`OnConflict`]) |
//! | the session's end: a logout, an eviction | is refused: what has ended stays ended |
//! | the session's expiry | begins a new session with what this request set, nothing else |
//!
//! An update that is refused is answered with status 500 by the middleware. After `Session::clear`
//! it replaces the whole session, whatever others saved. Keys of a map that is one value are not
//! told apart; so give each thing that changes by itself a key of its own.
//!
//! To know what a request started from, the state carries the digests of its values, under the key
//! `cloakroom.loaded`, which is not kept; `Session::entries` shows it. `cloakroom.expiry` is kept,
//! beside the data. The application's own keys must not have these names.
//!
//! # Rotation
//! To actix-session a `renew` is a deletion with a creation. The new session takes over what
//! others saved while the request was under way, with the owner and the label that [`Store`] knows;
//! for that the last 256 deleted sessions are remembered. Between the two there is no session: a
//! request that comes just then finds none.
//!
//! # Keys
//! A session key is the text of a [`Token`], 256 bits from the operating system, drawn when the
//! session is created. A key that the store did not make is never adopted, and as elsewhere in this
//! crate only its digest is kept.
//!
//! # Values
//! JSON texts are kept as values, so that [`Store`] can read them; a text that would not come back
//! byte by byte (numbers of more than 64 bits, odd spaces) is kept as it is.
//!
//! # Expiry
//! The middleware's time to live decides, not the timeouts of the store;
//! [`lifetime`](CloakroomStore::lifetime) puts a bound on it. Where it is extended on every request
//! that is noted at most once per touch granularity ([`Store::touch`]), so that a session may
//! expire as much early, never late. To have no owner makes a session an anonymous one, whose
//! share of the store's limits is [`anonymous_share`](crate::Builder::anonymous_share): where all
//! sessions come from here, set it to 100.

use std::collections::HashMap;
use std::time::Duration;

use ::actix_session::storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError};
use serde_json::Value as Json;

use super::keeper::{Expiry, Keeper, as_it_is, is_applications};
use super::loaded::{LOADED, Loaded};
pub use super::merge::OnConflict;
use super::merge::{Refused, Save};
use super::own::Own;
use crate::attributes::{Attributes, Value};
use crate::error::{Error, Malformed, Missing, Reason};
use crate::store::Store;
use crate::token::{SessionId, Token};

/// Marks a text that is kept as it is.
const VERBATIM: &[u8] = b"json:";

/// A [`Store`] as actix-session wants one. A cheap handle, to be cloned into each worker.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use cloakroom::Store;
/// use cloakroom::actix_session::CloakroomStore;
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
}

impl CloakroomStore {
    /// Keeps the sessions of actix-session in this store, in memory or in a directory.
    pub fn new(store: Store) -> CloakroomStore {
        CloakroomStore { keeper: Keeper::new(store) }
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

    /// What an update does with a key that another request has changed meanwhile. Default
    /// [`OnConflict::Refuse`].
    #[must_use]
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> CloakroomStore {
        self.keeper.rules.on_conflict = on_conflict;
        self
    }

    /// How long a session lives at most, from its creation (or a `renew`) on, however often it
    /// is saved. Default `Duration::MAX`: for as long as its time to live is extended. OWASP ASVS
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

    /// The id by which [`Store`] knows the session of this key: to bind an owner, to end all
    /// sessions of a user, to watch for the end of one.
    ///
    /// # Errors
    /// [`Malformed::Token`] for a text that no session of this store can have as its key.
    pub fn session_id(key: &SessionKey) -> Result<SessionId, Malformed> {
        Ok(Token::parse(key.as_ref())?.id())
    }

    fn create(
        &self,
        loaded: Option<&Loaded>,
        data: Attributes,
        idle: Duration,
    ) -> Result<SessionKey, anyhow::Error> {
        let expiry = Expiry { idle, date: None };
        let (data, options) = self.keeper.creation(loaded, &Own::default(), data, expiry)?;
        let token = self.keeper.store.create_with(data, options)?;
        Ok(token.expose().try_into()?)
    }

    fn save_changes(
        &self,
        key: &SessionKey,
        loaded: Option<&Loaded>,
        data: &Attributes,
        idle: Duration,
    ) -> Result<(), Refused> {
        let id = CloakroomStore::session_id(key).map_err(Error::from)?;
        let loaded = loaded.filter(|loaded| loaded.id() == id);
        let (own, given) = (Own::default(), data.iter().filter(|(key, _)| is_applications(key)));
        let save = Save::of(&self.keeper.rules, loaded, &own, given, as_it_is)?;
        self.keeper.save(id, &save, Expiry { idle, date: None }).map(drop)
    }
}

impl SessionStore for CloakroomStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<HashMap<String, String>>, LoadError> {
        let Ok(id) = CloakroomStore::session_id(key) else { return Ok(None) };
        let handed = self.keeper.load(id).map_err(|error| LoadError::Other(error.into()))?;
        Ok(handed.map(|handed| {
            let mut state: HashMap<_, _> =
                handed.data.into_iter().map(|(key, value)| (key, to_text(value))).collect();
            state.insert(LOADED.to_owned(), format!("\"{}\"", handed.loaded.to_text()));
            state
        }))
    }

    async fn save(
        &self,
        state: HashMap<String, String>,
        ttl: &time::Duration,
    ) -> Result<SessionKey, SaveError> {
        let (loaded, data) = taken(state);
        self.create(loaded.as_ref(), data, idle(ttl)).map_err(SaveError::Other)
    }

    async fn update(
        &self,
        key: SessionKey,
        state: HashMap<String, String>,
        ttl: &time::Duration,
    ) -> Result<SessionKey, UpdateError> {
        let (loaded, data) = taken(state);
        match self.save_changes(&key, loaded.as_ref(), &data, idle(ttl)) {
            Ok(()) => Ok(key),
            Err(Refused::Store(
                Error::Malformed(_)
                | Error::Missing(Missing::Unknown | Missing::Ended(Reason::Expired)),
            )) => {
                let data = match loaded {
                    Some(loaded) => self.keeper.changed(&loaded, data),
                    None => data,
                };
                self.create(None, data, idle(ttl)).map_err(UpdateError::Other)
            }
            Err(refused) => Err(UpdateError::Other(refused.into())),
        }
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &time::Duration) -> anyhow::Result<()> {
        let Ok(id) = CloakroomStore::session_id(key) else { return Ok(()) };
        match self.keeper.extend(id, idle(ttl)) {
            Ok(()) | Err(Error::Missing(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn delete(&self, key: &SessionKey) -> anyhow::Result<()> {
        let Ok(id) = CloakroomStore::session_id(key) else { return Ok(()) };
        Ok(self.keeper.end(id)?)
    }
}

fn idle(ttl: &time::Duration) -> Duration {
    Duration::try_from(*ttl).unwrap_or(Duration::ZERO)
}

/// The data of a state, with what it was loaded as.
fn taken(mut state: HashMap<String, String>) -> (Option<Loaded>, Attributes) {
    let loaded = state.remove(LOADED);
    let loaded = loaded.as_deref().and_then(|text| Loaded::from_text(text.trim_matches('"')));
    (loaded, state.into_iter().map(|(key, text)| (key, to_value(text))).collect())
}

/// The value of a JSON text.
fn to_value(text: String) -> Value {
    let json: Option<Json> = serde_json::from_str(&text).ok();
    let json = json.filter(|json| serde_json::to_string(json).is_ok_and(|again| again == text));
    let value = json.and_then(|json| Value::try_from(json).ok());
    value.unwrap_or_else(|| Value::Bytes([VERBATIM, text.as_bytes()].concat()))
}

/// The JSON text of a value.
fn to_text(value: Value) -> String {
    let verbatim = value.as_bytes().and_then(|bytes| bytes.strip_prefix(VERBATIM));
    match verbatim.and_then(|bytes| std::str::from_utf8(bytes).ok()) {
        Some(text) => text.to_owned(),
        None => Json::from(value).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_text_comes_back(text in "[-0-9.eE+]{1,40}|[\\[\\]{}\",:0-9a-z ]{0,20}|\\PC{0,9}") {
            prop_assert_eq!(to_text(to_value(text.clone())), text);
        }
    }

    #[test]
    fn what_json_holds_exactly_is_a_value() {
        let many = "340282366920938463463374607431768211455";
        let deep = "[".repeat(100) + &"]".repeat(100);
        for text in [many, &deep, "1e2", "{ }", "not JSON", ""] {
            assert!(matches!(to_value(text.to_owned()), Value::Bytes(_)), "{text}");
            assert_eq!(to_text(to_value(text.to_owned())), text);
        }
        for (text, value) in [
            ("5", Value::Int(5)),
            ("18446744073709551615", Value::UInt(u64::MAX)),
            ("\"alice\"", "alice".into()),
            ("null", Value::Null),
        ] {
            assert_eq!(to_value(text.to_owned()), value);
        }
    }
}
