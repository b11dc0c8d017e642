//! Guards the web layer on axum: what a browser sees of a server that uses it.
//!
//! A store may keep every promise and a layer still lose an update (by loading and saving), let an
//! old cookie in, cache one user's cookie for another, or log somebody out by a removed cookie. So
//! the tests drive whole requests and judge the answers, and the store beside them. Ids in the
//! names of the cases are those of the security rows in `docs/security.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, LOCATION,
    SET_COOKIE, VARY, WWW_AUTHENTICATE,
};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use cloakroom::axum::SessionLayer;
use cloakroom::cookie::{Cookie, Encoding, Keys};
use cloakroom::web::{self, BadCookie, Checked, Session, Sessions, User};
use cloakroom::{Attributes, Event, ManualClock, Missing, Reason, Store, Token};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use crate::support::{poll_once, seconds, store_with};

const REMOVAL: &str = "__Host-id=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0; \
                       Expires=Thu, 01 Jan 1970 00:00:00 GMT";

// ---- A browser -----------------------------------------------------------------------------

/// Keeps one cookie, as a browser does, and sends it.
#[derive(Clone)]
struct Browser {
    app: Router,
    cookie: Option<String>,
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn all(&self, name: impl Into<HeaderName>) -> Vec<&str> {
        self.headers.get_all(name.into()).iter().map(|value| value.to_str().unwrap()).collect()
    }

    fn set_cookie(&self) -> Option<&str> {
        let lines = self.all(SET_COOKIE);
        assert!(lines.len() <= 1, "{lines:?}");
        lines.first().copied()
    }

    fn token(&self) -> Option<Token> {
        let value = self.set_cookie()?.split(';').next()?.strip_prefix("__Host-id=")?;
        Token::parse(value).ok()
    }

    /// Nothing about a session is in the answer.
    fn assert_plain(&self) {
        assert_eq!((self.all(SET_COOKIE), self.all(VARY)), (vec![], vec![]));
        assert!(!self.all(CACHE_CONTROL).contains(&"no-store"));
    }

    /// S22: no cache may give it to somebody else.
    fn assert_secret(&self) {
        assert_eq!((self.all(CACHE_CONTROL), self.all(VARY)), (vec!["no-store"], vec!["cookie"]));
    }

    /// It was made by asking for a session, and tells no token.
    fn assert_asked(&self) {
        assert_eq!((self.set_cookie(), self.all(VARY)), (None, vec!["cookie"]));
        assert_eq!(self.all(CACHE_CONTROL), Vec::<&str>::new());
    }
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path)
}

async fn send(app: &Router, request: Request<Body>) -> Answer {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Answer { status: parts.status, headers: parts.headers, body }
}

impl Browser {
    fn new(app: &Router) -> Browser {
        Browser { app: app.clone(), cookie: None }
    }

    fn with(&self, cookie: &str) -> Browser {
        Browser { app: self.app.clone(), cookie: Some(cookie.to_owned()) }
    }

    async fn send(&mut self, request: axum::http::request::Builder, body: &str) -> Answer {
        let request = match &self.cookie {
            Some(cookie) => request.header(COOKIE, cookie),
            None => request,
        };
        let answer = send(&self.app, request.body(Body::from(body.to_owned())).unwrap()).await;
        if let Some(line) = answer.set_cookie() {
            let (pair, attributes) = line.split_once(';').unwrap();
            self.cookie = (!attributes.contains("Max-Age=0")).then(|| pair.to_owned());
        }
        answer
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(request("GET", path), "").await
    }

    async fn form(&mut self, path: &str, body: &str) -> Answer {
        let request = request("POST", path);
        self.send(request.header(CONTENT_TYPE, "application/x-www-form-urlencoded"), body).await
    }

    fn token(&self) -> Token {
        self.cookie.as_deref().unwrap().strip_prefix("__Host-id=").unwrap().parse().unwrap()
    }
}

// ---- A server ------------------------------------------------------------------------------

fn add_one(s: &mut Attributes) -> i64 {
    let count = s.get_i64("count").unwrap_or(0) + 1;
    s.set("count", count);
    count
}

async fn count(session: Session) -> web::Result<String> {
    Ok(session.update(add_one)?.to_string())
}

async fn who(session: Session) -> String {
    session.owner().unwrap_or_else(|| format!("nobody, {:?}", session.missing()))
}

async fn login(session: Session, Path(name): Path<String>) -> web::Result<Redirect> {
    session.login(&name, "test")?;
    Ok(Redirect::to("/who"))
}

async fn logout(session: Session) -> web::Result<()> {
    session.logout()
}

fn app(sessions: &Sessions) -> Router {
    Router::new()
        .route("/static", get(async || "static"))
        .route("/argument", get(async |_: Session| "not asked"))
        .route("/count", get(count))
        .route(
            "/peek",
            get(async |s: Session| s.peek(|s| s.get_i64("count")).is_some().to_string()),
        )
        .route("/read", get(async |s: Session| format!("{:?}", s.get_i64("count"))))
        .route("/option", get(async |s: Option<Session>| s.is_some().to_string()))
        .route("/who", get(who))
        .route("/user", get(async |user: User| user.name().to_owned()))
        .route("/maybe", get(async |user: Option<User>| user.is_some().to_string()))
        .route("/login/{name}", post(login))
        .route("/logout", post(logout))
        .route(
            "/elsewhere",
            post(async |s: Session| s.logout_everywhere_else().map(|count| count.to_string())),
        )
        .route("/reset", post(async |s: Session| s.reset()))
        .route("/rotate", post(async |s: Session| s.rotate()))
        .route("/fresh", get(async |s: Session| s.require_fresh(seconds(600))))
        .route("/again", post(async |s: Session| s.reauthenticated()))
        .layer(SessionLayer::new(sessions.clone()))
}

/// A server with a store whose clock is moved by hand.
fn server() -> (Router, Store, ManualClock) {
    server_with(|sessions| sessions)
}

fn server_with(options: impl FnOnce(Sessions) -> Sessions) -> (Router, Store, ManualClock) {
    let clock = ManualClock::new();
    let store = store_with(|builder| builder.clock(&clock));
    let sessions = options(Sessions::new(store.clone()));
    (app(&sessions), store, clock)
}

// ---- Lazy ----------------------------------------------------------------------------------

#[tokio::test]
async fn a_handler_that_does_not_ask_leaves_no_trace() {
    let (app, store, clock) = server();
    let token = store.create(Attributes::new()).unwrap();
    let seen = store.info(token.id()).unwrap().last_seen;
    clock.advance(seconds(60));
    let cookie = format!("__Host-id={}", token.expose());
    for path in ["/static", "/argument"] {
        for mut browser in [Browser::new(&app), Browser::new(&app).with(&cookie)] {
            browser.get(path).await.assert_plain();
        }
        for junk in ["__Host-id=junk", &format!("__Host-id={}", "A".repeat(43))] {
            Browser::new(&app).with(junk).get(path).await.assert_plain();
        }
    }
    assert_eq!(store.info(token.id()).unwrap().last_seen, seen, "it was touched");
    assert_eq!(store.stats().live, 1, "a session was made");
}

#[tokio::test]
async fn reading_counts_as_activity_and_makes_no_session() {
    let (app, store, clock) = server();
    for path in ["/read", "/option", "/who", "/peek", "/maybe"] {
        Browser::new(&app).get(path).await.assert_asked();
    }
    assert_eq!(store.stats().created, 0);

    let token = store.create(Attributes::from([("count", 3.into())])).unwrap();
    let mut browser = Browser::new(&app).with(&format!("__Host-id={}", token.expose()));
    let seen = || store.info(token.id()).unwrap().last_seen;
    for (path, is_activity, body) in [
        ("/peek", false, "true"),
        ("/read", true, "Some(3)"),
        ("/option", true, "true"),
        ("/who", true, "nobody, None"),
        ("/maybe", true, "false"),
    ] {
        clock.advance(seconds(60));
        let before = seen();
        let answer = browser.get(path).await;
        answer.assert_asked();
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, body), "{path}");
        assert_eq!(seen() > before, is_activity, "{path}");
    }
}

/// S3, S17: the first write makes a session, whatever the client sent, with the safe cookie.
#[tokio::test]
async fn the_first_write_makes_a_session_and_adopts_no_id() {
    let (app, store, _) = server();
    let made_up = format!("__Host-id={}", "A".repeat(43));
    for mut browser in [Browser::new(&app), Browser::new(&app).with(&made_up)] {
        let first = browser.get("/count").await;
        assert_eq!(first.body, "1");
        first.assert_secret();
        let token = first.token().unwrap();
        let expected =
            format!("__Host-id={}; Path=/; Secure; HttpOnly; SameSite=Lax", token.expose());
        assert_eq!(first.set_cookie(), Some(expected.as_str()));
        assert_ne!(token.expose(), "A".repeat(43));
        let second = browser.get("/count").await;
        assert_eq!(second.body, "2");
        second.assert_asked();
        assert_eq!(store.get(token.id()).unwrap().get_i64("count"), Some(2));
    }
    assert_eq!(store.stats().live, 2);
}

// ---- Login ---------------------------------------------------------------------------------

/// S4: a token that was planted before the login opens nothing after it.
#[tokio::test]
async fn a_login_keeps_the_data_under_another_token() {
    let (app, store, _) = server();
    let mut browser = Browser::new(&app);
    browser.get("/count").await;
    let visitor = browser.clone();
    let login = browser.form("/login/alice", "").await;
    assert_eq!((login.status, login.all(LOCATION)), (StatusCode::SEE_OTHER, vec!["/who"]));
    login.assert_secret();
    assert_ne!(visitor.cookie, browser.cookie);
    assert_eq!(browser.get("/who").await.body, "alice");
    assert_eq!(browser.get("/user").await.body, "alice");
    assert_eq!(browser.get("/maybe").await.body, "true");
    assert_eq!(browser.get("/count").await.body, "2");

    let mut planted = visitor.clone();
    let answer = planted.get("/who").await;
    assert_eq!(answer.body, "nobody, Some(Ended(Rotated))");
    assert_eq!(answer.set_cookie(), None, "it would remove the new cookie of the same browser");
    assert_eq!(planted.get("/user").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(store.info(browser.token().id()).unwrap().label.as_deref(), Some("test"));
    store.validate();
}

#[tokio::test]
async fn a_login_without_a_session_makes_one() {
    let (app, store, _) = server();
    let mut browser = Browser::new(&app);
    browser.form("/login/alice", "").await.assert_secret();
    assert_eq!(browser.get("/who").await.body, "alice");
    assert_eq!(store.owner_count("alice"), 1);
    assert_eq!(store.stats().created, 1);
}

/// One user's data never passes to another.
#[tokio::test]
async fn a_login_on_another_users_session_begins_anew() {
    let (app, store, _) = server();
    let mut browser = Browser::new(&app);
    browser.form("/login/alice", "").await;
    browser.get("/count").await;
    let alice = browser.clone();
    browser.form("/login/bob", "").await.assert_secret();
    assert_eq!(browser.get("/who").await.body, "bob");
    assert_eq!(browser.get("/count").await.body, "1");
    assert_eq!((store.owner_count("alice"), store.owner_count("bob")), (0, 1));
    let gone = Missing::Ended(Reason::LoggedOut);
    assert_eq!(store.read(alice.token().id(), |_| ()), Err(gone));
}

/// S10, S21: the session is gone at the server, and the cookie at the client.
#[tokio::test]
async fn a_logout_ends_the_session_and_removes_the_cookie() {
    let (app, store, _) = server();
    let mut browser = Browser::new(&app);
    browser.form("/login/alice", "").await;
    let old = browser.clone();
    let logout = browser.form("/logout", "").await;
    assert_eq!((logout.status, logout.set_cookie()), (StatusCode::OK, Some(REMOVAL)));
    logout.assert_secret();
    assert_eq!(browser.cookie, None);
    assert_eq!(store.stats().live, 0);

    let mut kept = old.clone();
    let answer = kept.get("/user").await;
    assert_eq!((answer.status, answer.set_cookie()), (StatusCode::UNAUTHORIZED, Some(REMOVAL)));
    assert_eq!(answer.body, "not logged in: you have logged out");
    let logout = old.clone().form("/logout", "").await;
    assert_eq!((logout.status, logout.set_cookie()), (StatusCode::OK, Some(REMOVAL)));
    let stranger = Browser::new(&app).form("/logout", "").await;
    assert_eq!((stranger.status, stranger.set_cookie()), (StatusCode::OK, None));
    // A write with the old cookie begins another session.
    let mut again = old.clone();
    assert_eq!(again.get("/count").await.body, "1");
    assert_ne!(again.cookie, old.cookie);
}

/// S12.
#[tokio::test]
async fn a_logout_everywhere_else_spares_this_session_only() {
    let (app, store, _) = server();
    let mut devices = vec![Browser::new(&app); 3];
    for device in &mut devices {
        device.form("/login/alice", "").await;
    }
    let mut bob = Browser::new(&app);
    bob.form("/login/bob", "").await;
    assert_eq!(devices[1].form("/elsewhere", "").await.body, "2");
    assert_eq!(devices[1].get("/who").await.body, "alice");
    assert_eq!(devices[0].get("/who").await.body, "nobody, Some(Ended(Revoked))");
    assert_eq!(bob.get("/who").await.body, "bob");
    assert_eq!(store.owner_count("alice"), 1);
    let nobody = Browser::new(&app).form("/elsewhere", "").await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn reset_begins_an_empty_session_and_rotate_keeps_it() {
    let (app, store, _) = server();
    let mut browser = Browser::new(&app);
    browser.form("/login/alice", "").await;
    browser.get("/count").await;

    let before = browser.token().id();
    browser.form("/rotate", "").await.assert_secret();
    assert_eq!(store.read(before, |_| ()), Err(Missing::Ended(Reason::Rotated)));
    assert_eq!(browser.get("/count").await.body, "2");

    let before = browser.token().id();
    browser.form("/reset", "").await.assert_secret();
    assert_eq!(store.read(before, |_| ()), Err(Missing::Ended(Reason::LoggedOut)));
    assert_eq!(browser.get("/who").await.body, "nobody, None");
    assert_eq!(browser.get("/count").await.body, "1");
    assert_eq!(Browser::new(&app).form("/rotate", "").await.status, StatusCode::UNAUTHORIZED);
}

/// S16, S4: what is sensitive asks for a recent proof, and a proof changes the token.
#[tokio::test]
async fn require_fresh_counts_from_the_last_proof() {
    let (app, store, clock) = server();
    let mut browser = Browser::new(&app);
    assert_eq!(browser.get("/fresh").await.status, StatusCode::UNAUTHORIZED);
    browser.get("/count").await;
    assert_eq!(browser.get("/fresh").await.status, StatusCode::UNAUTHORIZED, "a visitor");
    clock.advance(seconds(300));
    browser.form("/login/alice", "").await;
    for (wait, status) in [(0, 200), (599, 200), (2, 403)] {
        clock.advance(seconds(wait));
        assert_eq!(browser.get("/fresh").await.status.as_u16(), status, "after {wait}");
    }
    let refused = browser.get("/fresh").await;
    assert_eq!(refused.body, "logged in 601 s ago, and 600 s are allowed here: log in again");
    let before = browser.token().id();
    browser.form("/again", "").await.assert_secret();
    assert_eq!(browser.get("/fresh").await.status, StatusCode::OK);
    assert_eq!(store.read(before, |_| ()), Err(Missing::Ended(Reason::Rotated)));
    assert_eq!(browser.get("/who").await.body, "alice");
    assert_eq!(store.info(browser.token().id()).unwrap().label.as_deref(), Some("test"));
    assert_eq!(Browser::new(&app).form("/again", "").await.status, StatusCode::UNAUTHORIZED);
}
