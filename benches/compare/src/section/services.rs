//! Lookups in stores that are asked through an interface of their own.

use std::hint::black_box;
use std::time::Duration;

use crate::cli::Cli;
use crate::draw::Workload;
use crate::durable::Directory;
use crate::interleave::{Cell, Lane, Metric, Point};
use crate::measure::{calls_kops, calls_latencies};
use crate::report::Report;
use crate::service::{Client as _, Service, VisitService, each};

const SESSIONS: [usize; 1] = [100_000];

/// The sessions that each thread looks up.
type Indexes = Vec<Vec<u32>>;

pub fn run(cli: &Cli, report: &mut Report) {
    for sessions in cli.sessions(&SESSIONS) {
        let mut build = Build { report, sessions, time: cli.run_time(), lanes: Vec::new() };
        each(cli, &mut build);
        let mut lanes = build.lanes;
        for threads in cli.threads() {
            let workload = Workload::Uniform;
            let cell = Cell { workload, sessions, threads };
            let indexes = workload.sequences(sessions, threads);
            report.cell("services", cell, &mut lanes, &indexes, cli.runs());
        }
    }
}

struct Build<'a> {
    report: &'a Report,
    sessions: usize,
    time: Duration,
    lanes: Vec<Lane<'static, Indexes>>,
}

impl VisitService for Build<'_> {
    fn visit<S: Service>(&mut self) {
        self.report.progress(&format!("filling {}", S::NAME));
        let directory = Directory::new(S::NAME).map_err(|error| error.to_string());
        let opened = directory.and_then(|d| Ok((S::open(self.sessions, &d.0)?, d)));
        let (store, directory) = match opened {
            Ok(opened) => opened,
            Err(problem) => {
                eprintln!("{} is left out: {problem}", S::NAME);
                return;
            }
        };
        let time = self.time;
        self.lanes.push(Lane {
            name: S::NAME,
            note: String::new(),
            run: Box::new(move |indexes| {
                let _keep = &directory;
                let client = || store.client();
                let look = |client: &mut S::Client<'_>, batch: &[u32]| {
                    black_box(client.look(batch));
                };
                let value = calls_kops(indexes, time, S::PIPELINE, client, look);
                let latencies = calls_latencies(indexes, time, S::PIPELINE, client, look);
                let mut points = latencies.points("services");
                points.push(Point { section: "services", metric: Metric::Kops, value });
                points.into()
            }),
        });
    }
}
