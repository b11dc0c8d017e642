//! How proptest draws sequences: as servers use a store, with the rare things often.

use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;

use super::harness::ops::{At, Edit, Offset, Op, Sequence, Setup, Span, Step, Val, Who};

/// Sequences of up to `length` operations.
pub(super) fn sequence(length: usize) -> impl Strategy<Value = Sequence> {
    (setup(), vec(op(), 1..=length)).prop_map(|(setup, ops)| Sequence { setup, ops })
}

fn setup() -> impl Strategy<Value = Setup> {
    let times = (span(), span(), of(span()), any::<u8>(), remember(), remember_max());
    let limits = (
        weighted(0.5, prop_oneof![2 => 0..6_u8, 1 => any::<u8>()]),
        weighted(0.3, prop_oneof![2 => 0..1000_u16, 1 => any::<u16>()]),
        weighted(0.5, any::<u8>()),
        prop_oneof![Just(25_u8), Just(100), 0..=100_u8],
        weighted(0.4, any::<u8>()),
    );
    (times, limits, any::<(bool, bool, u8, bool)>()).prop_map(|(times, limits, rest)| Setup {
        idle: times.0,
        lifetime: times.1,
        anonymous_idle: times.2,
        grace: times.3,
        remember: times.4,
        remember_max: times.5,
        sessions_max: limits.0,
        bytes_max: limits.1,
        record_bytes_max: limits.2,
        anonymous_share: limits.3,
        owner_limit: limits.4,
        end_oldest: rest.0,
        evict: rest.1,
        shards: rest.2,
        huge_pages: rest.3,
    })
}

fn span() -> impl Strategy<Value = Span> {
    prop_oneof![
        1 => Just(Span::Zero),
        1 => Just(Span::Nanosecond),
        1 => Just(Span::JustBelowTick),
        3 => any::<u16>().prop_map(Span::Millis),
        4 => any::<u8>().prop_map(Span::Seconds),
        8 => any::<u8>().prop_map(Span::Minutes),
        6 => any::<u8>().prop_map(Span::Hours),
        3 => Just(Span::Max),
    ]
}

fn remember() -> impl Strategy<Value = Span> {
    prop_oneof![1 => span(), 3 => (1..=4_u8).prop_map(Span::Minutes)]
}

fn remember_max() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(u8::MAX), 1 => any::<u8>(), 1 => 0..4_u8]
}

fn at() -> impl Strategy<Value = At> {
    prop_oneof![
        12 => any::<u8>().prop_map(At::Recent),
        12 => any::<u16>().prop_map(At::Any),
        1 => any::<u64>().prop_map(At::Unknown),
    ]
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        20 => any::<u8>().prop_map(Who::User),
        10 => Just(Who::Nobody),
        1 => Just(Who::TooLong),
        1 => Just(Who::Empty),
    ]
}

fn label() -> impl Strategy<Value = u8> {
    prop_oneof![5 => Just(0_u8), 5 => 1..=8_u8, 1 => 254..=255_u8]
}

fn val() -> impl Strategy<Value = Val> {
    prop_oneof![
        any::<i64>().prop_map(Val::Int),
        (0..16_u8).prop_map(Val::Text),
        any::<u8>().prop_map(Val::Text),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (any::<u8>(), val()).prop_map(|(key, value)| Edit::Set(key, value)),
        2 => any::<u8>().prop_map(Edit::Remove),
        3 => (any::<u8>(), any::<i8>()).prop_map(|(key, by)| Edit::Add(key, by)),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(key, by)| Edit::Grow(key, by)),
        1 => Just(Edit::Clear),
    ]
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    vec(edit(), 0..5)
}

fn offset() -> impl Strategy<Value = Offset> {
    prop_oneof![
        Just(Offset::ResolutionBefore),
        Just(Offset::TickBefore),
        Just(Offset::NanosecondBefore),
        Just(Offset::Exactly),
        Just(Offset::NanosecondAfter),
        Just(Offset::TickAfter),
        Just(Offset::ResolutionAfter),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Zero),
        2 => Just(Step::Nanosecond),
        4 => any::<u16>().prop_map(Step::BelowTick),
        4 => Just(Step::Tick),
        4 => any::<u16>().prop_map(Step::Millis),
        4 => any::<u8>().prop_map(Step::Seconds),
        2 => (0..20_u8).prop_map(Step::Minutes),
        1 => any::<u8>().prop_map(Step::Hours),
        1 => (0..60_u16).prop_map(Step::Days),
        1 => (0..9_u8).prop_map(Step::Years),
        12 => (at(), offset()).prop_map(|(at, offset)| Step::To(at, offset)),
        12 => offset().prop_map(Step::ToNext),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        16 => creates(),
        20 => looks(),
        16 => writes(),
        20 => identity(),
        8 => ends(),
        10 => step().prop_map(Op::Advance),
        6 => Just(Op::ExpireDue),
        3 => rest(),
    ]
}

fn creates() -> impl Strategy<Value = Op> {
    let create = (who(), label(), weighted(0.3, span()), weighted(0.3, span()), val());
    prop_oneof![
        16 => create.prop_map(|(who, label, idle, lifetime, value)| {
            Op::Create { who, label, idle, lifetime, value }
        }),
        1 => (who(), any::<u8>()).prop_map(|(who, count)| Op::Flood { who, count }),
    ]
}

fn looks() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => at().prop_map(Op::Read),
        2 => at().prop_map(Op::Peek),
        4 => at().prop_map(Op::Get),
        2 => at().prop_map(Op::Info),
        4 => at().prop_map(Op::Touch),
        1 => who().prop_map(Op::Owner),
    ]
}

fn writes() -> impl Strategy<Value = Op> {
    let patch_keys = (at(), any::<u8>(), vec((any::<u8>(), of(val())), 0..4));
    prop_oneof![
        6 => (at(), edits()).prop_map(|(at, edits)| Op::Update(at, edits)),
        1 => (at(), edit()).prop_map(|(at, edit)| Op::UpdatePanics(at, edit)),
        1 => (at(), edit()).prop_map(|(at, edit)| Op::UpdateFails(at, edit)),
        1 => (at(), at()).prop_map(|(at, other)| Op::UpdateLooks(at, other)),
        3 => (at(), edits()).prop_map(|(at, edits)| Op::Replace(at, edits)),
        3 => (at(), any::<u8>(), edits())
            .prop_map(|(at, seen, edits)| Op::ReplaceIf { at, seen, edits }),
        3 => (at(), any::<u8>(), edits())
            .prop_map(|(at, seen, edits)| Op::Patch { at, seen, edits }),
        1 => patch_keys.prop_map(|(at, seen, set)| Op::PatchKeys { at, seen, set }),
    ]
}

fn identity() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => at().prop_map(Op::Rotate),
        3 => (at(), who(), label()).prop_map(|(at, who, label)| Op::Login { at, who, label }),
        4 => at().prop_map(Op::Renew),
        2 => (at(), who()).prop_map(|(at, who)| Op::Bind(at, who)),
        3 => (at(), span(), span())
            .prop_map(|(at, idle, lifetime)| Op::SetTimeouts(at, idle, lifetime)),
        1 => (at(), label()).prop_map(|(at, label)| Op::SetLabel(at, label)),
        1 => at().prop_map(Op::Reauthenticated),
    ]
}

fn ends() -> impl Strategy<Value = Op> {
    let end_owner = (who(), of(at()), any::<u8>());
    let end_owned = (who(), at(), 192..=u8::MAX);
    prop_oneof![
        6 => (at(), any::<u8>()).prop_map(|(at, reason)| Op::End(at, reason)),
        2 => end_owner.prop_map(|(who, except, reason)| Op::EndOwner { who, except, reason }),
        2 => end_owned.prop_map(|(who, at, reason)| {
            Op::EndOwner { who, except: Some(at), reason }
        }),
        1 => any::<u8>().prop_map(Op::EndAll),
    ]
}

fn rest() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => at().prop_map(Op::Watch),
        2 => any::<u8>().prop_map(Op::DropWatch),
        1 => any::<u8>().prop_map(Op::List),
        1 => any::<u8>().prop_map(Op::Reserve),
        1 => Just(Op::CheckAll),
    ]
}
