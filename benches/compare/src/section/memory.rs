//! Resident bytes per session beyond its data, each contender in a process of its own.

use std::process::Command;
use std::time::Duration;

use super::refuse_beyond_memory;
use crate::cli::Cli;
use crate::contender::{Contender, Setup, VALUE_BYTES, Visit, dashmap, each};
use crate::draw::{Random, Workload, value};
use crate::interleave::{Cell, Lane, Metric, Point, Sample};
use crate::machine::resident_bytes;
use crate::report::Report;
use crate::shards;

const SESSIONS: [usize; 1] = [5_000_000];

/// The larger of the two peaks: moka's.
const BYTES_PER_SESSION: u64 = 640;

/// Time for a store's own threads to finish what they have put off.
const SETTLE: Duration = Duration::from_millis(300);

pub fn run(cli: &Cli, report: &mut Report) {
    let workload = Workload::Uniform;
    for sessions in cli.sessions(&SESSIONS) {
        refuse_beyond_memory(sessions, BYTES_PER_SESSION);
        report.progress("choosing dashmap's shard count");
        let shards = shards::best(cli.admits(dashmap::Ahash::NAME), |shards| {
            -spawn(dashmap::Ahash::NAME, &Setup { sessions, shards })[0]
        });
        let setup = Setup { sessions, shards };
        let mut build = Build { setup: &setup, lanes: Vec::new() };
        each(cli, &mut build);
        let mut lanes = build.lanes;
        let cell = Cell { workload, sessions, threads: 1 };
        report.cell("memory", cell, &mut lanes, &(), cli.runs());
    }
}

struct Build<'a> {
    setup: &'a Setup,
    lanes: Vec<Lane<'a, ()>>,
}

impl Visit for Build<'_> {
    fn visit<C: Contender>(&mut self) {
        let setup = self.setup;
        self.lanes.push(Lane {
            name: C::NAME,
            note: shards::note(C::NAME, setup.shards),
            run: Box::new(move |()| {
                let [filled, replaced] = spawn(C::NAME, setup);
                let point = |section, value| {
                    let metric = Metric::OverheadBytes;
                    Point { section, metric, value }
                };
                let points = vec![point("memory", filled), point("memory-replaced", replaced)];
                Sample::from(points)
            }),
        });
    }
}

/// Starts this program again and reads the two numbers it prints.
fn spawn(name: &str, setup: &Setup) -> [f64; 2] {
    let program = std::env::current_exe().expect("the running program has a path");
    let output = Command::new(program)
        .arg("memory-child")
        .args(["--contender", name])
        .args(["--sessions", &setup.sessions.to_string()])
        .args(["--shards", &setup.shards.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("the program starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(filled)), Some(Ok(replaced))) => [filled, replaced],
        _ => panic!("{name} in a process of its own failed: {}", output.status),
    }
}

/// The fresh process: fills one contender and prints its overhead, before and after every record
/// was replaced once.
pub fn child(cli: &Cli) {
    struct Child(Setup);
    impl Visit for Child {
        fn visit<C: Contender>(&mut self) {
            let [filled, replaced] = overhead::<C>(&self.0);
            println!("{filled} {replaced}");
        }
    }
    let sessions = cli.sessions(&SESSIONS)[0];
    each(cli, &mut Child(Setup { sessions, shards: cli.shards }));
}

fn overhead<C: Contender>(setup: &Setup) -> [f64; 2] {
    let mut random = Random::new(0x3E3);
    let mut value = value(&mut random);
    let mut keys = touched_keys::<C>(setup.sessions, &value);
    let before = resident_bytes();
    let store = C::open(setup);
    for key in &mut keys {
        value[..8].copy_from_slice(&random.next().to_le_bytes());
        *key = store.create(random.next_key(), &value);
    }
    let per_session = || {
        store.settle();
        std::thread::sleep(SETTLE);
        let grown = resident_bytes() as f64 - before as f64;
        grown / setup.sessions as f64 - VALUE_BYTES as f64
    };
    let filled = per_session();
    for &key in &keys {
        value[0] = value[0].wrapping_add(1);
        store.replace(key, &value);
    }
    [filled, per_session()]
}

/// Room for the keys, resident before the count begins. The store that makes the first key also
/// loads the pages of the program that filling needs.
fn touched_keys<C: Contender>(sessions: usize, data: &crate::contender::Value) -> Vec<C::Key> {
    let store = C::open(&Setup { sessions: 1, shards: 8 });
    let key = store.create(1, data);
    std::hint::black_box(vec![key; sessions])
}
