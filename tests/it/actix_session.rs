//! `cloakroom::actix_session`: what actix-session asks of a store, and what its own stores do not
//! promise: no update is lost, nothing that ended comes back.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use actix_session::config::{CookieContentSecurity, PersistentSession, TtlExtensionPolicy};
use actix_session::storage::{SessionKey, SessionStore, generate_session_key};
use actix_session::{Session, SessionMiddleware};
use actix_web::body::MessageBody;
use actix_web::cookie::{Cookie, Key};
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::{StatusCode, header};
use actix_web::{App, Error, test as service, web};
use cloakroom::actix_session::{CloakroomStore, OnConflict};
use cloakroom::{ManualClock, Reason};
use futures_util::future::join_all;
use tokio::sync::Barrier;

use crate::support::{seconds, store_with};

const TTL: time::Duration = time::Duration::minutes(30);

fn sessions() -> CloakroomStore {
    CloakroomStore::new(store_with(|builder| builder))
}

fn on_clock() -> (CloakroomStore, ManualClock) {
    let clock = ManualClock::new();
    let store = store_with(|builder| builder.clock(&clock).expiry_thread(false));
    (CloakroomStore::new(store), clock)
}

type State = HashMap<String, String>;

fn state(pairs: &[(&str, &str)]) -> State {
    pairs.iter().map(|&(key, text)| (key.to_owned(), text.to_owned())).collect()
}

fn key(text: &str) -> SessionKey {
    SessionKey::try_from(text.to_owned()).unwrap()
}

async fn saved(store: &CloakroomStore, pairs: &[(&str, &str)]) -> String {
    store.save(state(pairs), &TTL).await.unwrap().into()
}

async fn load(store: &CloakroomStore, id: &str) -> State {
    store.load(&key(id)).await.unwrap().unwrap()
}

async fn update(store: &CloakroomStore, id: &str, state: State) -> Result<String, String> {
    let updated = store.update(key(id), state, &TTL).await;
    updated.map(String::from).map_err(|error| match std::error::Error::source(&error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    })
}

/// A session's data without what the store hands out for itself.
async fn data(store: &CloakroomStore, id: &str) -> Option<BTreeMap<String, String>> {
    let state = store.load(&key(id)).await.unwrap()?;
    Some(state.into_iter().filter(|(key, _)| !key.starts_with("cloakroom.")).collect())
}

fn pairs(pairs: &[(&str, &str)]) -> Option<BTreeMap<String, String>> {
    Some(state(pairs).into_iter().collect())
}

fn set(state: &mut State, key: &str, text: &str) {
    state.insert(key.to_owned(), text.to_owned());
}

// ---- What actix-session asks of a store ------------------------------------------------------

#[actix_web::test]
async fn what_was_saved_is_loaded_byte_by_byte() {
    let store = sessions();
    let many = "340282366920938463463374607431768211455";
    let texts = [
        ("n", "7"),
        ("text", "\"a\\u00e9\""),
        ("list", "[1, 2]"),
        ("float", "0.1"),
        ("map", "{\"b\":1,\"a\":null}"),
        ("many", many),
        ("odd", "not JSON"),
        ("empty", ""),
    ];
    let id = saved(&store, &texts).await;
    assert_eq!(id.len(), 43);
    assert_eq!(data(&store, &id).await, pairs(&texts));
    let session = CloakroomStore::session_id(&key(&id)).unwrap();
    let read = |s: &cloakroom::ArchivedAttributes| {
        (s.get_i64("n"), s.get("map").is_some(), s.get_str("odd").is_some())
    };
    assert_eq!(store.store().read(session, read), Ok((Some(7), true, false)));
    // What nobody touched is not written anew.
    assert_eq!(update(&store, &id, load(&store, &id).await).await, Ok(id.clone()));
    assert_eq!(data(&store, &id).await, pairs(&texts));
}

#[actix_web::test]
async fn a_missing_session_is_none() {
    let store = sessions();
    let longest = "a".repeat(4064);
    let unknown: String = generate_session_key().into();
    for id in ["", "a", &unknown, &longest, &"A".repeat(43)] {
        assert!(store.load(&key(id)).await.unwrap().is_none());
        store.update_ttl(&key(id), &TTL).await.unwrap();
        store.delete(&key(id)).await.unwrap();
    }
    let id = saved(&store, &[("a", "1")]).await;
    store.delete(&key(&id)).await.unwrap();
    assert!(store.load(&key(&id)).await.unwrap().is_none());
    store.delete(&key(&id)).await.unwrap();
}

/// The middleware hands a state to `update` for which there is no session (any more): a key that
/// the store did not make is never adopted, and an expired login not continued.
#[actix_web::test]
async fn an_update_of_what_expired_begins_a_new_session_with_what_it_set() {
    let (store, clock) = on_clock();
    let unknown: String = generate_session_key().into();
    let new = update(&store, &unknown, state(&[("a", "1")])).await.unwrap();
    assert_ne!(new, unknown);
    assert_eq!(data(&store, &new).await, pairs(&[("a", "1")]));
    assert!(store.load(&key(&unknown)).await.unwrap().is_none());

    let id = saved(&store, &[("user", "\"alice\""), ("cart", "1")]).await;
    let mut loaded = load(&store, &id).await;
    clock.advance(seconds(1800));
    assert!(store.load(&key(&id)).await.unwrap().is_none());
    set(&mut loaded, "cart", "2");
    let new = update(&store, &id, loaded).await.unwrap();
    assert_ne!(new, id);
    assert_eq!(data(&store, &new).await, pairs(&[("cart", "2")]));
    assert!(store.load(&key(&id)).await.unwrap().is_none());
}

#[actix_web::test]
async fn the_time_to_live_is_extended_by_updates_and_on_demand_only() {
    let (store, clock) = on_clock();
    let id = saved(&store, &[("a", "1")]).await;
    let minutes = time::Duration::minutes;
    let id = &key(&id);
    let alive = async || store.load(id).await.unwrap().is_some();
    clock.advance(seconds(29 * 60));
    assert!(alive().await, "to look is no activity");
    update(&store, id.as_ref(), load(&store, id.as_ref()).await).await.unwrap();
    for _ in 0..3 {
        clock.advance(seconds(29 * 60));
        store.update_ttl(id, &TTL).await.unwrap();
    }
    clock.advance(seconds(29 * 60));
    store.update_ttl(id, &minutes(5)).await.unwrap();
    clock.advance(seconds(299));
    assert!(alive().await);
    store.update(key(id.as_ref()), load(&store, id.as_ref()).await, &minutes(1)).await.unwrap();
    clock.advance(seconds(59));
    assert!(alive().await);
    clock.advance(seconds(1));
    assert!(!alive().await);
    store.update_ttl(id, &TTL).await.unwrap();
    assert!(!alive().await, "what expired stays expired");

    for none in [time::Duration::ZERO, minutes(-1)] {
        let id = store.save(state(&[("a", "1")]), &none).await.unwrap();
        assert!(store.load(&id).await.unwrap().is_none());
    }
    let id = store.save(state(&[("a", "1")]), &time::Duration::MAX).await.unwrap();
    clock.advance(Duration::from_secs(4 * 365 * 86_400));
    assert!(store.load(&id).await.unwrap().is_some());
}

#[actix_web::test]
async fn a_lifetime_bounds_what_updates_extend() {
    let (store, clock) = on_clock();
    let store = store.lifetime(seconds(3600));
    let id = saved(&store, &[("a", "1")]).await;
    for _ in 0..3 {
        clock.advance(seconds(1199));
        update(&store, &id, load(&store, &id).await).await.unwrap();
        store.update_ttl(&key(&id), &TTL).await.unwrap();
    }
    clock.advance(seconds(2));
    assert!(store.load(&key(&id)).await.unwrap().is_some());
    clock.advance(seconds(1));
    assert!(store.load(&key(&id)).await.unwrap().is_none());
}

// ---- No update is lost, nothing comes back ---------------------------------------------------

#[actix_web::test]
async fn updates_of_different_keys_are_both_kept() {
    let store = sessions();
    let id = saved(&store, &[("old", "0"), ("gone", "0")]).await;
    let (mut one, mut other) = (load(&store, &id).await, load(&store, &id).await);
    set(&mut one, "a", "1");
    set(&mut one, "old", "1");
    set(&mut other, "b", "2");
    other.remove("gone");
    update(&store, &id, one).await.unwrap();
    update(&store, &id, other).await.unwrap();
    assert_eq!(data(&store, &id).await, pairs(&[("a", "1"), ("b", "2"), ("old", "1")]));
}

#[actix_web::test]
async fn of_two_updates_of_one_key_the_later_is_refused_or_wins() {
    for on_conflict in [OnConflict::Refuse, OnConflict::LastWins] {
        let store = sessions().on_conflict(on_conflict).counter("n");
        let id = saved(&store, &[("a", "0")]).await;
        let (mut one, mut other) = (load(&store, &id).await, load(&store, &id).await);
        for (state, text) in [(&mut one, "1"), (&mut other, "2")] {
            set(state, "a", text);
            set(state, "n", "1");
        }
        update(&store, &id, one).await.unwrap();
        let updated = update(&store, &id, other).await;
        if on_conflict == OnConflict::Refuse {
            assert!(updated.unwrap_err().contains("\"a\" was changed by another request"));
            assert_eq!(data(&store, &id).await, pairs(&[("a", "1"), ("n", "1")]));
        } else {
            updated.unwrap();
            assert_eq!(data(&store, &id).await, pairs(&[("a", "2"), ("n", "2")]));
        }
    }
}

/// A logout while a request is under way must not be undone by it.
#[actix_web::test]
async fn an_update_does_not_bring_an_ended_session_back() {
    let store = sessions();
    for reason in [Reason::LoggedOut, Reason::Revoked] {
        let id = saved(&store, &[("user", "\"alice\"")]).await;
        let mut loaded = load(&store, &id).await;
        set(&mut loaded, "a", "1");
        store.store().end(CloakroomStore::session_id(&key(&id)).unwrap(), reason).unwrap();
        assert_eq!(update(&store, &id, loaded).await, Err(format!("session ended: {reason}")));
        assert!(store.load(&key(&id)).await.unwrap().is_none());
    }
    assert_eq!(store.store().stats().live, 0);
}

#[actix_web::test]
async fn what_is_too_large_is_refused_and_changes_nothing() {
    let store = sessions();
    let id = saved(&store, &[("a", "1")]).await;
    let mut loaded = load(&store, &id).await;
    set(&mut loaded, "odd", &format!("\"{}\"", "x".repeat(1 << 20)));
    assert!(update(&store, &id, loaded.clone()).await.is_err());
    assert!(store.save(loaded, &TTL).await.is_err());
    assert_eq!(data(&store, &id).await, pairs(&[("a", "1")]));
}

// ---- Through the middleware ------------------------------------------------------------------

async fn set_route(session: Session, path: web::Path<(String, String)>) -> String {
    let (key, value) = path.into_inner();
    session.insert(key, value).unwrap();
    String::new()
}

async fn get_route(session: Session, key: web::Path<String>) -> String {
    session.get::<serde_json::Value>(&key).unwrap().map_or("none".into(), |v| v.to_string())
}

async fn add_route(session: Session, barrier: web::Data<Option<Barrier>>) -> String {
    let n = session.get::<i64>("n").unwrap().unwrap_or(0);
    if let Some(barrier) = barrier.as_ref() {
        barrier.wait().await;
    }
    session.insert("n", n + 1).unwrap();
    String::new()
}

/// An application over a store.
macro_rules! app {
    ($store:expr, $security:expr, $policy:expr, $barrier:expr) => {{
        let middleware = SessionMiddleware::builder($store, Key::generate())
            .cookie_content_security($security)
            .session_lifecycle(
                PersistentSession::default().session_ttl(TTL).session_ttl_extension_policy($policy),
            )
            .build();
        let app = App::new()
            .app_data(web::Data::new($barrier))
            .route("/idle", web::get().to(|| async { "" }))
            .route("/set/{key}/{value}", web::get().to(set_route))
            .route("/get/{key}", web::get().to(get_route))
            .route("/add", web::get().to(add_route))
            .route(
                "/renew",
                web::get().to(|s: Session| async move {
                    s.renew();
                    ""
                }),
            )
            .route(
                "/purge",
                web::get().to(|s: Session| async move {
                    s.purge();
                    ""
                }),
            )
            .route(
                "/clear",
                web::get().to(|s: Session| async move {
                    s.clear();
                    ""
                }),
            )
            .wrap(middleware);
        service::init_service(app).await
    }};
}

/// Asks an application, whose type has no name.
macro_rules! ask {
    ($app:expr, $path:expr, $cookie:expr) => {
        answer($app.call(request($path, $cookie).to_request()))
    };
}

fn request(path: &str, cookie: Option<&Cookie<'static>>) -> service::TestRequest {
    let request = service::TestRequest::with_uri(path);
    match cookie {
        Some(cookie) => request.cookie(cookie.clone()),
        None => request,
    }
}

/// The answer to one request: status, the cookie it sets, the text.
async fn answer<B: MessageBody>(
    response: impl Future<Output = Result<ServiceResponse<B>, Error>>,
) -> (StatusCode, Option<Cookie<'static>>, String) {
    let response = match response.await {
        Ok(response) => response,
        Err(error) => return (error.as_response_error().status_code(), None, String::new()),
    };
    let status = response.status();
    let set = response.headers().get(header::SET_COOKIE).map(|value| {
        Cookie::parse_encoded(value.to_str().unwrap().to_owned()).unwrap().into_owned()
    });
    (status, set, String::from_utf8(service::read_body(response).await.to_vec()).unwrap())
}

#[actix_web::test]
async fn a_visit_by_the_middleware() {
    for security in [CookieContentSecurity::Signed, CookieContentSecurity::Private] {
        let store = sessions();
        let app =
            app!(store.clone(), security, TtlExtensionPolicy::OnStateChanges, None::<Barrier>);
        assert_eq!(ask!(app, "/idle", None).await.1, None, "no session without data");
        assert_eq!(store.store().stats().created, 0);
        let cookie = ask!(app, "/set/a/1", None).await.1.unwrap();
        assert_eq!(cookie.max_age(), Some(TTL));
        assert_eq!(ask!(app, "/get/a", Some(&cookie)).await.2, "\"1\"");
        assert_eq!(ask!(app, "/get/a", None).await.2, "none");
        assert_eq!(ask!(app, "/get/a", Some(&cookie)).await.1, None, "reading sets no cookie");
        assert!(ask!(app, "/set/b/2", Some(&cookie)).await.1.is_some());
        assert_eq!(store.store().stats().live, 1);

        let new = ask!(app, "/renew", Some(&cookie)).await.1.unwrap();
        assert_ne!(new.value(), cookie.value());
        assert_eq!(ask!(app, "/get/b", Some(&new)).await.2, "\"2\"");
        assert_eq!(ask!(app, "/get/b", Some(&cookie)).await.2, "none", "dead at once");

        ask!(app, "/clear", Some(&new)).await;
        assert_eq!(ask!(app, "/get/b", Some(&new)).await.2, "none");
        ask!(app, "/set/c/3", Some(&new)).await;
        let gone = ask!(app, "/purge", Some(&new)).await.1.unwrap();
        assert_eq!((gone.value(), gone.max_age()), ("", Some(time::Duration::ZERO)));
        assert_eq!(ask!(app, "/get/c", Some(&new)).await.2, "none");
        assert_eq!(ask!(app, "/get/c", Some(&gone)).await.2, "none");
        assert_eq!(store.store().stats().live, 0);
    }
}

#[actix_web::test]
async fn a_time_to_live_that_each_request_extends() {
    let (store, clock) = on_clock();
    let signed = CookieContentSecurity::Signed;
    let app = app!(store, signed, TtlExtensionPolicy::OnEveryRequest, None::<Barrier>);
    let cookie = ask!(app, "/set/a/1", None).await.1.unwrap();
    for _ in 0..5 {
        clock.advance(seconds(1700));
        let again = ask!(app, "/idle", Some(&cookie)).await.1.unwrap();
        assert_eq!((again.value(), again.max_age()), (cookie.value(), Some(TTL)));
    }
    assert_eq!(ask!(app, "/get/a", Some(&cookie)).await.2, "\"1\"");
    clock.advance(seconds(1800));
    assert_eq!(ask!(app, "/get/a", Some(&cookie)).await.2, "none");
}

/// The issue's own words: 64 parallel requests that each add 1. All have loaded before the first
/// one saves.
#[actix_web::test]
async fn of_64_that_add_1_at_a_time_each_counts() {
    for is_counter in [true, false] {
        let mut store = sessions();
        if is_counter {
            store = store.counter("n");
        }
        let (signed, policy) = (CookieContentSecurity::Signed, TtlExtensionPolicy::OnStateChanges);
        let app = app!(store, signed, policy, Some(Barrier::new(64)));
        let cookie = ask!(app, "/set/a/1", None).await.1.unwrap();
        let added = join_all((0..64).map(|_| ask!(app, "/add", Some(&cookie)))).await;
        let acknowledged = added.iter().filter(|(status, ..)| status.is_success()).count();
        let n = ask!(app, "/get/n", Some(&cookie)).await.2;
        assert_eq!(n, acknowledged.to_string(), "what was acknowledged counts");
        assert_eq!(acknowledged, if is_counter { 64 } else { 1 });
    }
}

/// Workers are threads, each with a handle of its own.
#[test]
fn threads_that_update_at_a_time_lose_nothing() {
    let store = sessions().counter("n");
    let run = |future: std::pin::Pin<Box<dyn Future<Output = String>>>| {
        actix_web::rt::System::new().block_on(future)
    };
    let first = store.clone();
    let id = run(Box::pin(async move { saved(&first, &[("a", "1")]).await }));
    crate::support::parallel(4, |thread| {
        let (store, id) = (store.clone(), id.clone());
        run(Box::pin(async move {
            for round in 0..100 {
                let mut loaded = load(&store, &id).await;
                let n: i64 = loaded.get("n").map_or(0, |text| text.parse().unwrap());
                set(&mut loaded, "n", &(n + 1).to_string());
                set(&mut loaded, &format!("{thread}-{round}"), "true");
                update(&store, &id, loaded).await.unwrap();
            }
            String::new()
        }))
    });
    let last = store.clone();
    let n = run(Box::pin(async move {
        let loaded = load(&last, &id).await;
        assert_eq!(loaded.len(), 403);
        loaded["n"].clone()
    }));
    assert_eq!(n, "400");
}
