//! Who a session belongs to, under which token it goes, and how it ends.

use std::time::Duration;

use super::Store;
use crate::data::{self, SessionData};
use crate::error::{Error, Reason, Result};
#[cfg(any(feature = "tower-sessions-015", feature = "actix-session-011"))]
use crate::record::{OwnedRecord, Record};
use crate::session::Info;
#[cfg(any(feature = "tower-sessions-015", feature = "actix-session-011"))]
use crate::session::Session;
use crate::sessions::Remake;
use crate::token::{SessionId, Token};

/// The session that [`Store::end_owner`] spares, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Except(pub Option<SessionId>);

impl<S: SessionData> Store<S> {
    /// Gives a session another token, for a login or a change of privilege. The old token is dead
    /// when this returns: it answers [`Reason::Rotated`], from any thread (OWASP ASVS 5.0, 7.2.4).
    /// The data, the owner, the version and the end of the lifetime stay. Counts as activity.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Full`] without
    /// memory, [`Error::Random`]; the old token is then still good.
    ///
    /// # Examples
    /// ```
    /// use cloakroom::{Attributes, Missing, Reason, Store};
    ///
    /// let store: Store = Store::builder().in_memory()?;
    /// let old = store.create(Attributes::from([("cart", 3.into())]))?;
    /// let new = store.rotate(old.id())?;
    /// assert_eq!(store.get(new.id())?.get_i64("cart"), Some(3));
    /// assert_eq!(store.read(old.id(), |_| ()), Err(Missing::Ended(Reason::Rotated)));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn rotate(&self, id: SessionId) -> Result<Token> {
        self.sessions.rotate(id, Remake::default())
    }

    /// The login of a visitor who has a session already: gives it an owner and another token, in
    /// one step. Both timeouts start anew. Without a session, a login is a
    /// [`create_with`](Store::create_with).
    ///
    /// The label is shown in a list of devices. It may have 512 bytes: cut a text that comes from
    /// outside, such as a `User-Agent`, or whoever sends a longer one cannot log in.
    ///
    /// # Errors
    /// As [`rotate`](Store::rotate), with [`Error::OwnerFull`],
    /// [`Error::InvalidText`], and
    /// [`Error::OtherOwner`]: a session never passes from one user to
    /// another, who would see the first one's data.
    pub fn login(&self, id: SessionId, owner: &str, label: &str) -> Result<Token> {
        self.sessions
            .rotate(id, Remake { owner: Some(owner), label: Some(label), ..Remake::default() })
    }

    /// As [`login`](Store::login), and changes the session's data in the same step: nobody sees the
    /// user logged in without it. Returns what the closure returned, too.
    ///
    /// The closure runs on a copy, with no lock held, and again on a newer one if somebody wrote
    /// the session meanwhile.
    ///
    /// # Errors
    /// As [`login`](Store::login), with [`Error::TooLarge`] and
    /// [`Error::Encode`]. The session is then as it was.
    ///
    /// # Examples
    /// ```
    /// use cloakroom::{Attributes, Store};
    ///
    /// let store: Store = Store::builder().in_memory()?;
    /// let visitor = store.create(Attributes::from([("cart", 3.into())]))?;
    /// let (token, ()) = store.login_with(visitor.id(), "alice", "Firefox on Linux", |session| {
    ///     session.set("role", "editor");
    /// })?;
    /// let session = store.get(token.id())?;
    /// assert_eq!(session.owner(), Some("alice"));
    /// assert_eq!((session.get_i64("cart"), session.get_str("role")), (Some(3), Some("editor")));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn login_with<R>(
        &self,
        id: SessionId,
        owner: &str,
        label: &str,
        mut f: impl FnMut(&mut S) -> R,
    ) -> Result<(Token, R)> {
        loop {
            let session = self.copy(id)?;
            if session.owner().is_some_and(|present| present != owner) {
                return Err(Error::OtherOwner);
            }
            let mut data = session.to_data()?;
            let result = f(&mut data);
            let encoded = data::encode(&data)?;
            let remake = Remake {
                owner: Some(owner),
                label: Some(label),
                data: Some((session.version().0, encoded.data())),
                ..Remake::default()
            };
            match self.sessions.rotate(id, remake) {
                Err(Error::Conflict { .. }) => {}
                rotated => return rotated.map(|token| (token, result)),
            }
        }
    }

    /// Gives a session another token because the present one is old. The old one stays good for
    /// the [`grace`](crate::Builder::grace) time, so that requests under way and other tabs are
    /// not logged out (OWASP: "renewal timeout"). Its use after that is told as
    /// [`Event::Suspicious`](crate::Event::Suspicious).
    ///
    /// At most two tokens of a session are good at a time: renewing again ends the grace time of
    /// the one before. Counts as activity.
    ///
    /// # Errors
    /// As [`rotate`](Store::rotate). By its old token a session cannot be renewed: that answers
    /// `Missing::Ended(Reason::Rotated)`, and the caller simply goes on, as another request has
    /// sent the new token already.
    pub fn renew(&self, id: SessionId) -> Result<Token> {
        self.sessions.renew(id)
    }

    /// Gives a session an owner without another token. Both timeouts start anew.
    ///
    /// At a login prefer [`login`](Store::login), which makes a token that nobody can have planted
    /// before (session fixation).
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::OtherOwner`],
    /// [`Error::OwnerFull`], [`Error::Full`],
    /// [`Error::InvalidText`].
    pub fn bind(&self, id: SessionId, owner: &str) -> Result<()> {
        self.sessions.remake(id, Remake { owner: Some(owner), ..Remake::default() })
    }

    /// Gives a session a text to show in a list of devices, of at most 512 bytes. Counts as
    /// activity.
    ///
    /// # Errors
    /// As [`bind`](Store::bind).
    pub fn set_label(&self, id: SessionId, label: &str) -> Result<()> {
        self.sessions.remake(id, Remake { label: Some(label), ..Remake::default() })
    }

    /// Gives a session timeouts of its own. The lifetime counts from when the user last proved who
    /// he is: the session's creation, a [`login`](Store::login) or [`bind`](Store::bind), or
    /// [`reauthenticated`](Store::reauthenticated). Counts as activity.
    ///
    /// # Errors
    /// As [`bind`](Store::bind).
    pub fn set_timeouts(&self, id: SessionId, idle: Duration, lifetime: Duration) -> Result<()> {
        self.sessions.remake(id, Remake { timeouts: Some((idle, lifetime)), ..Remake::default() })
    }

    /// The user proved again who he is: both timeouts start anew (NIST SP 800-63B-4, 5.2), where
    /// activity restarts only the idle one.
    ///
    /// # Errors
    /// As [`bind`](Store::bind).
    pub fn reauthenticated(&self, id: SessionId) -> Result<()> {
        self.sessions.remake(id, Remake { reauthenticated: true, ..Remake::default() })
    }

    /// Ends a session. When this returns, every lookup and every write of it is refused with the
    /// reason, from any thread, also one that began before.
    ///
    /// The reason is [`Reason::LoggedOut`] or [`Reason::Revoked`]. The others tell what the store
    /// does by itself: they are taken as `Revoked`, here and by every other call that ends
    /// sessions.
    ///
    /// # Errors
    /// [`Error::Missing`] if it has ended already, with the reason.
    pub fn end(&self, id: SessionId, reason: Reason) -> Result<()> {
        self.sessions.end(id, reason.by_caller())
    }

    /// As [`end`](Store::end); returns what the session was in the end, after every write.
    #[cfg(any(feature = "tower-sessions-015", feature = "actix-session-011"))]
    pub(crate) fn take(&self, id: SessionId, reason: Reason) -> Result<Session<S>> {
        let last = |record: Record<'_>| Session::new(OwnedRecord::copy_of(record));
        self.sessions.end_and(id, reason.by_caller(), last)
    }

    /// Ends all sessions of an owner, or all but one: "log out everywhere else". Returns how many.
    /// No login of the owner can slip in between.
    ///
    /// # Errors
    /// [`Error::Forked`].
    ///
    /// # Examples
    /// ```
    /// use cloakroom::{Attributes, CreateOptions, Except, Reason, Store};
    ///
    /// let store: Store = Store::builder().in_memory()?;
    /// let alice = || CreateOptions::new().owner("alice");
    /// let phone = store.create_with(Attributes::new(), alice())?;
    /// let laptop = store.create_with(Attributes::new(), alice())?;
    /// assert_eq!(store.end_owner("alice", Except(Some(laptop.id())), Reason::Revoked)?, 1);
    /// assert!(store.get(phone.id()).is_err());
    /// assert!(store.get(laptop.id()).is_ok());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn end_owner(&self, owner: &str, except: Except, reason: Reason) -> Result<usize> {
        self.sessions.end_owner(owner, except.0, reason.by_caller())
    }

    /// Ends a session if it belongs to this owner, for a user who ends one of his devices by the id
    /// in a list. Returns whether it did.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn end_owned(&self, owner: &str, id: SessionId, reason: Reason) -> Result<bool> {
        self.sessions.end_owned(owner, id, reason.by_caller())
    }

    /// Ends every session that exists when this is called, and perhaps some that are created
    /// meanwhile. Returns how many. Takes one shard lock at a time; others may log in meanwhile.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn end_all(&self, reason: Reason) -> Result<usize> {
        self.sessions.end_all(reason.by_caller())
    }

    /// The live sessions of an owner, oldest first: by when he last proved in each who he is
    /// ([`Info::authenticated`]). Does not count as activity.
    pub fn owner_sessions(&self, owner: &str) -> Vec<Info> {
        self.sessions.of_owner(owner)
    }

    /// The number of live sessions of an owner.
    pub fn owner_count(&self, owner: &str) -> usize {
        self.sessions.count_of_owner(owner)
    }
}
