//! The cells of the session notebook: `cargo run --example notebook --features axum-08`.
//!
//! Prints what the notebook prints, then serves the login, so that a browser can try it.
//! `cells.rs` is the first cell, `web.rs` the second with its server, `jwt.rs` the token,
//! `sealed.rs` the second cookie.

mod cells;
mod jwt;
#[path = "../systems/page.rs"]
mod page;
mod sealed;
#[path = "../systems/serve.rs"]
mod serve;
mod web;

use std::error::Error;
use std::io::stdout;
use std::process::ExitCode;

use cloakroom::Store;

const HOW: &str = "
In a browser: open {url} and log in with the token that stands there.
Ctrl-C ends the server.";

fn main() -> ExitCode {
    serve::run("notebook", 3000, None, |options| {
        let store = Store::builder().sessions_max(100_000).in_memory()?;
        println!("In [1]:");
        cells::Cell { store: store.clone(), out: stdout() }.example_usage()?;

        let app = web::app(store, options.is_secure, web::now)?;
        println!("\nIn [2]:");
        let mut out = stdout();
        let cell = web::login_cell(app.clone(), &mut out);
        tokio::runtime::Handle::current().block_on(cell)?;
        Ok::<_, Box<dyn Error>>((app, HOW.to_owned()))
    })
}
