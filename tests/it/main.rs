//! The behaviour tests of the crate, one module per promise, linked as one binary.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod architecture;
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
#[cfg(feature = "axum-08")]
mod sockets;
mod stress;
mod support;
#[cfg(feature = "axum-08")]
mod systems;
mod watch;
#[cfg(feature = "actix-web-4")]
mod web_actix;
#[cfg(feature = "axum-08")]
mod web_axum;
