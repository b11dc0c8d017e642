//! The session of a request, live: each call goes to the store at once.

use std::fmt;
use std::sync::Arc;

use super::error::{Error, Result};
use super::exchange::{Activity, Begun, Exchange, Open, Written};
use super::sessions::Sessions;
use crate::{Attributes, Info, Missing, SessionData, SessionId, Store, Watch};

/// The session of a request: a live handle, cheap to clone. An argument of a handler, on axum as
/// well as on actix-web.
///
/// Nothing is loaded when the request begins, nothing saved when it ends: each call reads the
/// store, or changes it in one atomic step. What other requests do is seen at once, and no change
/// of theirs is overwritten.
///
/// | a handler | activity | `Set-Cookie` | `Vary: Cookie` |
/// |---|---|---|---|
/// | does not ask | no | no | no |
/// | reads | yes | only to remove the cookie of a session that ended | yes |
/// | writes where there is a session | yes | no | yes |
/// | writes where there is none: one begins | yes | yes | yes |
/// | logs in or out, `reset`, `rotate` | yes | yes | yes |
///
/// A response with `Set-Cookie` has `Cache-Control: no-store`, too. What the application said in
/// these headers stays.
///
/// # When it ends
/// A session that is gone when the request comes is no session: reads give None, a write begins
/// another, [`missing`](Session::missing) tells why. One that ends while the request is under way
/// refuses writes, so that nothing of a user who is logged out comes back.
///
/// # When the head is sent
/// The cookie goes with the head of the response. While the body is streamed, and on a WebSocket,
/// reads and writes go on as before. What needs another cookie ([`login`](Session::login),
/// [`reset`](Session::reset), [`rotate`](Session::rotate), a write that would begin a session) is
/// refused with [`Error::HeadSent`] and changes nothing; [`logout`](Session::logout) ends the
/// session and leaves a dead cookie behind.
///
/// A response that is never made, as its client went away or its handler panicked, tells no token:
/// a session that this request began, or whose token it changed, is ended then.
///
/// # Examples
/// ```
/// use cloakroom::web::{self, Session};
///
/// async fn count(session: Session) -> web::Result<String> {
///     let visits = session.update(|s| {
///         let visits = 1 + s.get_i64("visits").unwrap_or(0);
///         s.set("visits", visits);
///         visits
///     })?;
///     Ok(format!("visit {visits}"))
/// }
/// ```
pub struct Session<S: SessionData = Attributes> {
    pub(super) exchange: Arc<Exchange<S>>,
}

impl<S: SessionData> Clone for Session<S> {
    fn clone(&self) -> Session<S> {
        Session { exchange: Arc::clone(&self.exchange) }
    }
}

/// Without the token, and without the data.
impl<S: SessionData> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl<S: SessionData> Open<S> {
    pub(crate) fn session(&self) -> Session<S> {
        Session { exchange: Arc::clone(&self.0) }
    }
}

impl<S: SessionData> Session<S> {
    /// Whether a layer of these very sessions made it.
    pub(crate) fn is_of(&self, sessions: &Sessions<S>) -> bool {
        self.exchange.sessions.is(sessions)
    }

    /// As an extractor gives it: refused if the request's cookie is.
    pub(crate) fn checked(&self) -> Result<Session<S>> {
        self.exchange.check_cookie()?;
        Ok(self.clone())
    }

    /// The error of an extractor that found no layer.
    pub(crate) fn no_layer() -> Error {
        Error::NoLayer { data: std::any::type_name::<S>() }
    }

    /// The store, for what is about other sessions than this one.
    pub fn store(&self) -> &Store<S> {
        self.exchange.sessions.store()
    }

    // ---- What it is -------------------------------------------------------------------------

    /// Whether there is a session. Counts as activity.
    pub fn is_live(&self) -> bool {
        self.exchange.id(Activity::Counted).is_some()
    }

    /// The session's id, as [`Store::owner_sessions`] lists it. Does not count as activity.
    pub fn id(&self) -> Option<SessionId> {
        self.info().map(|info| info.id)
    }

    /// What the store knows of the session besides its data. Does not count as activity.
    pub fn info(&self) -> Option<Info> {
        self.exchange.with(Activity::Ignored, |id| self.store().info(id)).ok()
    }

    /// Who is logged in, if anybody. Counts as activity.
    pub fn owner(&self) -> Option<String> {
        let id = self.exchange.id(Activity::Counted)?;
        self.exchange.noted(id, self.store().owner(id)).ok().flatten()
    }

    /// Who is logged in.
    ///
    /// # Errors
    /// [`Error::NotLoggedIn`], with the reason why the session of the request's token is gone, if
    /// it had one.
    pub fn require_owner(&self) -> Result<String> {
        self.owner().ok_or_else(|| Error::NotLoggedIn(self.missing()))
    }

    /// Why the session of the request's token is gone. None if it is there, or no token came.
    /// Does not count as activity.
    pub fn missing(&self) -> Option<Missing> {
        self.exchange.missing()
    }

    /// A future that resolves when the session ends, for a socket that has to close then. None if
    /// there is no session. See [`Store::watch`].
    ///
    /// It follows renewals, and so does this handle from here on: without, one that is used for
    /// longer than its request loses the session when another request renews it. At a login, which
    /// gives the session another token, it resolves to
    /// [`Reason::Rotated`](crate::Reason::Rotated): the client connects again with its new cookie.
    pub fn watch(&self) -> Option<Watch> {
        self.exchange.watch()
    }

    // ---- Data -------------------------------------------------------------------------------

    /// Shows the data to a closure, without a lock or a copy. None if there is no session. Counts
    /// as activity. See [`Store::read`].
    pub fn read<R>(&self, f: impl FnOnce(&S::Archived) -> R) -> Option<R> {
        self.exchange.with(Activity::Counted, |id| self.store().read(id, f)).ok()
    }

    /// As [`read`](Session::read), but does not count as activity: for pages that ask by
    /// themselves, again and again.
    pub fn peek<R>(&self, f: impl FnOnce(&S::Archived) -> R) -> Option<R> {
        self.exchange.with(Activity::Ignored, |id| self.store().peek(id, f)).ok()
    }

    /// A copy that may be kept, and held over an `.await`. None if there is no session. Counts as
    /// activity. See [`Store::get`].
    pub fn copy(&self) -> Option<crate::Session<S>> {
        self.exchange.with(Activity::Counted, |id| self.store().get(id)).ok()
    }

    /// Changes the data in one atomic step: see [`Store::update`]. If there is no session, one
    /// begins, with the default data as the closure leaves it.
    ///
    /// # Errors
    /// [`Error::Store`] as of [`Store::update`] and [`Store::create`]; [`Error::HeadSent`] if a
    /// session would begin too late. Nothing has changed then.
    ///
    /// # Panics
    /// If called inside the closure of an update, as [`Store::update`].
    pub fn update<R>(&self, f: impl FnOnce(&mut S) -> R) -> Result<R>
    where
        S: Default,
    {
        let f = match self.exchange.write(f)? {
            Written::Done(result) => return Ok(result),
            Written::Nobody(f) => f,
        };
        match self.exchange.begin(f)? {
            Begun::New(result) => Ok(result),
            // Another task of the same request was faster.
            Begun::Already(id, f) => self.exchange.noted(id, self.store().update(id, f)),
        }
    }

    /// As [`update`](Session::update), for closures that may fail: then nothing changes. It begins
    /// no session.
    ///
    /// # Errors
    /// As [`update`](Session::update), or the closure's own; [`Error::NotLoggedIn`] if there is no
    /// session.
    ///
    /// # Panics
    /// As [`update`](Session::update).
    pub fn try_update<R, E: From<Error>>(
        &self,
        f: impl FnOnce(&mut S) -> Result<R, E>,
    ) -> Result<R, E> {
        let Some(id) = self.exchange.id(Activity::Counted) else {
            return Err(Error::NotLoggedIn(self.missing()).into());
        };
        let result = self.store().try_update(id, |data| f(data).map_err(Failed::Own));
        result.map_err(|failed| match failed {
            Failed::Own(error) => error,
            Failed::Store(error) => {
                self.exchange.note(id, &error);
                Error::from(error).into()
            }
        })
    }

    /// Tells the store that the session is in use: for sockets, whose traffic is no request.
    ///
    /// # Errors
    /// [`Error::Store`] if the session has ended, [`Error::NotLoggedIn`] if there was none.
    pub fn touch(&self) -> Result<()> {
        self.exchange.with(Activity::Counted, |id| self.store().touch(id))
    }
}

/// Why an update failed: by the store, or by the closure.
enum Failed<E> {
    Store(crate::Error),
    Own(E),
}

impl<E> From<crate::Error> for Failed<E> {
    fn from(error: crate::Error) -> Failed<E> {
        Failed::Store(error)
    }
}
