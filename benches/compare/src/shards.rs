//! The shard count that serves `dashmap-ahash` best, found by a short trial.

pub const CHOICES: [usize; 4] = [8, 256, 1024, 4096];

/// Used where the contender is not measured at all.
const ANY: usize = 1024;

/// The count with the highest score.
pub fn best(wanted: bool, mut score: impl FnMut(usize) -> f64) -> usize {
    if !wanted {
        return ANY;
    }
    let mut best = (f64::NEG_INFINITY, ANY);
    for count in CHOICES {
        let score = score(count);
        if score > best.0 {
            best = (score, count);
        }
    }
    crate::machine::trim_heap();
    best.1
}

/// What the tables say beside `dashmap-ahash`.
pub fn note(contender: &str, count: usize) -> String {
    if contender == "dashmap-ahash" { format!("{count} shards") } else { String::new() }
}
