//! Requests to a counter page: each loads a session, adds 1, saves it. Server and clients are in
//! this process and share its cores, for every contender alike.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use cloakroom::axum::SessionLayer;
use cloakroom::cookie::Cookie;
use cloakroom::tower_sessions::CloakroomStore;
use cloakroom::{Attributes, CreateOptions, Store, web};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tower_sessions::session::Record;
use tower_sessions::{Expiry, MemoryStore, Session, SessionManagerLayer, SessionStore};

use crate::cli::Cli;
use crate::contender::LONG_IDLE;
use crate::draw::Workload;
use crate::interleave::{Cell, Lane, Metric, Point, Sample};
use crate::report::Report;

const SESSIONS: [usize; 1] = [100_000];
const CONNECTIONS: usize = 64;

pub fn run(cli: &Cli, report: &mut Report) {
    for sessions in cli.sessions(&SESSIONS) {
        for threads in cli.threads() {
            let mut lanes = Vec::new();
            for (name, start) in CONTENDERS {
                if cli.admits(name) {
                    report.progress(&format!("filling {name}"));
                    let server = start(threads, sessions);
                    let run = move |&time: &Duration| server.measure(time);
                    lanes.push(Lane { name, note: String::new(), run: Box::new(run) });
                }
            }
            let cell = Cell { workload: Workload::Uniform, sessions, threads };
            report.cell("web", cell, &mut lanes, &cli.run_time(), cli.runs());
        }
    }
}

type Start = fn(usize, usize) -> Server;

const CONTENDERS: [(&str, Start); 4] = [
    ("no-session", |threads, _| {
        let count = Arc::new(AtomicU64::new(0));
        let page = move || async move { count.fetch_add(1, Relaxed).to_string() };
        Server::start(threads, Router::new().route("/", get(page)), vec![String::new()])
    }),
    ("tower-memory", |threads, sessions| Server::behind(threads, sessions, MemoryStore::default())),
    ("cloakroom", Server::behind_our_layer),
    ("cloakroom-tower", |threads, sessions| {
        let store = Store::builder().capacity(sessions).in_memory().expect("memory for a store");
        Server::behind(threads, sessions, CloakroomStore::new(store).counter("n"))
    }),
];

/// An application on a port of its own.
struct Server {
    /// Serves until it is dropped.
    _runtime: Runtime,
    address: SocketAddr,
    /// One of each session.
    cookies: Vec<String>,
}

impl Server {
    fn start(threads: usize, app: Router, cookies: Vec<String>) -> Server {
        let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build();
        let runtime = runtime.expect("threads for a server");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.expect("a local port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(async move { axum::serve(listener, app).await });
        Server { _runtime: runtime, address, cookies }
    }

    /// The page behind the middleware of tower-sessions.
    fn behind(threads: usize, sessions: usize, store: impl SessionStore + Clone) -> Server {
        let lifetime = time::Duration::hours(1);
        let filling = Builder::new_multi_thread().build().expect("threads to fill a store");
        let cookies = filling.block_on(async {
            let mut cookies = Vec::with_capacity(sessions);
            for session in 0..sessions {
                let data = [("n".to_owned(), 0.into()), ("user".to_owned(), session.into())];
                let expiry_date = OffsetDateTime::now_utc() + lifetime;
                let mut record = Record { id: Default::default(), data: data.into(), expiry_date };
                store.create(&mut record).await.expect("room for a session");
                cookies.push(record.id.to_string());
            }
            cookies
        });
        let layer = SessionManagerLayer::new(store).with_expiry(Expiry::OnInactivity(lifetime));
        Server::start(threads, Router::new().route("/", get(page)).layer(layer), cookies)
    }

    /// The page behind our own layer: the counter is added to in one atomic step.
    fn behind_our_layer(threads: usize, sessions: usize) -> Server {
        let store: Store =
            Store::builder().capacity(sessions).in_memory().expect("memory for a store");
        let mut cookies = Vec::with_capacity(sessions);
        for session in 0..sessions {
            let data = Attributes::from([("n", 0.into()), ("user", (session as i64).into())]);
            let token = store.create_with(data, CreateOptions::new().idle_timeout(LONG_IDLE));
            cookies.push(token.expect("no limit is set").expose());
        }
        let cookie = Cookie::builder().plain_http().build().expect("these options are allowed");
        let layer = SessionLayer::new(web::Sessions::new(store).cookie(cookie));
        Server::start(threads, Router::new().route("/", get(our_page)).layer(layer), cookies)
    }

    fn measure(&self, time: Duration) -> Sample {
        let stop = AtomicBool::new(false);
        let (answered, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for client in 0..CONNECTIONS {
                let (stop, answered, failed) = (&stop, &answered, &failed);
                scope.spawn(move || match self.visit(client as u64, stop) {
                    Ok(count) => drop(answered.fetch_add(count, Relaxed)),
                    Err(error) => failed.lock().expect("no client panics").push(error),
                });
            }
            std::thread::sleep(time);
            stop.store(true, Relaxed);
        });
        let krps = answered.into_inner() as f64 / time.as_secs_f64() / 1000.0;
        let mut sample =
            Sample::from(vec![Point { section: "web", metric: Metric::Kops, value: krps }]);
        let failed = failed.into_inner().expect("no client panics");
        sample.remarks.extend(
            failed
                .first()
                .map(|error| format!("{} of {CONNECTIONS} clients failed: {error}", failed.len())),
        );
        sample
    }

    /// One connection: request after request, each of another session.
    fn visit(&self, client: u64, stop: &AtomicBool) -> Result<u64, String> {
        let mut stream = TcpStream::connect(self.address).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut draw = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(client + 1);
        let (mut answer, mut count) = ([0; 4096], 0);
        while !stop.load(Relaxed) {
            draw ^= draw << 13;
            draw ^= draw >> 7;
            draw ^= draw << 17;
            let cookie = &self.cookies[draw as usize % self.cookies.len()];
            let request = format!("GET / HTTP/1.1\r\nhost: a\r\ncookie: id={cookie}\r\n\r\n");
            stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
            read_answer(&mut stream, &mut answer)?;
            count += 1;
        }
        Ok(count)
    }
}

/// Reads one answer to its end.
fn read_answer(stream: &mut TcpStream, answer: &mut [u8]) -> Result<(), String> {
    let mut len = 0;
    loop {
        let read = stream.read(&mut answer[len..]).map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        len += read;
        let text = std::str::from_utf8(&answer[..len]).map_err(|error| error.to_string())?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(head.lines().next().unwrap_or_default().to_owned());
        }
        let body_len = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body_len.and_then(|len| len.parse().ok()) == Some(body.len()) {
            return Ok(());
        }
    }
}

async fn page(session: Session) -> String {
    let n: u64 = session.get("n").await.ok().flatten().unwrap_or_default();
    // What fails here is answered by the middleware with an error.
    let _ = session.insert("n", n + 1).await;
    n.to_string()
}

async fn our_page(session: web::Session) -> web::Result<String> {
    let n = session.update(|s| {
        let n = s.get_i64("n").unwrap_or_default();
        s.set("n", n + 1);
        n
    })?;
    Ok(n.to_string())
}
