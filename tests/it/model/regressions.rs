//! Sequences that once went wrong, by hand and as short as they can be.

use super::harness::ops::{At, Offset, Op, Setup, Span, Step, Val, Who};
use super::harness::{ops::Sequence, run};

const NEWEST: At = At::Recent(0);

/// A store without limits that forgets nothing and expires only what has a timeout of its own.
fn setup() -> Setup {
    Setup {
        idle: Span::Max,
        lifetime: Span::Max,
        anonymous_idle: Some(Span::Max),
        grace: 40,
        remember: Span::Max,
        remember_max: u8::MAX,
        sessions_max: None,
        bytes_max: None,
        record_bytes_max: None,
        anonymous_share: 100,
        owner_limit: None,
        end_oldest: false,
        evict: false,
        shards: 0,
        huge_pages: false,
    }
}

fn create(who: Who, value: Val) -> Op {
    Op::Create { who, label: 0, idle: None, lifetime: None, value }
}

fn check(setup: Setup, ops: Vec<Op>) {
    run(&Sequence { setup, ops });
}

/// After nearly seven years of uptime a tick no longer counts on, and finite deadlines became
/// "never".
#[test]
fn deadlines_are_not_lost_after_years() {
    let ops = vec![
        Op::Advance(Step::Years(7)),
        Op::Create {
            who: Who::Nobody,
            label: 0,
            idle: Some(Span::Seconds(5)),
            lifetime: None,
            value: Val::Int(1),
        },
        Op::Advance(Step::Days(30)),
        Op::Read(NEWEST),
    ];
    check(setup(), ops);
}

/// The deadline lies beyond the reach of the clock when the session is created.
#[test]
fn deadlines_beyond_the_reach_of_the_clock_come() {
    let ops = vec![
        Op::Advance(Step::Days(2480)),
        Op::Create {
            who: Who::Nobody,
            label: 0,
            idle: None,
            lifetime: Some(Span::Hours(255)),
            value: Val::Int(1),
        },
        Op::Advance(Step::To(NEWEST, Offset::Exactly)),
        Op::Read(NEWEST),
    ];
    check(setup(), ops);
}

/// When a session was created was derived from its lifetime, a tick too early each time, so that
/// each `set_timeouts` took a tick from it.
#[test]
fn timeouts_may_be_set_often() {
    let setup = Setup { lifetime: Span::Millis(10_001), ..setup() };
    let mut ops = vec![Op::Advance(Step::Seconds(99)), create(Who::Nobody, Val::Int(1))];
    ops.resize(30, Op::SetTimeouts(NEWEST, Span::Max, Span::Millis(10_001)));
    ops.push(Op::Info(NEWEST));
    ops.push(Op::Advance(Step::Seconds(9)));
    ops.push(Op::Read(NEWEST));
    check(setup, ops);
}

/// An anonymous session larger than the share of all of them evicted every other one, and was
/// refused then.
#[test]
fn nobody_is_evicted_for_a_session_that_never_fits() {
    let setup = Setup {
        record_bytes_max: Some(255),
        bytes_max: Some(0),
        anonymous_share: 25,
        evict: true,
        ..setup()
    };
    let ops = vec![
        create(Who::Nobody, Val::Int(1)),
        create(Who::Nobody, Val::Int(2)),
        create(Who::Nobody, Val::Text(255)),
    ];
    check(setup, ops);
}

/// A login beyond the owner's limit evicted the session of somebody else, and was refused then.
#[test]
fn nobody_is_evicted_for_a_login_beyond_the_limit() {
    let setup = Setup { sessions_max: Some(1), owner_limit: Some(0), evict: true, ..setup() };
    let ops = vec![
        create(Who::User(1), Val::Int(1)),
        Op::Advance(Step::Seconds(10)),
        create(Who::User(0), Val::Int(2)),
        create(Who::User(0), Val::Int(3)),
    ];
    check(setup, ops);
}

/// As long as an anonymous session waited for the expiry, no authenticated one was evicted.
#[test]
fn authenticated_sessions_are_evicted_when_the_anonymous_ones_have_expired() {
    let setup = Setup {
        anonymous_idle: Some(Span::Seconds(1)),
        sessions_max: Some(1),
        evict: true,
        ..setup()
    };
    let ops = vec![
        create(Who::Nobody, Val::Int(1)),
        create(Who::User(0), Val::Int(2)),
        Op::Advance(Step::Seconds(10)),
        create(Who::User(1), Val::Int(3)),
    ];
    check(setup, ops);
}

/// A login that did not fit ended the oldest session of its owner all the same.
#[test]
fn a_login_without_room_ends_nothing() {
    let setup = Setup {
        record_bytes_max: Some(0),
        bytes_max: Some(150),
        owner_limit: Some(0),
        end_oldest: true,
        ..setup()
    };
    let ops = vec![
        create(Who::User(0), Val::Int(1)),
        create(Who::Nobody, Val::Int(2)),
        Op::Login { at: NEWEST, who: Who::User(0), label: 254 },
    ];
    check(setup, ops);
}

/// At the store's limit, a login that ends its owner's oldest session was refused, or evicted
/// somebody else's besides.
#[test]
fn a_login_takes_over_the_room_of_the_one_that_it_ends() {
    for evict in [false, true] {
        let setup = Setup {
            sessions_max: Some(1),
            owner_limit: Some(0),
            end_oldest: true,
            evict,
            ..setup()
        };
        let ops = vec![
            create(Who::User(1), Val::Int(1)),
            Op::Advance(Step::Seconds(10)),
            create(Who::User(0), Val::Int(2)),
            Op::Advance(Step::Seconds(10)),
            create(Who::User(0), Val::Int(3)),
        ];
        check(setup, ops);
    }
}

/// What authenticated sessions take cannot be evicted for an anonymous one, so that evicting the
/// other anonymous ones does not help.
#[test]
fn no_anonymous_session_is_evicted_where_the_authenticated_ones_leave_no_room() {
    let setup = Setup { record_bytes_max: Some(100), bytes_max: Some(100), evict: true, ..setup() };
    let ops = vec![
        create(Who::User(0), Val::Text(50)),
        create(Who::Nobody, Val::Int(1)),
        create(Who::Nobody, Val::Text(80)),
    ];
    check(setup, ops);
}

/// What expired sessions take counted against the new one, and a live session was evicted in vain.
/// Now they end first.
#[test]
fn no_session_is_evicted_where_the_expired_ones_leave_no_room() {
    let setup = Setup {
        anonymous_idle: Some(Span::Seconds(1)),
        record_bytes_max: Some(100),
        bytes_max: Some(100),
        evict: true,
        ..setup()
    };
    let ops = vec![
        create(Who::Nobody, Val::Text(50)),
        create(Who::User(0), Val::Int(1)),
        Op::Advance(Step::Seconds(10)),
        create(Who::User(1), Val::Text(80)),
    ];
    check(setup, ops);
}

/// Sessions that had expired stayed in the way of new ones until the expiry came.
#[test]
fn expired_sessions_give_way_to_new_ones() {
    for evict in [false, true] {
        let setup = Setup {
            idle: Span::Zero,
            record_bytes_max: Some(100),
            bytes_max: Some(0),
            evict,
            ..setup()
        };
        check(setup, vec![Op::Flood { who: Who::User(0), count: 80 }]);
    }
}

/// With the id of his session, or the one it had before, and of no one else's.
#[test]
fn an_owner_ends_only_what_is_his() {
    let end = |who, at| Op::EndOwner { who: Who::User(who), except: Some(at), reason: 192 };
    let ops = vec![
        create(Who::User(0), Val::Int(1)),
        create(Who::Nobody, Val::Int(2)),
        Op::Renew(At::Recent(1)),
        end(1, NEWEST),
        end(0, At::Recent(1)),
        end(0, At::Recent(2)),
        end(0, NEWEST),
    ];
    check(setup(), ops);
}
