//! The layer and the extractors for axum 0.8, and for any other tower stack. Needs the feature
//! `axum-08`.
//!
//! ```
//! use axum::{Router, routing::{get, post}};
//! use cloakroom::axum::SessionLayer;
//! use cloakroom::web::{self, Checked, Session, Sessions, User};
//! use cloakroom::Store;
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
//! async fn logout(session: Session, _: Checked<String>) -> web::Result<()> {
//!     session.logout()
//! }
//!
//! let store: Store = Store::builder().in_memory()?;
//! let app: Router = Router::new()
//!     .route("/", get(home))
//!     .route("/account", get(account))
//!     .route("/logout", post(logout))
//!     .layer(SessionLayer::new(Sessions::new(store)));
//! # Ok::<(), cloakroom::Error>(())
//! ```
//!
//! A layer covers the routes that stand before it. [`Session`](crate::web::Session),
//! [`User`](crate::web::User) and [`Checked`](crate::web::Checked) are extractors;
//! `Option<Session>` is None, and `Option<User>` too, where there is none. Without axum's
//! extractors, the handle is in the extensions of the request.
//!
//! An inner layer of the same [`Sessions`](crate::web::Sessions) does nothing. One with another
//! cookie and another store takes the outer one's place for the routes inside; two stores of
//! different types are both there.

mod extract;
mod layer;

pub use layer::{ResponseFuture, SessionLayer, SessionService};
