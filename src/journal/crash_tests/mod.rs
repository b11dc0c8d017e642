//! Proofs of the journal on a disk that fails: power loss and `kill -9` at any moment, also inside
//! of recovery; every call failing; every bit flipped.
//!
//! A model remembers the state after every position of the log. Whatever is left of a disk has to
//! be recovered to exactly one of these states, not older than what was known to be durable, and
//! without a word of damage; after a `kill -9` to the last one.
//!
//! `CLOAKROOM_FULL=1` runs the full sizes; `CLOAKROOM_SEED=<seed>` repeats one run that failed.

mod damage;
mod faults;
mod model;
mod offline;
mod power;
mod store;
mod threads;

use std::fmt;

use super::files::crash::Random;

/// What a run has seen.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) images: u64,
    /// Those that were taken while a store was being opened.
    pub(crate) in_recovery: u64,
    pub(crate) lives: u64,
    pub(crate) snapshots: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Counts) {
        self.images += other.images;
        self.in_recovery += other.in_recovery;
        self.lives += other.lives;
        self.snapshots += other.snapshots;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { images, in_recovery, lives, snapshots } = self;
        write!(f, "{images} images, {in_recovery} of them in recovery; ")?;
        write!(f, "{lives} lives, {snapshots} snapshots")
    }
}

/// Whether to run the full sizes.
fn is_full() -> bool {
    std::env::var_os("CLOAKROOM_FULL").is_some_and(|value| value == "1")
}

/// The seeds of a test: the one that is asked for, or so many.
pub(crate) fn seeds(count: u64, count_full: u64) -> Vec<u64> {
    if let Some(seed) = std::env::var("CLOAKROOM_SEED").ok().and_then(|text| text.parse().ok()) {
        return vec![seed];
    }
    (0..if is_full() { count_full } else { count }).collect()
}

/// Tells the seed of a run that fails.
pub(crate) struct Seeded(pub(crate) u64);

impl Drop for Seeded {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the seed is {}", self.0);
        }
    }
}

pub(crate) fn random_of(test: u64, seed: u64) -> Random {
    Random::new(test << 32 ^ seed)
}
