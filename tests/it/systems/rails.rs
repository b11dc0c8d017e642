//! The sessions of the Rails notes: `examples/rails`, with the data on the server and in a cookie.

#[path = "../../../examples/rails/hash.rs"]
mod hash;
#[path = "../../../examples/rails/travelling.rs"]
mod travelling;
#[path = "../../../examples/rails/web.rs"]
mod web;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use cloakroom::cookie::{Encoding, Keys};
use cloakroom::{Attributes, Builder, ManualClock, Missing, SessionId, Store, Token};
use tokio::sync::Notify;

use super::browser::{Answer, Browser, Directory, attributes};
use super::page;
use crate::support::seconds;
use hash::Hash;
use travelling::Problem;
use web::{Config, DATA_KEY, EXPIRE_AFTER, KEY, Storage};

struct Server {
    app: Router,
    store: Store,
    encoding: Encoding,
    _directory: Option<Directory>,
}

fn server(storage: Storage) -> Server {
    server_of(storage, Store::builder(), Encoding::Sealed(Keys::generate().unwrap()))
}

fn server_of(storage: Storage, builder: Builder<Attributes>, encoding: Encoding) -> Server {
    let config = Config { storage, encoding: encoding.clone(), is_secure: true };
    let (app, store) = web::app(builder, &config).unwrap();
    Server { app, store, encoding, _directory: None }
}

/// One server for each choice of storage.
fn servers(name: &str) -> Vec<(Server, ManualClock)> {
    let directory = Directory::new(&format!("rails-{name}"));
    let mut storages = vec![Storage::Memory, Storage::Cookie];
    if cfg!(unix) {
        storages.push(Storage::Directory(directory.path().join("sessions")));
    }
    let mut servers: Vec<(Server, ManualClock)> = Vec::new();
    for storage in storages {
        let clock = ManualClock::new();
        let encoding = Encoding::Sealed(Keys::generate().unwrap());
        servers.push((server_of(storage, Store::builder().clock(&clock), encoding), clock));
    }
    servers.last_mut().unwrap().0._directory = Some(directory);
    servers
}

impl Server {
    fn browser(&self) -> Browser {
        Browser::new(&self.app)
    }

    /// The id of the session that a browser's cookie leads to.
    fn id(&self, browser: &Browser) -> SessionId {
        let opened = self.encoding.open(KEY, &browser.cookies[KEY]).unwrap();
        assert_eq!(opened.value.len(), 32);
        let [info] = &web::every(&self.store)[..] else { panic!("several sessions") };
        info.id
    }
}

async fn see_credits(browser: &mut Browser) -> i64 {
    let answer = browser.get("/").await;
    answer.assert_ok();
    let (_, rest) = answer.body.split_once("Credits: <b>").unwrap();
    rest.split('<').next().unwrap().parse().unwrap()
}

async fn go(browser: &mut Browser, path: &str, form: &str) -> Answer {
    let answer = browser.post(path, form).await;
    assert_eq!((answer.status.as_u16(), answer.location()), (303, Some("/")), "{}", answer.body);
    answer
}

/// RA-1: one handle, hash-like, the same in the controller, the view and its helper.
#[tokio::test]
async fn the_session_is_a_hash_for_all() {
    for (server, _) in servers("hash") {
        let mut browser = server.browser();
        go(&mut browser, "/note", "note=a").await;
        go(&mut browser, "/credits", "credits=7").await;
        go(&mut browser, "/note", "note=b").await;
        let answer = browser.get("/").await;
        answer.assert_has("Credits: <b>7</b>");
        // In the order in which they came.
        answer.assert_has("<td>note, credits<");
    }
}

/// RA-2
#[tokio::test]
async fn a_page_that_does_not_ask_leaves_no_trace() {
    for (server, clock) in servers("lazy") {
        let answer = server.browser().get("/about").await;
        answer.assert_ok();
        assert_eq!((answer.set_cookie(), answer.all("vary").len()), (None, 0));
        assert_eq!(server.store.stats().live, 0);

        let mut browser = server.browser();
        go(&mut browser, "/credits", "").await;
        let id = server.id(&browser);
        let before = server.store.info(id).unwrap();
        clock.advance(seconds(60));
        assert_eq!(browser.get("/about").await.set_cookie(), None);
        let after = server.store.info(id).unwrap();
        assert_eq!((after.version, after.last_seen), (before.version, before.last_seen));
        // Nor is there anything to remove where a stranger logs out.
        assert!(go(&mut server.browser(), "/logout", "").await.set_cookies().is_empty());
        // To look is no reason for a session either.
        assert_eq!(server.browser().get("/").await.set_cookie(), None);
        assert_eq!(server.store.stats().live, 1);
    }
}

/// RA-3: nothing is cut off, nothing changes. OURS: 16 KiB on the server, with an error that is
/// typed; 4096 bytes in a cookie, of which sealing takes some.
#[tokio::test]
async fn too_much_data_is_refused_whole() {
    for (storage, fits, refused) in
        [(Storage::Cookie, 2500, "CookieOverflow"), (Storage::Memory, 15_000, "")]
    {
        let server = server(storage);
        let mut browser = server.browser();
        go(&mut browser, "/note", &format!("note={}", "n".repeat(fits))).await;
        let before = browser.cookies.clone();
        for bytes in [4097 + fits, 100_000] {
            let note = "m".repeat(bytes);
            let answer = browser.post("/note", &format!("note={note}")).await;
            assert_eq!(answer.status.as_u16(), 413, "{}", answer.body);
            answer.assert_has(refused);
            assert!(answer.set_cookies().is_empty());
        }
        assert_eq!(browser.cookies, before);
        browser.get("/").await.assert_has("<td>note<");
    }
    // Whatever is sent, no cookie is longer than browsers keep.
    let server = server(Storage::Cookie);
    for bytes in (2600..3200).step_by(7) {
        let answer = server.browser().post("/note", &format!("note={}", "n".repeat(bytes))).await;
        assert!(answer.set_cookies().iter().all(|line| line.len() <= 4096), "{bytes}");
    }
}

/// RA-4: encrypted and authentic; a changed byte is an empty session.
#[tokio::test]
async fn a_cookie_is_neither_read_nor_changed() {
    let server = server(Storage::Cookie);
    let mut browser = server.browser();
    go(&mut browser, "/credits", "credits=10").await;
    assert!(!browser.cookies[DATA_KEY].contains("credits"));
    assert_eq!(see_credits(&mut browser).await, 10);
    for name in [KEY, DATA_KEY] {
        let good = browser.cookies[name].clone();
        for index in (0..good.len()).step_by(5) {
            let mut text = good.clone().into_bytes();
            text[index] = if text[index] == b'A' { b'B' } else { b'A' };
            let mut changed = browser.clone();
            changed.cookies.insert(name.to_owned(), String::from_utf8(text).unwrap());
            assert_eq!(see_credits(&mut changed).await, 0, "{name} {index}");
        }
    }
    // Nor does one cookie's value do for the other.
    let mut swapped = browser.clone();
    swapped.cookies.insert(DATA_KEY.to_owned(), browser.cookies[KEY].clone());
    assert_eq!(see_credits(&mut swapped).await, 0);
    assert_eq!(see_credits(&mut browser).await, 10, "the real one is as good as before");
}

/// RA-5: the five ways in which a session ends.
#[tokio::test]
async fn the_five_ways_to_end() {
    for storage in [Storage::Memory, Storage::Cookie] {
        let keys = Keys::generate().unwrap();
        let encoding = Encoding::Sealed(keys.clone());
        let server = server_of(storage.clone(), Store::builder(), encoding);
        let mut browser = server.browser();
        // 1: the browser is closed. No cookie says how long to keep it, so none outlives that.
        for line in go(&mut browser, "/credits", "credits=10").await.set_cookies() {
            let bare = ["httponly", "path=/", "samesite=lax", "secure"];
            assert_eq!(attributes(line), bare);
        }
        assert_eq!(see_credits(&mut browser).await, 10);
        // 2: the user clears his cookies.
        assert_eq!(see_credits(&mut server.browser()).await, 0);
        // 3: the secret changes. OURS: a ring of them, so that only dropping the old one ends it.
        keys.rotate("a new secret, of at least 32 bytes").unwrap();
        assert_eq!(see_credits(&mut browser).await, 10);
        keys.replace(["yet another secret, of 32 bytes.."]).unwrap();
        assert_eq!(see_credits(&mut browser).await, 0);
        // 4: the digest changes: sealed cookies where signed ones are expected.
        let mut browser = server.browser();
        go(&mut browser, "/credits", "credits=10").await;
        let config = Config { storage, encoding: Encoding::Signed(keys.clone()), is_secure: true };
        let (other, _) = web::app(Store::builder(), &config).unwrap();
        assert_eq!(see_credits(&mut Browser::of(&other, &browser.cookies)).await, 0);
        // 5: reset_session.
        assert_eq!(see_credits(&mut browser).await, 10);
        go(&mut browser, "/reset", "").await;
        assert_eq!(see_credits(&mut browser).await, 0);
    }
}

/// RA-6
#[tokio::test]
async fn reset_session_gives_a_new_id_without_data() {
    for (server, _) in servers("reset") {
        let mut browser = server.browser();
        go(&mut browser, "/credits", "credits=10").await;
        let (old, old_id) = (browser.clone(), server.id(&browser));
        let answer = go(&mut browser, "/reset", "").await;
        assert!(answer.set_cookies().iter().any(|line| line.starts_with(KEY)));
        assert_ne!(browser.cookies[KEY], old.cookies[KEY]);
        assert_ne!(server.id(&browser), old_id);
        assert_eq!(see_credits(&mut browser).await, 0);
        assert_eq!(see_credits(&mut old.clone()).await, 0);
        assert!(matches!(server.store.peek(old_id, |_| ()), Err(Missing::Ended(_))));
    }
}

/// RA-7: the user's id, and a flash that is shown once.
#[tokio::test]
async fn a_flash_is_read_once() {
    for (server, _) in servers("flash") {
        let mut browser = server.browser();
        go(&mut browser, "/credits", "credits=3").await;
        go(&mut browser, "/login", "user=42").await;
        let first = browser.get("/").await;
        first.assert_has("Welcome, 42.");
        first.assert_has("You are <b>42</b>");
        first.assert_has("credits, user_id<");
        let second = browser.get("/").await;
        second.assert_lacks("Welcome, 42.");
        second.assert_has("You are <b>42</b>");
        assert_eq!(see_credits(&mut browser).await, 3, "the data came along at the login");
        // Another user's data does not.
        go(&mut browser, "/login", "user=43").await;
        assert_eq!(see_credits(&mut browser).await, 0);
    }
}

/// RA-8: sessions vanish at any moment, and every page still works.
#[tokio::test]
async fn losing_a_session_breaks_nothing() {
    for (server, _) in servers("losing") {
        let mut browser = server.browser();
        for path in ["/login", "/credits", "/note", "/reset", "/logout"] {
            go(&mut browser, "/credits", "credits=10").await;
            let answer = server.browser().post("/admin/end-all", "").await;
            assert_eq!(answer.body, "1 sessions ended");
            assert_eq!(see_credits(&mut browser.clone()).await, 0);
            go(&mut browser, path, "user=42").await;
            browser.get("/").await.assert_ok();
            server.browser().post("/admin/end-all", "").await.assert_ok();
        }
    }
}

/// RA-9: what an older version of the application wrote is of another type, and no reader fails.
/// OURS: the schema's number stands in the directory, not in each record: a store is opened with
/// the number that wrote it, or refused; `end_all`, or another directory, clears the old ones.
#[tokio::test]
async fn old_data_crashes_nothing() {
    for (server, _) in servers("schema") {
        let mut browser = server.browser();
        go(&mut browser, "/note", "note=a").await;
        if server.store.stats().live == 1 {
            let id = server.id(&browser);
            server.store.update(id, |s| s.set("credits", "ten")).unwrap();
        }
        assert_eq!(see_credits(&mut browser).await, 0);
        go(&mut browser, "/credits", "credits=10").await;
        assert_eq!(see_credits(&mut browser).await, 10);
    }
    #[cfg(unix)]
    {
        let directory = Directory::new("rails-schema-number");
        let open = |schema| Store::<Attributes>::builder().schema(schema).open(directory.path());
        let store = open(1).unwrap();
        let token = store.create(Attributes::from([("credits", "ten".into())])).unwrap();
        store.close().unwrap();
        let refused = open(2).unwrap_err().to_string();
        assert!(refused.contains("schema"), "{refused}");
        let store = open(1).unwrap();
        assert!(store.get(token.id()).is_ok(), "the refusal changed nothing");
        assert_eq!(store.end_all(cloakroom::Reason::Revoked).unwrap(), 1);
    }
}

/// RA-10: reads do not go to the disk, and nobody has to vacuum.
#[cfg(unix)]
#[tokio::test]
async fn reads_come_from_memory() {
    let directory = Directory::new("rails-memory");
    let path = directory.path().join("sessions");
    let clock = ManualClock::new();
    let encoding = Encoding::Sealed(Keys::generate().unwrap());
    let storage = Storage::Directory(path.clone());
    let server = server_of(storage, Store::builder().clock(&clock), encoding);
    let mut browser = server.browser();
    go(&mut browser, "/credits", "credits=10").await;
    std::fs::remove_dir_all(&path).unwrap();
    for _ in 0..3 {
        assert_eq!(see_credits(&mut browser).await, 10);
    }
    clock.advance(EXPIRE_AFTER + seconds(1));
    server.store.expire_due();
    assert_eq!(server.store.stats().live, 0);
}

/// RA-11: a session's own timeouts.
#[tokio::test]
async fn a_session_may_have_its_own_timeouts() {
    for (server, clock) in servers("ttl") {
        let mut browser = server.browser();
        go(&mut browser, "/credits", "credits=10").await;
        let id = server.id(&browser);
        server.store.set_timeouts(id, seconds(1000), seconds(2000)).unwrap();
        clock.advance(seconds(900));
        assert_eq!(see_credits(&mut browser).await, 10);
        clock.advance(seconds(1001));
        assert_eq!(see_credits(&mut browser).await, 0);
    }
}

/// RA-12. OURS: the two minutes are the store's; the cookie names no time, and ends earlier only if
/// the browser is closed.
#[tokio::test]
async fn it_expires_after_two_minutes_without_activity() {
    assert_eq!((EXPIRE_AFTER, KEY), (seconds(120), "_yourapp_session"));
    for (server, clock) in servers("expire") {
        let mut browser = server.browser();
        let answer = go(&mut browser, "/credits", "credits=10").await;
        assert!(answer.set_cookies().iter().any(|line| line.starts_with("_yourapp_session=")));
        for _ in 0..3 {
            clock.advance(seconds(119));
            assert_eq!(see_credits(&mut browser).await, 10, "activity starts it anew");
        }
        clock.advance(seconds(121));
        assert_eq!(see_credits(&mut browser).await, 0);
    }
}

/// RA-13: a store without options expires sessions: after half an hour without activity, or ten
/// minutes of nobody's, and after twelve hours in any case.
#[test]
fn sessions_expire_by_default() {
    let clock = ManualClock::new();
    let store: Store = Store::builder().clock(&clock).in_memory().unwrap();
    let live = |token: &Token| store.read(token.id(), |_| ()).is_ok();
    let owned = |name: &str| {
        let options = cloakroom::CreateOptions::new().owner(name);
        store.create_with(Attributes::new(), options).unwrap()
    };
    let (idle, busy, nobody) = (owned("a"), owned("b"), store.create(Attributes::new()).unwrap());
    let minute = Duration::from_secs(60);
    clock.advance(10 * minute);
    assert!(!live(&nobody) && live(&busy));
    clock.advance(20 * minute);
    assert!(!live(&idle) && live(&busy));
    for _ in 0..22 {
        clock.advance(30 * minute - seconds(60));
        assert!(live(&busy));
    }
    clock.advance(60 * minute);
    assert!(!live(&busy));
}

/// RA-14: when it was last seen, for an expiry by hand; though it is built in.
#[tokio::test]
async fn last_seen_is_readable() {
    for (server, clock) in servers("seen") {
        let mut browser = server.browser();
        go(&mut browser, "/credits", "").await;
        let id = server.id(&browser);
        let before = server.store.info(id).unwrap().last_seen;
        clock.advance(seconds(90));
        let info = server.store.info(id).unwrap();
        assert_eq!((info.idle, info.last_seen), (seconds(90), before));
        see_credits(&mut browser).await;
        assert!(server.store.info(id).unwrap().last_seen > before);
        assert!(server.store.info(id).unwrap().idle < seconds(3));
    }
}

/// RA-15: the "credits" attack. With the data on the server there is nothing to replay; in cookie
/// mode the old cookie is of an earlier generation, and refused.
#[tokio::test]
async fn a_replayed_cookie_brings_no_credit_back() {
    for (server, _) in servers("replay") {
        let mut browser = server.browser();
        go(&mut browser, "/credits", "credits=10").await;
        let mut old = browser.clone();
        for left in (0..10).rev() {
            go(&mut browser, "/spend", "").await;
            assert_eq!(see_credits(&mut browser).await, left);
        }
        assert_eq!(see_credits(&mut old).await, 0, "the old cookies");
        assert_eq!(old.clone().post("/spend", "").await.status.as_u16(), 402);
    }
    // Looking with the old cookie does no harm to who has the new one.
    let server = server(Storage::Cookie);
    let mut browser = server.browser();
    go(&mut browser, "/credits", "credits=10").await;
    let mut old = browser.clone();
    go(&mut browser, "/spend", "").await;
    assert_eq!((see_credits(&mut old).await, see_credits(&mut browser).await), (0, 9));
}

/// RA-16: whoever kept the cookie is not let in after the logout, whatever he asks for.
#[tokio::test]
async fn an_old_cookie_after_the_logout_is_refused() {
    for (server, _) in servers("logout") {
        let mut browser = server.browser();
        go(&mut browser, "/credits", "credits=10").await;
        go(&mut browser, "/login", "user=42").await;
        browser.get("/").await.assert_has("You are <b>42</b>");
        let old = browser.clone();
        go(&mut browser, "/logout", "").await;
        assert!(browser.cookies.is_empty(), "{:?}", browser.cookies);
        for _ in 0..2 {
            let answer = old.clone().get("/").await;
            answer.assert_lacks("You are <b>42</b>");
            answer.assert_has("Credits: <b>0</b>");
        }
        assert_eq!(old.clone().post("/spend", "").await.status.as_u16(), 402);
        assert_eq!(server.store.owner_count("42"), 0);
    }
}

/// RA-16, with a request that is under way while the logout happens: its write is refused, and does
/// not bring the session back.
#[tokio::test]
async fn a_request_in_flight_does_not_undo_the_logout() {
    for storage in [Storage::Memory, Storage::Cookie] {
        let (arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, waits) = (Arc::clone(&arrived), Arc::clone(&go_on));
        let slow = async move |session: Hash| -> Result<(), Problem> {
            assert_eq!(session.get_i64("credits"), Some(10));
            told.notify_one();
            waits.notified().await;
            session.set("credits", 11)
        };
        let routes = web::routes().route("/slow", post(slow));
        let encoding = Encoding::Sealed(Keys::generate().unwrap());
        let config = Config { storage, encoding, is_secure: true };
        let (app, store) = web::around(routes, Store::builder(), &config).unwrap();
        let mut browser = Browser::new(&app);
        go(&mut browser, "/login", "user=42").await;
        go(&mut browser, "/credits", "credits=10").await;
        let mut in_flight = browser.clone();
        let slow = tokio::spawn(async move { in_flight.post("/slow", "").await });
        arrived.notified().await;
        go(&mut browser, "/logout", "").await;
        go_on.notify_one();
        let answer = slow.await.unwrap();
        assert_eq!(answer.status.as_u16(), 401, "{}", answer.body);
        assert_eq!(store.stats().live, 0);
    }
}

/// RA-17: list, count, end one, all of a user, those not seen for a while, all.
#[tokio::test]
async fn sessions_are_listed_and_cleared() {
    for (server, clock) in servers("admin") {
        let mut browsers = Vec::new();
        for user in ["41", "42", "42", "43", "44"] {
            let mut browser = server.browser();
            go(&mut browser, "/login", &format!("user={user}")).await;
            browsers.push(browser);
        }
        let mut admin = server.browser();
        admin.get("/admin").await.assert_has("5 sessions are live.");
        let sessions = web::every(&server.store);
        let of_43 = sessions.iter().find(|info| info.owner.as_deref() == Some("43")).unwrap();
        let answer = admin.post("/admin/end", &format!("id={}", of_43.id)).await;
        assert_eq!(answer.body, "1 session ended");
        let again = admin.post("/admin/end", &format!("id={}", of_43.id)).await;
        assert_eq!(again.status.as_u16(), 401, "{}", again.body);
        assert_eq!(admin.post("/admin/end-user", "user=42").await.body, "2 sessions ended");
        browsers[1].get("/").await.assert_lacks("You are <b>");
        clock.advance(seconds(100));
        browsers[0].get("/").await.assert_has("You are <b>41</b>");
        assert_eq!(admin.post("/admin/end-idle", "seconds=60").await.body, "1 sessions ended");
        browsers[4].get("/").await.assert_lacks("You are <b>");
        browsers[0].get("/").await.assert_has("You are <b>41</b>");
        assert_eq!(admin.post("/admin/end-all", "").await.body, "1 sessions ended");
        admin.get("/admin").await.assert_has("0 sessions are live.");
    }
}

/// RA-18: one value of the configuration says where the data is; the handlers are the same, and so
/// is what a browser sees.
#[tokio::test]
async fn the_storage_is_one_value() {
    let mut seen = Vec::new();
    for (server, _) in servers("storage") {
        let mut browser = server.browser();
        let mut pages = Vec::new();
        for (path, form) in [
            ("/credits", "credits=3"),
            ("/spend", ""),
            ("/login", "user=42"),
            ("/note", "note=a"),
            ("/reset", ""),
            ("/logout", ""),
        ] {
            go(&mut browser, path, form).await;
            let page = browser.get("/").await.body;
            // How many bytes are where is the one difference.
            pages.push(page.split("<tr><th>State").next().unwrap().to_owned());
        }
        seen.push(pages);
    }
    assert!(seen.len() >= 2);
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:#?}");
}
