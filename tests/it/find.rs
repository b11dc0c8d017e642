//! `Store::find`: only the text of a live session's token leads to an id.

use cloakroom::{Attributes, Error, ManualClock, Missing, Reason, SessionId, Store, Token};

use crate::support::{owned_by, seconds, store_with};

fn with_clock() -> (Store, ManualClock) {
    let clock = ManualClock::new();
    let store = store_with(|b| {
        b.clock(&clock).expiry_thread(false).idle_timeout(seconds(600)).grace(seconds(10))
    });
    (store, clock)
}

fn log_in(store: &Store) -> Token {
    store.create_with(Attributes::new(), owned_by("alice")).unwrap()
}

/// What is missing, for a text that is a token's.
fn find(store: &Store, text: &str) -> Result<SessionId, Missing> {
    store.find(text).map_err(|error| match error {
        Error::Missing(missing) => missing,
        other => panic!("expected Missing, got {other:?}"),
    })
}

// A call that only reads the text says yes to any text of the right form: a server that takes its
// answer for a login lets everybody in.
#[test]
fn a_well_formed_text_is_not_a_session() {
    let (store, _) = with_clock();
    let token = log_in(&store);
    assert_eq!(find(&store, &token.expose()), Ok(token.id()));
    assert_eq!(find(&store, &"A".repeat(43)), Err(Missing::Unknown));
    let elsewhere = store_with(|b| b).create(Attributes::new()).unwrap();
    assert_eq!(find(&store, &elsewhere.expose()), Err(Missing::Unknown));
    for text in ["", "nonsense", &token.id().to_string(), &format!("{} ", token.expose())] {
        assert!(matches!(store.find(text), Err(Error::Malformed(_))), "{text:?}");
    }
    let stats = store.stats();
    assert_eq!((stats.hits, stats.misses), (1, 6), "what is no token is a miss, too");
}

// Once a session ended its token must open nothing, and say why.
#[test]
fn an_ended_session_is_not_found_and_says_why() {
    let (store, clock) = with_clock();
    let tokens: Vec<_> = (0..4).map(|_| log_in(&store)).collect();
    store.end(tokens[0].id(), Reason::LoggedOut).unwrap();
    store.end(tokens[1].id(), Reason::Revoked).unwrap();
    let rotated = store.rotate(tokens[2].id()).unwrap();
    assert_eq!(find(&store, &rotated.expose()), Ok(rotated.id()));
    clock.advance(seconds(600));
    let reasons = [Reason::LoggedOut, Reason::Revoked, Reason::Rotated, Reason::Expired];
    for (token, reason) in tokens.iter().zip(reasons) {
        assert_eq!(find(&store, &token.expose()), Err(Missing::Ended(reason)));
    }
}

// A renewal under way must log nobody out: the old token is good for the grace time, under its
// own id, and reported afterwards.
#[test]
fn a_renewed_token_is_found_under_its_own_id_for_the_grace_time() {
    let (store, clock) = with_clock();
    let old = log_in(&store);
    let new = store.renew(old.id()).unwrap();
    assert_eq!(find(&store, &old.expose()), Ok(old.id()));
    assert_eq!(find(&store, &new.expose()), Ok(new.id()));
    clock.advance(seconds(10));
    assert_eq!(find(&store, &old.expose()), Err(Missing::Ended(Reason::Rotated)));
    assert_eq!(find(&store, &new.expose()), Ok(new.id()));
    assert_eq!(store.stats().suspicious, 1);
}

// To know which session a request means is not yet activity.
#[test]
fn finding_keeps_no_session_alive() {
    let (store, clock) = with_clock();
    let token = log_in(&store);
    for _ in 0..9 {
        clock.advance(seconds(60));
        assert_eq!(find(&store, &token.expose()), Ok(token.id()));
    }
    assert_eq!(store.info(token.id()).unwrap().idle, seconds(540));
    clock.advance(seconds(60));
    assert_eq!(find(&store, &token.expose()), Err(Missing::Ended(Reason::Expired)));
}
