//! A deploy: a server process follows another one on the same directory, under load. The gap is
//! the time from the last answer of the old process to the first one of the new. Each process
//! answers lookups on a socket of its own; the new one is started first and waits for the lock.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cloakroom::{SessionId, Store};

use super::refuse_beyond_memory;
use crate::cli::Cli;
use crate::contender::cloakroom::Payload;
use crate::draw::{Random, Workload};
use crate::durable::Directory;
use crate::durable::cloakroom::{fill, lasting};
use crate::interleave::{Cell, Lane, Metric, Point, Sample};
use crate::report::Report;

const SESSIONS: [usize; 1] = [1_000_000];
/// Two processes, and the file.
const BYTES_PER_SESSION: u64 = 1000;
/// How long the old process answers before the new one is started, and beside it.
const LOAD: Duration = Duration::from_millis(500);
/// Sessions that are asked for afterwards: nobody may be logged out.
const ASKED: usize = 10_000;
/// Where a child finds the sessions, and what its socket is called.
const DIRECTORY: &str = "CLOAKROOM_ROLLING_DIR";
const SOCKET: &str = "CLOAKROOM_ROLLING_SOCKET";

fn open(directory: &Path) -> Store<Payload> {
    let builder = lasting().wait_for_lock(Duration::from_secs(60));
    builder.open(directory).expect("a store opens")
}

pub fn run(cli: &Cli, report: &mut Report) {
    for sessions in cli.sessions(&SESSIONS) {
        if !cli.admits("cloakroom") {
            continue;
        }
        refuse_beyond_memory(sessions, BYTES_PER_SESSION);
        report.progress("filling cloakroom");
        let directory = Directory::new("rolling").expect("a directory for temporary files");
        let files = directory.0.join("sessions");
        let store = open(&files);
        let ids = fill(&store, sessions);
        store.snapshot().expect("there is room on disk");
        store.close().expect("the disk works");
        let mut lanes = vec![Lane {
            name: "cloakroom",
            note: String::new(),
            run: Box::new(|()| measure(&directory.0, &files, &ids)),
        }];
        let cell = Cell { workload: Workload::Uniform, sessions, threads: 1 };
        report.cell("rolling", cell, &mut lanes, &(), cli.runs());
    }
}

fn measure(directory: &Path, files: &Path, ids: &[SessionId]) -> Sample {
    let mut random = Random::new(0x90A1);
    let mut any = || ids[random.below(ids.len())];
    let mut old = Server::start(files, directory.join("old"));
    let mut stream = old.wait(any());
    load(&mut stream, &mut any);
    let mut new = Server::start(files, directory.join("new"));
    load(&mut stream, &mut any);
    // The end of its input tells it to close.
    drop(old.child.stdin.take());
    let mut last = Instant::now();
    while ask(&mut stream, any()).is_ok() {
        last = Instant::now();
    }
    let mut stream = new.wait(any());
    let gap = last.elapsed();
    for _ in 0..ASKED {
        assert!(ask(&mut stream, any()).expect("it answers"), "a session is missing");
    }
    old.end();
    new.end();
    let value = gap.as_secs_f64() * 1000.0;
    vec![Point { section: "rolling", metric: Metric::GapMs, value }].into()
}

/// Looks up for a while.
fn load(stream: &mut UnixStream, any: &mut impl FnMut() -> SessionId) {
    let begin = Instant::now();
    while begin.elapsed() < LOAD {
        assert!(ask(stream, any()).expect("it answers"), "a session is missing");
    }
}

/// Whether a session is there; an error if nobody answers any more.
fn ask(stream: &mut UnixStream, id: SessionId) -> std::io::Result<bool> {
    stream.write_all(uuid_of(id).as_bytes())?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    Ok(answer[0] == 1)
}

fn uuid_of(id: SessionId) -> uuid::Uuid {
    id.into()
}

struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    fn start(files: &Path, socket: PathBuf) -> Server {
        let _ = std::fs::remove_file(&socket);
        let program = std::env::current_exe().expect("the running program has a path");
        let child = Command::new(program)
            .arg("rolling-child")
            .env(DIRECTORY, files)
            .env(SOCKET, &socket)
            .stdin(Stdio::piped())
            .spawn()
            .expect("the program starts again");
        Server { child, socket }
    }

    /// A connection over which it has answered.
    fn wait(&mut self, id: SessionId) -> UnixStream {
        loop {
            let stream = UnixStream::connect(&self.socket);
            if let Ok(mut stream) = stream
                && ask(&mut stream, id).is_ok_and(|found| found)
            {
                return stream;
            }
            assert!(self.child.try_wait().is_ok_and(|ended| ended.is_none()), "it has ended");
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn end(&mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().is_ok_and(|status| status.success()), "it ends well");
    }
}

/// A server: answers on a socket until its input ends, then closes the store.
pub fn child() {
    let place = |name| PathBuf::from(std::env::var_os(name).expect("the parent sets it"));
    let store = open(&place(DIRECTORY));
    let listener = UnixListener::bind(place(SOCKET)).expect("a socket can be made");
    let answering = store.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, store) = (stream.expect("a connection"), answering.clone());
            std::thread::spawn(move || answer(&mut stream, &store));
        }
    });
    let mut nothing = [0];
    let _ = std::io::stdin().read(&mut nothing);
    store.flush().wait().expect("the disk works");
    // What the other threads hold ends with the process, and so does the lock.
    std::process::exit(0);
}

fn answer(stream: &mut UnixStream, store: &Store<Payload>) {
    let mut id = [0; 16];
    while stream.read_exact(&mut id).is_ok() {
        let id = SessionId::from(uuid::Uuid::from_bytes(id));
        let found = store.read(id, |session| session.bytes[0]).is_ok();
        if stream.write_all(&[u8::from(found)]).is_err() {
            return;
        }
    }
}
