//! Guards the middleware on actix-web: the same promises as on axum, through another framework.
//!
//! What is decided in the neutral part is tested with axum. Here: that requests bring their
//! cookies to it, that answers of every kind carry the headers away, that extractors refuse, and
//! that workers, which share nothing but the store, lose no update.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName,
    LOCATION, SET_COOKIE, VARY, WWW_AUTHENTICATE,
};
use actix_web::middleware::from_fn;
use actix_web::test::{TestRequest, init_service, read_body, try_call_service};
use actix_web::web::{Bytes, Form, Json, Path, Redirect, get, post, scope};
use actix_web::{App, HttpResponse, HttpServer};
use cloakroom::actix::SessionMiddleware;
use cloakroom::cookie::{Cookie, Encoding, Keys};
use cloakroom::web::{self, BadCookie, Checked, Session, Sessions, User};
use cloakroom::{Attributes, ManualClock, Missing, Reason, Store, Token};

use crate::support::{parallel, poll_once, seconds, store_with};

const REMOVAL: &str = "__Host-id=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0; \
                       Expires=Thu, 01 Jan 1970 00:00:00 GMT";

// ---- A client ------------------------------------------------------------------------------

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    async fn of<B: MessageBody>(response: ServiceResponse<B>) -> Answer {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = String::from_utf8(read_body(response).await.to_vec()).unwrap();
        Answer { status, headers, body }
    }

    fn all(&self, name: HeaderName) -> Vec<&str> {
        self.headers.get_all(name).map(|value| value.to_str().unwrap()).collect()
    }

    fn set_cookie(&self) -> Option<&str> {
        let lines = self.all(SET_COOKIE);
        assert!(lines.len() <= 1, "{lines:?}");
        lines.first().copied()
    }

    /// What the next request sends.
    fn cookie(&self) -> String {
        self.set_cookie().unwrap().split(';').next().unwrap().to_owned()
    }

    fn token(&self) -> Token {
        self.cookie().strip_prefix("__Host-id=").unwrap().parse().unwrap()
    }

    fn assert_plain(&self) {
        assert_eq!((self.all(SET_COOKIE), self.all(VARY)), (vec![], vec![]));
        assert!(!self.all(CACHE_CONTROL).contains(&"no-store"));
    }

    fn assert_asked(&self) {
        assert_eq!((self.set_cookie(), self.all(VARY)), (None, vec!["cookie"]));
        assert_eq!(self.all(CACHE_CONTROL), Vec::<&str>::new());
    }

    /// S22: no cache may give it to somebody else.
    fn assert_secret(&self) {
        assert_eq!((self.all(CACHE_CONTROL), self.all(VARY)), (vec!["no-store"], vec!["cookie"]));
    }
}

/// Sends `method path`, with the cookie if there is one; or a request that was made elsewhere.
macro_rules! send {
    ($app:expr, $request:expr) => {
        Answer::of(try_call_service(&$app, $request.to_request()).await.unwrap()).await
    };
    ($app:expr, $method:ident $path:expr, $cookie:expr) => {{
        let request = TestRequest::$method().uri($path);
        let cookie: Option<&str> = $cookie;
        send!($app, cookie.into_iter().fold(request, |r, cookie| r.insert_header((COOKIE, cookie))))
    }};
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

async fn login(session: Session, name: Path<String>) -> web::Result<Redirect> {
    session.login(&name, "test")?;
    Ok(Redirect::to("/who").see_other())
}

async fn login_editor(session: Session, name: Path<String>) -> web::Result<String> {
    session.login_with(&name, "test", |data| data.set("role", "editor"))?;
    Ok(session.get_text("role").unwrap_or_default())
}

async fn logout(session: Session) -> web::Result<&'static str> {
    session.logout()?;
    Ok("bye")
}

async fn fail(session: Session) -> web::Result<&'static str> {
    session.set("step", 1)?;
    Err(web::Error::Store(cloakroom::Error::NotDurable("/secret/path".into())))
}

async fn headers(session: Session) -> web::Result<HttpResponse> {
    session.set("a", 1)?;
    let mut response = HttpResponse::Ok();
    for (name, value) in [
        (SET_COOKIE, "theme=dark"),
        (SET_COOKIE, "lang=en; Path=/"),
        (VARY, "Accept-Encoding"),
        (CACHE_CONTROL, "private, max-age=60"),
    ] {
        response.append_header((name, value));
    }
    Ok(response.finish())
}

async fn stream(session: Session) -> web::Result<HttpResponse> {
    session.set("a", 1)?;
    let body = futures_util::stream::once(async move {
        session.set("a", 2).unwrap();
        let late = matches!(session.login("alice", ""), Err(web::Error::HeadSent));
        Ok::<_, std::convert::Infallible>(Bytes::from(late.to_string()))
    });
    Ok(HttpResponse::Ok().streaming(body))
}

async fn stuck(session: Session) -> web::Result<&'static str> {
    session.login("alice", "")?;
    std::future::pending().await
}

fn app(
    sessions: Sessions,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    type Fields = std::collections::HashMap<String, String>;
    let form = async |Checked(Form(fields), _): Checked<Form<Fields>>| fields["a"].clone();
    App::new()
        .wrap(SessionMiddleware::new(sessions.clone()))
        .route("/static", get().to(async || "static"))
        .route("/argument", get().to(async |_: Session| "not asked"))
        .route("/count", get().to(count))
        .route("/read", get().to(async |s: Session| format!("{:?}", s.get_i64("count"))))
        .route("/who", get().to(who))
        .route("/user", get().to(async |user: User| user.name().to_owned()))
        .route("/maybe", get().to(async |user: Option<User>| user.is_some().to_string()))
        .route("/login/{name}", post().to(login))
        .route("/editor/{name}", post().to(login_editor))
        .route("/logout", post().to(logout))
        .route("/token", get().to(async |s: Session| s.csrf_token()))
        .route("/form", post().to(form))
        .route("/json", post().to(async |value: Checked<Json<i64>>| value.to_string()))
        .route("/bare", post().to(async |_: Checked<String>| "bare"))
        .route("/fail", get().to(fail))
        .route("/headers", get().to(headers))
        .route("/stream", get().to(stream))
        .route("/stuck", get().to(stuck))
        .service(
            scope("/in")
                .wrap(SessionMiddleware::new(sessions.clone()))
                .route("/count", get().to(count)),
        )
}

fn sessions() -> (Sessions, Store, ManualClock) {
    let clock = ManualClock::new();
    let store = store_with(|builder| builder.clock(&clock));
    (Sessions::new(store.clone()), store, clock)
}

// ---- The promises --------------------------------------------------------------------------

#[actix_web::test]
async fn a_handler_that_does_not_ask_leaves_no_trace() {
    let (sessions, store, clock) = sessions();
    let app = init_service(app(sessions.clone())).await;
    let token = store.create(Attributes::new()).unwrap();
    let seen = store.info(token.id()).unwrap().last_seen;
    clock.advance(seconds(60));
    let cookie = format!("__Host-id={}", token.expose());
    for cookie in [None, Some(cookie.as_str()), Some("__Host-id=junk")] {
        send!(app, get "/static", cookie).assert_plain();
        send!(app, get "/argument", cookie).assert_plain();
        send!(app, get "/nowhere", cookie).assert_plain();
    }
    assert_eq!(store.info(token.id()).unwrap().last_seen, seen, "it was touched");
    let answer = send!(app, get "/read", Some(&cookie));
    answer.assert_asked();
    assert_eq!(answer.body, "None");
    assert!(store.info(token.id()).unwrap().last_seen > seen);
    send!(app, get "/read", None).assert_asked();
    assert_eq!(store.stats().live, 1, "a session was made");
}

/// S3, S4, S10, S17, S21: from the first write over the login to the logout.
#[actix_web::test]
async fn a_visit_from_the_first_write_to_the_logout() {
    let (sessions, store, _) = sessions();
    let app = init_service(app(sessions.clone())).await;
    let made_up = format!("__Host-id={}", "A".repeat(43));
    let first = send!(app, get "/count", Some(&made_up));
    first.assert_secret();
    assert_eq!(first.body, "1");
    assert_ne!(first.cookie(), made_up);
    let attributes = "; Path=/; Secure; HttpOnly; SameSite=Lax";
    assert_eq!(first.set_cookie(), Some(format!("{}{attributes}", first.cookie()).as_str()));
    let visitor = first.cookie();
    send!(app, get "/count", Some(&visitor)).assert_asked();

    let login = send!(app, post "/login/alice", Some(&visitor));
    assert_eq!((login.status, login.all(LOCATION)), (StatusCode::SEE_OTHER, vec!["/who"]));
    login.assert_secret();
    let alice = login.cookie();
    assert_eq!(send!(app, get "/user", Some(&alice)).body, "alice");
    assert_eq!(send!(app, get "/maybe", Some(&alice)).body, "true");
    assert_eq!(send!(app, get "/count", Some(&alice)).body, "3");
    let planted = send!(app, get "/user", Some(&visitor));
    assert_eq!((planted.status, planted.set_cookie()), (StatusCode::UNAUTHORIZED, None));
    assert_eq!(send!(app, get "/maybe", Some(&visitor)).body, "false");

    let editor = send!(app, post "/editor/alice", Some(&alice));
    assert_eq!(editor.body, "editor");
    let alice = editor.cookie();
    assert_eq!(send!(app, get "/count", Some(&alice)).body, "4");
    let bob = send!(app, post "/login/bob", Some(&alice)).cookie();
    assert_eq!(send!(app, get "/count", Some(&bob)).body, "1", "nothing of alice's");
    let logout = send!(app, post "/logout", Some(&bob));
    assert_eq!((logout.body.as_str(), logout.set_cookie()), ("bye", Some(REMOVAL)));
    logout.assert_secret();
    let old = send!(app, get "/who", Some(&bob));
    assert_eq!(old.body, "nobody, Some(Ended(LoggedOut))");
    assert_eq!(old.set_cookie(), Some(REMOVAL));
    assert_eq!(store.stats().live, 0);
}

#[actix_web::test]
async fn a_bad_cookie_is_nobody_or_refused() {
    let (sessions, store, _) = sessions();
    let encoding = Encoding::Signed(Keys::new([[7; 32]]).unwrap());
    let sessions = sessions.cookie(Cookie::builder().encoding(encoding).build().unwrap());
    let mild = init_service(app(sessions.clone())).await;
    let strict = init_service(app(sessions.bad_cookie(BadCookie::Refuse))).await;
    let good = send!(strict, get "/count", None).cookie();
    let mut changed = good.clone().into_bytes();
    changed[40] ^= 1;
    let changed = String::from_utf8(changed).unwrap();
    for path in ["/count", "/user", "/argument"] {
        let answer = send!(strict, get path, Some(&changed));
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::BAD_REQUEST, "Bad Cookie"));
        assert_eq!(answer.set_cookie(), Some(REMOVAL));
        answer.assert_secret();
    }
    send!(strict, get "/static", Some(&changed)).assert_plain();
    send!(mild, get "/who", Some(&changed)).assert_asked();
    assert_eq!(send!(strict, get "/count", Some(&good)).body, "2");
    assert_eq!(store.stats().created, 1);
}

#[actix_web::test]
async fn answers_of_every_kind_carry_the_headers() {
    let (sessions, store, _) = sessions();
    let app = init_service(app(sessions.clone())).await;
    let fail = send!(app, get "/fail", None);
    assert_eq!(fail.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!fail.body.contains("secret"), "{}", fail.body);
    assert_eq!(store.get(fail.token().id()).unwrap().get_i64("step"), Some(1));

    let some = send!(app, get "/headers", None);
    let cookies = some.all(SET_COOKIE);
    assert_eq!((cookies.len(), &cookies[..2]), (3, &["theme=dark", "lang=en; Path=/"][..]));
    assert_eq!(some.all(VARY), ["Accept-Encoding", "cookie"]);
    assert_eq!(some.all(CACHE_CONTROL), ["private, max-age=60", "no-store"]);

    let stream = send!(app, get "/stream", None);
    assert_eq!(stream.body, "true", "a login after the head is refused");
    assert_eq!(store.get(stream.token().id()).unwrap().get_i64("a"), Some(2));

    let inner = send!(app, get "/in/count", None);
    inner.assert_secret();
    assert_eq!(send!(app, get "/in/count", Some(&inner.cookie())).body, "2");
}

#[actix_web::test]
async fn what_never_becomes_an_answer_leaves_no_session_behind() {
    let (sessions, store, _) = sessions();
    let cancelled = init_service(app(sessions.clone())).await;
    let request = TestRequest::get().uri("/stuck").to_request();
    let mut answer = Box::pin(try_call_service(&cancelled, request));
    assert!(poll_once(&mut answer).is_pending());
    assert_eq!(store.owner_count("alice"), 1);
    drop(answer);
    assert_eq!((store.owner_count("alice"), store.stats().live), (0, 0));

    // An error of another middleware goes past this one.
    let refusing =
        from_fn(async |request: ServiceRequest, next: actix_web::middleware::Next<_>| {
            next.call(request).await?;
            Err::<ServiceResponse, _>(actix_web::error::ErrorBadGateway("after"))
        });
    let app = App::new().route("/count", get().to(count)).wrap(refusing);
    let app = init_service(app.wrap(SessionMiddleware::new(sessions))).await;
    let request = TestRequest::get().uri("/count").to_request();
    assert!(try_call_service(&app, request).await.is_err());
    assert_eq!((store.stats().created, store.stats().live), (2, 0));
    store.validate();
}

#[actix_web::test]
async fn without_a_middleware_the_answer_says_what_is_missing() {
    let app = App::new()
        .route("/count", get().to(count))
        .route("/who", get().to(async |session: Option<Session>| session.is_some().to_string()));
    let app = init_service(app).await;
    let answer = send!(app, get "/count", None);
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.body.contains("`cloakroom::actix::SessionMiddleware`"), "{}", answer.body);
    assert_eq!(send!(app, get "/who", None).body, "false");
}

/// S5.
#[actix_web::test]
async fn a_token_is_renewed_by_time() {
    let (sessions, store, clock) = sessions();
    let app = init_service(app(sessions.renew_every(seconds(300)))).await;
    let old = send!(app, get "/count", None).cookie();
    clock.advance(seconds(299));
    send!(app, get "/count", Some(&old)).assert_asked();
    clock.advance(seconds(2));
    let renewed = send!(app, get "/count", Some(&old));
    renewed.assert_secret();
    for (cookie, count) in [(&old, "4"), (&renewed.cookie(), "5")] {
        let answer = send!(app, get "/count", Some(cookie));
        assert_eq!((answer.body.as_str(), answer.set_cookie()), (count, None));
    }
    clock.advance(seconds(11));
    assert_eq!(send!(app, get "/who", Some(&old)).body, "nobody, Some(Ended(Rotated))");
    assert_eq!(send!(app, get "/count", Some(&renewed.cookie())).body, "6");
    assert_eq!(store.stats().renewed, 1);
}

#[actix_web::test]
async fn a_bearer_gets_no_cookie() {
    let (sessions, store, _) = sessions();
    let app = init_service(app(sessions.bearer())).await;
    let token = store.create(Attributes::new()).unwrap();
    let bearer = |text: &str| {
        TestRequest::get().uri("/count").insert_header((AUTHORIZATION, format!("Bearer {text}")))
    };
    let answer = send!(app, bearer(&token.expose()));
    assert_eq!((answer.body.as_str(), answer.set_cookie()), ("1", None));
    assert_eq!(answer.all(VARY), ["cookie", "authorization"]);
    store.end(token.id(), Reason::Revoked).unwrap();
    let answer = send!(app, bearer(&token.expose()));
    assert_eq!((answer.status, answer.set_cookie()), (StatusCode::UNAUTHORIZED, None));
    assert_eq!(answer.all(WWW_AUTHENTICATE), ["Bearer"]);
    assert_eq!(store.read(token.id(), |_| ()), Err(Missing::Ended(Reason::Revoked)));
}

/// S32.
#[actix_web::test]
async fn a_form_needs_the_token_of_its_session() {
    let (sessions, ..) = sessions();
    let app = init_service(app(sessions.clone())).await;
    let page = send!(app, get "/token", None);
    let (cookie, text) = (page.cookie(), page.body);
    let others = send!(app, get "/token", None).body;
    let post = |path: &str, content_type: &str, body: String| {
        let request = TestRequest::post().uri(path).insert_header((COOKIE, cookie.as_str()));
        request.insert_header((CONTENT_TYPE, content_type)).set_payload(body)
    };
    let form = "application/x-www-form-urlencoded";
    for (csrf, status) in [(&text, 200), (&others, 403), (&String::new(), 403)] {
        let body = format!("a=1&csrf_token={csrf}");
        assert_eq!(send!(app, post("/form", form, body.clone())).status, status);
        assert_eq!(send!(app, post("/bare", form, body.clone())).status, status);
        assert_eq!(send!(app, post("/bare", "text/plain", body.clone())).status, 403);
        let zipped = post("/bare", form, body).insert_header((CONTENT_ENCODING, "gzip"));
        assert_eq!(send!(app, zipped).status, 403);
        let json = post("/json", "application/json", "17".into());
        let answer = send!(app, json.insert_header(("x-csrf-token", csrf.as_str())));
        assert_eq!(answer.status, status);
        if status == 200 {
            assert_eq!(answer.body, "17");
        }
    }
    let answer = send!(app, post("/form", form, format!("a=1%20x&csrf_token={text}")));
    assert_eq!(answer.body, "1 x");
}

// ---- Workers -------------------------------------------------------------------------------

fn get_over_tcp(address: SocketAddr, cookie: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request =
        format!("GET /count HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// 64 requests at once that each add 1, spread over workers: no update is lost.
#[actix_web::test]
async fn parallel_requests_lose_no_update() {
    let store = store_with(|builder| builder);
    let token = store.create(Attributes::new()).unwrap();
    let cookie = format!("__Host-id={}", token.expose());
    let sessions = Sessions::new(store.clone());
    let server = HttpServer::new(move || app(sessions.clone())).workers(4).disable_signals();
    let server = server.bind(("127.0.0.1", 0)).unwrap();
    let address = server.addrs()[0];
    let running = server.run();
    let handle = running.handle();
    let running = actix_web::rt::spawn(running);
    let counts = actix_web::rt::task::spawn_blocking(move || {
        parallel(64, |_| get_over_tcp(address, &cookie).parse::<i64>().unwrap())
    });
    let mut counts = counts.await.unwrap();
    counts.sort_unstable();
    assert_eq!(counts, (1..=64).collect::<Vec<i64>>());
    assert_eq!(store.get(token.id()).unwrap().get_i64("count"), Some(64));
    handle.stop(false).await;
    running.await.unwrap().unwrap();
}
