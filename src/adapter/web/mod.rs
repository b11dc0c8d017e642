//! Sessions on the web, the same for each framework: what a handler gets.
//! Needs the feature `axum-08` or `actix-web-4`.
//!
//! - [`Sessions`]: the store with its cookie and policies; a layer is made of it.
//! - [`Session`]: the session of a request, a live handle; an argument of a handler.
//! - [`User`]: the same, where somebody is logged in; others get 401.
//! - [`Checked`]: what a request brings that carried the session's CSRF token; others get 403.
//! - [`Error`]: why a call failed; an answer by itself.
//!
//! The layers are `cloakroom::axum::SessionLayer` and `cloakroom::actix::SessionMiddleware`.

mod attributes;
mod csrf;
mod error;
mod exchange;
mod flash;
mod head;
mod identity;
mod presented;
mod renewals;
mod session;
mod sessions;
mod state;
mod turn;
mod user;

pub use csrf::{CSRF_FIELD, CSRF_HEADER, Checked};
pub(crate) use csrf::{in_form, is_form};
pub use error::{Error, Result};
pub(crate) use exchange::Open;
pub(crate) use head::{Field, Headers};
pub use session::Session;
pub use sessions::{BadCookie, Sessions};
pub use user::User;
