//! The layer: what stands around a tower service.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, COOKIE, Entry, HeaderMap, HeaderName, HeaderValue, SET_COOKIE,
    VARY, WWW_AUTHENTICATE,
};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::adapter::web::{Field, Headers, Open, Session, Sessions};
use crate::{Attributes, SessionData};

/// Puts the [`Session`] into each request, and the cookie into the response.
///
/// It reads the `Cookie` header, and nothing else happens unless a handler asks. Neither a boxed
/// future nor a task is made per request. The values of `Cookie`, and of `Authorization` if it is
/// read, are marked as [sensitive](http::HeaderValue::set_sensitive): what logs the headers of a
/// request inside this layer shows `Sensitive` in their place. A layer outside of it, as
/// `TraceLayer` of tower-http often is, sees them as they came.
///
/// # Examples
/// ```
/// use axum::{Router, routing::get};
/// use cloakroom::{Store, axum::SessionLayer, web::{Session, Sessions}};
///
/// async fn page(session: Option<Session>) -> &'static str {
///     if session.is_some() { "I know you." } else { "I do not know you." }
/// }
///
/// let store: Store = Store::builder().in_memory()?;
/// let app: Router =
///     Router::new().route("/", get(page)).layer(SessionLayer::new(Sessions::new(store)));
/// # Ok::<(), cloakroom::Error>(())
/// ```
pub struct SessionLayer<S = Attributes> {
    sessions: Sessions<S>,
}

impl<S: SessionData> SessionLayer<S> {
    /// A layer for these sessions.
    pub fn new(sessions: Sessions<S>) -> SessionLayer<S> {
        SessionLayer { sessions }
    }
}

impl<S> Clone for SessionLayer<S> {
    fn clone(&self) -> SessionLayer<S> {
        SessionLayer { sessions: self.sessions.clone() }
    }
}

impl<S> fmt::Debug for SessionLayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer").field("sessions", &self.sessions).finish()
    }
}

impl<I, S> Layer<I> for SessionLayer<S> {
    type Service = SessionService<I, S>;

    fn layer(&self, inner: I) -> SessionService<I, S> {
        SessionService { inner, sessions: self.sessions.clone() }
    }
}

/// The service that [`SessionLayer`] makes.
pub struct SessionService<I, S = Attributes> {
    inner: I,
    sessions: Sessions<S>,
}

impl<I: Clone, S> Clone for SessionService<I, S> {
    fn clone(&self) -> SessionService<I, S> {
        SessionService { inner: self.inner.clone(), sessions: self.sessions.clone() }
    }
}

impl<I: fmt::Debug, S> fmt::Debug for SessionService<I, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService")
            .field("inner", &self.inner)
            .field("sessions", &self.sessions)
            .finish()
    }
}

impl<I, S, B, R> Service<Request<B>> for SessionService<I, S>
where
    I: Service<Request<B>, Response = Response<R>>,
    S: SessionData,
{
    type Response = Response<R>;
    type Error = I::Error;
    type Future = ResponseFuture<I::Future, S>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), I::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> ResponseFuture<I::Future, S> {
        let outer = request.extensions().get::<Session<S>>();
        let open = if outer.is_some_and(|outer| outer.is_of(&self.sessions)) {
            None
        } else {
            let headers = request.headers();
            let accepts_bearer = self.sessions.accepts_bearer();
            let authorization = accepts_bearer.then(|| values(headers, AUTHORIZATION));
            let authorization = authorization.into_iter().flatten();
            let open = self.sessions.begin(values(headers, COOKIE), authorization);
            keep_out_of_logs(request.headers_mut(), COOKIE);
            if accepts_bearer {
                keep_out_of_logs(request.headers_mut(), AUTHORIZATION);
            }
            request.extensions_mut().insert(open.session());
            Some(open)
        };
        ResponseFuture { inner: self.inner.call(request), open }
    }
}

/// `Debug` does not show these values from here on.
fn keep_out_of_logs(headers: &mut HeaderMap, name: HeaderName) {
    if let Entry::Occupied(mut values) = headers.entry(name) {
        values.iter_mut().for_each(|value| value.set_sensitive(true));
    }
}

fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).into_iter().map(HeaderValue::as_bytes)
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

impl<F, R, E, S> Future for ResponseFuture<F, S>
where
    F: Future<Output = Result<Response<R>, E>>,
    S: SessionData,
{
    type Output = Result<Response<R>, E>;

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
