//! How the five systems are started: the command line, the socket, the end on Ctrl-C.

use std::io::{ErrorKind, Write as _};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;

use axum::Router;
use tokio::net::TcpListener;

/// What a system may be told on its command line.
pub(crate) struct Options {
    pub(crate) port: u16,
    /// For use behind TLS: cookies are `Secure`.
    pub(crate) is_secure: bool,
    /// Where the sessions are kept. None: in memory only.
    pub(crate) sessions: Option<PathBuf>,
    /// The words that are no options.
    pub(crate) words: Vec<String>,
}

impl Options {
    fn usage(system: &str, port: u16) -> String {
        format!(
            "Usage: {system} [--port N] [--secure] [--sessions DIR | --memory]
  --port N        listen on 127.0.0.1:N (default {port}; 0 takes any free port)
  --secure        for use behind TLS: cookies get the attribute Secure
  --sessions DIR  keep the sessions in this directory
  --memory        keep them in memory only: they end with the server"
        )
    }

    fn read(mut self, mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--port" => {
                    let port = args.next().ok_or("--port needs a number")?;
                    self.port =
                        port.parse().map_err(|_| format!("--port {port}: not from 0 to 65535"))?;
                }
                "--secure" => self.is_secure = true,
                "--sessions" => {
                    self.sessions = Some(args.next().ok_or("--sessions needs a directory")?.into());
                }
                "--memory" => self.sessions = None,
                _ if arg.starts_with('-') => return Err(format!("unknown option {arg}")),
                _ => self.words.push(arg),
            }
        }
        Ok(self)
    }
}

/// Runs a system: `app` makes its routes, and how to try it, which is printed with the address.
pub(crate) fn run<E: std::fmt::Display>(
    system: &str,
    port: u16,
    sessions: Option<&str>,
    app: impl FnOnce(&Options) -> Result<(Router, String), E>,
) -> ExitCode {
    let sessions = sessions.map(PathBuf::from);
    let defaults = Options { port, is_secure: false, sessions, words: Vec::new() };
    let mut args = std::env::args().skip(1).peekable();
    if args.peek().is_some_and(|arg| arg == "--help" || arg == "-h") {
        println!("{}", Options::usage(system, port));
        return ExitCode::SUCCESS;
    }
    let result = defaults
        .read(args)
        .map_err(|problem| format!("{problem}\n{}", Options::usage(system, port)))
        .and_then(|options| {
            let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
            // Some routes start tasks as they are made.
            let _inside = runtime.enter();
            let (app, how) = app(&options).map_err(|error| error.to_string())?;
            runtime.block_on(serve(app, options.port, &how))
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(app: Router, port: u16, how: &str) -> Result<(), String> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let listener = bound.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => format!("port {port} is taken: start with --port 0"),
        _ => format!("cannot listen on 127.0.0.1:{port}: {error}"),
    })?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let how = how.replace("{url}", &format!("http://{address}"));
    // Nobody has to listen any more (`flask | head`).
    let _ = writeln!(std::io::stdout(), "Listening on http://{address}\n{how}");
    tokio::select! {
        result = axum::serve(listener, app) => result.map_err(|error| error.to_string()),
        // Sockets may stay open for hours: nobody waits for them.
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}
