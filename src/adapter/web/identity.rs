//! Who a session belongs to, and how it ends.

use std::time::Duration;

use super::error::{Error, Result};
use super::exchange::Activity;
use super::session::Session;
use crate::{CreateOptions, Except, Info, Missing, Reason, SessionData, Token};

/// The longest label that the store takes, in bytes.
const LABEL_BYTES_MAX: usize = 512;

impl<S: SessionData> Session<S> {
    /// The login of a user who has proved who he is. The response carries a new token; the one
    /// that the visitor came with is dead (OWASP ASVS 5.0, 7.2.4), so that nobody can have planted
    /// it. The data stays, unless it is another user's: then a session begins anew, and that one
    /// ends. Both timeouts start anew.
    ///
    /// The label stands in a list of devices, such as "Firefox on Linux". What is longer than 512
    /// bytes is cut.
    ///
    /// # Errors
    /// [`Error::Store`] as of [`Store::login`](crate::Store::login) and
    /// [`Store::create_with`](crate::Store::create_with), [`Error::HeadSent`].
    ///
    /// # Examples
    /// ```
    /// use cloakroom::web::{self, Session};
    ///
    /// async fn login(session: Session) -> web::Result<&'static str> {
    ///     let user = "alice";                     // whose password was checked
    ///     session.login(user, "Firefox on Linux")?;
    ///     session.flash("notice", "Welcome back.")?;
    ///     Ok("logged in")
    /// }
    /// ```
    pub fn login(&self, owner: &str, label: &str) -> Result<()>
    where
        S: Default,
    {
        self.log_in(owner, label, None)
    }

    /// As [`login`](Session::login), and changes the data in the same step: no other request sees
    /// the user logged in without it. Where a session begins anew, the closure gets the default
    /// data.
    ///
    /// The closure runs again on newer data if another request wrote the session meanwhile; what it
    /// returns is dropped. It must not use this session.
    ///
    /// # Errors
    /// As [`login`](Session::login), and as of
    /// [`Store::login_with`](crate::Store::login_with).
    ///
    /// # Examples
    /// ```
    /// use cloakroom::web::{self, Session};
    ///
    /// async fn login(session: Session) -> web::Result<&'static str> {
    ///     let (user, role) = ("alice", "editor"); // whose password was checked
    ///     session.login_with(user, "Firefox on Linux", |data| data.set("role", role))?;
    ///     Ok("logged in")
    /// }
    /// ```
    pub fn login_with<R>(
        &self,
        owner: &str,
        label: &str,
        mut f: impl FnMut(&mut S) -> R,
    ) -> Result<()>
    where
        S: Default,
    {
        self.log_in(owner, label, Some(&mut |data| drop(f(data))))
    }

    fn log_in(
        &self,
        owner: &str,
        label: &str,
        mut fill: Option<&mut dyn FnMut(&mut S)>,
    ) -> Result<()>
    where
        S: Default,
    {
        let store = self.store();
        let label = cut(label, LABEL_BYTES_MAX);
        self.exchange.change(|id| {
            let logged_in = match (id, &mut fill) {
                (None, _) => Err(crate::Error::Missing(Missing::Unknown)),
                (Some(id), None) => store.login(id, owner, label),
                (Some(id), Some(fill)) => {
                    let logged_in = store.login_with(id, owner, label, |data| fill(data));
                    logged_in.map(|(token, ())| token)
                }
            };
            let others = match logged_in {
                // It ended a moment ago, if there was one.
                Err(crate::Error::Missing(_)) => None,
                Err(crate::Error::OtherOwner) => id,
                logged_in => return Ok(logged_in?),
            };
            let mut data = S::default();
            if let Some(fill) = &mut fill {
                fill(&mut data);
            }
            let options = CreateOptions::new().owner(owner).label(label);
            let token = store.create_with(data, options)?;
            if let Some(others) = others {
                // What is in it is not for this user.
                let _ = store.end(others, Reason::LoggedOut);
            }
            Ok(token)
        })
    }

    /// Ends the session, and removes the cookie. Does nothing if there is none.
    ///
    /// A write after that begins another session, of nobody: `flash` may say good-bye.
    ///
    /// # Errors
    /// [`Error::Store`] if the end could not be written to disk: the session has ended in any case.
    /// [`Error::NotLoggedIn`] if another request gave the session another token after this one had
    /// found it: it goes on, and is ended by whoever has that token.
    pub fn logout(&self) -> Result<()> {
        self.exchange.end(Reason::LoggedOut)
    }

    /// Ends all other sessions of the user (OWASP ASVS 5.0, 7.4.3). Returns how many.
    ///
    /// # Errors
    /// [`Error::NotLoggedIn`]; [`Error::Store`] as of
    /// [`Store::end_owner`](crate::Store::end_owner).
    pub fn logout_everywhere_else(&self) -> Result<usize> {
        let owner = self.require_owner()?;
        let Some(id) = self.exchange.id(Activity::Counted) else {
            return Err(Error::NotLoggedIn(self.missing()));
        };
        // One that has ended meanwhile must not end the others in its name.
        self.exchange.noted(id, self.store().touch(id))?;
        Ok(self.store().end_owner(&owner, Except(Some(id)), Reason::Revoked)?)
    }

    /// Ends the session and begins an empty one of nobody, with a token of its own: `reset_session`
    /// of Rails.
    ///
    /// # Errors
    /// [`Error::Store`] as of [`Store::create`](crate::Store::create), [`Error::HeadSent`].
    pub fn reset(&self) -> Result<()>
    where
        S: Default,
    {
        let store = self.store();
        self.exchange.change(|id| {
            let token = store.create(S::default())?;
            if let Some(id) = id {
                let _ = store.end(id, Reason::LoggedOut);
            }
            Ok(token)
        })
    }

    /// Gives the session another token, for a change of privilege. The old one is dead.
    ///
    /// # Errors
    /// [`Error::NotLoggedIn`] if there is no session; [`Error::Store`] as of
    /// [`Store::rotate`](crate::Store::rotate), [`Error::HeadSent`].
    pub fn rotate(&self) -> Result<()> {
        self.exchange.change(|id| match id {
            Some(id) => self.exchange.noted(id, self.store().rotate(id)),
            None => Err(Error::NotLoggedIn(self.missing())),
        })
    }

    /// The user who is logged in proved again who he is: both timeouts start anew (NIST
    /// SP 800-63B-4, 5.2), and the session gets another token (OWASP ASVS 5.0, 7.2.4).
    ///
    /// # Errors
    /// [`Error::NotLoggedIn`]; [`Error::Store`] as of [`Store::login`](crate::Store::login),
    /// [`Error::HeadSent`].
    pub fn reauthenticated(&self) -> Result<()> {
        self.exchange.change(|id| {
            let info = id.and_then(|id| self.store().info(id).ok());
            let Some(Info { id, owner: Some(owner), label, .. }) = info else {
                return Err(Error::NotLoggedIn(self.missing()));
            };
            let label = label.unwrap_or_default();
            self.exchange.noted(id, self.store().login(id, &owner, &label))
        })
    }

    /// Refuses whoever has not proved who he is within this time, for what is sensitive (OWASP
    /// ASVS 5.0, 7.5.1): a change of the password, a payment. It counts from the last
    /// [`login`](Session::login) or [`reauthenticated`](Session::reauthenticated).
    ///
    /// # Errors
    /// [`Error::NotLoggedIn`] (401), [`Error::NotFresh`] (403).
    pub fn require_fresh(&self, since_max: Duration) -> Result<()> {
        self.require_owner()?;
        let info = self.info().filter(|info| info.owner.is_some());
        let info = info.ok_or_else(|| Error::NotLoggedIn(self.missing()))?;
        let since = since_authenticated(&info);
        if since > since_max { Err(Error::NotFresh { since, since_max }) } else { Ok(()) }
    }

    /// The token that this request made, to be given out in the body of the answer. No cookie is
    /// sent then. None if it made none, or it was taken already.
    ///
    /// For clients that keep no cookies: a login by an API takes it, and so does whatever changes
    /// the token of a [bearer](super::Sessions::bearer). What is not taken there is lost, and the
    /// session ended.
    pub fn take_token(&self) -> Option<Token> {
        self.exchange.take_token()
    }
}

/// By the store's clock: the present is when the session is as old as it is.
fn since_authenticated(info: &Info) -> Duration {
    let since_created = info.authenticated.duration_since(info.created).unwrap_or_default();
    info.age.saturating_sub(since_created)
}

/// The beginning of a text that has so many bytes at most.
fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn a_text_is_cut_between_characters() {
        let text = "a\u{e9}\u{1f600}";
        let cuts: Vec<usize> = (0..9).map(|bytes| cut(text, bytes).len()).collect();
        assert_eq!(cuts, [0, 1, 1, 3, 3, 3, 3, 7, 7]);
    }
}
