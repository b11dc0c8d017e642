//! Subjects behind tower-sessions' middleware.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request as HttpRequest, header};
use axum::routing::get;
use axum::{Extension, Json, Router};
use cloakroom::conformance::{Answer, Cookie, Request, Step, Subject};
use cloakroom::tower_sessions::CloakroomStore;
use cloakroom::{ManualClock, Store};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::{Barrier, Notify};
use tower::ServiceExt as _;
use tower_sessions::session::Id;
use tower_sessions::{Expiry, MemoryStore, Session, SessionManagerLayer, SessionStore};

use super::{Meeting, Time, text};

pub(super) fn over_cloakroom(has_counter: bool) -> Box<dyn Subject> {
    let clock = ManualClock::new();
    let store = Store::builder().clock(&clock).expiry_thread(false).in_memory().unwrap();
    let mut store = CloakroomStore::new(store);
    if has_counter {
        store = store.counter("n");
    }
    Server::boxed(store, Time::Manual(clock))
}

pub(super) fn over_memory_store(time: &Time) -> Box<dyn Subject> {
    Server::boxed(MemoryStore::default(), time.clone())
}

struct Server {
    runtime: Runtime,
    app: Router,
    time: Time,
}

type Extensions = (Vec<Step>, Meeting, Time);

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

impl Server {
    fn boxed(store: impl SessionStore + Clone, time: Time) -> Box<dyn Subject> {
        let timeout = time::Duration::try_from(time.timeout()).unwrap();
        let layer = SessionManagerLayer::new(store).with_expiry(Expiry::OnInactivity(timeout));
        let app = Router::new().route("/", get(handler)).layer(layer);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        Box::new(Server { runtime, app, time })
    }

    fn ask(
        &self,
        request: &Request,
        meeting: Meeting,
    ) -> impl Future<Output = Answer> + Send + 'static {
        let extensions: Extensions = (request.steps.clone(), meeting, self.time.clone());
        let mut http = HttpRequest::get("/").extension(extensions);
        if let Some(cookie) = &request.cookie {
            http = http.header(header::COOKIE, format!("id={cookie}"));
        }
        let answered = self.app.clone().oneshot(http.body(Body::empty()).unwrap());
        async move {
            let response = answered.await.unwrap();
            let ok = response.status().is_success();
            let set = response.headers().get(header::SET_COOKIE).map(|value| {
                let text = value.to_str().unwrap().split(';').next().unwrap();
                text.strip_prefix("id=").unwrap().to_owned()
            });
            let cookie = match set {
                None => Cookie::Kept,
                Some(value) if value.is_empty() => Cookie::Removed,
                Some(value) => Cookie::Set(value),
            };
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let values: Vec<_> = serde_json::from_slice(&body).unwrap_or_default();
            Answer::new(ok, values).with_cookie(cookie)
        }
    }
}

impl Subject for Server {
    fn answer(&mut self, request: &Request) -> Answer {
        self.runtime.block_on(self.ask(request, Meeting::Nobody))
    }

    fn at_once(&mut self, requests: &[Request]) -> Option<Vec<Answer>> {
        let meeting = Meeting::All(Arc::new(Barrier::new(requests.len())));
        let asked: Vec<_> = requests
            .iter()
            .map(|request| self.runtime.spawn(self.ask(request, meeting.clone())))
            .collect();
        let answers = async {
            let mut answers = Vec::new();
            for asked in asked {
                answers.push(asked.await.unwrap());
            }
            answers
        };
        Some(self.runtime.block_on(answers))
    }

    fn during(&mut self, outer: &Request, inner: &[Request]) -> Option<(Answer, Vec<Answer>)> {
        let (there, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let meeting = Meeting::Wait { there: Arc::clone(&there), go_on: Arc::clone(&go_on) };
        let outer = self.runtime.spawn(self.ask(outer, meeting));
        Some(self.runtime.block_on(async {
            there.notified().await;
            let mut answers = Vec::new();
            for request in inner {
                answers.push(self.ask(request, Meeting::Nobody).await);
            }
            go_on.notify_one();
            (outer.await.unwrap(), answers)
        }))
    }

    fn idle_timeout(&self) -> Option<Duration> {
        self.time.idle_timeout()
    }

    fn expiry_tolerance(&self) -> Duration {
        self.time.tolerance()
    }

    fn foreign_cookie(&mut self) -> Option<String> {
        Some(Id::default().to_string())
    }
}
