//! A server with a login, to try the store: `cargo run --release --example login`.
//!
//! `web.rs` has the requests, one function each; `cookie.rs` the cookie; `page.rs` the HTML. This
//! file starts the server, prints the store's numbers, and ends it on Ctrl-C or SIGTERM.

mod cookie;
mod page;
mod web;

use std::io::{ErrorKind, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use cloakroom::{OwnerLimit, Progress, Store};
use cookie::CookieStyle;
use tokio::net::TcpListener;

const USAGE: &str = "\
Usage: login [--port N] [--secure] [--sessions DIR | --memory]
  --port N        listen on 127.0.0.1:N (default 3000; 0 takes any free port)
  --secure        for use behind TLS: the cookie is named __Host-id and has the attribute Secure
  --sessions DIR  where the sessions are kept (default ./sessions)
  --memory        keep them in memory only: they end with the server";

/// How often the numbers are printed, if they changed.
const NUMBERS_EVERY: Duration = Duration::from_secs(5);
/// How long requests under way may take after Ctrl-C.
const SHUTDOWN_MAX: Duration = Duration::from_secs(3);

struct Options {
    port: u16,
    cookie: CookieStyle,
    /// None: in memory only.
    sessions: Option<PathBuf>,
}

/// How long to wait for another server that still uses the sessions: at a deploy, the one before.
const LOCK_WAIT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    let result = match options(std::env::args().skip(1)) {
        Ok(Some(options)) => run(options).await,
        Ok(None) => {
            println!("{USAGE}");
            Ok(())
        }
        Err(problem) => Err(format!("{problem}\n{USAGE}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the command line; None asks for help.
fn options(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let sessions = Some("sessions".into());
    let mut options = Options { port: 3000, cookie: CookieStyle::PlainHttp, sessions };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--port" => {
                let port = args.next().ok_or("--port needs a number")?;
                options.port =
                    port.parse().map_err(|_| format!("--port {port}: not from 0 to 65535"))?;
            }
            "--secure" => options.cookie = CookieStyle::BehindTls,
            "--sessions" => {
                options.sessions = Some(args.next().ok_or("--sessions needs a directory")?.into());
            }
            "--memory" => options.sessions = None,
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("unknown option {arg}")),
        }
    }
    Ok(Some(options))
}

/// The store of a server that strangers can reach: with limits.
fn open_store(sessions: Option<&Path>) -> cloakroom::Result<Store> {
    let builder = Store::builder()
        .idle_timeout(Duration::from_secs(30 * 60))
        .lifetime(Duration::from_secs(12 * 60 * 60))
        .sessions_max(100_000)
        .bytes_max(64 << 20)
        .sessions_per_owner(10, OwnerLimit::EndOldest)
        .wait_for_lock(LOCK_WAIT);
    match sessions {
        // Told from a thread of the store, while visitors are answered already.
        Some(directory) => builder.open_with(directory, say_progress),
        None => builder.in_memory(),
    }
}

/// Says when all sessions are in memory, or why they never will be.
fn say_progress(progress: Progress) {
    let Progress { sessions, sessions_total, elapsed, problem, .. } = progress;
    if let Some(problem) = problem {
        say(&format!("After {sessions} of {sessions_total} sessions: {problem}."));
    } else if sessions == sessions_total && sessions > 0 {
        say(&format!("All {sessions} sessions of the snapshot are in memory after {elapsed:.0?}."));
    }
}

async fn run(options: Options) -> Result<(), String> {
    let sessions = options.sessions.as_deref();
    let store = open_store(sessions).map_err(|error| error.to_string())?;
    if let (Some(directory), Some(report)) = (sessions, store.recovery()) {
        say(&format!("Sessions in {}: {report}.", directory.display()));
    }
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await.map_err(|error| {
            let port = options.port;
            match error.kind() {
                ErrorKind::AddrInUse => {
                    let other = port.checked_add(1).unwrap_or(3000);
                    format!("port {port} is taken: start with --port {other}")
                }
                _ => format!("cannot listen on 127.0.0.1:{port}: {error}"),
            }
        })?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    say(&greeting(&format!("http://{address}"), options.cookie));

    let numbers = tokio::spawn(print_numbers(store.clone()));
    let server = axum::serve(listener, web::router(store.clone(), options.cookie))
        .with_graceful_shutdown(told_to_stop());
    let result = tokio::select! {
        result = server => result.map_err(|error| error.to_string()),
        () = async { told_to_stop().await; tokio::time::sleep(SHUTDOWN_MAX).await } => Ok(()),
    };
    numbers.abort();
    say(&format!("Stopped. {}", store.stats()));
    store.close().map_err(|error| error.to_string())?;
    result
}

/// Resolves on Ctrl-C, or on SIGTERM, by which service managers stop a server.
async fn told_to_stop() {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            // Then only a kill ends the server.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = interrupted => {}
        () = terminated() => {}
    }
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending().await
}

async fn print_numbers(store: Store) {
    let mut last = store.stats().to_string();
    loop {
        tokio::time::sleep(NUMBERS_EVERY).await;
        let line = store.stats().to_string();
        if line != last {
            say(&line);
            last = line;
        }
    }
}

/// As `println!`, but does not mind that nobody listens any more (`login | head`).
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn greeting(url: &str, cookie: CookieStyle) -> String {
    let transport = match cookie {
        CookieStyle::PlainHttp => {
            "Plain http, as it listens on this machine only: the cookie `id` has no `Secure`.\n\
             Behind TLS start it with --secure."
        }
        CookieStyle::BehindTls => {
            "For use behind TLS: the cookie `__Host-id` has `Secure`, so that browsers send it\n\
             over https only. The proxy in front must pass the Host header on."
        }
    };
    format!(
        "Listening on {url}
{transport}

In a browser: open {url} and log in as alice (password wonderland) or bob (builder).
A second browser, or a private window, is a second device.

With curl: log in and be counted; be counted again; log out, and be refused with the old cookie.
  curl -sL -c jar -b jar -d 'name=alice&password=wonderland' {url}/login | grep visit
  curl -s -b jar {url}/account | grep visit
  curl -s -b jar -d '' {url}/logout; curl -si -b jar {url}/account | grep -e HTTP -e class=why
The numbers of the store: curl -s {url}/stats

Ctrl-C ends it. Sessions are kept on disk: start it again, and whoever was logged in still is.
"
    )
}
