//! Owners: limit, list, count and "log out everywhere else" are each one atomic step.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloakroom::{
    Attributes, Error, Event, Except, ManualClock, Missing, OwnerLimit, Reason, SessionId, Store,
    WhenFull,
};

use crate::support::{
    Stopwatch, full, listed, no_hang, owned_by, parallel, seconds, store_with, within,
};

/// Logs in one of the three ways that there are.
fn log_in(store: &Store, way: usize) -> Result<SessionId, Error> {
    if way.is_multiple_of(3) {
        return Ok(store.create_with(Attributes::new(), owned_by("alice"))?.id());
    }
    let id = store.create(Attributes::new())?.id();
    if way % 3 == 1 {
        return Ok(store.login(id, "alice", "phone")?.id());
    }
    store.bind(id, "alice")?;
    Ok(id)
}

// Who is logged in has to be known on each request: nobody before the login, the user after it in
// each of the three ways, by both tokens of a renewed session, and no name once it ended. To ask
// is not activity.
#[test]
fn the_owner_is_who_is_logged_in() {
    let clock = ManualClock::new();
    let store = store_with(|b| b.clock(&clock).expiry_thread(false).idle_timeout(seconds(600)));
    let visitor = store.create(Attributes::new()).unwrap().id();
    assert_eq!(store.owner(visitor), Ok(None));
    for way in 0..3 {
        let id = log_in(&store, way).unwrap();
        assert_eq!(store.owner(id), Ok(Some("alice".to_owned())), "way {way}");
        let renewed = store.renew(id).unwrap().id();
        assert_eq!(store.owner(id), store.owner(renewed));
        store.end(renewed, Reason::LoggedOut).unwrap();
        assert_eq!(store.owner(renewed), Err(Missing::Ended(Reason::LoggedOut)));
    }
    let id = log_in(&store, 0).unwrap();
    clock.advance(seconds(599));
    assert!(store.owner(id).is_ok());
    clock.advance(seconds(1));
    assert_eq!(store.owner(id), Err(Missing::Ended(Reason::Expired)), "asking kept it alive");
}

// A limit that is checked before the login, not with it, lets two logins in for the last place.
// 100 threads log in at once, in all three ways; exactly three may come in.
#[test]
fn refuse_lets_exactly_three_of_100_logins_in() {
    for round in 0..10 {
        let store = store_with(|b| b.sessions_per_owner(3, OwnerLimit::Refuse));
        let results = parallel(100, |index| log_in(&store, index));
        let mut inside: Vec<_> = results.iter().filter_map(|r| r.as_ref().ok().copied()).collect();
        for result in &results {
            assert!(matches!(result, Ok(_) | Err(Error::OwnerFull { sessions_max: 3 })));
        }
        assert_eq!(inside.len(), 3, "round {round}");
        let mut listed = listed(&store, "alice");
        inside.sort();
        listed.sort();
        assert_eq!(listed, inside);
        assert_eq!((store.owner_count("alice"), store.stats().authenticated), (3, 3));
        store.validate();
    }
}

// Two logins that end the same oldest session leave four, or two that end one each leave two.
// 100 threads log in at once; every one comes in, three are left, the others say why.
#[test]
fn end_oldest_keeps_exactly_three_of_100_logins() {
    for round in 0..10 {
        let store = store_with(|b| b.sessions_per_owner(3, OwnerLimit::EndOldest));
        let ids = parallel(100, |index| log_in(&store, index).unwrap());
        let live: HashSet<_> =
            ids.iter().copied().filter(|&id| store.peek(id, |_| ()).is_ok()).collect();
        assert_eq!(live.len(), 3, "round {round}");
        assert_eq!(live, listed(&store, "alice").into_iter().collect::<HashSet<_>>());
        for id in ids.iter().filter(|id| !live.contains(id)) {
            assert_eq!(store.peek(*id, |_| ()), Err(Missing::Ended(Reason::Revoked)));
        }
        assert_eq!((store.owner_count("alice"), store.stats().authenticated), (3, 3));
        assert_eq!(store.stats().ended_by(Reason::Revoked), 97);
        store.validate();
    }
}

// "Oldest" means first logged in: not the least recently used, not an arbitrary one.
#[test]
fn end_oldest_ends_the_oldest() {
    let clock = ManualClock::new();
    let store = store_with(|b| b.sessions_per_owner(3, OwnerLimit::EndOldest).clock(&clock));
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(store.create_with(Attributes::new(), owned_by("alice")).unwrap().id());
        clock.advance(seconds(2));
        store.touch(ids[0]).ok();
        assert_eq!(listed(&store, "alice"), ids[ids.len().saturating_sub(3)..]);
    }
}

// The limit counts the owner's live sessions without a lock on them. A session that is being
// written at that moment is found in its old record, and must count all the same. Two threads
// write the owner's two sessions without a pause while a third one tries to bind a session.
#[test]
fn a_session_that_is_being_written_counts_for_the_limit() {
    let store = store_with(|b| b.sessions_per_owner(2, OwnerLimit::Refuse));
    let ids = [0, 1].map(|_| store.create_with(Attributes::new(), owned_by("alice")).unwrap().id());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for id in ids {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    store.replace(id, Attributes::new()).unwrap();
                }
            });
        }
        let visitor = store.create(Attributes::new()).unwrap().id();
        let refused = (0..100_000).take_while(|_| store.bind(visitor, "alice").is_err()).count();
        done.store(true, Ordering::Relaxed);
        assert_eq!(refused, 100_000, "then a third session was let in");
    });
}

// A login that slips in between the list and the ends of `end_owner` is fine if it came after it;
// one that was there before must be gone. Nothing may be counted twice or be left half there.
#[test]
fn end_owner_races_with_logins() {
    for _ in 0..50 {
        let store = store_with(|b| b.shards(16));
        let before: Vec<_> = (0..5).map(|_| log_in(&store, 0).unwrap()).collect();
        let ended = AtomicUsize::new(0);
        let made = Mutex::new(Vec::new());
        parallel(4, |index| {
            if index == 0 {
                let count = store.end_owner("alice", Except(None), Reason::Revoked).unwrap();
                ended.store(count, Ordering::Relaxed);
                for id in &before {
                    assert_eq!(store.peek(*id, |_| ()), Err(Missing::Ended(Reason::Revoked)));
                }
            } else {
                for way in 0..6 {
                    match log_in(&store, way) {
                        Ok(id) => made.lock().unwrap().push(id),
                        // Ended between the binding and the next step of the login.
                        Err(error) => assert!(matches!(error, Error::Missing(_)), "{error}"),
                    }
                }
            }
        });
        let made = made.into_inner().unwrap();
        let live: HashSet<_> =
            made.iter().copied().filter(|&id| store.peek(id, |_| ()).is_ok()).collect();
        assert_eq!(live, listed(&store, "alice").into_iter().collect::<HashSet<_>>());
        assert_eq!(made.len() + before.len(), live.len() + ended.into_inner());
        store.validate();
    }
}

// Expiry and `end_owner` both want to end the same sessions: each must end once, with one event.
#[test]
fn end_owner_races_with_expiry() {
    for _ in 0..50 {
        let clock = ManualClock::new();
        let store = store_with(|b| {
            b.idle_timeout(seconds(10)).clock(&clock).expiry_thread(false).shards(16)
        });
        let events = store.events();
        for _ in 0..20 {
            log_in(&store, 0).unwrap();
        }
        let expired = AtomicUsize::new(0);
        let revoked = AtomicUsize::new(0);
        parallel(2, |index| {
            if index == 0 {
                clock.advance(seconds(10));
                for _ in 0..3 {
                    expired.fetch_add(store.expire_due(), Ordering::Relaxed);
                }
            } else {
                let count = store.end_owner("alice", Except(None), Reason::Revoked).unwrap();
                revoked.fetch_add(count, Ordering::Relaxed);
            }
        });
        clock.advance(seconds(1));
        let expired = expired.into_inner() + store.expire_due();
        assert_eq!(expired + revoked.into_inner(), 20);
        let ends = std::iter::from_fn(|| events.try_recv());
        let ids: Vec<_> = ends
            .filter_map(|e| if let Event::Ended { id, .. } = e { Some(id) } else { None })
            .collect();
        assert_eq!(ids.len(), 20);
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 20);
        assert_eq!((store.owner_count("alice"), store.stats().owners), (0, 0));
        store.validate();
    }
}

// "Log out everywhere else" that spares too much, or ends the caller's own session.
#[test]
fn all_but_one_spares_just_that_one() {
    let store = store_with(|b| b);
    let bob = store.create_with(Attributes::new(), owned_by("bob")).unwrap().id();
    for count in 1..6 {
        let ids: Vec<_> = (0..count).map(|way| log_in(&store, way).unwrap()).collect();
        let kept = ids[count / 2];
        let ended = store.end_owner("alice", Except(Some(kept)), Reason::LoggedOut).unwrap();
        assert_eq!(ended, count - 1);
        assert_eq!(listed(&store, "alice"), [kept]);
        // A session of somebody else spares nothing, and is not touched.
        assert_eq!(store.end_owner("alice", Except(Some(bob)), Reason::LoggedOut).unwrap(), 1);
        assert!(store.peek(bob, |_| ()).is_ok());
        assert_eq!(store.end_owner("alice", Except(None), Reason::LoggedOut).unwrap(), 0);
    }
    assert_eq!(store.end_owner("", Except(None), Reason::LoggedOut).unwrap(), 0);
    store.validate();
}

// An index that is brought up to date after the sessions lists one that ended, or misses one that
// lives. Threads log in, rotate and log out; what they know for sure is compared with listings
// taken meanwhile: gone before the list began, or live from before it began till after it.
#[test]
fn the_index_never_lists_an_ended_session_nor_misses_a_live_one() {
    let store = store_with(|b| b.shards(16));
    let live = Mutex::new(HashSet::new());
    let ended = Mutex::new(HashSet::new());
    let done = AtomicUsize::new(0);
    let (set, unset) =
        (|id| live.lock().unwrap().insert(id), |id| live.lock().unwrap().remove(&id));
    parallel(3, |index| {
        if index > 0 {
            for round in 0..2000 {
                let mut id = log_in(&store, round).unwrap();
                set(id);
                if round % 2 == 0 {
                    unset(id);
                    let new = store.rotate(id).unwrap().id();
                    let old = std::mem::replace(&mut id, new);
                    ended.lock().unwrap().insert(old);
                    set(id);
                }
                unset(id);
                store.end(id, Reason::LoggedOut).unwrap();
                ended.lock().unwrap().insert(id);
            }
            done.fetch_add(1, Ordering::Release);
            return;
        }
        while done.load(Ordering::Acquire) < 2 {
            let (gone, before) = (ended.lock().unwrap().clone(), live.lock().unwrap().clone());
            let listed: HashSet<_> = listed(&store, "alice").into_iter().collect();
            let count = store.owner_count("alice");
            let after = live.lock().unwrap().clone();
            assert!(listed.is_disjoint(&gone), "an ended session is listed");
            for id in before.intersection(&after) {
                assert!(listed.contains(id), "a live session is not listed");
                assert!(count >= 1);
            }
            let now_ended = ended.lock().unwrap().clone();
            for id in listed.intersection(&after).filter(|id| !now_ended.contains(id)) {
                assert!(store.info(*id).is_ok() || !live.lock().unwrap().contains(id));
            }
        }
    });
    assert_eq!((store.owner_count("alice"), store.stats().owners), (0, 0));
    store.validate();
}

// Session fixation: the token from before the login must be dead the moment the login returns,
// also for a thread that reads it without a pause. It may only ever say "rotated" afterwards.
#[test]
fn a_login_kills_the_old_token_at_once_for_every_thread() {
    for _ in 0..200 {
        let store = store_with(|b| b.shards(2));
        let old = store.create(Attributes::from([("cart", 3.into())])).unwrap().id();
        let returned = AtomicBool::new(false);
        parallel(2, |index| {
            if index == 0 {
                let new = store.login(old, "alice", "phone").unwrap().id();
                returned.store(true, Ordering::Release);
                assert_eq!(store.get(new).unwrap().get_i64("cart"), Some(3));
                assert_eq!(store.info(new).unwrap().owner.as_deref(), Some("alice"));
                return;
            }
            let mut dead = false;
            while !dead {
                let must_be_dead = returned.load(Ordering::Acquire);
                match store.read(old, |_| ()) {
                    Ok(()) => assert!(!must_be_dead, "the old token is good after the login"),
                    Err(missing) => {
                        assert_eq!(missing, Missing::Ended(Reason::Rotated));
                        dead = true;
                    }
                }
            }
            assert!(store.read(old, |_| ()).is_err() && store.touch(old).is_err());
            assert!(store.replace(old, Attributes::new()).is_err());
        });
    }
}

// A session that gets another id while `end_all` runs may have gone where it looked before, so it
// looks again. If the logins of others count for that too, it goes on for as long as anybody logs
// in. The table is made large, so that there is a login in each pass.
#[test]
fn end_all_returns_while_others_log_in() {
    let store = store_with(|b| b.shards(16));
    store.reserve(1_000_000, 16).unwrap();
    let before: Vec<_> = (0..100).map(|way| log_in(&store, way).unwrap()).collect();
    let done = Arc::new(AtomicBool::new(false));
    let others = std::thread::spawn({
        let (store, done) = (store.clone(), Arc::clone(&done));
        move || {
            while !done.load(Ordering::Relaxed) {
                let id = store.create(Attributes::new()).unwrap().id();
                let login = store.login(id, "bob", "");
                assert!(matches!(login, Ok(_) | Err(Error::Missing(_))), "{login:?}");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let count = no_hang("end_all", {
        let store = store.clone();
        move || store.end_all(Reason::Revoked).unwrap()
    });
    assert!(count >= before.len());
    for id in before {
        assert_eq!(store.peek(id, |_| ()), Err(Missing::Ended(Reason::Revoked)));
    }
    done.store(true, Ordering::Relaxed);
    others.join().unwrap();
    store.validate();
}

// One of those who are to go changes his token as fast as he can. He must be caught: also where the
// walk waits for his shard while he is just leaving it for one where it has been.
#[test]
fn end_all_ends_a_session_whose_token_changes_without_a_pause() {
    for _ in 0..200 {
        let store = store_with(|b| b.shards(16));
        for way in 0..100 {
            log_in(&store, way).unwrap();
        }
        let mut id = store.create(Attributes::new()).unwrap().id();
        std::thread::scope(|scope| {
            let runner = scope.spawn(|| {
                let limit = Stopwatch::start();
                while limit.elapsed() < seconds(15) {
                    match store.rotate(id) {
                        Ok(token) => id = token.id(),
                        Err(Error::Missing(missing)) => return missing,
                        Err(error) => panic!("{error}"),
                    }
                }
                panic!("it was forgotten")
            });
            let store = store.clone();
            let end = move || store.end_all(Reason::Revoked).unwrap();
            assert_eq!(no_hang("end_all", end), 101);
            assert_eq!(runner.join().unwrap(), Missing::Ended(Reason::Revoked));
        });
        store.validate();
    }
}

// If the end of each session searches the list of its owner, 40,000 sessions take half a minute,
// in which this owner and one in 256 others can do nothing.
#[test]
fn an_owner_of_very_many_sessions_is_logged_out_soon() {
    let store = store_with(|b| b);
    for _ in 0..40_000 {
        store.create_with(Attributes::new(), owned_by("crawler")).unwrap();
    }
    let count = within(seconds(3), "end_owner", {
        let store = store.clone();
        move || store.end_owner("crawler", Except(None), Reason::Revoked).unwrap()
    });
    assert_eq!(count, 40_000);
    assert_eq!((store.owner_count("crawler"), store.stats().owners), (0, 0));
}

// A login may fail in the last moment, when the visitor's session is over. If room is made before
// it, another session of the user has ended for nothing then. Two logins of one visitor, or a login
// and a logout, meet in each round; only the one that succeeds may cost a session.
#[test]
fn a_login_that_fails_ends_no_other_session() {
    let rounds = if full() { 100_000 } else { 3000 };
    let store = store_with(|b| b.sessions_per_owner(1, OwnerLimit::EndOldest).shards(16));
    let create = || store.create(Attributes::new()).unwrap().id();
    let pairs: Vec<_> = (0..rounds)
        .map(|round| {
            let owner = round.to_string();
            let first = store.create_with(Attributes::new(), owned_by(&owner)).unwrap().id();
            (owner, first, create())
        })
        .collect();
    let turn = AtomicUsize::new(0);
    let meet = |round: usize| {
        turn.fetch_add(1, Ordering::AcqRel);
        while turn.load(Ordering::Acquire) < 2 * (round + 1) {
            std::thread::yield_now();
        }
    };
    let results = parallel(2, |index| {
        let mut successes = Vec::new();
        for (round, (owner, _, visitor)) in pairs.iter().enumerate() {
            meet(round);
            let result = match (index, round % 3) {
                (0, 0) => store.end(*visitor, Reason::LoggedOut).map(|()| false),
                (1, 1) => store.bind(*visitor, owner).map(|()| true),
                _ => store.login(*visitor, owner, "").map(|_| true),
            };
            successes.push(result.unwrap_or(false));
        }
        successes
    });
    for (round, (owner, first, _)) in pairs.iter().enumerate() {
        let in_vain = !results[0][round] && !results[1][round];
        assert_eq!(store.peek(*first, |_| ()).is_ok(), in_vain, "round {round}");
        assert!(store.owner_count(owner) <= 1);
    }
    store.validate();
}

// Where the store is full, a login that ends its owner's oldest session needs no other room: it
// must not be refused, nor evict somebody else's session.
#[test]
fn the_oldest_session_leaves_its_room_to_the_new_one() {
    for when_full in [WhenFull::Refuse, WhenFull::EvictLeastRecentlySeen] {
        let store = store_with(|b| {
            b.sessions_max(10).sessions_per_owner(1, OwnerLimit::EndOldest).when_full(when_full)
        });
        let create =
            |owner: &str| store.create_with(Attributes::new(), owned_by(owner)).map(|t| t.id());
        let others: Vec<_> = (0..9).map(|n| create(&n.to_string()).unwrap()).collect();
        let events = store.events();
        let mut oldest = create("alice").unwrap();
        for _ in 0..20 {
            let id = create("alice").unwrap();
            assert_eq!(store.peek(oldest, |_| ()), Err(Missing::Ended(Reason::Revoked)));
            assert_eq!((listed(&store, "alice"), store.stats().live), (vec![id], 10));
            store.validate();
            oldest = id;
        }
        assert!(others.iter().all(|&id| store.peek(id, |_| ()).is_ok()));
        let told = std::iter::from_fn(|| events.try_recv()).skip(1);
        for (index, event) in told.enumerate() {
            assert_eq!(matches!(event, Event::Ended { .. }), index % 2 == 0, "{event:?}");
        }
    }
}
