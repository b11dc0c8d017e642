//! Guards sockets and event streams: `examples/sockets.rs` over a real connection.
//!
//! A socket outlives its request, and with it every check that is made when a request comes. So a
//! user who is logged out would go on talking, and one who only talks would be logged out.

use cloakroom::{ManualClock, Reason, SessionId, Store};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest as _};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::{seconds, store_with};

#[allow(dead_code, reason = "the program's own beginning is not called")]
#[path = "../../examples/sockets.rs"]
mod example;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Server {
    store: Store,
    clock: ManualClock,
    address: String,
}

impl Server {
    async fn start() -> Server {
        let clock = ManualClock::new();
        let store = store_with(|builder| builder.clock(&clock));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = example::router(store.clone()).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Server { store, clock, address }
    }

    async fn send(&self, head: &str, cookie: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!(
            "{head} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nCookie: {cookie}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Logs in as the page does. Returns the cookie.
    async fn login(&self, name: &str) -> String {
        let page = self.send("GET /", "", "").await;
        let body = format!("name={name}&csrf_token={}", csrf(&page));
        let answer = self.send("POST /login", &cookie(&page), &body).await;
        assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
        cookie(&answer)
    }

    async fn connect(&self, cookie: &str, origin: &str) -> Result<Socket, Error> {
        let mut request = format!("ws://{}/socket", self.address).into_client_request().unwrap();
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
        request.headers_mut().insert("origin", origin.parse().unwrap());
        connect_async(request).await.map(|(socket, _)| socket)
    }

    async fn socket(&self, cookie: &str) -> Socket {
        self.connect(cookie, &format!("http://{}", self.address)).await.unwrap()
    }

    fn id(&self, cookie: &str) -> SessionId {
        self.store.find(cookie.strip_prefix("id=").unwrap()).unwrap()
    }
}

fn cookie(answer: &str) -> String {
    let line = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect(answer);
    line.split(';').next().unwrap().to_owned()
}

fn csrf(page: &str) -> String {
    let (_, rest) = page.split_once(r#"name="csrf_token" value=""#).expect(page);
    rest.split_once('"').unwrap().0.to_owned()
}

async fn click(socket: &mut Socket) -> String {
    socket.send(Message::text("click")).await.unwrap();
    let answer = tokio::time::timeout(seconds(60), socket.next()).await.expect("no answer");
    answer.unwrap().unwrap().into_text().unwrap().to_string()
}

/// The code and the reason by which the socket is closed, without a word before.
async fn closed(socket: &mut Socket) -> (u16, String) {
    let message = tokio::time::timeout(seconds(60), socket.next()).await.expect("not closed");
    match message.unwrap().unwrap() {
        Message::Close(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
        other => panic!("{other:?}"),
    }
}

/// Reads an event stream until it has this line, and returns the next one; None at its end.
async fn event(lines: &mut tokio::io::Lines<BufReader<TcpStream>>, wanted: &str) -> Option<String> {
    let read = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line == wanted {
                return lines.next_line().await.unwrap();
            }
        }
        None
    };
    tokio::time::timeout(seconds(60), read).await.expect("the stream goes on and on")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_and_a_stream_end_with_their_session() {
    let server = Server::start().await;
    let (here, elsewhere) = (server.login("alice").await, server.login("alice").await);
    let mut socket = server.socket(&here).await;
    let mut other = server.socket(&elsewhere).await;
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    let request = format!("GET /events HTTP/1.1\r\nHost: x\r\nCookie: {here}\r\n");
    let request = format!("{request}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut events = BufReader::new(stream).lines();

    assert_eq!(click(&mut socket).await, "1");
    assert_eq!(click(&mut other).await, "1");
    assert_eq!(click(&mut socket).await, "2");
    assert_eq!(event(&mut events, "event: clicks").await.as_deref(), Some("data: 2"));

    // The other device logs out everywhere else.
    let page = server.send("GET /", &elsewhere, "").await;
    let body = format!("csrf_token={}", csrf(&page));
    server.send("POST /elsewhere", &elsewhere, &body).await;
    assert_eq!(closed(&mut socket).await, (4401, "revoked".to_owned()));
    assert_eq!(event(&mut events, "event: ended").await.as_deref(), Some("data: revoked"));
    assert_eq!(event(&mut events, "event: clicks").await, None, "the stream is over");
    assert_eq!(click(&mut other).await, "2");

    let refused = server.connect(&here, &format!("http://{}", server.address)).await;
    assert!(matches!(refused, Err(Error::Http(answer)) if answer.status() == 401));
    server.store.end(server.id(&elsewhere), Reason::LoggedOut).unwrap();
    assert_eq!(closed(&mut other).await, (4401, "logged out".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_ends_with_the_idle_time_which_its_messages_put_off() {
    let server = Server::start().await;
    let cookie = server.login("alice").await;
    let mut socket = server.socket(&cookie).await;
    for clicks in 1..=4 {
        server.clock.advance(seconds(20 * 60));
        assert_eq!(click(&mut socket).await, clicks.to_string());
    }
    server.clock.advance(seconds(20 * 60));
    socket.send(Message::Ping("".into())).await.unwrap();
    assert!(matches!(socket.next().await, Some(Ok(Message::Pong(_)))), "a ping is no activity");
    server.clock.advance(seconds(11 * 60));
    server.store.expire_due();
    assert_eq!(closed(&mut socket).await, (4401, "expired".to_owned()));
}

/// Another request renews the session; the socket goes on with it, also after the grace time.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_follows_a_renewal() {
    let server = Server::start().await;
    let old = server.login("alice").await;
    let mut socket = server.socket(&old).await;
    assert_eq!(click(&mut socket).await, "1");
    server.clock.advance(seconds(16 * 60));
    let new = cookie(&server.send("GET /", &old, "").await);
    assert_ne!(new, old);
    server.clock.advance(seconds(60));
    assert_eq!(click(&mut socket).await, "2");
    assert_eq!(server.store.stats().suspicious, 0);
    assert!(server.store.find(old.strip_prefix("id=").unwrap()).is_err(), "the grace is over");
    server.store.end(server.id(&new), Reason::Revoked).unwrap();
    assert_eq!(closed(&mut socket).await, (4401, "revoked".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_opens_no_socket() {
    let server = Server::start().await;
    let cookie = server.login("alice").await;
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        let refused = server.connect(&cookie, origin).await;
        assert!(matches!(refused, Err(Error::Http(answer)) if answer.status() == 403), "{origin}");
    }
}
