//! Interleaving models of the three lock-free protocols: the array of buckets, the life word, and
//! reclamation; then of all writes of a session together.
//!
//! The source files are the shipped ones. They find loom's types in `crate::sync`, and a clock
//! that is only its `Tick`. The models are compiled once more for each seed (`seeds.rs`): a copy of
//! one file with one bug. `tests/models.rs` runs the models, and demands that each bug is caught.
//!
//! What loom does not show: `membarrier` (fences stand for it), processors that loom's memory
//! model does not cover, and states beyond the preemption bound.
#![allow(dead_code, reason = "the models use a part of each source file")]

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(crate) mod sync {
    pub(crate) use loom::sync::{Arc, atomic};

    /// As std's with constants; loom's takes expressions.
    macro_rules! thread_locals {
        ($($(#[$attribute:meta])* static $name:ident: $type:ty = const $value:block;)*) => {
            loom::thread_local! { $($(#[$attribute])* static $name: $type = $value;)* }
        };
    }
    pub(crate) use thread_locals as thread_local;
}

pub(crate) mod clock {
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
    pub(crate) struct Tick(pub(crate) u32);
}

#[path = "../../../src/bucket.rs"]
pub(crate) mod bucket;
#[path = "../../../src/life.rs"]
pub(crate) mod life;
#[path = "../../../src/reclaim.rs"]
pub(crate) mod reclaim;
#[path = "../../../src/tags.rs"]
pub(crate) mod tags;

/// The models over the shipped files.
#[path = "models"]
pub mod shipped {
    pub(crate) use crate::{bucket, life, reclaim};
    pub mod buckets;
    pub mod lives;
    pub mod pins;
    pub mod sessions;
}

/// The models over files with a bug, one module for each seed.
pub mod seeded {
    include!(concat!(env!("OUT_DIR"), "/seeded.rs"));
}

/// Steps of one interleaving, at most; a model that gets there spins.
const BRANCHES_MAX: usize = 10_000;

/// Runs a model over all interleavings with this many preemptions at most, and says how many
/// there were, also when one of them failed.
pub(crate) fn explore(name: &str, preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    struct Report<'a>(&'a str, usize, std::time::Instant);
    impl Drop for Report<'_> {
        fn drop(&mut self) {
            let Report(name, preemptions, began) = *self;
            let count = COUNT.with(|count| count.swap(0, Relaxed));
            let end = if std::thread::panicking() { "FAILED" } else { "held" };
            // Past the test harness, which would keep what a passing test prints.
            let _ = writeln!(
                std::io::stdout(),
                "{name}: {end}, {count} interleavings, {preemptions} preemptions, {:.1} s",
                began.elapsed().as_secs_f64()
            );
        }
    }
    std::thread_local!(static COUNT: AtomicU64 = const { AtomicU64::new(0) });
    let _report = Report(name, preemptions, std::time::Instant::now());
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = BRANCHES_MAX;
    builder.check(move || {
        COUNT.with(|count| count.fetch_add(1, Relaxed));
        model();
    });
}
