//! An axum application that does what the suite's requests say.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request as HttpRequest, header};
use cloakroom::conformance::{Answer, Cookie, Request, Step, Subject};
use http_body_util::BodyExt as _;
use tokio::runtime::Runtime;
use tokio::sync::{Barrier, Notify};
use tower::ServiceExt as _;

use super::{Meeting, Time};

/// An application whose session cookie is named `id`.
pub(super) struct Server {
    runtime: Runtime,
    app: Router,
    time: Time,
    foreign_cookie: fn() -> String,
}

/// What its handler gets in the extensions of a request.
pub(super) type Extensions = (Vec<Step>, Meeting, Time);

impl Server {
    pub(super) fn boxed(
        app: Router,
        time: Time,
        foreign_cookie: fn() -> String,
    ) -> Box<dyn Subject> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        Box::new(Server { runtime, app, time, foreign_cookie })
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
        Some((self.foreign_cookie)())
    }
}
