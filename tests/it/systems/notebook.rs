//! The cells of the session notebook, and the login that the second one asks: `examples/notebook`.

#[path = "../../../examples/notebook/cells.rs"]
mod cells;
#[path = "../../../examples/notebook/jwt.rs"]
mod jwt;
#[path = "../../../examples/notebook/sealed.rs"]
mod sealed;
#[path = "../../../examples/notebook/web.rs"]
mod web;

use std::io;

use axum::Router;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cloakroom::{Missing, Reason, SessionId, Store, Value};
use percent_encoding::percent_decode_str;

use super::browser::{Answer, Browser, value};
use super::page;
use cells::Cell;
use jwt::{SECRET, Verified};
use web::{PLAIN, SESSION, TOKEN_AGE_MAX_SECS};

/// The token that the notebook shows.
const NOTEBOOK: &str = concat!(
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJkN2RkZWRhNy0yOTI3LTQ4N2YtYjk5Ni1hN2ZhNjU4MmQzYTIiLCJuYW1lIj",
    "oiYWxpY2UiLCJpYXQiOjE3NTE4OTc1NDN9.SW1XSi4LSEWZSvCqta27EF8IzAnF5FttF4NfomAoOWo"
);
const NOTEBOOK_PAYLOAD: &str =
    r#"{"sub":"d7ddeda7-2927-487f-b996-a7fa6582d3a2","name":"alice","iat":1751897543}"#;
/// When it was made.
const NOTEBOOK_TIME: i64 = 1_751_897_543;

// ---- The store cell ------------------------------------------------------------------------

fn cell() -> Cell<Vec<u8>> {
    Cell { store: Store::builder().in_memory().unwrap(), out: Vec::new() }
}

impl Cell<Vec<u8>> {
    /// What was printed since the last call.
    fn printed(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.out)).unwrap()
    }

    fn created(&mut self) -> SessionId {
        let id = self.create_session().unwrap();
        self.printed();
        id
    }
}

fn unknown() -> SessionId {
    "550e8400-e29b-41d4-a716-446655440000".parse().unwrap()
}

/// RB-1. OURS: the id is the digest of a token of 256 bits, in the form of a UUID of no version;
/// it opens nothing, the token does.
#[test]
fn a_new_session_has_an_id_like_a_uuid() {
    let mut cell = cell();
    let id = cell.create_session().unwrap();
    let text = id.to_string();
    assert_eq!(cell.printed(), format!("Session created: {text}\n"));
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    assert_eq!(groups, [8, 4, 4, 4, 12]);
    assert!(text.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    assert_eq!(cell.store.read(id, |s| s.len()), Ok(0));
}

/// RB-2
#[test]
fn a_million_ids_differ() {
    let store = Store::builder().in_memory().unwrap();
    let mut cell = Cell { store, out: io::sink() };
    let mut ids: Vec<SessionId> = (0..1_000_000).map(|_| cell.create_session().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), cell.store.stats().live), (1_000_000, 1_000_000));
}

/// RB-3, RB-4, RB-6: text and truth are stored as they are; a key that is missing is no error.
#[test]
fn data_is_set_and_read() {
    let mut cell = cell();
    let id = cell.created();
    cell.set_session_data(id, "username", "alice").unwrap();
    assert_eq!(cell.printed(), format!("Set username = alice in session {id}\n"));
    cell.set_session_data(id, "logged_in", true).unwrap();
    assert_eq!(cell.printed(), format!("Set logged_in = true in session {id}\n"));
    assert_eq!(cell.get_session_data(id, "username").unwrap(), Some("alice".into()));
    assert_eq!(cell.get_session_data(id, "logged_in").unwrap(), Some(Value::from(true)));
    assert_eq!(cell.get_session_data(id, "missing").unwrap(), None);
    assert_eq!(cell.printed(), "");
}

/// RB-5, RB-7, RB-9: of an id that is not known only this is printed, and nothing is created. OURS:
/// the library's calls return it as a value.
#[test]
fn an_unknown_id_is_told() {
    let mut cell = cell();
    cell.set_session_data(unknown(), "username", "alice").unwrap();
    assert_eq!(cell.printed(), "Session ID not found!\n");
    assert_eq!(cell.get_session_data(unknown(), "username").unwrap(), None);
    assert_eq!(cell.printed(), "Session ID not found!\n");
    cell.print_session(unknown()).unwrap();
    assert_eq!(cell.printed(), "Session ID not found!\n");
    assert_eq!(cell.store.stats().live, 0);
    assert_eq!(cell.store.read(unknown(), |_| ()), Err(Missing::Unknown));
}

/// RB-8, RB-11: in the order in which the keys came; one that is set again keeps its place.
#[test]
fn a_session_is_printed_in_order() {
    let mut cell = cell();
    let id = cell.created();
    cell.set_session_data(id, "username", "alice").unwrap();
    cell.set_session_data(id, "logged_in", true).unwrap();
    cell.printed();
    cell.print_session(id).unwrap();
    let expected = format!("Data for session {id}:\n  username: alice\n  logged_in: true\n");
    assert_eq!(cell.printed(), expected);
    cell.set_session_data(id, "username", "bob").unwrap();
    cell.printed();
    cell.print_session(id).unwrap();
    assert_eq!(cell.printed(), expected.replace("alice", "bob"));
}

/// RB-10
#[test]
fn the_example_prints_what_the_notebook_prints() {
    let mut cell = cell();
    cell.example_usage().unwrap();
    let printed = cell.printed();
    let id = printed.lines().next().unwrap().strip_prefix("Session created: ").unwrap();
    let expected = [
        format!("Session created: {id}"),
        format!("Set username = alice in session {id}"),
        format!("Set logged_in = true in session {id}"),
        "Username from session: alice".to_owned(),
        format!("Data for session {id}:"),
        "  username: alice".to_owned(),
        "  logged_in: true".to_owned(),
    ];
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

// ---- The JWT -------------------------------------------------------------------------------

fn decoded(part: &str) -> String {
    String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// RB-20
#[test]
fn the_token_is_hs256_with_its_keys_in_order() {
    assert_eq!(SECRET, "my_super_secret_key");
    let sub = web::random_uuid();
    let token = jwt::encode(sub, "alice", 1_751_897_543, SECRET).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!(decoded(parts[0]), r#"{"alg":"HS256"}"#);
    let payload = format!(r#"{{"sub":"{sub}","name":"alice","iat":1751897543}}"#);
    assert_eq!(decoded(parts[1]), payload);
    assert_eq!((parts.len(), sub.get_version_num()), (3, 4));
}

/// RB-21: the notebook's own token, read and made again.
#[test]
fn the_notebooks_token_verifies() {
    let sub = "d7ddeda7-2927-487f-b996-a7fa6582d3a2";
    let expected =
        Verified { sub: sub.to_owned(), name: "alice".to_owned(), issued: Some(NOTEBOOK_TIME) };
    assert_eq!(jwt::verify(NOTEBOOK, SECRET), Some(expected));
    assert_eq!(decoded(NOTEBOOK.split('.').nth(1).unwrap()), NOTEBOOK_PAYLOAD);
    let again = jwt::encode(sub.parse().unwrap(), "alice", NOTEBOOK_TIME, SECRET);
    assert_eq!(again.as_deref(), Some(NOTEBOOK));
}

// ---- The login -----------------------------------------------------------------------------

struct Server {
    app: Router,
    store: Store,
}

fn server_at(now: fn() -> i64, is_secure: bool) -> Server {
    let store = Store::builder().in_memory().unwrap();
    Server { app: web::app(store.clone(), is_secure, now).unwrap(), store }
}

/// A server in the minute in which the notebook was run.
fn server() -> Server {
    server_at(|| NOTEBOOK_TIME + 7, false)
}

impl Server {
    async fn login(&self, browser: &mut Browser, username: &str, token: &str) -> Answer {
        browser.post("/login", &format!("username={username}&token={token}")).await
    }

    async fn logged_in(&self) -> (Browser, Answer) {
        let mut browser = Browser::new(&self.app);
        let answer = self.login(&mut browser, "alice", NOTEBOOK).await;
        assert_eq!(answer.status.as_u16(), 303, "{}", answer.body);
        (browser, answer)
    }
}

/// RB-22: any changed character, `alg: none`, another secret. And another user's name, and a token
/// that is too old.
#[tokio::test]
async fn a_bad_token_logs_nobody_in() {
    let server = server();
    let payload = NOTEBOOK.split('.').nth(1).unwrap();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let hs512 = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS512"}"#);
    let signature = NOTEBOOK.split('.').nth(2).unwrap();
    let other_secret = jwt::encode(web::random_uuid(), "alice", NOTEBOOK_TIME, "another").unwrap();
    let mut bad = vec![
        format!("{none}.{payload}."),
        format!("{none}.{payload}.{signature}"),
        format!("{hs512}.{payload}.{signature}"),
        other_secret,
        String::new(),
        "a.b.c".to_owned(),
    ];
    for index in 0..NOTEBOOK.len() {
        let mut text = NOTEBOOK.as_bytes().to_vec();
        text[index] = if text[index] == b'A' { b'B' } else { b'A' };
        bad.push(String::from_utf8(text).unwrap());
    }
    for token in &bad {
        let answer = server.login(&mut Browser::new(&server.app), "alice", token).await;
        assert_eq!(answer.status.as_u16(), 401, "{token}");
        assert!(answer.set_cookies().is_empty());
    }
    let answer = server.login(&mut Browser::new(&server.app), "bob", NOTEBOOK).await;
    assert_eq!(answer.status.as_u16(), 401);
    assert_eq!(server.store.stats().live, 0);
}

/// RB-21, RB-22. OURS: a token that says only when it was issued is good for ten minutes.
#[tokio::test]
async fn an_old_token_logs_nobody_in() {
    assert_eq!(TOKEN_AGE_MAX_SECS, 600);
    let cases: [(fn() -> i64, u16); 5] = [
        (|| NOTEBOOK_TIME - 61, 401),
        (|| NOTEBOOK_TIME - 60, 303),
        (|| NOTEBOOK_TIME + 600, 303),
        (|| NOTEBOOK_TIME + 601, 401),
        (web::now, 401),
    ];
    for (now, status) in cases {
        let server = server_at(now, false);
        let answer = server.login(&mut Browser::new(&server.app), "alice", NOTEBOOK).await;
        assert_eq!(
            (answer.status.as_u16(), answer.set_cookies().is_empty()),
            (status, status == 401)
        );
    }
}

/// RB-23, RB-26: the two lines, to the letter, but for the second value. OURS: with Secure where
/// the server is not this machine's own.
#[tokio::test]
async fn a_login_sets_two_cookies() {
    let (_, answer) = server().logged_in().await;
    let [plain, session] = answer.set_cookies()[..] else { panic!("{:?}", answer.set_cookies()) };
    let attributes = "; path=/; httponly; samesite=lax";
    assert_eq!(plain, format!("kc_access_token_plain={NOTEBOOK}{attributes}"));
    let sealed = value(session);
    assert_eq!(session, format!("_session_demo_app_session={sealed}{attributes}"));
    assert!(sealed.bytes().all(|b| b.is_ascii_alphanumeric() || b"%-_.".contains(&b)), "{sealed}");

    let (_, answer) = server_at(|| NOTEBOOK_TIME, true).logged_in().await;
    for line in answer.set_cookies() {
        assert!(line.ends_with("; path=/; secure; httponly; samesite=lax"), "{line}");
    }
}

/// RB-24. OURS: what is sealed is the session's token, and no data.
#[tokio::test]
async fn the_second_cookie_is_opaque() {
    let server = server();
    let (mut browser, _) = server.logged_in().await;
    browser.get("/").await.assert_has("You are logged in as <b>alice</b>");
    let sealed = browser.cookies[SESSION].clone();
    let text = percent_decode_str(&sealed).decode_utf8().unwrap();
    let parts: Vec<usize> =
        text.split("--").map(|part| STANDARD.decode(part).unwrap().len()).collect();
    assert_eq!(parts, [43, 12, 16], "data, iv, tag");
    assert!(!sealed.contains("alice"));

    for index in 0..sealed.len() {
        let mut text = sealed.clone().into_bytes();
        text[index] = if text[index] == b'A' { b'B' } else { b'A' };
        let mut changed = browser.clone();
        changed.cookies.insert(SESSION.to_owned(), String::from_utf8(text).unwrap());
        changed.get("/").await.assert_lacks("You are logged in");
    }
    // The same bytes in other parts are another text, and as bad.
    let [mut data, iv, mut tag] = <[Vec<u8>; 3]>::try_from(
        text.split("--").map(|part| STANDARD.decode(part).unwrap()).collect::<Vec<_>>(),
    )
    .unwrap();
    data.push(tag.remove(0));
    let moved = [data, iv, tag].map(|part| STANDARD.encode(part).replace('+', "%2B")).join("--");
    Browser::with(&server.app, SESSION, &moved).get("/").await.assert_lacks("You are logged in");
    // The first cookie alone is no session, nor is another server's.
    let mut only_plain = browser.clone();
    only_plain.cookies.remove(SESSION);
    only_plain.get("/").await.assert_lacks("You are logged in");
    let other = self::server();
    Browser::of(&other.app, &browser.cookies).get("/").await.assert_lacks("You are logged in");
    browser.get("/").await.assert_has("You are logged in as <b>alice</b>");
}

/// RB-25
#[tokio::test]
async fn the_second_cell_prints_what_the_notebook_prints() {
    let server = server_at(web::now, false);
    let mut out = Vec::new();
    web::login_cell(server.app.clone(), &mut out).await.unwrap();
    let printed = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = printed.lines().collect();
    let token = lines[1];
    assert_eq!(jwt::verify(token, SECRET).unwrap().name, "alice");
    let expected = [
        "Generated JWT (signed with secret):",
        token,
        "-----",
        "\u{27a1}\u{fe0f}  Enter this secret in jwt.io to verify: my_super_secret_key",
        "-----",
        "Set-Cookie header(s):",
        &format!("{PLAIN}={token}; path=/; httponly; samesite=lax"),
    ];
    assert_eq!(lines[..7], expected);
    assert!(lines[7].starts_with(&format!("{SESSION}=")) && lines.len() == 8, "{printed}");
}

/// RB-24, after the logout: the cookies go, and the old ones open nothing.
#[tokio::test]
async fn logout_ends_the_session() {
    let server = server();
    let (mut browser, _) = server.logged_in().await;
    let old = browser.clone();
    let id = server.store.owner_sessions("alice")[0].id;
    browser.post("/logout", "").await;
    assert!(browser.cookies.is_empty());
    assert_eq!(server.store.get(id).unwrap_err(), Missing::Ended(Reason::LoggedOut));
    old.clone().get("/").await.assert_lacks("You are logged in");

    // Two logins of one browser are one session, and the store is full of nobody.
    let (mut browser, _) = server.logged_in().await;
    server.login(&mut browser, "alice", NOTEBOOK).await;
    assert_eq!(server.store.owner_count("alice"), 1);
}
