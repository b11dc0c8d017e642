//! Prints results: aligned tables with ratios, or one JSON object a line.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use crate::interleave::{Cell, Lane, Metric, Outcome, interleave, ratio, spread};
use crate::{contender, machine};

const OURS: &str = "cloakroom";

/// Measured for comparison with the machine, not with us.
const NOISE: &str = "noise";

pub struct Report {
    json: bool,
    terminal: bool,
    losing: Vec<String>,
    is_empty: bool,
    /// Where results are to be saved, and are.
    save_to: Option<PathBuf>,
    saved: Option<File>,
}

impl Report {
    pub fn new(json: bool) -> Report {
        Report {
            json,
            terminal: std::io::stderr().is_terminal(),
            losing: Vec::new(),
            is_empty: true,
            save_to: None,
            saved: None,
        }
    }

    pub fn machine(&self) {
        if !self.json {
            println!("machine: {}", machine::describe());
        }
    }

    /// Keeps what follows in this file, too, once there is something.
    pub fn save_to(&mut self, path: PathBuf) {
        (self.save_to, self.saved) = (Some(path), None);
    }

    /// Whether nobody was measured.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    fn save(&mut self, row: &serde_json::Value) {
        let Some(path) = &self.save_to else { return };
        let file = self.saved.get_or_insert_with(|| begin_file(path));
        write_line(file, row);
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
            for row in rows(cell, section, metric, &outcomes) {
                if self.json {
                    println!("{row}");
                }
                self.is_empty = false;
                self.save(&row);
            }
            if !self.json {
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

/// What is saved of a table: see `publish::record`.
fn rows(cell: Cell, section: &str, metric: Metric, outcomes: &[Outcome]) -> Vec<serde_json::Value> {
    let ours = outcomes.iter().find(|outcome| outcome.name == OURS);
    let ours = ours.and_then(|outcome| outcome.values(section, metric));
    let row = |outcome: &Outcome| {
        let values = outcome.values(section, metric)?;
        let (median, min, max) = spread(values);
        let kind = contender::kind_of(outcome.name).map_or("other", contender::Kind::name);
        Some(serde_json::json!({
            "section": section,
            "workload": cell.workload.name(),
            "sessions": cell.sessions,
            "threads": cell.threads,
            "contender": outcome.name,
            "kind": if outcome.name == NOISE { NOISE } else { kind },
            "metric": metric.name(),
            "median": rounded(median),
            "min": rounded(min),
            "max": rounded(max),
            "runs": values.len(),
            "ratio": ours.map(|own| rounded(ratio(own, values))),
        }))
    };
    outcomes.iter().filter_map(row).collect()
}

/// To a thousandth: more says nothing.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// A file of results, whose first line says where and how they were measured.
fn begin_file(path: &Path) -> File {
    let file = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let file = file.and_then(|()| File::create(path));
    let mut file = match file {
        Ok(file) => file,
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            std::process::exit(1);
        }
    };
    let words: Vec<String> = std::env::args().skip(1).collect();
    let origin = serde_json::json!({
        "machine": machine::describe(),
        "command": format!("cargo compare {}", words.join(" ")),
    });
    write_line(&mut file, &origin);
    file
}

fn write_line(file: &mut File, line: &serde_json::Value) {
    if let Err(error) = writeln!(file, "{line}") {
        eprintln!("the results cannot be saved: {error}");
        std::process::exit(1);
    }
}
