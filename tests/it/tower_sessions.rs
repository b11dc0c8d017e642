//! `cloakroom::tower_sessions`: what tower-sessions asks of a store, and what its own stores do
//! not promise: no update is lost, nothing that ended comes back.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{Request, StatusCode, header};
use axum::routing::get;
use cloakroom::tower_sessions::{CloakroomStore, OnConflict};
use cloakroom::{Attributes, ManualClock, Missing, Reason, Store};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::Barrier;
use tower::ServiceExt as _;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::ExpiredDeletion as _;
use tower_sessions::{
    CachingSessionStore, Expiry, MemoryStore, Session, SessionManagerLayer, SessionStore,
};

use crate::support::{seconds, store_with};

fn sessions() -> CloakroomStore {
    CloakroomStore::new(store_with(|builder| builder))
}

fn on_clock() -> (CloakroomStore, ManualClock) {
    let clock = ManualClock::new();
    let store = store_with(|builder| builder.clock(&clock).expiry_thread(false));
    (CloakroomStore::new(store), clock)
}

fn in_minutes(minutes: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + time::Duration::minutes(minutes)
}

fn record(pairs: &[(&str, Value)]) -> Record {
    let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    Record { id: Id::default(), data, expiry_date: in_minutes(30) }
}

async fn created(store: &CloakroomStore, pairs: &[(&str, Value)]) -> Record {
    let mut record = record(pairs);
    store.create(&mut record).await.unwrap();
    record
}

async fn load(store: &CloakroomStore, id: Id) -> Record {
    store.load(&id).await.unwrap().unwrap()
}

/// A session's data without what the store hands out for itself.
async fn data(store: &CloakroomStore, id: Id) -> Option<BTreeMap<String, Value>> {
    let record = store.load(&id).await.unwrap()?;
    Some(record.data.into_iter().filter(|(key, _)| !key.starts_with("cloakroom.")).collect())
}

fn pairs(pairs: &[(&str, Value)]) -> Option<BTreeMap<String, Value>> {
    Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
}

fn set(record: &mut Record, key: &str, value: Value) {
    record.data.insert(key.to_owned(), value);
}

// ---- What tower-sessions asks of a store -----------------------------------------------------

#[tokio::test]
async fn what_was_created_is_loaded() {
    let store = sessions();
    let nested = json!({"list": [1, -2, 2.5, u64::MAX, null, true, "text"], "map": {"b": 1}});
    let record = created(&store, &[("a", nested), ("b", json!(7))]).await;
    assert_eq!(load(&store, record.id).await, record);
}

#[tokio::test]
async fn a_deleted_session_is_not_loaded() {
    let store = sessions();
    let record = created(&store, &[("a", json!(1))]).await;
    store.delete(&record.id).await.unwrap();
    assert!(store.load(&record.id).await.unwrap().is_none());
    store.delete(&record.id).await.unwrap();
    assert!(store.load(&Id::default()).await.unwrap().is_none());
}

/// Two sessions that are created with one id must not be one session.
#[tokio::test]
async fn each_session_gets_an_id_of_its_own() {
    let store = sessions();
    let asked = record(&[("a", json!(1))]);
    let (mut first, mut second) = (asked.clone(), asked.clone());
    store.create(&mut first).await.unwrap();
    store.create(&mut second).await.unwrap();
    assert!(first.id != second.id && first.id != asked.id && second.id != asked.id);
    assert_eq!(first.id.to_string().len(), 22);
    assert!(store.load(&asked.id).await.unwrap().is_none(), "an id is never adopted");
}

#[tokio::test]
async fn an_expired_session_is_not_loaded() {
    let (store, _clock) = on_clock();
    let mut record = created(&store, &[("a", json!(1))]).await;
    record.expiry_date = OffsetDateTime::now_utc() + time::Duration::milliseconds(30);
    store.save(&record).await.unwrap();
    assert_eq!(load(&store, record.id).await.expiry_date, record.expiry_date);
    tokio::time::sleep(Duration::from_millis(40)).await;
    assert!(store.load(&record.id).await.unwrap().is_none(), "by the date, to the millisecond");

    let mut late = self::record(&[]);
    late.expiry_date = in_minutes(-1);
    store.create(&mut late).await.unwrap();
    assert!(store.load(&late.id).await.unwrap().is_none());
}

/// The store's own clock decides, too: it does not depend on the wall clock alone.
#[tokio::test]
async fn a_session_expires_so_long_after_its_last_save() {
    let (store, clock) = on_clock();
    let record = created(&store, &[("a", json!(1))]).await;
    clock.advance(seconds(29 * 60));
    let mut loaded = load(&store, record.id).await;
    loaded.expiry_date = in_minutes(30);
    store.save(&loaded).await.unwrap();
    clock.advance(seconds(29 * 60));
    // To look is no activity.
    assert!(store.load(&record.id).await.unwrap().is_some());
    clock.advance(seconds(61));
    assert!(store.load(&record.id).await.unwrap().is_none());
    assert!(store.save(&loaded).await.is_err());
    store.delete_expired().await.unwrap();
    assert_eq!(store.store().stats().live, 0);
}

/// Where the application names a moment, each save leaves less time.
#[tokio::test]
async fn a_fixed_date_is_not_moved_by_saves() {
    let (store, clock) = on_clock();
    let mut record = created(&store, &[]).await;
    for minutes in [20, 10, 25] {
        record.expiry_date = in_minutes(minutes);
        store.save(&record).await.unwrap();
        let info = store.store().info(CloakroomStore::session_id(&record.id)).unwrap();
        let left = info.expires.unwrap().duration_since(info.last_seen).unwrap();
        assert!(left <= seconds(60 * minutes as u64) && left > seconds(60 * minutes as u64 - 2));
        clock.advance(seconds(1));
    }
}

#[tokio::test]
async fn a_lifetime_bounds_what_saves_extend() {
    let (store, clock) = on_clock();
    let store = store.lifetime(seconds(3600));
    let record = created(&store, &[("a", json!(1))]).await;
    for _ in 0..3 {
        clock.advance(seconds(1000));
        let mut loaded = load(&store, record.id).await;
        loaded.expiry_date = in_minutes(45);
        store.save(&loaded).await.unwrap();
    }
    clock.advance(seconds(599));
    assert!(store.load(&record.id).await.unwrap().is_some());
    clock.advance(seconds(1));
    assert!(store.load(&record.id).await.unwrap().is_none());
}

/// As the store behind a cache; a cache is of no use, but must not break it.
#[tokio::test]
async fn a_cache_in_front_works() {
    let (cache, store) = (MemoryStore::default(), sessions());
    let both = CachingSessionStore::new(cache.clone(), store.clone());
    let mut record = record(&[("a", json!(1))]);
    both.create(&mut record).await.unwrap();
    assert_eq!(cache.load(&record.id).await.unwrap().as_ref(), Some(&record));
    assert_eq!(load(&store, record.id).await, record);

    set(&mut record, "a", json!(2));
    both.save(&record).await.unwrap();
    assert_eq!(data(&store, record.id).await, pairs(&[("a", json!(2))]));
    cache.delete(&record.id).await.unwrap();
    let mut loaded = both.load(&record.id).await.unwrap().unwrap();
    assert!(cache.load(&record.id).await.unwrap().is_some(), "filled again");
    set(&mut loaded, "a", json!(3));
    both.save(&loaded).await.unwrap();
    both.delete(&record.id).await.unwrap();
    assert!(both.load(&record.id).await.unwrap().is_none());
}

// ---- No update is lost -----------------------------------------------------------------------

/// Two requests of one session at a time, each with another key: both get through.
#[tokio::test]
async fn saves_of_different_keys_are_both_kept() {
    let store = sessions();
    let id = created(&store, &[("old", json!(0)), ("gone", json!(0))]).await.id;
    let (mut one, mut other) = (load(&store, id).await, load(&store, id).await);
    set(&mut one, "a", json!(1));
    set(&mut one, "old", json!(1));
    set(&mut other, "b", json!([2]));
    other.data.remove("gone");
    store.save(&one).await.unwrap();
    store.save(&other).await.unwrap();
    let all = [("a", json!(1)), ("b", json!([2])), ("old", json!(1))];
    assert_eq!(data(&store, id).await, pairs(&all));
}

/// The same key: who answers with success was not overwritten unseen.
#[tokio::test]
async fn of_two_saves_of_one_key_the_later_is_refused() {
    let store = sessions();
    for (mine, theirs, kept) in [
        (Some(json!("mine")), Some(json!("theirs")), None),
        (None, Some(json!("theirs")), None),
        (Some(json!("mine")), None, None),
        (Some(json!("same")), Some(json!("same")), Some(())),
        (Some(json!(true)), Some(json!(true)), Some(())),
        // Each may have added one.
        (Some(json!(2)), Some(json!(2)), None),
        (Some(json!(["a"])), Some(json!(["a"])), None),
        (None, None, Some(())),
    ] {
        let id = created(&store, &[("key", json!("base"))]).await.id;
        let (mut one, mut other) = (load(&store, id).await, load(&store, id).await);
        for (record, value) in [(&mut one, &theirs), (&mut other, &mine)] {
            match value {
                Some(value) => set(record, "key", value.clone()),
                None => drop(record.data.remove("key")),
            }
        }
        set(&mut other, "beside", json!(1));
        store.save(&one).await.unwrap();
        let saved = store.save(&other).await;
        assert_eq!(saved.is_ok(), kept.is_some(), "{mine:?} over {theirs:?}: {saved:?}");
        let after = data(&store, id).await.unwrap();
        assert_eq!(after.get("key"), theirs.as_ref());
        assert_eq!(after.contains_key("beside"), kept.is_some(), "all or nothing");
        if let Err(error) = saved {
            assert!(error.to_string().contains("\"key\" was changed by another"), "{error}");
            let mut again = load(&store, id).await;
            set(&mut again, "key", json!("again"));
            store.save(&again).await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_last_wins_where_that_was_chosen() {
    let store = sessions().on_conflict(OnConflict::LastWins);
    let id = created(&store, &[("a", json!(0)), ("b", json!(0))]).await.id;
    let (mut one, mut other) = (load(&store, id).await, load(&store, id).await);
    set(&mut one, "a", json!(1));
    set(&mut one, "b", json!(1));
    set(&mut other, "a", json!(2));
    store.save(&one).await.unwrap();
    store.save(&other).await.unwrap();
    assert_eq!(data(&store, id).await, pairs(&[("a", json!(2)), ("b", json!(1))]));
}

/// Counters count, from nothing on, whatever is mixed with it.
#[tokio::test]
async fn counters_add_up() {
    let store = sessions().counter("n");
    let id = created(&store, &[("user", json!(3))]).await.id;
    let mut records = Vec::new();
    for _ in 0..10 {
        records.push(load(&store, id).await);
    }
    for (index, record) in records.iter_mut().enumerate() {
        set(record, "n", json!(1));
        if index == 2 {
            set(record, "user", json!(7));
        }
        store.save(record).await.unwrap();
    }
    let all = [("n", json!(10)), ("user", json!(7))];
    assert_eq!(data(&store, id).await, pairs(&all));

    // A reset, a step back, what is no number any more, what is too large.
    let (mut back, mut odd, mut large) =
        (load(&store, id).await, load(&store, id).await, load(&store, id).await);
    set(&mut back, "n", json!(0));
    set(&mut records[0], "n", json!(3));
    set(&mut odd, "n", json!("text"));
    set(&mut large, "n", json!(i64::MAX));
    store.save(&back).await.unwrap();
    store.save(&records[0]).await.unwrap();
    assert_eq!(data(&store, id).await.unwrap()["n"], json!(2));
    store.save(&odd).await.unwrap_err();
    set(&mut back, "n", json!(i64::MAX - 1));
    store.save(&back).await.unwrap_err();
    store.save(&large).await.unwrap();
    assert_eq!(data(&store, id).await.unwrap()["n"], json!(i64::MAX - 8));
}

/// A handler may save before the middleware does, and goes on from there.
#[tokio::test]
async fn a_request_may_save_more_than_once() {
    let store = sessions().counter("n");
    let mut first = created(&store, &[("a", json!(0))]).await;
    let id = first.id;
    let mut second = load(&store, id).await;
    for round in 1..=5 {
        for (record, key) in [(&mut first, "a"), (&mut second, "b")] {
            set(record, key, json!(round));
            set(record, "n", json!(round));
            store.save(record).await.unwrap();
        }
        let all = [("a", json!(round)), ("b", json!(round)), ("n", json!(2 * round))];
        assert_eq!(data(&store, id).await, pairs(&all));
    }
    first.data.remove("a");
    store.save(&first).await.unwrap();
    store.save(&first).await.unwrap();
    set(&mut second, "a", json!("new"));
    store.save(&second).await.unwrap_err();
    assert_eq!(data(&store, id).await, pairs(&[("b", json!(5)), ("n", json!(10))]));
}

/// To clear a session means all of it, also what others added meanwhile.
#[tokio::test]
async fn a_cleared_session_is_replaced() {
    let store = sessions();
    let id = created(&store, &[("a", json!(1))]).await.id;
    let (mut one, mut other) = (load(&store, id).await, load(&store, id).await);
    set(&mut one, "b", json!(2));
    store.save(&one).await.unwrap();
    other.data.clear();
    set(&mut other, "c", json!(3));
    store.save(&other).await.unwrap();
    assert_eq!(data(&store, id).await, pairs(&[("c", json!(3))]));
}

/// What a record says of its load may be anything: it comes from the application's hands.
#[tokio::test]
async fn what_a_record_started_from_is_checked() {
    let store = sessions();
    let (mine, other) = (created(&store, &[("a", json!(1))]).await, created(&store, &[]).await);
    let of_another = load(&store, other.id).await.data["cloakroom.loaded"].clone();
    for odd in [json!("nonsense"), json!(7), json!(""), json!("A".repeat(100_000)), of_another] {
        let mut record = load(&store, mine.id).await;
        set(&mut record, "cloakroom.loaded", odd);
        set(&mut record, "cloakroom.expiry", json!("nonsense"));
        store.save(&record).await.unwrap();
        assert_eq!(data(&store, mine.id).await, pairs(&[("a", json!(1))]));
    }
}

/// A deploy between load and save: the record tells by itself what it started from.
#[cfg(unix)]
#[tokio::test]
async fn a_restart_between_load_and_save_loses_nothing() {
    let directory = std::env::temp_dir().join(format!("cloakroom-tower-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    let open = || {
        let store: Store = Store::builder().segment_bytes(1 << 20).open(&directory).unwrap();
        CloakroomStore::new(store).counter("n")
    };
    let store = open();
    let id = created(&store, &[("a", json!(1)), ("n", json!(1))]).await.id;
    let mut loaded = load(&store, id).await;
    drop(store);
    let store = open();
    let mut other = load(&store, id).await;
    set(&mut other, "b", json!(2));
    set(&mut other, "n", json!(5));
    store.save(&other).await.unwrap();
    set(&mut loaded, "a", json!(3));
    set(&mut loaded, "n", json!(2));
    store.save(&loaded).await.unwrap();
    let all = [("a", json!(3)), ("b", json!(2)), ("n", json!(6))];
    assert_eq!(data(&store, id).await, pairs(&all));
    drop(store);
    std::fs::remove_dir_all(&directory).unwrap();
}

/// A rotation is a deletion with a creation: what others saved meanwhile, and whose the session is,
/// must not be lost in between.
#[tokio::test]
async fn a_rotation_takes_over_what_others_saved() {
    let store = sessions().counter("n");
    let base = [("n", json!(5)), ("a", json!(1)), ("gone", json!(1))];
    let old = created(&store, &base).await.id;
    store.store().bind(CloakroomStore::session_id(&old), "alice").unwrap();
    let (mut mine, mut other) = (load(&store, old).await, load(&store, old).await);
    set(&mut mine, "mine", json!(1));
    set(&mut mine, "n", json!(6));
    store.save(&mine).await.unwrap();
    set(&mut mine, "n", json!(7));
    set(&mut mine, "a", json!(2));
    set(&mut other, "other", json!(1));
    set(&mut other, "n", json!(6));
    set(&mut other, "a", json!(3));
    other.data.remove("gone");
    store.save(&other).await.unwrap();

    store.delete(&old).await.unwrap();
    store.create(&mut mine).await.unwrap();
    assert_ne!(mine.id, old);
    let all = [("n", json!(8)), ("a", json!(2)), ("mine", json!(1)), ("other", json!(1))];
    assert_eq!(data(&store, mine.id).await, pairs(&all));
    let owner = store.store().owner(CloakroomStore::session_id(&mine.id)).unwrap();
    assert_eq!(owner.as_deref(), Some("alice"));

    // It goes on from there, and removes nothing that it never saw.
    set(&mut mine, "a", json!(4));
    store.save(&mine).await.unwrap();
    let all = [("n", json!(8)), ("a", json!(4)), ("mine", json!(1)), ("other", json!(1))];
    assert_eq!(data(&store, mine.id).await, pairs(&all));

    // Once: a second one that goes on with the same session is a session of its own.
    other.data.insert("b".into(), json!(1));
    store.create(&mut other).await.unwrap();
    assert_eq!(store.store().owner(CloakroomStore::session_id(&other.id)).unwrap(), None);
}

// ---- What has ended stays ended --------------------------------------------------------------

#[tokio::test]
async fn a_save_does_not_bring_an_ended_session_back() {
    let (store, clock) = on_clock();
    type End = fn(&CloakroomStore, Id, &ManualClock);
    let by_expiry: End = |_, _, clock| clock.advance(seconds(1801));
    let ends: [(End, &str); 3] = [
        (|store, id, _| end(store, id, Reason::LoggedOut), "logged out"),
        (|store, id, _| end(store, id, Reason::Revoked), "revoked"),
        (by_expiry, "expired"),
    ];
    for (end, why) in ends {
        let mut record = created(&store, &[("user", json!("alice"))]).await;
        set(&mut record, "a", json!(1));
        end(&store, record.id, &clock);
        let error = store.save(&record).await.unwrap_err();
        assert_eq!(error.to_string(), format!("session ended: {why}"));
        assert!(store.load(&record.id).await.unwrap().is_none());
    }
}

fn end(store: &CloakroomStore, id: Id, reason: Reason) {
    store.store().end(CloakroomStore::session_id(&id), reason).unwrap();
}

#[tokio::test]
async fn a_save_creates_no_session() {
    let store = sessions();
    let made_up = record(&[("a", json!(1))]);
    assert!(store.save(&made_up).await.is_err());
    assert!(store.load(&made_up.id).await.unwrap().is_none());
    assert_eq!(store.store().stats().live, 0);
}

#[tokio::test]
async fn what_is_too_large_or_too_deep_is_refused_and_changes_nothing() {
    let store = sessions();
    let mut record = created(&store, &[("a", json!(1))]).await;
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    for odd in [json!("x".repeat(1 << 20)), deep] {
        set(&mut record, "odd", odd.clone());
        store.save(&record).await.unwrap_err();
        store.create(&mut self::record(&[("odd", odd)])).await.unwrap_err();
        assert_eq!(data(&store, record.id).await, pairs(&[("a", json!(1))]));
    }
    assert_eq!(store.store().stats().live, 1);
}

/// An owner, and what goes with it, is there for sessions of the middleware as well.
#[tokio::test]
async fn the_store_knows_the_session_by_the_digest_of_its_id() {
    let store = sessions();
    let record = created(&store, &[("user", json!("alice"))]).await;
    let id = CloakroomStore::session_id(&record.id);
    assert_ne!(id.to_string().replace('-', ""), format!("{:032x}", record.id.0));
    assert_eq!(
        store.store().read(id, |s| s.get_str("user").map(str::to_owned)).unwrap(),
        Some("alice".into())
    );
    store.store().bind(id, "alice").unwrap();
    let mut loaded = load(&store, record.id).await;
    set(&mut loaded, "a", json!(1));
    store.save(&loaded).await.unwrap();
    assert_eq!(store.store().owner(id).unwrap().as_deref(), Some("alice"));
    // The application writes by itself: the middleware sees it, and finds an expiry.
    store.store().replace(id, Attributes::from([("b", 1.into())])).unwrap();
    assert_eq!(data(&store, record.id).await, pairs(&[("b", json!(1))]));
    assert_eq!(store.store().peek(id, |_| ()), Ok(()));
    store.store().end_all(Reason::Revoked).unwrap();
    assert_eq!(store.store().peek(id, |_| ()), Err(Missing::Ended(Reason::Revoked)));
}

// ---- Through the middleware ------------------------------------------------------------------

/// All that have a barrier wait there between their load and their save.
fn routes(store: CloakroomStore, barrier: Option<Arc<Barrier>>) -> Router {
    let add = move |session: Session| {
        let barrier = barrier.clone();
        async move {
            let n: i64 = session.get("n").await.unwrap().unwrap_or(0);
            if let Some(barrier) = barrier {
                barrier.wait().await;
            }
            session.insert("n", n + 1).await.unwrap();
        }
    };
    Router::new()
        .route("/idle", get(|_: Session| async {}))
        .route("/set/{key}/{value}", get(set_route))
        .route("/get/{key}", get(get_route))
        .route("/remove/{key}", get(remove_route))
        .route("/add", get(add))
        .route("/cycle", get(|session: Session| async move { session.cycle_id().await.unwrap() }))
        .route("/flush", get(|session: Session| async move { session.flush().await.unwrap() }))
        .layer(
            SessionManagerLayer::new(store)
                .with_expiry(Expiry::OnInactivity(time::Duration::minutes(30))),
        )
}

async fn set_route(session: Session, Path((key, value)): Path<(String, String)>) {
    session.insert(&key, value).await.unwrap();
}

async fn get_route(session: Session, Path(key): Path<String>) -> String {
    session.get::<Value>(&key).await.unwrap().map_or("none".into(), |value| value.to_string())
}

async fn remove_route(session: Session, Path(key): Path<String>) {
    session.remove::<Value>(&key).await.unwrap();
}

/// The answer to one request: status, the cookie it sets, the text.
async fn ask(
    app: &Router,
    path: &str,
    cookie: Option<&str>,
) -> (StatusCode, Option<String>, String) {
    let mut request = Request::get(path);
    if let Some(cookie) = cookie {
        request = request.header(header::COOKIE, format!("id={cookie}"));
    }
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status();
    let set = response.headers().get(header::SET_COOKIE).map(|value| {
        let text = value.to_str().unwrap();
        text.split(';').next().unwrap().strip_prefix("id=").unwrap().to_owned()
    });
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, set, String::from_utf8(body.to_vec()).unwrap())
}

async fn visit(app: &Router) -> String {
    ask(app, "/set/a/1", None).await.1.unwrap()
}

#[tokio::test]
async fn a_visit_by_the_middleware() {
    let store = sessions();
    let app = routes(store.clone(), None);
    assert_eq!(ask(&app, "/idle", None).await.1, None, "no session without data");
    assert_eq!(store.store().stats().created, 0);
    let cookie = visit(&app).await;
    assert_eq!(cookie.len(), 22);
    assert_eq!(ask(&app, "/get/a", Some(&cookie)).await.2, "\"1\"");
    assert_eq!(ask(&app, "/get/b", Some(&cookie)).await.2, "none");
    let other = ask(&app, "/set/b/2", Some(&cookie)).await.1;
    assert_eq!(other.as_deref(), Some(&*cookie), "the same session");

    // The last value removed stays removed.
    for key in ["a", "b"] {
        ask(&app, &format!("/remove/{key}"), Some(&cookie)).await;
    }
    assert_eq!(ask(&app, "/get/a", Some(&cookie)).await.2, "none");

    ask(&app, "/set/a/3", Some(&cookie)).await;
    let new = ask(&app, "/cycle", Some(&cookie)).await.1.unwrap();
    assert_ne!(new, cookie);
    assert_eq!(ask(&app, "/get/a", Some(&new)).await.2, "\"3\"");
    assert_eq!(ask(&app, "/get/a", Some(&cookie)).await.2, "none", "dead at once");

    assert_eq!(ask(&app, "/flush", Some(&new)).await.1.as_deref(), Some(""));
    assert_eq!(ask(&app, "/get/a", Some(&new)).await.2, "none");
    assert_eq!(store.store().stats().live, 0);
}

/// Session fixation: whoever plants an id must not find the victim under it.
#[tokio::test]
async fn a_planted_cookie_is_not_adopted() {
    let app = routes(sessions(), None);
    for planted in ["AAAAAAAAAAAAAAAAAAAAAA", "malformed", "", &Id::default().to_string()] {
        let (status, set, _) = ask(&app, "/set/a/1", Some(planted)).await;
        assert_eq!(status, StatusCode::OK);
        assert_ne!(set.unwrap(), planted);
        assert_eq!(ask(&app, "/get/a", Some(planted)).await.2, "none");
    }
}

/// The issue's own words: 64 parallel requests that each add 1. All have loaded before the first
/// one saves.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_that_add_1_at_a_time_each_counts() {
    for is_counter in [true, false] {
        let barrier = Some(Arc::new(Barrier::new(64)));
        let mut store = sessions();
        if is_counter {
            store = store.counter("n");
        }
        let app = routes(store, barrier);
        let cookie = visit(&app).await;
        let added = (0..64).map(|_| {
            let (app, cookie) = (app.clone(), cookie.clone());
            tokio::spawn(async move { ask(&app, "/add", Some(&cookie)).await.0.is_success() })
        });
        let mut acknowledged = 0;
        for added in added.collect::<Vec<_>>() {
            acknowledged += i64::from(added.await.unwrap());
        }
        let n = ask(&app, "/get/n", Some(&cookie)).await.2;
        assert_eq!(n, acknowledged.to_string(), "what was acknowledged counts");
        assert_eq!(acknowledged, if is_counter { 64 } else { 1 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_that_set_a_key_each_at_a_time_all_are_kept() {
    let app = routes(sessions(), None);
    let cookie = visit(&app).await;
    for round in 0..8 {
        let set = (0..64).map(|key| {
            let (app, cookie) = (app.clone(), cookie.clone());
            let path = format!("/set/{round}-{key}/1");
            tokio::spawn(async move { ask(&app, &path, Some(&cookie)).await.0 })
        });
        for status in set.collect::<Vec<_>>() {
            assert_eq!(status.await.unwrap(), StatusCode::OK);
        }
    }
    for round in 0..8 {
        for key in 0..64 {
            assert_eq!(ask(&app, &format!("/get/{round}-{key}"), Some(&cookie)).await.2, "\"1\"");
        }
    }
}

/// std draws the keys that tell one map from another; should that change, this has to be known.
#[test]
fn no_two_maps_have_the_same_mark() {
    use std::hash::BuildHasher as _;
    let marks =
        (0..10_000).map(|_| HashMap::<String, Value>::with_capacity(3).hasher().hash_one(0));
    let mut marks: Vec<_> = marks.collect();
    marks.sort_unstable();
    marks.dedup();
    assert_eq!(marks.len(), 10_000);
}
