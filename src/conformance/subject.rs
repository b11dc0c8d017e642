//! What the suite needs of a server.

use std::time::Duration;

/// What a handler does with its session, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Reads the text of a key, of a number its digits: one value of the answer.
    Get(String),
    /// Sets a key to a text.
    Set(String, String),
    /// Reads the number of a key, 0 if there is none, adds this, and sets it: by one call if the
    /// subject has one for it.
    Add(String, i64),
    /// Removes a key.
    Remove(String),
    /// Gives the session another id, as for a login.
    Rotate,
    /// Ends the session: a logout.
    Destroy,
    /// Lets this time pass, for the server and for whatever it depends on. Comes in requests
    /// without a session, and only where there is an [`idle_timeout`](Subject::idle_timeout).
    Pass(Duration),
    /// Waits for the others, in a request that is not alone. Nothing, in one that is.
    Meet,
}

impl Step {
    /// Whether it adds a value to the answer.
    pub fn reads(&self) -> bool {
        matches!(self, Step::Get(_))
    }
}

/// A request of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The value of the session cookie that the client shows, if any.
    pub cookie: Option<String>,
    /// What the handler does.
    pub steps: Vec<Step>,
}

impl Request {
    /// A request with this cookie, whose handler does this.
    pub fn new(cookie: Option<&str>, steps: impl Into<Vec<Step>>) -> Request {
        Request { cookie: cookie.map(str::to_owned), steps: steps.into() }
    }
}

/// What an answer does to the client's session cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cookie {
    /// Nothing.
    #[default]
    Kept,
    /// Sets it to this value.
    Set(String),
    /// Removes it.
    Removed,
}

/// The answer to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// Whether the client is told that all went well: no error status, no error of the session's.
    pub ok: bool,
    /// What each [`Step::Get`] found, in order; None for a key that is not there. Of no interest
    /// if `ok` is false.
    pub values: Vec<Option<String>>,
    /// What became of the cookie.
    pub cookie: Cookie,
}

impl Answer {
    /// An answer that leaves the cookie alone.
    pub fn new(ok: bool, values: impl IntoIterator<Item = Option<String>>) -> Answer {
        Answer { ok, values: values.into_iter().collect(), cookie: Cookie::Kept }
    }

    /// The same answer with this cookie.
    #[must_use]
    pub fn with_cookie(mut self, cookie: Cookie) -> Answer {
        self.cookie = cookie;
        self
    }
}

/// A server with sessions, under test.
///
/// Cookie values are without the cookie's name or attributes, signatures included, and free of
/// encodings that only carry them (`%3D`): of two values that differ the server sees that they
/// do.
pub trait Subject {
    /// Answers a request while no other is under way.
    fn answer(&mut self, request: &Request) -> Answer;

    /// Answers requests that are under way at the same time: each gets to its [`Step::Meet`]
    /// before any goes on from there. None if the subject cannot do so.
    fn at_once(&mut self, requests: &[Request]) -> Option<Vec<Answer>>;

    /// Answers one request that stops at its [`Step::Meet`], and goes on when all others have been
    /// answered, one after another. None if the subject cannot do so.
    fn during(&mut self, outer: &Request, inner: &[Request]) -> Option<(Answer, Vec<Answer>)>;

    /// How long a session lives from its last write on, at least a second. None if this cannot be
    /// tested, which is the default.
    fn idle_timeout(&self) -> Option<Duration> {
        None
    }

    /// How far from the deadline the subject may be, before it; never after it. Default 100 ms.
    fn expiry_tolerance(&self) -> Duration {
        Duration::from_millis(100)
    }

    /// A cookie value of the right form that the server never gave out, as good as an attacker can
    /// make it: signed, where clients can get hold of such a signature. None if nobody can make
    /// one, which is the default.
    fn foreign_cookie(&mut self) -> Option<String> {
        None
    }

    /// Makes the stored data of this session unreadable, as a change of its type or a fault of the
    /// disk may. False if that cannot be, which is the default.
    fn spoil(&mut self, _cookie: &str) -> bool {
        false
    }
}
