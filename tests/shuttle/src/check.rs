//! Is there an order of the calls that explains every answer? (Wing and Gong's search, with the
//! states that led nowhere remembered, as Lowe does.)

use std::collections::HashSet;
use std::fmt::Write as _;

use crate::history::{Answer, Call};
use crate::model::Model;

/// Whether a history is linearizable: each call takes effect at one moment between its beginning
/// and its end.
pub fn is_linearizable(calls: &[Call]) -> bool {
    assert!(calls.len() <= 64);
    search(calls, 0, &Model::new(), &mut HashSet::new())
}

fn search(calls: &[Call], done: u64, model: &Model, dead: &mut HashSet<(u64, Model)>) -> bool {
    let left = |place: &usize| done >> place & 1 == 0;
    let first_end = (0..calls.len()).filter(left).map(|place| calls[place].to).min();
    let Some(first_end) = first_end else { return true };
    if !dead.insert((done, model.clone())) {
        return false;
    }
    (0..calls.len()).filter(left).any(|place| {
        calls[place].from < first_end
            && model
                .step(&calls[place])
                .is_some_and(|next| search(calls, done | 1 << place, &next, dead))
    })
}

/// Leaves out what the contradiction does not need: calls from the end on, then those that
/// changed nothing.
pub fn minimal(calls: &[Call]) -> Vec<Call> {
    let mut calls = calls.to_vec();
    calls.sort_by_key(|call| call.from);
    // A prefix without calls under way is a history of its own.
    let cut = (1..calls.len()).find(|&length| {
        let last_end = calls[..length].iter().map(|call| call.to).max();
        last_end < Some(calls[length].from) && !is_linearizable(&calls[..length])
    });
    calls.truncate(cut.unwrap_or(calls.len()));
    let mut place = 0;
    while place < calls.len() {
        let mut fewer = calls.clone();
        let call = fewer.remove(place);
        let changed_nothing = matches!(call.answer, Answer::Missing(_) | Answer::Conflict(_));
        // Where the clock never moved, it does not matter when a session was seen.
        let is_lookup = matches!(call.answer, Answer::Session(..))
            || matches!(call.op, crate::history::Op::Read(_) | crate::history::Op::Touch(_));
        let clock_stands = calls.iter().all(|call| call.clock.1 == 0);
        if (changed_nothing || is_lookup && clock_stands) && !is_linearizable(&fewer) {
            calls = fewer;
        } else {
            place += 1;
        }
    }
    calls
}

/// One line per call.
pub fn show(calls: &[Call]) -> String {
    let mut text = String::new();
    for call in calls {
        let Call { thread, from, to, clock, op, answer } = call;
        let indent = 4 * thread;
        let _ = writeln!(
            text,
            "{from:4}..{to:<4} {:indent$}thread {thread}: {op:?} -> {answer:?} (clock {}..{} s)",
            "", clock.0, clock.1
        );
    }
    text
}
