//! Guards the web layer on axum: what a browser sees of a server that uses it.
//!
//! A store may keep every promise and a layer still lose an update (by loading and saving), let an
//! old cookie in, cache one user's cookie for another, or log somebody out by a removed cookie. So
//! the tests drive whole requests and judge the answers, and the store beside them. Ids in the
//! names of the cases are those of the security rows in `docs/security.md`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, LOCATION,
    SET_COOKIE, VARY, WWW_AUTHENTICATE,
};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Redirect};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use cloakroom::axum::SessionLayer;
use cloakroom::cookie::{Cookie, Encoding, Keys};
use cloakroom::web::{self, BadCookie, Checked, Session, Sessions, User};
use cloakroom::{Attributes, Event, ManualClock, Missing, Reason, Store, Token};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use crate::support::{parallel, poll_once, seconds, store_with};

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

/// The login of an editor, whose role is there as soon as he is.
async fn login_editor(session: Session, Path(name): Path<String>) -> web::Result<Redirect> {
    session.login_with(&name, "test", |data| {
        add_one(data);
        data.set("role", "editor");
    })?;
    Ok(Redirect::to("/who"))
}

async fn role(session: Session) -> String {
    format!("{:?}, {:?}", session.owner(), session.get_text("role"))
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
        .route("/editor/{name}", post(login_editor))
        .route("/role", get(role))
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

/// The data of a login comes with it: on the visitor's own, on none, and anew on another user's.
#[tokio::test]
async fn a_login_may_bring_data() {
    let (app, store, _) = server();
    let mut visitor = Browser::new(&app);
    visitor.get("/count").await;
    let planted = visitor.clone();
    visitor.form("/editor/alice", "").await.assert_secret();
    assert_eq!(visitor.get("/role").await.body, r#"Some("alice"), Some("editor")"#);
    assert_eq!(visitor.get("/count").await.body, "3");
    assert_eq!(planted.clone().get("/who").await.body, "nobody, Some(Ended(Rotated))");

    let mut nobody = Browser::new(&app);
    nobody.form("/editor/alice", "").await.assert_secret();
    assert_eq!(nobody.get("/count").await.body, "2");

    visitor.form("/editor/bob", "").await.assert_secret();
    assert_eq!(visitor.get("/role").await.body, r#"Some("bob"), Some("editor")"#);
    assert_eq!(visitor.get("/count").await.body, "2", "nothing of alice's");
    assert_eq!((store.owner_count("alice"), store.owner_count("bob")), (1, 1));
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

/// Another request gives the session another token between this one's first call and its logout.
#[tokio::test]
async fn a_logout_does_not_claim_to_have_ended_what_goes_on_elsewhere() {
    let (_, store, _) = server();
    let (id, other) = (store.create(Attributes::new()).unwrap().id(), store.clone());
    let token = store.login(id, "alice", "").unwrap();
    let moved = token.id();
    let handler = async move |session: Session| {
        assert!(session.is_live());
        other.rotate(moved).unwrap();
        session.logout()
    };
    let sessions = Sessions::new(store.clone());
    let app = Router::new().route("/", post(handler)).layer(SessionLayer::new(sessions));
    let cookie = format!("__Host-id={}", token.expose());
    let logout = request("POST", "/").header(COOKIE, cookie).body(Body::empty()).unwrap();
    let answer = send(&app, logout).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.set_cookie(), None, "the browser may have the other token by now");
    assert_eq!(store.owner_sessions("alice").len(), 1);
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

// ---- Cookies that lead nowhere -------------------------------------------------------------

/// S10, S21: a cookie whose session has ended goes, whatever the reason; but not the cookie of a
/// browser that is just getting another one.
#[tokio::test]
async fn the_cookie_of_an_ended_session_is_removed() {
    let (app, store, clock) = server();
    let removal_after = async |end: &dyn Fn(&Token)| {
        let token = store.create(Attributes::new()).unwrap();
        let cookie = format!("__Host-id={}", token.expose());
        end(&token);
        let answer = Browser::new(&app).with(&cookie).get("/who").await;
        answer.set_cookie().map(|line| assert_eq!(line, REMOVAL)).is_some()
    };
    let end = |reason| move |store: &Store, token: &Token| store.end(token.id(), reason).unwrap();
    assert!(removal_after(&|token| end(Reason::LoggedOut)(&store, token)).await);
    assert!(removal_after(&|token| end(Reason::Revoked)(&store, token)).await);
    assert!(removal_after(&|_| clock.advance(seconds(3600))).await, "expired");
    let forgotten = |token: &Token| {
        store.end(token.id(), Reason::LoggedOut).unwrap();
        clock.advance(seconds(3600));
        store.expire_due();
        assert_eq!(store.read(token.id(), |_| ()), Err(Missing::Unknown));
    };
    assert!(removal_after(&forgotten).await);
    assert!(!removal_after(&|token| drop(store.rotate(token.id()).unwrap())).await);
    assert!(!removal_after(&|token| drop(store.renew(token.id()).unwrap())).await);
    assert!(!removal_after(&|_| ()).await);
}

/// S24 and the policy: what was not made here is nobody, or is refused and removed.
#[tokio::test]
async fn a_bad_cookie_is_nobody_or_refused() {
    let signed = |sessions: Sessions| {
        let keys = Keys::new([[7; 32]]).unwrap();
        let cookie = Cookie::builder().encoding(Encoding::Signed(keys)).build().unwrap();
        sessions.cookie(cookie)
    };
    let refusing = |sessions: Sessions| sessions.bad_cookie(BadCookie::Refuse);
    let mut counting = None;
    let refusing = |sessions: Sessions| {
        let sessions = refusing(signed(sessions));
        counting = Some(sessions.clone());
        sessions
    };
    let ((mild, ..), (strict, store, _)) = (server_with(signed), server_with(refusing));
    let mut browser = Browser::new(&strict);
    browser.get("/count").await;
    let good = browser.cookie.clone().unwrap();
    let misses = store.stats().misses;

    let mut changed = good.clone().into_bytes();
    changed[40] ^= 1;
    let changed = String::from_utf8(changed).unwrap();
    for bad in [changed.as_str(), "__Host-id=", "__Host-id=x", "__Host-id=\"quoted\"", &good[..60]]
    {
        let answer = Browser::new(&strict).with(bad).get("/count").await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::BAD_REQUEST, "Bad Cookie"));
        assert_eq!(answer.set_cookie(), Some(REMOVAL), "{bad}");
        answer.assert_secret();
        for path in ["/option", "/user", "/maybe", "/argument"] {
            let answer = Browser::new(&strict).with(bad).get(path).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        }
        Browser::new(&strict).with(bad).get("/static").await.assert_plain();

        let answer = Browser::new(&mild).with(bad).get("/who").await;
        assert_eq!((answer.status, answer.set_cookie()), (StatusCode::OK, None));
        assert_eq!(Browser::new(&mild).with(bad).get("/count").await.body, "1");
    }
    assert_eq!(store.stats().created, 1);
    let bad_cookies = counting.unwrap().bad_cookies();
    assert_eq!(bad_cookies, 25, "five cookies at five pages that ask");
    assert_eq!(store.stats().misses - misses, bad_cookies);
    // A good one beside a bad one is good; one that is gone is not bad.
    let both = format!("{changed}; {good}");
    assert_eq!(Browser::new(&strict).with(&both).get("/count").await.body, "2");
    store.end_all(Reason::Revoked).unwrap();
    assert_eq!(Browser::new(&strict).with(&good).get("/who").await.status, StatusCode::OK);
}

/// A neighbour's cookie of the same name, or a leftover of another path, does not lock out.
#[tokio::test]
async fn of_several_cookies_the_one_with_a_session_counts() {
    let (app, store, _) = server();
    let make = || store.create(Attributes::from([("count", 5.into())])).unwrap();
    let dead = make();
    store.end(dead.id(), Reason::LoggedOut).unwrap();
    let cookie = |token: &Token| format!("__Host-id={}", token.expose());
    let (unknown, junk) = (format!("__Host-id={}", "A".repeat(43)), "__Host-id=junk".to_owned());
    let live = cookie(&make());
    for cookies in [
        [&junk, &unknown, &cookie(&dead), &live],
        [&live, &unknown, &junk, &cookie(&dead)],
        [&unknown, &live, &junk, &junk],
    ] {
        let line = cookies.map(String::as_str).join("; ");
        let answer = Browser::new(&app).with(&line).get("/read").await;
        assert_eq!((answer.body.as_str(), answer.set_cookie()), ("Some(5)", None), "{line}");
        // Over HTTP/2 each may come as a line of its own.
        let lines = cookies.iter().fold(request("GET", "/read"), |r, line| r.header(COOKIE, *line));
        assert_eq!(send(&app, lines.body(Body::empty()).unwrap()).await.body, "Some(5)");
    }
    let dead = format!("{junk}; {}; {unknown}", cookie(&dead));
    let answer = Browser::new(&app).with(&dead).get("/who").await;
    assert_eq!(answer.body, "nobody, Some(Ended(LoggedOut))");
    assert_eq!(answer.set_cookie(), Some(REMOVAL));
    let many = format!("{}{live}", format!("{junk}; ").repeat(8));
    assert_eq!(Browser::new(&app).with(&many).get("/read").await.body, "None", "8 are looked at");
}

/// S28: what an old key signed is accepted, and comes back signed by the newest.
#[tokio::test]
async fn a_cookie_of_an_old_key_is_sent_again_with_the_newest() {
    let keys = Keys::new([[1; 32]]).unwrap();
    let cookie = Cookie::builder().encoding(Encoding::Signed(keys.clone())).build().unwrap();
    let (app, ..) = server_with(|sessions| sessions.cookie(cookie));
    let mut browser = Browser::new(&app);
    browser.get("/count").await;
    assert_eq!(browser.get("/count").await.set_cookie(), None);
    let old = browser.cookie.clone();
    keys.rotate([2; 32]).unwrap();
    browser.get("/static").await.assert_plain();
    let answer = browser.get("/count").await;
    assert_eq!(answer.body, "3");
    answer.assert_secret();
    assert_ne!(browser.cookie, old);
    keys.replace([[2; 32]]).unwrap();
    let answer = browser.get("/count").await;
    assert_eq!((answer.body.as_str(), answer.set_cookie()), ("4", None));
}

/// Another request renews the session while one with a cookie of an old key is under way.
#[tokio::test]
async fn a_cookie_of_an_old_key_does_not_come_back_over_a_newer_token() {
    let keys = Keys::new([[1; 32]]).unwrap();
    let cookie = Cookie::builder().encoding(Encoding::Signed(keys.clone())).build().unwrap();
    let (_, store, _) = server();
    let other = store.clone();
    let slow = async move |session: Session| {
        let n = session.update(add_one)?;
        if n == 2 {
            other.renew(session.id().unwrap()).unwrap();
        }
        Ok::<_, web::Error>(n.to_string())
    };
    let layer = SessionLayer::new(Sessions::new(store.clone()).cookie(cookie));
    let app = Router::new().route("/slow", get(slow)).layer(layer);
    let mut browser = Browser::new(&app);
    browser.get("/slow").await;
    keys.rotate([2; 32]).unwrap();
    let answer = browser.get("/slow").await;
    assert_eq!((answer.body.as_str(), answer.set_cookie()), ("2", None));
}

// ---- Headers of the application ------------------------------------------------------------

#[tokio::test]
async fn what_the_application_says_in_the_headers_stays() {
    let (_, store, _) = server();
    let page = async |session: Session, Path(kind): Path<String>| {
        session.set("a", 1)?;
        let headers: &[(HeaderName, &str)] = match kind.as_str() {
            "some" => &[
                (SET_COOKIE, "theme=dark"),
                (SET_COOKIE, "lang=en; Path=/"),
                (VARY, "Accept-Encoding"),
                (CACHE_CONTROL, "private, max-age=60"),
            ],
            "same" => &[(VARY, "Origin, COOKIE"), (CACHE_CONTROL, "max-age=0, No-Store")],
            _ => &[(VARY, "*")],
        };
        let mut response = "page".into_response();
        for (name, value) in headers {
            response.headers_mut().append(name, value.parse().unwrap());
        }
        Ok::<_, web::Error>(response)
    };
    let app = Router::new()
        .route("/{kind}", get(page))
        .layer(SessionLayer::new(Sessions::new(store.clone())));
    let answer = async |path| send(&app, request("GET", path).body(Body::empty()).unwrap()).await;

    let some = answer("/some").await;
    let cookies = some.all(SET_COOKIE);
    assert_eq!((cookies.len(), &cookies[..2]), (3, &["theme=dark", "lang=en; Path=/"][..]));
    assert!(cookies[2].starts_with("__Host-id="));
    assert_eq!(some.all(VARY), ["Accept-Encoding", "cookie"]);
    assert_eq!(some.all(CACHE_CONTROL), ["private, max-age=60", "no-store"]);

    let same = answer("/same").await;
    assert_eq!(same.all(VARY), ["Origin, COOKIE"]);
    assert_eq!(same.all(CACHE_CONTROL), ["max-age=0, No-Store"]);
    assert_eq!(answer("/any").await.all(VARY), ["*"]);
    // The value is not shown by whoever logs headers with `Debug`.
    let debug = format!("{:?}", some.headers.get_all(SET_COOKIE).iter().next_back().unwrap());
    assert_eq!(debug, "Sensitive");
}

// ---- Requests that end otherwise -----------------------------------------------------------

/// What was written is in the store when the call returns: an answer 500 takes nothing back, and
/// its client gets the cookie.
#[tokio::test]
async fn an_error_answer_keeps_the_state_and_the_cookie() {
    let (_, store, _) = server();
    let fail = async |session: Session| {
        session.set("step", 1)?;
        Err::<(), _>(web::Error::Store(cloakroom::Error::NotDurable("/secret/path".into())))
    };
    let app = Router::new()
        .route("/fail", get(fail))
        .route(
            "/status",
            get(async |s: Session| s.set("step", 2).map(|()| StatusCode::BAD_GATEWAY)),
        )
        .layer(SessionLayer::new(Sessions::new(store.clone())));
    for (path, status, step) in [("/fail", 500, 1), ("/status", 502, 2)] {
        let answer = Browser::new(&app).get(path).await;
        assert_eq!(answer.status.as_u16(), status);
        assert!(!answer.body.contains("secret"), "{}", answer.body);
        let id = answer.token().unwrap().id();
        assert_eq!(store.get(id).unwrap().get_i64("step"), Some(step));
    }
    let request = request("GET", "/fail").body(Body::empty()).unwrap();
    let response = app.oneshot(request).await.unwrap();
    let error = response.extensions().get::<Arc<web::Error>>().unwrap();
    assert!(error.to_string().contains("/secret/path"), "for a middleware that logs");
}

/// A client that goes away: what was written stays, and no session is left that nobody can reach.
#[tokio::test]
async fn a_cancelled_request_leaves_nothing_half_done() {
    let (_, store, _) = server();
    let stuck = async |session: Session, Path(what): Path<String>| {
        match what.as_str() {
            "set" => session.set("a", 1).unwrap(),
            "login" => session.login("alice", "").unwrap(),
            _ => session.logout().unwrap(),
        }
        std::future::pending::<()>().await;
    };
    let app = Router::new()
        .route("/{what}", get(stuck))
        .layer(SessionLayer::new(Sessions::new(store.clone())));
    let cancel = |path: &str, cookie: Option<&Token>| {
        let mut request = request("GET", path);
        if let Some(token) = cookie {
            request = request.header(COOKIE, format!("__Host-id={}", token.expose()));
        }
        let mut answer = Box::pin(app.clone().oneshot(request.body(Body::empty()).unwrap()));
        assert!(poll_once(&mut answer).is_pending());
    };
    cancel("/set", None);
    assert_eq!((store.stats().live, store.stats().created), (0, 1), "nobody knows its token");
    cancel("/login", None);
    assert_eq!((store.stats().live, store.owner_count("alice")), (0, 0));

    let token = store.create(Attributes::new()).unwrap();
    cancel("/set", Some(&token));
    assert_eq!(store.get(token.id()).unwrap().get_i64("a"), Some(1), "what returned is done");
    cancel("/login", Some(&token));
    assert_eq!(store.stats().live, 0, "the old token is dead, the new one was never told");

    let token = store.create(Attributes::new()).unwrap();
    cancel("/logout", Some(&token));
    assert_eq!(store.read(token.id(), |_| ()), Err(Missing::Ended(Reason::LoggedOut)));
    store.validate();
}

#[tokio::test]
async fn a_panic_in_a_handler_leaves_the_sessions_whole() {
    let (app, store, _) = server();
    let panics = async |session: Session, Path(what): Path<String>| -> () {
        match what.as_str() {
            "login" => session.login("alice", "").unwrap(),
            "inside" => session
                .update(|s| -> () {
                    s.set("a", 2);
                    panic!("inside")
                })
                .unwrap(),
            _ => session.set("a", 1).unwrap(),
        }
        panic!("after")
    };
    let broken = Router::new()
        .route("/{what}", get(panics))
        .layer(SessionLayer::new(Sessions::new(store.clone())));
    let token = store.create(Attributes::from([("count", 1.into())])).unwrap();
    let cookie = format!("__Host-id={}", token.expose());
    for (path, cookie, live) in [
        ("/set", Some(&cookie), 1),
        ("/inside", Some(&cookie), 1),
        ("/inside", None, 1),
        ("/set", None, 1),
        ("/login", None, 1),
    ] {
        let request = cookie.iter().fold(request("GET", path), |r, line| r.header(COOKIE, *line));
        let call = broken.clone().oneshot(request.body(Body::empty()).unwrap());
        assert!(tokio::spawn(call).await.unwrap_err().is_panic());
        assert_eq!(store.stats().live, live, "{path}");
    }
    assert_eq!(store.get(token.id()).unwrap().get_i64("a"), Some(1));
    assert_eq!(Browser::new(&app).with(&cookie).get("/count").await.body, "2");
    assert_eq!(Browser::new(&app).get("/count").await.body, "1");
    store.validate();
}

/// The closure that fills a session must not change the session again: it would wait for itself.
#[tokio::test]
async fn an_update_inside_an_update_panics_and_does_not_hang() {
    let (app, store, _) = server();
    let nested = async |session: Session| {
        let other = session.clone();
        let inside = move |s: &mut Attributes| {
            assert_eq!(other.owner(), None, "reading is allowed");
            s.set("a", 1);
            let _ = other.set("b", 2);
        };
        let result = std::panic::AssertUnwindSafe(|| session.update(inside));
        std::panic::catch_unwind(result).is_err().to_string()
    };
    let nesting = Router::new()
        .route("/", get(nested))
        .layer(SessionLayer::new(Sessions::new(store.clone())));
    let mut browser = Browser::new(&app);
    browser.get("/count").await;
    for cookie in [None, browser.cookie.clone()] {
        let mut browser = Browser { app: nesting.clone(), cookie };
        assert_eq!(browser.get("/").await.body, "true");
    }
    assert_eq!(store.stats().live, 1);
}

/// The cookie goes with the head; the body goes on for as long as it likes.
#[tokio::test]
async fn a_streamed_body_writes_on_but_gets_no_other_token() {
    let (_, store, _) = server();
    let stream = async |session: Session, Path(what): Path<String>| {
        if what != "late" {
            session.set("a", 1)?;
        }
        let body = futures_util::stream::once(async move {
            let result = match what.as_str() {
                "write" => session.set("a", 2),
                "login" => session.login("alice", ""),
                "reset" => session.reset(),
                "rotate" => session.rotate(),
                "logout" => session.logout(),
                _ => session.set("late", 1),
            };
            Ok::<_, std::convert::Infallible>(match result {
                Ok(()) => "done",
                Err(web::Error::HeadSent) => "too late",
                Err(_) => "other",
            })
        });
        Ok::<_, web::Error>(Body::from_stream(body))
    };
    let app = Router::new()
        .route("/{what}", get(stream))
        .layer(SessionLayer::new(Sessions::new(store.clone())));
    for (what, body, a) in [
        ("write", "done", Some(2)),
        ("login", "too late", Some(1)),
        ("reset", "too late", Some(1)),
        ("rotate", "too late", Some(1)),
        ("logout", "done", None),
    ] {
        let answer = Browser::new(&app).get(&format!("/{what}")).await;
        assert_eq!(answer.body, body, "{what}");
        let id = answer.token().unwrap().id();
        assert_eq!(store.get(id).ok().and_then(|s| s.get_i64("a")), a, "{what}");
    }
    let live = store.stats().live;
    let late = Browser::new(&app).get("/late").await;
    assert_eq!((late.body.as_str(), late.set_cookie()), ("too late", None));
    assert_eq!((store.stats().live, store.owner_count("alice")), (live, 0));
}

/// S10: what is under way when the session ends writes nothing back.
#[tokio::test]
async fn a_session_that_ends_during_a_request_refuses_its_writes() {
    let (_, store, _) = server();
    let slow = {
        let store = store.clone();
        async move |session: Session, Path(what): Path<String>| {
            let id = session.id().unwrap();
            match what.as_str() {
                "end" => store.end(id, Reason::Revoked).unwrap(),
                _ => drop(store.rotate(id).unwrap()),
            }
            assert!(session.get("a").is_none() && session.owner().is_none());
            session.set("a", 2)
        }
    };
    let app = Router::new()
        .route("/{what}", get(slow))
        .layer(SessionLayer::new(Sessions::new(store.clone())));
    for (path, set_cookie) in [("/end", Some(REMOVAL)), ("/rotate", None)] {
        let token = store.create(Attributes::from([("a", 1.into())])).unwrap();
        let cookie = format!("__Host-id={}", token.expose());
        let answer = Browser::new(&app).with(&cookie).get(path).await;
        assert_eq!((answer.status, answer.set_cookie()), (StatusCode::UNAUTHORIZED, set_cookie));
    }
    assert_eq!(store.stats().live, 1, "the rotated one");
}

/// S10: nor does an update during which it expires, though it is the request's first call.
#[tokio::test]
async fn a_session_that_expires_during_an_update_refuses_the_next() {
    let (_, store, clock) = server();
    let slow = async move |session: Session| {
        let expired = session.update(|s| {
            s.set("a", 2);
            clock.advance(seconds(365 * 24 * 60 * 60));
        });
        assert_eq!(expired.unwrap_err().missing(), Some(Missing::Ended(Reason::Expired)));
        session.set("a", 3)
    };
    let layer = SessionLayer::new(Sessions::new(store.clone()));
    let app = Router::new().route("/", get(slow)).layer(layer);
    let token = store.create(Attributes::from([("a", 1.into())])).unwrap();
    let cookie = format!("__Host-id={}", token.expose());
    let answer = Browser::new(&app).with(&cookie).get("/").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!((answer.set_cookie(), store.stats().created), (Some(REMOVAL), 1));
}

#[tokio::test]
async fn a_full_store_is_an_answer() {
    let store = store_with(|builder| builder.sessions_max(1));
    let app = app(&Sessions::new(store.clone()));
    Browser::new(&app).get("/count").await;
    let answer = Browser::new(&app).get("/count").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        (answer.body.as_str(), answer.set_cookie()),
        ("There is no room for a session.", None)
    );
    let login = Browser::new(&app).form("/login/alice", "").await;
    assert_eq!(login.status, StatusCode::SERVICE_UNAVAILABLE);
    Browser::new(&app).get("/who").await.assert_asked();
}

// ---- Layers --------------------------------------------------------------------------------

#[derive(Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Cart {
    items: u32,
}

#[tokio::test]
async fn without_a_layer_the_answer_says_what_is_missing() {
    let carts: Store<Cart> = Store::builder().in_memory().unwrap();
    let bare = Router::new().route("/", get(async |_: Session| ()));
    let other = bare.clone().layer(SessionLayer::new(Sessions::new(carts)));
    for app in [bare, other] {
        let answer = Browser::new(&app).get("/").await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        let message = "no session of `cloakroom::attributes::Attributes` in this request: put \
                       `cloakroom::axum::SessionLayer`";
        assert!(answer.body.starts_with(message), "{}", answer.body);
    }
}

/// What stands between the two layers and what is inside speak of one session, also of one that
/// begins in this request.
#[tokio::test]
async fn an_inner_layer_of_the_same_sessions_does_nothing() {
    let (_, store, _) = server();
    let sessions = Sessions::new(store.clone());
    let layer = SessionLayer::new(sessions.clone());
    let between = axum::middleware::from_fn(
        async |session: Session, request: axum::extract::Request, next: axum::middleware::Next| {
            session.set("between", true).unwrap();
            next.run(request).await
        },
    );
    let app = Router::new().nest("/in", app(&sessions)).layer(between).layer(layer);
    let mut browser = Browser::new(&app);
    browser.get("/in/count").await.assert_secret();
    assert_eq!(store.stats().created, 1);
    assert_eq!(browser.get("/in/count").await.body, "2");
    browser.form("/in/login/alice", "").await.assert_secret();
    assert_eq!(browser.get("/in/who").await.body, "alice");
    assert_eq!(store.stats().live, 1);
}

#[tokio::test]
async fn stores_of_two_types_are_both_there() {
    let (_, store, _) = server();
    let carts: Store<Cart> = Store::builder().in_memory().unwrap();
    let named = |name| Cookie::builder().name(name).build().unwrap();
    let both = async |session: Session, cart: Session<Cart>| {
        let visits = session.update(add_one)?;
        let items = cart.update(|cart| {
            cart.items += 2;
            cart.items
        })?;
        assert_eq!(cart.read(|cart| cart.items.to_native()), Some(items));
        Ok::<_, web::Error>(format!("{visits} {items}"))
    };
    let app = Router::new()
        .route("/", get(both))
        .layer(SessionLayer::new(Sessions::new(carts).cookie(named("cart"))))
        .layer(SessionLayer::new(Sessions::new(store).cookie(named("id"))));
    let first = Browser::new(&app).get_many("/", &[]).await;
    assert_eq!((first.body.as_str(), first.all(SET_COOKIE).len()), ("1 2", 2));
    assert_eq!((first.all(VARY), first.all(CACHE_CONTROL)), (vec!["cookie"], vec!["no-store"]));
    let cookies: Vec<&str> =
        first.all(SET_COOKIE).iter().map(|line| line.split(';').next().unwrap()).collect();
    assert_eq!(Browser::new(&app).get_many("/", &cookies).await.body, "2 4");
}

impl Browser {
    /// Of a page with several cookies.
    async fn get_many(&self, path: &str, cookies: &[&str]) -> Answer {
        let request = cookies.iter().fold(request("GET", path), |r, pair| r.header(COOKIE, *pair));
        send(&self.app, request.body(Body::empty()).unwrap()).await
    }
}

// ---- Renewal -------------------------------------------------------------------------------

/// S5: two tabs, one of which gets the new token: neither is logged out, and the late use of the
/// old one is told.
#[tokio::test]
async fn a_renewed_token_works_in_two_tabs() {
    let (app, store, clock) = server_with(|sessions| sessions.renew_every(seconds(900)));
    let events = store.events();
    let mut first = Browser::new(&app);
    first.form("/login/alice", "").await;
    for _ in 0..2 {
        clock.advance(seconds(449));
        assert_eq!(first.get("/count").await.set_cookie(), None, "too early");
    }
    clock.advance(seconds(2));
    let mut second = first.clone();
    first.get("/static").await.assert_plain();
    let renewed = first.get("/count").await;
    assert_eq!(renewed.body, "3");
    renewed.assert_secret();
    assert_ne!(first.cookie, second.cookie);

    for tick in 0..5 {
        clock.advance(seconds(1));
        for tab in [&mut first, &mut second] {
            let answer = tab.get("/who").await;
            assert_eq!((answer.body.as_str(), answer.set_cookie()), ("alice", None), "{tick}");
        }
    }
    clock.advance(seconds(5));
    assert_eq!(second.get("/who").await.body, "nobody, Some(Ended(Rotated))");
    assert_eq!(first.get("/who").await.body, "alice");
    let mut told = std::iter::from_fn(|| events.try_recv());
    assert!(told.any(|event| matches!(event, Event::Suspicious { .. })));

    // Again after the same time, not before; a login counts from anew.
    clock.advance(seconds(870));
    assert_eq!(first.get("/who").await.set_cookie(), None);
    clock.advance(seconds(21));
    first.get("/who").await.assert_secret();
    clock.advance(seconds(600));
    first.form("/login/alice", "").await;
    clock.advance(seconds(600));
    assert_eq!(first.get("/who").await.set_cookie(), None);
    clock.advance(seconds(301));
    first.get("/who").await.assert_secret();
    store.validate();
}

/// Other activity, such as a socket's, does not keep a token from being renewed.
#[tokio::test]
async fn activity_elsewhere_does_not_put_the_renewal_off() {
    let (app, store, clock) = server_with(|sessions| sessions.renew_every(seconds(900)));
    let mut browser = Browser::new(&app);
    browser.get("/count").await;
    for _ in 0..100 {
        clock.advance(seconds(10));
        store.touch(browser.token().id()).unwrap();
    }
    browser.get("/who").await.assert_secret();
    assert_eq!(browser.get("/who").await.set_cookie(), None);
}

// ---- Bearers -------------------------------------------------------------------------------

async fn bearer(app: &Router, method: &str, path: &str, token: &str) -> Answer {
    let request = request(method, path).header(AUTHORIZATION, format!("Bearer {token}"));
    send(app, request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_bearer_gets_no_cookie() {
    let (cookies_only, ..) = server();
    let (app, store, clock) = server_with(|s| s.bearer().renew_every(seconds(60)));
    let token = store.create(Attributes::new()).unwrap();
    let text = token.expose();
    for count in ["1", "2"] {
        clock.advance(seconds(61));
        let answer = bearer(&app, "GET", "/count", &text).await;
        assert_eq!((answer.body.as_str(), answer.set_cookie()), (count, None));
        assert_eq!(answer.all(VARY), ["cookie", "authorization"]);
    }
    // The header counts alone, also where it leads nowhere.
    let mut browser = Browser::new(&app);
    browser.form("/login/alice", "").await;
    let cookie = browser.cookie.clone().unwrap();
    for (authorization, body) in [
        (format!("Bearer {text}"), "nobody, None"),
        ("bearer junk".to_owned(), "nobody, None"),
        (format!("Bearer {}", "A".repeat(43)), "nobody, Some(Unknown)"),
        ("Basic YTpi".to_owned(), "alice"),
    ] {
        let request = request("GET", "/who").header(COOKIE, &cookie);
        let request = request.header(AUTHORIZATION, &authorization).body(Body::empty()).unwrap();
        let answer = send(&app, request).await;
        assert_eq!((answer.body.as_str(), answer.set_cookie()), (body, None), "{authorization}");
    }
    // Nobody would learn the token of a session that a write began.
    let live = store.stats().live;
    for unknown in ["junk", &"A".repeat(43)] {
        let answer = bearer(&app, "GET", "/count", unknown).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.all(WWW_AUTHENTICATE), ["Bearer"]);
    }
    assert_eq!(store.stats().live, live);
    assert_eq!(bearer(&app, "POST", "/logout", &text).await.status, StatusCode::OK);
    assert_eq!(bearer(&app, "GET", "/user", &text).await.status, StatusCode::UNAUTHORIZED);
    // Unless it is asked for, the header says nothing.
    let answer = bearer(&cookies_only, "GET", "/who", &browser.token().expose()).await;
    assert_eq!((answer.body.as_str(), answer.all(VARY)), ("nobody, None", vec!["cookie"]));
}

/// An API's login answers with the token, and no cookie stands beside it.
#[tokio::test]
async fn a_token_that_is_taken_is_not_sent_as_a_cookie() {
    let (_, store, _) = server();
    let login = async |session: Session| {
        session.login("alice", "app")?;
        let token = session.take_token().map(|token| token.expose());
        assert!(session.take_token().is_none());
        Ok::<_, web::Error>(token.unwrap_or_default())
    };
    let sessions = Sessions::new(store.clone()).bearer();
    let app = app(&sessions)
        .route("/api", post(login))
        .route("/lost", post(async |s: Session| s.rotate()))
        .layer(SessionLayer::new(sessions));
    let answer = Browser::new(&app).form("/api", "").await;
    assert_eq!((answer.set_cookie(), answer.all(CACHE_CONTROL)), (None, vec!["no-store"]));
    assert_eq!(bearer(&app, "GET", "/who", &answer.body).await.body, "alice");
    let again = bearer(&app, "POST", "/api", &answer.body).await;
    assert_ne!(again.body, answer.body);
    assert_eq!(bearer(&app, "GET", "/who", &again.body).await.body, "alice");
    assert_eq!(bearer(&app, "GET", "/user", &answer.body).await.status, StatusCode::UNAUTHORIZED);
    // What is not taken is lost, and does not stay behind.
    assert_eq!(bearer(&app, "POST", "/lost", &again.body).await.status, StatusCode::OK);
    assert_eq!(store.stats().live, 0);
}

// ---- Forged requests -----------------------------------------------------------------------

fn forms(sessions: &Sessions) -> Router {
    type Fields = std::collections::HashMap<String, String>;
    let form = async |Checked(Form(fields), _): Checked<Form<Fields>>| fields["a"].clone();
    let json = async |Checked(Json(value), _): Checked<Json<i64>>| value.to_string();
    Router::new()
        .route("/token", get(async |s: Session| s.csrf_token()))
        .route("/form", post(form))
        .route("/json", post(json))
        .route("/bare", post(async |_: Checked<String>| "bare"))
        .merge(app(sessions))
        .layer(SessionLayer::new(sessions.clone()))
}

/// S32: a POST without the value that belongs to the session changes nothing.
#[tokio::test]
async fn a_form_needs_the_token_of_its_session() {
    let (_, store, _) = server();
    let app = forms(&Sessions::new(store));
    let mut browser = Browser::new(&app);
    let first = browser.get("/token").await;
    first.assert_secret();
    let second = browser.get("/token").await.body;
    assert_ne!(first.body, second, "BREACH: no two pages hold the same text");
    for text in [&first.body, &second] {
        let answer = browser.form("/form", &format!("a=1&csrf_token={text}&b=2")).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "1"));
        assert_eq!(browser.form("/bare", &format!("csrf_token={text}")).await.body, "bare");
        let in_header = request("POST", "/json").header("X-CSRF-Token", text);
        let in_header = in_header.header(CONTENT_TYPE, "application/json");
        assert_eq!(browser.send(in_header, "17").await.body, "17");
    }

    let mut other = Browser::new(&app);
    let others = other.get("/token").await.body;
    let mut changed = first.body.clone().into_bytes();
    changed[80] = if changed[80] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    for bad in [&others, &changed, "", "x", &"A".repeat(86)] {
        for path in ["/form", "/bare"] {
            let answer = browser.form(path, &format!("a=1&csrf_token={bad}")).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{bad}");
            let by_query = format!("{path}?csrf_token={}", first.body);
            assert_eq!(browser.form(&by_query, "a=1").await.status, StatusCode::FORBIDDEN);
        }
        let in_header = request("POST", "/json").header("x-csrf-token", bad);
        let in_header = in_header.header(CONTENT_TYPE, "application/json");
        assert_eq!(browser.send(in_header, "17").await.status, StatusCode::FORBIDDEN);
    }
    // A wrong header is not mended by a right field; a body of another kind is not looked into.
    let field = format!("a=1&csrf_token={}", first.body);
    let both = request("POST", "/form").header("x-csrf-token", &others);
    let both = both.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    assert_eq!(browser.send(both, &field).await.status, StatusCode::FORBIDDEN);
    let text = request("POST", "/bare").header(CONTENT_TYPE, "text/plain");
    assert_eq!(browser.send(text, &field).await.status, StatusCode::FORBIDDEN);
    let nobody = Browser::new(&app).form("/form", &field).await;
    assert_eq!(nobody.status, StatusCode::FORBIDDEN);
    let too_long = format!("a={}&{field}", "x".repeat(3 << 20));
    let too_long = browser.form("/form", &too_long).await.status;
    assert_eq!(too_long, StatusCode::PAYLOAD_TOO_LARGE);

    // A login makes the pages before it invalid, and those after it are good.
    browser.form("/login/alice", "").await;
    assert_eq!(browser.form("/form", &field).await.status, StatusCode::FORBIDDEN);
    let text = browser.get("/token").await.body;
    assert_eq!(browser.form("/form", &format!("a=2&csrf_token={text}")).await.body, "2");
}

#[tokio::test]
async fn a_page_that_is_made_at_a_renewal_holds_the_token_of_the_new_cookie() {
    let (_, store, clock) = server();
    let app = forms(&Sessions::new(store).renew_every(seconds(60)));
    let mut browser = Browser::new(&app);
    let before = browser.get("/token").await.body;
    clock.advance(seconds(61));
    // The request that renews is judged by what it brought along; so are others, for a while.
    let mut tab = browser.clone();
    let form = format!("a=1&csrf_token={before}");
    let renewing = browser.form("/form", &form).await;
    assert_eq!(renewing.status, StatusCode::OK);
    renewing.assert_secret();
    assert_eq!(tab.form("/form", &form).await.body, "1", "in the grace time");
    assert_eq!(browser.form("/form", &form).await.status, StatusCode::FORBIDDEN);

    clock.advance(seconds(61));
    let page = browser.get("/token").await;
    page.assert_secret();
    assert_eq!(browser.form("/form", &format!("a=1&csrf_token={}", page.body)).await.body, "1");
}

#[tokio::test]
async fn a_bearer_needs_no_token_against_forgery() {
    let (_, store, _) = server();
    let app = forms(&Sessions::new(store.clone()).bearer());
    let token = store.create(Attributes::new()).unwrap().expose();
    assert_eq!(bearer(&app, "POST", "/bare", &token).await.body, "bare");
    let unknown = bearer(&app, "POST", "/bare", &"A".repeat(43)).await;
    assert_eq!(unknown.status, StatusCode::FORBIDDEN);
    // A page of another site may send a form with the cookie, and nothing in this header.
    let cookie = format!("__Host-id={token}");
    assert_eq!(Browser::new(&app).with(&cookie).form("/bare", "").await.status, 403);
}

// ---- Messages, counters --------------------------------------------------------------------

fn messages(sessions: &Sessions) -> Router {
    Router::new()
        .route(
            "/add/{text}",
            get(async |s: Session, Path(text): Path<String>| s.flash("notice", &text)),
        )
        .route(
            "/bye",
            get(async |s: Session| {
                s.logout()?;
                s.flash("notice", "bye")
            }),
        )
        .route(
            "/take",
            get(async |s: Session| s.take_flash().map(|messages| format!("{messages:?}"))),
        )
        .merge(app(sessions))
        .layer(SessionLayer::new(sessions.clone()))
}

/// RA-7: a message is read exactly once.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_read_exactly_once() {
    let (_, store, _) = server();
    let app = messages(&Sessions::new(store.clone()));
    let mut browser = Browser::new(&app);
    assert_eq!(browser.get("/take").await.body, "[]");
    browser.get("/add/one").await.assert_secret();
    browser.get("/add/two").await.assert_asked();
    assert_eq!(browser.get("/count").await.body, "1");
    let both = r#"[("notice", "one"), ("notice", "two")]"#;
    assert_eq!(browser.get("/take").await.body, both);
    let version = store.get(browser.token().id()).unwrap().version();
    assert_eq!(browser.get("/take").await.body, "[]");
    assert_eq!(store.get(browser.token().id()).unwrap().version(), version, "nothing was written");
    assert_eq!(browser.get("/count").await.body, "2");

    for _ in 0..20 {
        browser.get("/add/once").await;
        let takes = (0..8).map(|_| {
            let mut browser = browser.clone();
            tokio::spawn(async move { browser.get("/take").await.body })
        });
        let taken = futures_util::future::join_all(takes.collect::<Vec<_>>()).await;
        let got = taken.into_iter().filter(|body| body.as_ref().unwrap().contains("once"));
        assert_eq!(got.count(), 1);
    }

    let old = browser.token().id();
    browser.get("/bye").await.assert_secret();
    assert_ne!(browser.token().id(), old);
    assert_eq!(browser.get("/take").await.body, r#"[("notice", "bye")]"#);
}

/// 64 requests at once that each add 1: no update is lost.
#[tokio::test(flavor = "multi_thread")]
async fn parallel_requests_lose_no_update() {
    let (app, store, _) = server();
    let mut browser = Browser::new(&app);
    browser.get("/count").await;
    for round in 1..=20 {
        let requests = (0..64).map(|_| {
            let mut browser = browser.clone();
            tokio::spawn(async move { browser.get("/count").await.body })
        });
        let answers = futures_util::future::join_all(requests.collect::<Vec<_>>()).await;
        let mut counts: Vec<i64> =
            answers.into_iter().map(|answer| answer.unwrap().parse().unwrap()).collect();
        counts.sort_unstable();
        let first = 64 * (round - 1) + 2;
        assert_eq!(counts, (first..first + 64).collect::<Vec<i64>>());
    }
    assert_eq!(store.get(browser.token().id()).unwrap().get_i64("count"), Some(1 + 20 * 64));
}

/// Tasks of one request that each write first: one session begins, and nothing is lost. The first
/// stays in its closure until the others have found no session and wait.
#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_one_request_begin_one_session() {
    let (_, store, _) = server();
    let slow = |s: &mut Attributes| {
        let count = add_one(s);
        if count == 1 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    let split = async move |session: Session| {
        let together = tokio::task::spawn_blocking(move || {
            parallel(4, |_| session.update(slow).unwrap());
            format!("{:?}", session.get_i64("count"))
        });
        together.await.unwrap()
    };
    let app =
        Router::new().route("/", get(split)).layer(SessionLayer::new(Sessions::new(store.clone())));
    for round in 1..=10 {
        assert_eq!(Browser::new(&app).get("/").await.body, "Some(4)");
        assert_eq!(store.stats().created, round);
    }
}

// ---- What may be logged --------------------------------------------------------------------

/// S24: neither a token nor a cookie nor a key is in what `Debug` shows, nor in an error.
#[tokio::test]
async fn debug_shows_no_secret() {
    let keys = Keys::new([*b"a secret of thirty-two bytes, ok"]).unwrap();
    let cookie = Cookie::builder().encoding(Encoding::Sealed(keys)).build().unwrap();
    let store = store_with(|builder| builder);
    let sessions = Sessions::new(store.clone()).cookie(cookie).bearer();
    let shown = Arc::new(std::sync::Mutex::new(String::new()));
    let note = {
        let shown = Arc::clone(&shown);
        async move |session: Session, user: Option<User>| {
            session.login("alice", "")?;
            let csrf = session.csrf_token()?;
            let error = session.check_csrf(&csrf[1..]).unwrap_err();
            *shown.lock().unwrap() = format!("{session:?} {user:?} {error:?} {error}");
            let token = session.take_token().map(|token| token.expose());
            Ok::<_, web::Error>(format!("{} {csrf}", token.unwrap_or_default()))
        }
    };
    let layer = SessionLayer::new(sessions.clone());
    let service = tower::Layer::layer(&layer, ());
    let count = Browser::new(&app(&sessions)).get("/count").await;
    let headers = format!("{:?}", count.headers);
    let app = Router::new().route("/", get(note)).layer(layer.clone());
    let answer = Browser::new(&app).get("/").await;
    let shown = format!("{} {sessions:?} {layer:?} {service:?} {headers}", shown.lock().unwrap());
    assert!(shown.contains("Session") && shown.contains("Sensitive"), "{shown}");
    let value = count.set_cookie().unwrap().strip_prefix("__Host-id=").unwrap();
    for secret in answer.body.split(' ').chain(["a secret of", value]) {
        assert!(secret.len() > 8 && !shown.contains(&secret[..8]), "{shown}");
    }
}

#[test]
fn handles_can_be_shared_between_threads() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Session>();
    shared::<User>();
    shared::<Sessions<Cart>>();
    shared::<SessionLayer<Cart>>();
}
