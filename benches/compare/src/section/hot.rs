//! Every thread looks up the same session.

use super::lookup::{Task, best_shards, build};
use crate::cli::Cli;
use crate::contender::Setup;
use crate::draw::Workload;
use crate::interleave::Cell;
use crate::measure::BATCH;
use crate::report::Report;

const SESSIONS: [usize; 1] = [1];

pub fn run(cli: &Cli, report: &mut Report) {
    for sessions in cli.sessions(&SESSIONS) {
        for threads in cli.threads() {
            let shards = best_shards(cli, report, sessions, threads);
            let mut lanes = build(cli, report, &Setup { sessions, shards }, cli.run_time());
            let task = Task::Throughput("hot", vec![vec![0; 4 * BATCH]; threads]);
            let cell = Cell { workload: Workload::Uniform, sessions, threads };
            report.cell("hot", cell, &mut lanes, &task, cli.runs());
        }
    }
}
