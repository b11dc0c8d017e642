//! Two stores on copies of the same files, one of which has read everything, while the other serves
//! from the file: whatever is asked of both is answered alike.

use std::fmt::Write as _;
use std::path::Path;

use cloakroom::{
    Attributes, Builder, CreateOptions, Except, Load, ManualClock, OwnerLimit, Reason, SessionId,
    Store,
};
use proptest::prelude::*;

use super::{data, load_all, small};
use crate::support::{Directory, listed, poll_once, seconds};

#[derive(Clone, Debug)]
enum Op {
    Create(Option<u8>),
    Read(usize),
    Peek(usize),
    Touch(usize),
    Update(usize),
    UpdateThatReads(usize, usize),
    ReplaceIf(usize),
    Rotate(usize),
    Renew(usize),
    Login(usize, u8),
    Bind(usize, u8),
    Label(usize),
    Timeouts(usize),
    End(usize),
    EndOwned(u8, usize),
    EndOwner(u8, Option<usize>),
    EndAll,
    Owner(u8),
    Info(usize),
    Watch(usize),
    List,
    Numbers,
    Snapshot,
    Advance(u64),
    /// Only in the store that serves from the file.
    Load(usize),
    /// Once all is in memory: before, what expired in the file is not there to be ended.
    Expire,
}

fn index() -> impl Strategy<Value = usize> {
    // The newest are asked for most.
    0..40_usize
}

fn op(with_load: bool) -> impl Strategy<Value = Op> {
    let owner = || 0..4_u8;
    let often = prop_oneof![
        4 => prop::option::of(owner()).prop_map(Op::Create),
        2 => index().prop_map(Op::Read),
        1 => index().prop_map(Op::Peek),
        2 => index().prop_map(Op::Touch),
        2 => index().prop_map(Op::Update),
        2 => (index(), index()).prop_map(|(a, b)| Op::UpdateThatReads(a, b)),
        1 => index().prop_map(Op::ReplaceIf),
        2 => index().prop_map(Op::Rotate),
        3 => index().prop_map(Op::Renew),
        2 => (index(), owner()).prop_map(|(id, owner)| Op::Login(id, owner)),
        1 => (index(), owner()).prop_map(|(id, owner)| Op::Bind(id, owner)),
    ];
    let seldom = prop_oneof![
        1 => index().prop_map(Op::Label),
        1 => index().prop_map(Op::Timeouts),
        3 => index().prop_map(Op::End),
        2 => (owner(), index()).prop_map(|(owner, id)| Op::EndOwned(owner, id)),
        1 => (owner(), prop::option::of(index())).prop_map(|(o, id)| Op::EndOwner(o, id)),
        2 => owner().prop_map(Op::Owner),
        2 => index().prop_map(Op::Info),
        1 => index().prop_map(Op::Watch),
        1 => Just(Op::Numbers),
        3 => prop_oneof![Just(1_u64), Just(6), Just(70)].prop_map(Op::Advance),
    ];
    let rare = prop_oneof![Just(Op::List), Just(Op::EndAll), Just(Op::Snapshot), Just(Op::Expire)];
    let load = if with_load { 3 } else { 0 };
    prop_oneof![
        20 => often,
        20 => seldom,
        1 => rare,
        load => (1..6_usize).prop_map(Op::Load),
    ]
}

/// A store with the sessions that it made, by number.
struct World {
    store: Store,
    ids: Vec<SessionId>,
    clock: ManualClock,
}

impl World {
    fn id(&self, index: usize) -> SessionId {
        let nobody = SessionId::from(uuid::Uuid::from_u128(index as u128));
        let count = self.ids.len();
        if index < count { self.ids[count - 1 - index] } else { nobody }
    }

    fn number(&self, id: SessionId) -> usize {
        self.ids.iter().rposition(|&other| other == id).unwrap_or(usize::MAX)
    }

    fn token(&mut self, made: cloakroom::Result<cloakroom::Token>) -> String {
        match made {
            Ok(token) => {
                self.ids.push(token.id());
                format!("token {}", self.ids.len())
            }
            Err(error) => format!("{error:?}"),
        }
    }

    fn describe(&self, info: &cloakroom::Info) -> String {
        let cloakroom::Info { owner, label, data_bytes, version, .. } = info;
        format!("{} {version} {owner:?} {label:?} {data_bytes}", self.number(info.id))
    }

    /// What a caller sees.
    #[allow(clippy::too_many_lines, reason = "one line for each call")]
    fn run(&mut self, op: &Op) -> String {
        let store = self.store.clone();
        let owner = |owner: &u8| format!("user{owner}");
        match op {
            Op::Create(of) => {
                let options = match of {
                    Some(of) => CreateOptions::new().owner(owner(of)),
                    None => CreateOptions::new(),
                };
                // Two at the same moment are in no order.
                self.clock.advance(std::time::Duration::from_millis(100));
                let made = store.create_with(data(self.ids.len() as i64), options);
                self.token(made)
            }
            Op::Read(id) => format!("{:?}", store.read(self.id(*id), |s| s.get_i64("n"))),
            Op::Peek(id) => format!("{:?}", store.peek(self.id(*id), |s| s.get_i64("n"))),
            Op::Touch(id) => format!("{:?}", store.touch(self.id(*id))),
            Op::Update(id) => format!("{:?}", store.update(self.id(*id), add)),
            Op::UpdateThatReads(id, other) => {
                let other = self.id(*other);
                let result = store.update(self.id(*id), |s| {
                    add(s);
                    store.read(other, |s| s.get_i64("n"))
                });
                format!("{result:?}")
            }
            Op::ReplaceIf(id) => {
                let id = self.id(*id);
                let seen = store.get(id);
                let written = seen.map(|seen| store.replace_if(id, seen.version(), data(5)));
                format!("{written:?}")
            }
            Op::Rotate(id) => {
                let made = store.rotate(self.id(*id));
                self.token(made)
            }
            Op::Renew(id) => {
                let made = store.renew(self.id(*id));
                self.token(made)
            }
            Op::Login(id, of) => {
                self.clock.advance(std::time::Duration::from_millis(100));
                let made = store.login(self.id(*id), &owner(of), "Firefox");
                self.token(made)
            }
            Op::Bind(id, of) => {
                self.clock.advance(std::time::Duration::from_millis(100));
                format!("{:?}", store.bind(self.id(*id), &owner(of)))
            }
            Op::Label(id) => format!("{:?}", store.set_label(self.id(*id), "Chrome")),
            Op::Timeouts(id) => {
                format!("{:?}", store.set_timeouts(self.id(*id), seconds(33), seconds(400)))
            }
            Op::End(id) => format!("{:?}", store.end(self.id(*id), Reason::LoggedOut)),
            Op::EndOwned(of, id) => {
                format!("{:?}", store.end_owned(&owner(of), self.id(*id), Reason::Revoked))
            }
            Op::EndOwner(of, except) => {
                let except = Except(except.map(|id| self.id(id)));
                format!("{:?}", store.end_owner(&owner(of), except, Reason::Revoked))
            }
            Op::EndAll => format!("{:?}", store.end_all(Reason::Revoked)),
            Op::Owner(of) => {
                let count = store.owner_count(&owner(of));
                let listed: Vec<_> = listed(&store, &owner(of));
                let numbers: Vec<_> = listed.into_iter().map(|id| self.number(id)).collect();
                format!("{count} {numbers:?}")
            }
            Op::Info(id) => {
                let id = self.id(*id);
                let info = store.info(id).map(|info| self.describe(&info));
                format!("{info:?} {:?}", store.owner(id))
            }
            Op::Watch(id) => format!("{:?}", poll_once(&mut store.watch(self.id(*id)))),
            Op::List => {
                let page = store.sessions(None, usize::MAX);
                let mut all: Vec<_> =
                    page.sessions.iter().map(|info| self.describe(info)).collect();
                all.sort_unstable();
                format!("{all:?}")
            }
            Op::Numbers => {
                let stats = store.stats();
                format!("{} {} {} {}", stats.live, stats.anonymous, stats.bytes, stats.suspicious)
            }
            Op::Snapshot => format!("{:?}", store.snapshot().map(|saved| saved.is_some())),
            Op::Advance(secs) => {
                self.clock.advance(seconds(*secs));
                String::new()
            }
            Op::Expire => {
                while store.load_some(100).unwrap() {}
                store.expire_due().to_string()
            }
            Op::Load(count) => {
                let _ = store.load_some(*count);
                String::new()
            }
        }
    }

    /// Everything that a caller can ask without changing anything.
    fn all(&mut self) -> String {
        let mut text = String::new();
        for index in 0..self.ids.len() {
            writeln!(
                text,
                "{index}: {} {}",
                self.run(&Op::Peek(index)),
                self.run(&Op::Info(index))
            )
            .unwrap();
        }
        for owner in 0..4 {
            writeln!(text, "{}", self.run(&Op::Owner(owner))).unwrap();
        }
        writeln!(text, "{}", self.run(&Op::Numbers)).unwrap();
        text
    }
}

fn add(s: &mut Attributes) -> i64 {
    let n = s.get_i64("n").unwrap_or(0) + 1;
    s.set("n", n);
    n
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// One clock each, which both are told the same.
fn options(clock: &ManualClock, limit: OwnerLimit) -> Builder<Attributes> {
    small()
        .clock(clock)
        .shards(4)
        .idle_timeout(seconds(100))
        .anonymous_idle_timeout(seconds(60))
        .lifetime(seconds(600))
        .grace(seconds(10))
        .remember_ended(seconds(20), 1000)
        .sessions_max(24)
        .anonymous_share(50)
        .sessions_per_owner(4, limit)
        .touch_granularity(std::time::Duration::from_millis(100))
}

fn check(
    history: &[Op],
    later: &[Vec<Op>],
    is_killed: bool,
    limit: OwnerLimit,
) -> Result<(), TestCaseError> {
    let directory = Directory::new(&format!("restart-same-{:?}", std::thread::current().id()));
    std::fs::create_dir(&directory.0).unwrap();
    let path = |name: &str| directory.0.join(name);
    let clock = ManualClock::new();
    let store = options(&clock, limit).open(path("first")).unwrap();
    let mut first = World { store, ids: Vec::new(), clock };
    for op in history {
        first.run(op);
    }
    let World { store, ids, clock } = first;
    let _still_open = if is_killed {
        Some(store)
    } else {
        store.close().unwrap();
        None
    };
    copy(&path("first"), &path("whole"));
    copy(&path("first"), &path("mapped"));
    let now = clock.now();
    let mut worlds = Vec::new();
    for name in ["whole", "mapped"] {
        let clock = ManualClock::new();
        clock.advance(now);
        let load = if name == "whole" { Load::Whole } else { Load::Mapped };
        let builder = options(&clock, limit).load(load).loader_thread(false);
        let store = builder.open(path(name)).unwrap();
        worlds.push(World { store, ids: ids.clone(), clock });
    }
    let [whole, mapped] = &mut worlds[..] else { unreachable!() };
    for (round, ops) in later.iter().enumerate() {
        if round > 0 {
            for (world, name) in [(&mut *whole, "whole"), (&mut *mapped, "mapped")] {
                let empty: Store = Store::builder().in_memory().unwrap();
                drop(std::mem::replace(&mut world.store, empty));
                let load = if name == "whole" { Load::Whole } else { Load::Mapped };
                let builder = options(&world.clock, limit).load(load).loader_thread(false);
                world.store = builder.open(path(name)).unwrap();
            }
        }
        for (number, op) in ops.iter().enumerate() {
            let (one, other) = (whole.run(op), mapped.run(op));
            prop_assert_eq!(one, other, "round {}, step {}: {:?}", round, number, op);
        }
    }
    prop_assert_eq!(whole.all(), mapped.all());
    load_all(&mapped.store);
    prop_assert_eq!(whole.store.expire_due(), mapped.store.expire_due());
    prop_assert_eq!(whole.all(), mapped.all());
    whole.store.validate();
    mapped.store.validate();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if crate::support::full() { 3000 } else { 40 },
        max_shrink_iters: 2000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn both_answer_alike(
        history in prop::collection::vec(op(false), 10..60),
        tail in prop::collection::vec(op(false), 0..12),
        later in prop::collection::vec(prop::collection::vec(op(true), 5..40), 1..3),
        is_killed: bool,
        refuses: bool,
    ) {
        let limit = if refuses { OwnerLimit::Refuse } else { OwnerLimit::EndOldest };
        let history = [history, vec![Op::Snapshot], tail].concat();
        check(&history, &later, is_killed, limit)?;
    }
}
