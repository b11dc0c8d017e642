//! One request with its response: the session that it is bound to, and what the response says of
//! it.
//!
//! The store is asked, and written, when the handler asks; nothing is kept here but which session
//! it is about. No lock is held while the store is called, but for the turn of those that change
//! the token.

use std::sync::{Arc, Mutex};

use super::error::{Error, Result};
use super::head::Head;
use super::presented::{Presented, Transport};
use super::sessions::Sessions;
use super::state::{Bound, Made, Outgoing, State};
use super::turn::{Turn, lock};
use crate::{Missing, Reason, SessionData, SessionId, Token, Watch};

pub(crate) struct Exchange<S> {
    pub(super) sessions: Sessions<S>,
    presented: Presented,
    state: Mutex<State>,
    turn: Turn,
}

/// Whether asking for a session is a sign that its user is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Activity {
    Counted,
    Ignored,
}

impl<S: SessionData> Exchange<S> {
    fn new(sessions: &Sessions<S>, presented: Presented) -> Exchange<S> {
        let (state, turn) = (Mutex::new(State::new(presented.id)), Turn::default());
        Exchange { sessions: sessions.clone(), presented, state, turn }
    }

    // ---- Which session ----------------------------------------------------------------------

    /// The session, if it is live. The first call asks the store.
    pub(super) fn id(&self, activity: Activity) -> Option<SessionId> {
        self.ask();
        let id = {
            let state = lock(&self.state);
            match state.bound {
                Bound::Unasked(id) => id,
                Bound::Live(..) if activity == Activity::Ignored || state.is_touched => {
                    return state.live();
                }
                Bound::Live(..) => state.live()?,
                Bound::Nobody(_) | Bound::Lost(_) => return None,
            }
        };
        let store = self.sessions.store();
        let found = match activity {
            Activity::Counted => store.touch(id),
            Activity::Ignored => store.peek(id, |_| ()),
        };
        match found {
            Ok(()) => self.found(id, activity),
            Err(missing) => self.lost(id, missing),
        }
        self.known()
    }

    /// What a call of the store returns for the session; the first one also finds out whether it
    /// is live. `activity` says what the call counts as.
    pub(super) fn with<R, E: Into<crate::Error>>(
        &self,
        activity: Activity,
        call: impl FnOnce(SessionId) -> Result<R, E>,
    ) -> Result<R> {
        self.ask();
        let presumed = lock(&self.state).presumed();
        let id = presumed.ok_or_else(|| Error::NotLoggedIn(self.missing()))?;
        let result = self.noted(id, call(id))?;
        self.found(id, activity);
        Ok(result)
    }

    /// Changes the session's data in one atomic step; gives the closure back if there is no
    /// session.
    pub(super) fn write<R, F: FnOnce(&mut S) -> R>(&self, write: F) -> Result<Written<R, F>> {
        let mut write = Some(write);
        let written = self.with(Activity::Counted, |id| {
            let written = self.sessions.store().update(id, |data| {
                let write = write.take().expect("a store calls it once");
                write(data)
            });
            // It was there, whatever came of the write.
            if write.is_none() {
                self.found(id, Activity::Counted);
            }
            written
        });
        match (written, write) {
            (Ok(result), _) => Ok(Written::Done(result)),
            (Err(Error::NotLoggedIn(_) | Error::Store(crate::Error::Missing(_))), Some(write)) => {
                Ok(Written::Nobody(write))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The response depends on the session from here on.
    fn ask(&self) {
        let was_asked = std::mem::replace(&mut lock(&self.state).is_asked, true);
        if !was_asked && self.presented.is_bad_cookie() {
            self.sessions.count_bad_cookie();
            // Counts as the lookup that it stands for: `Stats::misses`.
            let _ = self.sessions.store().find("");
        }
    }

    /// The session, as far as is known without asking again.
    fn known(&self) -> Option<SessionId> {
        lock(&self.state).live()
    }

    /// A future for the end of the session, which the request follows from here on.
    pub(super) fn watch(&self) -> Option<Watch> {
        let id = self.id(Activity::Ignored)?;
        let store = self.sessions.store();
        let (watch, own) = (store.watch(id), store.watch(id));
        let mut state = lock(&self.state);
        let before = match state.bound {
            Bound::Live(..) if state.watch.is_none() => state.watch.replace(own),
            _ => Some(own),
        };
        // What signs off at the store does so with no lock held.
        drop(state);
        drop(before);
        Some(watch)
    }

    fn found(&self, id: SessionId, activity: Activity) {
        let mut state = lock(&self.state);
        if matches!(state.bound, Bound::Unasked(_)) {
            state.bound = Bound::Live(id, None);
        }
        state.is_touched |= activity == Activity::Counted;
    }

    /// The store has no such session (any more).
    fn lost(&self, id: SessionId, missing: Missing) {
        let mut state = lock(&self.state);
        state.bound = match &state.bound {
            Bound::Unasked(_) => Bound::Nobody(Some(missing)),
            Bound::Live(..) if state.live() == Some(id) => Bound::Lost(missing),
            _ => return,
        };
        state.outgoing = match missing {
            // The browser has got another cookie, or gets it right now: to remove that would log
            // its user out.
            Missing::Ended(Reason::Rotated) => Outgoing::Nothing,
            _ => self.removal(),
        };
    }

    /// Notes that the session is gone, if this is what the error says.
    pub(super) fn note(&self, id: SessionId, error: &crate::Error) {
        if let crate::Error::Missing(missing) = error {
            self.lost(id, *missing);
        }
    }

    /// A result of the store's, [noted](Exchange::note).
    pub(super) fn noted<R, E: Into<crate::Error>>(
        &self,
        id: SessionId,
        result: Result<R, E>,
    ) -> Result<R> {
        let noted = result.map_err(Into::into).inspect_err(|error| self.note(id, error));
        Ok(noted?)
    }

    /// Why there is no session.
    pub(super) fn missing(&self) -> Option<Missing> {
        self.id(Activity::Ignored);
        match lock(&self.state).bound {
            Bound::Nobody(missing) => missing,
            Bound::Lost(missing) => Some(missing),
            Bound::Unasked(_) | Bound::Live(..) => None,
        }
    }

    /// Refuses a cookie that was not made here, if that is the policy.
    pub(crate) fn check_cookie(&self) -> Result<()> {
        if !(self.presented.is_bad_cookie() && self.sessions.refuses_bad_cookies()) {
            return Ok(());
        }
        self.ask();
        lock(&self.state).outgoing = self.removal();
        Err(Error::BadCookie)
    }

    pub(super) fn is_bearer(&self) -> bool {
        self.presented.transport == Transport::Bearer
    }

    // ---- Another token ----------------------------------------------------------------------

    /// Makes a session if there is none, with what `fill` does to its data. Returns the session
    /// that was there already, with `fill`, or what `fill` returned.
    pub(super) fn begin<R, F: FnOnce(&mut S) -> R>(&self, fill: F) -> Result<Begun<R, F>>
    where
        S: Default,
    {
        if let Some(id) = self.id(Activity::Ignored) {
            return Ok(Begun::Already(id, fill));
        }
        let _turn = self.turn.take();
        self.check_writable()?;
        // Another task of the same request may have been faster.
        if let Some(id) = self.known() {
            return Ok(Begun::Already(id, fill));
        }
        let mut data = S::default();
        let result = fill(&mut data);
        let token = self.sessions.store().create(data)?;
        self.adopt(token, false)?;
        Ok(Begun::New(result))
    }

    /// Whether a write may begin a session.
    fn check_writable(&self) -> Result<()> {
        let state = lock(&self.state);
        match state.bound {
            Bound::Lost(missing) => Err(missing.into()),
            Bound::Nobody(missing) if self.is_bearer() => Err(Error::NotLoggedIn(missing)),
            Bound::Nobody(_) if state.is_over => Err(Error::HeadSent),
            _ => Ok(()),
        }
    }

    /// Binds the request to the session whose token `make` returns; it is given the session that
    /// there is.
    pub(super) fn change(
        &self,
        make: impl FnOnce(Option<SessionId>) -> Result<Token>,
    ) -> Result<()> {
        let _turn = self.turn.take();
        let id = self.id(Activity::Ignored);
        if lock(&self.state).is_over {
            return Err(Error::HeadSent);
        }
        let token = make(id)?;
        self.note_age(token.id());
        self.adopt(token, false)
    }

    /// The request's session is the one of this new token from now on, and the response says so.
    fn adopt(&self, token: Token, is_renewed: bool) -> Result<()> {
        let id = token.id();
        let outgoing = match self.presented.transport {
            Transport::Bearer => Ok(Outgoing::Untaken),
            Transport::Cookie => {
                self.sessions.cookie_options().set_token(&token).map(Outgoing::Cookie)
            }
        };
        let adopted = outgoing.map_err(Error::from).and_then(|outgoing| {
            let mut state = lock(&self.state);
            if state.is_over {
                return Err(Error::HeadSent);
            }
            state.outgoing = outgoing;
            state.bound = Bound::Live(id, Some(Made { token, is_renewed }));
            state.is_touched = true;
            Ok(state.watch.take())
        });
        let adopted = adopted.map(drop);
        if adopted.is_err() {
            // Nobody will ever know its token.
            let _ = self.sessions.store().end(id, Reason::Revoked);
        }
        adopted
    }

    /// Ends the session. The cookie goes, too, if there is one.
    pub(super) fn end(&self, reason: Reason) -> Result<()> {
        let _turn = self.turn.take();
        let ended = self.id(Activity::Ignored).map(|id| self.sessions.store().end(id, reason));
        let mut state = lock(&self.state);
        if let Some(Err(crate::Error::Missing(moved @ Missing::Ended(Reason::Rotated)))) = ended {
            // Another request gave it another token, which this one does not know: it lives on,
            // and nobody must believe that it has ended.
            state.bound = Bound::Lost(moved);
            return Err(crate::Error::Missing(moved).into());
        }
        if ended.is_some() {
            // It has ended in any case: an error says that this is not on disk yet.
            state.bound = Bound::Nobody(Some(Missing::Ended(reason)));
        }
        state.outgoing = self.removal();
        match ended {
            None | Some(Ok(()) | Err(crate::Error::Missing(_))) => Ok(()),
            Some(Err(error)) => Err(error.into()),
        }
    }

    fn removal(&self) -> Outgoing {
        if self.presented.has_cookie { Outgoing::Removal } else { Outgoing::Nothing }
    }

    /// The new token, for the handler to give out itself.
    pub(super) fn take_token(&self) -> Option<Token> {
        let mut state = lock(&self.state);
        let Bound::Live(_, Some(made)) = &state.bound else { return None };
        let token = match state.outgoing {
            Outgoing::Cookie(_) | Outgoing::Untaken => made.token.clone(),
            Outgoing::Nothing | Outgoing::Removal | Outgoing::Taken => return None,
        };
        state.outgoing = Outgoing::Taken;
        Some(token)
    }

    /// The token of the session, the newest if this request made one.
    pub(super) fn with_token<R>(&self, f: impl FnOnce(&Token) -> R) -> Option<R> {
        match &lock(&self.state).bound {
            Bound::Live(_, Some(made)) => Some(f(&made.token)),
            Bound::Live(_, None) => self.presented.token.as_ref().map(f),
            _ => None,
        }
    }

    /// Whether `f` holds for a token of the session: the presented one, or one that this request
    /// made.
    pub(super) fn any_token(&self, f: impl Fn(&Token) -> bool) -> bool {
        match &lock(&self.state).bound {
            Bound::Live(_, made) => {
                let made = made.as_ref().map(|made| &made.token);
                self.presented.token.iter().chain(made).any(f)
            }
            _ => false,
        }
    }

    // ---- Renewal ----------------------------------------------------------------------------

    /// Gives the session another token if its present one is old.
    pub(super) fn renew_if_due(&self) {
        let Some(age) = self.sessions.renewal_age() else { return };
        let _turn = self.turn.take();
        let Some(id) = self.renewable() else { return };
        let store = self.sessions.store();
        let Ok(info) = store.info(id) else { return };
        if !self.sessions.renewals().is_due(&info, age) {
            return;
        }
        // It may be that another request has just renewed it, or that the store is full: both are
        // no reason to disturb this one.
        if let Ok(token) = store.renew(id) {
            self.sessions.renewals().note(token.id(), &info, age);
            let _ = self.adopt(token, true);
        }
    }

    /// The session, if its token is the presented one, and the response can carry another.
    fn renewable(&self) -> Option<SessionId> {
        let state = lock(&self.state);
        match state.bound {
            Bound::Live(id, None) if !state.is_over && !self.is_bearer() => Some(id),
            _ => None,
        }
    }

    fn note_age(&self, id: SessionId) {
        if let Some(age) = self.sessions.renewal_age()
            && let Ok(info) = self.sessions.store().info(id)
        {
            self.sessions.renewals().note(id, &info, age);
        }
    }

    // ---- The response -----------------------------------------------------------------------

    /// What the head of the response says. From here on no cookie can be sent.
    fn finish(&self) -> Head {
        self.renew_if_due();
        let (outgoing, is_asked) = {
            let again = self.again();
            let mut state = lock(&self.state);
            if let (Some(line), Bound::Live(_, None)) = (again, &state.bound) {
                state.outgoing = Outgoing::Cookie(line);
            }
            state.is_over = true;
            (std::mem::replace(&mut state.outgoing, Outgoing::Nothing), state.is_asked)
        };
        let is_taken = matches!(outgoing, Outgoing::Taken);
        let set_cookie = match outgoing {
            Outgoing::Cookie(line) => Some(line),
            Outgoing::Removal => Some(self.sessions.cookie_options().remove()),
            Outgoing::Untaken => {
                self.forget();
                None
            }
            Outgoing::Taken | Outgoing::Nothing => None,
        };
        let accepts_bearer = self.sessions.accepts_bearer();
        let vary: &[&str] = match (is_asked, accepts_bearer) {
            (false, _) => &[],
            (true, false) => &["cookie"],
            (true, true) => &["cookie", "authorization"],
        };
        let is_secret = is_taken || set_cookie.is_some();
        Head { set_cookie, is_secret, vary, challenge: accepts_bearer }
    }

    /// The presented token as a cookie of the newest key, if an old one made it. Not if another
    /// request gave the session another token meanwhile: that one must stay in the browser.
    fn again(&self) -> Option<String> {
        let token = self.presented.token.as_ref().filter(|_| self.presented.is_old)?;
        self.sessions.store().info(token.id()).ok().filter(|info| info.id == token.id())?;
        self.sessions.cookie_options().set_token(token).ok()
    }

    /// The response will never be sent: what only it would have told is ended.
    fn abandon(&self) {
        let is_untold = {
            let mut state = lock(&self.state);
            let was_over = std::mem::replace(&mut state.is_over, true);
            !was_over && matches!(state.outgoing, Outgoing::Cookie(_) | Outgoing::Untaken)
        };
        if is_untold {
            self.forget();
        }
    }

    /// Ends the session whose token this request made and nobody will know. One that was renewed
    /// is left alone: its other token is good for a while.
    fn forget(&self) {
        let id = match &lock(&self.state).bound {
            Bound::Live(id, Some(made)) if !made.is_renewed => *id,
            _ => return,
        };
        let _ = self.sessions.store().end(id, Reason::Revoked);
    }
}

/// What came of [`Exchange::write`].
pub(super) enum Written<R, F> {
    Done(R),
    Nobody(F),
}

/// What [`Exchange::begin`] found or made.
pub(super) enum Begun<R, F> {
    Already(SessionId, F),
    New(R),
}

/// A request whose response is not made yet. Dropped without [`Open::finish`], it never will be.
pub(crate) struct Open<S: SessionData>(pub(super) Arc<Exchange<S>>);

impl<S: SessionData> Open<S> {
    pub(crate) fn finish(self) -> Head {
        self.0.finish()
    }
}

impl<S: SessionData> Drop for Open<S> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl<S: SessionData> Sessions<S> {
    /// Begins with a request: the values of its `Cookie` and `Authorization` headers.
    pub(crate) fn begin<'h>(
        &self,
        cookies: impl IntoIterator<Item = &'h [u8]>,
        authorization: impl IntoIterator<Item = &'h [u8]>,
    ) -> Open<S> {
        let presented = Presented::read(self, cookies, authorization);
        if let Some(id) = presented.id {
            self.store().expect(id);
        }
        Open(Arc::new(Exchange::new(self, presented)))
    }
}
