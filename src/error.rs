//! What can go wrong: the reasons a session is gone, with the crate's one error type.

use std::fmt;
use std::path::PathBuf;

use crate::version::Version;

/// The crate's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a session ended. Remembered for at least two minutes by default, then forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Reason {
    /// The user logged out.
    LoggedOut,
    /// A deadline passed: the idle timeout or the lifetime.
    Expired,
    /// Another token took this one's place ([`Store::rotate`](crate::Store::rotate), or a
    /// [`Store::renew`](crate::Store::renew) whose grace time is over).
    Rotated,
    /// Somebody took the session away: an administrator, "log out everywhere else", a limit of
    /// sessions per owner.
    Revoked,
    /// The store was full and set to evict the least recently seen session.
    Evicted,
}

impl Reason {
    /// All reasons, in the order in which [`Stats`](crate::Stats) counts them.
    pub const ALL: [Reason; 5] =
        [Reason::LoggedOut, Reason::Expired, Reason::Rotated, Reason::Revoked, Reason::Evicted];

    /// What an application's end of a session is: it cannot tell of an expiry, a rotation or an
    /// eviction that did not happen.
    pub(crate) fn by_caller(self) -> Reason {
        match self {
            Reason::LoggedOut => Reason::LoggedOut,
            Reason::Expired | Reason::Rotated | Reason::Revoked | Reason::Evicted => {
                Reason::Revoked
            }
        }
    }

    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Reason {
        Reason::ALL[usize::from(code) % Reason::ALL.len()]
    }

    fn text(self) -> &'static str {
        match self {
            Reason::LoggedOut => "logged out",
            Reason::Expired => "expired",
            Reason::Rotated => "replaced by a new token",
            Reason::Revoked => "revoked",
            Reason::Evicted => "evicted for lack of room",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Why a lookup found no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Missing {
    /// The id was never given out by this store, or it ended longer ago than the store remembers.
    Unknown,
    /// The session ended, for this reason.
    Ended(Reason),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Unknown => f.write_str("no such session"),
            Missing::Ended(reason) => write!(f, "session ended: {reason}"),
        }
    }
}

impl std::error::Error for Missing {}

/// Which limit refused a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// [`Builder::sessions_max`](crate::Builder::sessions_max).
    Sessions,
    /// [`Builder::bytes_max`](crate::Builder::bytes_max).
    Bytes,
    /// The share of the sessions that anonymous sessions may take
    /// ([`Builder::anonymous_share`](crate::Builder::anonymous_share)).
    AnonymousSessions,
    /// The share of the bytes that anonymous sessions may take.
    AnonymousBytes,
    /// The system refused memory, or one shard is at the table's own bound.
    Memory,
    /// The disk is full, or over its quota. Sessions can still be read and ended.
    Disk,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Sessions => "the number of sessions (sessions_max)",
            Limit::Bytes => "the bytes of all sessions (bytes_max)",
            Limit::AnonymousSessions => "the number of anonymous sessions (anonymous_share)",
            Limit::AnonymousBytes => "the bytes of anonymous sessions (anonymous_share)",
            Limit::Memory => "memory",
            Limit::Disk => "the disk",
        })
    }
}

/// Everything that can fail other than a lookup.
///
/// An operation that returns an error left the store as it was.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The session is not there (any more).
    Missing(Missing),
    /// Somebody else wrote the session since the version that the caller saw.
    Conflict {
        /// The session's present version.
        current: Version,
    },
    /// A limit of the store is reached; nothing was written.
    Full(Limit),
    /// The record is larger than [`Builder::record_bytes_max`](crate::Builder::record_bytes_max).
    TooLarge {
        /// The size of the record that was refused, in bytes.
        bytes: usize,
        /// The largest size allowed, in bytes.
        bytes_max: usize,
    },
    /// The owner has as many sessions as
    /// [`Builder::sessions_per_owner`](crate::Builder::sessions_per_owner) allows.
    OwnerFull {
        /// The number of sessions an owner may have.
        sessions_max: u32,
    },
    /// The session belongs to another owner, who would hand over his data. End it and create a new
    /// one.
    OtherOwner,
    /// An owner or label that is too long, or an empty owner.
    InvalidText {
        /// Which text: "owner" or "label".
        what: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The largest length allowed, in bytes.
        bytes_max: usize,
    },
    /// An option whose value is absurd or contradicts another.
    Option {
        /// The builder's method.
        option: &'static str,
        /// What is wrong, with the bounds.
        problem: String,
    },
    /// The data could not be archived (for example: nested deeper than its type allows).
    Encode(String),
    /// The text is not a token or a session id.
    Malformed(Malformed),
    /// The operating system gave no random bytes; no token was made.
    Random(String),
    /// A thread could not be started.
    Thread(std::io::Error),
    /// The process was forked; the store, or its [`ManualClock`](crate::ManualClock), belongs to
    /// the parent.
    Forked,
    /// Another store uses the directory, in this process or in another one.
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// A file of the store is not as it was written, below the point that is known to be durable.
    /// Nothing was changed. [`Builder::on_damage`](crate::Builder::on_damage) tells what can be
    /// done.
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// A file that this program cannot read: of a newer version, another type of session, another
    /// layout. Nothing was changed.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What it is instead.
        problem: String,
    },
    /// The operating system refused something to do with the store's files.
    Files {
        /// The file or directory.
        file: PathBuf,
        /// What could not be done: "open", "read", "lock".
        doing: &'static str,
        /// What it said.
        error: std::io::Error,
    },
    /// A session with this id is there already; nothing was written.
    IdTaken(uuid::Uuid),
    /// What was written so far could not be made durable. It is in memory, and stays in use; the
    /// store is making a complete snapshot on new files, after which it is durable again.
    NotDurable(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Missing(missing) => missing.fmt(f),
            Error::Conflict { current } => write!(
                f,
                "session was changed by somebody else (it is at version {current} now): \
                 read it again and retry"
            ),
            Error::Full(limit) => write!(f, "session store is full: {limit} is at its limit"),
            Error::TooLarge { bytes, bytes_max } => write!(
                f,
                "session of {bytes} bytes is larger than the limit of {bytes_max} bytes \
                 (record_bytes_max)"
            ),
            Error::OwnerFull { sessions_max } => write!(
                f,
                "the owner already has {sessions_max} sessions, the most allowed \
                 (sessions_per_owner)"
            ),
            Error::OtherOwner => {
                f.write_str("the session belongs to another owner: end it and create a new one")
            }
            Error::InvalidText { what, bytes: 0, .. } => write!(f, "the {what} is empty"),
            Error::InvalidText { what, bytes, bytes_max } => write!(
                f,
                "the {what} has {bytes} bytes, more than the {bytes_max} allowed{}",
                if *what == "label" { ": shorten it" } else { "" }
            ),
            Error::Option { option, problem } => write!(f, "option `{option}`: {problem}"),
            Error::Encode(problem) => write!(f, "session data cannot be stored: {problem}"),
            Error::Malformed(malformed) => malformed.fmt(f),
            Error::Random(problem) => {
                write!(f, "the operating system gave no random bytes: {problem}")
            }
            Error::Thread(error) => write!(f, "a thread of the store did not start: {error}"),
            Error::Forked => f.write_str(
                "the process was forked after the store was opened, or its clock was made: open a \
                 store of its own in the child",
            ),
            Error::Locked { directory } => write!(
                f,
                "the sessions in {} are used by another store or process: stop it first, or wait \
                 for it (Builder::wait_for_lock)",
                directory.display()
            ),
            Error::Damaged { file, offset, problem } => write!(
                f,
                "{} is damaged at byte {offset}: {problem}. Nothing was changed; restore a copy, \
                 or choose another Builder::on_damage",
                file.display()
            ),
            Error::Unreadable { file, problem } => {
                write!(f, "{} cannot be used: {problem}. Nothing was changed", file.display())
            }
            Error::Files { file, doing, error } => {
                write!(f, "cannot {doing} {}: {error}", file.display())
            }
            Error::IdTaken(id) => {
                write!(f, "a session with the id {id} is there already; nothing was written")
            }
            Error::NotDurable(problem) => {
                write!(f, "sessions are in memory, but not durable on disk yet: {problem}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Missing(missing) => Some(missing),
            Error::Malformed(malformed) => Some(malformed),
            Error::Thread(error) | Error::Files { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<Missing> for Error {
    fn from(missing: Missing) -> Error {
        Error::Missing(missing)
    }
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Error {
        Error::Malformed(malformed)
    }
}

/// A text that is not what it should be. Never contains the text: it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// A token is 43 characters of base64url without padding.
    Token,
    /// A session id is a UUID in any of the forms that the `uuid` crate reads.
    SessionId,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Token => "not a token: expected 43 characters of base64url",
            Malformed::SessionId => "not a session id: expected a UUID",
        })
    }
}

impl std::error::Error for Malformed {}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::*;

    #[test]
    fn a_reason_and_a_version_are_plain_values_to_serde() {
        for reason in Reason::ALL {
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(serde_json::from_str::<Reason>(&json).unwrap(), reason);
        }
        assert_eq!(serde_json::to_string(&Reason::LoggedOut).unwrap(), "\"logged_out\"");
        assert_eq!(serde_json::to_string(&Version(7)).unwrap(), "7");
        assert_eq!(serde_json::from_str::<Version>("7").unwrap(), Version(7));
    }
}
