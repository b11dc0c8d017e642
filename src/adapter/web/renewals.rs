//! When tokens were made, for as long as it matters to their renewal.
//!
//! The store knows when a session was created, not when it got its present token. So the tokens
//! that are younger than their session stand here, in two generations: what is older than the
//! renewal age needs no entry, as it is due.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use super::turn::lock;
use crate::{Info, SessionId};

#[derive(Default)]
pub(super) struct Renewals {
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    /// How old the session was when it got this token.
    present: HashMap<SessionId, Duration>,
    past: HashMap<SessionId, Duration>,
    turned: Option<SystemTime>,
}

impl Renewals {
    /// Whether the session's token is this old.
    pub(super) fn is_due(&self, info: &Info, age: Duration) -> bool {
        if info.age < age {
            return false;
        }
        let generations = lock(&self.generations);
        let made = generations.present.get(&info.id).or_else(|| generations.past.get(&info.id));
        made.is_none_or(|&made| info.age.saturating_sub(made) >= age)
    }

    /// The session goes on under another id from now on. `info` is what it was before.
    pub(super) fn note(&self, id: SessionId, info: &Info, age: Duration) {
        // By the store's clock, so that a test's clock reaches it.
        let now = info.created.checked_add(info.age).unwrap_or(info.created);
        let mut generations = lock(&self.generations);
        let turned = *generations.turned.get_or_insert(now);
        if now.duration_since(turned).is_ok_and(|since| since >= age) {
            generations.past = std::mem::take(&mut generations.present);
            generations.turned = Some(now);
        }
        generations.present.insert(id, info.age);
    }
}
