//! Does each operation to the store and to the model, and compares what they answer.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use cloakroom::{
    Attributes, Builder, CreateOptions, Error, Event, Events, Limit, ManualClock, Memory, Missing,
    OwnerLimit, Reason, SessionId, Store, Version, Watch, WhenFull,
};

use super::ops::{At, Op, Sequence, Setup, Span, Step, Val, Who, label};
use super::world::{
    Data, Ev, Id, NEVER, REACH, RESOLUTION, Session, State, Time, World, after, attributes_of,
    data_of, nanos,
};

/// Does a whole sequence.
///
/// # Panics
/// Where the store is not what the model says.
pub(crate) fn run(sequence: &Sequence) {
    let mut run = Run::new(&sequence.setup);
    for (index, op) in sequence.ops.iter().enumerate() {
        let _where = Where(index, op);
        run.step(op);
        if index % 20 == 19 {
            run.check_all();
            run.end_step();
        }
    }
    run.check_all();
    run.end_step();
}

/// Tells at which operation a sequence failed.
struct Where<'a>(usize, &'a Op);

impl Drop for Where<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed at operation {}: {:?}", self.0, self.1);
        }
    }
}

/// What refused an operation, comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Missing(Missing),
    Conflict(u32),
    TooLarge(usize),
    Full(Limit),
    OwnerFull,
    OtherOwner,
    Text(&'static str),
    /// The error of a closure.
    Closure,
}

pub(super) fn fault(error: Error) -> Fault {
    match error {
        Error::Missing(missing) => Fault::Missing(missing),
        Error::Conflict { current } => Fault::Conflict(number_of(current)),
        Error::TooLarge { bytes, .. } => Fault::TooLarge(bytes),
        Error::Full(limit) => Fault::Full(limit),
        Error::OwnerFull { .. } => Fault::OwnerFull,
        Error::OtherOwner => Fault::OtherOwner,
        Error::InvalidText { what, .. } => Fault::Text(what),
        Error::Encode(_) => Fault::Closure,
        other => panic!("an error that nothing can have caused: {other}"),
    }
}

pub(super) fn number_of(version: Version) -> u32 {
    version.to_string().parse().expect("a version prints as a number")
}

/// Something that was got before.
pub(super) struct Seen {
    pub(super) session: usize,
    pub(super) version: Version,
    pub(super) data: Data,
}

/// A future that waits for the end of a session.
pub(super) struct Watching {
    watch: Watch,
    pub(super) session: Option<usize>,
    expected: Option<Reason>,
    woken: Arc<Wakes>,
    polls: u64,
}

#[derive(Default)]
struct Wakes(AtomicU64);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The limits of the store under test.
pub(super) struct Limits {
    pub(super) sessions_max: u64,
    pub(super) bytes_max: u64,
    pub(super) anonymous_sessions_max: u64,
    pub(super) anonymous_bytes_max: u64,
    pub(super) record_bytes_max: usize,
    pub(super) owner: Option<(usize, OwnerLimit)>,
    pub(super) evict: bool,
}

pub(super) struct Run {
    pub(super) store: Store,
    pub(super) clock: ManualClock,
    pub(super) world: World,
    pub(super) limits: Limits,
    pub(super) setup: Setup,
    pub(super) seen: Vec<Seen>,
    pub(super) watches: Vec<Watching>,
    /// The session whose cost changed in this step.
    pub(super) recost: Option<usize>,
    /// Events of this step that were read before its end.
    early: Vec<Ev>,
    events: Events<Attributes>,
    scratch: Store,
    sizes: HashMap<Data, usize>,
    /// The tokens that were given out.
    pub(super) texts: HashMap<SessionId, String>,
}

fn limits(setup: &Setup) -> Limits {
    let record_bytes_max = setup.record_bytes_max.map_or(16 * 1024, |n| 64 + 8 * usize::from(n));
    let sessions_max = setup.sessions_max.map_or(u64::MAX, |n| u64::from(n % 64) + 1);
    let bytes_max =
        setup.bytes_max.map_or(u64::MAX, |n| record_bytes_max as u64 + 2 * u64::from(n));
    let share = |max: u64, least: u64| match (max, setup.anonymous_share % 101) {
        (u64::MAX, _) => u64::MAX,
        (_, 0) => 0,
        (max, percent) => (max * u64::from(percent) / 100).max(least).min(max),
    };
    let record = (record_bytes_max + record_bytes_max / 8 + 1024) as u64;
    let kind = if setup.end_oldest { OwnerLimit::EndOldest } else { OwnerLimit::Refuse };
    Limits {
        sessions_max,
        bytes_max,
        anonymous_sessions_max: share(sessions_max, 1),
        anonymous_bytes_max: share(bytes_max, record),
        record_bytes_max,
        owner: setup.owner_limit.map(|n| (usize::from(n % 4) + 1, kind)),
        evict: setup.evict,
    }
}

fn builder(setup: &Setup, limits: &Limits, clock: &ManualClock) -> Builder<Attributes> {
    let remember_max = match setup.remember_max {
        u8::MAX => 262_144,
        n => n.into(),
    };
    let mut builder = Store::builder()
        .idle_timeout(setup.idle.duration())
        .lifetime(setup.lifetime.duration())
        .grace(grace(setup))
        .remember_ended(setup.remember.duration(), remember_max)
        .anonymous_share(setup.anonymous_share % 101)
        .record_bytes_max(limits.record_bytes_max)
        .shards(shard_count(setup))
        .memory(if setup.huge_pages { Memory::HugePages } else { Memory::System })
        .clock(clock)
        .expiry_thread(false);
    if let Some(idle) = setup.anonymous_idle {
        builder = builder.anonymous_idle_timeout(idle.duration().min(setup.idle.duration()));
    }
    if limits.sessions_max < u64::MAX {
        builder = builder.sessions_max(limits.sessions_max);
    }
    if limits.bytes_max < u64::MAX {
        builder = builder.bytes_max(limits.bytes_max);
    }
    if let Some((sessions, kind)) = limits.owner {
        builder = builder.sessions_per_owner(sessions as u32, kind);
    }
    if limits.evict {
        builder = builder.when_full(WhenFull::EvictLeastRecentlySeen);
    }
    builder
}

fn shard_count(setup: &Setup) -> usize {
    2 << (setup.shards % 4)
}

fn grace(setup: &Setup) -> std::time::Duration {
    std::time::Duration::from_millis(250 * u64::from(setup.grace % 240))
}

impl Run {
    fn new(setup: &Setup) -> Run {
        let clock = ManualClock::new();
        let limits = limits(setup);
        let store = builder(setup, &limits, &clock).in_memory().expect("options that fit");
        let scratch = Store::<Attributes>::builder()
            .idle_timeout(std::time::Duration::MAX)
            .lifetime(std::time::Duration::MAX)
            .record_bytes_max(1 << 20)
            .shards(2)
            .memory(Memory::System)
            .expiry_thread(false)
            .clock(&ManualClock::new())
            .in_memory()
            .expect("a second store");
        let remember_max = match setup.remember_max {
            u8::MAX => 262_144,
            n => u64::from(n),
        };
        let events = store.events();
        let world = World::new(setup.remember.duration(), remember_max);
        Run {
            store,
            clock,
            world,
            limits,
            setup: setup.clone(),
            seen: Vec::new(),
            watches: Vec::new(),
            recost: None,
            early: Vec::new(),
            events,
            scratch,
            sizes: HashMap::new(),
            texts: HashMap::new(),
        }
    }

    /// The size of data in a record.
    pub(super) fn size_of(&mut self, data: &Data) -> usize {
        if let Some(size) = self.sizes.get(data) {
            return *size;
        }
        let id = self.scratch.create(attributes_of(data)).expect("no limits here").id();
        let size = self.scratch.info(id).expect("just created").data_bytes;
        self.scratch.end(id, Reason::LoggedOut).expect("just created");
        self.sizes.insert(data.clone(), size);
        size
    }

    fn step(&mut self, op: &Op) {
        self.apply(op);
        self.end_step();
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Create { who, label, idle, lifetime, value } => {
                self.create(*who, *label, *idle, *lifetime, vec![(0, value.clone())]);
            }
            Op::Flood { who, count } => {
                for number in 0..*count {
                    let data = vec![(0, Val::Text(number % 16))];
                    self.create(*who, 0, None, None, data);
                    self.end_step();
                }
            }
            Op::Read(at) => self.read(*at),
            Op::Peek(at) => self.peek(*at),
            Op::Get(at) => self.get(*at),
            Op::Info(at) => self.info(*at),
            Op::Touch(at) => self.touch(*at),
            Op::Rotate(at) => self.rotate(*at, None, false),
            Op::Login { at, who, label } => self.rotate(*at, Some((*who, *label)), false),
            Op::Renew(at) => self.rotate(*at, None, true),
            Op::Bind(at, who) => self.bind(*at, *who),
            Op::SetTimeouts(at, idle, lifetime) => self.set_timeouts(*at, *idle, *lifetime),
            Op::SetLabel(at, number) => self.set_label(*at, *number),
            Op::Reauthenticated(at) => self.reauthenticated(*at),
            Op::End(at, reason) => self.end(*at, *reason),
            Op::EndOwner { who, except: Some(at), reason: reason @ 192.. } => {
                self.end_owned(*who, *at, *reason);
            }
            Op::EndOwner { who, except, reason } => self.end_owner(*who, *except, *reason),
            Op::EndAll(reason) => self.end_all(*reason),
            Op::Owner(who) => self.check_owner(&who.name().unwrap_or_default()),
            Op::List(count) => self.check_list((*count).into()),
            Op::Watch(at) => self.watch(*at),
            Op::DropWatch(index) => {
                if !self.watches.is_empty() {
                    let index = usize::from(*index) % self.watches.len();
                    drop(self.watches.swap_remove(index).watch);
                }
            }
            Op::Advance(step) => self.advance(*step),
            Op::ExpireDue => self.expire(),
            Op::Reserve(count) => {
                self.store.reserve((*count).into(), 64).expect("there is memory");
            }
            Op::CheckAll => self.check_all(),
            writes => self.apply_write(writes),
        }
    }

    /// What has to hold after each operation.
    pub(super) fn end_step(&mut self) {
        self.settle();
        self.store.validate();
        self.settle_costs();
        self.read_events();
        let mut actual = std::mem::take(&mut self.early);
        let mut expected = std::mem::take(&mut self.world.events);
        actual.sort();
        expected.sort();
        assert_eq!(actual, expected, "events, left is the store's");
        self.poll_watches();
        self.world.buried_before = self.world.buried;
    }

    fn read_events(&mut self) {
        self.early.extend(std::iter::from_fn(|| self.events.try_recv()).map(ev));
    }

    fn poll_watches(&mut self) {
        for (n, reason) in self.world.gone.drain(..) {
            for watching in &mut self.watches {
                if watching.session == Some(n) {
                    watching.expected = Some(reason);
                    watching.session = None;
                }
            }
        }
        self.watches.retain_mut(|watching| {
            let before = watching.woken.0.load(Ordering::Relaxed);
            let waker = Waker::from(Arc::clone(&watching.woken));
            let poll = Pin::new(&mut watching.watch).poll(&mut Context::from_waker(&waker));
            watching.polls += 1;
            match (poll, watching.expected) {
                (Poll::Pending, None) => {
                    assert_eq!(before, 0, "a task was woken for nothing");
                    true
                }
                (Poll::Ready(reason), Some(expected)) => {
                    assert_eq!(reason, expected, "reason of a watch");
                    assert!(watching.polls == 1 || before == 1, "woken {before} times");
                    false
                }
                (poll, expected) => panic!("watch is {poll:?}, expected {expected:?}"),
            }
        });
    }

    /// Finds out what became of sessions about which the promise leaves room, and keeps to it.
    fn settle(&mut self) {
        let now = self.world.now;
        let live: Vec<usize> = self.world.live().map(|(n, _)| n).collect();
        for n in live {
            let session = self.world.sessions[n].clone();
            let (min, max) = (session.deadline_min(), session.deadline());
            if max == NEVER || now.saturating_add(RESOLUTION) < min && now < REACH {
                continue;
            }
            let found = self.store.info(session.id);
            self.world.count_lookup(&found);
            match found {
                Ok(_) => assert!(now < max, "late by {} ns: {session:?} at {now}", now - max),
                Err(missing) => {
                    assert_eq!(missing, Missing::Ended(Reason::Expired));
                    self.world.sessions[n].state = State::Expired;
                }
            }
        }
        let aliases: Vec<(SessionId, SessionId, Time)> = self
            .world
            .ids
            .iter()
            .filter_map(|(id, state)| match *state {
                Id::Alias { successor, until, over: false } => Some((*id, successor, until)),
                _ => None,
            })
            .collect();
        for (id, successor, until) in aliases {
            if now >= until {
                self.world.ids.insert(id, Id::Alias { successor, until, over: true });
            } else if now.saturating_add(RESOLUTION) >= until || now >= REACH {
                self.settle_alias(id, successor, until);
            }
        }
    }

    fn settle_alias(&mut self, id: SessionId, successor: SessionId, until: Time) {
        self.make_sure(successor);
        let before = self.store.stats().suspicious;
        let found = self.store.info(id);
        let over = self.store.stats().suspicious > before;
        self.world.count_lookup(&found);
        self.world.ids.insert(id, Id::Alias { successor, until, over });
        let expected = self.world.look(id);
        assert_eq!(found.map(|info| info.id), expected.map(|n| self.world.sessions[n].id));
    }

    /// Asks the store about an id that it may or may not have forgotten.
    pub(super) fn make_sure(&mut self, id: SessionId) {
        if let Some(&Id::Alias { successor, over: false, .. }) = self.world.ids.get(&id) {
            self.make_sure(successor);
        }
        if !self.world.is_doubtful(id) {
            return;
        }
        let found = self.store.info(id);
        self.world.count_lookup(&found);
        if matches!(found, Err(Missing::Unknown)) {
            self.world.ids.insert(id, Id::Forgotten);
        }
        let expected = self.world.look(id);
        assert_eq!(found.map(|info| info.id).err(), expected.err());
    }

    /// The costs of all sessions are those that the model knows; that of one that was written is
    /// learnt.
    fn settle_costs(&mut self) {
        let bytes = self.store.stats().bytes;
        let recost = self.recost.take().filter(|&n| self.world.sessions[n].state != State::Gone);
        let known: u64 = self
            .world
            .resident()
            .filter(|(n, _)| Some(*n) != recost)
            .map(|(_, session)| session.cost)
            .sum();
        let rest = bytes.checked_sub(known).expect("bytes of sessions that are gone");
        let Some(n) = recost else {
            return assert_eq!(rest, 0, "bytes of no session");
        };
        let data = self.world.sessions[n].data.clone();
        let size = self.size_of(&data);
        let session = &mut self.world.sessions[n];
        let (min, max) = session.cost_bounds(size);
        assert!((min..=max).contains(&rest), "cost of {rest}, not {min} to {max}: {session:?}");
        (session.cost, session.data_bytes) = (rest, size);
        assert!(bytes <= self.limits.bytes_max, "{bytes} bytes are too many");
        let anonymous: u64 = self
            .world
            .resident()
            .filter(|(_, session)| session.is_anonymous())
            .map(|(_, session)| session.cost)
            .sum();
        assert!(anonymous <= self.limits.anonymous_bytes_max, "{anonymous} anonymous bytes");
    }

    pub(super) fn id_at(&mut self, at: At) -> SessionId {
        let given = &self.world.given;
        let count = given.len();
        let id = match at {
            At::Recent(back) if count > 0 => given[count - 1 - usize::from(back % 8) % count],
            At::Any(index) if count > 0 => given[usize::from(index) % count],
            At::Recent(number) => unknown(number.into()),
            At::Any(number) => unknown(number.into()),
            At::Unknown(number) => unknown(number),
        };
        self.make_sure(id);
        id
    }

    fn advance(&mut self, step: Step) {
        const SECOND: u64 = 1_000_000_000;
        let by = match step {
            Step::Zero => 0,
            Step::Nanosecond => 1,
            Step::BelowTick(micros) => 1000 * (u64::from(micros) % 50_000),
            Step::Tick => 50_000_000,
            Step::Millis(millis) => 1_000_000 * u64::from(millis),
            Step::Seconds(seconds) => SECOND * u64::from(seconds),
            Step::Minutes(minutes) => 60 * SECOND * u64::from(minutes),
            Step::Hours(hours) => 3600 * SECOND * u64::from(hours),
            Step::Days(days) => 86_400 * SECOND * u64::from(days),
            Step::Years(years) => 365 * 86_400 * SECOND * u64::from(years),
            Step::To(at, offset) => self.until(self.next_of(at), offset.nanos()),
            Step::ToNext(offset) => {
                let next = self.world.live().map(|(_, session)| session.deadline()).min();
                self.until(next, offset.nanos())
            }
        };
        self.clock.advance(std::time::Duration::from_nanos(by));
        self.world.now = self.world.now.saturating_add(by);
        assert_eq!(nanos(self.clock.now()), self.world.now);
    }

    fn until(&self, target: Option<Time>, offset: i64) -> u64 {
        match target {
            Some(NEVER) | None => 0,
            Some(time) => time.saturating_add_signed(offset).saturating_sub(self.world.now),
        }
    }

    /// When something will happen to an id.
    fn next_of(&self, at: At) -> Option<Time> {
        let given = &self.world.given;
        let id = match at {
            At::Recent(back) => given.iter().rev().nth((back % 8).into())?,
            At::Any(index) => given.get(usize::from(index) % given.len().max(1))?,
            At::Unknown(_) => return None,
        };
        match *self.world.ids.get(id)? {
            Id::Session(n) => Some(self.world.sessions[n].deadline()),
            Id::Alias { until, .. } => Some(until),
            Id::Ended { at, .. } => Some(after(at, self.world.remember)),
            Id::Forgotten => None,
        }
    }

    fn expire(&mut self) {
        let expected = self.world.expire();
        assert_eq!(self.store.expire_due(), expected, "sessions that expired");
    }

    fn watch(&mut self, at: At) {
        let id = self.id_at(at);
        let found = self.world.look(id);
        let watch = self.store.watch(id);
        let (session, expected) = match found {
            Ok(n) => (Some(n), None),
            Err(Missing::Ended(reason)) => (None, Some(reason)),
            Err(Missing::Unknown) => (None, Some(Reason::Expired)),
        };
        let woken = Arc::default();
        self.watches.push(Watching { watch, session, expected, woken, polls: 0 });
    }

    /// Whether a limit can have refused so much more room.
    pub(super) fn is_full(&self, limit: Limit, anonymous: bool, sessions: u64, more: u64) -> bool {
        let (mut all, mut some) = ((0, 0), (0, 0));
        for (_, session) in self.world.resident() {
            all = (all.0 + 1, all.1 + session.cost);
            if session.is_anonymous() {
                some = (some.0 + 1, some.1 + session.cost);
            }
        }
        match limit {
            Limit::Sessions => all.0 + sessions > self.limits.sessions_max,
            Limit::Bytes => all.1.saturating_add(more) > self.limits.bytes_max,
            Limit::AnonymousSessions => {
                anonymous && some.0 + sessions > self.limits.anonymous_sessions_max
            }
            Limit::AnonymousBytes => {
                anonymous && some.1.saturating_add(more) > self.limits.anonymous_bytes_max
            }
            _ => false,
        }
    }

    fn create(
        &mut self,
        who: Who,
        number: u8,
        idle: Option<Span>,
        lifetime: Option<Span>,
        data: Data,
    ) {
        let (owner, text) = (who.name(), label(number));
        let mut options = CreateOptions::new();
        if let Some(owner) = &owner {
            options = options.owner(owner.clone());
        }
        if number > 0 {
            options = options.label(text.clone());
        }
        if let Some(idle) = idle {
            options = options.idle_timeout(idle.duration());
        }
        if let Some(lifetime) = lifetime {
            options = options.lifetime(lifetime.duration());
        }
        let (idle_default, lifetime_default) = self.defaults(owner.is_none());
        let data_bytes = self.size_of(&data);
        let created = self.store.create_with(attributes_of(&data), options);
        if let Ok(token) = &created {
            self.texts.insert(token.id(), token.expose());
        }
        let now = self.world.now;
        let session = Session {
            id: created.as_ref().map_or(unknown(0), |token| token.id()),
            state: State::Live,
            data,
            version: 1,
            owner: owner.clone().unwrap_or_default(),
            label: text.clone(),
            idle: idle.map_or(idle_default, Span::duration),
            lifetime: lifetime.map_or(lifetime_default, Span::duration),
            created: now,
            authenticated: now,
            seen_min: now,
            seen_max: now,
            cost: 0,
            data_bytes,
        };
        let fault = self.fault_of_texts(owner.as_deref(), Some(&text));
        let too_large = data_bytes > self.limits.record_bytes_max;
        let fault = fault.or(too_large.then_some(Fault::TooLarge(data_bytes)));
        match (fault, created) {
            (Some(expected), Err(error)) => assert_eq!(self::fault(error), expected),
            (Some(expected), Ok(_)) => panic!("created, expected {expected:?}"),
            (None, Ok(_)) => self.created(session),
            (None, Err(error)) => self.not_created(&session, self::fault(error)),
        }
    }

    fn created(&mut self, session: Session) {
        let (id, owner) = (session.id, session.owner.clone());
        let anonymous = session.is_anonymous();
        let fresh = !self.world.ids.contains_key(&id);
        assert!(fresh, "an id given out twice");
        self.made_room(&session, false);
        let n = self.world.sessions.len();
        for oldest in self.excess_of(&owner).expect("created beyond the owner's limit") {
            self.world.end(oldest, Reason::Revoked);
        }
        for limit in [Limit::Sessions, Limit::AnonymousSessions] {
            assert!(!self.is_full(limit, anonymous, 1, 0), "created beyond {limit}");
        }
        self.world.counts.created += 1;
        self.world.own(n, &owner);
        let owner = (!owner.is_empty()).then_some(owner);
        self.world.events.push(Ev::Created { id, owner });
        self.world.sessions.push(session);
        self.world.ids.insert(id, Id::Session(n));
        self.world.given.push(id);
        self.recost = Some(n);
    }

    fn not_created(&mut self, session: &Session, fault: Fault) {
        let (_, cost_max) = session.cost_bounds(session.data_bytes);
        let anonymous = session.is_anonymous();
        match fault {
            Fault::OwnerFull => assert!(self.excess_of(&session.owner).is_none()),
            Fault::Full(limit) => {
                self.made_room(session, true);
                let (sessions, more) = self.room_for(session);
                assert!(self.is_full(limit, anonymous, sessions, more), "refused for {limit}");
                let in_vain = !self.limits.evict || !self.eviction_helps(anonymous, cost_max);
                assert!(in_vain, "refused for {limit}, but there are sessions to evict");
            }
            other => panic!("create refused: {other:?}"),
        }
    }

    /// Whether there is room for a session once all are evicted that it may push out.
    fn eviction_helps(&self, anonymous: bool, cost_max: u64) -> bool {
        let fits = |session: &Session| !anonymous || session.is_anonymous();
        if !self.world.live().any(|(_, session)| fits(session)) {
            return false;
        }
        let stay = |session: &Session| session.state != State::Live || !fits(session);
        let (mut all, mut some) = ((1, cost_max), (1, cost_max));
        for (_, session) in self.world.resident().filter(|(_, session)| stay(session)) {
            all = (all.0 + 1, all.1 + session.cost);
            if session.is_anonymous() {
                some = (some.0 + 1, some.1 + session.cost);
            }
        }
        let limits = &self.limits;
        let fits_all = all.0 <= limits.sessions_max && all.1 <= limits.bytes_max;
        let fits_share =
            some.0 <= limits.anonymous_sessions_max && some.1 <= limits.anonymous_bytes_max;
        fits_all && (fits_share || !anonymous)
    }

    /// The most that a new session needs beyond the room of its owner's oldest one, which it takes
    /// over if that one has to end: sessions, bytes.
    fn room_for(&self, session: &Session) -> (u64, u64) {
        let (_, cost_max) = session.cost_bounds(session.data_bytes);
        match self.excess_of(&session.owner).unwrap_or_default().first() {
            Some(&oldest) => (0, cost_max.saturating_sub(self.world.sessions[oldest].cost)),
            None => (1, cost_max),
        }
    }

    /// Whether the budget can have refused a new session.
    fn may_refuse(&self, session: &Session) -> bool {
        let (sessions, more) = self.room_for(session);
        let limits =
            [Limit::Sessions, Limit::Bytes, Limit::AnonymousSessions, Limit::AnonymousBytes];
        let anonymous = session.is_anonymous();
        limits.iter().any(|&limit| self.is_full(limit, anonymous, sessions, more))
    }

    /// The budget refused a new session, at first or for good: what has expired ended then, and
    /// others may have been evicted.
    ///
    /// Where the session fitted in the end, the exact cost is not known yet and the events tell
    /// whether it did at once. That nothing fits that should not is checked with the sums.
    fn made_room(&mut self, session: &Session, refused: bool) {
        self.read_events();
        let mut ends = self.early.iter().filter_map(|event| match event {
            Ev::Ended { reason, .. } => Some(*reason),
            _ => None,
        });
        if !refused && !ends.any(|reason| matches!(reason, Reason::Expired | Reason::Evicted)) {
            return;
        }
        assert!(self.may_refuse(session), "made room for nothing");
        self.world.expire();
        if self.limits.evict && !refused {
            self.evicted(session);
        }
    }

    /// Sessions were evicted for a new one: the events tell which; the model checks that these
    /// were the right ones.
    fn evicted(&mut self, new: &Session) {
        let for_anonymous = new.is_anonymous();
        for event in self.early.clone() {
            let Ev::Ended { id, reason: Reason::Evicted, .. } = event else { continue };
            assert!(self.may_refuse(new), "evicted for nothing");
            let Some(&Id::Session(n)) = self.world.ids.get(&id) else { panic!("evicted twice") };
            let victim = &self.world.sessions[n];
            assert_eq!(victim.state, State::Live, "an expired session was evicted");
            let fits = |session: &Session| !for_anonymous || session.is_anonymous();
            assert!(fits(victim), "an anonymous create evicted an authenticated session");
            let anonymous = self.world.live().filter(|(_, session)| session.is_anonymous()).count();
            assert!(victim.is_anonymous() || anonymous == 0, "an authenticated session first");
            let candidates: Vec<&Session> = self
                .world
                .live()
                .map(|(_, session)| session)
                .filter(|session| session.is_anonymous() == victim.is_anonymous())
                .collect();
            if candidates.len() <= 32 && self.world.now < REACH {
                let oldest = candidates.iter().map(|session| session.seen_max).min();
                let oldest = oldest.unwrap_or(NEVER).saturating_add(RESOLUTION);
                assert!(victim.seen_min <= oldest, "not the least recently seen");
            }
            self.world.end(n, Reason::Evicted);
        }
    }
}

fn unknown(number: u64) -> SessionId {
    let mixed = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    format!("{mixed:032x}").parse().expect("32 digits are an id")
}

fn ev(event: Event<Attributes>) -> Ev {
    match event {
        Event::Created { id, owner } => Ev::Created { id, owner },
        Event::LoggedIn { id, owner } => Ev::LoggedIn { id, owner },
        Event::Rotated { old, new, renewed } => Ev::Rotated { old, new, renewed },
        Event::Ended { id, reason, session } => {
            assert_eq!(session.id(), id);
            Ev::Ended {
                id,
                reason,
                version: number_of(session.version()),
                owner: session.owner().unwrap_or_default().to_owned(),
                label: session.label().unwrap_or_default().to_owned(),
                data: data_of(&session.data().to_attributes()),
            }
        }
        Event::Suspicious { id, successor } => Ev::Suspicious { id, successor },
        other => panic!("an event that the model does not know: {other:?}"),
    }
}
