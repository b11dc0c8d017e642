//! One session as the files hold it.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::journal::stored::Stored;
use crate::record::{DATA_BYTES_MAX, TEXT_BYTES_MAX};
use crate::token::SessionId;

/// One session as the files hold it. Times are Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredSession<'a> {
    /// Its id.
    pub id: SessionId,
    /// How often its data was written.
    pub version: u32,
    /// Whom it belongs to; "" for nobody.
    pub owner: &'a str,
    /// What it was called at login, such as the browser; "" for nothing.
    pub label: &'a str,
    /// When it was created.
    pub created_ms: u64,
    /// When its lifetime began: its creation, login or reauthentication.
    pub authenticated_ms: u64,
    /// When it was last used, as far as that was written down.
    pub seen_ms: u64,
    /// How long it may be idle; None: for ever.
    pub idle_timeout: Option<Duration>,
    /// How long it may live; None: for ever.
    pub lifetime: Option<Duration>,
    /// The rkyv archive of its data.
    pub data: &'a [u8],
}

impl StoredSession<'_> {
    /// When it expires, in Unix milliseconds; None if never.
    pub fn expires_ms(&self) -> Option<u64> {
        Stored::from(*self).expires_ms()
    }

    /// # Errors
    /// [`Error::InvalidText`], [`Error::TooLarge`].
    pub(super) fn check(&self) -> Result<()> {
        for (what, text) in [("owner", self.owner), ("label", self.label)] {
            if text.len() > TEXT_BYTES_MAX {
                let (bytes, bytes_max) = (text.len(), TEXT_BYTES_MAX);
                return Err(Error::InvalidText { what, bytes, bytes_max });
            }
        }
        if self.data.len() > DATA_BYTES_MAX {
            return Err(Error::TooLarge { bytes: self.data.len(), bytes_max: DATA_BYTES_MAX });
        }
        Ok(())
    }
}

/// In the files the largest number stands for "for ever".
fn duration(nanos: u64) -> Option<Duration> {
    (nanos != u64::MAX).then(|| Duration::from_nanos(nanos))
}

fn nanos(duration: Option<Duration>) -> u64 {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    duration.map_or(u64::MAX, nanos)
}

impl<'a> From<Stored<'a>> for StoredSession<'a> {
    fn from(stored: Stored<'a>) -> StoredSession<'a> {
        StoredSession {
            id: stored.id,
            version: stored.version,
            owner: stored.owner,
            label: stored.label,
            created_ms: stored.created_ms,
            authenticated_ms: stored.authenticated_ms,
            seen_ms: stored.seen_ms,
            idle_timeout: duration(stored.idle_ns),
            lifetime: duration(stored.lifetime_ns),
            data: stored.data,
        }
    }
}

impl<'a> From<StoredSession<'a>> for Stored<'a> {
    fn from(session: StoredSession<'a>) -> Stored<'a> {
        Stored {
            id: session.id,
            version: session.version,
            created_ms: session.created_ms,
            authenticated_ms: session.authenticated_ms,
            seen_ms: session.seen_ms,
            idle_ns: nanos(session.idle_timeout),
            lifetime_ns: nanos(session.lifetime),
            owner: session.owner,
            label: session.label,
            data: session.data,
        }
    }
}
