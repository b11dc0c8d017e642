//! A page whose WebSocket and event stream end when its session does:
//! `cargo run --features axum-08 --example sockets`.
//!
//! Log in, open the page in a second window, and end the session there: the first one hears of it
//! at once. The socket is closed with code 4401 and the reason; the event stream ends with an event
//! `ended`. Messages on the socket count as activity, the stream does not.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use cloakroom::axum::SessionLayer;
use cloakroom::cookie::Cookie;
use cloakroom::web::{self, Checked, Session, Sessions, User};
use cloakroom::{Reason, Store, Watch};
use futures_util::stream;
use tokio::net::TcpListener;

/// The first of the codes that are left to applications is 4000 (RFC 6455, section 7.4.2); this one
/// reminds of 401.
const SESSION_ENDED: u16 = 4401;
/// How long a client may take to answer that its socket is closed.
const CLOSING_MAX: Duration = Duration::from_secs(5);
const EVENT_EVERY: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let port = match std::env::args().nth(1) {
        Some(text) => text.parse().map_err(|_| format!("usage: sockets [PORT], not {text}"))?,
        None => 3001,
    };
    let store = Store::builder().sessions_max(100_000).bytes_max(64 << 20).in_memory()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("Listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, router(store)?).await?)
}

pub(crate) fn router(store: Store) -> Result<Router, Box<dyn std::error::Error>> {
    // It listens on this machine only; behind TLS the default cookie is right.
    let cookie = Cookie::builder().plain_http().build()?;
    let sessions = Sessions::new(store).cookie(cookie).renew_every(Duration::from_secs(15 * 60));
    Ok(Router::new()
        .route("/", get(page))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/elsewhere", post(elsewhere))
        .route("/socket", get(socket))
        .route("/events", get(events))
        .layer(SessionLayer::new(sessions)))
}

// ---- Pages ---------------------------------------------------------------------------------

async fn page(session: Session, user: Option<User>) -> web::Result<Html<String>> {
    let csrf = format!(
        r#"<input type="hidden" name="{}" value="{}">"#,
        web::CSRF_FIELD,
        session.csrf_token()?
    );
    let body = match user {
        None => LOGIN.replace("CSRF", &csrf),
        Some(_) => ACCOUNT.replace("CSRF", &csrf),
    };
    Ok(Html(format!("{HEAD}{body}")))
}

/// Whoever gives a name is in: a real server checks a password here.
async fn login(
    session: Session,
    Checked(Form(fields), _): Checked<Form<HashMap<String, String>>>,
) -> web::Result<Response> {
    let name = fields.get("name").map_or("", String::as_str);
    let is_short = (1..=32).contains(&name.len());
    if !is_short || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok((StatusCode::BAD_REQUEST, "A name has 1 to 32 letters.").into_response());
    }
    session.login(name, "")?;
    Ok(Redirect::to("/").into_response())
}

async fn logout(session: Session, _: Checked<String>) -> web::Result<Redirect> {
    session.logout()?;
    Ok(Redirect::to("/"))
}

async fn elsewhere(user: User, _: Checked<String>) -> web::Result<Redirect> {
    user.logout_everywhere_else()?;
    Ok(Redirect::to("/"))
}

// ---- The socket ----------------------------------------------------------------------------

async fn socket(user: User, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    // A page of a sibling site can open a socket with the user's cookie; no form token is in it.
    if !comes_from_own_page(&headers) {
        return (StatusCode::FORBIDDEN, "from another site").into_response();
    }
    // The last chance for a cookie is over with this answer. The handle goes on.
    let Some(ended) = user.watch() else { return StatusCode::UNAUTHORIZED.into_response() };
    upgrade.on_upgrade(move |socket| converse(socket, user, ended))
}

async fn converse(mut socket: WebSocket, user: User, mut ended: Watch) {
    loop {
        tokio::select! {
            reason = &mut ended => return close(socket, reason).await,
            message = socket.recv() => match message {
                // What the user does counts as activity, as every write does. For messages that
                // change nothing there is `user.touch()`; pings are no sign of a user.
                Some(Ok(Message::Text(_))) => {
                    let Ok(clicks) = user.update(|s| {
                        let clicks = 1 + s.get_i64("clicks").unwrap_or(0);
                        s.set("clicks", clicks);
                        clicks
                    }) else { continue };
                    if socket.send(Message::Text(clicks.to_string().into())).await.is_err() {
                        return;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            }
        }
    }
}

/// Says why, and waits for the client's answer, so that it has read the reason.
async fn close(mut socket: WebSocket, reason: Reason) {
    let frame = CloseFrame { code: SESSION_ENDED, reason: reason.to_string().into() };
    if socket.send(Message::Close(Some(frame))).await.is_ok() {
        let answered = async { while let Some(Ok(_)) = socket.recv().await {} };
        let _ = tokio::time::timeout(CLOSING_MAX, answered).await;
    }
}

fn comes_from_own_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = text(ORIGIN) else { return true };
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    host.is_some() && host == text(HOST)
}

// ---- The event stream ----------------------------------------------------------------------

async fn events(user: User) -> Result<impl IntoResponse, StatusCode> {
    let ended = user.watch().ok_or(StatusCode::UNAUTHORIZED)?;
    Ok(Sse::new(stream::unfold(Some((user, ended)), next_event)))
}

/// None when the session has ended, and that was told.
type Following = Option<(User, Watch)>;

async fn next_event(following: Following) -> Option<(Result<Event, Infallible>, Following)> {
    let (user, mut ended) = following?;
    tokio::select! {
        reason = &mut ended => {
            Some((Ok(Event::default().event("ended").data(reason.to_string())), None))
        }
        () = tokio::time::sleep(EVENT_EVERY) => {
            // It asks by itself, again and again: no sign of a user.
            let clicks = user.peek(|s| s.get_i64("clicks")).flatten().unwrap_or(0);
            let event = Event::default().event("clicks").data(clicks.to_string());
            Some((Ok(event), Some((user, ended))))
        }
    }
}

// ---- HTML ----------------------------------------------------------------------------------

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Sockets - cloakroom</title>
<style>
:root { color-scheme: light dark }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 36rem; margin: 3rem auto; padding: 0 1rem }
button, input { font: inherit; padding: .35rem .9rem }
form { display: inline-block; margin: .4rem .4rem .4rem 0 }
#why { padding: .6rem .9rem; border-left: .25rem solid #0a6cbd; background: #8881 }
</style>
"#;

const LOGIN: &str = r#"<h1>Log in</h1>
<form method="post" action="/login">CSRF
<input name="name" value="alice" autocomplete="username" required> <button>Log in</button>
</form>
"#;

const ACCOUNT: &str = r#"<h1>Clicks of this session</h1>
<p>By the socket: <b id="sent">-</b>, by the event stream: <b id="seen">-</b></p>
<p><button id="click">Click</button></p>
<p id="why" hidden></p>
<form method="post" action="/logout">CSRF<button>Log out</button></form>
<form method="post" action="/elsewhere">CSRF<button>Log out everywhere else</button></form>
<script>
const at = id => document.getElementById(id);
const ended = reason => {
  at("why").hidden = false;
  at("why").textContent = "The session is over: " + reason + ".";
  at("click").disabled = true;
};
const socket = new WebSocket(location.origin.replace("http", "ws") + "/socket");
socket.onmessage = event => at("sent").textContent = event.data;
socket.onclose = event => { if (event.code === 4401) ended(event.reason); };
at("click").onclick = () => socket.send("click");
const events = new EventSource("/events");
events.addEventListener("clicks", event => at("seen").textContent = event.data);
events.addEventListener("ended", event => { events.close(); ended(event.data); });
</script>
"#;
