//! The requests, one function each.

use std::collections::HashMap;
use std::convert::Infallible;

use axum::extract::{DefaultBodyLimit, FromRequestParts, Request, State};
use axum::http::header::{
    ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN, USER_AGENT, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Form, Router};
use cloakroom::{
    Attributes, CreateOptions, Error, Except, Missing, Reason, Session, SessionId, Store, Token,
};

use crate::cookie::{CookieChange, CookieStyle, Presented, session_cookie};
use crate::page;

/// Enough for the fields of our forms.
const BODY_BYTES_MAX: usize = 4096;
/// A label may have 512 bytes, and a character at most 4.
const LABEL_CHARS_MAX: usize = 128;

type Fields = Form<HashMap<String, String>>;

pub(crate) fn router(store: Store, cookie: CookieStyle) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/login", get(login_form).post(login))
        .route("/account", get(account))
        .route("/logout", post(logout))
        .route("/logout-elsewhere", post(logout_elsewhere))
        .route("/devices/end", post(end_device))
        .layer(from_fn_with_state(cookie, session_cookie))
        .route("/stats", get(stats))
        .route("/style.css", get(|| async { ([(CONTENT_TYPE, "text/css")], page::CSS) }))
        .fallback(|| async { (StatusCode::NOT_FOUND, page::message("There is no such page.")) })
        .layer(from_fn(same_origin))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(store)
}

// ---- Who asks ------------------------------------------------------------------------------

/// Whoever sends a request, by his cookie.
enum Visitor {
    /// No cookie, or none that the store knows.
    Unknown,
    Known(Session<Attributes>),
    Ended(Reason),
}

impl FromRequestParts<Store> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, store: &Store) -> Result<Visitor, Infallible> {
        let presented = parts.extensions.get::<Presented>();
        let Some(id) = presented.and_then(|presented| presented.0) else {
            return Ok(Visitor::Unknown);
        };
        Ok(match store.get(id) {
            Ok(session) => Visitor::Known(session),
            Err(Missing::Ended(reason)) => Visitor::Ended(reason),
            Err(Missing::Unknown) => Visitor::Unknown,
        })
    }
}

/// A visitor who is logged in. A handler with this argument is protected: others get 401.
struct User {
    id: SessionId,
    name: String,
}

impl FromRequestParts<Store> for User {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, store: &Store) -> Result<User, Refusal> {
        let Ok(visitor) = Visitor::from_request_parts(parts, store).await;
        match visitor {
            Visitor::Known(session) => match session.owner() {
                Some(owner) => Ok(User { id: session.id(), name: owner.to_owned() }),
                None => Err(Missing::Unknown.into()),
            },
            Visitor::Ended(reason) => Err(Missing::Ended(reason).into()),
            Visitor::Unknown => Err(Missing::Unknown.into()),
        }
    }
}

// ---- The pages -----------------------------------------------------------------------------

/// The visitor page. The first visit makes an anonymous session.
async fn home(State(store): State<Store>, visitor: Visitor) -> Result<Response, Refusal> {
    match visitor {
        Visitor::Known(session) => {
            let visits = store.update(session.id(), count_visit)?;
            Ok(page::home(Some(visits), session.owner()).into_response())
        }
        Visitor::Ended(reason) => Ok(farewell(reason, page::ended(reason))),
        Visitor::Unknown => match store.create(Attributes::from([("visits", 1.into())])) {
            Ok(token) => {
                Ok((Extension(CookieChange::Set(token)), page::home(Some(1), None)).into_response())
            }
            // Too many strangers. The page is there for this one too, only not counted.
            Err(Error::Full(_)) => Ok(page::home(None, None).into_response()),
            Err(error) => Err(error.into()),
        },
    }
}

async fn login_form(visitor: Visitor) -> Response {
    match visitor {
        Visitor::Ended(reason) => farewell(reason, page::login("", Some(page::why(reason)))),
        _ => page::login("", None).into_response(),
    }
}

async fn login(
    State(store): State<Store>,
    visitor: Visitor,
    headers: HeaderMap,
    Form(fields): Fields,
) -> Result<Response, Refusal> {
    let (name, password) = (field(&fields, "name"), field(&fields, "password"));
    let Some(user) = check_password(name, password) else {
        let form = page::login(name, Some("Wrong name or password."));
        return Ok((StatusCode::UNAUTHORIZED, form).into_response());
    };
    let token = start_session(&store, visitor, user, &device_label(&headers))?;
    Ok((Extension(CookieChange::Set(token)), Redirect::to("/account")).into_response())
}

/// Makes a session of the user's, under a token that nobody knew before: a token that was planted
/// in the visitor's browser (session fixation) opens nothing.
fn start_session(
    store: &Store,
    visitor: Visitor,
    user: &str,
    label: &str,
) -> cloakroom::Result<Token> {
    if let Visitor::Known(session) = visitor {
        let belongs_to_another = session.owner().is_some_and(|owner| owner != user);
        if belongs_to_another {
            // What is in it is not for this user.
            let _ = store.end(session.id(), Reason::LoggedOut);
        } else {
            match store.login(session.id(), user, label) {
                // It ended a moment ago.
                Err(Error::Missing(_)) => {}
                result => return result,
            }
        }
    }
    store.create_with(Attributes::new(), CreateOptions::new().owner(user).label(label))
}

/// The protected page.
async fn account(State(store): State<Store>, user: User) -> Result<Html<String>, Refusal> {
    let visits = store.update(user.id, count_visit)?;
    let devices = store.owner_sessions(&user.name);
    Ok(page::account(&user.name, visits, &devices, user.id))
}

async fn logout(State(store): State<Store>, user: User) -> Result<Response, Refusal> {
    store.end(user.id, Reason::LoggedOut)?;
    Ok((Extension(CookieChange::Remove), Redirect::to("/login")).into_response())
}

async fn logout_elsewhere(State(store): State<Store>, user: User) -> Result<Redirect, Refusal> {
    store.end_owner(&user.name, Except(Some(user.id)), Reason::Revoked)?;
    Ok(Redirect::to("/account"))
}

/// Ends one of the user's own sessions, and no other's.
async fn end_device(
    State(store): State<Store>,
    user: User,
    Form(fields): Fields,
) -> Result<Response, Refusal> {
    let device = field(&fields, "device").parse::<SessionId>();
    if device == Ok(user.id) {
        return logout(State(store), user).await;
    }
    match device {
        Ok(id) if store.end_owned(&user.name, id, Reason::Revoked)? => {
            Ok(Redirect::to("/account").into_response())
        }
        _ => {
            let page = page::message("You have no such device, or it is logged out already.");
            Ok((StatusCode::NOT_FOUND, page).into_response())
        }
    }
}

/// The store's numbers. They name nobody; a real server still shows them to its operators only.
async fn stats(State(store): State<Store>, headers: HeaderMap) -> Response {
    let rows = page::stats_rows(&store.stats());
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    if accept.contains("text/html") {
        page::stats(&rows).into_response()
    } else {
        rows.iter()
            .map(|(name, number)| format!("{name}: {number}\n"))
            .collect::<String>()
            .into_response()
    }
}

fn count_visit(session: &mut Attributes) -> i64 {
    let visits = session.get_i64("visits").unwrap_or(0) + 1;
    session.set("visits", visits);
    visits
}

fn device_label(headers: &HeaderMap) -> String {
    let agent = headers.get(USER_AGENT).map_or(&b""[..], |value| value.as_bytes());
    String::from_utf8_lossy(agent).chars().take(LABEL_CHARS_MAX).collect()
}

fn field<'a>(fields: &'a HashMap<String, String>, name: &str) -> &'a str {
    fields.get(name).map_or("", String::as_str)
}

// ---- What is refused -----------------------------------------------------------------------

/// The demo's users. A real server keeps no passwords but a password hash of each (Argon2id), and
/// slows down those who guess.
const USERS: [(&str, &str); 2] = [("alice", "wonderland"), ("bob", "builder")];

fn check_password(name: &str, password: &str) -> Option<&'static str> {
    // Looks at all users and all bytes, so that the time it takes tells little.
    let mut found = None;
    for (user, expected) in USERS {
        let differ = password.bytes().zip(expected.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
        if (user == name) & (differ == 0) & (password.len() == expected.len()) {
            found = Some(user);
        }
    }
    found
}

/// A request that the store or a handler refused.
struct Refusal(Error);

impl<E: Into<Error>> From<E> for Refusal {
    fn from(error: E) -> Refusal {
        Refusal(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self.0 {
            Error::Missing(Missing::Ended(reason)) => {
                (StatusCode::UNAUTHORIZED, farewell(reason, page::ended(reason))).into_response()
            }
            Error::Missing(Missing::Unknown) => {
                (StatusCode::UNAUTHORIZED, page::message("Please log in.")).into_response()
            }
            Error::Full(_) | Error::OwnerFull { .. } => {
                let page = page::message("There is no room for a session. Try again later.");
                (StatusCode::SERVICE_UNAVAILABLE, page).into_response()
            }
            error => {
                eprintln!("{error}");
                let page = page::message("Something went wrong here.");
                (StatusCode::INTERNAL_SERVER_ERROR, page).into_response()
            }
        }
    }
}

/// The answer to a cookie whose session ended: says why, and removes the cookie.
fn farewell(reason: Reason, page: Html<String>) -> Response {
    match reason {
        // The browser has got another cookie with the new token, maybe while this request was under
        // way: to remove it now would log the user out.
        Reason::Rotated => page.into_response(),
        _ => (Extension(CookieChange::Remove), page).into_response(),
    }
}

/// The middleware around everything: a request that may change something has to come from our own
/// pages. It is the defence against forged requests (CSRF), together with `SameSite=Lax`, and
/// the reason why GET changes nothing but a counter.
///
/// Browsers send `Sec-Fetch-Site`, older ones `Origin`, and no page can forge either. Whoever sends
/// neither is no browser (curl), and nobody else's cookies are in it.
async fn same_origin(request: Request, next: Next) -> Response {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let mut response = if is_safe || comes_from_own_page(request.headers()) {
        next.run(request).await
    } else {
        let page = page::message("This request came from another site, so it was refused.");
        (StatusCode::FORBIDDEN, page).into_response()
    };
    let policy = "default-src 'none'; style-src 'self'; form-action 'self'; \
                  frame-ancestors 'none'; base-uri 'none'";
    for (name, value) in [(CONTENT_SECURITY_POLICY, policy), (X_CONTENT_TYPE_OPTIONS, "nosniff")] {
        response.headers_mut().insert(name, axum::http::HeaderValue::from_static(value));
    }
    response
}

fn comes_from_own_page(headers: &HeaderMap) -> bool {
    let text = |value: &axum::http::HeaderValue| value.to_str().unwrap_or("?").to_owned();
    if let Some(site) = headers.get("sec-fetch-site").map(text) {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(ORIGIN).map(text) else { return true };
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    host.is_some() && host == headers.get(HOST).map(text).as_deref()
}
