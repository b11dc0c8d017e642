//! When a session was last seen, and that what was seen to be over stays over.

use std::time::Duration;

use cloakroom::{Attributes, ManualClock, Missing, Reason, SessionId, Store};
use cloakroom_shuttle::{IDLE, explore, small, thread, together};

/// How much the clock moves: more than the touch granularity, less than the idle timeout.
const STEP: Duration = Duration::from_secs(30);

fn late_touch(write: fn(&Store, SessionId)) {
    explore(2000, move || {
        let clock = ManualClock::new();
        let store: Store = small(&clock).in_memory().unwrap();
        let id = store.create(Attributes::new()).unwrap().id();
        let touch = move |store: &Store, clock: &ManualClock| {
            clock.advance(STEP);
            store.touch(id).unwrap();
        };
        together(vec![
            thread!(store, clock => touch(&store, &clock)),
            thread!(store => write(&store, id)),
        ]);
        let info = store.info(id).unwrap();
        assert_eq!(info.idle, Duration::ZERO, "the touch was lost");
        store.validate();
        clock.advance(IDLE - Duration::from_secs(1));
        assert!(store.peek(id, |_| ()).is_ok(), "the deadline went back");
    });
}

#[test]
fn a_touch_during_an_update() {
    late_touch(|store, id| {
        store.update(id, |data| data.set("n", 1)).unwrap();
    });
}

#[test]
fn a_touch_during_a_change_of_the_label() {
    late_touch(|store, id| store.set_label(id, "Firefox").unwrap());
}

/// A session counts as active once, whoever touches and writes it at the same time.
#[test]
fn a_session_is_active_once() {
    explore(4000, || {
        let clock = ManualClock::new();
        let store: Store = small(&clock).in_memory().unwrap();
        clock.advance(Duration::from_secs(45));
        let id = store.create(Attributes::new()).unwrap().id();
        clock.advance(STEP);
        let touch = move |store: &Store| store.touch(id).unwrap();
        let update = move |store: &Store| {
            store.update(id, |data| data.set("n", 1)).unwrap();
        };
        together(vec![
            thread!(store => touch(&store)),
            thread!(store => update(&store)),
            thread!(store => update(&store)),
        ]);
        let stats = store.stats();
        assert_eq!((stats.live, stats.active_1_minute, stats.active_5_minutes), (1, 1, 1));
        store.validate();
    });
}

/// Once a lookup found that a session expired, no lookup finds it again.
fn stays_expired(write: fn(&Store, SessionId)) {
    explore(2000, move || {
        let clock = ManualClock::new();
        let store: Store = small(&clock).in_memory().unwrap();
        let id = store.create(Attributes::new()).unwrap().id();
        clock.advance(IDLE - STEP);
        let look = move |store: &Store| {
            let mut is_over = false;
            for _ in 0..6 {
                match store.peek(id, |_| ()) {
                    Ok(()) => assert!(!is_over, "it was over, and is back"),
                    Err(missing) => {
                        assert_eq!(missing, Missing::Ended(Reason::Expired));
                        is_over = true;
                    }
                }
            }
        };
        together(vec![
            thread!(store => look(&store)),
            thread!(clock => clock.advance(STEP)),
            thread!(store => write(&store, id)),
        ]);
    });
}

#[test]
fn a_touch_does_not_revive() {
    stays_expired(|store, id| {
        let _ = store.touch(id);
    });
}

#[test]
fn an_update_does_not_revive() {
    stays_expired(|store, id| {
        let _ = store.update(id, |data| data.set("n", 1));
    });
}
