//! What a session on the web can refuse: with the status of its answer.

use std::fmt;
use std::time::Duration;

use crate::cookie::CookieError;
use crate::{Missing, Reason};

/// The result type of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call on a [`Session`](super::Session) failed. It is an answer, too: a handler may return
/// it, on axum as well as on actix-web.
///
/// | error | status |
/// |---|---|
/// | [`NotLoggedIn`](Error::NotLoggedIn), a session that is [`Missing`] | 401 |
/// | [`NotFresh`](Error::NotFresh), [`Forged`](Error::Forged), a login beyond the limit | 403 |
/// | [`BadCookie`](Error::BadCookie), an owner or a label that is no such text | 400 |
/// | data beyond [`record_bytes_max`](crate::Builder::record_bytes_max) | 413 |
/// | a store that is full | 503 |
/// | all others | 500 |
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The store refused.
    Store(crate::Error),
    /// The cookie could not be written.
    Cookie(CookieError),
    /// Nobody is logged in. Holds why the session of the request's token is gone, if it had one.
    NotLoggedIn(Option<Missing>),
    /// The user proved who he is longer ago than is allowed here.
    NotFresh {
        /// How long ago it was.
        since: Duration,
        /// How long ago it may be.
        since_max: Duration,
    },
    /// The request does not carry the session's CSRF token, so somebody else may have sent it.
    Forged,
    /// The request's cookie was not made here, and the policy is
    /// [`BadCookie::Refuse`](super::BadCookie::Refuse).
    BadCookie,
    /// The head of the response is on its way, and the change needs another cookie. Nothing was
    /// changed.
    HeadSent,
    /// No layer is around the route that puts such a session into its requests.
    NoLayer {
        /// The type of the session's data.
        data: &'static str,
    },
}

impl Error {
    /// The status of the answer, as in the table above.
    pub fn status(&self) -> u16 {
        match self {
            Error::Store(error) => status_of(error),
            Error::NotLoggedIn(_) => 401,
            Error::NotFresh { .. } | Error::Forged => 403,
            Error::BadCookie => 400,
            Error::Cookie(_) | Error::HeadSent | Error::NoLayer { .. } => 500,
        }
    }

    /// Why the session is gone, if that is what the error says.
    pub fn missing(&self) -> Option<Missing> {
        match self {
            Error::Store(crate::Error::Missing(missing)) => Some(*missing),
            Error::NotLoggedIn(missing) => *missing,
            _ => None,
        }
    }

    /// The text of the answer. What went wrong inside the server is not in it, but for mistakes
    /// that every request would show.
    pub fn message(&self) -> String {
        match self {
            Error::Store(crate::Error::Full(_)) => "There is no room for a session.".into(),
            Error::Store(_) | Error::Cookie(_) if self.status() == 500 => {
                "Internal Server Error".into()
            }
            Error::BadCookie => "Bad Cookie".into(),
            _ => self.to_string(),
        }
    }
}

fn status_of(error: &crate::Error) -> u16 {
    match error {
        crate::Error::Missing(_) => 401,
        crate::Error::OwnerFull { .. } => 403,
        crate::Error::InvalidText { .. } => 400,
        crate::Error::TooLarge { .. } => 413,
        crate::Error::Full(_) => 503,
        _ => 500,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Store(error) => error.fmt(f),
            Error::Cookie(error) => error.fmt(f),
            Error::NotLoggedIn(Some(Missing::Ended(reason))) => {
                write!(f, "not logged in: {}", ended(*reason))
            }
            Error::NotLoggedIn(_) => f.write_str("not logged in"),
            Error::NotFresh { since, since_max } => write!(
                f,
                "logged in {} s ago, and {} s are allowed here: log in again",
                since.as_secs(),
                since_max.as_secs()
            ),
            Error::Forged => {
                f.write_str("the request carries no valid CSRF token: load the page again")
            }
            Error::BadCookie => f.write_str("bad cookie"),
            Error::HeadSent => f.write_str(
                "the head of the response is sent already, so that no other cookie can be: change \
                 the token, or write to a session that is new, before the response is returned",
            ),
            Error::NoLayer { data } => write!(
                f,
                "no session of `{data}` in this request: put `cloakroom::axum::SessionLayer` or \
                 `cloakroom::actix::SessionMiddleware`, with a store of that type, around the route"
            ),
        }
    }
}

fn ended(reason: Reason) -> &'static str {
    match reason {
        Reason::LoggedOut => "you have logged out",
        Reason::Expired => "the session has expired",
        Reason::Rotated => "the session goes on under another token",
        Reason::Revoked | Reason::Evicted => "the session was ended",
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Store(error) => Some(error),
            Error::Cookie(error) => Some(error),
            _ => None,
        }
    }
}

impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Error {
        Error::Store(error)
    }
}

impl From<Missing> for Error {
    fn from(missing: Missing) -> Error {
        Error::Store(crate::Error::Missing(missing))
    }
}

impl From<CookieError> for Error {
    fn from(error: CookieError) -> Error {
        Error::Cookie(error)
    }
}
