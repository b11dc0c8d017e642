//! The extractors, and the answer that an error is.

use std::sync::Arc;

use axum_core::body::Body;
use axum_core::extract::{FromRequest, FromRequestParts, OptionalFromRequestParts, Request};
use axum_core::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use crate::SessionData;
use crate::adapter::web::{CSRF_HEADER, Checked, Error, Session, User, in_form, is_form};

fn session<S: SessionData>(parts: &Parts) -> Result<Session<S>, Error> {
    parts.extensions.get::<Session<S>>().ok_or_else(Session::<S>::no_layer)?.checked()
}

/// Refused with 500 where no layer is, and by 400 where the cookie is bad and the policy
/// [`BadCookie::Refuse`](crate::web::BadCookie::Refuse).
impl<S: SessionData, T: Sync> FromRequestParts<T> for Session<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &T) -> Result<Session<S>, Error> {
        session(parts)
    }
}

/// None where there is no session. Counts as activity.
impl<S: SessionData, T: Sync> OptionalFromRequestParts<T> for Session<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &T) -> Result<Option<Session<S>>, Error> {
        session(parts).map(|session| session.is_live().then_some(session))
    }
}

/// Refused with 401 where nobody is logged in.
impl<S: SessionData, T: Sync> FromRequestParts<T> for User<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &T) -> Result<User<S>, Error> {
        User::of(&session(parts)?)
    }
}

/// None where nobody is logged in.
impl<S: SessionData, T: Sync> OptionalFromRequestParts<T> for User<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &T) -> Result<Option<User<S>>, Error> {
        match User::of(&session(parts)?) {
            Ok(user) => Ok(Some(user)),
            Err(Error::NotLoggedIn(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Refused with 403 without the session's CSRF token. The body of a form is read into memory, up to
/// the limit that axum sets for bodies.
impl<T, S, State> FromRequest<State> for Checked<T, S>
where
    T: FromRequest<State>,
    S: SessionData,
    State: Send + Sync,
{
    type Rejection = Response;

    async fn from_request(request: Request, state: &State) -> Result<Checked<T, S>, Response> {
        let (parts, body) = request.into_parts();
        let session: Session<S> = session(&parts).map_err(IntoResponse::into_response)?;
        let in_header = text(&parts.headers, CSRF_HEADER);
        let body = if in_header.is_some() || session.needs_no_csrf_token() || !has_form(&parts) {
            session.check_shown(in_header).map_err(IntoResponse::into_response)?;
            body
        } else {
            let request = Request::from_parts(parts.clone(), body);
            // The names and values of a form are ASCII, with everything else escaped.
            let body = String::from_request(request, state).await;
            let body = body.map_err(IntoResponse::into_response)?;
            let in_form = in_form(body.as_bytes());
            session.check_shown(in_form.as_deref()).map_err(IntoResponse::into_response)?;
            Body::from(body)
        };
        let rest = T::from_request(Request::from_parts(parts, body), state).await;
        rest.map(Checked::new).map_err(IntoResponse::into_response)
    }
}

fn has_form(parts: &Parts) -> bool {
    text(&parts.headers, CONTENT_TYPE.as_str()).is_some_and(is_form)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The text of [`Error::message`]. The error itself is in the extensions of the response, as an
/// `Arc<web::Error>`, for a middleware that logs it or makes a page of it.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        let mut response = (status, [(CONTENT_TYPE, plain)], self.message()).into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}
