//! From an empty store upwards on one thread while another looks up what is there.

use std::cell::Cell as Shared;
use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::refuse_beyond_memory;
use crate::cli::Cli;
use crate::contender::{Contender, Expires, Setup, VisitExpiring, dashmap, each_expiring};
use crate::draw::{Random, Workload, value};
use crate::interleave::{Cell, Lane, Metric, Point, Sample};
use crate::latency::Latencies;
use crate::machine::trim_heap;
use crate::report::Report;
use crate::shards;

const SESSIONS: [usize; 1] = [10_000_000];

/// Growth of the shard count's trial.
const TRIAL_SESSIONS: usize = 500_000;

const BYTES_PER_SESSION: u64 = 620;

/// Sections of the two threads.
const WRITER: &str = "growth";
const READER: &str = "growth-read";

pub fn run(cli: &Cli, report: &mut Report) {
    let workload = Workload::Uniform;
    for sessions in cli.sessions(&SESSIONS) {
        refuse_beyond_memory(sessions, BYTES_PER_SESSION);
        report.progress("choosing dashmap's shard count");
        let shards = shards::best(cli.admits(dashmap::Ahash::NAME), |shards| {
            let setup = Setup { sessions: sessions.min(TRIAL_SESSIONS), shards };
            let (writer, _) = grow::<dashmap::Ahash>(&dashmap::Ahash::open(&setup), &setup);
            -(writer.quantile_ns(0.9999) as f64)
        });
        let setup = Setup { sessions, shards };
        // How long the turn's first contender took, so that the noise is heard as long.
        let span = Shared::new(Duration::ZERO);
        let mut build = Build { setup: &setup, span: &span, lanes: Vec::new() };
        each_expiring(cli, &mut build);
        let mut lanes = build.lanes;
        lanes.push(Lane {
            name: "noise",
            note: "empty loop".into(),
            run: Box::new(|()| noise(span.take().max(cli.run_time()))),
        });
        let cell = Cell { workload, sessions, threads: 2 };
        report.cell("growth", cell, &mut lanes, &(), cli.runs());
    }
}

struct Build<'a> {
    setup: &'a Setup,
    span: &'a Shared<Duration>,
    lanes: Vec<Lane<'a, ()>>,
}

impl VisitExpiring for Build<'_> {
    fn visit<C: Expires>(&mut self) {
        self.lane::<C>(C::NAME, true);
        if C::NAME == "cloakroom" {
            self.lane::<C>("cloakroom-unreserved", false);
        }
    }
}

impl Build<'_> {
    fn lane<C: Contender>(&mut self, name: &'static str, reserve: bool) {
        let (setup, span) = (self.setup, self.span);
        self.lanes.push(Lane {
            name,
            note: shards::note(name, setup.shards),
            run: Box::new(move |()| {
                let start = Instant::now();
                let sample = measure::<C>(setup, reserve);
                if span.get().is_zero() {
                    span.set(start.elapsed());
                }
                sample
            }),
        });
    }
}

fn measure<C: Contender>(setup: &Setup, reserve: bool) -> Sample {
    let store = C::open(setup);
    if reserve {
        store.reserve(setup.sessions);
    }
    let (writer, reader) = grow(&store, setup);
    let mut points = writer.points(WRITER);
    points.extend(reader.points(READER));
    if let Some(longest) = store.longest_growth_us() {
        let metric = Metric::MaxUs;
        points.push(Point { section: "growth-shard", metric, value: longest as f64 });
    }
    drop(store);
    trim_heap();
    points.into()
}

/// The keys created so far, for the other thread to look up.
struct KeyLog<K> {
    keys: Vec<OnceLock<K>>,
    len: AtomicUsize,
    closed: AtomicBool,
}

impl<K: Copy> KeyLog<K> {
    /// The memory is touched here, not while the clock runs.
    fn new(capacity: usize) -> KeyLog<K> {
        let keys = (0..capacity).map(|_| OnceLock::new()).collect();
        KeyLog { keys, len: AtomicUsize::new(0), closed: AtomicBool::new(false) }
    }

    fn push(&self, key: K) {
        let len = self.len.load(Ordering::Relaxed);
        let _ = self.keys[len].set(key);
        // Release: pairs with the Acquire in `any`, the session is in the store before.
        self.len.store(len + 1, Ordering::Release);
    }

    fn any(&self, random: &mut Random) -> Option<K> {
        let len = self.len.load(Ordering::Acquire);
        if len == 0 {
            return None;
        }
        self.keys[random.below(len)].get().copied()
    }
}

fn grow<C: Contender>(store: &C, setup: &Setup) -> (Latencies, Latencies) {
    let log = KeyLog::<C::Key>::new(setup.sessions);
    let mut random = Random::new(0x6807);
    let mut value = value(&mut random);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut latencies = Latencies::new();
            let mut random = Random::new(0x4EAD);
            // Relaxed: the flag only ends the loop.
            while !log.closed.load(Ordering::Relaxed) {
                if let Some(key) = log.any(&mut random) {
                    black_box(latencies.time(|| store.read(key)));
                }
            }
            latencies
        });
        let mut latencies = Latencies::new();
        for _ in 0..setup.sessions {
            value[..8].copy_from_slice(&random.next().to_le_bytes());
            let draw = random.next_key();
            let key = latencies.time(|| store.create(draw, &value));
            log.push(key);
        }
        log.closed.store(true, Ordering::Relaxed);
        (latencies, reader.join().expect("the reader does not panic"))
    })
}

/// Two threads that time nothing at all: what they see is the machine.
fn noise(time: Duration) -> Sample {
    let listen = || {
        let mut latencies = Latencies::new();
        let start = Instant::now();
        while start.elapsed() < time {
            for _ in 0..64 {
                latencies.time(|| black_box(()));
            }
        }
        latencies
    };
    std::thread::scope(|scope| {
        let reader = scope.spawn(listen);
        let mut points = listen().points(WRITER);
        points.extend(reader.join().expect("the loop does not panic").points(READER));
        points.into()
    })
}
