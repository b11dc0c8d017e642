//! How sessions lie in the files: as they are, or so that only who has the key can read them.
//!
//! The rest of the journal knows nothing of it: a sealed session is a session whose owner has
//! another name, and whose data is longer. A session is sealed when it is handed to the log or to a
//! snapshot, and opened when it comes back from one.

use std::fmt;
use std::path::PathBuf;

use uuid::Uuid;

#[cfg(feature = "encryption")]
use super::cipher;
use super::stored::{KeyId, Stored};
use crate::error::Error;
use crate::keep::Keys;
use crate::record::DATA_BYTES_MAX;
use crate::token::SessionId;

/// How sessions lie in the files of a store.
#[derive(Clone, Debug, Default)]
pub(crate) enum Seal {
    /// As they are.
    #[default]
    Plain,
    /// Sealed, the present ones with the newest of these keys.
    #[cfg(feature = "encryption")]
    Keys(Keys),
    /// Sealed with this key, among others, which nobody gave. What holds no session can be written.
    #[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "for the module `directory`"))]
    Closed(KeyId),
}

/// Why a session cannot be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "encryption"), allow(dead_code, reason = "most need keys"))]
pub(crate) enum SealProblem {
    /// Files that are sealed, and no keys.
    NoKeys(KeyId),
    /// Files that are not sealed, and keys.
    NotSealed,
    /// The ring has no such key.
    UnknownKey(KeyId),
    /// It was not sealed with this key for this store and id, or was changed.
    Changed(SessionId),
    /// Sealed it would be longer than the files allow.
    TooLong(usize),
    /// The operating system gave no random bytes.
    Random(String),
}

#[cfg_attr(not(feature = "encryption"), allow(unused_variables, reason = "no key needs a store"))]
impl Seal {
    pub(crate) fn of(keys: Option<&Keys>) -> Seal {
        match keys {
            None => Seal::Plain,
            #[cfg(feature = "encryption")]
            Some(keys) => Seal::Keys(keys.clone()),
            #[cfg(not(feature = "encryption"))]
            Some(keys) => match *keys {},
        }
    }

    /// How files are read without keys.
    #[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "for the module `directory`"))]
    pub(crate) fn without_keys(key: Option<KeyId>) -> Seal {
        key.map_or(Seal::Plain, Seal::Closed)
    }

    /// What the header of a new file says.
    pub(crate) fn key(&self) -> Option<KeyId> {
        match self {
            Seal::Plain => None,
            #[cfg(feature = "encryption")]
            Seal::Keys(keys) => Some(keys.newest_id()),
            Seal::Closed(key) => Some(*key),
        }
    }

    /// Whether sessions can be read from a file whose header says that.
    pub(crate) fn check(&self, key: Option<KeyId>) -> Result<(), SealProblem> {
        match (self, key) {
            (Seal::Plain, None) => Ok(()),
            (Seal::Plain | Seal::Closed(_), Some(id)) => Err(SealProblem::NoKeys(id)),
            #[cfg(feature = "encryption")]
            (Seal::Keys(keys), Some(id)) => {
                keys.with(id, |_| Some(())).map(drop).ok_or(SealProblem::UnknownKey(id))
            }
            (_, None) => Err(SealProblem::NotSealed),
        }
    }

    /// Calls `f` with the session as it is to lie in a file of this store.
    pub(crate) fn seal<R>(
        &self,
        store: Uuid,
        stored: &Stored<'_>,
        f: impl FnOnce(&Stored<'_>) -> R,
    ) -> Result<R, SealProblem> {
        match self {
            #[cfg(feature = "encryption")]
            Seal::Keys(keys) => {
                let sealed = keys.with_newest(|key| cipher::seal(key, store, stored))?;
                Ok(f(&sealed.stored(stored)))
            }
            _ => self.as_it_is(stored, f),
        }
    }

    /// As [`Seal::seal`]; the key does not change until `f` returns, so that whatever it writes is
    /// there before anything that a newer key seals. Who changes the key waits for `f`, and others
    /// who seal may wait for him: `f` must not wait for a disk.
    pub(crate) fn seal_in_order<R>(
        &self,
        store: Uuid,
        stored: &Stored<'_>,
        f: impl FnOnce(&Stored<'_>) -> R,
    ) -> Result<R, SealProblem> {
        match self {
            #[cfg(feature = "encryption")]
            Seal::Keys(keys) => keys.with_newest(|key| {
                let sealed = cipher::seal(key, store, stored)?;
                Ok(f(&sealed.stored(stored)))
            }),
            _ => self.as_it_is(stored, f),
        }
    }

    /// Calls `f` with the session that lies so in a file of this store.
    pub(crate) fn open<R>(
        &self,
        store: Uuid,
        stored: &Stored<'_>,
        f: impl FnOnce(&Stored<'_>) -> R,
    ) -> Result<R, SealProblem> {
        match self {
            #[cfg(feature = "encryption")]
            Seal::Keys(keys) => {
                let opened = cipher::open(keys, store, stored)?;
                let opened = opened.stored(stored).ok_or(SealProblem::Changed(stored.id))?;
                Ok(f(&opened))
            }
            _ => self.as_it_is(stored, f),
        }
    }

    /// Either way without keys: nothing to do where nothing is sealed, and nothing to be done else.
    fn as_it_is<R>(
        &self,
        stored: &Stored<'_>,
        f: impl FnOnce(&Stored<'_>) -> R,
    ) -> Result<R, SealProblem> {
        match self {
            Seal::Closed(id) => Err(SealProblem::NoKeys(*id)),
            _ => Ok(f(stored)),
        }
    }

    /// The names that an owner may have in files of this store, one for each key.
    pub(crate) fn names_of(&self, store: Uuid, owner: &str) -> Vec<String> {
        match self {
            #[cfg(feature = "encryption")]
            Seal::Keys(keys) => {
                let mut names = Vec::new();
                keys.for_each(|key| names.push(cipher::name_of(key, store, owner)));
                names
            }
            _ => vec![owner.to_owned()],
        }
    }
}

impl SealProblem {
    /// What a caller is told of a session in this file.
    pub(crate) fn told(self, file: PathBuf, offset: u64) -> Error {
        match self {
            SealProblem::Changed(_) => Error::Damaged { file, offset, problem: self.to_string() },
            SealProblem::TooLong(bytes) => Error::TooLarge { bytes, bytes_max: DATA_BYTES_MAX },
            SealProblem::Random(problem) => Error::Random(problem),
            SealProblem::NoKeys(_) | SealProblem::NotSealed | SealProblem::UnknownKey(_) => {
                Error::Unreadable { file, problem: self.to_string() }
            }
        }
    }
}

impl fmt::Display for SealProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SealProblem::NoKeys(id) => write!(
                f,
                "its sessions are encrypted with the key {:08x}: give the secrets \
                 (Builder::encryption, or --secrets of the program)",
                u32::from_be_bytes(*id)
            ),
            SealProblem::NotSealed => f.write_str(
                "its sessions are not encrypted, but secrets were given: call \
                 Builder::encrypt_plain to encrypt them",
            ),
            SealProblem::UnknownKey(id) => write!(
                f,
                "encrypted with the key {:08x}, whose secret is not among those that were given",
                u32::from_be_bytes(*id)
            ),
            SealProblem::Changed(id) => {
                write!(f, "session {id} was not written so with the key that it names")
            }
            SealProblem::TooLong(bytes) => {
                write!(f, "the session would have {bytes} bytes, of {DATA_BYTES_MAX} in a file")
            }
            SealProblem::Random(problem) => {
                write!(f, "the operating system gave no random bytes: {problem}")
            }
        }
    }
}
