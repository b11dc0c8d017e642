//! Rotate and renew: at most two tokens open a session, and a dead one stays dead.

use std::time::Duration;

use cloakroom::{
    Attributes, Error, Event, Except, ManualClock, Missing, Reason, SessionId, Store, Token,
};

use crate::support::{Data, listed, owned_by, parallel, poll_once, seconds, store_with};

const ROTATED: Missing = Missing::Ended(Reason::Rotated);

fn with_clock() -> (Store, ManualClock) {
    let clock = ManualClock::new();
    let store = store_with(|b| b.clock(&clock).expiry_thread(false).grace(seconds(10)));
    (store, clock)
}

fn create(store: &Store) -> SessionId {
    store.create_with(Attributes::from([("count", 0.into())]), owned_by("alice")).unwrap().id()
}

fn reads(store: &Store, id: SessionId) -> Result<i64, Missing> {
    store.read(id, |s| s.get_i64("count").unwrap())
}

fn add_one(data: &mut Data) {
    data.set("count", 1 + data.get_i64("count").unwrap());
}

fn missing(result: Result<Token, Error>) -> Missing {
    match result {
        Err(Error::Missing(missing)) => missing,
        other => panic!("expected Missing, got {other:?}"),
    }
}

// A rotation that loses data, owner, version or deadline is a logout; one that leaves the old
// token good is session fixation.
#[test]
fn rotate_keeps_all_but_the_token() {
    let (store, clock) = with_clock();
    let old = create(&store);
    store.set_label(old, "phone").unwrap();
    store.update(old, add_one).unwrap();
    clock.advance(seconds(60));
    store.touch(old).unwrap();
    let before = store.info(old).unwrap();
    let new = store.rotate(old).unwrap().id();
    let mut after = store.info(new).unwrap();
    assert_ne!(old, new);
    after.id = old;
    assert_eq!(after, before);
    assert_eq!((reads(&store, new), reads(&store, old)), (Ok(1), Err(ROTATED)));
    assert_eq!(missing(store.rotate(old)), ROTATED);
    assert_eq!(missing(store.renew(old)), ROTATED);
    let late = store.update(old, add_one);
    assert!(matches!(late, Err(Error::Missing(ROTATED))));
    assert_eq!(listed(&store, "alice"), [new]);
    let stats = store.stats();
    assert_eq!((stats.live, stats.created, stats.ended_by(Reason::Rotated)), (1, 1, 1));
    store.validate();
}

// Two that rotate at once and both win make two sessions of one. Whoever loses learns that the
// token was rotated.
#[test]
fn of_two_rotations_exactly_one_wins() {
    let store = store_with(|b| b.shards(16));
    for round in 0..300 {
        let id = create(&store);
        let results = parallel(2, |thread| match (round + thread) % 3 {
            0 => store.renew(id),
            1 => store.login(id, "alice", "x"),
            _ => store.rotate(id),
        });
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        let won: Vec<_> = won.into_iter().map(|token| token.unwrap().id()).collect();
        // A rotation that comes after a renewal may go by the alias: that is two in a row.
        assert!(won.len() == 1 || round % 3 != 1, "round {round}: {} won", won.len());
        for result in lost {
            assert_eq!(missing(result), ROTATED);
        }
        let good = won.iter().filter(|&&id| store.peek(id, |_| ()).is_ok()).count();
        assert_eq!((good, store.owner_count("alice"), store.stats().live), (1, 1, 1));
        store.end_all(Reason::LoggedOut).unwrap();
    }
    store.validate();
}

// In the grace time both tokens must be the same session, not a copy: what one writes the other
// reads, and there is one in the numbers and in the owner's list.
#[test]
fn the_alias_is_the_same_session() {
    let (store, _clock) = with_clock();
    let old = create(&store);
    let new = store.renew(old).unwrap().id();
    for _ in 0..3 {
        store.update(old, add_one).unwrap();
        store.update(new, add_one).unwrap();
    }
    assert_eq!((reads(&store, old), reads(&store, new)), (Ok(6), Ok(6)));
    let (one, two) = (store.get(old).unwrap(), store.get(new).unwrap());
    assert_eq!((one.id(), one.version()), (new, two.version()));
    assert_eq!(store.info(old).unwrap(), store.info(new).unwrap());
    store.replace_if(old, two.version(), Attributes::from([("count", 9.into())])).unwrap();
    assert_eq!(reads(&store, new), Ok(9));
    store.touch(old).unwrap();
    assert_eq!((listed(&store, "alice"), store.owner_count("alice")), (vec![new], 1));
    assert_eq!((store.stats().live, store.stats().renewed, store.stats().suspicious), (1, 1, 0));
    store.validate();
}

// Two tabs that renew by turns, each with the token it has: an alias that may be renewed makes a
// third token, a fourth, and so on. By the old token the answer must be "rotated", and nothing new.
#[test]
fn two_tabs_never_make_a_third_token() {
    let (store, clock) = with_clock();
    let mut tabs = [create(&store); 2];
    let mut all = vec![tabs[0]];
    for round in 0..20 {
        let (one, two) = (round % 2, (round + 1) % 2);
        let new = store.renew(tabs[one]).unwrap().id();
        all.push(new);
        tabs[one] = new;
        assert_eq!(missing(store.renew(tabs[two])), ROTATED);
        assert!(reads(&store, tabs[two]).is_ok(), "the other tab is not logged out");
        let good = all.iter().filter(|&&id| store.peek(id, |_| ()).is_ok()).count();
        assert_eq!(good, 2, "round {round}");
        tabs[two] = new;
        clock.advance(seconds(1));
    }
    assert_eq!(store.stats().renewed, 20);
    store.validate();
}

// A chain of renewals within the grace time: only the last alias is good, and when its grace time
// is over, to the tick, only the newest token is.
#[test]
fn a_chain_of_renewals_leaves_two_good_tokens_and_then_one() {
    let (store, clock) = with_clock();
    let mut chain = vec![create(&store)];
    for _ in 0..5 {
        chain.push(store.renew(chain[chain.len() - 1]).unwrap().id());
    }
    for (index, &id) in chain.iter().enumerate() {
        let expected = if index >= 4 { Ok(0) } else { Err(ROTATED) };
        assert_eq!(reads(&store, id), expected, "{index}");
    }
    clock.advance(seconds(10) - Duration::from_millis(50));
    assert_eq!(reads(&store, chain[4]), Ok(0));
    clock.advance(Duration::from_millis(50));
    assert_eq!(reads(&store, chain[4]), Err(ROTATED));
    assert!(matches!(store.update(chain[4], add_one), Err(Error::Missing(ROTATED))));
    assert_eq!(reads(&store, chain[5]), Ok(0));
    store.expire_due();
    assert_eq!(reads(&store, chain[4]), Err(ROTATED));
    assert_eq!(store.stats().wheel_nodes, 1);
    store.validate();
}

// A copy of a renewed token that somebody uses later must be told: each use, before and after the
// alias was cleared away, until it is forgotten. A use in the grace time is no reason for alarm.
#[test]
fn late_use_of_a_renewed_token_is_told() {
    let (store, clock) = with_clock();
    let old = create(&store);
    let events = store.events();
    let new = store.renew(old).unwrap().id();
    reads(&store, old).unwrap();
    assert!(matches!(events.try_recv(), Some(Event::Rotated { renewed: true, .. })));
    assert!(events.try_recv().is_none());
    clock.advance(seconds(10));
    let told = |count: u64| {
        for _ in 0..count {
            match events.try_recv() {
                Some(Event::Suspicious { id, successor }) => {
                    assert_eq!((id, successor), (old, new));
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(events.try_recv().is_none());
    };
    assert_eq!(reads(&store, old), Err(ROTATED));
    assert!(store.update(old, add_one).is_err());
    told(2);
    store.expire_due();
    assert_eq!(reads(&store, old), Err(ROTATED));
    told(1);
    assert_eq!(store.stats().suspicious, 3);
    assert_eq!(reads(&store, new), Ok(0));
    clock.advance(seconds(121));
    store.expire_due();
    assert_eq!(reads(&store, old), Err(Missing::Unknown));
    told(0);
    // A rotated token is no alias: it is refused, and that is all.
    let newest = store.rotate(new).unwrap().id();
    assert_eq!(reads(&store, new), Err(ROTATED));
    assert!(matches!(events.try_recv(), Some(Event::Rotated { renewed: false, .. })));
    told(0);
    assert_eq!(reads(&store, newest), Ok(0));
}

// A logout by the old token in the grace time must end the session for both.
#[test]
fn an_end_by_the_alias_ends_the_session() {
    let (store, clock) = with_clock();
    for by_alias in [true, false] {
        let old = create(&store);
        let new = store.renew(old).unwrap().id();
        let mut watch = store.watch(old);
        store.end(if by_alias { old } else { new }, Reason::LoggedOut).unwrap();
        let ended = Missing::Ended(Reason::LoggedOut);
        assert_eq!((reads(&store, old), reads(&store, new)), (Err(ended), Err(ended)));
        assert_eq!(poll_once(&mut watch), std::task::Poll::Ready(Reason::LoggedOut));
        assert_eq!((store.stats().live, store.owner_count("alice")), (0, 0));
        clock.advance(seconds(10));
        store.expire_due();
        assert!(reads(&store, old).is_err() && reads(&store, new).is_err());
        store.validate();
    }
}

// "Log out everywhere else" asked with the old token of a renewed session must not end the very
// session that asks.
#[test]
fn all_but_one_spares_a_session_known_by_its_alias() {
    let (store, _clock) = with_clock();
    let old = create(&store);
    let other = create(&store);
    let new = store.renew(old).unwrap().id();
    assert_eq!(store.end_owner("alice", Except(Some(old)), Reason::Revoked).unwrap(), 1);
    assert_eq!((reads(&store, old), reads(&store, new)), (Ok(0), Ok(0)));
    assert_eq!(reads(&store, other), Err(Missing::Ended(Reason::Revoked)));
    assert_eq!(store.end_owner("alice", Except(None), Reason::Revoked).unwrap(), 1);
    assert_eq!(reads(&store, old), Err(Missing::Ended(Reason::Revoked)));
}

// Rotation by the alias: a login in another tab in the grace time. Both tokens before it are dead.
#[test]
fn a_rotation_by_the_alias_kills_both_tokens() {
    let (store, _clock) = with_clock();
    let old = create(&store);
    let new = store.renew(old).unwrap().id();
    let newest = store.rotate(old).unwrap().id();
    assert_eq!((reads(&store, old), reads(&store, new)), (Err(ROTATED), Err(ROTATED)));
    assert_eq!((reads(&store, newest), listed(&store, "alice")), (Ok(0), vec![newest]));
    store.validate();
}

// The grace time must not outlive the session, nor the session its deadline by a renewal.
#[test]
fn a_renewal_counts_as_activity_and_lengthens_no_lifetime() {
    let clock = ManualClock::new();
    let store = store_with(|b| {
        b.clock(&clock).expiry_thread(false).idle_timeout(seconds(60)).lifetime(seconds(100))
    });
    let old = create(&store);
    clock.advance(seconds(59));
    let new = store.renew(old).unwrap().id();
    clock.advance(seconds(40));
    assert_eq!(reads(&store, new), Ok(0));
    let newest = store.renew(new).unwrap().id();
    clock.advance(seconds(1));
    let expired = Missing::Ended(Reason::Expired);
    assert_eq!((reads(&store, newest), reads(&store, new)), (Err(expired), Err(expired)));
    assert_eq!(missing(store.renew(newest)), expired);
}

// Grace zero: a renewal is then a rotation that followers of the session survive.
#[test]
fn without_grace_the_old_token_is_dead_at_once() {
    let store = store_with(|b| b.grace(Duration::ZERO));
    let old = create(&store);
    let new = store.renew(old).unwrap().id();
    assert_eq!((reads(&store, old), reads(&store, new)), (Err(ROTATED), Ok(0)));
}

// Readers by both tokens while the session is renewed without a pause: the present token must
// never be refused between the two steps of a renewal, and no write may get lost.
#[test]
fn renewals_are_atomic_for_readers_and_writers() {
    let store = store_with(|b| b.shards(16));
    let id = create(&store);
    let present = std::sync::Mutex::new((id, false));
    let written: i64 = parallel(3, |thread| {
        let mut written = 0;
        if thread == 0 {
            for _ in 0..2000 {
                let now = present.lock().unwrap().0;
                let next = store.renew(now).unwrap().id();
                present.lock().unwrap().0 = next;
            }
            present.lock().unwrap().1 = true;
            return 0;
        }
        loop {
            let (now, done) = *present.lock().unwrap();
            // Two renewals may pass meanwhile; then the token is rotated, and nothing else.
            match store.update(now, add_one) {
                Ok(()) => written += 1,
                Err(Error::Missing(ROTATED)) => {}
                Err(error) => panic!("{error}"),
            }
            if done {
                return written;
            }
        }
    })
    .into_iter()
    .sum();
    let now = present.into_inner().unwrap().0;
    assert_eq!(reads(&store, now), Ok(written));
    assert_eq!((store.stats().live, listed(&store, "alice")), (1, vec![now]));
    store.validate();
}

// A login that changes data, while others write: no write gets lost, and nobody sees the user
// without what the login brings.
#[test]
fn a_login_with_data_is_one_step() {
    for _ in 0..200 {
        let store = store_with(|b| b.shards(2));
        let id = store.create(Attributes::from([("count", 0.into())])).unwrap().id();
        let results = parallel(3, |thread| {
            if thread == 0 {
                let login = store.login_with(id, "alice", "phone", |session| {
                    add_one(session);
                    session.set("role", "editor");
                });
                return (1, Some(login.unwrap().0));
            }
            let mut written = 0;
            loop {
                if store.owner(id).is_ok_and(|owner| owner.is_some()) {
                    panic!("the old token shows who is logged in");
                }
                match store.update(id, add_one) {
                    Ok(()) => written += 1,
                    Err(Error::Missing(ROTATED)) => return (written, None),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let written: i64 = results.iter().map(|(written, _)| written).sum();
        let token = results.into_iter().find_map(|(_, token)| token).unwrap();
        assert_eq!(reads(&store, token.id()), Ok(written));
        let session = store.get(token.id()).unwrap();
        assert_eq!((session.owner(), session.get_str("role")), (Some("alice"), Some("editor")));
        store.validate();
    }
}

#[test]
fn a_login_with_data_that_is_refused_changes_nothing() {
    let store = store_with(|b| b.record_bytes_max(256));
    let id = create(&store);
    let too_large = store.login_with(id, "alice", "", |s| s.set("text", "x".repeat(500)));
    assert!(matches!(too_large, Err(Error::TooLarge { .. })), "{too_large:?}");
    let mut shown = false;
    let others = store.login_with(id, "bob", "", |_| shown = true);
    assert!(matches!(others, Err(Error::OtherOwner)), "{others:?}");
    assert!(!shown, "alice's data for bob's login");
    assert_eq!(reads(&store, id), Ok(0));
    store.end(id, Reason::LoggedOut).unwrap();
    let gone = store.login_with(id, "alice", "", |_| ());
    assert!(matches!(gone, Err(Error::Missing(Missing::Ended(Reason::LoggedOut)))), "{gone:?}");
    store.validate();
}
