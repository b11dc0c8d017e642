//! `session` of Rails: a hash, wherever its data is.
//!
//! Handlers know this type alone, so that the choice of storage is one value of the configuration.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use cloakroom::web::{Error, Session};
use cloakroom::{Attributes, Value};

use super::travelling::{Problem, Travelling};

/// The session of a request, with its data on the server or in a cookie. A clone is the same.
#[derive(Clone)]
pub(crate) struct Hash {
    session: Session,
    travelling: Option<Travelling>,
}

impl<S: Sync> FromRequestParts<S> for Hash {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Hash, Error> {
        let session = <Session as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        Ok(Hash { session, travelling: parts.extensions.get::<Travelling>().cloned() })
    }
}

impl Hash {
    /// Looks at the data, if there is a session.
    fn read<R>(&self, f: impl FnOnce(&Attributes) -> R) -> Option<R> {
        match &self.travelling {
            None => self.session.copy().and_then(|copy| copy.to_data().ok()).map(|data| f(&data)),
            Some(travelling) => travelling.read(&self.session, f),
        }
    }

    /// `session[key]`
    pub(crate) fn get(&self, key: &str) -> Option<Value> {
        match &self.travelling {
            None => self.session.get(key),
            Some(travelling) => travelling.read(&self.session, |data| data.get(key).cloned())?,
        }
    }

    pub(crate) fn get_i64(&self, key: &str) -> Option<i64> {
        self.get(key)?.as_i64()
    }

    /// The keys, in the order in which they were first set.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.read(|data| data.keys().map(str::to_owned).collect()).unwrap_or_default()
    }

    /// Changes the data in one step. If there is no session, one begins.
    pub(crate) fn update<R>(&self, f: impl FnOnce(&mut Attributes) -> R) -> Result<R, Problem> {
        match &self.travelling {
            None => Ok(self.session.update(f)?),
            Some(travelling) => travelling.update(&self.session, f),
        }
    }

    /// `session[key] = value`
    pub(crate) fn set(&self, key: &str, value: impl Into<Value>) -> Result<(), Problem> {
        let value = value.into();
        self.update(|data| {
            data.set(key, value);
        })
    }

    /// `session.delete(key)`
    pub(crate) fn delete(&self, key: &str) -> Result<Option<Value>, Problem> {
        if self.get(key).is_none() {
            return Ok(None);
        }
        self.update(|data| data.remove(key))
    }

    /// `flash[:notice] = text`: for the next page that asks, once.
    pub(crate) fn flash(&self, text: &str) -> Result<(), Problem> {
        self.set("flash", text)
    }

    /// `flash[:notice]`
    pub(crate) fn take_flash(&self) -> Result<Option<String>, Problem> {
        Ok(self.delete("flash")?.and_then(|text| text.as_str().map(str::to_owned)))
    }

    /// A login: another token, and the user's id in the session.
    pub(crate) fn login(&self, user_id: &str) -> Result<(), Problem> {
        let data = self.read(Attributes::clone).unwrap_or_default();
        let was_another = self.session.owner().is_some_and(|owner| owner != user_id);
        self.session.login(user_id, "a browser")?;
        self.update(|now| {
            // What is in a cookie was sealed for the token before. Another user's is left there.
            if self.travelling.is_some() && !was_another {
                *now = data;
            }
            now.set("user_id", user_id);
        })
    }

    /// Who is logged in.
    pub(crate) fn user(&self) -> Option<String> {
        self.session.owner()
    }

    /// The session's end.
    pub(crate) fn logout(&self) -> Result<(), Problem> {
        self.session.logout()?;
        self.forget();
        Ok(())
    }

    /// `reset_session`
    pub(crate) fn reset_session(&self) -> Result<(), Problem> {
        self.session.reset()?;
        self.forget();
        Ok(())
    }

    fn forget(&self) {
        if let Some(travelling) = &self.travelling {
            travelling.forget();
        }
    }

    /// What the store knows of the session: `session[:last_seen]` is built in.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }
}
