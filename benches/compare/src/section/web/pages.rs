//! The counter page, behind each session middleware.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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

use super::COOKIES;
use super::stores::{MokaStore, RedisStore};
use crate::contender::LONG_IDLE;
use crate::durable::redis;

/// In the order in which they are shown.
pub const NAMES: [&str; 6] =
    ["no-session", "cloakroom", "cloakroom-tower", "tower-memory", "tower-moka", "tower-redis"];

/// What serves until it is dropped.
pub struct Serving {
    _runtime: Runtime,
    _redis: Option<redis::Server>,
}

/// Serves the page behind one of them, on a port of its own. Writes each session's cookie into the
/// directory.
pub fn serve(
    name: &str,
    sessions: usize,
    threads: usize,
    directory: &Path,
) -> Result<(SocketAddr, Serving), String> {
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let mut server = None;
    let (app, cookies) = match name {
        // The same requests, cookies and all, of which this server takes no notice.
        "no-session" => (no_session(), our_layer(sessions).1),
        "cloakroom" => our_layer(sessions),
        "cloakroom-tower" => {
            let store = Store::builder().capacity(sessions).in_memory();
            let store: Store = store.map_err(|error| error.to_string())?;
            runtime.block_on(behind(sessions, CloakroomStore::new(store).counter("n")))
        }
        "tower-memory" => runtime.block_on(behind(sessions, MemoryStore::default())),
        "tower-moka" => runtime.block_on(behind(sessions, MokaStore::default())),
        "tower-redis" => {
            let started = redis::Server::start(directory, &["--save", "", "--appendonly", "no"])?;
            started.connect()?;
            let store = runtime.block_on(RedisStore::connect(started.socket()))?;
            server = Some(started);
            runtime.block_on(behind(sessions, store))
        }
        other => return Err(format!("there is no {other}")),
    };
    let lines = cookies.join("\n") + "\n";
    std::fs::write(directory.join(COOKIES), lines).map_err(|error| error.to_string())?;
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listener = listener.map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    runtime.spawn(async move { axum::serve(listener, app).await });
    Ok((address, Serving { _runtime: runtime, _redis: server }))
}

fn no_session() -> Router {
    let count = Arc::new(AtomicU64::new(0));
    let page = move || async move { count.fetch_add(1, Relaxed).to_string() };
    Router::new().route("/", get(page))
}

/// The page behind the middleware of tower-sessions.
async fn behind(sessions: usize, store: impl SessionStore + Clone) -> (Router, Vec<String>) {
    let lifetime = time::Duration::hours(1);
    let mut cookies = Vec::with_capacity(sessions);
    for session in 0..sessions {
        let data = [("n".to_owned(), 0.into()), ("user".to_owned(), session.into())];
        let expiry_date = OffsetDateTime::now_utc() + lifetime;
        let mut record = Record { id: Default::default(), data: data.into(), expiry_date };
        store.create(&mut record).await.expect("room for a session");
        cookies.push(record.id.to_string());
    }
    let layer = SessionManagerLayer::new(store).with_expiry(Expiry::OnInactivity(lifetime));
    (Router::new().route("/", get(page)).layer(layer), cookies)
}

/// The page behind our own layer: the counter is added to in one atomic step.
fn our_layer(sessions: usize) -> (Router, Vec<String>) {
    let store: Store = Store::builder().capacity(sessions).in_memory().expect("memory for a store");
    let mut cookies = Vec::with_capacity(sessions);
    for session in 0..sessions {
        let data = Attributes::from([("n", 0.into()), ("user", (session as i64).into())]);
        let token = store.create_with(data, CreateOptions::new().idle_timeout(LONG_IDLE));
        cookies.push(token.expect("no limit is set").expose());
    }
    let cookie = Cookie::builder().plain_http().build().expect("these options are allowed");
    let layer = SessionLayer::new(web::Sessions::new(store).cookie(cookie));
    (Router::new().route("/", get(our_page)).layer(layer), cookies)
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
