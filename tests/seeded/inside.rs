//! Tests that need the inside of the crate: `tests/seeded/run` compiles them into its copy of it.

use std::time::Duration;

use crate::Attributes;
use crate::clock::Tick;
use crate::data;
use crate::error::{Missing, Reason};
use crate::life::Life;
use crate::options::{Builder, CreateOptions};
use crate::reclaim::Collector;
use crate::sessions::Sessions;
use crate::token::Token;
use crate::{ManualClock, SessionId};

fn sessions(clock: &ManualClock) -> std::sync::Arc<Sessions> {
    Sessions::new(Builder::<Attributes>::new().shards(2).clock(clock).options).unwrap()
}

fn secret(number: u32) -> [u8; 32] {
    let bytes: Vec<u8> = std::iter::repeat_n(number.to_be_bytes(), 8).flatten().collect();
    bytes.try_into().unwrap()
}

fn data_of(sessions: &Sessions, id: SessionId) -> Result<Vec<u8>, Missing> {
    let pinned = sessions.pin();
    sessions.look(pinned.pinned(), id, false).map(|record| record.data().to_vec())
}

/// Two tokens with the same id: the later session gets another token, the earlier one stays.
#[test]
fn a_create_never_overwrites() {
    let sessions = sessions(&ManualClock::new());
    *sessions.secrets.lock().unwrap() = vec![secret(7), secret(7)];
    let first = sessions.create(b"first", &CreateOptions::new()).unwrap().id();
    let second = sessions.create(b"second", &CreateOptions::new()).unwrap().id();
    assert_eq!(first, Token::from_secret(secret(7)).id());
    assert_ne!(first, second);
    assert_eq!(data_of(&sessions, first).unwrap(), b"first");
    assert_eq!(data_of(&sessions, second).unwrap(), b"second");
    assert_eq!(sessions.stats().live, 2);
    sessions.validate();
}

/// Two ids that the wheel cannot tell apart: the one whose deadline has come expires, in whatever
/// order they were created.
#[test]
fn ids_with_the_same_wheel_key_expire_each_for_itself() {
    let alike = [22_545, 141_621].map(secret);
    let [one, other] = alike.map(|secret| Token::from_secret(secret).id());
    assert_eq!((one.hi() & 1, one.lo() as u32), (other.hi() & 1, other.lo() as u32));
    for short_first in [true, false] {
        let clock = ManualClock::new();
        let sessions = sessions(&clock);
        *sessions.secrets.lock().unwrap() = alike.to_vec();
        let lifetimes = if short_first { [1, 100] } else { [100, 1] };
        let ids = lifetimes.map(|seconds| {
            let options = CreateOptions::new().lifetime(Duration::from_secs(seconds));
            sessions.create(b"data", &options).unwrap().id()
        });
        clock.advance(Duration::from_secs(5));
        assert_eq!(sessions.expire_due(), 1);
        let (short, long) = if short_first { (ids[0], ids[1]) } else { (ids[1], ids[0]) };
        assert_eq!(data_of(&sessions, short), Err(Missing::Ended(Reason::Expired)));
        assert!(data_of(&sessions, long).is_ok());
        sessions.validate();
        clock.advance(Duration::from_secs(100));
        assert_eq!((sessions.expire_due(), sessions.stats().live), (1, 0));
        sessions.validate();
    }
}

/// A lookup that found the record before the session ended sees the end.
#[test]
fn an_end_is_seen_by_readers_that_began_before() {
    let sessions = sessions(&ManualClock::new());
    let id = sessions.create(b"data", &CreateOptions::new()).unwrap().id();
    let pinned = sessions.pin();
    let record = sessions.look(pinned.pinned(), id, false).unwrap();
    let life = record.life().load();
    sessions.end(id, Reason::LoggedOut).unwrap();
    assert!(!record.life().load().is_live(Tick::FIRST));
    let later = |tick: Tick| Tick(tick.0 + 500);
    let next = Life::new(later(life.fresh_until()), later(life.deadline()));
    assert!(!record.life().touch(life, next));
}

/// A touch of the record before an update fails, so that it is not lost but tried again.
#[test]
fn an_update_is_seen_by_touches_that_began_before() {
    let sessions = sessions(&ManualClock::new());
    let id = sessions.create(b"data", &CreateOptions::new()).unwrap().id();
    let pinned = sessions.pin();
    let record = sessions.look(pinned.pinned(), id, false).unwrap();
    let life = record.life().load();
    sessions.write(id, |_| data::encode(&Attributes::new())).unwrap();
    assert!(record.life().load().is_superseded());
    let later = |tick: Tick| Tick(tick.0 + 500);
    let next = Life::new(later(life.fresh_until()), later(life.deadline()));
    assert!(!record.life().touch(life, next));
}

/// Two epochs are not enough: see the head of `reclaim.rs`.
#[test]
fn memory_waits_for_three_epochs() {
    let collector = Collector::new();
    let stamp = collector.stamp();
    for _ in 0..3 {
        assert!(!collector.is_free(stamp));
        assert!(collector.try_advance());
    }
    assert!(collector.is_free(stamp));
}
