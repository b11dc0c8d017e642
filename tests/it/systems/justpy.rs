//! The sessions of JustPy's documentation: `examples/justpy`, its socket over real TCP.

#[path = "../../../examples/justpy/signer.rs"]
mod signer;
#[path = "../../../examples/justpy/socket.rs"]
mod socket;
#[path = "../../../examples/justpy/view.rs"]
mod view;
#[path = "../../../examples/justpy/web.rs"]
mod web;

use std::process::Command;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use cloakroom::{Builder, ManualClock, Missing, Reason, SessionId, Store};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value as Js, json};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::browser::{Answer, Browser, Directory, attributes, value};
use super::page;
use crate::support::{parallel, seconds};
use signer::{Signer, Unsigned};
use web::{BadCookie, Config};

const SECRET: &str = "$$$my_secret_string$$$";
/// What itsdangerous 2.2.0 makes: secret, value, signed value.
const VECTORS: [(&str, &str, &str); 3] = [
    (
        SECRET,
        "0123456789abcdef0123456789abcdef",
        "0123456789abcdef0123456789abcdef.ohjE9UkEjGkGzb63QXRAu33oO0s",
    ),
    (
        "my_very_secret_key_that_only_I_know",
        "0123456789abcdef0123456789abcdef",
        "0123456789abcdef0123456789abcdef.hpdUtbciO-SlA0GguX5rGZuuZXk",
    ),
    (
        SECRET,
        "ffffffffffffffffffffffffffffffff",
        "ffffffffffffffffffffffffffffffff.g71nONz42EPxNn6Kj_d9PvbYXXY",
    ),
];

fn server() -> (Router, Store) {
    server_of(Store::builder(), Config::default())
}

fn server_of(builder: Builder<cloakroom::Attributes>, config: Config) -> (Router, Store) {
    let age = config.cookie_max_age;
    let builder = builder.idle_timeout(age).anonymous_idle_timeout(age).lifetime(4 * age);
    let store = builder.in_memory().unwrap();
    (web::app(store.clone(), config).unwrap(), store)
}

fn sid(browser: &Browser) -> String {
    browser.cookies["jp_token"].split('.').next().unwrap().to_owned()
}

fn id(browser: &Browser) -> SessionId {
    sid(browser).parse().unwrap()
}

async fn event(browser: &mut Browser, name: &str, event: Js) -> Answer {
    let request = Request::post(format!("/event/{name}")).header(CONTENT_TYPE, "application/json");
    browser.send(request.body(Body::from(event.to_string())).unwrap()).await
}

async fn sign_in(browser: &mut Browser, password: &str) -> Js {
    let answer = event(browser, "sign_in", json!({ "user_name": "eve", "password": password }));
    let answer = answer.await;
    answer.assert_ok();
    serde_json::from_str(&answer.body).unwrap()
}

fn is_logged_in(store: &Store, id: SessionId) -> Option<bool> {
    store.peek(id, |s| s.get_bool("logged_in")).ok()?
}

// ---- The cookie ----------------------------------------------------------------------------

/// JP-1
#[test]
fn the_defaults_are_those_of_the_documentation() {
    let config = Config::default();
    assert!(config.sessions);
    assert_eq!(config.cookie_name, "jp_token");
    assert_eq!(config.cookie_max_age, Duration::from_secs(7 * 24 * 60 * 60));
    assert_eq!(config.secret_keys, [SECRET]);
}

/// JP-2, JP-5. OURS: the id is 128 bits of a digest, in the form of a UUID, of no version.
#[tokio::test]
async fn the_first_request_gets_a_signed_id() {
    let (app, _) = server();
    let mut browser = Browser::new(&app);
    let answer = browser.get("/").await;
    answer.assert_ok();
    let line = answer.set_cookie().unwrap();
    assert_eq!(attributes(line), ["httponly", "max-age=604800", "path=/", "samesite=lax"]);
    let (sid, signature) = value(line).split_once('.').unwrap();
    assert_eq!((sid.len(), signature.len()), (32, 27));
    assert!(sid.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{sid}");
    answer.assert_has(&format!("My session id: <code>{sid}</code>"));
    assert_eq!(answer.all("cache-control"), ["no-store"]);
}

/// JP-3, with the vectors of the Python package.
#[test]
fn signatures_are_those_of_itsdangerous() {
    for (secret, value, signed) in VECTORS {
        let signer = Signer::new([secret]);
        assert_eq!(signer.sign(value).as_deref(), Some(signed));
        assert_eq!(signer.unsign(signed), Some(Unsigned { value, is_old: false }));
        for bit in 0..signed.len() * 7 {
            let mut changed = signed.as_bytes().to_vec();
            changed[bit / 7] ^= 1 << (bit % 7);
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(signer.unsign(&changed), None, "{changed}");
        }
        for bad in ["", ".", value, &signed[..signed.len() - 1], &format!("{signed}=")] {
            assert_eq!(signer.unsign(bad), None, "{bad}");
        }
        assert_eq!(Signer::new(["another"]).unsign(signed), None);
    }
}

/// JP-3: a cookie that the Python package signed is accepted, and ours by the Python package. Where
/// it is not installed, only our part is shown; the vectors above stand for the rest.
#[tokio::test]
async fn python_reads_ours_and_we_read_pythons() {
    let (app, _) = server();
    let mut browser = Browser::new(&app);
    browser.get("/").await.assert_ok();
    let ours = browser.cookies["jp_token"].clone();
    let script = "import sys, itsdangerous\n\
                  signer = itsdangerous.Signer(sys.argv[1])\n\
                  sid = signer.unsign(sys.argv[2])\n\
                  print(sid.decode(), signer.sign(sid).decode())";
    let output = Command::new("python3").args(["-c", script, SECRET, &ours]).output();
    let signed = match output {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8(output.stdout).unwrap();
            let (read, signed) = text.trim().split_once(' ').unwrap();
            assert_eq!(read, sid(&browser));
            signed.to_owned()
        }
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("BadSignature") => {
            panic!("Python refuses {ours}");
        }
        _ => Signer::new([SECRET]).sign(&sid(&browser)).unwrap(),
    };
    let mut python = Browser::with(&app, "jp_token", &signed);
    let answer = python.get("/").await;
    assert_eq!(answer.set_cookie(), None);
    answer.assert_has(&sid(&browser));
    answer.assert_has("Number of visits: 2");
}

/// JP-4
#[tokio::test]
async fn the_cookie_is_set_once() {
    let (app, store) = server();
    let mut browser = Browser::new(&app);
    let first = browser.get("/").await;
    let sid = sid(&browser);
    first.assert_has(&sid);
    for _ in 0..3 {
        let answer = browser.get("/").await;
        assert_eq!(answer.set_cookie(), None);
        answer.assert_has(&sid);
    }
    assert_eq!(store.stats().live, 1);
}

/// JP-6. OURS: 400 "Bad Cookie" as documented, and the cookie is removed, so that the user goes on;
/// a switch gives what JustPy answers.
#[tokio::test]
async fn a_tampered_cookie_is_a_bad_cookie() {
    let (app, store) = server();
    let mut browser = Browser::new(&app);
    browser.get("/").await.assert_ok();
    let good = browser.cookies["jp_token"].clone();
    let other = Signer::new(["another secret"]).sign(&sid(&browser)).unwrap();
    let signed_nonsense = Signer::new([SECRET]).sign("nonsense").unwrap();
    let mut bad = vec![other, sid(&browser), good.replace('.', "-"), "x".into(), signed_nonsense];
    for index in 0..good.len() {
        let mut text = good.clone().into_bytes();
        text[index] = if text[index] == b'0' { b'1' } else { b'0' };
        bad.push(String::from_utf8(text).unwrap());
    }
    let upstream = Config { bad_cookie: BadCookie::AsUpstream, ..Config::default() };
    let (as_upstream, _) = server_of(Store::builder(), upstream);
    for text in &bad {
        let mut tampered = Browser::with(&app, "jp_token", text);
        let answer = tampered.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (400, "Bad Cookie"), "{text}");
        assert!(tampered.cookies.is_empty(), "it is removed");
        let answer = Browser::with(&as_upstream, "jp_token", text).get("/").await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "Bad Session"));
        assert_eq!(answer.set_cookie(), None);
        assert!(answer.all("content-type")[0].starts_with("text/plain"));
    }
    assert_eq!(store.stats().live, 1);
    browser.get("/").await.assert_has("Number of visits: 2");
}

/// JP-7. OURS: a list of keys, of which the old ones still verify; their cookies are sent anew.
#[tokio::test]
async fn a_changed_secret_makes_bad_cookies_unless_it_is_kept() {
    let (app, store) = server();
    let mut browser = Browser::new(&app);
    browser.get("/").await.assert_ok();
    let config = |keys: &[&str]| Config {
        secret_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..Config::default()
    };
    let changed = web::app(store.clone(), config(&["new"])).unwrap();
    assert_eq!(Browser::of(&changed, &browser.cookies).get("/").await.status.as_u16(), 400);
    let both = web::app(store.clone(), config(&["new", SECRET])).unwrap();
    let mut renewed = Browser::of(&both, &browser.cookies);
    let answer = renewed.get("/").await;
    answer.assert_has("Number of visits: 2");
    assert!(answer.set_cookie().is_some());
    assert_eq!(sid(&renewed), sid(&browser));
    assert_ne!(renewed.cookies, browser.cookies);
    assert_eq!(renewed.get("/").await.set_cookie(), None);
    Browser::of(&changed, &renewed.cookies).get("/").await.assert_has("Number of visits: 4");
}

/// JP-8
#[tokio::test]
async fn sessions_can_be_switched_off() {
    let (app, store) = server_of(Store::builder(), Config { sessions: false, ..Config::default() });
    for path in ["/", "/login_test"] {
        let answer = Browser::new(&app).get(path).await;
        answer.assert_ok();
        assert_eq!(answer.set_cookie(), None);
        answer.assert_lacks("session id");
    }
    Browser::with(&app, "jp_token", "tampered").get("/").await.assert_ok();
    assert_eq!(store.stats().live, 0);
}

/// JP-9, JP-10
#[tokio::test]
async fn the_configuration_is_in_the_header() {
    let config = Config {
        cookie_name: "my_cookie_name".to_owned(),
        cookie_max_age: Duration::from_secs(108_000),
        is_secure: true,
        ..Config::default()
    };
    let (app, _) = server_of(Store::builder(), config);
    let answer = Browser::new(&app).get("/").await;
    let line = answer.set_cookie().unwrap();
    assert!(line.starts_with("my_cookie_name="));
    assert_eq!(
        attributes(line),
        ["httponly", "max-age=108000", "path=/", "samesite=lax", "secure"]
    );
}

/// JP-19, JP-20. A cookie whose session is not there begins another, whether the server was started
/// anew or the seven days are over. OURS: under an id that nobody knew before; and with the
/// sessions on disk, the record survives.
#[tokio::test]
async fn a_known_id_without_a_record_is_new() {
    let clock = ManualClock::new();
    let (app, _) = server_of(Store::builder().clock(&clock), Config::default());
    let mut browser = Browser::new(&app);
    sign_in(&mut browser, "password").await;
    browser.get("/login_test").await.assert_has("You are already logged in...");

    let (restarted, store) = server();
    for path in ["/login_test", "/login"] {
        let mut kept = Browser::of(&restarted, &browser.cookies);
        let answer = kept.get(path).await;
        answer.assert_ok();
        answer.assert_has("Please login");
        assert_ne!(sid(&kept), sid(&browser));
        assert_eq!(is_logged_in(&store, id(&kept)), Some(false));
    }
    clock.advance(Duration::from_secs(604_800) + seconds(1));
    let mut replayed = browser.clone();
    replayed.get("/login_test").await.assert_has("Please login");
    assert_ne!(sid(&replayed), sid(&browser));
    for (_, _, signed) in [VECTORS[0], VECTORS[2]] {
        let mut stranger = Browser::with(&app, "jp_token", signed);
        stranger.get("/").await.assert_has("Number of visits: 1");
        assert!(!stranger.cookies["jp_token"].starts_with(&signed[..32]), "nothing is adopted");
    }

    #[cfg(unix)]
    {
        let directory = Directory::new("justpy-restart");
        let open = || Store::builder().open(directory.path()).unwrap();
        let store = open();
        let app = web::app(store.clone(), Config::default()).unwrap();
        let mut browser = Browser::new(&app);
        browser.get("/").await.assert_has("Number of visits: 1");
        let kept = browser.cookies.clone();
        drop((app, browser));
        store.close().unwrap();
        let app = web::app(open(), Config::default()).unwrap();
        Browser::of(&app, &kept).get("/").await.assert_has("Number of visits: 2");
    }
}

// ---- Visits --------------------------------------------------------------------------------

/// JP-13: of N page loads at once, each counts.
#[test]
fn visits_are_counted_exactly() {
    let (app, store) = server();
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut browser = Browser::new(&app);
    runtime().block_on(browser.get("/")).assert_has("Number of visits: 1");
    parallel(8, |_| {
        let mut tab = browser.clone();
        runtime().block_on(async {
            for _ in 0..50 {
                tab.get("/").await.assert_ok();
            }
        });
    });
    assert_eq!(store.read(id(&browser), |s| s.get_i64("visits")), Ok(Some(401)));
}

// ---- The login -----------------------------------------------------------------------------

/// JP-14, JP-15
#[tokio::test]
async fn a_wrong_password_is_told() {
    let (app, store) = server();
    let mut browser = Browser::new(&app);
    let answer = browser.get("/login_test").await;
    answer.assert_has("Please login");
    answer.assert_has("The password is 'password'");
    answer.assert_has("Session goes here");
    assert_eq!(is_logged_in(&store, id(&browser)), Some(false));
    // The alert is in the page, hidden.
    let (_, alert) = answer.body.split_once(r#"role="alert" hidden"#).unwrap();
    assert!(
        alert.contains("Password is incorrect") && alert.contains("Please enter password again.")
    );

    for wrong in ["", "Password", "password "] {
        let before = browser.cookies.clone();
        let told = sign_in(&mut browser, wrong).await;
        let text = format!("{} login not successful", sid(&browser));
        assert_eq!(told, json!({ "session": text, "alert": true }));
        assert_eq!(browser.cookies, before);
        assert_eq!(is_logged_in(&store, id(&browser)), Some(false));
    }
}

/// JP-16, JP-17, JP-18. OURS: the login changes the id, so that nobody can have planted it.
#[tokio::test]
async fn the_right_password_logs_in_and_the_button_out() {
    let (app, store) = server();
    let mut browser = Browser::new(&app);
    browser.get("/login_test").await.assert_has("Please login");
    let planted = browser.clone();
    let told = sign_in(&mut browser, "password").await;
    assert_ne!(sid(&browser), sid(&planted));
    assert_eq!(told["session"], format!("{} logged in successfully", sid(&browser)));
    assert_eq!(told["alert"], false);
    assert_eq!(told["page"], "Login successful. You are now logged in");
    assert_eq!(told["display_url"], "login_successful");
    assert_eq!(
        (&told["redirect"], &told["redirect_after_ms"]),
        (&json!("/login_test"), &json!(3000))
    );
    assert_eq!(is_logged_in(&store, id(&browser)), Some(true));
    planted.clone().get("/login_test").await.assert_has("Please login");

    for path in ["/login_test", "/login"] {
        let answer = browser.get(path).await;
        answer.assert_has(&format!("Your session id is: {}", sid(&browser)));
        answer.assert_has("You are already logged in...");
        answer.assert_has("Logout</button>");
        assert_eq!(answer.set_cookie(), None);
    }

    let answer = event(&mut browser, "log_out", json!({})).await;
    let told: Js = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(told["redirect"], "/login_test");
    assert_eq!(is_logged_in(&store, id(&browser)), Some(false));
    browser.get("/login_test").await.assert_has("Please login");
}

// ---- The socket ----------------------------------------------------------------------------

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// Serves on a port of this machine; returns its address.
async fn serve(app: Router) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

async fn open(address: &str, cookie: Option<&str>) -> Socket {
    let mut request = format!("ws://{address}/socket").into_client_request().unwrap();
    if let Some(cookie) = cookie {
        request.headers_mut().insert("cookie", format!("jp_token={cookie}").parse().unwrap());
    }
    connect_async(request).await.unwrap().0
}

async fn click(socket: &mut Socket) -> Js {
    socket.send(Message::text(r#"{"event":"click"}"#)).await.unwrap();
    serde_json::from_str(next(socket).await.to_text().unwrap()).unwrap()
}

async fn next(socket: &mut Socket) -> Message {
    let message = tokio::time::timeout(seconds(10), socket.next()).await;
    message.expect("the socket is silent").unwrap().unwrap()
}

/// The reason that the socket is closed with.
async fn closed(socket: &mut Socket) -> String {
    match next(socket).await {
        Message::Close(Some(frame)) => {
            assert_eq!(u16::from(frame.code), 1008);
            frame.reason.to_string()
        }
        other => panic!("{other:?}"),
    }
}

/// JP-11, JP-12: visits and clicks are counted over tabs that close and open, and each click is
/// told the id of the page.
#[tokio::test]
async fn clicks_are_counted_over_the_socket() {
    let (app, _) = server();
    let address = serve(app.clone()).await;
    let mut browser = Browser::new(&app);
    let page = browser.get("/").await;
    page.assert_has("Number of visits: 1");
    page.assert_has("Number of Click Events: 0");
    let cookie = browser.cookies["jp_token"].clone();
    let mut tab = open(&address, Some(&cookie)).await;
    for events in 1..=3 {
        let told = click(&mut tab).await;
        assert_eq!(told, json!({ "session_id": sid(&browser), "visits": 1, "events": events }));
    }
    tab.close(None).await.unwrap();
    let page = browser.get("/").await;
    page.assert_has("Number of visits: 2");
    page.assert_has("Number of Click Events: 3");
    let mut tab = open(&address, Some(&cookie)).await;
    assert_eq!(click(&mut tab).await["events"], 4);

    // Another browser has numbers of its own.
    let mut other = Browser::new(&app);
    other.get("/").await.assert_has("Number of Click Events: 0");
}

/// JP-21. OURS: the socket is closed, with the reason.
#[tokio::test]
async fn a_tampered_cookie_closes_the_socket() {
    let (app, store) = server();
    let address = serve(app.clone()).await;
    let mut browser = Browser::new(&app);
    browser.get("/").await.assert_ok();
    let tampered = browser.cookies["jp_token"].replace('.', ".x");
    assert_eq!(closed(&mut open(&address, Some(&tampered)).await).await, "Bad Cookie");
    assert_eq!(closed(&mut open(&address, None).await).await, "No session");
    assert_eq!(store.read(id(&browser), |s| s.get_i64("events")), Ok(Some(0)));

    let mut socket = open(&address, Some(&browser.cookies["jp_token"])).await;
    socket.send(Message::text("nonsense")).await.unwrap();
    assert_eq!(closed(&mut socket).await, "No such event");

    // A page of another site has no socket, though the browser sends the cookie along.
    let mut request = format!("ws://{address}/socket").into_client_request().unwrap();
    request.headers_mut().insert("origin", "http://evil.example".parse().unwrap());
    match connect_async(request).await {
        Err(SocketError::Http(answer)) => assert_eq!(answer.status().as_u16(), 403),
        other => panic!("{other:?}"),
    }
}

/// A session that ends elsewhere closes its sockets, and a login tells them to come again (JP-12).
#[tokio::test]
async fn the_socket_closes_when_the_session_ends() {
    let (app, store) = server();
    let address = serve(app.clone()).await;
    let mut browser = Browser::new(&app);
    browser.get("/").await.assert_ok();
    let cookie = browser.cookies["jp_token"].clone();
    let mut socket = open(&address, Some(&cookie)).await;
    click(&mut socket).await;
    sign_in(&mut browser, "password").await;
    assert_eq!(closed(&mut socket).await, "The session has ended: Rotated");

    let mut socket = open(&address, Some(&browser.cookies["jp_token"])).await;
    assert_eq!(click(&mut socket).await["events"], 2, "the clicks came along");

    // Another device of the user ends it; a stranger cannot.
    let mut stranger = Browser::new(&app);
    let answer = event(&mut stranger, "log_out_elsewhere", json!({})).await;
    assert_eq!(answer.body, r#"{"ended":0}"#);
    click(&mut socket).await;
    let mut device = Browser::new(&app);
    sign_in(&mut device, "password").await;
    let answer = event(&mut device, "log_out_elsewhere", json!({})).await;
    assert_eq!(answer.body, r#"{"ended":1}"#);
    assert_eq!(closed(&mut socket).await, "The session has ended: Revoked");
    assert_eq!(store.peek(id(&browser), |_| ()), Err(Missing::Ended(Reason::Revoked)));
    device.get("/login_test").await.assert_has("You are already logged in...");
}
