//! Moments that cannot be met from outside: between the exact time and the tick, under a lock.

use std::time::Duration;

use super::Sessions;
use crate::error::{Missing, Reason};
use crate::options::{Builder, CreateOptions};
use crate::token::SessionId;
use crate::{Attributes, ManualClock};

const EXPIRED: Missing = Missing::Ended(Reason::Expired);
const MINUTE: Duration = Duration::from_secs(60);

fn sessions(
    set: impl FnOnce(Builder<Attributes>) -> Builder<Attributes>,
) -> std::sync::Arc<Sessions> {
    Sessions::new(set(Builder::new()).options).unwrap()
}

fn peek(sessions: &Sessions, id: SessionId) -> Result<(), Missing> {
    sessions.show(id, false, |_| ())
}

// The thread that keeps the tick is not run for an hour, as on a machine that was stopped. A touch
// that judges by that tick, then stores the exact time, gives a dead session a new idle time.
#[test]
fn a_touch_by_an_old_tick_revives_nobody() {
    let clock = ManualClock::new();
    let sessions = sessions(|b| b.clock(&clock).anonymous_idle_timeout(MINUTE));
    let id = sessions.create(b"data", &CreateOptions::new()).unwrap().id();
    clock.advance(MINUTE / 2);
    clock.advance_without_tick(60 * MINUTE);
    assert_eq!(sessions.touch(id), Err(EXPIRED));
    clock.advance(Duration::ZERO);
    assert_eq!(peek(&sessions, id), Err(EXPIRED));
}

/// A snapshot that was taken while a session was written, then renewed, has the old id as an alias;
/// the log behind it begins with the write. All of it has to be done again, in that order.
#[cfg(unix)]
#[test]
fn the_log_may_begin_before_what_the_snapshot_tells() {
    use crate::journal::Calendar;
    use crate::journal::entry::Entry;
    use crate::journal::snapshot::Alias;
    use crate::journal::stored::Stored;

    let clock = ManualClock::new();
    let sessions = sessions(|b| b.clock(&clock));
    let calendar = Calendar::new(sessions.clock(), 0);
    let now = calendar.now_ms();
    let stored = |id, version| Stored {
        id: SessionId(id),
        version,
        created_ms: now,
        authenticated_ms: now,
        seen_ms: now,
        idle_ns: 60_000_000_000,
        lifetime_ns: 600_000_000_000,
        owner: "alice",
        label: "",
        data: b"data",
    };
    let until_ms = now + 10_000;
    let (old, successor) = (SessionId(1), SessionId(2));
    let alias = Alias { id: old, successor, until_ms };
    sessions.restore_alias(&calendar, alias).unwrap();
    sessions.restore(&calendar, &stored(2, 5)).unwrap();
    assert_eq!(peek(&sessions, old), Ok(()));
    let moved = Entry::Move { old, at_ms: now, alias_until_ms: until_ms, new: stored(2, 5) };
    for entry in [Entry::Put(stored(1, 4)), Entry::Put(stored(1, 5)), moved] {
        sessions.apply(&calendar, &entry).unwrap();
        sessions.validate();
        assert_eq!(peek(&sessions, old), Ok(()));
    }
    assert_eq!(sessions.count_of_owner("alice"), 1);
    clock.advance(Duration::from_secs(11));
    assert_eq!(peek(&sessions, old), Err(Missing::Ended(Reason::Rotated)));
    assert_eq!(peek(&sessions, successor), Ok(()));
}

/// While a session comes into memory somebody looks it up, just between the two steps that this
/// takes. Whatever the order of these steps, he must find it.
#[cfg(unix)]
#[test]
fn a_session_is_found_while_it_is_brought() {
    use super::backing::BETWEEN;

    let directory = std::env::temp_dir().join(format!("cloakroom-between-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    let open = || Builder::<Attributes>::new().loader_thread(false).open(&directory).unwrap();
    let store = open();
    let id = store.create(Attributes::new()).unwrap().id();
    store.snapshot().unwrap().unwrap();
    store.close().unwrap();

    let store = open();
    let calls = std::rc::Rc::new(std::cell::Cell::new(0));
    let hook = {
        let (store, calls) = (store.clone(), calls.clone());
        move || {
            calls.set(calls.get() + 1);
            std::thread::scope(|scope| {
                let look = scope.spawn(|| store.peek(id, |_| ()));
                assert_eq!(look.join().unwrap(), Ok(()));
            });
        }
    };
    BETWEEN.set(Some(Box::new(hook)));
    while store.load_some(1).unwrap() {}
    BETWEEN.set(None);
    assert_eq!(calls.get(), 1);
    drop(store);
    let _ = std::fs::remove_dir_all(&directory);
}
