//! The sessions of Oxygen's documentation, and of its demo: `examples/oxygen`.

#[path = "../../../examples/oxygen/web.rs"]
mod web;

use std::sync::atomic::Ordering;

use axum::Router;
use cloakroom::cookie::{Cookie, Encoding, Keys};
use cloakroom::{Builder, ManualClock, Missing, Reason, SessionId, Store};

use super::browser::{Answer, Browser, Directory, attributes, value};
use super::page;
use crate::support::{parallel, seconds};
use web::{Context, Login};

const UNAUTHORIZED: &str = "Unauthorized - Please Login";

struct Server {
    app: Router,
    store: Store<Login>,
    context: Context,
}

fn keys() -> Keys {
    Keys::new([web::SECRET]).unwrap()
}

fn server() -> Server {
    server_on(Store::builder().in_memory().unwrap())
}

fn server_on(store: Store<Login>) -> Server {
    let context = Context::default();
    let app = web::app(store.clone(), keys(), true, context.clone()).unwrap();
    Server { app, store, context }
}

impl Server {
    fn browser(&self) -> Browser {
        Browser::new(&self.app)
    }

    async fn logged_in(&self) -> Browser {
        let mut browser = self.browser();
        let answer = browser.post("/doc/login", "").await;
        answer.assert_ok();
        assert_eq!(answer.body, "Login Successful");
        browser
    }

    /// The ids of all sessions.
    fn ids(&self) -> Vec<SessionId> {
        self.store.sessions(None, 1000).sessions.iter().map(|info| info.id).collect()
    }
}

fn assert_unauthorized(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (401, UNAUTHORIZED));
}

/// OX-1. OURS: XChaCha20-Poly1305 rather than AES-256-GCM, bound to the cookie's name, since random
/// nonces of 24 bytes do not run out; and a secret that is too short is refused, not stretched.
/// The form is the same: base64url, without padding, of nonce, ciphertext and tag.
#[tokio::test]
async fn the_cookie_is_sealed() {
    let server = server();
    let browser = server.logged_in().await;
    let text = &browser.cookies["session_id"];
    assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{text}");
    let encoding = Encoding::Sealed(keys());
    let opened = encoding.open("session_id", text).unwrap();
    assert_eq!(opened.value.len(), 32, "the token's bytes");
    assert!(encoding.open("other_name", text).is_err());
    let other = Encoding::Sealed(Keys::new(["another secret that has 32 bytes.."]).unwrap());
    assert!(other.open("session_id", text).is_err());
    assert!(Keys::new(["26 bytes are not enough..."]).is_err());
}

/// OX-2. The id is in the form of a UUID.
#[tokio::test]
async fn a_login_makes_one_session() {
    let server = server();
    server.logged_in().await;
    let [id] = server.ids()[..] else { panic!("{:?}", server.ids()) };
    assert_eq!(id.to_string().len(), 36);
    let login = server.store.get(id).unwrap().to_data().unwrap();
    assert_eq!((login.email.as_str(), login.role.as_str()), ("alice@example.com", "admin"));
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    assert!((now - 60..=now).contains(&login.login_time));
}

/// OX-3, and the checklist: HttpOnly, encrypted. Our order of the attributes is another.
#[tokio::test]
async fn the_cookie_has_the_attributes() {
    let answer = server().browser().post("/doc/login", "").await;
    let line = answer.set_cookie().unwrap();
    assert!(line.starts_with("session_id="));
    assert_eq!(attributes(line), ["httponly", "max-age=3600", "path=/", "samesite=lax", "secure"]);
}

/// OX-4. OURS: two logins have two tokens; one token sealed twice gives two texts.
#[tokio::test]
async fn the_cookie_never_shows_the_id() {
    let server = server();
    let (one, two) = (server.logged_in().await, server.logged_in().await);
    assert_ne!(one.cookies, two.cookies);
    for browser in [&one, &two] {
        for id in server.ids() {
            let text = &browser.cookies["session_id"];
            assert!(!text.contains(&id.to_string()));
        }
    }
    let cookie = Cookie::builder().encoding(Encoding::Sealed(keys())).build().unwrap();
    let token = server.store.create(Login::default()).unwrap();
    let texts = [(); 2].map(|()| cookie.set_token(&token).unwrap());
    assert_ne!(texts[0], texts[1]);
    assert!(!texts[0].contains(&token.expose()) && !texts[1].contains(&token.expose()));
}

/// OX-5, OX-6
#[tokio::test]
async fn the_dashboard_is_for_those_who_logged_in() {
    let server = server();
    assert_unauthorized(&server.browser().get("/doc/dashboard").await);
    let answer = server.logged_in().await.get("/doc/dashboard").await;
    answer.assert_ok();
    assert_eq!(answer.body, "Welcome back, alice@example.com!");
}

/// OX-7: a cookie of our making, whose session another process had.
#[tokio::test]
async fn a_valid_cookie_without_a_session_is_refused() {
    let (before, after) = (server(), server());
    let browser = before.logged_in().await;
    let answer = Browser::of(&after.app, &browser.cookies).get("/doc/dashboard").await;
    assert_unauthorized(&answer);
    assert_eq!(after.context.bad_cookies.load(Ordering::Relaxed), 0, "it is no bad cookie");
}

/// OX-8. OURS: the same answer as without a cookie, never a 500, and it is counted.
#[tokio::test]
async fn a_tampered_cookie_is_refused_and_counted() {
    let server = server();
    let good = server.logged_in().await.cookies["session_id"].clone();
    let mut bad = vec![
        "too-short".to_owned(),
        "not*base64".to_owned(),
        String::new(),
        good[1..].to_owned(),
        format!("{good}A"),
    ];
    for index in 0..good.len() {
        let mut text = good.clone().into_bytes();
        text[index] = if text[index] == b'A' { b'B' } else { b'A' };
        bad.push(String::from_utf8(text).unwrap());
    }
    for (index, text) in bad.iter().enumerate() {
        let mut browser = Browser::with(&server.app, "session_id", text);
        assert_unauthorized(&browser.get("/doc/dashboard").await);
        assert_eq!(server.context.bad_cookies.load(Ordering::Relaxed), index as u64 + 1, "{text}");
        assert!(browser.cookies.is_empty(), "it is removed");
    }
    let mut browser = Browser::with(&server.app, "session_id", &bad[0]);
    let answer = browser.post("/doc/logout", "").await;
    assert_eq!(answer.body, "Logged Out");
    Browser::with(&server.app, "session_id", &good).get("/doc/dashboard").await.assert_ok();
}

/// OX-9, OX-10, and the checklist: server-side clean-up. OURS: the removed cookie is empty.
#[tokio::test]
async fn logout_ends_the_session_and_the_cookie() {
    let server = server();
    let mut browser = server.logged_in().await;
    let [id] = server.ids()[..] else { panic!("{:?}", server.ids()) };
    let old = browser.clone();
    let answer = browser.post("/doc/logout", "").await;
    answer.assert_ok();
    assert_eq!(answer.body, "Logged Out");
    assert_eq!(server.store.get(id).unwrap_err(), Missing::Ended(Reason::LoggedOut));
    let line = answer.set_cookie().unwrap();
    assert_eq!(value(line), "");
    for attribute in ["max-age=0", "expires=thu, 01 jan 1970 00:00:00 gmt"] {
        assert!(attributes(line).contains(&attribute.to_owned()), "{line}");
    }
    assert_unauthorized(&old.clone().get("/doc/dashboard").await);
    assert_eq!(server.ids(), []);
}

/// OX-11
#[tokio::test]
async fn logout_without_a_cookie_changes_nothing() {
    let server = server();
    let mut other = server.logged_in().await;
    let answer = server.browser().post("/doc/logout", "").await;
    answer.assert_ok();
    assert_eq!((answer.body.as_str(), answer.set_cookie()), ("Logged Out", None));
    assert_eq!(server.store.stats().live, 1);
    other.get("/doc/dashboard").await.assert_ok();
}

/// OX-12: in memory, a restart ends all. OURS: in a directory, OX-5 holds after it.
#[cfg(unix)]
#[tokio::test]
async fn a_restart_keeps_what_is_on_disk() {
    let directory = Directory::new("oxygen-restart");
    let open = || server_on(Store::builder().open(directory.path()).unwrap());
    let kept = {
        let server = open();
        let browser = server.logged_in().await;
        let kept = browser.cookies.clone();
        drop(browser);
        let Server { app, store, .. } = server;
        drop(app);
        store.close().unwrap();
        kept
    };
    let after = open();
    let mut browser = Browser::of(&after.app, &kept);
    let answer = browser.get("/doc/dashboard").await;
    assert_eq!(answer.body, "Welcome back, alice@example.com!");
    let in_memory = server();
    let mut browser = Browser::of(&in_memory.app, &kept);
    assert_unauthorized(&browser.get("/doc/dashboard").await);
}

/// OX-13, and the checklist: two servers in one process share nothing, since nothing is global.
#[tokio::test]
async fn the_context_is_handed_down() {
    let (one, two) = (server(), server());
    let browser = one.logged_in().await;
    Browser::of(&one.app, &browser.cookies).get("/doc/dashboard").await.assert_ok();
    assert_unauthorized(&Browser::of(&two.app, &browser.cookies).get("/doc/dashboard").await);
    assert_eq!((one.store.stats().live, two.store.stats().live), (1, 0));
}

/// OX-14: the same routes on another back end, unchanged. Redis is not there yet.
#[tokio::test]
async fn back_ends_are_swapped_without_a_change_of_routes() {
    let directory = Directory::new("oxygen-swap");
    let mut stores = vec![Store::builder().in_memory().unwrap()];
    if cfg!(unix) {
        stores.push(Store::builder().open(directory.path()).unwrap());
    }
    for store in stores {
        let server = server_on(store);
        let mut browser = server.logged_in().await;
        let old = browser.clone();
        browser.get("/doc/dashboard").await.assert_has("Welcome back, alice@example.com!");
        browser.post("/doc/logout", "").await.assert_ok();
        assert_unauthorized(&old.clone().get("/doc/dashboard").await);
    }
}

/// OX-3 again, on the server's side: the hour of the cookie is no promise; the store has limits of
/// its own, and a session that is over is neither read nor counted.
#[tokio::test]
async fn a_session_that_is_over_is_not_counted() {
    let clock = ManualClock::new();
    let builder: Builder<Login> = Store::builder().clock(&clock).idle_timeout(web::MAX_AGE);
    let server = server_on(builder.in_memory().unwrap());
    let mut browser = server.logged_in().await;
    clock.advance(web::MAX_AGE + seconds(1));
    assert_unauthorized(&browser.get("/doc/dashboard").await);
    server.store.expire_due();
    assert_eq!((server.store.stats().live, server.ids().len()), (0, 0));
}

/// A thousand logins at once make a thousand sessions (OX-2).
#[test]
fn a_thousand_concurrent_logins() {
    let server = server();
    parallel(4, |_| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for _ in 0..250 {
                server.logged_in().await;
            }
        });
    });
    assert_eq!(server.store.stats().live, 1000);
}

/// The demo program's login, wrong password, greeting, logout (OX-5, OX-6, OX-9).
#[tokio::test]
async fn the_demo_works() {
    let server = server();
    let mut browser = server.browser();
    browser.get("/").await.assert_has(r#"<form method="post" action="/login">"#);
    let away = browser.get("/dashboard").await;
    assert_eq!((away.status.as_u16(), away.location()), (303, Some("/")));
    let wrong = browser.post("/login", "user=admin&pass=12345").await;
    wrong.assert_has("Invalid username or password!");
    assert_eq!(wrong.set_cookie(), None);
    let right = browser.post("/login", "user=admin&pass=1234").await;
    assert_eq!((right.status.as_u16(), right.location()), (303, Some("/dashboard")));
    browser.get("/dashboard").await.assert_has("Welcome, admin!");
    assert_eq!(browser.get("/").await.location(), Some("/dashboard"));
    let old = browser.clone();
    assert_eq!(browser.post("/logout", "").await.location(), Some("/"));
    assert!(browser.cookies.is_empty());
    assert_eq!(old.clone().get("/dashboard").await.location(), Some("/"));
}
