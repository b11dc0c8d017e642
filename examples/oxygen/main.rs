//! The sessions of Oxygen's documentation: `cargo run --example oxygen --features axum-08`.
//!
//! `web.rs` has the routes: a sealed cookie with the token, the data on the server, as a type.

#[path = "../systems/page.rs"]
mod page;
#[path = "../systems/serve.rs"]
mod serve;
mod web;

use std::error::Error;
use std::process::ExitCode;

use cloakroom::Store;
use cloakroom::cookie::Keys;

const HOW: &str = "
In a browser: open {url} and log in as admin, password 1234.
With curl, the routes of the documentation:
  curl -s -c jar -b jar -d '' {url}/doc/login; echo
  curl -s -b jar {url}/doc/dashboard; echo
  curl -s -b jar -d '' {url}/doc/logout; curl -s -b jar {url}/doc/dashboard; echo
The last cookie is the old one: it is refused. Ctrl-C ends the server.";

fn main() -> ExitCode {
    serve::run("oxygen", 6060, None, |options| {
        let builder = Store::builder().sessions_max(100_000);
        let store = match &options.sessions {
            Some(directory) => builder.open(directory)?,
            None => builder.in_memory()?,
        };
        // A real server has its secret from its configuration, not from its source.
        let keys = Keys::new([web::SECRET])?;
        let app = web::app(store, keys, options.is_secure, web::Context::default())?;
        Ok::<_, Box<dyn Error>>((app, HOW.to_owned()))
    })
}
