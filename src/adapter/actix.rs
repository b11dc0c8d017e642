//! The middleware and the extractors for actix-web 4. Needs the feature `actix-web-4`.
//!
//! ```
//! use actix_web::{App, web::{get, post}};
//! use cloakroom::Store;
//! use cloakroom::actix::SessionMiddleware;
//! use cloakroom::web::{self, Checked, Session, Sessions, User};
//!
//! async fn home(session: Session) -> web::Result<String> {
//!     session.update(|s| { s.set("visits", 1 + s.get_i64("visits").unwrap_or(0)); })?;
//!     Ok(format!("visit {}", session.get_i64("visits").unwrap_or(0)))
//! }
//!
//! async fn account(user: User) -> String {
//!     format!("Hello, {}", user.name())
//! }
//!
//! async fn logout(session: Session, _: Checked<String>) -> web::Result<&'static str> {
//!     session.logout()?;
//!     Ok("bye")
//! }
//!
//! let store: Store = Store::builder().in_memory()?;
//! // One for all workers: `HttpServer::new(move || App::new().wrap(.. sessions.clone() ..))`.
//! let sessions = Sessions::new(store);
//! let app = App::new()
//!     .wrap(SessionMiddleware::new(sessions.clone()))
//!     .route("/", get().to(home))
//!     .route("/account", get().to(account))
//!     .route("/logout", post().to(logout));
//! # Ok::<(), cloakroom::Error>(())
//! ```
//!
//! [`Session`], [`User`] and [`Checked`] are extractors. `Option<User>` is None where nobody is
//! logged in; `Option<Session>` is None only without the middleware, as actix-web makes an `Option`
//! of any extractor: ask [`Session::is_live`].
//!
//! An inner middleware of the same [`Sessions`] does nothing. One with another cookie and another
//! store takes the outer one's place for the routes inside; two stores of different types are both
//! there.
//!
//! Errors of handlers and extractors are responses to a middleware, and get their cookie. An error
//! that another middleware inside this one returns is none: a session that such a request began is
//! ended.

use std::fmt;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName,
    HeaderValue, SET_COOKIE, VARY, WWW_AUTHENTICATE,
};
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, HttpResponse, ResponseError};
use pin_project_lite::pin_project;

use crate::adapter::web::{
    CSRF_HEADER, Checked, Error, Field, Headers, Open, Session, Sessions, User, in_form, is_form,
};
use crate::{Attributes, SessionData};

/// Puts the [`Session`] into each request, and the cookie into the response.
///
/// It reads the `Cookie` header, and nothing else happens unless a handler asks.
pub struct SessionMiddleware<S = Attributes> {
    sessions: Sessions<S>,
}

impl<S: SessionData> SessionMiddleware<S> {
    /// A middleware for these sessions.
    pub fn new(sessions: Sessions<S>) -> SessionMiddleware<S> {
        SessionMiddleware { sessions }
    }
}

impl<S> Clone for SessionMiddleware<S> {
    fn clone(&self) -> SessionMiddleware<S> {
        SessionMiddleware { sessions: self.sessions.clone() }
    }
}

impl<S> fmt::Debug for SessionMiddleware<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionMiddleware").field("sessions", &self.sessions).finish()
    }
}

impl<I, B, S> Transform<I, ServiceRequest> for SessionMiddleware<S>
where
    I: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    S: SessionData,
{
    type Response = ServiceResponse<B>;
    type Error = actix_web::Error;
    type Transform = SessionService<I, S>;
    type InitError = ();
    type Future = Ready<Result<SessionService<I, S>, ()>>;

    fn new_transform(&self, inner: I) -> Self::Future {
        ready(Ok(SessionService { inner, sessions: self.sessions.clone() }))
    }
}

/// The service that [`SessionMiddleware`] makes.
pub struct SessionService<I, S = Attributes> {
    inner: I,
    sessions: Sessions<S>,
}

impl<I, S> fmt::Debug for SessionService<I, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService").field("sessions", &self.sessions).finish_non_exhaustive()
    }
}

impl<I, B, S> Service<ServiceRequest> for SessionService<I, S>
where
    I: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    S: SessionData,
{
    type Response = ServiceResponse<B>;
    type Error = actix_web::Error;
    type Future = ResponseFuture<I::Future, S>;

    forward_ready!(inner);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let is_inside = {
            let extensions = request.extensions();
            extensions.get::<Session<S>>().is_some_and(|outer| outer.is_of(&self.sessions))
        };
        let open = (!is_inside).then(|| {
            let headers = request.headers();
            let open = self.sessions.begin(values(headers, COOKIE), values(headers, AUTHORIZATION));
            request.extensions_mut().insert(open.session());
            open
        });
        ResponseFuture { inner: self.inner.call(request), open }
    }
}

fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).map(HeaderValue::as_bytes)
}

pin_project! {
    /// The future of [`SessionService`].
    pub struct ResponseFuture<F, S: SessionData = Attributes> {
        #[pin]
        inner: F,
        // Dropped unfinished if the request is cancelled.
        open: Option<Open<S>>,
    }
}

impl<F, S: SessionData> fmt::Debug for ResponseFuture<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<F, B, S> Future for ResponseFuture<F, S>
where
    F: Future<Output = Result<ServiceResponse<B>, actix_web::Error>>,
    S: SessionData,
{
    type Output = Result<ServiceResponse<B>, actix_web::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(context))?;
        if let Some(open) = this.open.take() {
            let status = response.status().as_u16();
            open.finish().add_to(status, response.headers_mut());
        }
        Poll::Ready(Ok(response))
    }
}

impl Headers for HeaderMap {
    fn lines(&self, field: Field) -> impl Iterator<Item = &[u8]> {
        values(self, name(field))
    }

    fn append(&mut self, field: Field, line: &'static str) {
        self.append(name(field), HeaderValue::from_static(line));
    }

    fn append_secret(&mut self, field: Field, line: String) {
        if let Ok(mut line) = HeaderValue::try_from(line) {
            line.set_sensitive(true);
            self.append(name(field), line);
        }
    }
}

fn name(field: Field) -> HeaderName {
    match field {
        Field::Vary => VARY,
        Field::CacheControl => CACHE_CONTROL,
        Field::SetCookie => SET_COOKIE,
        Field::WwwAuthenticate => WWW_AUTHENTICATE,
    }
}

fn session<S: SessionData>(request: &HttpRequest) -> Result<Session<S>, Error> {
    request.extensions().get::<Session<S>>().ok_or_else(Session::<S>::no_layer)?.checked()
}

/// Refused with 500 where no middleware is, and by 400 where the cookie is bad and the policy
/// [`BadCookie::Refuse`](crate::web::BadCookie::Refuse).
impl<S: SessionData> FromRequest for Session<S> {
    type Error = Error;
    type Future = Ready<Result<Session<S>, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(session(request))
    }
}

/// Refused with 401 where nobody is logged in.
impl<S: SessionData> FromRequest for User<S> {
    type Error = Error;
    type Future = Ready<Result<User<S>, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(session(request).and_then(|session| User::of(&session)))
    }
}

/// Refused with 403 without the session's CSRF token. The body of a form is read into memory, up to
/// the limit of `actix_web::web::PayloadConfig`; if it is compressed, the header is needed.
impl<T: FromRequest + 'static, S: SessionData> FromRequest for Checked<T, S> {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Checked<T, S>, actix_web::Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, mut payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let session: Session<S> = session(&request)?;
            let in_header = text(request.headers(), CSRF_HEADER);
            if in_header.is_some() || session.needs_no_csrf_token() || !has_form(&request) {
                session.check_shown(in_header)?;
            } else {
                let body = Bytes::from_request(&request, &mut payload).await?;
                session.check_shown(in_form(&body).as_deref())?;
                payload = Payload::from(body);
            }
            T::from_request(&request, &mut payload).await.map(Checked::new).map_err(Into::into)
        })
    }
}

fn has_form(request: &HttpRequest) -> bool {
    let headers = request.headers();
    let content_type = text(headers, CONTENT_TYPE.as_str());
    content_type.is_some_and(is_form) && !headers.contains_key(CONTENT_ENCODING)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The text of [`Error::message`].
impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.content_type("text/plain; charset=utf-8").body(self.message())
    }
}
