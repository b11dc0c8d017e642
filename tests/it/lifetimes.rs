//! Lifetimes: a session is there until its deadline, to the tick, and never after it.

use std::time::Duration;

use cloakroom::{Attributes, CreateOptions, Error, ManualClock, Missing, Reason, SessionId, Store};

use crate::support::{Stopwatch, alone, full, listed, owned_by, parallel, seconds, store_with};

const TICK: Duration = Duration::from_millis(50);
const EXPIRED: Missing = Missing::Ended(Reason::Expired);

type Options = cloakroom::Builder<Attributes>;

/// A store that nothing sweeps: only the check of each lookup refuses what is due.
fn unswept(set: impl FnOnce(Options) -> Options) -> (Store, ManualClock) {
    let clock = ManualClock::new();
    (store_with(|b| set(b).clock(&clock).expiry_thread(false)), clock)
}

fn log_in(store: &Store) -> SessionId {
    store.create_with(Attributes::new(), owned_by("alice")).unwrap().id()
}

fn is_live(store: &Store, id: SessionId) -> bool {
    match store.peek(id, |_| ()) {
        Ok(()) => true,
        Err(missing) => {
            assert_eq!(missing, EXPIRED);
            false
        }
    }
}

/// Asserts that the session lives for just this long from now on, if nobody sees it.
fn assert_lives(store: &Store, clock: &ManualClock, id: SessionId, time: Duration) {
    clock.advance(time - TICK);
    assert!(is_live(store, id), "dead a tick before {time:?}");
    clock.advance(TICK - Duration::from_nanos(1));
    assert!(is_live(store, id), "dead a nanosecond before {time:?}");
    clock.advance(Duration::from_nanos(1));
    assert!(!is_live(store, id), "live after {time:?}");
}

// An expiry that is left to the sweeper is late by as much as the sweeper. With no sweeper at all,
// 29:59 is good and 30:00 is refused, by each way to look or write.
#[test]
fn at_the_deadline_every_call_is_refused_with_nothing_swept() {
    let (store, clock) = unswept(|b| b);
    let id = log_in(&store);
    clock.advance(seconds(29 * 60 + 59));
    assert!(is_live(&store, id));
    assert_eq!(store.owner_count("alice"), 1);
    clock.advance(seconds(1));
    assert_eq!(store.read(id, |_| ()), Err(EXPIRED));
    assert_eq!(store.touch(id), Err(EXPIRED));
    assert!(matches!(store.get(id), Err(EXPIRED)));
    assert!(matches!(store.info(id), Err(EXPIRED)));
    let refused = |result: Result<(), Error>| matches!(result, Err(Error::Missing(EXPIRED)));
    assert!(refused(store.update(id, |_| ())));
    assert!(refused(store.replace(id, Attributes::new()).map(drop)));
    assert!(refused(store.rotate(id).map(drop)));
    assert!(refused(store.renew(id).map(drop)));
    assert!(refused(store.bind(id, "alice")));
    assert!(refused(store.reauthenticated(id)));
    assert!(refused(store.set_timeouts(id, Duration::MAX, Duration::MAX)));
    assert!(refused(store.end(id, Reason::LoggedOut)));
    assert!(store.owner_sessions("alice").is_empty() && store.owner_count("alice") == 0);
    assert!(store.sessions(None, 10).sessions.is_empty());
    assert_eq!(store.stats().live, 1, "nothing was swept");
    store.expire_due();
    clock.advance(2 * TICK);
    store.expire_due();
    assert_eq!((store.stats().live, store.stats().ended_by(Reason::Expired)), (0, 1));
    assert_eq!(store.read(id, |_| ()), Err(EXPIRED));
    store.validate();
}

// The two deadlines: activity moves the idle one only, and never beyond the lifetime.
/// The closure of an update takes until after the deadline: meanwhile others were told that the
/// session has expired, and its owner may have logged in anew within his limit.
#[test]
fn an_update_across_the_deadline_brings_nothing_back() {
    let (store, clock) = unswept(|b| b.idle_timeout(Duration::from_secs(60)));
    let id = log_in(&store);
    clock.advance(Duration::from_secs(59));
    let updated = store.update(id, |s| {
        clock.advance(Duration::from_secs(2));
        assert_eq!(store.peek(id, |_| ()), Err(EXPIRED));
        s.set("late", true);
    });
    assert!(matches!(updated, Err(Error::Missing(EXPIRED))), "{updated:?}");
    assert!(!is_live(&store, id));
}

#[test]
fn activity_restarts_the_idle_time_but_not_the_lifetime() {
    let (store, clock) = unswept(|b| b.idle_timeout(seconds(600)).lifetime(seconds(3600)));
    let id = log_in(&store);
    for minute in 0..59 {
        clock.advance(seconds(60));
        match minute % 4 {
            0 => store.read(id, |_| ()).unwrap(),
            1 => drop(store.get(id).unwrap()),
            2 => store.update(id, |_| ()).unwrap(),
            _ => store.touch(id).unwrap(),
        }
    }
    assert_lives(&store, &clock, id, seconds(60));
    let id = log_in(&store);
    assert_lives(&store, &clock, id, seconds(600));
}

// Who proves again who he is gets both anew; without that a session would end in the middle of
// the work of somebody who has just given his password.
#[test]
fn reauthentication_restarts_both() {
    let (store, clock) = unswept(|b| b.idle_timeout(seconds(600)).lifetime(seconds(900)));
    let id = log_in(&store);
    clock.advance(seconds(599));
    store.touch(id).unwrap();
    clock.advance(seconds(300));
    store.reauthenticated(id).unwrap();
    let info = store.info(id).unwrap();
    assert_eq!((info.age, info.idle), (seconds(899), Duration::ZERO));
    assert_eq!(info.authenticated.duration_since(info.created).unwrap(), seconds(899));
    clock.advance(seconds(599));
    store.touch(id).unwrap();
    assert_lives(&store, &clock, id, seconds(301));
    // So do a login and a binding.
    let visitor = store.create(Attributes::new()).unwrap().id();
    clock.advance(seconds(500));
    let id = store.login(visitor, "alice", "").unwrap().id();
    assert_lives(&store, &clock, id, seconds(600));
}

// A lookup for a list or by an administrator must not keep a session alive.
#[test]
fn looking_is_no_activity() {
    let (store, clock) = unswept(|b| b.idle_timeout(seconds(600)));
    let id = log_in(&store);
    for _ in 0..10 {
        clock.advance(seconds(59));
        store.peek(id, |_| ()).unwrap();
        store.info(id).unwrap();
        assert_eq!(listed(&store, "alice"), [id]);
        assert_eq!(store.sessions(None, 10).sessions.len(), 1);
        drop(store.watch(id));
        store.stats();
        store.expire_due();
    }
    assert_eq!(store.info(id).unwrap().idle, seconds(590));
    assert_lives(&store, &clock, id, seconds(10));
}

// Visitors have a shorter idle time, and lose it with the login.
#[test]
fn anonymous_sessions_have_their_own_idle_time() {
    let (store, clock) = unswept(|b| b);
    let id = store.create(Attributes::new()).unwrap().id();
    assert_lives(&store, &clock, id, seconds(600));
    let id = store.create(Attributes::new()).unwrap().id();
    store.bind(id, "alice").unwrap();
    assert_lives(&store, &clock, id, seconds(1800));
    let (store, clock) = unswept(|b| b.idle_timeout(seconds(60)));
    let id = store.create(Attributes::new()).unwrap().id();
    assert_lives(&store, &clock, id, seconds(60));
}

// "Remember me" beside a bank: each session its own timeouts, more kinds than a byte can number,
// shortened and lengthened; a shortening that the wheel does not hear of leaves the memory behind.
#[test]
fn each_session_may_have_its_own_timeouts() {
    let (store, clock) = unswept(|b| b);
    let options = |idle| owned_by("alice").idle_timeout(seconds(idle)).lifetime(seconds(9000));
    let ids: Vec<_> = (1..=300)
        .map(|idle| store.create_with(Attributes::new(), options(idle)).unwrap().id())
        .collect();
    for passed in 1..=300 {
        clock.advance(seconds(1));
        let live = ids.iter().filter(|&&id| is_live(&store, id)).count();
        assert_eq!(live, 300 - passed);
    }
    let id = log_in(&store);
    store.set_timeouts(id, seconds(7200), seconds(7200)).unwrap();
    clock.advance(seconds(3600));
    assert!(is_live(&store, id));
    store.set_timeouts(id, seconds(5), seconds(7200)).unwrap();
    assert_lives(&store, &clock, id, seconds(5));
    let id = log_in(&store);
    clock.advance(seconds(100));
    store.set_timeouts(id, seconds(50), seconds(100)).unwrap();
    assert!(!is_live(&store, id), "the lifetime counts from the creation");
    for _ in 0..3 {
        store.expire_due();
        clock.advance(2 * TICK);
    }
    assert_eq!((store.stats().live, store.stats().wheel_nodes), (0, 0));
    store.validate();
}

// A store that has met 255 pairs of timeouts keeps further ones in the records. One that takes them
// for touched once a second, although they are idle sooner, takes the change itself for a touch of
// later than now, and lets the session live on by the difference.
#[test]
fn timeouts_beyond_the_255th_pair_are_as_exact() {
    let (store, clock) = unswept(|b| b);
    let options = |idle| owned_by("alice").idle_timeout(seconds(idle));
    for idle in 1000..1300 {
        store.create_with(Attributes::new(), options(idle)).unwrap();
    }
    for idle in [0, 1, 2, 4, 8, 15, 19, 20, 21, 40].map(|ticks| ticks * TICK) {
        let id = log_in(&store);
        store.set_timeouts(id, idle, seconds(3600)).unwrap();
        if !idle.is_zero() {
            clock.advance(idle - TICK);
            assert!(is_live(&store, id), "dead before {idle:?}");
            store.update(id, |_| ()).unwrap();
            clock.advance(idle);
        }
        assert!(!is_live(&store, id), "alive after {idle:?}");
    }
    let id = log_in(&store);
    store.set_timeouts(id, seconds(6400), seconds(9000)).unwrap();
    clock.advance(seconds(50));
    store.touch(id).unwrap();
    assert_eq!(store.info(id).unwrap().idle, seconds(50), "a 64th of the timeout is not over");
    store.validate();
}

// Durations at the ends of the scale must neither wrap nor panic.
#[test]
fn zero_one_nanosecond_and_for_ever_are_defined() {
    for short in [Duration::ZERO, Duration::from_nanos(1), TICK - Duration::from_nanos(1)] {
        let (store, clock) = unswept(|b| b.idle_timeout(short));
        let id = log_in(&store);
        assert!(!is_live(&store, id), "{short:?}");
        let options = CreateOptions::new().idle_timeout(Duration::MAX).lifetime(short);
        let id = store.create_with(Attributes::new(), options).unwrap().id();
        assert!(!is_live(&store, id), "{short:?}");
        for _ in 0..3 {
            store.expire_due();
            clock.advance(2 * TICK);
        }
        assert_eq!(store.stats().live, 0);
        store.validate();
    }
    let (store, clock) = unswept(|b| b.idle_timeout(Duration::MAX).lifetime(Duration::MAX));
    let id = log_in(&store);
    assert_eq!((store.info(id).unwrap().expires, store.stats().wheel_nodes), (None, 0));
    for years in [1, 5, 20, 600] {
        clock.advance(seconds(years * 31_557_600));
        store.expire_due();
        assert!(is_live(&store, id), "{years} years on");
        store.touch(id).unwrap();
        store.update(id, |_| ()).unwrap();
    }
    store.set_timeouts(id, seconds(60), seconds(60)).unwrap();
    assert!(!is_live(&store, id), "the clock's end is the end of every finite time");
}

// The presets are promised to be those of NIST SP 800-63B-4, section 2: 30 days; 24 hours with
// one hour of inactivity; 12 hours with 15 minutes.
#[test]
fn presets_are_those_of_nist() {
    type Preset = fn(Options) -> Options;
    let presets: [(Preset, Option<u64>, u64); 3] = [
        (Options::aal1, None, 30 * 24 * 3600),
        (Options::aal2, Some(3600), 24 * 3600),
        (Options::aal3, Some(15 * 60), 12 * 3600),
    ];
    for (preset, idle, lifetime) in presets {
        let (store, clock) = unswept(preset);
        let id = log_in(&store);
        if let Some(idle) = idle {
            let other = log_in(&store);
            clock.advance(seconds(idle - 1));
            assert!(is_live(&store, other));
            store.touch(id).unwrap();
            clock.advance(seconds(1));
            assert!(!is_live(&store, other));
            for _ in 1..lifetime / (idle - 1) {
                clock.advance(seconds(idle - 1) - seconds(1));
                store.touch(id).unwrap();
            }
        }
        let left = store.info(id).unwrap();
        assert_lives(&store, &clock, id, seconds(lifetime) - left.age);
    }
}

// A touch that comes late must not set the time back: several threads touch and write while the
// clock moves, and what is seen may only grow. A clock that stands still moves nothing.
#[test]
fn last_seen_never_goes_back() {
    let (store, clock) = unswept(|b| b);
    let id = log_in(&store);
    let before = store.info(id).unwrap();
    for _ in 0..100 {
        store.touch(id).unwrap();
        store.read(id, |_| ()).unwrap();
    }
    assert_eq!(store.info(id).unwrap(), before);
    parallel(3, |thread| {
        let mut last = before.last_seen;
        for round in 0..3000 {
            match thread {
                0 => clock.advance(Duration::from_millis(400)),
                1 => store.touch(id).unwrap(),
                _ if round % 2 == 0 => store.update(id, |_| ()).unwrap(),
                _ => store.touch(id).unwrap(),
            }
            let seen = store.info(id).unwrap().last_seen;
            assert!(seen >= last, "last seen went back");
            last = seen;
        }
    });
    store.validate();
}

// A touch is stored once per granularity: early by that much at most, and never late.
#[test]
fn a_session_expires_early_by_at_most_the_granularity() {
    let cases =
        [(1_000, 100), (4_000, 500), (30_000, 1_000), (64_000, 1_000), (6_400_000, 100_000)];
    for (idle, granularity) in cases {
        let (idle, granularity) = (Duration::from_millis(idle), Duration::from_millis(granularity));
        let (store, clock) = unswept(|b| b.idle_timeout(idle));
        let id = log_in(&store);
        clock.advance(granularity - TICK);
        store.touch(id).unwrap();
        assert_eq!(store.info(id).unwrap().idle, granularity - TICK, "not stored");
        clock.advance(TICK);
        store.touch(id).unwrap();
        assert_eq!(store.info(id).unwrap().idle, Duration::ZERO, "stored");
        assert_lives(&store, &clock, id, idle);
    }
}

// With short timeouts, a touch that is not stored is most of the idle time: a session that is in
// use all the time then expires. Also where each session has timeouts of its own, more than the
// store numbers.
#[test]
fn a_session_in_use_lives_on_however_short_its_idle_timeout_is() {
    for idle in [200, 500, 1000, 2000, 8000].map(Duration::from_millis) {
        let (store, clock) = unswept(|b| b.idle_timeout(idle));
        let default = log_in(&store);
        let ids: Vec<_> = (0..300)
            .map(|n| {
                let options = owned_by("alice").idle_timeout(idle).lifetime(seconds(9000 + n));
                store.create_with(Attributes::new(), options).unwrap().id()
            })
            .chain([default])
            .collect();
        for _ in 0..50 {
            clock.advance(idle * 6 / 10);
            for &id in &ids {
                assert_eq!(store.touch(id), Ok(()), "seen {:?} ago", idle * 6 / 10);
            }
        }
        clock.advance(idle);
        assert!(ids.iter().all(|&id| !is_live(&store, id)));
        store.validate();
    }
}

// A touch at the last moment races with the expiry: alive with a new deadline, or gone with one
// event; never a touch that succeeded and a session that is gone.
#[test]
fn a_touch_races_with_the_expiry() {
    for _ in 0..200 {
        let (store, clock) = unswept(|b| b.idle_timeout(seconds(10)).shards(2));
        let ids: Vec<_> = (0..10)
            .map(|n| {
                if n % 2 == 0 {
                    log_in(&store)
                } else {
                    store.create(Attributes::new()).unwrap().id()
                }
            })
            .collect();
        clock.advance(seconds(10) - TICK);
        let results = parallel(2, |thread| {
            if thread == 0 {
                clock.advance(TICK);
                store.expire_due();
                return Vec::new();
            }
            ids.iter().map(|&id| store.touch(id).is_ok()).collect()
        });
        for (&id, &touched) in ids.iter().zip(&results[1]) {
            assert_eq!(is_live(&store, id), touched);
        }
        clock.advance(2 * TICK);
        store.expire_due();
        let live = results[1].iter().filter(|&&touched| touched).count() as u64;
        assert_eq!(store.stats().live, live);
        assert_eq!(store.stats().ended_by(Reason::Expired), 10 - live);
        store.validate();
    }
}

// Memory is promised back within two ticks of 100 ms after the deadline, by the real clock and
// the store's own thread. (Twice as long as promised is allowed for a busy machine.)
#[test]
fn the_memory_of_an_expired_session_is_given_back_soon() {
    let store = store_with(|b| b.idle_timeout(Duration::from_millis(300)));
    let events = store.events();
    let watch = Stopwatch::start();
    let ids: Vec<_> = (0..100).map(|_| log_in(&store)).collect();
    assert!(is_live(&store, ids[0]));
    while store.stats().live > 0 {
        assert!(watch.elapsed() < Duration::from_millis(1000), "still there");
        std::thread::sleep(Duration::from_millis(5));
    }
    let elapsed = watch.elapsed();
    assert!(elapsed >= Duration::from_millis(200), "a tick early at most: {elapsed:?}");
    assert!(elapsed < Duration::from_millis(700), "late: {elapsed:?}");
    assert_eq!(store.stats().bytes, 0);
    let ends = std::iter::from_fn(|| events.try_recv()).skip(100).count();
    assert_eq!(ends, 100);
}

// One timer per touch, of which all but the last are orphans, is how servers run out of memory.
// A thousand sessions are touched a million times, each time late enough to be stored.
#[test]
fn touches_leave_nothing_behind() {
    if !alone("lifetimes::touches_leave_nothing_behind") {
        return;
    }
    let (store, clock) = unswept(|b| b.lifetime(Duration::MAX));
    let ids: Vec<_> = (0..1000).map(|_| log_in(&store)).collect();
    let rounds = if full() { 100_000 } else { 1000 };
    let mut before = store.stats();
    for round in 0..rounds {
        clock.advance(seconds(29));
        for &id in &ids {
            store.touch(id).unwrap();
        }
        if round % 50 == 0 {
            store.expire_due();
        }
        if round == 60 {
            before = store.stats();
        }
    }
    let after = store.stats();
    assert_eq!((after.wheel_nodes, after.live), (1000, 1000));
    assert_eq!(after.mapped_bytes, before.mapped_bytes);
    assert!(after.overhead_bytes <= before.overhead_bytes);
    assert_eq!(store.info(ids[0]).unwrap().idle, Duration::ZERO);
    store.validate();
}

// A wheel that is turned far at once must not lose a session of a higher level, nor expire one
// that is not due: times around the borders of its levels, in one step or in many.
#[test]
fn far_steps_of_the_clock_expire_all_that_is_due_and_no_more() {
    for step in [seconds(1), seconds(63), seconds(3600), seconds(400 * 86_400)] {
        let (store, clock) = unswept(|b| b);
        let mut made = Vec::new();
        for power in 0..24 {
            for off in [-1, 0, 1] {
                let ticks = (1_i64 << power) + off;
                let idle = TICK * u32::try_from(ticks).unwrap();
                let options = owned_by("alice").idle_timeout(idle).lifetime(Duration::MAX);
                made.push((idle, store.create_with(Attributes::new(), options).unwrap().id()));
            }
        }
        for _ in 0..200 {
            clock.advance(step);
            store.expire_due();
            store.expire_due();
            for &(idle, id) in &made {
                let live = store.owner_sessions("alice").iter().any(|info| info.id == id);
                assert_eq!(live, clock.now() < idle, "{idle:?} at {:?}", clock.now());
            }
            made.retain(|&(idle, _)| clock.now() < idle);
            clock.advance(2 * TICK);
            store.expire_due();
            made.retain(|&(idle, _)| clock.now() < idle);
            assert_eq!(store.stats().live, made.len() as u64);
            if made.is_empty() {
                break;
            }
        }
        store.validate();
    }
}
