//! Requests to a counter page: each loads a session, adds 1, saves it. Every server is a process of
//! its own; the load comes from wrk, or from this process where wrk is not installed.

mod load;
mod pages;
pub mod stores;

use std::io::{BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use crate::allocations;
use crate::cli::Cli;
use crate::draw::Workload;
use crate::durable::Directory;
use crate::interleave::{Cell, Lane, Metric, Point, Sample};
use crate::report::Report;
use load::Load;

const SESSIONS: [usize; 1] = [100_000];
const CONNECTIONS: usize = 64;

/// What a child is told by its environment.
const NAME: &str = "CLOAKROOM_WEB_NAME";
const COUNTS: &str = "CLOAKROOM_WEB_SESSIONS_AND_THREADS";
const DIRECTORY: &str = "CLOAKROOM_WEB_DIR";
/// In its directory, a line for each session: what its cookie holds.
const COOKIES: &str = "cookies";

pub fn run(cli: &Cli, report: &mut Report) {
    let load = Load::new();
    report.progress(&format!("the load comes from {}", load.name()));
    for sessions in cli.sessions(&SESSIONS) {
        for threads in cli.threads() {
            let mut lanes = Vec::new();
            for name in pages::NAMES.into_iter().filter(|name| cli.admits(name)) {
                report.progress(&format!("filling {name}"));
                match Server::start(name, sessions, threads) {
                    Ok(server) => lanes.push(Lane {
                        name,
                        note: format!("by {}", load.name()),
                        run: Box::new(move |&time: &Duration| server.measure(load, time)),
                    }),
                    Err(problem) => report.progress(&format!("{name} left out: {problem}")),
                }
            }
            let cell = Cell { workload: Workload::Uniform, sessions, threads };
            report.cell("web", cell, &mut lanes, &cli.run_time(), cli.runs());
        }
    }
}

/// A server in a process of its own.
struct Server {
    directory: Directory,
    address: SocketAddr,
    /// With its output: asked for the number of allocations, it answers.
    child: Mutex<(Child, BufReader<ChildStdout>)>,
}

impl Server {
    fn start(name: &str, sessions: usize, threads: usize) -> Result<Server, String> {
        let directory =
            Directory::new(&format!("web-{name}")).map_err(|error| error.to_string())?;
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut child = Command::new(program)
            .arg("web-child")
            .env(NAME, name)
            .env(COUNTS, format!("{sessions} {threads}"))
            .env(DIRECTORY, &directory.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let line = read_line(&mut output);
        let Ok(port) = line.parse::<u16>() else {
            let _ = child.wait();
            return Err(line);
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Server { directory, address, child: Mutex::new((child, output)) })
    }

    fn measure(&self, load: Load, time: Duration) -> Sample {
        let before = self.allocations();
        let loaded = load.put(self.address, &self.directory.0.join(COOKIES), time);
        let allocations = self.allocations() - before;
        let point = |metric, value| Point { section: "web", metric, value };
        let mut sample = Sample::from(vec![
            point(Metric::Kops, loaded.rate / 1000.0),
            point(Metric::Allocations, allocations as f64 / loaded.requests.max(1) as f64),
        ]);
        sample.remarks.extend(loaded.problem);
        sample
    }

    fn allocations(&self) -> u64 {
        let (child, output) = &mut *self.child.lock().expect("nobody panics here");
        let input = child.stdin.as_mut().expect("it is piped");
        writeln!(input, "?").expect("the server runs");
        read_line(output).parse().expect("the server counts")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let (child, _) = self.child.get_mut().expect("nobody panics here");
        // The end of its input tells it to end, and to end what it has started.
        drop(child.stdin.take());
        let _ = child.wait();
    }
}

fn read_line(lines: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    let _ = lines.read_line(&mut line);
    line.trim().to_owned()
}

/// A server: tells its port, then its allocations whenever it is asked.
pub fn child() {
    let told = |name| std::env::var(name).expect("the parent sets it");
    let counts = told(COUNTS);
    let (sessions, threads) = counts.split_once(' ').expect("two numbers");
    let number = |text: &str| text.parse().expect("a number");
    let directory = told(DIRECTORY);
    match pages::serve(&told(NAME), number(sessions), number(threads), Path::new(&directory)) {
        Ok((address, _server)) => {
            println!("{}", address.port());
            allocations::count();
            for line in std::io::stdin().lines() {
                if line.is_err() {
                    return;
                }
                println!("{}", allocations::counted());
            }
        }
        Err(problem) => println!("{problem}"),
    }
}
