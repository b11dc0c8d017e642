//! Any sequence of operations on a store gives what a model of maps and exact times gives.
//!
//! Guards against everything that one thread can get wrong: a session returned at its deadline
//! or lost before it, an end that does not stay, a lost or doubled event, an index or a count
//! that is off, memory that is not given back. The expiry runs only where a sequence says so or a
//! new session finds no room, so deadlines are mostly checked by lookups themselves.

mod harness;
mod regressions;
mod strategy;

use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestRunner};

use harness::run;

/// The number of sequences and the length of each: small by default, large with
/// `CLOAKROOM_FULL=1`. `PROPTEST_CASES` overrides the number.
fn sizes() -> (ProptestConfig, usize) {
    let full = std::env::var_os("CLOAKROOM_FULL").is_some_and(|value| value == "1");
    let chosen = std::env::var_os("PROPTEST_CASES").is_some();
    let mut config = ProptestConfig::default();
    if !chosen {
        config.cases = if full { 10_000 } else { 500 };
    }
    config.max_shrink_iters = 20_000;
    config.failure_persistence =
        Some(Box::new(FileFailurePersistence::Direct("tests/it/proptest-regressions/model.txt")));
    (config, if full || chosen { 200 } else { 100 })
}

#[test]
fn a_store_does_what_its_model_does() {
    let (config, length) = sizes();
    TestRunner::new(config)
        .run(&strategy::sequence(length), |sequence| {
            run(&sequence);
            Ok(())
        })
        .unwrap();
}
