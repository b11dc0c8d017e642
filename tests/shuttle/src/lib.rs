//! What the tests of the store under random schedules have in common.
//!
//! `CLOAKROOM_FULL=1` makes the runs long. A failure prints its seed: with
//! `SHUTTLE_RANDOM_SEED=<seed>` the same test begins with the schedule that failed.

#[cfg(not(all(cloakroom_shuttle, cloakroom_poison)))]
compile_error!("set RUSTFLAGS='--cfg cloakroom_shuttle --cfg cloakroom_poison'");

pub mod check;
pub mod history;
pub mod model;

use std::time::Duration;

use cloakroom::{Attributes, Builder, ManualClock, Memory, Store};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

/// The idle timeout of every session.
pub const IDLE: Duration = Duration::from_secs(60);
/// How long a renewed token is good.
pub const GRACE: Duration = Duration::from_secs(10);

/// Schedules of a long run for one of a short run.
const FULL_FACTOR: usize = 20;

pub fn is_full() -> bool {
    std::env::var("CLOAKROOM_FULL").is_ok_and(|full| full == "1")
}

/// Runs a scenario under this many schedules (more in a long run): two in three uniformly random,
/// the others with random priorities, which change three times.
pub fn explore(schedules: usize, scenario: impl Fn() + Send + Sync + Clone + 'static) {
    let schedules = if is_full() { schedules * FULL_FACTOR } else { schedules };
    let prioritized = schedules / 3;
    run(RandomScheduler::new(schedules - prioritized), scenario.clone());
    run(PctScheduler::new(3, prioritized), scenario);
}

fn run(scheduler: impl Scheduler + 'static, scenario: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    // Debug builds need more than shuttle's 32 KiB.
    config.stack_size = 256 * 1024;
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(scenario);
}

/// Options of a small store with a clock of its own and no threads. Sessions expire after [`IDLE`]
/// and are remembered for long.
pub fn small(clock: &ManualClock) -> Builder<Attributes> {
    Store::builder()
        .shards(2)
        .memory(Memory::System)
        .clock(clock)
        .expiry_thread(false)
        .idle_timeout(IDLE)
        .anonymous_idle_timeout(IDLE)
        .lifetime(Duration::from_secs(100_000))
        .remember_ended(Duration::from_secs(100_000), 1000)
        .grace(GRACE)
}

/// True half of the time, by shuttle's generator.
pub fn coin() -> bool {
    shuttle::rand::Rng::r#gen(&mut shuttle::rand::thread_rng())
}

/// Runs the closures as threads, and waits for them all.
pub fn together(threads: Vec<Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = threads.into_iter().map(shuttle::thread::spawn).collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// A closure for [`together`].
#[macro_export]
macro_rules! thread {
    ($($shared:ident),* => $body:expr) => {{
        $(let $shared = $shared.clone();)*
        Box::new(move || $body) as Box<dyn FnOnce() + Send>
    }};
}
