//! What a sequence is made of: the options of a store, with the operations that are done to it.
//!
//! Everything is a small number that the harness gives a meaning, so that shrinking is easy and
//! any bytes of a fuzzer are a sequence.

use std::time::Duration;

use arbitrary::Arbitrary;

/// One run of the model against a store.
#[derive(Clone, Debug, Arbitrary)]
pub(crate) struct Sequence {
    pub(crate) setup: Setup,
    pub(crate) ops: Vec<Op>,
}

/// The options of the store.
#[derive(Clone, Debug, Arbitrary)]
pub(crate) struct Setup {
    pub(crate) idle: Span,
    pub(crate) lifetime: Span,
    /// Where longer than `idle`, the store's default counts.
    pub(crate) anonymous_idle: Option<Span>,
    /// In quarters of a second, modulo one minute.
    pub(crate) grace: u8,
    pub(crate) remember: Span,
    pub(crate) remember_max: u8,
    pub(crate) sessions_max: Option<u8>,
    /// Beyond what one record needs.
    pub(crate) bytes_max: Option<u16>,
    pub(crate) record_bytes_max: Option<u8>,
    pub(crate) anonymous_share: u8,
    pub(crate) owner_limit: Option<u8>,
    pub(crate) end_oldest: bool,
    pub(crate) evict: bool,
    /// The binary logarithm of the number of shards, from 1 on.
    pub(crate) shards: u8,
    pub(crate) huge_pages: bool,
}

/// A time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary)]
pub(crate) enum Span {
    Zero,
    Nanosecond,
    /// One millisecond less than the resolution that is promised.
    JustBelowTick,
    Millis(u16),
    Seconds(u8),
    Minutes(u8),
    Hours(u8),
    Max,
}

impl Span {
    pub(crate) fn duration(self) -> Duration {
        match self {
            Span::Zero => Duration::ZERO,
            Span::Nanosecond => Duration::from_nanos(1),
            Span::JustBelowTick => Duration::from_millis(99),
            Span::Millis(millis) => Duration::from_millis(millis.into()),
            Span::Seconds(seconds) => Duration::from_secs(seconds.into()),
            Span::Minutes(minutes) => Duration::from_secs(60 * u64::from(minutes)),
            Span::Hours(hours) => Duration::from_secs(3600 * u64::from(hours)),
            Span::Max => Duration::MAX,
        }
    }
}

/// An id, by its place among all ids that the store has given out.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub(crate) enum At {
    /// Counted from the newest, among the last eight.
    Recent(u8),
    /// Any, be it of a session that ended, or an alias.
    Any(u16),
    /// One that the store has never given out.
    Unknown(u64),
}

/// An owner, or nobody.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub(crate) enum Who {
    Nobody,
    User(u8),
    /// Longer than allowed.
    TooLong,
    Empty,
}

impl Who {
    pub(crate) fn name(self) -> Option<String> {
        match self {
            Who::Nobody => None,
            Who::User(number) => Some(format!("user{}", number % 5)),
            Who::TooLong => Some("u".repeat(513)),
            Who::Empty => Some(String::new()),
        }
    }
}

/// A value of one key.
#[derive(Clone, Debug, Arbitrary, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Val {
    Int(i64),
    /// A text of so many times eight bytes.
    Text(u8),
}

/// A change of a session's data.
#[derive(Clone, Debug, Arbitrary)]
pub(crate) enum Edit {
    Set(u8, Val),
    Remove(u8),
    /// Adds to a number, as a counter does.
    Add(u8, i8),
    /// Makes one key longer by so many bytes.
    Grow(u8, u8),
    Clear,
}

/// A step of the clock.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub(crate) enum Step {
    Zero,
    Nanosecond,
    /// Less than a tick: microseconds modulo 50,000.
    BelowTick(u16),
    Tick,
    Millis(u16),
    Seconds(u8),
    Minutes(u8),
    Hours(u8),
    Days(u16),
    Years(u8),
    /// To what will happen next to an id: its deadline, the end of its lifetime, of its grace
    /// time, of the time for which it is remembered.
    To(At, Offset),
    /// To the nearest deadline of all.
    ToNext(Offset),
}

/// Where exactly around a deadline.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub(crate) enum Offset {
    ResolutionBefore,
    TickBefore,
    NanosecondBefore,
    Exactly,
    NanosecondAfter,
    TickAfter,
    ResolutionAfter,
}

impl Offset {
    pub(crate) fn nanos(self) -> i64 {
        match self {
            Offset::ResolutionBefore => -100_000_001,
            Offset::TickBefore => -50_000_000,
            Offset::NanosecondBefore => -1,
            Offset::Exactly => 0,
            Offset::NanosecondAfter => 1,
            Offset::TickAfter => 50_000_000,
            Offset::ResolutionAfter => 100_000_000,
        }
    }
}

/// One operation.
#[derive(Clone, Debug, Arbitrary)]
pub(crate) enum Op {
    Create {
        who: Who,
        label: u8,
        idle: Option<Span>,
        lifetime: Option<Span>,
        value: Val,
    },
    /// As many creates in a row.
    Flood {
        who: Who,
        count: u8,
    },
    Read(At),
    Peek(At),
    /// Also keeps what it got, for `ReplaceIf` and `Patch`.
    Get(At),
    Info(At),
    Touch(At),
    Update(At, Vec<Edit>),
    /// An update whose closure changes the data and panics then.
    UpdatePanics(At, Edit),
    /// An update whose closure changes the data and fails then.
    UpdateFails(At, Edit),
    /// An update whose closure reads another session.
    UpdateLooks(At, At),
    Replace(At, Vec<Edit>),
    /// With the version of something that was got before.
    ReplaceIf {
        at: At,
        seen: u8,
        edits: Vec<Edit>,
    },
    Patch {
        at: At,
        seen: u8,
        edits: Vec<Edit>,
    },
    /// Unconditional changes.
    PatchKeys {
        at: At,
        seen: u8,
        set: Vec<(u8, Option<Val>)>,
    },
    Rotate(At),
    Login {
        at: At,
        who: Who,
        label: u8,
    },
    Renew(At),
    Bind(At, Who),
    SetTimeouts(At, Span, Span),
    SetLabel(At, u8),
    Reauthenticated(At),
    End(At, u8),
    /// From reason 192 on it is not all but `except` that end, but `except` if it is theirs. An
    /// operation of its own would give the saved inputs of the fuzzer another meaning.
    EndOwner {
        who: Who,
        except: Option<At>,
        reason: u8,
    },
    EndAll(u8),
    Owner(Who),
    List(u8),
    Watch(At),
    DropWatch(u8),
    Advance(Step),
    ExpireDue,
    Reserve(u8),
    /// Looks at everything.
    CheckAll,
}

/// The label of this number. Some are longer than allowed.
pub(crate) fn label(number: u8) -> String {
    match number {
        0 => String::new(),
        255 => "l".repeat(513),
        254 => "l".repeat(512),
        number => "label".repeat(usize::from(number % 8)),
    }
}
