//! Subjects behind actix-session's middleware.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_session::config::PersistentSession;
use actix_session::storage::{CookieSessionStore, SessionStore};
use actix_session::{Session, SessionMiddleware};
use actix_web::cookie::{Cookie as HttpCookie, Key};
use actix_web::dev::{Service as _, ServiceResponse};
use actix_web::http::header;
use actix_web::{App, Error, HttpMessage as _, HttpRequest, HttpResponse, test as service, web};
use cloakroom::actix_session::CloakroomStore;
use cloakroom::conformance::{Answer, Cookie, Request, Step, Subject};
use cloakroom::{ManualClock, Store};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::sync::{Barrier, Notify};

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

pub(super) fn over_cookies(time: &Time) -> Box<dyn Subject> {
    Server::boxed(CookieSessionStore::default(), time.clone())
}

/// An application, whose type has no name.
type Ask = dyn Fn(service::TestRequest, Errand) -> Pin<Box<Answered>>;
type Answered = dyn Future<Output = Result<ServiceResponse, Error>>;

struct Server {
    system: actix_web::rt::SystemRunner,
    ask: Rc<Ask>,
    time: Time,
}

/// What travels with a request to its handler, with the values for the answer on the way back.
#[derive(Clone)]
struct Errand {
    steps: Vec<Step>,
    meeting: Meeting,
    time: Time,
    values: Rc<RefCell<Vec<Option<String>>>>,
}

async fn handler(session: Session, request: HttpRequest) -> HttpResponse {
    let errand = request.extensions().get::<Errand>().unwrap().clone();
    for step in errand.steps {
        match step {
            Step::Get(key) => {
                let value = session.get::<Value>(&key).unwrap();
                errand.values.borrow_mut().push(value.map(text));
            }
            Step::Set(key, value) => session.insert(key, value).unwrap(),
            Step::Add(key, by) => {
                let n = session.get::<i64>(&key).unwrap().unwrap_or(0);
                session.insert(key, n + by).unwrap();
            }
            Step::Remove(key) => drop(session.remove(&key)),
            Step::Rotate => session.renew(),
            Step::Destroy => session.purge(),
            Step::Pass(passed) => errand.time.pass(passed).await,
            Step::Meet => errand.meeting.meet().await,
            _ => panic!("an unknown step"),
        }
    }
    HttpResponse::Ok().finish()
}

impl Server {
    fn boxed<S: SessionStore + 'static>(store: S, time: Time) -> Box<dyn Subject> {
        let system = actix_web::rt::System::new();
        let timeout = time::Duration::try_from(time.timeout()).unwrap();
        let ask: Rc<Ask> = system.block_on(async {
            let middleware = SessionMiddleware::builder(store, Key::generate())
                .session_lifecycle(PersistentSession::default().session_ttl(timeout))
                .build();
            let app = App::new().route("/", web::get().to(handler)).wrap(middleware);
            let app = Rc::new(service::init_service(app).await);
            Rc::new(move |request: service::TestRequest, errand: Errand| {
                let app = Rc::clone(&app);
                let answered = async move {
                    let request = request.to_request();
                    request.extensions_mut().insert(errand);
                    app.call(request).await.map(ServiceResponse::map_into_boxed_body)
                };
                Box::pin(answered) as Pin<Box<Answered>>
            }) as Rc<Ask>
        });
        Box::new(Server { system, ask, time })
    }

    fn ask(&self, request: &Request, meeting: Meeting) -> impl Future<Output = Answer> + use<> {
        let values: Rc<RefCell<Vec<_>>> = Rc::default();
        let errand = Errand {
            steps: request.steps.clone(),
            meeting,
            time: self.time.clone(),
            values: Rc::clone(&values),
        };
        let mut http = service::TestRequest::get();
        if let Some(cookie) = &request.cookie {
            http = http.cookie(HttpCookie::new("id", cookie.clone()));
        }
        let ask = Rc::clone(&self.ask);
        async move {
            let response = match ask(http, errand).await {
                Ok(response) => response,
                Err(_) => return Answer::new(false, []),
            };
            let ok = response.status().is_success();
            let set = response.headers().get(header::SET_COOKIE).map(|value| {
                let text = value.to_str().unwrap().to_owned();
                HttpCookie::parse_encoded(text).unwrap().value().to_owned()
            });
            let cookie = match set {
                None => Cookie::Kept,
                Some(value) if value.is_empty() => Cookie::Removed,
                Some(value) => Cookie::Set(value),
            };
            let values = values.take();
            Answer::new(ok, values).with_cookie(cookie)
        }
    }
}

impl Subject for Server {
    fn answer(&mut self, request: &Request) -> Answer {
        self.system.block_on(self.ask(request, Meeting::Nobody))
    }

    fn at_once(&mut self, requests: &[Request]) -> Option<Vec<Answer>> {
        let meeting = Meeting::All(Arc::new(Barrier::new(requests.len())));
        let asked = requests.iter().map(|request| self.ask(request, meeting.clone()));
        Some(self.system.block_on(join_all(asked)))
    }

    fn during(&mut self, outer: &Request, inner: &[Request]) -> Option<(Answer, Vec<Answer>)> {
        let (there, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let meeting = Meeting::Wait { there: Arc::clone(&there), go_on: Arc::clone(&go_on) };
        let outer = self.ask(outer, meeting);
        let others = async {
            there.notified().await;
            let mut answers = Vec::new();
            for request in inner {
                answers.push(self.ask(request, Meeting::Nobody).await);
            }
            go_on.notify_one();
            answers
        };
        let both = futures_util::future::join(outer, others);
        Some(self.system.block_on(both))
    }

    fn idle_timeout(&self) -> Option<Duration> {
        self.time.idle_timeout()
    }

    fn expiry_tolerance(&self) -> Duration {
        self.time.tolerance()
    }
}
