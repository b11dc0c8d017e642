//! The routes, and who asks: a cookie that holds the signed session id, and nothing else.
//!
//! This system has a cookie of its own form, so it uses the store without the crate's web layer:
//! the middleware below is all that it takes.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, COOKIE, HeaderValue, SET_COOKIE, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use cloakroom::cookie::{Cookie, CookieError, values};
use cloakroom::{Attributes, Except, Reason, SessionId, Store};
use serde_json::{Value as Js, json};
use uuid::Uuid;

use super::signer::Signer;
use super::socket::socket;
use super::view;

/// The file `justpy.env`.
#[derive(Clone)]
pub(crate) struct Config {
    /// `SESSIONS`
    pub(crate) sessions: bool,
    /// `SESSION_COOKIE_NAME`
    pub(crate) cookie_name: String,
    /// `COOKIE_MAX_AGE`
    pub(crate) cookie_max_age: Duration,
    /// `SECRET_KEY`, and those before it: the newest first.
    pub(crate) secret_keys: Vec<String>,
    pub(crate) bad_cookie: BadCookie,
    pub(crate) is_secure: bool,
}

/// The answer to a cookie whose signature is wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadCookie {
    /// 400 "Bad Cookie", and the cookie is removed: the user goes on at the next request.
    Remove,
    /// As JustPy does: 200 "Bad Session", for ever.
    AsUpstream,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            sessions: true,
            cookie_name: "jp_token".to_owned(),
            cookie_max_age: Duration::from_secs(604_800),
            secret_keys: vec!["$$$my_secret_string$$$".to_owned()],
            bad_cookie: BadCookie::Remove,
            is_secure: false,
        }
    }
}

/// What all routes share.
pub(crate) struct Site {
    pub(crate) store: Store,
    config: Config,
    cookie: Cookie,
    signer: Signer,
}

type Shared = State<Arc<Site>>;

pub(crate) fn app(store: Store, config: Config) -> Result<Router, CookieError> {
    let cookie = Cookie::builder()
        .name(&config.cookie_name)
        .max_age(config.cookie_max_age)
        .secure(config.is_secure)
        .build()?;
    let signer = Signer::new(&config.secret_keys);
    let site = Arc::new(Site { store, config, cookie, signer });
    let pages = Router::new()
        .route("/", get(session_test))
        .route("/login_test", get(login_test))
        .route("/login", get(login_page))
        .route("/event/sign_in", post(sign_in))
        .route("/event/log_out", post(log_out))
        .route("/event/log_out_elsewhere", post(log_out_elsewhere))
        .layer(from_fn_with_state(Arc::clone(&site), session_cookie));
    Ok(pages.route("/socket", get(socket)).with_state(site))
}

// ---- Who asks ------------------------------------------------------------------------------

/// What a request's cookie says.
pub(crate) enum Presented {
    Nothing,
    /// The signature is wrong, or there is none.
    Bad,
    Signed {
        id: SessionId,
        is_old: bool,
    },
}

/// `request.session_id`; None with `SESSIONS = False`.
#[derive(Clone, Copy)]
struct RequestId(Option<SessionId>);

/// For the middleware: the session goes on under this id.
#[derive(Clone, Copy)]
struct NewId(SessionId);

/// An id as JustPy has it: 32 digits.
pub(crate) fn text_of(id: SessionId) -> String {
    Uuid::from(id).simple().to_string()
}

fn id_of(text: &str) -> Option<SessionId> {
    let uuid = Uuid::try_parse(text).ok()?;
    (text.len() == 32).then_some(uuid.into())
}

impl Site {
    /// The first cookie of our name decides, as in Python.
    pub(crate) fn presented(&self, headers: &HeaderMap) -> Presented {
        let lines = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
        let mut texts = lines.iter().flat_map(|line| values(line, self.cookie.name()));
        let Some(text) = texts.next() else { return Presented::Nothing };
        let unsigned = std::str::from_utf8(text).ok().and_then(|text| self.signer.unsign(text));
        match unsigned.and_then(|unsigned| Some((id_of(unsigned.value)?, unsigned.is_old))) {
            Some((id, is_old)) => Presented::Signed { id, is_old },
            None => Presented::Bad,
        }
    }

    fn set_cookie(&self, id: SessionId) -> Option<String> {
        self.cookie.set(&self.signer.sign(&text_of(id))?).ok()
    }

    /// The session of the request, and whether its cookie has to be sent. One that the store does
    /// not know, be it that the server was started anew or that it has expired, is a new one, under
    /// an id that nobody knew before.
    fn find_or_begin(&self, presented: &Presented) -> cloakroom::Result<(SessionId, bool)> {
        if let Presented::Signed { id, is_old } = *presented
            && self.store.touch(id).is_ok()
        {
            return Ok((id, is_old));
        }
        let new = Attributes::from([("visits", 0.into()), ("events", 0.into())]);
        // The signed id is what the browser shows: nobody needs the token.
        Ok((self.store.create(new)?.id(), true))
    }

    fn bad_cookie(&self) -> Response {
        match self.config.bad_cookie {
            BadCookie::AsUpstream => "Bad Session".into_response(),
            BadCookie::Remove => {
                with_cookie((StatusCode::BAD_REQUEST, "Bad Cookie").into_response(), {
                    Some(self.cookie.remove())
                })
            }
        }
    }
}

/// The middleware around all pages.
async fn session_cookie(State(site): Shared, mut request: Request, next: Next) -> Response {
    if !site.config.sessions {
        request.extensions_mut().insert(RequestId(None));
        return next.run(request).await;
    }
    let presented = site.presented(request.headers());
    if matches!(presented, Presented::Bad) {
        return site.bad_cookie();
    }
    let (id, must_send) = match site.find_or_begin(&presented) {
        Ok(found) => found,
        Err(error) => return refused(&error),
    };
    request.extensions_mut().insert(RequestId(Some(id)));
    let mut response = next.run(request).await;
    let line = match response.extensions_mut().remove::<NewId>() {
        Some(NewId(id)) => site.set_cookie(id),
        None if must_send => site.set_cookie(id),
        None => None,
    };
    with_cookie(response, line)
}

/// No cache may give the page, or its cookie, to somebody else.
fn with_cookie(mut response: Response, line: Option<String>) -> Response {
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("cookie"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(mut line) = line.and_then(|line| HeaderValue::try_from(line).ok()) {
        line.set_sensitive(true);
        headers.append(SET_COOKIE, line);
    }
    response
}

fn refused(error: &cloakroom::Error) -> Response {
    match error {
        // It ended while the request was under way: the next one begins another.
        cloakroom::Error::Missing(_) => {
            (StatusCode::CONFLICT, "The session has ended: load the page again.").into_response()
        }
        cloakroom::Error::Full(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "There is no room for a session.").into_response()
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// An error of the store, as an answer.
struct Refused(cloakroom::Error);

impl<E: Into<cloakroom::Error>> From<E> for Refused {
    fn from(error: E) -> Refused {
        Refused(error.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        refused(&self.0)
    }
}

// ---- Visits and clicks ---------------------------------------------------------------------

/// Adds one to a number of the session, in one step; returns its new value with the other.
pub(crate) fn count(store: &Store, id: SessionId, key: &str) -> cloakroom::Result<(i64, i64)> {
    store.update(id, |s| {
        s.set(key, s.get_i64(key).unwrap_or(0) + 1);
        (s.get_i64("visits").unwrap_or(0), s.get_i64("events").unwrap_or(0))
    })
}

async fn session_test(
    State(site): Shared,
    Extension(RequestId(id)): Extension<RequestId>,
) -> Result<Html<String>, Refused> {
    let Some(id) = id else { return Ok(view::without_sessions()) };
    let (visits, events) = count(&site.store, id, "visits")?;
    Ok(view::session_test(&text_of(id), visits, events))
}

// ---- The login -----------------------------------------------------------------------------

fn is_logged_in(store: &Store, id: SessionId) -> bool {
    store.read(id, |s| s.get_bool("logged_in")).ok().flatten().unwrap_or(false)
}

async fn login_test(
    State(site): Shared,
    Extension(RequestId(id)): Extension<RequestId>,
) -> Result<Html<String>, Refused> {
    let Some(id) = id else { return Ok(view::without_sessions()) };
    if is_logged_in(&site.store, id) {
        return Ok(view::logged_in(&text_of(id)));
    }
    // `users[session_id]['logged_in'] = False`
    site.store.update(id, |s| {
        s.set("logged_in", false);
    })?;
    Ok(view::login_page())
}

async fn login_page(state: Shared, id: Extension<RequestId>) -> Result<Html<String>, Refused> {
    login_test(state, id).await
}

/// The click on "Sign In": an Ajax event rather than one over the socket, since only the answer to
/// a request can set a cookie, and a login has to change the id.
async fn sign_in(
    State(site): Shared,
    Extension(RequestId(id)): Extension<RequestId>,
    Json(event): Json<Js>,
) -> Result<Response, Refused> {
    let Some(id) = id else { return Ok(StatusCode::NOT_FOUND.into_response()) };
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    if text("password") != "password" {
        let session = format!("{} login not successful", text_of(id));
        return Ok(Json(json!({ "session": session, "alert": true })).into_response());
    }
    let user = Some(text("user_name")).filter(|name| !name.is_empty()).unwrap_or("somebody");
    let new = site.store.login(id, user, "a browser")?.id();
    site.store.update(new, |s| {
        s.set("logged_in", true);
    })?;
    let answer = json!({
        "session": format!("{} logged in successfully", text_of(new)),
        "alert": false,
        "page": view::LOGIN_SUCCESSFUL,
        "display_url": "login_successful",
        "redirect": "/login_test",
        "redirect_after_ms": 3000,
    });
    Ok((Extension(NewId(new)), Json(answer)).into_response())
}

/// The click on "Logout".
async fn log_out(
    State(site): Shared,
    Extension(RequestId(id)): Extension<RequestId>,
    Json(_event): Json<Js>,
) -> Result<Response, Refused> {
    let Some(id) = id else { return Ok(StatusCode::NOT_FOUND.into_response()) };
    site.store.update(id, |s| {
        s.set("logged_in", false);
    })?;
    Ok(Json(json!({ "redirect": "/login_test", "redirect_after_ms": 0 })).into_response())
}

/// Ends all other sessions of the user, which closes their sockets. JustPy has no such thing.
async fn log_out_elsewhere(
    State(site): Shared,
    Extension(RequestId(id)): Extension<RequestId>,
    Json(_event): Json<Js>,
) -> Result<Response, Refused> {
    let Some(id) = id else { return Ok(StatusCode::NOT_FOUND.into_response()) };
    let ended = match site.store.owner(id)? {
        Some(user) if is_logged_in(&site.store, id) => {
            site.store.end_owner(&user, Except(Some(id)), Reason::Revoked)?
        }
        _ => 0,
    };
    Ok(Json(json!({ "ended": ended })).into_response())
}
