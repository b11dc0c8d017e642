//! From the start of a store on disk to its first answer, and until all of it is in memory.
//!
//! Ours beside Redis, which loads the same sessions from its append-only file, and from its dump
//! file. Redis answers nobody before all is in memory. `redis-server` has to be installed (Debian:
//! `apt-get install redis-server`; https://redis.io/docs/latest/operate/oss_and_stack/install/);
//! without it only ours is measured. Files lie in the system's directory for temporary files.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::refuse_beyond_memory;
use crate::cli::Cli;
use crate::contender::VALUE_BYTES;
use crate::draw::{Random, Workload, value};
use crate::interleave::{Cell, Lane, Metric, Point, Sample};
use crate::report::Report;

const SESSIONS: [usize; 1] = [1_000_000];
const BYTES_PER_SESSION: u64 = 700;
/// Commands that Redis is sent at once while it is filled.
const PIPELINE: usize = 1000;
/// How often Redis is asked whether it answers.
const ASK_EVERY: Duration = Duration::from_millis(1);

pub fn run(cli: &Cli, report: &mut Report) {
    for sessions in cli.sessions(&SESSIONS) {
        refuse_beyond_memory(sessions, BYTES_PER_SESSION);
        let root = std::env::temp_dir().join(format!("cloakroom-restart-{}", std::process::id()));
        std::fs::create_dir_all(&root).expect("a directory for temporary files");
        let mut lanes = Vec::new();
        #[cfg(feature = "ours")]
        if cli.admits("cloakroom") {
            report.progress("filling cloakroom");
            lanes.push(ours::lane(root.join("cloakroom"), sessions));
        }
        if ["redis-aof", "redis-rdb"].iter().any(|name| cli.admits(name)) {
            report.progress("filling redis");
            match Redis::filled(root.join("redis"), sessions) {
                Some(redis) => lanes.extend(redis_lanes(cli, &redis)),
                None => eprintln!("redis-server is not installed (apt-get install redis-server)"),
            }
        }
        let cell = Cell { workload: Workload::Uniform, sessions, threads: 1 };
        report.cell("restart", cell, &mut lanes, &(), cli.runs());
        drop(lanes);
        let _ = std::fs::remove_dir_all(&root);
    }
}

fn point(metric: Metric, time: Duration) -> Point {
    Point { section: "restart", metric, value: time.as_secs_f64() * 1000.0 }
}

#[cfg(feature = "ours")]
mod ours {
    use cloakroom::{SessionId, Store};

    use super::*;
    use crate::contender::cloakroom::Payload;
    use crate::durable::cloakroom::{fill, lasting, unloaded, wait_until_loaded};
    use crate::latency::Latencies;

    /// Lookups of the phase after, for comparison with those while sessions are brought.
    const AFTER: usize = 2_000_000;

    fn open(directory: &Path) -> Store<Payload> {
        lasting().open(directory).expect("a store opens")
    }

    pub fn lane(directory: PathBuf, sessions: usize) -> Lane<'static, ()> {
        let store = open(&directory);
        let ids = fill(&store, sessions);
        store.snapshot().expect("there is room on disk");
        store.close().expect("the disk works");
        Lane {
            name: "cloakroom",
            note: String::new(),
            run: Box::new(move |()| measure(&directory, &ids)),
        }
    }

    fn measure(directory: &Path, ids: &[SessionId]) -> Sample {
        let look = |store: &Store<Payload>, id| {
            store.read(id, |session| session.bytes[0]).expect("every session is there")
        };
        let start = Instant::now();
        let store = open(directory);
        look(&store, ids[ids.len() / 2]);
        let first = start.elapsed();
        wait_until_loaded(&store);
        let all = start.elapsed();
        drop(store);

        // Once more, with somebody who looks up all the while.
        let mut random = Random::new(0xF1257);
        let store = open(directory);
        let mut during = Latencies::new();
        while unloaded(&store) > 0 {
            for _ in 0..1000 {
                let id = ids[random.below(ids.len())];
                during.time(|| look(&store, id));
            }
        }
        let mut after = Latencies::new();
        for _ in 0..AFTER {
            let id = ids[random.below(ids.len())];
            after.time(|| look(&store, id));
        }
        drop(store);
        let mut sample = Sample::from(vec![
            point(Metric::FirstAnswerMs, first),
            point(Metric::AllLoadedMs, all),
        ]);
        sample.points.extend(during.points("restart-lookups-during"));
        sample.points.extend(after.points("restart-lookups-after"));
        sample
    }
}

/// A directory in which Redis left both of its files.
#[derive(Clone)]
struct Redis {
    directory: PathBuf,
}

impl Redis {
    /// None where it is not installed.
    fn filled(directory: PathBuf, sessions: usize) -> Option<Redis> {
        std::fs::create_dir_all(&directory).ok()?;
        let redis = Redis { directory };
        let mut server = redis.start(true)?;
        let mut stream = redis.wait();
        let mut random = Random::new(0x4ED15);
        let mut bytes = value(&mut random);
        let mut answers = vec![0; 5 * PIPELINE];
        for from in (0..sessions).step_by(PIPELINE) {
            let mut commands = Vec::new();
            let upto = sessions.min(from + PIPELINE);
            for number in from..upto {
                bytes[..8].copy_from_slice(&random.next().to_le_bytes());
                write!(commands, "*5\r\n$3\r\nSET\r\n$32\r\n{}\r\n", key(number)).ok()?;
                write!(commands, "${VALUE_BYTES}\r\n").ok()?;
                commands.extend_from_slice(&bytes);
                write!(commands, "\r\n$2\r\nEX\r\n$5\r\n36000\r\n").ok()?;
            }
            stream.write_all(&commands).ok()?;
            stream.read_exact(&mut answers[..5 * (upto - from)]).ok()?;
        }
        stream.write_all(b"SAVE\r\n").ok()?;
        stream.read_exact(&mut answers[..5]).ok()?;
        redis.stop(stream, &mut server);
        Some(redis)
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    fn start(&self, from_log: bool) -> Option<Child> {
        let _ = std::fs::remove_file(self.socket());
        let append_only = if from_log { "yes" } else { "no" };
        Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendfsync", "no"])
            .args(["--appendonly", append_only, "--aof-use-rdb-preamble", "no"])
            .args(["--auto-aof-rewrite-percentage", "0"])
            .arg("--dir")
            .arg(&self.directory)
            .arg("--unixsocket")
            .arg(self.socket())
            .stdout(Stdio::null())
            .spawn()
            .ok()
    }

    /// Asks until there is an answer.
    fn wait(&self) -> UnixStream {
        loop {
            if let Ok(mut stream) = UnixStream::connect(self.socket()) {
                let mut answer = [0; 1];
                let asked = write!(stream, "*2\r\n$3\r\nGET\r\n$32\r\n{}\r\n", key(0));
                if asked.is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"$" {
                    // A connection without the rest of that answer in it.
                    if let Ok(stream) = UnixStream::connect(self.socket()) {
                        return stream;
                    }
                }
            }
            sleep(ASK_EVERY);
        }
    }

    fn stop(&self, mut stream: UnixStream, server: &mut Child) {
        let _ = stream.write_all(b"SHUTDOWN NOSAVE\r\n");
        let _ = server.wait();
    }

    fn measure(&self, from_log: bool) -> Sample {
        let start = Instant::now();
        let mut server = self.start(from_log).expect("redis-server started before");
        let stream = self.wait();
        let all = start.elapsed();
        self.stop(stream, &mut server);
        Sample::from(vec![point(Metric::FirstAnswerMs, all), point(Metric::AllLoadedMs, all)])
    }
}

fn key(number: usize) -> String {
    format!("{:032x}", (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn redis_lanes<'a>(cli: &Cli, redis: &Redis) -> Vec<Lane<'a, ()>> {
    let lane = |name, from_log| {
        let redis = redis.clone();
        let run = Box::new(move |(): &()| redis.measure(from_log));
        Lane { name, note: String::new(), run }
    };
    let both = [("redis-aof", true), ("redis-rdb", false)];
    let admitted = both.into_iter().filter(|(name, _)| cli.admits(name));
    admitted.map(|(name, from_log)| lane(name, from_log)).collect()
}
