//! What the web frameworks get of the store: each adapter behind a feature of its own.

#[cfg(feature = "actix-web-4")]
pub mod actix;
#[cfg(feature = "axum-08")]
pub mod axum;
#[cfg(any(feature = "axum-08", feature = "actix-web-4"))]
pub mod web;
