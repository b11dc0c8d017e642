//! Updates of one session that survive the process: rate, then latencies. And with 64 writers at
//! once, updates that survive a power loss.

use std::time::Duration;

use crate::cli::Cli;
use crate::contender::Value;
use crate::draw::{Random, Workload, value};
use crate::durable::{Directory, Durable, Place, Survives, VisitDurable, Worker, each};
use crate::interleave::{Cell, Lane, Metric, Point, Sample};
use crate::measure::{calls_kops, calls_latencies};
use crate::report::Report;

const SESSIONS: [usize; 1] = [100_000];
/// Writers that wait for the disk at the same time.
const WRITERS: usize = 64;

/// What a run measures, with the sessions that each thread updates.
enum Task {
    Rate(Vec<Vec<u32>>),
    Latency(Vec<Vec<u32>>),
}

pub fn run(cli: &Cli, report: &mut Report) {
    for sessions in cli.sessions(&SESSIONS) {
        let lanes = lanes(cli, report, sessions, Survives::Kill);
        let Some(mut lanes) = lanes else { continue };
        for threads in cli.threads() {
            let workload = Workload::Uniform;
            let cell = Cell { workload, sessions, threads };
            let indexes = workload.sequences(sessions, threads);
            report.cell("journal", cell, &mut lanes, &Task::Rate(indexes.clone()), cli.runs());
            report.cell("journal", cell, &mut lanes, &Task::Latency(indexes), cli.runs());
        }
        drop(lanes);
        let Some(mut lanes) = self::lanes(cli, report, sessions, Survives::PowerLoss) else {
            continue;
        };
        let (workload, threads) = (Workload::Uniform, WRITERS);
        let cell = Cell { workload, sessions, threads };
        let part = |thread: u64| {
            let mut random = Random::new(0x90E + thread);
            (0..1 << 16).map(|_| random.below(sessions) as u32).collect()
        };
        let task = Task::Rate((0..WRITERS as u64).map(part).collect());
        report.cell("power", cell, &mut lanes, &task, cli.runs());
    }
}

fn lanes(
    cli: &Cli,
    report: &Report,
    sessions: usize,
    survives: Survives,
) -> Option<Vec<Lane<'static, Task>>> {
    let time = cli.run_time();
    let mut build = Build { report, sessions, survives, time, lanes: Vec::new() };
    each(cli, survives, &mut build);
    (!build.lanes.is_empty()).then_some(build.lanes)
}

struct Build<'a> {
    report: &'a Report,
    sessions: usize,
    survives: Survives,
    time: Duration,
    lanes: Vec<Lane<'static, Task>>,
}

impl VisitDurable for Build<'_> {
    fn visit<C: Durable>(&mut self) {
        self.report.progress(&format!("filling {}", C::NAME));
        let (survives, time) = (self.survives, self.time);
        let opened = Directory::new(C::NAME).map_err(|error| error.to_string()).and_then(|d| {
            let (directory, sessions) = (d.0.as_path(), self.sessions);
            let store = C::open(&Place { directory, sessions, survives })?;
            Ok((store, d))
        });
        let (store, directory) = match opened {
            Ok(opened) => opened,
            Err(problem) => {
                eprintln!("{} is left out: {problem}", C::NAME);
                return;
            }
        };
        self.lanes.push(Lane {
            name: C::NAME,
            note: String::new(),
            run: Box::new(move |task| {
                let _keep = &directory;
                measure(&store, task, survives, time)
            }),
        });
    }
}

fn measure<C: Durable>(store: &C, task: &Task, survives: Survives, time: Duration) -> Sample {
    let section = match survives {
        Survives::Kill => "journal",
        Survives::PowerLoss => "power",
    };
    let syncs_before = store.syncs();
    let worker = || (store.worker(), value(&mut Random::new(0xAB)));
    let update = |(worker, value): &mut (C::Worker<'_>, Value), batch: &[u32]| {
        value[0] = value[0].wrapping_add(1);
        worker.update(batch, value);
    };
    match task {
        Task::Latency(indexes) => {
            calls_latencies(indexes, time, C::PIPELINE, worker, update).points(section).into()
        }
        Task::Rate(indexes) => {
            let value = calls_kops(indexes, time, C::PIPELINE, worker, update);
            let metric = Metric::Kops;
            let mut sample: Sample = vec![Point { section, metric, value }].into();
            if let (Survives::PowerLoss, Some(before), Some(after)) =
                (survives, syncs_before, store.syncs())
            {
                let syncs = after.saturating_sub(before).max(1) as f64;
                let shared = value * 1000.0 * time.as_secs_f64() / syncs;
                sample.remarks.push(format!("{shared:.1} updates a sync"));
            }
            sample
        }
    }
}
