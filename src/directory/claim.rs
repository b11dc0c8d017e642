//! A directory that nobody else has, to change what is in it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::{Directory, Schema, StoredSession, nothing, open};
use crate::error::{Error, Reason, Result};
use crate::journal::entry::Entry;
use crate::journal::files::real::Lock;
use crate::journal::files::{Files as _, StoreFiles};
use crate::journal::fold::Fold;
use crate::journal::rewrite::{self, push_live};
use crate::journal::sealing::Seal;
use crate::journal::still::{Still, is_ours};
use crate::journal::{Survey, Taking};
use crate::sessions::Saved;
use crate::sync::Arc;
use crate::token::SessionId;

/// A directory that no store can open as long as this lives.
pub struct Claim {
    path: PathBuf,
    directory: Directory,
    _lock: Lock,
}

/// What to do with a session whose id is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Taken {
    /// Refuse it, and with it all the others.
    #[default]
    Refuse,
    /// Put it in the place of what is there.
    Replace,
}

impl Claim {
    /// Takes a directory that holds a store, of whatever session type.
    ///
    /// # Errors
    /// [`Error::Locked`] if a store has it; else as [`Directory::read`].
    pub fn open(path: impl AsRef<Path>) -> Result<Claim> {
        let path = path.as_ref();
        let files = open(path)?;
        let names = files.list().map_err(|error| Error::Files {
            file: path.to_owned(),
            doing: "list",
            error,
        })?;
        if !names.iter().any(|name| is_ours(name)) {
            // Before the lock, which would make a file in somebody else's directory.
            return Err(nothing(path));
        }
        let claim = Claim::of(path, files)?;
        match claim.directory.survey.kind {
            Some(_) => Ok(claim),
            None => Err(nothing(path)),
        }
    }

    /// Takes a directory that may be empty, and is created (mode 0700) if it is not there.
    ///
    /// # Errors
    /// As [`Claim::open`].
    pub fn create(path: impl AsRef<Path>) -> Result<Claim> {
        let path = path.as_ref();
        let files = StoreFiles::open_dir(path).map_err(|error| Error::Files {
            file: path.to_owned(),
            doing: "open",
            error,
        })?;
        Claim::of(path, Arc::new(files))
    }

    fn of(path: &Path, files: Arc<StoreFiles>) -> Result<Claim> {
        let io = |error| Error::Files { file: path.to_owned(), doing: "lock", error };
        let locked = || Error::Locked { directory: path.to_owned() };
        let lock = files.lock().map_err(io)?.ok_or_else(locked)?;
        let directory = Directory { is_in_use: false, ..Directory::of(files)? };
        Ok(Claim { path: path.to_owned(), directory, _lock: lock })
    }

    /// Takes the keys with which the sessions are encrypted, or are to be in an empty directory;
    /// as [`Directory::keys`] does. What [`compact`](Claim::compact) and [`import`](Claim::import)
    /// write is sealed with the newest of them.
    ///
    /// # Errors
    /// As [`Directory::keys`].
    #[cfg(feature = "encryption")]
    pub fn keys(mut self, keys: crate::cookie::Keys) -> Result<Claim> {
        self.directory = match self.directory.survey.kind {
            Some(_) => self.directory.keys(keys)?,
            None => Directory { seal: Seal::Keys(keys), ..self.directory },
        };
        Ok(self)
    }

    /// What is in it.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Ends these sessions, each with [`Reason::Revoked`]; an id that is not there is no matter.
    /// Returns the number of ends that were written, once they are durable. Works with any type of
    /// session.
    ///
    /// # Errors
    /// [`Error::Files`], [`Error::Full`], [`Error::NotDurable`]: then some of them may be ended.
    pub fn end(self, ids: impl IntoIterator<Item = SessionId>) -> Result<u64> {
        let calendar = self.directory.calendar()?;
        let at_ms = calendar.now_ms();
        let ends = ids.into_iter().map(|id| Entry::End { id, reason: Reason::Revoked, at_ms });
        let files = &self.directory.files;
        let survey = Survey::any(&**files)?;
        rewrite::append(files, &survey, self.directory.schema().number, calendar, ends)
    }

    /// Writes a snapshot that takes the place of the log. What has expired is left out. Works with
    /// any type of session; takes about 64 bytes of memory for each.
    ///
    /// # Errors
    /// [`Error::Files`], [`Error::Full`], [`Error::Damaged`]: then the sessions are as they were.
    pub fn compact(self) -> Result<Saved> {
        self.import(self.directory.schema(), Taken::Refuse, |_| Ok(()))
    }

    /// Adds sessions, all of them or none: `fill` pushes them. They keep their ids, versions and
    /// times. `schema` is that of an empty directory; one with sessions has its own, which must be
    /// the same.
    ///
    /// # Errors
    /// That of `fill`; [`Error::Unreadable`] for another schema; [`Error::Files`],
    /// [`Error::Full`]. Then the sessions are as they were.
    pub fn import<E: From<Error>>(
        &self,
        schema: Schema,
        taken: Taken,
        fill: impl FnOnce(&mut Import<'_, '_>) -> Result<(), E>,
    ) -> Result<Saved, E> {
        let Directory { files, still, survey, seal, now_ms, .. } = &self.directory;
        if survey.kind.is_some() && schema != self.directory.schema() {
            let (file, present) = (self.path.clone(), self.directory.schema());
            let problem = format!("its sessions are of schema {present}, these of {schema}");
            return Err(Error::Unreadable { file, problem }.into());
        }
        let fold = Fold::of(still, survey)?;
        let calendar = self.directory.calendar()?;
        let writable = Survey::any(&**files)?;
        let kind = (schema.number, seal.clone());
        let summary = rewrite::snapshot(files, &writable, kind, calendar, |taking| {
            push_live(taking, &fold, seal, *now_ms)?;
            let pushed = HashSet::default();
            fill(&mut Import { taking, fold: &fold, now_ms: *now_ms, schema, taken, pushed })
        })?;
        Ok(Saved { sessions: summary.counts.live(), bytes: summary.bytes })
    }
}

/// Takes the sessions of an import.
pub struct Import<'a, 'b> {
    taking: &'a mut Taking<'b, StoreFiles>,
    fold: &'a Fold<'a, Still<StoreFiles>>,
    now_ms: u64,
    schema: Schema,
    taken: Taken,
    pushed: HashSet<SessionId, ahash::RandomState>,
}

impl Import<'_, '_> {
    /// Adds a session. One that has expired is left out.
    ///
    /// # Errors
    /// [`Error::IdTaken`] if a session has its id, in the directory or among those pushed before;
    /// [`Error::InvalidText`], [`Error::TooLarge`]; [`Error::Encode`] if its data is none of its
    /// type; [`Error::Files`], [`Error::Full`].
    pub fn push(&mut self, session: &StoredSession<'_>) -> Result<()> {
        session.check()?;
        self.schema.check(session.data).map_err(Error::Encode)?;
        let is_taken =
            !self.pushed.insert(session.id) || self.fold.holds(session.id, self.now_ms)?;
        if is_taken && self.taken == Taken::Refuse {
            return Err(Error::IdTaken(session.id.into()));
        }
        self.taking.push(&(*session).into())
    }
}
