//! The sessions that a directory holds: what the snapshot says, overruled by the log behind it.
//!
//! Says the same as a store that is opened on the files, without one: sessions stay bytes. Takes
//! memory for each session of which the log tells, about 64 bytes, and none for the others.

use std::collections::HashMap;

use super::entry::{Entry, MOVE_BYTES};
use super::files::Files;
use super::recover::Survey;
use super::sealing::Seal;
use super::snapshot::{Alias, Found};
use super::stored::Stored;
use crate::error::{Error, Result};
use crate::token::SessionId;

/// What became of the sessions of which the log tells.
pub(crate) struct Fold<'a, F: Files> {
    files: &'a F,
    survey: &'a Survey<F>,
    changes: HashMap<SessionId, Change<'a>, ahash::RandomState>,
}

/// The last that the log says of a session.
struct Change<'a> {
    state: State<'a>,
    /// The latest time at which it was seen since.
    seen_ms: u64,
}

#[derive(Clone, Copy)]
enum State<'a> {
    /// As the snapshot has it.
    Untold,
    /// These bytes.
    Stored(&'a [u8]),
    Gone,
    Alias(Alias),
}

impl<'a, F: Files> Fold<'a, F> {
    /// Reads the log once.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(crate) fn of(files: &'a F, survey: &'a Survey<F>) -> Result<Fold<'a, F>> {
        let mut fold = Fold { files, survey, changes: HashMap::default() };
        for frame in survey.frames() {
            let entry = frame.entry(files)?;
            fold.apply(&entry, frame.body);
        }
        Ok(fold)
    }

    fn apply(&mut self, entry: &Entry<'_>, body: &'a [u8]) {
        match entry {
            Entry::Put(stored) => self.set(stored.id, State::Stored(body)),
            Entry::End { id, .. } => self.set(*id, State::Gone),
            Entry::Move { old, alias_until_ms, new, .. } => {
                let stored = body.get(MOVE_BYTES..).unwrap_or_default();
                self.set(new.id, State::Stored(stored));
                let alias = Alias { id: *old, successor: new.id, until_ms: *alias_until_ms };
                let is_alias = *alias_until_ms > 0;
                self.set(*old, if is_alias { State::Alias(alias) } else { State::Gone });
            }
            Entry::Touch(touches) => {
                for (id, seen_ms) in touches.iter() {
                    let untold = Change { state: State::Untold, seen_ms };
                    let change = self.changes.entry(id).or_insert(untold);
                    change.seen_ms = change.seen_ms.max(seen_ms);
                }
            }
            Entry::Mark { .. } | Entry::Link { .. } => {}
        }
    }

    fn set(&mut self, id: SessionId, state: State<'a>) {
        self.changes.insert(id, Change { state, seen_ms: 0 });
    }

    /// Calls `f` with a session that [`Fold::for_each`] gave, opened.
    ///
    /// # Errors
    /// [`Error::Unreadable`] without its key, [`Error::Damaged`].
    pub(crate) fn open<R>(
        &self,
        seal: &Seal,
        stored: &Stored<'_>,
        f: impl FnOnce(&Stored<'_>) -> R,
    ) -> Result<R> {
        let opened = seal.open(self.survey.store.unwrap_or_default(), stored, f);
        opened.map_err(|problem| problem.told(self.files.path(""), 0))
    }

    /// Whether an id leads to a session, or to an alias, that has not expired then.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[cfg(feature = "cli")]
    pub(crate) fn holds(&self, id: SessionId, now_ms: u64) -> Result<bool> {
        let change = self.changes.get(&id);
        let seen_ms = change.map_or(0, |change| change.seen_ms);
        let is_live = |stored| seen(stored, seen_ms).is_live(now_ms);
        match change.map_or(State::Untold, |change| change.state) {
            State::Stored(bytes) => Ok(Stored::decode(bytes).is_ok_and(is_live)),
            State::Alias(alias) => Ok(alias.until_ms > now_ms),
            State::Gone => Ok(false),
            State::Untold => {
                let Some(snapshot) = &self.survey.snapshot else { return Ok(false) };
                let found = snapshot.find(id);
                Ok(match found.map_err(|damage| self.survey.damaged(self.files, damage))? {
                    Some((_, Found::Session(stored))) => is_live(stored),
                    Some((_, Found::Alias(alias))) => alias.until_ms > now_ms,
                    None => false,
                })
            }
        }
    }

    /// Calls `f` with each session and alias: those of the snapshot in its order, then those of the
    /// log in the order in which they were written last.
    ///
    /// # Errors
    /// That of `f`, or [`Error::Damaged`].
    pub(crate) fn for_each<E: From<Error>>(
        &self,
        mut f: impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for found in self.survey.snapshot.iter().flat_map(|snapshot| snapshot.entries()) {
            let (_, found) = found.map_err(|damage| self.survey.damaged(self.files, damage))?;
            match (self.changes.get(&found.id()), found) {
                (None, Found::Alias(alias)) => self.tell_alias(alias, &mut f)?,
                (None, found) => f(found)?,
                (Some(Change { state: State::Untold, seen_ms }), Found::Session(stored)) => {
                    f(Found::Session(seen(stored, *seen_ms)))?;
                }
                (Some(_), _) => {}
            }
        }
        for frame in self.survey.frames() {
            match frame.entry(self.files)? {
                Entry::Put(stored) => self.tell_last(stored, frame.body, &mut f)?,
                Entry::Move { old, new, .. } => {
                    let body = frame.body.get(MOVE_BYTES..).unwrap_or_default();
                    self.tell_last(new, body, &mut f)?;
                    if let Some(Change { state: State::Alias(alias), .. }) = self.changes.get(&old)
                    {
                        self.tell_alias(*alias, &mut f)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Calls `f` unless the alias leads to a session that is gone, or an alias itself.
    fn tell_alias<E: From<Error>>(
        &self,
        alias: Alias,
        f: &mut impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.changes.get(&alias.successor) {
            Some(Change { state: State::Gone | State::Alias(_), .. }) => Ok(()),
            _ => f(Found::Alias(alias)),
        }
    }

    /// Calls `f` if these very bytes are the last that the log says of the session.
    fn tell_last<E: From<Error>>(
        &self,
        stored: Stored<'_>,
        body: &[u8],
        f: &mut impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.changes.get(&stored.id) {
            Some(Change { state: State::Stored(last), seen_ms })
                if std::ptr::eq(last.as_ptr(), body.as_ptr()) =>
            {
                f(Found::Session(seen(stored, *seen_ms)))
            }
            _ => Ok(()),
        }
    }
}

/// A session that was seen then, or later.
fn seen<'a>(stored: Stored<'a>, seen_ms: u64) -> Stored<'a> {
    Stored { seen_ms: stored.seen_ms.max(seen_ms), ..stored }
}
