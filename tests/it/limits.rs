//! Limits: what is full refuses, leaves nothing behind, and a flood of strangers costs no member.

use std::sync::atomic::{AtomicUsize, Ordering};

use cloakroom::{
    Attributes, CreateOptions, Error, Limit, ManualClock, Missing, OwnerLimit, Reason, SessionId,
    Stats, Store, WhenFull,
};

use crate::support::{alone, full, owned_by, parallel, resident_bytes, seconds, store_with};

fn text(bytes: usize) -> Attributes {
    Attributes::from([("text", "x".repeat(bytes).into())])
}

/// What one session of this data costs, as the store counts it.
fn cost_of(data: Attributes, options: CreateOptions) -> u64 {
    let store = store_with(|b| b.shards(2));
    store.create_with(data, options).unwrap();
    store.stats().bytes
}

/// The numbers without those of lookups, which the checks themselves change.
fn numbers(store: &Store) -> Stats {
    let mut stats = store.stats();
    (stats.hits, stats.misses) = (0, 0);
    stats
}

fn limit_of<R: std::fmt::Debug>(result: Result<R, Error>) -> Limit {
    match result {
        Err(Error::Full(limit)) => limit,
        other => panic!("expected Full, got {other:?}"),
    }
}

// A count that is read and then raised lets threads past the limit together.
#[test]
fn sessions_max_is_exact_under_parallel_creates() {
    let store = store_with(|b| b.sessions_max(100).anonymous_share(100).shards(16));
    let made: usize =
        parallel(8, |_| (0..50).filter(|_| store.create(Attributes::new()).is_ok()).count())
            .iter()
            .sum();
    assert_eq!((made, store.stats().live), (100, 100));
    assert_eq!(limit_of(store.create(Attributes::new())), Limit::AnonymousSessions);
    assert_eq!(limit_of(store.create_with(text(1), owned_by("alice"))), Limit::Sessions);
    let id = store.sessions(None, 1).sessions[0].id;
    store.end(id, Reason::LoggedOut).unwrap();
    store.create(Attributes::new()).unwrap();
    store.validate();
}

// A budget that rounds, or forgets the owner and the label of a record, is off by some bytes.
// The limit is set to exactly ten sessions, then to one byte less.
#[test]
fn bytes_max_is_exact_to_the_byte() {
    let options = || owned_by("alice").label("x".repeat(300));
    let cost = cost_of(text(500), options());
    for (bytes_max, fits) in [(10 * cost, 10), (10 * cost - 1, 9), (11 * cost - 1, 10)] {
        let store = store_with(|b| b.bytes_max(bytes_max).record_bytes_max(2000).shards(16));
        let results: Vec<_> = (0..12).map(|_| store.create_with(text(500), options())).collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), fits);
        assert_eq!(store.stats().bytes, cost * fits as u64);
        for result in results.into_iter().skip(fits) {
            assert_eq!(limit_of(result), Limit::Bytes);
        }
        assert_eq!(store.end_all(Reason::Revoked).unwrap(), fits);
        assert_eq!(store.stats().bytes, 0);
        store.validate();
    }
}

// Writes that grow and shrink sessions, from several threads, must leave the sum exact; a limit
// that only creates look at is passed by updates.
#[test]
fn updates_are_within_bytes_max_and_leave_the_sum_exact() {
    let most = 64 * 1024;
    let store = store_with(|b| b.bytes_max(most).anonymous_share(100).shards(16));
    let ids: Vec<_> = (0..20).map(|_| store.create(text(10)).unwrap().id()).collect();
    parallel(3, |thread| {
        let mut refused = 0;
        for round in 0..2000 {
            let size = (round * 7919 + thread * 104_729) % 9000;
            match store.replace(ids[(round + thread) % ids.len()], text(size)) {
                Ok(_) => {}
                Err(Error::Full(Limit::AnonymousBytes | Limit::Bytes)) => refused += 1,
                Err(error) => panic!("{error}"),
            }
            assert!(store.stats().bytes <= most);
        }
        assert!(refused > 0, "the limit was never reached");
    });
    store.validate();
    assert_eq!(store.end_all(Reason::Revoked).unwrap(), 20);
    assert_eq!((store.stats().bytes, store.stats().live), (0, 0));
}

// Strangers must find their share full while members still come in.
#[test]
fn anonymous_sessions_have_their_share() {
    let store = store_with(|b| b.sessions_max(100));
    let made = (0..100).filter(|_| store.create(text(1)).is_ok()).count();
    assert_eq!(made, 25);
    assert_eq!(limit_of(store.create(text(1))), Limit::AnonymousSessions);
    let id = store.sessions(None, 1).sessions[0].id;
    store.login(id, "alice", "").unwrap();
    store.create(text(1)).unwrap();
    let made = (0..100).filter(|_| store.create_with(text(1), owned_by("bob")).is_ok()).count();
    assert_eq!(made, 74, "75, of which one is taken by the login");
    assert_eq!(limit_of(store.create_with(text(1), owned_by("bob"))), Limit::Sessions);
    let stats = store.stats();
    assert_eq!((stats.anonymous, stats.authenticated), (25, 75));

    let cost = cost_of(text(1), CreateOptions::new());
    let store = store_with(|b| b.bytes_max(400 * cost).record_bytes_max(1000));
    assert_eq!((0..400).filter(|_| store.create(text(1)).is_ok()).count(), 100);
    assert_eq!(limit_of(store.create(text(1))), Limit::AnonymousBytes);

    let store = store_with(|b| b.sessions_max(100).anonymous_share(0));
    assert_eq!(limit_of(store.create(text(1))), Limit::AnonymousSessions);
    store.create_with(text(1), owned_by("alice")).unwrap();
}

// A quarter of three sessions is none, and a quarter of a few bytes no record: a small store that
// rounds its share down refuses every visitor, without a word when it is built.
#[test]
fn the_share_of_a_small_store_has_room_for_one_visitor() {
    for (sessions_max, visitors) in [(1, 1), (2, 1), (3, 1), (4, 1), (7, 1), (8, 2)] {
        let store = store_with(|b| b.sessions_max(sessions_max));
        assert_eq!((0..10).filter(|_| store.create(text(1)).is_ok()).count(), visitors);
    }
    let cost = cost_of(text(16_000), CreateOptions::new().label("x".repeat(512)));
    for more in [0, 1, 10_000] {
        let store = store_with(|b| b.bytes_max(cost + more));
        store
            .create_with(text(16_000), CreateOptions::new().label("x".repeat(512)))
            .expect("the largest record");
        assert_eq!(store.stats().anonymous, 1);
        assert!(matches!(store.create(text(16_000)), Err(Error::Full(_))));
    }
    for bytes in [1, 100, 1000, 5000, 20_000, 130_000, 1 << 20] {
        let largest = || CreateOptions::new().label("x".repeat(512)).lifetime(seconds(77));
        let data = Attributes::from([("bytes", vec![7_u8; bytes].into())]);
        let data_bytes = {
            let store = store_with(|b| b.record_bytes_max(16 << 19));
            let id = store.create(data.clone()).unwrap().id();
            store.info(id).unwrap().data_bytes
        };
        let store =
            store_with(|b| b.record_bytes_max(data_bytes).bytes_max(3 * data_bytes as u64 + 3000));
        assert!(store.create_with(data, largest()).is_ok(), "{bytes} bytes");
    }
    let none = store_with(|b| b.sessions_max(3).anonymous_share(0));
    assert_eq!(limit_of(none.create(text(1))), Limit::AnonymousSessions);
}

// A login that is refused gives its anonymous session's room up for a moment, if the check is
// done by taking and giving back. A create that comes in between is then one too many. Three
// threads try such logins, two others create as soon as there is room.
#[test]
fn refused_logins_let_no_anonymous_session_past_its_share() {
    let store =
        store_with(|b| b.sessions_max(40).sessions_per_owner(1, OwnerLimit::Refuse).shards(16));
    store.create_with(text(1), owned_by("alice")).unwrap();
    let ids: Vec<_> = (0..10).map(|_| store.create(text(1)).unwrap().id()).collect();
    let done = AtomicUsize::new(0);
    parallel(5, |thread| {
        if thread < 3 {
            for round in 0..20_000 {
                let refused = store.login(ids[round % ids.len()], "alice", "");
                assert!(matches!(refused, Err(Error::OwnerFull { .. })));
            }
            done.fetch_add(1, Ordering::Relaxed);
        } else {
            while done.load(Ordering::Relaxed) < 3 {
                let _ = store.create(text(1));
            }
        }
    });
    assert_eq!(store.stats().anonymous, 10);
}

// A record over its limit must be refused by every way to write it, and the session be as it was.
#[test]
fn a_record_over_its_limit_is_refused_and_nothing_changes() {
    let bytes = {
        let store = store_with(|b| b);
        let id = store.create(text(1000)).unwrap().id();
        store.info(id).unwrap().data_bytes
    };
    let store = store_with(|b| b.record_bytes_max(bytes));
    let id = store.create(text(1000)).unwrap().id();
    let before = (numbers(&store), store.info(id).unwrap().version);
    let version = before.1;
    let results: Vec<(&str, Result<(), Error>)> = vec![
        ("create", store.create(text(1100)).map(drop)),
        ("create_with", store.create_with(text(1100), owned_by("alice")).map(drop)),
        ("update", store.update(id, |s| drop(s.set("text", "x".repeat(1100))))),
        ("replace", store.replace(id, text(1100)).map(drop)),
        ("replace_if", store.replace_if(id, version, text(1100)).map(drop)),
    ];
    for (name, result) in results {
        match result {
            Err(Error::TooLarge { bytes: refused, bytes_max }) => {
                assert!(refused > bytes_max && bytes_max == bytes, "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!((numbers(&store), store.info(id).unwrap().version), before);
    assert_eq!(store.get(id).unwrap().get_str("text").map(str::len), Some(1000));
    let default = store_with(|b| b);
    assert!(default.create(text(16 * 1024 - 200)).is_ok());
    assert!(matches!(default.create(text(16 * 1024 + 1)), Err(Error::TooLarge { .. })));
}

// A refused create or growth that keeps its room, its index entry or its event makes the store
// smaller with each refusal.
#[test]
fn full_leaves_nothing_behind() {
    let cost = cost_of(text(100), owned_by("alice"));
    let store = store_with(|b| b.bytes_max(4 * cost).record_bytes_max(4 * cost as usize));
    let ids: Vec<_> =
        (0..4).map(|_| store.create_with(text(100), owned_by("alice")).unwrap().id()).collect();
    let events = store.events();
    let before = numbers(&store);
    let infos: Vec<_> = ids.iter().map(|&id| store.info(id).unwrap()).collect();
    let tries: [&dyn Fn() -> Result<(), Error>; 7] = [
        &|| store.create(text(1)).map(drop),
        &|| store.create_with(text(100), owned_by("bob")).map(drop),
        &|| store.create_with(text(100), owned_by("alice")).map(drop),
        &|| store.update(ids[0], |s| drop(s.set("more", "y".repeat(60)))),
        &|| store.set_label(ids[1], &"z".repeat(400)),
        &|| store.login(ids[2], "alice", &"z".repeat(400)).map(drop),
        &|| store.replace(ids[3], text(200)).map(drop),
    ];
    for (index, attempt) in tries.iter().enumerate() {
        for _ in 0..10 {
            match attempt() {
                Err(Error::Full(_)) => {}
                other => panic!("try {index}: {other:?}"),
            }
        }
        assert_eq!(numbers(&store), before, "try {index}");
    }
    let now: Vec<_> = ids.iter().map(|&id| store.info(id).unwrap()).collect();
    for (old, new) in infos.iter().zip(&now) {
        assert_eq!((old.version, &old.owner, &old.label), (new.version, &new.owner, &new.label));
    }
    assert!(events.try_recv().is_none(), "a refusal is no event");
    assert_eq!((store.owner_count("alice"), store.owner_count("bob")), (4, 0));
    store.end(ids[0], Reason::LoggedOut).unwrap();
    store.create_with(text(100), owned_by("bob!!")).unwrap();
    store.validate();
}

// A login that its owner's limit refuses must leave the visitor with his session and his token.
#[test]
fn owner_full_leaves_the_visitor_as_he_was() {
    let store = store_with(|b| b.sessions_per_owner(1, OwnerLimit::Refuse));
    store.create_with(text(1), owned_by("alice")).unwrap();
    let visitor = store.create(text(7)).unwrap().id();
    let events = store.events();
    let before = numbers(&store);
    let results = [
        store.create_with(text(1), owned_by("alice")).map(drop),
        store.login(visitor, "alice", "phone").map(drop),
        store.bind(visitor, "alice"),
    ];
    for result in results {
        assert!(matches!(result, Err(Error::OwnerFull { sessions_max: 1 })), "{result:?}");
    }
    assert_eq!(numbers(&store), before);
    assert!(events.try_recv().is_none());
    let info = store.info(visitor).unwrap();
    assert_eq!((info.owner, info.label), (None, None));
    store.validate();
}

/// Ten thousand members, then strangers without end. Returns the members.
fn flood(when_full: WhenFull, creates: u64) -> (Store, Vec<SessionId>) {
    let cost = cost_of(text(200), CreateOptions::new());
    let bytes_max = 100_000 * cost;
    let clock = ManualClock::new();
    let store = store_with(|b| {
        b.bytes_max(bytes_max)
            .sessions_max(100_000)
            .when_full(when_full)
            .remember_ended(seconds(120), 10_000)
            .clock(&clock)
    });
    let member = |n: u32| store.create_with(text(200), owned_by(&n.to_string())).unwrap().id();
    let members: Vec<_> = (0..10_000).map(member).collect();
    // The members are those who were not seen for longest.
    clock.advance(seconds(60));
    let warm_up = creates / 2;
    let mut most = 0;
    let mut base = 0;
    let data = text(200);
    for count in 0..creates {
        match store.create(data.clone()) {
            Ok(_) => {}
            Err(Error::Full(_)) => assert_eq!(when_full, WhenFull::Refuse),
            Err(error) => panic!("{error}"),
        }
        if count == warm_up {
            base = resident_bytes();
        } else if count > warm_up && count % (creates / 100) == 0 {
            most = resident_bytes().max(most);
            assert!(store.stats().bytes <= bytes_max && store.stats().anonymous <= 25_000);
        }
    }
    let grown = most.saturating_sub(base);
    assert!(grown <= bytes_max / 10, "{grown} bytes more, from {base}");
    (store, members)
}

fn assert_unharmed(store: &Store, members: &[SessionId]) {
    assert_eq!(store.stats().authenticated, members.len() as u64);
    for id in members {
        assert!(store.peek(*id, |_| ()).is_ok());
    }
    assert_eq!(store.stats().anonymous, 25_000);
    store.validate();
}

// A flood of visitors without cookies grows memory without bound, or fills the store for those
// who log in. The whole flood runs against one store in a process of its own.
#[test]
fn a_flood_is_refused_in_flat_memory() {
    if alone("limits::a_flood_is_refused_in_flat_memory") {
        let (store, members) = flood(WhenFull::Refuse, if full() { 10_000_000 } else { 1_000_000 });
        assert_unharmed(&store, &members);
        assert_eq!(store.stats().evicted(), 0);
        store.create_with(text(200), owned_by("late")).unwrap();
    }
}

// The same with eviction: strangers push out strangers, and never a member, though the members
// were seen longest ago. (Without optimization each of these creates is slow: fewer of them.)
#[test]
fn a_flood_evicts_strangers_only_in_flat_memory() {
    if alone("limits::a_flood_evicts_strangers_only_in_flat_memory") {
        let creates = if full() { 10_000_000 } else { 70_000 };
        let (store, members) = flood(WhenFull::EvictLeastRecentlySeen, creates);
        assert_unharmed(&store, &members);
        assert_eq!(store.stats().evicted(), creates - 25_000);
    }
}

// A limit that is split among the shards forgets where one of them has its share, though there are
// fewer in all; and of a small number each shard remembers one. The newest so many are remembered,
// and those only, once the expiry has come by.
#[test]
fn the_newest_so_many_ends_are_remembered() {
    for remember_max in [1, 2, 100, 256, 1000, 4096] {
        let clock = ManualClock::new();
        let store = store_with(|b| {
            b.clock(&clock).remember_ended(seconds(120), remember_max).expiry_thread(false)
        });
        let end = |_| {
            let id = store.create(Attributes::new()).unwrap().id();
            store.end(id, Reason::LoggedOut).unwrap();
            id
        };
        let count = |ids: &[SessionId]| {
            ids.iter().filter(|&&id| store.touch(id) == Err(Missing::Unknown)).count()
        };
        let ids: Vec<_> = (0..remember_max).map(end).collect();
        assert_eq!(count(&ids), 0, "of {remember_max}, none too many");
        let more: Vec<_> = (0..2 * remember_max + 1).map(end).collect();
        assert_eq!(count(&more[remember_max + 1..]), 0, "of the newest {remember_max}");
        store.expire_due();
        assert_eq!(store.stats().remembered, remember_max as u64);
        assert_eq!(count(&ids) + count(&more), 2 * remember_max + 1);
        store.validate();
        clock.advance(seconds(121));
        store.expire_due();
        assert_eq!(store.stats().remembered, 0);
        store.validate();
    }
}
