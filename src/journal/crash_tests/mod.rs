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

use super::files::crash::Random;

/// Whether to run the full sizes.
fn is_full() -> bool {
    std::env::var_os("CLOAKROOM_FULL").is_some_and(|value| value == "1")
}

/// The seeds of a test: the one that is asked for, or so many.
fn seeds(count: u64, count_full: u64) -> Vec<u64> {
    if let Some(seed) = std::env::var("CLOAKROOM_SEED").ok().and_then(|text| text.parse().ok()) {
        return vec![seed];
    }
    (0..if is_full() { count_full } else { count }).collect()
}

/// Tells the seed of a run that fails.
struct Seeded(u64);

impl Drop for Seeded {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the seed is {}", self.0);
        }
    }
}

fn random_of(test: u64, seed: u64) -> Random {
    Random::new(test << 32 ^ seed)
}
