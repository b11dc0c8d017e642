//! The login app of the Flask notes: `cargo run --example flask --features axum-08`.
//!
//! `web.rs` has the routes. Sessions are kept in the directory `flask_session`: whoever was logged
//! in still is after a restart.

#[path = "../systems/page.rs"]
mod page;
#[path = "../systems/serve.rs"]
mod serve;
mod web;

use std::error::Error;
use std::process::ExitCode;

use cloakroom::Store;

const HOW: &str = "
In a browser: open {url}, give a name, open a second tab; stop the server and start it again.
With curl:
  curl -sL -c jar -b jar -d name=David {url}/login | grep logged
  curl -sL -b jar -c jar {url}/logout | grep placeholder
The sessions are kept on disk. Ctrl-C ends the server.";

fn main() -> ExitCode {
    serve::run("flask", 5000, Some(web::DIRECTORY), |options| {
        let store = web::open(Store::builder().sessions_max(100_000), options.sessions.as_deref())?;
        let app = web::app(store, options.is_secure)?;
        Ok::<_, Box<dyn Error>>((app, HOW.to_owned()))
    })
}
