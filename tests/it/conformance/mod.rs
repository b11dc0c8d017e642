//! The conformance suite, run on what this crate has for servers, and for the record on what comes
//! with tower-sessions and actix-session (`docs/comparison.md`).
//!
//! A subject runs the real middleware in front of one handler that does what a request's steps
//! say.

mod actix;
mod server;
mod tower;
mod web;

use std::sync::Arc;
use std::time::Duration;

use cloakroom::ManualClock;
use cloakroom::conformance::{Case, Outcome, Report, run};
use serde_json::Value;
use tokio::sync::{Barrier, Notify};

/// Where requests meet.
#[derive(Clone)]
enum Meeting {
    Nobody,
    All(Arc<Barrier>),
    /// One who says that he is there, and waits until he may go on.
    Wait {
        there: Arc<Notify>,
        go_on: Arc<Notify>,
    },
}

impl Meeting {
    async fn meet(&self) {
        match self {
            Meeting::Nobody => {}
            Meeting::All(barrier) => {
                barrier.wait().await;
            }
            Meeting::Wait { there, go_on } => {
                there.notify_one();
                go_on.notified().await;
            }
        }
    }
}

/// How time passes.
#[derive(Clone)]
enum Time {
    Manual(ManualClock),
    /// For those that read the wall clock.
    Real,
    /// The cases that need it are left out.
    Unknown,
}

impl Time {
    /// How long sessions live.
    fn timeout(&self) -> Duration {
        Duration::from_secs(if matches!(self, Time::Real) { 2 } else { 60 })
    }

    fn idle_timeout(&self) -> Option<Duration> {
        (!matches!(self, Time::Unknown)).then(|| self.timeout())
    }

    /// A second for a busy machine to be late.
    fn tolerance(&self) -> Duration {
        Duration::from_millis(if matches!(self, Time::Real) { 1000 } else { 100 })
    }

    async fn pass(&self, time: Duration) {
        match self {
            Time::Manual(clock) => clock.advance(time),
            Time::Real => tokio::time::sleep(time).await,
            Time::Unknown => panic!("no time passes here"),
        }
    }
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// The cases that fail, and those that do not apply.
fn expect(report: &Report, failed: &[Case], not_applicable: &[Case]) {
    for (case, outcome) in report.outcomes() {
        let is_as_expected = match outcome {
            Outcome::Passed => !failed.contains(&case) && !not_applicable.contains(&case),
            Outcome::Failed(_) => failed.contains(&case),
            Outcome::NotApplicable(_) => not_applicable.contains(&case),
        };
        assert!(is_as_expected, "{case:?}\n{report}");
    }
    println!("{report}");
}

#[test]
fn our_own_layer() {
    expect(&run("cloakroom's layer for axum", web::layer), &[], &[Case::Unreadable]);
}

#[test]
fn tower_sessions_over_cloakroom() {
    for has_counter in [true, false] {
        let report = run("tower-sessions over cloakroom", || tower::over_cloakroom(has_counter));
        expect(&report, &[], &[Case::Unreadable]);
    }
}

#[test]
fn actix_session_over_cloakroom() {
    for has_counter in [true, false] {
        let report = run("actix-session over cloakroom", || actix::over_cloakroom(has_counter));
        expect(&report, &[], &[Case::Unreadable, Case::Fixation]);
    }
}

/// What fails with the stores that come with those projects: what `docs/comparison.md` says. A new
/// version that does better fails here, so that the page is corrected.
const MEMORY_STORE_FAILS: &[Case] = &[
    Case::LostUpdateOtherKeys,
    Case::LostUpdateSameKey,
    Case::LostRemoval,
    Case::RaceOtherKeys,
    Case::RaceSameKey,
    Case::Resurrection,
    Case::ResurrectionAfterRotation,
    Case::RotationLosesNothing,
];
const COOKIE_STORE_FAILS: &[Case] = &[
    Case::LostUpdateOtherKeys,
    Case::LostUpdateSameKey,
    Case::LostRemoval,
    Case::RaceOtherKeys,
    Case::RaceSameKey,
    Case::Resurrection,
    Case::ResurrectionAfterRotation,
    Case::Rotation,
    Case::RotationLosesNothing,
    Case::Logout,
    Case::Rollback,
];
const EXPIRY: [Case; 2] = [Case::Expiry, Case::ExpiryInFlight];

#[test]
fn for_the_record() {
    let time = Time::Unknown;
    let report = run("tower-sessions over MemoryStore", || tower::over_memory_store(&time));
    expect(&report, MEMORY_STORE_FAILS, &[&EXPIRY[..], &[Case::Unreadable]].concat());
    let report = run("actix-session over CookieSessionStore", || actix::over_cookies(&time));
    let not_applicable = [&EXPIRY[..], &[Case::Unreadable, Case::Fixation]].concat();
    expect(&report, COOKIE_STORE_FAILS, &not_applicable);
}

/// The same with what takes time, which they take from the wall clock: half a minute.
#[test]
#[ignore = "waits for sessions to expire"]
fn for_the_record_in_real_time() {
    let time = Time::Real;
    let report = run("tower-sessions over MemoryStore", || tower::over_memory_store(&time));
    let failed = [MEMORY_STORE_FAILS, &[Case::ExpiryInFlight]].concat();
    expect(&report, &failed, &[Case::Unreadable]);
    let report = run("actix-session over CookieSessionStore", || actix::over_cookies(&time));
    let failed = [COOKIE_STORE_FAILS, &EXPIRY].concat();
    expect(&report, &failed, &[Case::Unreadable, Case::Fixation]);
}
