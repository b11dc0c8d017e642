//! The behaviour tests of the crate, one module per promise, linked as one binary.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[cfg(all(feature = "actix-session-011", feature = "_tests"))]
mod actix_session;
mod architecture;
#[cfg(unix)]
mod backup;
#[cfg(all(unix, feature = "cli"))]
mod cli;
#[cfg(all(
    feature = "conformance",
    feature = "actix-session-011",
    feature = "axum-08",
    feature = "tower-sessions-015",
    feature = "_tests"
))]
mod conformance;
#[cfg(feature = "cookie")]
mod cookie;
#[cfg(all(unix, feature = "cli"))]
mod directory;
#[cfg(unix)]
mod disk;
#[cfg(unix)]
mod durable;
#[cfg(all(unix, feature = "cli"))]
mod encryption;
mod ends;
mod events;
mod find;
mod input;
#[cfg(unix)]
mod killed;
mod lifetimes;
mod limits;
mod login;
#[cfg(all(
    unix,
    feature = "actix-session-011",
    feature = "actix-web-4",
    feature = "axum-08",
    feature = "encryption",
    feature = "tower-sessions-015",
    feature = "_tests"
))]
mod logs;
mod many;
#[cfg(unix)]
mod migration;
mod model;
mod owners;
#[cfg(unix)]
mod restart;
mod rotation;
mod seeds;
#[cfg(feature = "axum-08")]
mod sockets;
mod stress;
mod support;
#[cfg(feature = "axum-08")]
mod systems;
#[cfg(all(feature = "tower-sessions-015", feature = "_tests"))]
mod tower_sessions;
mod watch;
#[cfg(all(feature = "actix-web-4", feature = "_tests"))]
mod web_actix;
#[cfg(feature = "axum-08")]
mod web_axum;
