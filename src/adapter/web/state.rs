//! What is known of a request's session, and what its response will say of it.

use crate::{Missing, SessionId, Token, Watch};

pub(super) struct State {
    pub(super) bound: Bound,
    /// Follows the session where other requests renew it.
    pub(super) watch: Option<Watch>,
    pub(super) outgoing: Outgoing,
    /// The response depends on the session.
    pub(super) is_asked: bool,
    pub(super) is_touched: bool,
    /// The head of the response is made, or never will be.
    pub(super) is_over: bool,
}

impl State {
    pub(super) fn new(presented: Option<SessionId>) -> State {
        State {
            bound: presented.map_or(Bound::Nobody(None), Bound::Unasked),
            watch: None,
            outgoing: Outgoing::Nothing,
            is_asked: false,
            is_touched: false,
            is_over: false,
        }
    }

    pub(super) fn live(&self) -> Option<SessionId> {
        match self.bound {
            Bound::Live(id, _) => Some(self.watch.as_ref().map_or(id, Watch::id)),
            _ => None,
        }
    }

    /// The session, if it is live or the store was not asked about it yet.
    pub(super) fn presumed(&self) -> Option<SessionId> {
        match self.bound {
            Bound::Unasked(id) => Some(id),
            _ => self.live(),
        }
    }
}

/// Which session the request is about.
pub(super) enum Bound {
    /// A token was presented; the store was not asked about it yet.
    Unasked(SessionId),
    /// A live session, as far as is known; with its token, if this request made it.
    Live(SessionId, Option<Made>),
    /// None was presented, or one that was gone when it was asked for, or this request ended it:
    /// a write begins one.
    Nobody(Option<Missing>),
    /// It ended while the request used it: writes are refused.
    Lost(Missing),
}

pub(super) struct Made {
    pub(super) token: Token,
    /// The session has another token, too, for a while.
    pub(super) is_renewed: bool,
}

/// What the response carries.
pub(super) enum Outgoing {
    Nothing,
    /// A `Set-Cookie` line with a token.
    Cookie(String),
    /// The line that removes the cookie.
    Removal,
    /// A new token of a bearer, for the handler to take.
    Untaken,
    /// The handler has taken the token, and gives it out.
    Taken,
}
