//! The session cookie, in its simplest form: the token as plain text.

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, COOKIE, HeaderValue, SET_COOKIE, VARY};
use axum::middleware::Next;
use axum::response::Response;
use cloakroom::{SessionId, Token};

/// Name and attributes of the cookie. There is no `Max-Age`: the browser forgets the cookie when
/// it is closed, and the store alone decides when the session ends.
#[derive(Clone, Copy)]
pub(crate) enum CookieStyle {
    /// For plain http on this machine.
    PlainHttp,
    /// Browsers take a `__Host-` cookie only from the very host, over https, for all paths; so no
    /// sibling domain can plant one.
    BehindTls,
}

/// What the request's cookie says: an id by which the store may know a session. Put into each
/// request by [`session_cookie`].
#[derive(Clone, Copy)]
pub(crate) struct Presented(pub(crate) Option<SessionId>);

/// What a handler wants of the client. Put into a response, carried out by [`session_cookie`].
#[derive(Clone)]
pub(crate) enum CookieChange {
    Set(Token),
    Remove,
}

impl CookieStyle {
    fn name(self) -> &'static str {
        match self {
            CookieStyle::PlainHttp => "id",
            CookieStyle::BehindTls => "__Host-id",
        }
    }

    fn attributes(self) -> &'static str {
        match self {
            CookieStyle::PlainHttp => "Path=/; HttpOnly; SameSite=Lax",
            CookieStyle::BehindTls => "Path=/; Secure; HttpOnly; SameSite=Lax",
        }
    }

    fn header(self, change: &CookieChange) -> String {
        let (name, attributes) = (self.name(), self.attributes());
        match change {
            CookieChange::Set(token) => format!("{name}={}; {attributes}", token.expose()),
            CookieChange::Remove => {
                format!("{name}=; {attributes}; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
            }
        }
    }

    /// The first cookie with our name that can be a token. Whatever else bears the name is no
    /// session, like no cookie at all: on one host, servers on all ports share their cookies.
    fn presented(self, headers: &HeaderMap) -> Option<SessionId> {
        let pairs = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        pairs
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| *name == self.name())
            .find_map(|(_, value)| Token::parse(value).ok())
            .map(|token| token.id())
    }
}

/// The middleware around all pages: reads the cookie before, sets or removes it after.
pub(crate) async fn session_cookie(
    State(style): State<CookieStyle>,
    mut request: Request,
    next: Next,
) -> Response {
    let presented = Presented(style.presented(request.headers()));
    request.extensions_mut().insert(presented);
    let mut response = next.run(request).await;

    let change = response.extensions_mut().remove::<CookieChange>();
    let headers = response.headers_mut();
    if let Some(change) = change
        && let Ok(mut line) = HeaderValue::try_from(style.header(&change))
    {
        line.set_sensitive(true);
        headers.append(SET_COOKIE, line);
    }
    // Every page depends on who asks. No cache may give it, or its cookie, to somebody else.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.append(VARY, HeaderValue::from_static("Cookie"));
    response
}
