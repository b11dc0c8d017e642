//! What any session store or middleware must do, as a suite to run on it.
//!
//! A [`Subject`] is a server with sessions: it answers the requests of a virtual client, one after
//! another or several at a time. [`run`] puts each [`Case`] to a fresh one, and reports what it
//! found; it never panics itself.
//!
//! A load-and-save middleware and a live handle pass the same cases: a request is a list of
//! [`Step`]s in its handler, with [`Step::Meet`] where requests that are under way at the same time
//! meet. What a middleware does before its handler (load) or after it (save) lies before or behind
//! that.
//!
//! ```text
//! answer      a request, alone
//! at_once     requests that all get to `Meet` before the first one goes on
//! during      one that waits at `Meet` until some others are answered
//! ```
//!
//! # Examples
//! ```
//! use std::time::Duration;
//! use cloakroom::conformance::{self, Answer, Case, Outcome, Request, Subject};
//!
//! /// A server that has no sessions at all.
//! struct Forgetful;
//!
//! impl Subject for Forgetful {
//!     fn answer(&mut self, request: &Request) -> Answer {
//!         Answer::new(true, request.steps.iter().filter(|step| step.reads()).map(|_| None))
//!     }
//!
//!     fn at_once(&mut self, requests: &[Request]) -> Option<Vec<Answer>> {
//!         Some(requests.iter().map(|request| self.answer(request)).collect())
//!     }
//!
//!     fn during(&mut self, outer: &Request, inner: &[Request]) -> Option<(Answer, Vec<Answer>)> {
//!         let inner = inner.iter().map(|request| self.answer(request)).collect();
//!         Some((self.answer(outer), inner))
//!     }
//! }
//!
//! let report = conformance::run("forgetful", || Box::new(Forgetful));
//! assert!(matches!(report.outcome(Case::Kept), Outcome::Failed(_)));
//! assert!(matches!(report.outcome(Case::Expiry), Outcome::NotApplicable(_)));
//! println!("{report}");
//! ```

mod cases;
mod report;
mod subject;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use report::{Case, Outcome, Report};
pub use subject::{Answer, Cookie, Request, Step, Subject};

/// Puts each case to a fresh subject.
///
/// A subject that panics has failed its case. So has one that answers with fewer values than were
/// asked for.
pub fn run(name: &str, mut fresh: impl FnMut() -> Box<dyn Subject>) -> Report {
    let check = |case: Case, fresh: &mut dyn FnMut() -> Box<dyn Subject>| {
        let checked = catch_unwind(AssertUnwindSafe(|| cases::check(case, &mut *fresh())));
        checked.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Outcome::Failed(format!("the subject panicked: {}", text.unwrap_or("(no text)")))
        })
    };
    let outcomes = Case::ALL.map(|case| (case, check(case, &mut fresh)));
    Report::new(name.to_owned(), outcomes.to_vec())
}

#[cfg(test)]
mod tests;
