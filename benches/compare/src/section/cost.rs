//! What each operation costs in small and in large stores; ours alone. `publish` fits the exponent.

use std::time::{Duration, Instant};

use cloakroom::{CreateOptions, Reason, SessionId, Store};

use super::refuse_beyond_memory;
use crate::cli::Cli;
use crate::contender::VALUE_BYTES;
use crate::contender::cloakroom::Payload;
use crate::draw::Workload;
use crate::durable::Directory;
use crate::durable::cloakroom::{fill, lasting, wait_until_loaded};
use crate::interleave::{Cell, Lane, Metric, Point, Sample};
use crate::measure::{BATCH, on_each};
use crate::report::Report;

const SESSIONS: [usize; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
const BYTES_PER_SESSION: u64 = 420;
/// On disk besides, in files whose pages the system keeps.
const BYTES_PER_KEPT_SESSION: u64 = 800;
/// Larger stores are measured in memory only.
const KEPT_MAX: usize = 10_000_000;
/// Sessions are created, then ended, so many at a time; of small stores a tenth.
const CREATED: usize = 100_000;
/// How soon the sessions expire whose expiry is measured.
const SHORT_IDLE: Duration = Duration::from_secs(1);

pub fn run(cli: &Cli, report: &mut Report) {
    if !cli.admits("cloakroom") {
        return;
    }
    for sessions in cli.sessions(&SESSIONS) {
        refuse_beyond_memory(sessions, BYTES_PER_SESSION);
        calls(cli, report, sessions);
        expiry(cli, report, sessions);
        if sessions <= KEPT_MAX {
            refuse_beyond_memory(sessions, BYTES_PER_KEPT_SESSION);
            files(cli, report, sessions);
        }
    }
}

/// One table of figures that `measure` shows in each run.
fn table<'a>(
    cli: &Cli,
    report: &mut Report,
    (sessions, threads): (usize, usize),
    mut measure: impl FnMut() -> Vec<Point> + 'a,
) {
    let run: Box<dyn FnMut(&()) -> Sample + 'a> = Box::new(move |()| measure().into());
    let mut lanes = [Lane { name: "cloakroom", note: String::new(), run }];
    let cell = Cell { workload: Workload::Uniform, sessions, threads };
    report.cell("cost", cell, &mut lanes, &(), cli.runs());
}

fn each(section: &'static str, time: Duration, count: usize) -> Point {
    let value = time.as_nanos() as f64 / count as f64;
    Point { section, metric: Metric::EachNs, value }
}

fn empty(sessions: usize) -> Store<Payload> {
    let store = lasting().capacity(sessions).in_memory().expect("a store in memory opens");
    store.reserve(sessions, VALUE_BYTES).expect("there is memory to reserve");
    store
}

/// Lookups, updates, creates and ends.
fn calls(cli: &Cli, report: &mut Report, sessions: usize) {
    report.progress("filling cloakroom");
    let store = empty(sessions);
    let ids = fill(&store, sessions);
    for threads in cli.threads() {
        let sequences = Workload::Uniform.sequences(sessions, threads);
        let (store, ids, sequences, time) = (&store, &ids, &sequences, cli.run_time());
        table(cli, report, (sessions, threads), move || {
            let mut points = vec![
                by_turns("cost-lookup", ids, sequences, time, |id| {
                    store.read(id, |session| session.bytes[0]).expect("every session is there");
                }),
                by_turns("cost-update", ids, sequences, time, |id| {
                    let fresh = Payload { bytes: [7; VALUE_BYTES] };
                    store.replace(id, fresh).expect("every session is there");
                }),
            ];
            points.extend(births_and_deaths(store, CREATED.min(sessions / 10), threads, time));
            points
        });
    }
}

/// The same call for one session after the other, by a thread for each sequence.
fn by_turns(
    section: &'static str,
    ids: &[SessionId],
    sequences: &[Vec<u32>],
    time: Duration,
    call: impl Fn(SessionId) + Sync,
) -> Point {
    let parts = on_each(sequences, time, |sequence, span| {
        // In the order of use: what is timed is the store, not the fetching of keys.
        let ids: Vec<SessionId> = sequence.iter().map(|&i| ids[i as usize]).collect();
        span.begin();
        let (start, mut done) = (Instant::now(), 0);
        for batch in ids.chunks_exact(BATCH).cycle() {
            batch.iter().for_each(|&id| call(id));
            done += BATCH;
            if span.requested() {
                break;
            }
        }
        (start.elapsed(), done)
    });
    all_of(section, &parts)
}

/// The mean over the threads.
fn all_of(section: &'static str, parts: &[(Duration, usize)]) -> Point {
    each(section, parts.iter().map(|part| part.0).sum(), parts.iter().map(|part| part.1).sum())
}

fn births_and_deaths(
    store: &Store<Payload>,
    count: usize,
    threads: usize,
    time: Duration,
) -> [Point; 2] {
    let parts = on_each(&vec![(); threads], time, |(), span| {
        let (mut creating, mut ending, mut done) = (Duration::ZERO, Duration::ZERO, 0);
        let mut created = Vec::with_capacity(count);
        span.begin();
        loop {
            let start = Instant::now();
            for number in 0..count {
                let data = Payload { bytes: [number as u8; VALUE_BYTES] };
                created.push(store.create(data).expect("no limit is set").id());
            }
            creating += start.elapsed();
            let start = Instant::now();
            for id in created.drain(..) {
                store.end(id, Reason::LoggedOut).expect("it was created");
            }
            ending += start.elapsed();
            done += count;
            if span.requested() {
                return ((creating, done), (ending, done));
            }
        }
    });
    let (creating, ending): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    [all_of("cost-create", &creating), all_of("cost-end", &ending)]
}

/// Sessions that expire together among others that do not.
fn expiry(cli: &Cli, report: &mut Report, sessions: usize) {
    report.progress("filling cloakroom");
    let builder = lasting().capacity(sessions).expiry_thread(false);
    let store = builder.in_memory().expect("a store in memory opens");
    fill(&store, sessions);
    let count = (sessions / 10).min(10 * CREATED);
    table(cli, report, (sessions, 1), move || {
        for number in 0..count {
            let options = CreateOptions::new().idle_timeout(SHORT_IDLE);
            let data = Payload { bytes: [number as u8; VALUE_BYTES] };
            store.create_with(data, options).expect("no limit is set");
        }
        // Those of the beginning may be due long since: nobody ends them before the call below.
        std::thread::sleep(SHORT_IDLE + Duration::from_millis(200));
        let start = Instant::now();
        let expired = store.expire_due();
        let point = each("cost-expiry", start.elapsed(), count);
        assert_eq!(expired, count, "all that were due, and no others");
        vec![point]
    });
}

/// A snapshot, and a restart from it.
fn files(cli: &Cli, report: &mut Report, sessions: usize) {
    report.progress("filling cloakroom");
    let directory = Directory::new("cost").expect("a directory for temporary files");
    // The log never asks for a snapshot by itself.
    let open = || {
        let builder = lasting().snapshot_bytes(u64::MAX);
        builder.open(&directory.0).expect("a store opens")
    };
    let store = open();
    let ids = fill(&store, sessions);
    let mut kept = Some(store);
    table(cli, report, (sessions, 1), || {
        let store = kept.take().unwrap_or_else(open);
        wait_until_loaded(&store);
        let start = Instant::now();
        store.snapshot().expect("there is room on disk");
        let written = start.elapsed();
        store.close().expect("the disk works");

        let start = Instant::now();
        let store = open();
        store.read(ids[ids.len() / 2], |_| ()).expect("every session is there");
        let first = start.elapsed();
        wait_until_loaded(&store);
        let loaded = start.elapsed();
        store.close().expect("the disk works");
        vec![
            each("cost-snapshot", written, sessions),
            Point {
                section: "cost-first-answer",
                metric: Metric::FirstAnswerMs,
                value: first.as_secs_f64() * 1000.0,
            },
            each("cost-load", loaded, sessions),
        ]
    });
}
