//! The server that the notebook's second cell talks to: `POST /login` with a JWT, two cookies.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, HeaderValue, SET_COOKIE, VARY};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use cloakroom::cookie::values;
use cloakroom::{Attributes, CreateOptions, Reason, SessionId, Store, Token};
use tower::ServiceExt as _;
use uuid::Uuid;

use super::jwt;
use super::page::{escape, page};
use super::sealed::Sealer;

/// The token, as plain text, though not for scripts.
pub(crate) const PLAIN: &str = "kc_access_token_plain";
/// The session, sealed.
pub(crate) const SESSION: &str = "_session_demo_app_session";
/// A token that only says when it was issued is accepted for so many seconds after that
/// (OWASP ASVS 5.0, 9.2.1).
pub(crate) const TOKEN_AGE_MAX_SECS: i64 = 600;
/// How far the clocks of two servers may differ.
const CLOCK_SKEW_SECS: i64 = 60;

/// What all routes share.
pub(crate) struct Site {
    store: Store,
    sealer: Sealer,
    is_secure: bool,
    /// The time, in seconds since 1970.
    now: fn() -> i64,
}

type Shared = State<Arc<Site>>;

pub(crate) fn app(
    store: Store,
    is_secure: bool,
    now: fn() -> i64,
) -> Result<Router, getrandom::Error> {
    let site = Site { store, sealer: Sealer::generate(SESSION)?, is_secure, now };
    Ok(Router::new()
        .route("/", get(home))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .with_state(Arc::new(site)))
}

pub(crate) fn now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

impl Site {
    /// A `Set-Cookie` line in the words of Rails.
    fn line(&self, name: &str, value: &str, rest: &str) -> String {
        let secure = if self.is_secure { "; secure" } else { "" };
        format!("{name}={value}; path=/{rest}{secure}; httponly; samesite=lax")
    }

    /// The session of the second cookie, with its user.
    fn session(&self, headers: &HeaderMap) -> Option<(SessionId, String)> {
        let lines: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        let mut texts = lines.iter().flat_map(|line| values(line, SESSION));
        texts.find_map(|text| {
            let text = self.sealer.open(std::str::from_utf8(text).ok()?)?;
            let id = Token::parse(&text).ok()?.id();
            Some((id, self.store.get(id).ok()?.owner()?.to_owned()))
        })
    }

    /// Whom the token speaks of, if it is good now, and speaks of this user.
    fn check(&self, username: &str, token: &str) -> Option<jwt::Verified> {
        let verified = jwt::verify(token, jwt::SECRET)?;
        let age = (self.now)().checked_sub(verified.issued?)?;
        let is_fresh = (-CLOCK_SKEW_SECS..=TOKEN_AGE_MAX_SECS).contains(&age);
        (is_fresh && verified.name == username).then_some(verified)
    }
}

fn private(response: impl IntoResponse) -> Response {
    ([(CACHE_CONTROL, "no-store"), (VARY, "cookie")], response).into_response()
}

async fn home(State(site): Shared, headers: HeaderMap) -> Response {
    let body = match site.session(&headers) {
        Some((_, user)) => format!(
            r#"<section class="notice"><p>You are logged in as <b>{}</b>.</p>
<p class="soft">By the second cookie, which is sealed and holds a token. The first one is the JWT
as it came. Neither can be read by a script.</p>
<form method="post" action="/logout"><button class="quiet">Log out</button></form></section>"#,
            escape(&user)
        ),
        None => form(&site),
    };
    private(page("Session notebook", "JWT login", &body))
}

/// With a token that is good for a while, so that there is something to try.
fn form(site: &Site) -> String {
    let token = jwt::encode(random_uuid(), "alice", (site.now)(), jwt::SECRET).unwrap_or_default();
    let secret = jwt::SECRET;
    format!(
        r#"<section><form method="post" action="/login">
<label>Username <input name="username" value="alice" autocomplete="username" required></label>
<label>Token <textarea name="token" required spellcheck="false">{token}</textarea></label>
<button>Log in</button></form>
<p class="soft">The token is a JWT that <code>{secret}</code> signed (HS256). Change one character,
and it is refused. It is good for ten minutes.</p></section>"#
    )
}

async fn login(
    State(site): Shared,
    headers: HeaderMap,
    Form(fields): Form<HashMap<String, String>>,
) -> Response {
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let (username, token) = (field("username"), field("token").trim());
    if site.check(username, token).is_none() {
        let body = r#"<section class="alert">
<p>The token is not valid for this user, or too old.</p>
<p><a href="/">Again</a></p></section>"#;
        return (StatusCode::UNAUTHORIZED, private(page("Session notebook", "Refused", body)))
            .into_response();
    }
    // Whatever session the browser had is not this login's.
    if let Some((id, _)) = site.session(&headers) {
        let _ = site.store.end(id, Reason::LoggedOut);
    }
    let options = CreateOptions::new().owner(username);
    let data = Attributes::from([("username", username.into()), ("logged_in", true.into())]);
    let made = site.store.create_with(data, options);
    let sealed = made.as_ref().ok().and_then(|made| site.sealer.seal(&made.expose()));
    let Some(sealed) = sealed else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let cookies = AppendHeaders([
        (SET_COOKIE, site.line(PLAIN, token, "")),
        (SET_COOKIE, site.line(SESSION, &sealed, "")),
    ]);
    private((cookies, Redirect::to("/")))
}

async fn logout(State(site): Shared, headers: HeaderMap) -> Response {
    if let Some((id, _)) = site.session(&headers) {
        let _ = site.store.end(id, Reason::LoggedOut);
    }
    let gone = "; max-age=0; expires=Thu, 01 Jan 1970 00:00:00 GMT";
    let cookies =
        AppendHeaders([PLAIN, SESSION].map(|name| (SET_COOKIE, site.line(name, "", gone))));
    private((cookies, Redirect::to("/")))
}

/// `SecureRandom.uuid`
pub(crate) fn random_uuid() -> Uuid {
    let mut bytes = [0; 16];
    // Without random bytes nothing is signed by this demo that anybody should trust.
    let _ = getrandom::fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// The notebook's second cell: makes a token, posts it, prints the cookies that come back.
pub(crate) async fn login_cell(app: Router, out: &mut impl Write) -> io::Result<()> {
    let (username, secret) = ("alice", jwt::SECRET);
    let token = jwt::encode(random_uuid(), username, now(), secret).unwrap_or_default();
    writeln!(out, "Generated JWT (signed with secret):\n{token}\n-----")?;
    writeln!(out, "\u{27a1}\u{fe0f}  Enter this secret in jwt.io to verify: {secret}\n-----")?;

    let form = format!("username={username}&token={token}");
    let request = Request::post("/login").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let request = request.body(Body::from(form)).map_err(io::Error::other)?;
    let response = app.oneshot(request).await.map_err(io::Error::other)?;
    writeln!(out, "Set-Cookie header(s):")?;
    for line in response.headers().get_all(SET_COOKIE) {
        writeln!(out, "{}", line.to_str().map_err(io::Error::other)?)?;
    }
    Ok(())
}
