//! Results as tables of a page.

use std::fmt::Write as _;

use super::record::{OURS, Record, Results};

/// One row a cell: ours with its unit, then ours over each other. Bold where another wins.
pub fn ratios(results: &Results, sections: &[&str], metric: &str) -> String {
    let records = results.of(sections, metric);
    let names = contenders(&records);
    let mut text = format!("| sessions, threads | ours, {} (least to most) |", unit(metric));
    for name in &names {
        let _ = write!(text, " {name} |");
    }
    text += "\n|---|---|";
    text += &"---|".repeat(names.len());
    text.push('\n');
    for cell in cells(&records) {
        let of = |name: &str| {
            records.iter().find(|record| record.cell() == cell && record.contender == name)
        };
        let Some(ours) = of(OURS) else { continue };
        let Record { median, min, max, .. } = ours;
        let _ = write!(
            text,
            "| {} | {} ({} to {}) |",
            cell_name(cell),
            number(*median),
            number(*min),
            number(*max)
        );
        for name in &names {
            match of(name).and_then(|record| Some((record, record.ratio?))) {
                Some((record, ratio)) if record.loss().is_some() => {
                    let _ = write!(text, " **{}** |", number(ratio));
                }
                Some((_, ratio)) => {
                    let _ = write!(text, " {} |", number(ratio));
                }
                None => text += " - |",
            }
        }
        text.push('\n');
    }
    text
}

/// One row a contender of each cell: the metrics beside each other.
pub fn values(results: &Results, section: &str, metrics: &[&str]) -> String {
    let mut text = "| sessions, threads | store |".to_owned();
    for metric in metrics {
        let _ = write!(text, " {} |", unit(metric));
    }
    text += "\n|---|---|";
    text += &"---|".repeat(metrics.len());
    text.push('\n');
    let of_section: Vec<&Record> =
        results.records.iter().filter(|record| record.section == section).collect();
    for cell in cells(&of_section) {
        let mut names: Vec<&str> = Vec::new();
        for record in of_section.iter().filter(|record| record.cell() == cell) {
            if !names.contains(&record.contender.as_str()) {
                names.push(&record.contender);
            }
        }
        for name in names {
            let _ = write!(text, "| {} | {name} |", cell_name(cell));
            for metric in metrics {
                let found = of_section.iter().find(|record| {
                    record.cell() == cell && record.contender == name && record.metric == *metric
                });
                match found {
                    Some(Record { median, min, max, .. }) if min != max => {
                        let (median, min, max) = (number(*median), number(*min), number(*max));
                        let _ = write!(text, " {median} ({min} to {max}) |");
                    }
                    Some(Record { median, .. }) => {
                        let _ = write!(text, " {} |", number(*median));
                    }
                    None => text += " - |",
                }
            }
            text.push('\n');
        }
    }
    text
}

/// Every row in which another wins, the widest margin first.
pub fn losing(results: &Results) -> String {
    let mut rows: Vec<(f64, &Record)> =
        results.records.iter().filter_map(|record| Some((record.loss()?, record))).collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut text = "| what | who wins | by a factor of |\n|---|---|---|\n".to_owned();
    for (loss, record) in rows {
        let what = format!("{}, {}, {}", record.section, cell_name(record.cell()), record.metric);
        let _ = writeln!(text, "| {what} | {} | {} |", record.contender, number(loss));
    }
    text
}

/// Where and how all was measured.
pub fn origins(results: &Results) -> String {
    let mut text = String::new();
    let mut machines: Vec<&str> = Vec::new();
    for origin in &results.origins {
        if !machines.contains(&origin.machine.as_str()) {
            machines.push(&origin.machine);
        }
    }
    for machine in machines {
        let commands: Vec<&str> = results
            .origins
            .iter()
            .filter(|origin| origin.machine == machine)
            .map(|origin| origin.command.as_str())
            .collect();
        let _ = writeln!(text, "- {machine}: `{}`", commands.join("`, `"));
    }
    text
}

fn contenders<'a>(records: &[&'a Record]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for record in records {
        if record.contender != OURS && !names.contains(&record.contender.as_str()) {
            names.push(&record.contender);
        }
    }
    names
}

fn cells<'a>(records: &[&'a Record]) -> Vec<(&'a str, &'a str, u64, u64)> {
    let mut cells = Vec::new();
    for record in records {
        if !cells.contains(&record.cell()) {
            cells.push(record.cell());
        }
    }
    cells
}

pub fn cell_name((section, workload, sessions, threads): (&str, &str, u64, u64)) -> String {
    let sessions = size_name(sessions);
    let workload = if section == "hot" { "hot" } else { workload };
    format!("{sessions} {workload}, {threads}")
}

pub fn size_name(sessions: u64) -> String {
    match sessions {
        1 => "one session".to_owned(),
        millions if millions >= 1_000_000 => format!("{}M", millions / 1_000_000),
        thousands => format!("{}k", thousands / 1000),
    }
}

/// What a metric is, for a reader.
pub fn unit(metric: &str) -> &str {
    match metric {
        "mops" => "million/s",
        "kops" => "thousand/s",
        "p50_ns" => "p50, ns",
        "p99_ns" => "p99, ns",
        "p999_ns" => "p99.9, ns",
        "p9999_ns" => "p99.99, ns",
        "max_us" => "longest, us",
        "overhead_bytes" => "bytes beyond the data",
        "first_answer_ms" => "first answer, ms",
        "written_ms" => "written, ms",
        "gap_ms" => "gap, ms",
        "each_ns" => "ns each",
        "mib" => "MiB",
        "all_loaded_ms" => "all in memory, ms",
        "allocations" => "allocations a request",
        other => other,
    }
}

pub fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => {
            let digits = format!("{value:.0}");
            let mut text = String::new();
            for (at, digit) in digits.chars().enumerate() {
                if at > 0 && (digits.len() - at).is_multiple_of(3) {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        large if large >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let row = |contender: &str, median: f64, ratio: f64| {
            format!(
                "{{\"section\":\"lookup\",\"workload\":\"uniform\",\"sessions\":1000000,\
                 \"threads\":2,\"contender\":\"{contender}\",\"kind\":\"map\",\"metric\":\"mops\",\
                 \"median\":{median},\"min\":1,\"max\":30,\"runs\":5,\"ratio\":{ratio}}}\n"
            )
        };
        let mut results = Results::default();
        let text = row(OURS, 20.0, 1.0) + &row("slow", 10.0, 2.0) + &row("fast", 40.0, 0.5);
        results.take(&text).expect("it is well formed");
        results
    }

    #[test]
    fn who_wins_is_bold_and_comes_first() {
        let results = results();
        assert_eq!(
            ratios(&results, &["lookup"], "mops"),
            "| sessions, threads | ours, million/s (least to most) | slow | fast |\n\
             |---|---|---|---|\n\
             | 1M uniform, 2 | 20.0 (1.00 to 30.0) | 2.00 | **0.50** |\n"
        );
        let losing = losing(&results);
        assert!(losing.contains("| lookup, 1M uniform, 2, mops | fast | 2.00 |"), "{losing}");
        assert!(!losing.contains("slow"));
    }

    #[test]
    fn values_stand_beside_their_spread() {
        let table = values(&results(), "lookup", &["mops", "max_us"]);
        assert!(table.contains("| 1M uniform, 2 | slow | 10.0 (1.00 to 30.0) | - |"), "{table}");
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let problem = Results::default().take("{\"machine\":\"m\",\"command\":\"c\"}\nnonsense");
        assert!(problem.unwrap_err().starts_with("line 2"));
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!(number(1_234_567.0), "1,234,567");
        assert_eq!(number(123.4), "123");
    }
}
