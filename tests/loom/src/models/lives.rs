//! Models of the life word.

use loom::sync::Arc;
use loom::thread;

use super::life::{Life, LifeWord};
use crate::clock::Tick;
use crate::explore;

/// Idle timeout, in ticks.
const IDLE: u32 = 10;
/// The first tick that a clock shows.
const FIRST: Tick = Tick(16);

fn seen_at(tick: u32) -> Life {
    Life::new(Tick(tick), Tick(tick + IDLE))
}

/// A lookup that touches: what it decided, and whether its touch was stored.
fn touch(word: &LifeWord, now: u32) -> (bool, bool) {
    let life = word.load();
    let live = life.is_live(Tick(now));
    (live, live && word.touch(life, seen_at(now)))
}

/// Guards against a session that is expired and touched at once: the user goes on with a session
/// whose end was announced. The lookup came just before the deadline, the expiry just after.
pub fn touch_against_expire() {
    explore("life: touch against expire", 3, || {
        let word = Arc::new(LifeWord::new(seen_at(20)));
        let other = Arc::clone(&word);
        let toucher = thread::spawn(move || touch(&other, 29).1);
        let expired = word.expire(Tick(30));
        let touched = toucher.join().unwrap();
        assert!(touched != expired.is_some(), "touched {touched}, expired {expired:?}");
        let now = word.load();
        assert_eq!(now.is_live(Tick(30)), touched, "the word disagrees with what was decided");
        assert!(!touched || now == seen_at(29));
        assert!(!word.touch(seen_at(20), seen_at(31)), "an old life was touched");
    });
}

/// Guards against a touch that brings a replaced record back to life, or that gets lost without
/// the writer knowing: `supersede` must return it.
pub fn touch_against_supersede() {
    explore("life: touch against supersede", 3, || {
        let word = Arc::new(LifeWord::new(seen_at(20)));
        let other = Arc::clone(&word);
        let toucher = thread::spawn(move || touch(&other, 25).1);
        let last = word.supersede();
        let touched = toucher.join().unwrap();
        assert_eq!(last == seen_at(25), touched, "the writer learnt {last:?}");
        assert!(word.load().is_superseded());
        assert!(!word.load().is_live(FIRST), "a superseded life is live");
    });
}

/// Guards against time that goes back: a slow lookup must not overwrite a later touch.
pub fn touches_never_go_back() {
    explore("life: two touches", 3, || {
        let word = Arc::new(LifeWord::new(seen_at(20)));
        let threads: Vec<_> = [25, 27]
            .into_iter()
            .map(|now| {
                let word = Arc::clone(&word);
                thread::spawn(move || touch(&word, now).1.then_some(now))
            })
            .collect();
        let mut last = word.load().fresh_until();
        for _ in 0..2 {
            let next = word.load().fresh_until();
            assert!(next >= last, "last seen went from {last:?} to {next:?}");
            last = next;
        }
        let stored = threads.into_iter().filter_map(|thread| thread.join().unwrap()).max();
        assert_eq!(Some(word.load().fresh_until().0), stored, "a stored touch is lost");
    });
}

/// Guards against a session that is ended twice, or whose last touch is not in the life that its
/// end reports: expiry (under the shard's lock) and supersession, with a lookup in between.
pub fn expires_once() {
    explore("life: expire, then supersede, against touches", 3, || {
        let word = Arc::new(LifeWord::new(seen_at(20)));
        let threads: Vec<_> = [28, 29]
            .into_iter()
            .map(|now| {
                let word = Arc::clone(&word);
                thread::spawn(move || touch(&word, now).1)
            })
            .collect();
        let first = word.expire(Tick(30));
        let last = word.supersede();
        let touched = threads.into_iter().any(|thread| thread.join().unwrap());
        match first {
            Some(life) => {
                assert!(!touched && life == seen_at(20));
                assert!(!last.is_live(FIRST), "live after its expiry");
            }
            None => assert!(touched && last.is_live(Tick(30))),
        }
        assert!(word.load().is_superseded());
    });
}

/// Guards against a lookup that revives what is expired already: `look_again` in
/// `sessions/mod.rs` loads the life again after it was found live, and must not touch a dead one.
/// Mirrors its condition.
pub fn a_reloaded_life_is_not_revived() {
    explore("life: touch of a reloaded life against expire", 3, || {
        let word = Arc::new(LifeWord::new(seen_at(20)));
        let other = Arc::clone(&word);
        let toucher = thread::spawn(move || {
            if other.load().is_live(Tick(29)) {
                let life = other.load();
                if !life.is_superseded() {
                    other.touch(life, seen_at(29));
                }
            }
        });
        let expired = word.expire(Tick(30)).is_some();
        let dead = !word.load().is_live(Tick(30));
        assert_eq!(dead, expired, "alive after its expiry was decided");
        toucher.join().unwrap();
        assert_eq!(!word.load().is_live(Tick(30)), expired, "alive after its expiry was decided");
    });
}
