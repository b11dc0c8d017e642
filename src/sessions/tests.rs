//! Moments that cannot be met from outside: between the exact time and the tick, under a lock.

use std::time::Duration;

use super::Sessions;
use crate::error::{Missing, Reason};
use crate::options::{Builder, CreateOptions};
use crate::token::SessionId;
use crate::{Attributes, ManualClock};

const EXPIRED: Missing = Missing::Ended(Reason::Expired);
const MINUTE: Duration = Duration::from_secs(60);

fn sessions(set: impl FnOnce(Builder<Attributes>) -> Builder<Attributes>) -> Sessions {
    Sessions::new(set(Builder::new()).options).unwrap()
}

fn peek(sessions: &Sessions, id: SessionId) -> Result<(), Missing> {
    let pin = sessions.pin();
    sessions.look(pin.pinned(), id, false).map(drop)
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
