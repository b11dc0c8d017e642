//! Clicks over a WebSocket, which closes when its session ends.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use cloakroom::{SessionId, Store};
use serde_json::{Value as Js, json};

use super::web::{Presented, Site, count, text_of};

/// Enough for a click.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Browsers tell a page the reason of a close, but not the status of an upgrade that was refused.
/// So a bad cookie is told by closing, at once.
pub(crate) async fn socket(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if !comes_from_own_page(&headers) {
        return (StatusCode::FORBIDDEN, "The page is another site's.").into_response();
    }
    let presented = site.presented(&headers);
    upgrade.max_message_size(MESSAGE_BYTES_MAX).on_upgrade(async move |mut socket| {
        let reason = match presented {
            Presented::Signed { id, .. } => serve(&mut socket, &site.store, id).await,
            Presented::Bad => Some("Bad Cookie".to_owned()),
            Presented::Nothing => Some("No session".to_owned()),
        };
        if let Some(reason) = reason {
            let frame = CloseFrame { code: close_code::POLICY, reason: reason.into() };
            let _ = socket.send(Message::Close(Some(frame))).await;
        }
    })
}

/// A WebSocket is not bound by the same-origin policy: any page may open one, with the cookie.
fn comes_from_own_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let Some(origin) = text(ORIGIN) else { return true };
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    host.is_some() && host == text(HOST)
}

/// Answers clicks until the client goes away (None), or the session ends: the reason why.
async fn serve(socket: &mut WebSocket, store: &Store, id: SessionId) -> Option<String> {
    let mut ended = std::pin::pin!(store.watch(id));
    loop {
        tokio::select! {
            reason = &mut ended => return Some(format!("The session has ended: {reason:?}")),
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => match click(store, id, &text) {
                    Ok(answer) => socket.send(Message::text(answer)).await.ok()?,
                    Err(reason) => return Some(reason),
                },
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            },
        }
    }
}

/// `my_click(self, msg)`, with `msg.session_id`. A click counts as activity.
fn click(store: &Store, id: SessionId, message: &str) -> Result<String, String> {
    let message: Js = serde_json::from_str(message).map_err(|_| "No such event".to_owned())?;
    if message["event"] != "click" {
        return Err("No such event".to_owned());
    }
    let (visits, events) = count(store, id, "events").map_err(|error| error.to_string())?;
    Ok(json!({ "session_id": text_of(id), "visits": visits, "events": events }).to_string())
}
