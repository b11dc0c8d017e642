//! The sessions of the Rails notes: `cargo run --example rails --features axum-08`.
//!
//! `web.rs` has the routes and the configuration, `hash.rs` the hash-like session,
//! `travelling.rs` the cookie store, whose data travels with the browser.

mod hash;
#[path = "../systems/page.rs"]
mod page;
#[path = "../systems/serve.rs"]
mod serve;
mod travelling;
mod web;

use std::process::ExitCode;

use cloakroom::Store;
use cloakroom::cookie::{Encoding, Keys};
use web::{Config, Storage};

const HOW: &str = "
In a browser: open {url}. With curl, the replay of an old cookie:
  curl -s -c jar -b jar -d credits=10 {url}/credits; cp jar old
  for i in 1 2 3; do curl -s -c jar -b jar -d '' {url}/spend; done
  curl -s -b old {url}/ | grep Credits:
Start it with the word `cookie` to have the data travel in a cookie, with `--sessions DIR` to keep
it on disk. A session ends after 2 minutes without a request. Ctrl-C ends the server.";

fn main() -> ExitCode {
    serve::run("rails", 3001, None, |options| {
        let storage = match (&options.sessions, options.words.first().map(String::as_str)) {
            (_, Some("cookie")) => Storage::Cookie,
            (Some(directory), _) => Storage::Directory(directory.clone()),
            (None, _) => Storage::Memory,
        };
        let encoding = Encoding::Sealed(Keys::generate()?);
        let config = Config { storage, encoding, is_secure: options.is_secure };
        let (app, _) = web::app(Store::builder().sessions_max(100_000), &config)?;
        Ok::<_, Box<dyn std::error::Error>>((app, HOW.to_owned()))
    })
}
