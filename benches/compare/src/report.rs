//! Prints results: aligned tables with ratios, or one JSON object a line.

use std::io::{IsTerminal, Write};

use crate::interleave::{Cell, Lane, Metric, Outcome, interleave, ratio, spread};
use crate::machine;

const OURS: &str = "cloakroom";

/// Measured for comparison with the machine, not with us.
const NOISE: &str = "noise";

pub struct Report {
    json: bool,
    terminal: bool,
    losing: Vec<String>,
}

impl Report {
    pub fn new(json: bool) -> Report {
        Report { json, terminal: std::io::stderr().is_terminal(), losing: Vec::new() }
    }

    pub fn machine(&self) {
        if !self.json {
            println!("machine: {}", machine::describe());
        }
    }

    /// Says on stderr what goes on, in place on a terminal.
    pub fn progress(&self, text: &str) {
        if self.json {
            return;
        }
        let (start, end) = if self.terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        eprint!("{start}{text}{end}");
    }

    /// Runs the contenders in turn and prints what they showed.
    pub fn cell<T>(
        &mut self,
        title: &str,
        cell: Cell,
        lanes: &mut [Lane<'_, T>],
        task: &T,
        runs: usize,
    ) {
        let outcomes = interleave(lanes, task, runs, |run, name| {
            self.progress(&format!(
                "{title}, {}, {} sessions, {} threads: run {run} of {runs}, {name}",
                cell.workload.name(),
                cell.sessions,
                cell.threads,
            ));
        });
        if self.terminal {
            self.progress("");
        }
        for (section, metric) in tables(&outcomes) {
            if self.json {
                print_json(cell, section, metric, &outcomes);
            } else {
                self.table(cell, section, metric, &outcomes);
            }
        }
        if !self.json {
            for outcome in &outcomes {
                for remark in &outcome.remarks {
                    println!("  {}: {remark}", outcome.name);
                }
            }
        }
        let _ = std::io::stdout().flush();
    }

    fn table(&mut self, cell: Cell, section: &str, metric: Metric, outcomes: &[Outcome]) {
        let place = format!(
            "{section} {} {} sessions {} threads {}",
            cell.workload.name(),
            cell.sessions,
            cell.threads,
            metric.name(),
        );
        let ours: Vec<_> = outcomes
            .iter()
            .filter(|outcome| outcome.name.starts_with(OURS))
            .filter_map(|outcome| Some((outcome.name, outcome.values(section, metric)?)))
            .collect();
        print!("\n{place}\n  {:<22}{:>12}{:>12}{:>12}", "contender", "median", "min", "max");
        for (name, _) in &ours {
            print!("  {name:>20}/it");
        }
        println!();
        for outcome in outcomes {
            let Some(values) = outcome.values(section, metric) else { continue };
            let (median, min, max) = spread(values);
            let digits = if metric.more_is_better() { 2 } else { 1 };
            print!("  {:<22}", outcome.name);
            for value in [median, min, max] {
                print!("{value:>12.digits$}");
            }
            for (_, own) in &ours {
                print!("  {:>23.2}", ratio(own, values));
            }
            println!("  {}", outcome.note);
            self.note_loss(&place, metric, outcome.name, &ours, values);
        }
    }

    fn note_loss(
        &mut self,
        place: &str,
        metric: Metric,
        name: &str,
        ours: &[(&str, &[f64])],
        values: &[f64],
    ) {
        if name.starts_with(OURS) || name == NOISE {
            return;
        }
        for (own_name, own) in ours {
            let ratio = ratio(own, values);
            let lost = if metric.more_is_better() { ratio < 1.0 } else { ratio > 1.0 };
            if lost {
                self.losing.push(format!("{place}: {name} beats {own_name} ({ratio:.2})"));
            }
        }
    }

    /// Repeats the rows in which another wins.
    pub fn finish(self) {
        if self.json {
            return;
        }
        println!("\nrows that another wins (ours/it): {}", self.losing.len());
        for row in &self.losing {
            println!("  {row}");
        }
    }
}

/// Sections and metrics in the order in which they first appear.
fn tables(outcomes: &[Outcome]) -> Vec<(&'static str, Metric)> {
    let mut tables = Vec::new();
    for series in outcomes.iter().flat_map(|outcome| &outcome.series) {
        if !tables.contains(&(series.section, series.metric)) {
            tables.push((series.section, series.metric));
        }
    }
    tables
}

/// Names are plain words, so nothing needs escaping.
fn print_json(cell: Cell, section: &str, metric: Metric, outcomes: &[Outcome]) {
    for outcome in outcomes {
        let Some(values) = outcome.values(section, metric) else { continue };
        let (median, min, max) = spread(values);
        println!(
            "{{\"section\":\"{section}\",\"workload\":\"{}\",\"sessions\":{},\"threads\":{},\
             \"contender\":\"{}\",\"metric\":\"{}\",\"median\":{:.3},\"min\":{:.3},\"max\":{:.3}}}",
            cell.workload.name(),
            cell.sessions,
            cell.threads,
            outcome.name,
            metric.name(),
            median,
            min,
            max,
        );
    }
}
