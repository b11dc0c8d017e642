//! Sessions as a middleware handles them, in a store.

use std::time::Duration;

use super::loaded::{LOADED, Loaded};
use super::merge::{OnConflict, Refused, Rules, Save};
use super::own::Own;
use super::recent::Recent;
use crate::attributes::{Attributes, Value};
use crate::data;
use crate::error::{Error, Missing, Reason, Result};
use crate::options::CreateOptions;
use crate::session::Session;
use crate::store::Store;
use crate::sync::Arc;
use crate::token::SessionId;

/// The key under which a session's expiry is kept, beside its data.
const EXPIRY: &str = "cloakroom.expiry";

/// When a session expires, as its middleware says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expiry {
    /// So long after it was saved last.
    pub(super) idle: Duration,
    /// The moment that the middleware named: seconds since 1970, with the nanoseconds.
    pub(super) date: Option<(i64, u32)>,
}

impl Expiry {
    fn to_value(self) -> Value {
        let idle = u64::try_from(self.idle.as_nanos()).unwrap_or(u64::MAX);
        let date = self.date.map(|(secs, nanos)| [secs.into(), nanos.into()]);
        Value::List([idle.into()].into_iter().chain(date.into_iter().flatten()).collect())
    }

    /// None for what [`Expiry::to_value`] cannot have made.
    fn from_value(value: &Value) -> Option<Expiry> {
        let list = value.as_list()?;
        let idle = match list.first()?.as_u64()? {
            u64::MAX => Duration::MAX,
            nanos => Duration::from_nanos(nanos),
        };
        let date = match list.get(1..) {
            Some([secs, nanos]) => Some((secs.as_i64()?, u32::try_from(nanos.as_u64()?).ok()?)),
            _ => None,
        };
        Some(Expiry { idle, date })
    }
}

/// A session as it is handed out.
pub(super) struct Handed {
    pub(super) data: Attributes,
    /// None if the application wrote the session by the store itself.
    #[cfg_attr(not(feature = "tower-sessions-015"), allow(dead_code, reason = "its date"))]
    pub(super) expiry: Option<Expiry>,
    pub(super) loaded: Loaded,
}

/// Sessions that were deleted, of which the last state is remembered.
const DELETED_MAX: usize = 256;

/// The sessions of a store, for a middleware that loads and saves them.
///
/// To these middlewares a rotation is a deletion with a creation. In between, what others saved
/// while the request was under way is known to nobody; so a deletion leaves the session's last
/// state behind, for the creation to start from.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    pub(super) store: Store,
    pub(super) rules: Rules,
    deleted: Arc<Recent<SessionId, Session<Attributes>>>,
}

impl Keeper {
    pub(super) fn new(store: Store) -> Keeper {
        Keeper { store, rules: Rules::default(), deleted: Arc::new(Recent::new(DELETED_MAX)) }
    }

    /// What a new session is created with: its data, with all else.
    ///
    /// If it goes on with one that was deleted a moment ago, it takes over what others saved there,
    /// the owner and the label. Where both changed a key this request's value stays, whatever the
    /// rules say: it cannot be refused any more.
    pub(super) fn creation(
        &self,
        loaded: Option<&Loaded>,
        own: &Own,
        mut new: Attributes,
        expiry: Expiry,
    ) -> Result<(Attributes, CreateOptions)> {
        new.retain(|key, _| is_applications(key));
        let mut options =
            CreateOptions::new().idle_timeout(expiry.idle).lifetime(self.rules.lifetime);
        let deleted = loaded.and_then(|loaded| self.deleted.take(loaded.id()));
        if let Some(deleted) = deleted {
            let rules = Rules { on_conflict: OnConflict::LastWins, ..self.rules.clone() };
            let mut data = deleted.to_data()?;
            data.retain(|key, _| is_applications(key));
            let save = Save::of(&rules, loaded, own, new.iter(), as_it_is)?;
            // Nothing is refused by these rules.
            if save.apply(&mut data).is_ok() {
                new = data;
            }
            options = deleted.owner().into_iter().fold(options, CreateOptions::owner);
            options = deleted.label().into_iter().fold(options, CreateOptions::label);
        }
        new.set(EXPIRY, expiry.to_value());
        Ok((new, options))
    }

    /// A copy of a session's data. Does not count as activity: to these middlewares only a save
    /// is.
    pub(super) fn load(&self, id: SessionId) -> Result<Option<Handed>> {
        let mut data = match self.store.peek(id, data::decode::<Attributes>) {
            Ok(data) => data?,
            Err(Missing::Unknown | Missing::Ended(_)) => return Ok(None),
        };
        let expiry = data.remove(EXPIRY).as_ref().and_then(Expiry::from_value);
        data.remove(LOADED);
        let loaded = Loaded::of(id, &data, &self.rules);
        Ok(Some(Handed { data, expiry, loaded }))
    }

    /// Writes what a request changed. Returns what it left of those keys.
    pub(super) fn save(
        &self,
        id: SessionId,
        save: &Save<'_>,
        expiry: Expiry,
    ) -> Result<Own, Refused> {
        let before = self.store.try_update(id, |data| {
            let before = data.get(EXPIRY).and_then(Expiry::from_value);
            save.apply(data)?;
            data.set(EXPIRY, expiry.to_value());
            Ok::<_, Refused>(before)
        })?;
        if before.map(|before| before.idle) != Some(expiry.idle) {
            self.store.set_timeouts(id, expiry.idle, self.rules.lifetime)?;
        }
        Ok(save.left())
    }

    /// The keys of a request that are not as it loaded them.
    #[cfg(feature = "actix-session-011")]
    pub(super) fn changed(&self, loaded: &Loaded, mut new: Attributes) -> Attributes {
        new.retain(|key, value| is_applications(key) && !loaded.has(key, value));
        new
    }

    /// Lets a session live on for so long from now on.
    #[cfg(feature = "actix-session-011")]
    pub(super) fn extend(&self, id: SessionId, idle: Duration) -> Result<()> {
        let same = |data: &Attributes| {
            data.get(EXPIRY).and_then(Expiry::from_value).is_some_and(|known| known.idle == idle)
        };
        if self.store.peek(id, data::decode::<Attributes>)?.is_ok_and(|data| same(&data)) {
            return Ok(self.store.touch(id)?);
        }
        self.store.update(id, |data| {
            data.set(EXPIRY, Expiry { idle, date: None }.to_value());
        })?;
        self.store.set_timeouts(id, idle, self.rules.lifetime)
    }

    /// Ends a session. That it has ended already is no error.
    pub(super) fn end(&self, id: SessionId) -> Result<()> {
        match self.store.take(id, Reason::LoggedOut) {
            Ok(last) => drop(self.deleted.put(id, last)),
            Err(Error::Missing(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Not a key of these stores.
pub(super) fn is_applications(key: &str) -> bool {
    key != LOADED && key != EXPIRY
}

/// A value that needs no conversion.
pub(super) fn as_it_is(_: &str, value: &Value) -> Result<Value> {
    Ok(value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_read_as_it_was_written() {
        for idle in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            for date in [None, Some((0, 0)), Some((i64::MIN, 999_999_999)), Some((i64::MAX, 1))] {
                let expiry = Expiry { idle, date };
                assert_eq!(Expiry::from_value(&expiry.to_value()), Some(expiry));
            }
        }
        for odd in [Value::Null, Value::List(vec![]), Value::List(vec!["a".into()])] {
            assert_eq!(Expiry::from_value(&odd), None);
        }
    }
}
