//! The login app of the Flask notes, `examples/flask`.

#[path = "../../../examples/flask/web.rs"]
mod web;

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use cloakroom::{Attributes, Builder, ManualClock, Missing, Reason, Store, Token};

use super::browser::{Browser, Directory, attributes, value};
use super::page;
use crate::support::seconds;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn server() -> (Router, Store) {
    server_of(Store::builder(), None)
}

fn server_of(builder: Builder<Attributes>, directory: Option<&Path>) -> (Router, Store) {
    let store = web::open(builder, directory).unwrap();
    (web::app(store.clone(), false).unwrap(), store)
}

async fn logged_in(app: &Router, name: &str) -> Browser {
    let mut browser = Browser::new(app);
    browser.post("/login", &format!("name={name}")).await.assert_found("/");
    browser
}

fn token(browser: &Browser) -> Token {
    browser.cookies["session"].parse().unwrap()
}

/// FL-1, FL-13. OURS: the directory holds the files of one log rather than one file per session
/// and a counter file, so nobody learns the number of sessions by counting files.
#[cfg(unix)]
#[tokio::test]
async fn the_directory_appears_and_is_private() {
    use std::os::unix::fs::PermissionsExt as _;

    assert_eq!(web::DIRECTORY, "flask_session");
    let working = Directory::new("flask-files");
    let directory = working.path().join(web::DIRECTORY);
    assert!(!directory.exists());
    let (app, store) = server_of(Store::builder(), Some(&directory));
    assert!(directory.is_dir());
    let browser = logged_in(&app, "David").await;
    let secret = browser.cookies["session"].clone();
    let id = token(&browser).id();
    store.flush().wait().unwrap();

    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    let files: Vec<PathBuf> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(!name.contains(&id.to_string()) && !name.contains("2029240f6d11"), "{name}");
        let bytes = std::fs::read(&file).unwrap();
        let holds_secret = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!holds_secret, "{name} holds the cookie's value");
    }
}

/// FL-2: the redirect, no cookie, `Vary: Cookie` as the session was read.
#[tokio::test]
async fn a_stranger_is_sent_to_the_login() {
    let (app, store) = server();
    let answer = Browser::new(&app).get("/").await;
    answer.assert_found("/login");
    assert_eq!(answer.set_cookie(), None);
    assert_eq!(answer.all("vary"), ["cookie"]);
    assert_eq!(store.stats().live, 0);
}

/// FL-3
#[tokio::test]
async fn the_form_is_the_one_of_the_notes() {
    let (app, _) = server();
    let answer = Browser::new(&app).get("/login").await;
    answer.assert_ok();
    for part in [
        r#"<form action="/login" method="post">"#,
        r#"<input autocomplete="off" autofocus name="name" placeholder="Name" type="text">"#,
        r#"<input type="submit" value="Log In">"#,
    ] {
        answer.assert_has(part);
    }
}

/// FL-4. OURS: `SameSite=Lax` is there, and `Cache-Control: no-store`.
#[tokio::test]
async fn a_login_sets_a_browser_cookie() {
    let (app, _) = server();
    let answer = Browser::new(&app).post("/login", "name=David").await;
    answer.assert_found("/");
    let line = answer.set_cookie().unwrap();
    assert!(line.starts_with("session="));
    assert_eq!(value(line).len(), 43);
    let is_url_safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    assert!(value(line).chars().all(is_url_safe), "{line}");
    // No Expires, no Max-Age, no Secure.
    assert_eq!(attributes(line), ["httponly", "path=/", "samesite=lax"]);
    assert_eq!(
        (answer.all("vary"), answer.all("cache-control")),
        (vec!["cookie"], vec!["no-store"])
    );
}

/// FL-5, FL-6, and what the intro says: the server sets a cookie, the browser sends it, the server
/// has the same data.
#[tokio::test]
async fn a_reload_and_a_second_tab_need_no_login() {
    let (app, store) = server();
    let mut browser = logged_in(&app, "David").await;
    let mut second_tab = browser.clone();
    for tab in [&mut browser, &mut second_tab] {
        for _ in 0..2 {
            let answer = tab.get("/").await;
            answer.assert_ok();
            answer.assert_has(r#"You are logged in as David. <a href="/logout">Log out</a>"#);
            assert_eq!(answer.set_cookie(), None);
        }
    }
    assert_eq!(store.stats().live, 1);
}

/// FL-7
#[tokio::test]
async fn two_users_never_see_each_other() {
    let (app, store) = server();
    let (mut david, mut emma) = (logged_in(&app, "David").await, logged_in(&app, "Emma").await);
    for _ in 0..2 {
        let (his, hers) = (david.get("/").await, emma.get("/").await);
        his.assert_has("logged in as David");
        his.assert_lacks("Emma");
        hers.assert_has("logged in as Emma");
        hers.assert_lacks("David");
    }
    assert_ne!(david.cookies, emma.cookies);
    assert_eq!(store.stats().live, 2);
    let mut other = logged_in(&app, "%3Cb%3E").await;
    other.get("/").await.assert_has("logged in as &lt;b&gt;.");
}

/// FL-8, with the template alone.
#[tokio::test]
async fn logout_leads_to_the_login() {
    let (app, _) = server();
    let mut browser = logged_in(&app, "David").await;
    browser.get("/logout").await.assert_found("/");
    browser.get("/").await.assert_found("/login");
    let template = web::index_page(None).0;
    assert!(template.contains(r#"You are not logged in. <a href="/login">Log in</a>"#));
}

/// FL-9: the record stays, with its name gone and the same cookie. OURS: `destroy` removes all.
#[tokio::test]
async fn logout_keeps_the_record_and_destroy_removes_it() {
    let (app, store) = server();
    let mut browser = logged_in(&app, "David").await;
    let id = token(&browser).id();
    let answer = browser.get("/logout").await;
    assert_eq!(answer.set_cookie(), None);
    let name = store.read(id, |s| s.get("name").map(|name| name.to_value()));
    assert_eq!(name, Ok(Some(cloakroom::Value::Null)));
    assert_eq!(token(&browser).id(), id);

    let mut browser = logged_in(&app, "David").await;
    let id = token(&browser).id();
    let old = browser.clone();
    let answer = browser.post("/destroy", "").await;
    answer.assert_found("/");
    assert_eq!(value(answer.set_cookie().unwrap()), "");
    assert!(browser.cookies.is_empty());
    assert_eq!(store.read(id, |_| ()), Err(Missing::Ended(Reason::LoggedOut)));
    old.clone().get("/").await.assert_found("/login");
}

/// FL-10: an empty name and none are stored as they are, and count as not logged in.
#[tokio::test]
async fn no_name_is_no_login() {
    let (app, store) = server();
    for (form, stored) in [("name=", "".into()), ("", cloakroom::Value::Null)] {
        let mut browser = Browser::new(&app);
        browser.post("/login", form).await.assert_found("/");
        browser.get("/").await.assert_found("/login");
        let name = store.read(token(&browser).id(), |s| s.get("name").map(|name| name.to_value()));
        assert_eq!(name, Ok(Some(stored)));
    }
}

/// FL-11
#[tokio::test]
async fn other_methods_are_refused() {
    let (app, _) = server();
    assert_eq!(Browser::new(&app).request("PUT", "/login").await.status.as_u16(), 405);
}

/// FL-12: an id that the store does not know is never adopted.
#[tokio::test]
async fn a_forged_id_gets_a_fresh_one() {
    let (app, _) = server();
    for forged in ["A".repeat(43), "nonsense".to_owned(), "../../etc/passwd".to_owned()] {
        let mut browser = Browser::with(&app, "session", &forged);
        browser.get("/").await.assert_found("/login");
        browser.post("/login", "name=David").await.assert_found("/");
        assert_ne!(browser.cookies["session"], forged);
        browser.get("/").await.assert_has("logged in as David");
        Browser::with(&app, "session", &forged).get("/").await.assert_found("/login");
    }
}

/// FL-14: 31 days on the server, though the cookie names no time; each request starts them anew.
#[tokio::test]
async fn the_server_forgets_after_31_days_without_a_visit() {
    let clock = ManualClock::new();
    let (app, _) = server_of(Store::builder().clock(&clock), None);
    let mut browser = logged_in(&app, "David").await;
    for _ in 0..3 {
        clock.advance(30 * DAY);
        browser.get("/").await.assert_has("logged in as David");
    }
    clock.advance(31 * DAY + seconds(1));
    browser.get("/").await.assert_found("/login");
}

/// FL-15
#[cfg(unix)]
#[tokio::test]
async fn a_restart_keeps_the_login() {
    let working = Directory::new("flask-restart");
    let directory = working.path().join(web::DIRECTORY);
    let (app, store) = server_of(Store::builder(), Some(&directory));
    let browser = logged_in(&app, "David").await;
    let mut ended = logged_in(&app, "Emma").await;
    let old = ended.clone();
    ended.post("/destroy", "").await.assert_found("/");
    // Requests of the old server hold its store.
    let kept = (browser.cookies.clone(), old.cookies.clone());
    drop((app, browser, ended, old));
    store.close().unwrap();

    let (app, _store) = server_of(Store::builder(), Some(&directory));
    let mut browser = Browser::of(&app, &kept.0);
    browser.get("/").await.assert_has("logged in as David");
    let mut ended = Browser::of(&app, &kept.1);
    ended.get("/").await.assert_found("/login");
}

/// FL-16: no session is dropped because there are more than 500.
#[tokio::test]
async fn six_hundred_sessions_all_stay() {
    let (app, _) = server();
    let mut browsers = Vec::new();
    for index in 0..600 {
        browsers.push(logged_in(&app, &format!("user{index}")).await);
    }
    for (index, browser) in browsers.iter_mut().enumerate() {
        browser.get("/").await.assert_has(&format!("logged in as user{index}."));
    }
}

/// FL-17. OURS: each login gives another id, and the one before is dead.
#[tokio::test]
async fn a_login_renews_the_id() {
    let (app, store) = server();
    let mut browser = Browser::new(&app);
    browser.post("/login", "name=").await;
    let planted = browser.clone();
    for name in ["David", "David", "Emma"] {
        let before = browser.clone();
        browser.post("/login", &format!("name={name}")).await.assert_found("/");
        assert_ne!(browser.cookies, before.cookies);
        before.clone().get("/").await.assert_found("/login");
        browser.get("/").await.assert_has(&format!("logged in as {name}."));
    }
    planted.clone().get("/").await.assert_found("/login");
    assert_eq!(store.stats().live, 1);
}
