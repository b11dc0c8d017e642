//! How the cost of each operation grows with the store.

use std::fmt::Write as _;

use super::record::{Record, Results};
use super::tables::{number, size_name, unit};

/// Sections of operations begin so.
const PREFIX: &str = "cost-";

/// One row an operation and thread count: its cost by the number of sessions, and the exponent.
pub fn table(results: &Results) -> String {
    let mut records: Vec<&Record> =
        results.records.iter().filter(|record| record.section.starts_with(PREFIX)).collect();
    records.sort_by_key(|record| record.sessions);
    let (mut sizes, mut rows) = (Vec::new(), Vec::new());
    for record in &records {
        let row = (record.section.as_str(), record.metric.as_str(), record.threads);
        if !sizes.contains(&record.sessions) {
            sizes.push(record.sessions);
        }
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    let mut text = "| what, threads |".to_owned();
    for size in &sizes {
        let _ = write!(text, " {} |", size_name(*size));
    }
    text += " exponent |\n|---|";
    text += &"---|".repeat(sizes.len() + 1);
    text.push('\n');
    for (section, metric, threads) in rows {
        let of_row: Vec<&&Record> = records
            .iter()
            .filter(|record| record.section == section && record.threads == threads)
            .collect();
        let what = section[PREFIX.len()..].replace('-', " ");
        let _ = write!(
            text,
            "| {what}, {}, {threads} |",
            unit(metric).trim_start_matches(&what).trim_start_matches(", ")
        );
        for size in &sizes {
            let _ = match of_row.iter().find(|record| record.sessions == *size) {
                Some(record) => write!(text, " {} |", number(record.median)),
                None => write!(text, " - |"),
            };
        }
        let points: Vec<(f64, f64)> =
            of_row.iter().map(|record| (record.sessions as f64, record.median)).collect();
        let _ = match exponent(&points) {
            Some(exponent) => writeln!(text, " {exponent:.2} |"),
            None => writeln!(text, " - |"),
        };
    }
    text
}

/// The `e` for which `cost = c * size^e` fits best, by least squares over the logarithms.
fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logs.len() as f64;
    let mean_x = logs.iter().map(|point| point.0).sum::<f64>() / count;
    let mean_y = logs.iter().map(|point| point.1).sum::<f64>() / count;
    let over: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let under: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    (under > 0.0).then(|| over / under)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exponent_is_found_again() {
        let points = |e: f64| [10.0_f64, 100.0, 1000.0].map(|x| (x, 3.0 * x.powf(e)));
        for e in [0.0, 0.5, 1.0] {
            assert!((exponent(&points(e)).unwrap() - e).abs() < 1e-9);
        }
        assert_eq!(exponent(&[(10.0, 1.0)]), None);
    }

    #[test]
    fn a_row_shows_every_size() {
        let row = |sessions: u64, median: f64| {
            format!(
                "{{\"section\":\"cost-lookup\",\"workload\":\"uniform\",\"sessions\":{sessions},\
                 \"threads\":2,\"contender\":\"cloakroom\",\"kind\":\"expires\",\
                 \"metric\":\"each_ns\",\"median\":{median},\"min\":1,\"max\":30,\"runs\":5,\
                 \"ratio\":1}}\n"
            )
        };
        let mut results = Results::default();
        results.take(&(row(10_000, 5.0) + &row(1_000_000, 50.0))).expect("it is well formed");
        let table = table(&results);
        assert!(table.contains("| lookup, ns each, 2 | 5.00 | 50.0 | 0.50 |"), "{table}");
        assert!(table.starts_with("| what, threads | 10k | 1M | exponent |"), "{table}");
    }
}
