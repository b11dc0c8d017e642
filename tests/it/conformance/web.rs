//! The subject behind our own layer, whose handle is live.

use axum::routing::get;
use axum::{Extension, Json, Router};
use cloakroom::axum::SessionLayer;
use cloakroom::conformance::{Step, Subject};
use cloakroom::cookie::Cookie;
use cloakroom::web::{self, Session, Sessions};
use cloakroom::{Attributes, ManualClock, Store, Value};

use super::Time;
use super::server::{Extensions, Server};

pub(super) fn layer() -> Box<dyn Subject> {
    let clock = ManualClock::new();
    let time = Time::Manual(clock.clone());
    let store: Store = Store::builder()
        .clock(&clock)
        .idle_timeout(time.timeout())
        .anonymous_idle_timeout(time.timeout())
        .expiry_thread(false)
        .in_memory()
        .unwrap();
    let cookie = Cookie::builder().plain_http().build().unwrap();
    let layer = SessionLayer::new(Sessions::new(store).cookie(cookie));
    let app = Router::new().route("/", get(handler)).layer(layer);
    Server::boxed(app, time, || {
        // A token of another store.
        let store: Store = Store::builder().expiry_thread(false).in_memory().unwrap();
        store.create(Attributes::new()).unwrap().expose()
    })
}

fn text(value: Value) -> String {
    match value {
        Value::Text(text) => text,
        Value::Int(number) => number.to_string(),
        other => panic!("the suite sets no {other:?}"),
    }
}

async fn handler(
    session: Session,
    Extension((steps, meeting, time)): Extension<Extensions>,
) -> web::Result<Json<Vec<Option<String>>>> {
    let mut values = Vec::new();
    for step in steps {
        match step {
            Step::Get(key) => values.push(session.get(&key).map(text)),
            Step::Set(key, value) => session.set(&key, value.as_str())?,
            Step::Add(key, by) => session.update(|s| {
                let n = s.get_i64(&key).unwrap_or(0);
                s.set(key.as_str(), n + by);
            })?,
            Step::Remove(key) => drop(session.remove(&key)?),
            Step::Rotate => session.rotate()?,
            Step::Destroy => session.logout()?,
            Step::Pass(passed) => time.pass(passed).await,
            Step::Meet => meeting.meet().await,
            _ => panic!("an unknown step"),
        }
    }
    Ok(Json(values))
}
