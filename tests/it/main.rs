//! The behaviour tests of the crate, one module per promise, linked as one binary.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[cfg(feature = "actix-session-011")]
mod actix_session;
mod architecture;
#[cfg(all(feature = "conformance", feature = "actix-session-011", feature = "tower-sessions-015"))]
mod conformance;
#[cfg(feature = "cookie")]
mod cookie;
#[cfg(unix)]
mod durable;
mod ends;
mod events;
mod find;
mod input;
mod lifetimes;
mod limits;
mod login;
mod model;
mod owners;
mod rotation;
mod seeds;
mod stress;
mod support;
#[cfg(feature = "tower-sessions-015")]
mod tower_sessions;
mod watch;
