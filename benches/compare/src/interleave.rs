//! Runs the contenders of a cell in turn and keeps what each run showed.

use crate::draw::Workload;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    Mops,
    Kops,
    P50Ns,
    P99Ns,
    P999Ns,
    P9999Ns,
    MaxUs,
    OverheadBytes,
    FirstAnswerMs,
    AllLoadedMs,
    WrittenMs,
    GapMs,
    EachNs,
    Mib,
    Allocations,
}

impl Metric {
    pub fn name(self) -> &'static str {
        match self {
            Metric::Mops => "mops",
            Metric::Kops => "kops",
            Metric::P50Ns => "p50_ns",
            Metric::P99Ns => "p99_ns",
            Metric::P999Ns => "p999_ns",
            Metric::P9999Ns => "p9999_ns",
            Metric::MaxUs => "max_us",
            Metric::OverheadBytes => "overhead_bytes",
            Metric::FirstAnswerMs => "first_answer_ms",
            Metric::AllLoadedMs => "all_loaded_ms",
            Metric::WrittenMs => "written_ms",
            Metric::GapMs => "gap_ms",
            Metric::EachNs => "each_ns",
            Metric::Mib => "mib",
            Metric::Allocations => "allocations",
        }
    }

    pub fn more_is_better(self) -> bool {
        matches!(self, Metric::Mops | Metric::Kops)
    }
}

/// What the contenders of one table have in common.
#[derive(Clone, Copy)]
pub struct Cell {
    pub workload: Workload,
    pub sessions: usize,
    pub threads: usize,
}

/// One figure of one run.
pub struct Point {
    pub section: &'static str,
    pub metric: Metric,
    pub value: f64,
}

/// All that one run showed.
#[derive(Default)]
pub struct Sample {
    pub points: Vec<Point>,
    pub remarks: Vec<String>,
}

impl From<Vec<Point>> for Sample {
    fn from(points: Vec<Point>) -> Sample {
        Sample { points, remarks: Vec::new() }
    }
}

/// One contender's place in the turn; `T` tells its run what to do.
pub struct Lane<'a, T> {
    pub name: &'static str,
    pub note: String,
    pub run: Box<dyn FnMut(&T) -> Sample + 'a>,
}

/// The figures of one contender for one section and metric, run by run.
pub struct Series {
    pub section: &'static str,
    pub metric: Metric,
    pub values: Vec<f64>,
}

pub struct Outcome {
    pub name: &'static str,
    pub note: String,
    pub series: Vec<Series>,
    pub remarks: Vec<String>,
}

impl Outcome {
    pub fn values(&self, section: &str, metric: Metric) -> Option<&[f64]> {
        let same = |series: &&Series| series.section == section && series.metric == metric;
        self.series.iter().find(same).map(|series| series.values.as_slice())
    }

    fn take(&mut self, sample: Sample) {
        for Point { section, metric, value } in sample.points {
            let same = |s: &&mut Series| s.section == section && s.metric == metric;
            match self.series.iter_mut().find(same) {
                Some(series) => series.values.push(value),
                None => self.series.push(Series { section, metric, values: vec![value] }),
            }
        }
        self.remarks.extend(sample.remarks);
    }
}

/// A B C, A B C, ...: a change of the machine's mood falls on all alike.
pub fn interleave<T>(
    lanes: &mut [Lane<'_, T>],
    task: &T,
    runs: usize,
    mut progress: impl FnMut(usize, &str),
) -> Vec<Outcome> {
    let empty = |lane: &Lane<'_, T>| Outcome {
        name: lane.name,
        note: lane.note.clone(),
        series: Vec::new(),
        remarks: Vec::new(),
    };
    let mut outcomes: Vec<Outcome> = lanes.iter().map(empty).collect();
    for run in 1..=runs {
        for (lane, outcome) in lanes.iter_mut().zip(&mut outcomes) {
            progress(run, lane.name);
            outcome.take((lane.run)(task));
        }
    }
    outcomes
}

/// Median, least and greatest.
pub fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    };
    let least = sorted.first().copied().unwrap_or(f64::NAN);
    let greatest = sorted.last().copied().unwrap_or(f64::NAN);
    (median, least, greatest)
}

/// Median of the quotients run by run.
pub fn ratio(ours: &[f64], other: &[f64]) -> f64 {
    let quotients: Vec<f64> = ours.iter().zip(other).map(|(a, b)| a / b).collect();
    spread(&quotients).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert_eq!(spread(&[4.0, 1.0]), (2.5, 1.0, 4.0));
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        assert_eq!(ratio(&[2.0, 40.0, 6.0], &[1.0, 10.0, 3.0]), 2.0);
    }
}
