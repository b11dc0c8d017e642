//! One file for each section of the lab.

#[cfg(feature = "ours")]
pub mod cost;
#[cfg(feature = "ours")]
pub mod day;
pub mod expiry;
pub mod growth;
pub mod hot;
pub mod journal;
pub mod lookup;
pub mod memory;
pub mod mix;
pub mod restart;
#[cfg(feature = "ours")]
pub mod rolling;
pub mod services;
#[cfg(feature = "ours")]
pub mod snapshot;
#[cfg(feature = "ours")]
pub mod token;
#[cfg(feature = "web")]
pub mod web;

use crate::machine;

/// Stops before a section whose contenders would not fit into memory side by side.
fn refuse_beyond_memory(sessions: usize, bytes_per_session: u64) {
    let needed = sessions as u64 * bytes_per_session;
    if machine::available_bytes().is_some_and(|available| needed > available / 10 * 9) {
        eprintln!(
            "{sessions} sessions need about {} GiB with these contenders at once; \
             choose fewer with --contender, or fewer sessions",
            needed >> 30,
        );
        std::process::exit(2);
    }
}
