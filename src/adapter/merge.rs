//! The rules by which a save meets what others saved since its load.

use std::fmt;
use std::time::Duration;

use super::digest::Given;
use super::loaded::{KeyDigest, Loaded, Seen};
use super::own::Own;
use crate::attributes::{Attributes, Value};
use crate::error::Error;

/// What a save does with a key that another request has changed, to something else, since the
/// session was loaded. Different keys never conflict, whatever is chosen here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnConflict {
    /// The save fails and changes nothing, which the middleware answers with status 500: no
    /// update that was answered with success is ever lost. The default.
    #[default]
    Refuse,
    /// The value that is saved last stays: as with other stores, but for single keys instead of
    /// the whole session. For keys that are only ever set, such as a time last seen.
    LastWins,
}

/// How a store for a middleware treats sessions.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) counters: Vec<String>,
    pub(super) on_conflict: OnConflict,
    /// From the creation on, however active the session is.
    pub(super) lifetime: Duration,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { counters: Vec::new(), on_conflict: OnConflict::default(), lifetime: Duration::MAX }
    }
}

impl Rules {
    pub(super) fn is_counter(&self, key: &str) -> bool {
        self.counters.iter().any(|counter| counter == key)
    }
}

/// Why a save changed nothing.
#[derive(Debug)]
pub(super) enum Refused {
    /// Another request has changed this key meanwhile.
    Conflict(String),
    Store(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::Store(error)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Conflict(key) => write!(
                f,
                "the key {key:?} was changed by another request meanwhile: load the session \
                 again and retry, or choose `counter` or `OnConflict::LastWins` for it"
            ),
            Refused::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refused {}

/// A save: what became of the keys that a request was given.
pub(super) struct Save<'a> {
    rules: &'a Rules,
    /// None: it says nothing about what was there, and replaces all of it.
    loaded: Option<&'a Loaded>,
    own: &'a Own,
    /// Keys that are not as the request saw them.
    changed: Vec<Changed<'a>>,
    /// Keys that it saw, or wrote itself, and that it gives back no more; in order.
    gone: Vec<KeyDigest>,
}

struct Changed<'a> {
    name: &'a str,
    key: KeyDigest,
    value: Value,
}

impl<'a> Save<'a> {
    /// What a request gives back, of which `convert` makes values, where they changed.
    ///
    /// # Errors
    /// Those of `convert`.
    pub(super) fn of<V: Given + 'a, E>(
        rules: &'a Rules,
        loaded: Option<&'a Loaded>,
        own: &'a Own,
        given: impl Iterator<Item = (&'a str, &'a V)>,
        convert: impl Fn(&str, &V) -> Result<Value, E>,
    ) -> Result<Save<'a>, E> {
        let mut save = Save { rules, loaded, own, changed: Vec::new(), gone: Vec::new() };
        let mut there = Vec::new();
        for (name, value) in given {
            let key = KeyDigest::of(name);
            there.push(key);
            if loaded.is_none() || !is(save.base(key), Some(value)) {
                let value = convert(name, value)?;
                save.changed.push(Changed { name, key, value });
            }
        }
        there.sort_unstable();
        let known = own.keys().chain(loaded.iter().flat_map(|loaded| loaded.keys()));
        save.gone = known.filter(|key| there.binary_search(key).is_err()).collect();
        save.gone.sort_unstable();
        Ok(save)
    }

    /// What this request saw of a key, or left there itself.
    fn base(&self, key: KeyDigest) -> Option<Seen> {
        let loaded = || self.loaded.and_then(|loaded| loaded.get(key));
        self.own.get(key).unwrap_or_else(loaded)
    }

    /// What this request has left of each key that it changed, by this save or an earlier one.
    pub(super) fn left(&self) -> Own {
        let mut left = self.own.clone();
        for Changed { name, key, value } in &self.changed {
            left.set(*key, Some(Seen::of(name, value, self.rules)));
        }
        for &key in &self.gone {
            left.set(key, None);
        }
        left
    }

    /// Makes of the present data what it is after this save.
    ///
    /// # Errors
    /// [`Refused::Conflict`]; the data is then of no use.
    pub(super) fn apply(&self, current: &mut Attributes) -> Result<(), Refused> {
        if self.loaded.is_none() {
            let pair = |changed: &Changed<'_>| (changed.name.to_owned(), changed.value.clone());
            *current = self.changed.iter().map(pair).collect();
            return Ok(());
        }
        for Changed { name, key, value } in &self.changed {
            let base = self.base(*key);
            if let Some(value) = self.settle(name, base, current.get(name), value)? {
                current.set(*name, value);
            }
        }
        if !self.gone.is_empty() {
            self.remove_gone(current)?;
        }
        Ok(())
    }

    fn remove_gone(&self, current: &mut Attributes) -> Result<(), Refused> {
        let mut removed = Vec::new();
        for (name, now) in &*current {
            let key = KeyDigest::of(name);
            if self.gone.binary_search(&key).is_err() {
                continue;
            }
            // What this request removed already is somebody else's by now.
            let Some(base) = self.base(key) else { continue };
            if !base.is(now) && self.rules.on_conflict == OnConflict::Refuse {
                return Err(Refused::Conflict(name.to_owned()));
            }
            removed.push(name.to_owned());
        }
        removed.iter().for_each(|name| drop(current.remove(name)));
        Ok(())
    }

    /// The value of a key that this request changed; None if it stays as it is now.
    fn settle(
        &self,
        name: &str,
        base: Option<Seen>,
        now: Option<&Value>,
        mine: &Value,
    ) -> Result<Option<Value>, Refused> {
        if is(base, now) {
            return Ok(Some(mine.clone()));
        }
        if self.rules.is_counter(name)
            && let Some(sum) = added(base, now, mine)
        {
            return Ok(Some(Value::Int(sum)));
        }
        match self.rules.on_conflict {
            OnConflict::LastWins => Ok(Some(mine.clone())),
            OnConflict::Refuse if now == Some(mine) && is_only_set(mine) => Ok(None),
            OnConflict::Refuse => Err(Refused::Conflict(name.to_owned())),
        }
    }
}

/// Whether two requests that left the same value have set it, each for itself. Numbers, lists and
/// maps are often made of what was there before: of two that went from 1 to 2, each may have added
/// one.
fn is_only_set(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(_) | Value::Text(_))
}

/// Whether a key is as it was seen, or not seen.
fn is(seen: Option<Seen>, now: Option<&impl Given>) -> bool {
    match (seen, now) {
        (None, None) => true,
        (Some(seen), Some(now)) => seen.is(now),
        _ => false,
    }
}

/// A counter with what was added to it; where it was not there yet it was 0.
fn added(base: Option<Seen>, now: Option<&Value>, mine: &Value) -> Option<i64> {
    let base = match base {
        None => 0,
        Some(Seen::Count(count)) => count,
        Some(Seen::Digest(_)) => return None,
    };
    let now = now.map_or(Some(0), Value::as_i64)?;
    now.checked_add(mine.as_i64()?.checked_sub(base)?)
}
