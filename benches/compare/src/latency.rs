//! Latencies of single operations and their percentiles.

use std::time::Instant;

use hdrhistogram::Histogram;

use crate::interleave::{Metric, Point};

const NS_MAX: u64 = 120_000_000_000;

pub struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    pub fn new() -> Latencies {
        let histogram = Histogram::new_with_bounds(1, NS_MAX, 3).expect("the bounds are in order");
        Latencies { histogram }
    }

    /// Runs `work` and records how long it took, the two clock readings included.
    #[inline(always)]
    pub fn time<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = work();
        self.histogram.saturating_record(start.elapsed().as_nanos() as u64);
        result
    }

    pub fn clear(&mut self) {
        self.histogram.reset();
    }

    pub fn add(&mut self, other: &Latencies) {
        self.histogram.add(&other.histogram).expect("the bounds are equal");
    }

    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile)
    }

    /// The points of one run, percentiles and the longest.
    pub fn points(&self, section: &'static str) -> Vec<Point> {
        if self.histogram.is_empty() {
            return Vec::new();
        }
        let quantile =
            |metric, quantile| Point { section, metric, value: self.quantile_ns(quantile) as f64 };
        vec![
            quantile(Metric::P50Ns, 0.5),
            quantile(Metric::P99Ns, 0.99),
            quantile(Metric::P999Ns, 0.999),
            quantile(Metric::P9999Ns, 0.9999),
            Point { section, metric: Metric::MaxUs, value: self.histogram.max() as f64 / 1000.0 },
        ]
    }
}
