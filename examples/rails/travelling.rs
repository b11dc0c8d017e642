//! The cookie store: the data travels sealed in a cookie of its own, and the server keeps no more
//! than a number, the generation.
//!
//! ```text
//! sealed value   session id (16 bytes) | generation (8 bytes, little endian) | archived data
//! ```
//! Each write seals the next generation, which the store counts in the same step. So a cookie of an
//! earlier generation, put back by whoever kept it, is refused: the nonce that the notes call hard
//! to coordinate is a lookup in this process's memory. A logout ends the session, and with it every
//! cookie that was sealed for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cloakroom::cookie::{Cookie, CookieError, values};
use cloakroom::web::{self, Session};
use cloakroom::{ArchivedAttributes, Attributes, SessionId};
use rkyv::rancor;
use rkyv::util::AlignedVec;
use uuid::Uuid;

/// The key of the only thing that the store keeps.
const GENERATION: &str = "generation";
const HEAD_BYTES: usize = 24;

/// Why a change of the session failed.
#[derive(Debug)]
pub(crate) enum Problem {
    Web(web::Error),
    /// `ActionDispatch::Cookies::CookieOverflow`: nothing was cut off, nothing was changed.
    CookieOverflow {
        bytes: usize,
    },
    /// Another request has written since the cookie was sealed.
    Stale,
}

impl<E: Into<web::Error>> From<E> for Problem {
    fn from(error: E) -> Problem {
        match error.into() {
            web::Error::Cookie(CookieError::TooLong { bytes, .. }) => {
                Problem::CookieOverflow { bytes }
            }
            error => Problem::Web(error),
        }
    }
}

/// The data of one request.
#[derive(Clone)]
pub(crate) struct Travelling(Arc<Inner>);

struct Inner {
    cookie: Cookie,
    /// As it came.
    presented: Vec<HeaderValue>,
    state: Mutex<Sent>,
}

#[derive(Default)]
struct Sent {
    /// What this request has sealed: of which session, the generation, the data.
    sealed: Option<(SessionId, u64, Attributes)>,
    set_cookie: Option<String>,
}

/// The middleware around all routes: sends the cookie that the handlers sealed.
pub(crate) async fn travel(
    State(cookie): State<Cookie>,
    mut request: Request,
    next: Next,
) -> Response {
    let presented = request.headers().get_all(COOKIE).iter().cloned().collect();
    let travelling = Travelling(Arc::new(Inner { cookie, presented, state: Mutex::default() }));
    request.extensions_mut().insert(travelling.clone());
    let mut response = next.run(request).await;
    let line = travelling.state().set_cookie.take();
    if let Some(mut line) = line.and_then(|line| HeaderValue::try_from(line).ok()) {
        line.set_sensitive(true);
        response.headers_mut().append(SET_COOKIE, line);
    }
    response
}

impl Travelling {
    fn state(&self) -> MutexGuard<'_, Sent> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The generation that counts, with its data: none of it if the cookie is of another.
    fn current(&self, session: &Session) -> Option<(SessionId, u64, Attributes)> {
        let id = session.id()?;
        let generation = session.get_u64(GENERATION).unwrap_or(0);
        let sealed = self.state().sealed.clone().or_else(|| self.opened());
        let data = sealed
            .filter(|(of, sealed, _)| *of == id && *sealed == generation)
            .map(|(_, _, data)| data);
        Some((id, generation, data.unwrap_or_default()))
    }

    fn opened(&self) -> Option<(SessionId, u64, Attributes)> {
        let headers = self.0.presented.iter().map(HeaderValue::as_bytes);
        let bytes = self.0.cookie.open(headers)?.value;
        let (head, archived) = bytes.split_at_checked(HEAD_BYTES)?;
        let id = SessionId::from(Uuid::from_slice(&head[..16]).ok()?);
        let generation = u64::from_le_bytes(head[16..].try_into().ok()?);
        let mut aligned: AlignedVec = AlignedVec::with_capacity(archived.len());
        aligned.extend_from_slice(archived);
        let data = rkyv::access::<ArchivedAttributes, rancor::Error>(&aligned).ok()?;
        Some((id, generation, data.to_attributes()))
    }

    pub(crate) fn read<R>(&self, session: &Session, f: impl FnOnce(&Attributes) -> R) -> Option<R> {
        self.current(session).map(|(_, _, data)| f(&data))
    }

    pub(crate) fn update<R>(
        &self,
        session: &Session,
        f: impl FnOnce(&mut Attributes) -> R,
    ) -> Result<R, Problem> {
        if !session.is_live() {
            // Something that belongs to the cookie has to be there.
            session.set(GENERATION, 0_u64)?;
        }
        let missing = || web::Error::NotLoggedIn(session.missing());
        let (id, generation, mut data) = self.current(session).ok_or_else(missing)?;
        let result = f(&mut data);
        let next = generation + 1;
        // First whether it fits: what does not changes nothing.
        let set_cookie = self.0.cookie.seal(sealed(id, next, &data)?)?;
        session.try_update(|s| {
            if s.get_u64(GENERATION).unwrap_or(0) != generation {
                return Err(Problem::Stale);
            }
            s.set(GENERATION, next);
            Ok(())
        })?;
        *self.state() = Sent { sealed: Some((id, next, data)), set_cookie: Some(set_cookie) };
        Ok(result)
    }

    /// The data is gone with its session, and so is the cookie, if the browser has one.
    pub(crate) fn forget(&self) {
        let name = self.0.cookie.name();
        let has_cookie = self.0.presented.iter().any(|line| values(line, name).next().is_some());
        let set_cookie = has_cookie.then(|| self.0.cookie.remove());
        *self.state() = Sent { sealed: None, set_cookie };
    }
}

fn sealed(id: SessionId, generation: u64, data: &Attributes) -> Result<Vec<u8>, Problem> {
    let archived = rkyv::to_bytes::<rancor::Error>(data)
        .map_err(|error| cloakroom::Error::Encode(error.to_string()))?;
    let mut bytes = Uuid::from(id).as_bytes().to_vec();
    bytes.extend(generation.to_le_bytes());
    bytes.extend_from_slice(&archived);
    Ok(bytes)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        use axum::http::StatusCode;
        match self {
            Problem::Web(error) => error.into_response(),
            Problem::CookieOverflow { bytes } => {
                let text = format!("CookieOverflow: {bytes} bytes, and 4096 fit into a cookie");
                (StatusCode::PAYLOAD_TOO_LARGE, text).into_response()
            }
            Problem::Stale => {
                (StatusCode::CONFLICT, "Another request was faster: load the page again.")
                    .into_response()
            }
        }
    }
}
