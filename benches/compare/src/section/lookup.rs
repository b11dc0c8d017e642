//! Lookups back to back by each thread count, one by one and 16 a call, and one lookup alone.

use std::time::Duration;

use super::refuse_beyond_memory;
use crate::cli::Cli;
use crate::contender::{Contender, Setup, Visit, dashmap, each};
use crate::draw::Workload;
use crate::interleave::{Cell, Lane, Metric, Point, Sample};
use crate::measure::Filled;
use crate::report::Report;
use crate::shards;

const SESSIONS: [usize; 2] = [10_000, 1_000_000];

/// What one contender occupies at most, indexes and slack included.
pub const BYTES_PER_SESSION: u64 = 420;

pub enum Task {
    /// One sequence a thread, reported under the section's name.
    Throughput(&'static str, Vec<Vec<u32>>),
    /// The same, [`BATCH_LEN`](crate::measure::BATCH_LEN) sessions a call.
    Many(Vec<Vec<u32>>),
    Alone(Vec<u32>),
}

pub fn run(cli: &Cli, report: &mut Report) {
    for sessions in cli.sessions(&SESSIONS) {
        for (turn, threads) in cli.threads().enumerate() {
            let time = cli.run_time();
            let shards = best_shards(cli, report, sessions, threads);
            let mut lanes = build(cli, report, &Setup { sessions, shards }, time);
            for workload in [Workload::Uniform, Workload::Zipf] {
                if cli.workload.is_some_and(|only| only != workload) {
                    continue;
                }
                let task = Task::Throughput("lookup", workload.sequences(sessions, threads));
                let cell = Cell { workload, sessions, threads };
                report.cell("lookup", cell, &mut lanes, &task, cli.runs());
                if workload == Workload::Uniform {
                    let task = Task::Many(workload.sequences(sessions, threads));
                    report.cell("lookup-many", cell, &mut lanes, &task, cli.runs());
                }
            }
            if turn == 0 && cli.workload != Some(Workload::Zipf) {
                let sequence = Workload::Uniform.sequences(sessions, 1).remove(0);
                let task = Task::Alone(sequence);
                let cell = Cell { workload: Workload::Uniform, sessions, threads: 1 };
                report.cell("lookup-alone", cell, &mut lanes, &task, cli.runs());
            }
        }
    }
}

/// By a fifth of a run each.
pub fn best_shards(cli: &Cli, report: &Report, sessions: usize, threads: usize) -> usize {
    report.progress("choosing dashmap's shard count");
    let sequences = Workload::Uniform.sequences(sessions, threads);
    shards::best(cli.admits(dashmap::Ahash::NAME), |shards| {
        Filled::<dashmap::Ahash>::new(&Setup { sessions, shards })
            .lookups_mops(&sequences, cli.run_time() / 5)
    })
}

/// Fills every contender.
pub fn build(
    cli: &Cli,
    report: &Report,
    setup: &Setup,
    time: Duration,
) -> Vec<Lane<'static, Task>> {
    struct Build<'a> {
        report: &'a Report,
        setup: &'a Setup,
        time: Duration,
        lanes: Vec<Lane<'static, Task>>,
    }
    impl Visit for Build<'_> {
        fn visit<C: Contender>(&mut self) {
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
    let mut build = Build { report, setup, time, lanes: Vec::new() };
    each(cli, &mut build);
    build.lanes
}

fn measure<C: Contender>(filled: &Filled<C>, task: &Task, time: Duration) -> Sample {
    let point = match task {
        &Task::Throughput(section, ref sequences) => {
            Point { section, metric: Metric::Mops, value: filled.lookups_mops(sequences, time) }
        }
        Task::Many(sequences) => Point {
            section: "lookup-many",
            metric: Metric::Mops,
            value: filled.many_mops(sequences, time),
        },
        Task::Alone(sequence) => Point {
            section: "lookup-alone",
            metric: Metric::P50Ns,
            value: filled.alone_ns(sequence, time),
        },
    };
    vec![point].into()
}
