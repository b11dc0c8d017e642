//! Subjects behind tower-sessions' middleware.

use axum::routing::get;
use axum::{Extension, Json, Router};
use cloakroom::conformance::{Step, Subject};
use cloakroom::tower_sessions::CloakroomStore;
use cloakroom::{ManualClock, Store};
use serde_json::Value;
use tower_sessions::session::Id;
use tower_sessions::{Expiry, MemoryStore, Session, SessionManagerLayer, SessionStore};

use super::server::{Extensions, Server};
use super::{Time, text};

pub(super) fn over_cloakroom(has_counter: bool) -> Box<dyn Subject> {
    let clock = ManualClock::new();
    let store = Store::builder().clock(&clock).expiry_thread(false).in_memory().unwrap();
    let mut store = CloakroomStore::new(store);
    if has_counter {
        store = store.counter("n");
    }
    over(store, Time::Manual(clock))
}

pub(super) fn over_memory_store(time: &Time) -> Box<dyn Subject> {
    over(MemoryStore::default(), time.clone())
}

fn over(store: impl SessionStore + Clone, time: Time) -> Box<dyn Subject> {
    let timeout = time::Duration::try_from(time.timeout()).unwrap();
    let layer = SessionManagerLayer::new(store).with_expiry(Expiry::OnInactivity(timeout));
    let app = Router::new().route("/", get(handler)).layer(layer);
    Server::boxed(app, time, || Id::default().to_string())
}

async fn handler(
    session: Session,
    Extension((steps, meeting, time)): Extension<Extensions>,
) -> Json<Vec<Option<String>>> {
    let mut values = Vec::new();
    for step in steps {
        match step {
            Step::Get(key) => {
                let value = session.get::<Value>(&key).await.unwrap();
                values.push(value.map(text));
            }
            Step::Set(key, value) => session.insert(&key, value).await.unwrap(),
            Step::Add(key, by) => {
                let n: i64 = session.get(&key).await.unwrap().unwrap_or(0);
                session.insert(&key, n + by).await.unwrap();
            }
            Step::Remove(key) => drop(session.remove::<Value>(&key).await.unwrap()),
            Step::Rotate => session.cycle_id().await.unwrap(),
            Step::Destroy => session.flush().await.unwrap(),
            Step::Pass(passed) => time.pass(passed).await,
            Step::Meet => meeting.meet().await,
            _ => panic!("an unknown step"),
        }
    }
    Json(values)
}
