//! What the web frameworks get of the store, each adapter behind a feature of its own: layers and
//! middleware with a live session, and stores for the session middlewares of others.
//!
//! Those middlewares load a whole session, let a handler change it, then save all of it: of two
//! requests at a time the later one undoes what the earlier one saved. Here a load hands out,
//! beside the data, what it was like (`loaded`); a save compares, and writes the difference
//! (`merge`).
//!
//! ```text
//! load:  store --> keeper --> data + `cloakroom.loaded`, the digests of its values --> handler
//! save:  handler --> what is not as it was loaded --> merge, under the session's lock --> store
//! ```

#[cfg(feature = "actix-web-4")]
pub mod actix;
#[cfg(feature = "actix-session-011")]
pub mod actix_session;
#[cfg(feature = "axum-08")]
pub mod axum;
#[cfg(any(feature = "actix-session-011", feature = "tower-sessions-015"))]
mod digest;
#[cfg(any(feature = "actix-session-011", feature = "tower-sessions-015"))]
mod keeper;
#[cfg(any(feature = "actix-session-011", feature = "tower-sessions-015"))]
mod loaded;
#[cfg(any(feature = "actix-session-011", feature = "tower-sessions-015"))]
mod merge;
#[cfg(any(feature = "actix-session-011", feature = "tower-sessions-015"))]
mod own;
#[cfg(any(feature = "actix-session-011", feature = "tower-sessions-015"))]
mod recent;
#[cfg(feature = "tower-sessions-015")]
pub mod tower_sessions;
#[cfg(any(feature = "axum-08", feature = "actix-web-4"))]
pub mod web;
