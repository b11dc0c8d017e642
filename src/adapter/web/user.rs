//! Who is logged in, as an argument of a handler.

use std::ops::Deref;

use super::error::Result;
use super::session::Session;
use crate::{Attributes, SessionData};

/// The user who is logged in, with the session: an argument of a handler that is for users only.
/// Requests of nobody are answered by 401 ([`Error::NotLoggedIn`](super::Error::NotLoggedIn)).
/// `Option<User>` is for pages that greet those whom they know.
///
/// Counts as activity.
///
/// # Examples
/// ```
/// use cloakroom::web::{self, User};
///
/// async fn account(user: User) -> web::Result<String> {
///     let visits = user.update(|s| {
///         let visits = 1 + s.get_i64("visits").unwrap_or(0);
///         s.set("visits", visits);
///         visits
///     })?;
///     Ok(format!("Hello, {}. Visit {visits}.", user.name()))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct User<S: SessionData = Attributes> {
    name: String,
    session: Session<S>,
}

impl<S: SessionData> User<S> {
    pub(crate) fn of(session: &Session<S>) -> Result<User<S>> {
        Ok(User { name: session.require_owner()?, session: session.clone() })
    }

    /// The owner of the session, as given to [`login`](Session::login).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The session.
    pub fn session(&self) -> &Session<S> {
        &self.session
    }
}

impl<S: SessionData> Deref for User<S> {
    type Target = Session<S>;

    fn deref(&self) -> &Session<S> {
        &self.session
    }
}
