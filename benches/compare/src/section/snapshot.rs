//! Lookups before and while a snapshot is written, by one thread; ours alone: no peer writes one.

use std::time::{Duration, Instant};

use cloakroom::{SessionId, Store};

use super::refuse_beyond_memory;
use crate::cli::Cli;
use crate::contender::cloakroom::Payload;
use crate::draw::{Random, Workload};
use crate::durable::Directory;
use crate::durable::cloakroom::{fill, lasting};
use crate::interleave::{Cell, Lane, Metric, Point, Sample};
use crate::latency::Latencies;
use crate::report::Report;

const SESSIONS: [usize; 1] = [5_000_000];
/// In memory, and in the file, whose pages the system keeps.
const BYTES_PER_SESSION: u64 = 800;
/// How long lookups are measured before.
const BEFORE: Duration = Duration::from_secs(3);
/// Lookups between two looks at whether the snapshot is there.
const BATCH: usize = 1000;

pub fn run(cli: &Cli, report: &mut Report) {
    for sessions in cli.sessions(&SESSIONS) {
        if !cli.admits("cloakroom") {
            continue;
        }
        refuse_beyond_memory(sessions, BYTES_PER_SESSION);
        report.progress("filling cloakroom");
        let directory = Directory::new("snapshot").expect("a directory for temporary files");
        // The log never asks for a snapshot by itself.
        let builder = lasting().snapshot_bytes(u64::MAX);
        let store = builder.open(&directory.0).expect("a store opens");
        let ids = fill(&store, sessions);
        store.flush().wait().expect("the disk works");
        let mut lanes = vec![Lane {
            name: "cloakroom",
            note: String::new(),
            run: Box::new(|()| measure(&store, &ids)),
        }];
        let cell = Cell { workload: Workload::Uniform, sessions, threads: 1 };
        report.cell("snapshot", cell, &mut lanes, &(), cli.runs());
    }
}

fn measure(store: &Store<Payload>, ids: &[SessionId]) -> Sample {
    let mut random = Random::new(0x10_0C);
    let mut look = |latencies: &mut Latencies| {
        for _ in 0..BATCH {
            let id = ids[random.below(ids.len())];
            let found = || store.read(id, |session| session.bytes[0]);
            latencies.time(|| found().expect("every session is there"));
        }
    };
    let (mut before, mut during) = (Latencies::new(), Latencies::new());
    let begin = Instant::now();
    while begin.elapsed() < BEFORE {
        look(&mut before);
    }
    let time = std::thread::scope(|scope| {
        let saving = scope.spawn(|| {
            let begin = Instant::now();
            store.snapshot().expect("there is room on disk");
            begin.elapsed()
        });
        while !saving.is_finished() {
            look(&mut during);
        }
        saving.join().expect("it returns")
    });
    let value = time.as_secs_f64() * 1000.0;
    let mut sample =
        Sample::from(vec![Point { section: "snapshot", metric: Metric::WrittenMs, value }]);
    sample.points.extend(before.points("snapshot-lookups-before"));
    sample.points.extend(during.points("snapshot-lookups-during"));
    sample
}
