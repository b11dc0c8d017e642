//! A login server's mix: 95 % reads, 4 % replacements, 1 % new sessions each of which ends an
//! older one.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use super::lookup::BYTES_PER_SESSION;
use super::refuse_beyond_memory;
use crate::cli::Cli;
use crate::contender::{Contender, Setup, Value, Visit, dashmap, each};
use crate::draw::{Random, Workload, value};
use crate::interleave::{Cell, Lane, Metric, Point, Sample};
use crate::latency::Latencies;
use crate::measure::{BATCH, Filled, on_each};
use crate::report::Report;
use crate::shards;

const SESSIONS: [usize; 1] = [1_000_000];

/// Sessions that a thread has created and not yet ended.
const OWN_SESSIONS: usize = 1024;

/// What is done to which session: by its index, or by its key.
#[derive(Clone, Copy)]
enum Op<K> {
    Read(K),
    Replace(K),
    CreateAndEnd,
}

impl Op<u32> {
    fn with_key<K: Copy>(self, keys: &[K]) -> Op<K> {
        match self {
            Op::Read(index) => Op::Read(keys[index as usize]),
            Op::Replace(index) => Op::Replace(keys[index as usize]),
            Op::CreateAndEnd => Op::CreateAndEnd,
        }
    }
}

enum Task {
    Throughput(Vec<Vec<Op<u32>>>),
    Latency(Vec<Vec<Op<u32>>>),
}

pub fn run(cli: &Cli, report: &mut Report) {
    let workload = Workload::Zipf;
    for sessions in cli.sessions(&SESSIONS) {
        for threads in cli.threads() {
            let plans = plans(workload, sessions, threads);
            report.progress("choosing dashmap's shard count");
            let shards = shards::best(cli.admits(dashmap::Ahash::NAME), |shards| {
                let setup = Setup { sessions, shards };
                throughput(&Filled::<dashmap::Ahash>::new(&setup), &plans, cli.run_time() / 5)
            });
            let setup = Setup { sessions, shards };
            let time = cli.run_time();
            let mut build = Build { report, setup: &setup, threads, time, lanes: Vec::new() };
            each(cli, &mut build);
            let mut lanes = build.lanes;
            let cell = Cell { workload, sessions, threads };
            let task = Task::Throughput(plans);
            report.cell("mix", cell, &mut lanes, &task, cli.runs());
            let Task::Throughput(plans) = task else { unreachable!() };
            report.cell("mix", cell, &mut lanes, &Task::Latency(plans), cli.runs());
        }
    }
}

struct Build<'a> {
    report: &'a Report,
    setup: &'a Setup,
    threads: usize,
    time: Duration,
    lanes: Vec<Lane<'static, Task>>,
}

impl Visit for Build<'_> {
    fn visit<C: Contender>(&mut self) {
        if self.threads > 1 && !C::SHARED_WRITES {
            return;
        }
        refuse_beyond_memory(self.setup.sessions, BYTES_PER_SESSION);
        self.report.progress(&format!("filling {}", C::NAME));
        let filled = Filled::<C>::new(self.setup);
        let time = self.time;
        self.lanes.push(Lane {
            name: C::NAME,
            note: shards::note(C::NAME, self.setup.shards),
            run: Box::new(move |task| measure(&filled, task, time)),
        });
    }
}

fn plans(workload: Workload, sessions: usize, threads: usize) -> Vec<Vec<Op<u32>>> {
    let plan = |(thread, sequence): (usize, Vec<u32>)| {
        let mut random = Random::new(0x313 + thread as u64);
        let op = |index| match random.below(100) {
            0 => Op::CreateAndEnd,
            1..5 => Op::Replace(index),
            _ => Op::Read(index),
        };
        sequence.into_iter().map(op).collect()
    };
    workload.sequences(sessions, threads).into_iter().enumerate().map(plan).collect()
}

fn measure<C: Contender>(filled: &Filled<C>, task: &Task, time: Duration) -> Sample {
    match task {
        Task::Throughput(plans) => {
            let value = throughput(filled, plans, time);
            vec![Point { section: "mix", metric: Metric::Mops, value }].into()
        }
        Task::Latency(plans) => latencies(filled, plans, time).points("mix").into(),
    }
}

/// The plan with the keys in the order of use: what is timed is the store, not fetching keys.
fn keyed<K: Copy>(plan: &[Op<u32>], keys: &[K]) -> Vec<Op<K>> {
    plan.iter().map(|op| op.with_key(keys)).collect()
}

fn throughput<C: Contender>(filled: &Filled<C>, plans: &[Vec<Op<u32>>], time: Duration) -> f64 {
    let rates = on_each(plans, time, |plan, span| {
        let mut worker = Worker::new(filled);
        let plan = keyed(plan, &filled.keys);
        span.begin();
        let start = Instant::now();
        let mut done = 0;
        for batch in plan.chunks_exact(BATCH).cycle() {
            for &op in batch {
                worker.perform(op);
            }
            done += BATCH;
            if span.requested() {
                break;
            }
        }
        let rate = done as f64 / start.elapsed().as_secs_f64();
        worker.leave();
        rate
    });
    rates.iter().sum::<f64>() / 1e6
}

fn latencies<C: Contender>(
    filled: &Filled<C>,
    plans: &[Vec<Op<u32>>],
    time: Duration,
) -> Latencies {
    let each = on_each(plans, time, |plan, span| {
        let mut worker = Worker::new(filled);
        let mut latencies = Latencies::new();
        let plan = keyed(plan, &filled.keys);
        span.begin();
        for batch in plan.chunks_exact(BATCH).cycle() {
            for &op in batch {
                latencies.time(|| worker.perform(op));
            }
            if span.requested() {
                break;
            }
        }
        worker.leave();
        latencies
    });
    let mut all = Latencies::new();
    for latencies in &each {
        all.add(latencies);
    }
    all
}

/// One thread's part of the work.
struct Worker<'a, C: Contender> {
    filled: &'a Filled<C>,
    own: VecDeque<C::Key>,
    random: Random,
    value: Value,
}

impl<'a, C: Contender> Worker<'a, C> {
    fn new(filled: &'a Filled<C>) -> Self {
        // Keys must not repeat those of another thread or of an earlier run.
        let seed = std::collections::hash_map::RandomState::new();
        let mut random = Random::new(std::hash::BuildHasher::hash_one(&seed, 0));
        let value = value(&mut random);
        let create = |_| filled.store.create(random.next_key(), &value);
        let own = (0..OWN_SESSIONS).map(create).collect();
        Worker { filled, own, random, value }
    }

    #[inline(always)]
    fn perform(&mut self, op: Op<C::Key>) {
        let store = &self.filled.store;
        match op {
            Op::Read(key) => {
                black_box(store.read(key));
            }
            Op::Replace(key) => {
                self.value[0] = self.value[0].wrapping_add(1);
                store.replace(key, &self.value);
            }
            Op::CreateAndEnd => {
                self.own.push_back(store.create(self.random.next_key(), &self.value));
                if let Some(oldest) = self.own.pop_front() {
                    store.end(oldest);
                }
            }
        }
    }

    /// Leaves the store as it was found, for the next run.
    fn leave(self) {
        for key in self.own {
            self.filled.store.end(key);
        }
    }
}
