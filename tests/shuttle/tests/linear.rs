//! Every answer about one session is the one that some order of the calls explains.

use cloakroom::{Missing, Reason};
use cloakroom_shuttle::check::{is_linearizable, minimal, show};
use cloakroom_shuttle::explore;
use cloakroom_shuttle::history::{Answer, Call, Data, Op, play};

fn check(calls_each: usize) {
    let history = play(calls_each);
    if !is_linearizable(&history.calls) {
        let owner = if history.has_owner { "alice" } else { "nobody" };
        let calls = show(&minimal(&history.calls));
        panic!("no order explains these answers (owner: {owner}):\n{calls}");
    }
}

#[test]
fn short_histories() {
    explore(4000, || check(4));
}

#[test]
fn long_histories() {
    explore(3000, || check(10));
}

fn call(thread: usize, from: u64, to: u64, op: Op, answer: Answer) -> Call {
    Call { thread, from, to, clock: (0, 0), op, answer }
}

/// The checker itself: it takes overlapping calls in any order, others only in theirs.
#[test]
fn the_checker_tells_right_from_wrong() {
    let data = |n| Answer::Data(Data { n, ..Data::default() });
    let update = call(0, 0, 3, Op::Update(0), data(1));
    let overlapping = |n| call(1, 1, 2, Op::Read(0), data(n));
    assert!(is_linearizable(&[update, overlapping(0)]));
    assert!(is_linearizable(&[update, overlapping(1)]));
    assert!(!is_linearizable(&[update, overlapping(2)]));
    let later = |n| call(1, 4, 5, Op::Read(0), data(n));
    assert!(is_linearizable(&[update, later(1)]));
    assert!(!is_linearizable(&[update, later(0)]));
    let lost = [update, call(1, 1, 4, Op::Update(0), data(1))];
    assert!(!is_linearizable(&lost));
    assert_eq!(minimal(&lost).len(), 2);
    let end = call(0, 0, 1, Op::End(0, Reason::LoggedOut), Answer::Done);
    let gone = Answer::Missing(Missing::Ended(Reason::LoggedOut));
    assert!(is_linearizable(&[end, call(1, 2, 3, Op::Read(0), gone)]));
    assert!(!is_linearizable(&[end, later(0)]));
    assert!(!is_linearizable(&[call(0, 0, 1, Op::Read(0), gone)]));
}
