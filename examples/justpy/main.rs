//! The sessions of JustPy's documentation: `cargo run --example justpy --features axum-08`.
//!
//! `web.rs` has the routes and the cookie, `signer.rs` its signature, `socket.rs` the WebSocket,
//! `view.rs` the pages.

#[path = "../systems/page.rs"]
mod page;
#[path = "../systems/serve.rs"]
mod serve;
mod signer;
mod socket;
mod view;
mod web;

use std::error::Error;
use std::process::ExitCode;

use cloakroom::Store;
use web::{BadCookie, Config};

const HOW: &str = "
In a browser: open {url} in two tabs and click; open {url}/login_test and log in (`password`).
With curl:
  curl -s -c jar -b jar {url}/ | grep -e id: -e 'visits: [0-9]'
  curl -si -b jp_token=tampered {url}/ | tail -1
Start it with the word `upstream` to have bad cookies answered as JustPy does. Ctrl-C ends it.";

fn main() -> ExitCode {
    serve::run("justpy", 8000, None, |options| {
        let mut config = Config { is_secure: options.is_secure, ..Config::default() };
        if options.words.iter().any(|word| word == "upstream") {
            config.bad_cookie = BadCookie::AsUpstream;
        }
        let age = config.cookie_max_age;
        let builder = Store::builder()
            .sessions_max(100_000)
            .idle_timeout(age)
            .anonymous_idle_timeout(age)
            .lifetime(4 * age);
        let store = match &options.sessions {
            Some(directory) => builder.open(directory)?,
            None => builder.in_memory()?,
        };
        Ok::<_, Box<dyn Error>>((web::app(store, config)?, HOW.to_owned()))
    })
}
