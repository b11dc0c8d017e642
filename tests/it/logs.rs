//! Guards what is logged (S24): where everything is logged that there is to log, at the lowest
//! level and with all of our types, neither a token nor a cookie nor a key is in it.
//!
//! One listener hears all of this process, by `tracing` and by `log`, while requests go through the
//! layers and the adapters, and handlers log what they get. What is secret is collected beside it,
//! and looked for in each spelling that a log could have.

use std::fmt::{Debug, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, Once};

use actix_web::App;
use actix_web::cookie::Key;
use actix_web::test::{TestRequest, call_service, init_service};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use cloakroom::axum::SessionLayer;
use cloakroom::cookie::{Cookie, Encoding, Keys};
use cloakroom::web::{self, Session, Sessions, User};
use cloakroom::{Attributes, Reason, Store};
use tower::ServiceExt as _;
use tracing::field::{Field, Visit};
use tracing::trace;

use crate::support::{Directory, store_with};

const SECRET: [u8; 32] = *b"thirty-two bytes known to nobody";

// ---- The log -------------------------------------------------------------------------------

static LISTENS: AtomicBool = AtomicBool::new(false);
static LOG: Mutex<String> = Mutex::new(String::new());
/// One test listens at a time.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Listener;

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        writeln!(self.0, "{field}={value:?} {value:#?}").unwrap();
    }
}

impl Listener {
    fn hear(&self, write: impl FnOnce(&mut String)) {
        if LISTENS.load(Relaxed) {
            write(&mut LOG.lock().unwrap());
        }
    }
}

impl tracing::Subscriber for Listener {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        static SPANS: AtomicU64 = AtomicU64::new(1);
        self.hear(|log| {
            writeln!(log, "{}", span.metadata().name()).unwrap();
            span.record(&mut Line(log));
        });
        tracing::span::Id::from_u64(SPANS.fetch_add(1, Relaxed))
    }

    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        self.hear(|log| values.record(&mut Line(log)));
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        self.hear(|log| event.record(&mut Line(log)));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

impl log::Log for Listener {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.hear(|log| writeln!(log, "{} {}", record.target(), record.args()).unwrap());
    }

    fn flush(&self) {}
}

/// What is logged, by anybody in this process, until this future is done.
async fn listen(what: impl Future<Output = ()>) -> String {
    static BEGIN: Once = Once::new();
    BEGIN.call_once(|| {
        tracing::subscriber::set_global_default(Listener).expect("nobody else listens");
        log::set_logger(&Listener).expect("nobody else listens");
        log::set_max_level(log::LevelFilter::Trace);
    });
    let _turn = TURN.lock().await;
    LISTENS.store(true, Relaxed);
    what.await;
    LISTENS.store(false, Relaxed);
    std::mem::take(&mut LOG.lock().unwrap())
}

// ---- What must not be in it ----------------------------------------------------------------

#[derive(Default)]
struct Secrets(Mutex<Vec<Vec<u8>>>);

impl Secrets {
    fn add(&self, secret: impl AsRef<[u8]>) {
        self.0.lock().unwrap().push(secret.as_ref().to_vec());
    }

    /// A token's text, with the bytes that it stands for.
    fn add_text(&self, text: &str) {
        self.add(text);
        if let Ok(bytes) = URL_SAFE_NO_PAD.decode(text) {
            self.add(bytes);
        }
    }

    /// The first spelling of a secret that the log holds.
    fn find_in(&self, log: &str) -> Option<String> {
        let log = log.to_ascii_lowercase();
        let secrets = self.0.lock().unwrap();
        assert!(secrets.len() > 1 && secrets.iter().all(|secret| secret.len() >= 8));
        secrets.iter().flat_map(|secret| spellings(secret)).find(|text| log.contains(text))
    }
}

/// How the beginning of a secret would look, in lower case.
fn spellings(secret: &[u8]) -> Vec<String> {
    let head = &secret[..secret.len().min(9)];
    let hex = |byte: &u8| format!("{byte:02x}");
    let list = |of: fn(&u8) -> String, between: &str| {
        head.iter().map(of).collect::<Vec<_>>().join(between)
    };
    let mut texts = vec![
        head.iter().map(hex).collect(),
        list(|byte| byte.to_string(), ", "),
        list(|byte| byte.to_string(), ",\n    "),
        list(|byte| format!("{byte:#04x}"), ", "),
        head.escape_ascii().to_string(),
        STANDARD_NO_PAD.encode(head),
        URL_SAFE_NO_PAD.encode(head),
    ];
    texts.extend(String::from_utf8(head.to_vec()));
    if let Ok(bytes) = <[u8; 16]>::try_from(secret) {
        texts.extend(
            [i128::from_le_bytes(bytes), i128::from_be_bytes(bytes)].map(|n| n.to_string()),
        );
    }
    texts.iter().map(|text| text.to_ascii_lowercase()).collect()
}

#[test]
fn a_secret_is_found_in_each_spelling() {
    let secrets = Secrets::default();
    secrets.add(SECRET);
    secrets.add([7; 16]);
    let number = i128::from_le_bytes([7; 16]);
    for shown in [
        format!("{:?} {:#?}", SECRET, SECRET),
        format!("{:x?}", SECRET.map(|byte| format!("{byte:02X}")).concat()),
        String::from_utf8_lossy(&SECRET).into_owned(),
        URL_SAFE_NO_PAD.encode(SECRET),
        format!("Id({number})"),
    ] {
        assert!(secrets.find_in(&shown).is_some(), "{shown}");
    }
    assert_eq!(secrets.find_in("nothing of it"), None);
}

// ---- axum ----------------------------------------------------------------------------------

/// Logs all that a handler can get hold of, and tells what is secret in its answer's body.
async fn chatty(session: Session, user: Option<User>, Path(what): Path<String>) -> Response {
    trace!(?session, ?user, store = ?session.store(), stats = ?session.store().stats(), "handler");
    let done = match what.as_str() {
        "write" => session.set("n", 1),
        "login" => session.login("alice", "a label"),
        "take" => session.rotate(),
        "csrf" => session.check_csrf("forged"),
        "logout" => session.logout(),
        "fail" => session.try_update(|_| Err(web::Error::Forged)),
        _ => Ok(()),
    };
    trace!(?done, info = ?session.info(), copy = ?session.copy(), missing = ?session.missing());
    if let Err(error) = done {
        trace!(%error, message = error.message());
        return error.into_response();
    }
    let csrf = session.csrf_token().unwrap_or_default();
    let taken = if what == "take" { session.take_token() } else { None };
    trace!(?taken);
    format!("{csrf} {}", taken.map(|token| token.expose()).unwrap_or_default()).into_response()
}

/// What stands inside the layer, and logs requests and answers whole.
async fn log_all(request: Request, next: Next) -> Response {
    trace!(?request, "inside the layer");
    let response = next.run(request).await;
    trace!(?response, "inside the layer");
    response
}

async fn on_axum(sessions: Sessions, secrets: &Secrets) {
    trace!(?sessions);
    let layer = SessionLayer::new(sessions.clone());
    trace!(?layer);
    let app = Router::new().route("/{what}", get(chatty)).layer(from_fn(log_all)).layer(layer);
    let mut cookie = "__Host-id=this-was-not-made-here".to_owned();
    let mut made = 0;
    for what in ["read", "write", "csrf", "fail", "login", "read", "logout", "read"] {
        let request = Request::builder().uri(format!("/{what}")).header(COOKIE, &cookie);
        let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        trace!(headers = ?response.headers(), "outside of the layer");
        if let Some(line) = response.headers().get(SET_COOKIE) {
            let pair = line.to_str().unwrap().split(';').next().unwrap().to_owned();
            let value = pair.strip_prefix("__Host-id=").unwrap();
            if !value.is_empty() {
                secrets.add_text(value);
                cookie = pair;
                made += 1;
            }
        }
        let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        for text in body.split(' ').filter(|text| text.len() >= 43) {
            secrets.add_text(text);
        }
    }
    assert_eq!(made, 3, "the first page, the login, the page after the logout");
    let token = sessions.store().create(Attributes::new()).unwrap();
    secrets.add_text(&token.expose());
    trace!(?token);
    let bearer = format!("Bearer {}", token.expose());
    let request = Request::builder().uri("/take").header(AUTHORIZATION, bearer);
    let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
    secrets.add_text(std::str::from_utf8(&body).unwrap().split_once(' ').unwrap().1);
}

#[tokio::test]
async fn nothing_secret_is_logged_on_axum() {
    let keys = Keys::new([SECRET]).unwrap();
    let encodings =
        [Encoding::Plain, Encoding::Signed(keys.clone()), Encoding::Sealed(keys.clone())];
    for encoding in encodings {
        let secrets = Secrets::default();
        secrets.add(SECRET);
        let log = listen(async {
            let cookie = Cookie::builder().encoding(encoding).build().unwrap();
            trace!(?cookie, ?keys);
            let store = store_with(|builder| builder);
            let events = store.events();
            on_axum(Sessions::new(store).cookie(cookie).bearer(), &secrets).await;
            while let Some(event) = events.try_recv() {
                trace!(?event);
            }
        })
        .await;
        for expected in ["inside the layer", "outside of the layer", "Sensitive", "LoggedIn"] {
            assert!(log.contains(expected), "{expected} is not in the log: {log}");
        }
        assert_eq!(secrets.find_in(&log), None, "{log}");
    }
}

// ---- actix-web -----------------------------------------------------------------------------

#[actix_web::test]
async fn nothing_secret_is_logged_on_actix_web() {
    async fn page(request: actix_web::HttpRequest, session: Session) -> web::Result<String> {
        trace!(?request, ?session, info = ?session.info());
        session.login("alice", "a label")?;
        session.csrf_token()
    }
    let secrets = Secrets::default();
    secrets.add(SECRET);
    let log = listen(async {
        let cookie = Cookie::builder().encoding(Encoding::Signed(Keys::new([SECRET]).unwrap()));
        let sessions = Sessions::new(store_with(|builder| builder)).cookie(cookie.build().unwrap());
        let middleware = cloakroom::actix::SessionMiddleware::new(sessions);
        trace!(?middleware);
        let app = App::new().route("/", actix_web::web::get().to(page)).wrap(middleware);
        let app = init_service(app).await;
        let mut sent = "__Host-id=this-was-not-made-here".to_owned();
        for _ in 0..3 {
            let request = TestRequest::get().uri("/").insert_header((COOKIE.as_str(), &*sent));
            let response = call_service(&app, request.to_request()).await;
            let line = response.headers().get("set-cookie").unwrap().to_str().unwrap().to_owned();
            sent = line.split(';').next().unwrap().to_owned();
            secrets.add_text(sent.strip_prefix("__Host-id=").unwrap());
            let body = actix_web::test::read_body(response).await;
            secrets.add_text(std::str::from_utf8(&body).unwrap());
        }
    })
    .await;
    assert!(log.contains("HttpRequest"), "{log}");
    assert_eq!(secrets.find_in(&log), None, "{log}");
}

// ---- Other middlewares ---------------------------------------------------------------------

/// What the value of a cookie `id` is, as a secret.
fn add_cookie<'a>(secrets: &Secrets, mut lines: impl Iterator<Item = &'a str>) -> String {
    let pair = lines.find_map(|line| line.split(';').next()).unwrap().to_owned();
    secrets.add_text(pair.split_once('=').unwrap().1);
    pair
}

#[tokio::test]
async fn nothing_secret_is_logged_behind_tower_sessions() {
    use cloakroom::tower_sessions::CloakroomStore;
    use tower_sessions::{Session, SessionManagerLayer};

    async fn page(session: Session) -> String {
        session.insert("user", "alice").await.unwrap();
        session.cycle_id().await.unwrap();
        session.get_value("user").await.unwrap().unwrap().to_string()
    }
    let secrets = Secrets::default();
    secrets.add(SECRET);
    let log = listen(async {
        let store = CloakroomStore::new(store_with(|builder| builder)).counter("n");
        trace!(?store);
        let layer = SessionManagerLayer::new(store);
        let app = Router::new().route("/", get(page)).layer(layer);
        let mut cookie = "id=this-was-not-made-here".to_owned();
        for _ in 0..3 {
            let request = Request::builder().uri("/").header(COOKIE, &cookie).body(Body::empty());
            let response = app.clone().oneshot(request.unwrap()).await.unwrap();
            let lines = response.headers().get_all(SET_COOKIE).iter();
            cookie = add_cookie(&secrets, lines.map(|line| line.to_str().unwrap()));
        }
    })
    .await;
    assert!(log.contains("saving session"), "{log}");
    assert_eq!(secrets.find_in(&log), None, "{log}");
}

#[actix_web::test]
async fn nothing_secret_is_logged_behind_actix_session() {
    use actix_session::{Session, SessionMiddleware};
    use cloakroom::actix_session::CloakroomStore;

    async fn page(request: actix_web::HttpRequest, session: Session) -> String {
        session.insert("user", "alice").unwrap();
        trace!(?request, "actix-session");
        session.renew();
        String::new()
    }
    let secrets = Secrets::default();
    secrets.add(SECRET);
    let log = listen(async {
        let store = CloakroomStore::new(store_with(|builder| builder));
        trace!(?store);
        let middleware = SessionMiddleware::new(store, Key::derive_from(&SECRET));
        let app = App::new().route("/", actix_web::web::get().to(page)).wrap(middleware);
        let app = init_service(app).await;
        let mut cookie = "id=this-was-not-made-here".to_owned();
        for _ in 0..3 {
            let request = TestRequest::get().uri("/").insert_header((COOKIE.as_str(), &*cookie));
            let response = call_service(&app, request.to_request()).await;
            let lines = response.headers().get_all("set-cookie");
            cookie = add_cookie(&secrets, lines.map(|line| line.to_str().unwrap()));
        }
    })
    .await;
    assert!(log.contains("actix-session"), "{log}");
    assert_eq!(secrets.find_in(&log), None, "{log}");
}

// ---- A store on files ----------------------------------------------------------------------

#[tokio::test]
async fn nothing_secret_is_logged_by_an_encrypted_store() {
    let secrets = Secrets::default();
    secrets.add(SECRET);
    let log = listen(async {
        let directory = Directory::new("logs");
        let keys = Keys::new([SECRET]).unwrap();
        let store: Store = Store::builder().encryption(keys).open(&directory.0).unwrap();
        let token = store.create(Attributes::new()).unwrap();
        secrets.add_text(&token.expose());
        let next = store.rotate(token.id()).unwrap();
        secrets.add_text(&next.expose());
        store.end(next.id(), Reason::LoggedOut).unwrap();
        trace!(?store, stats = ?store.stats(), again = ?store.find(&token.expose()));
        trace!(closed = ?store.close());
        for keys in [Some(Keys::new([[1; 32]]).unwrap()), None] {
            let builder =
                keys.into_iter().fold(Store::<Attributes>::builder(), |b, k| b.encryption(k));
            let error = builder.open(&directory.0).map(drop).unwrap_err();
            trace!(?error, %error);
        }
    })
    .await;
    assert!(log.contains("Unreadable"), "{log}");
    assert_eq!(secrets.find_in(&log), None, "{log}");
}
