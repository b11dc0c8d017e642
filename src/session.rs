//! A session as it was at one moment, owned by whoever asked for it.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::{Duration, SystemTime};

use crate::data::{self, SessionData};
use crate::error::Result;
use crate::record::{OwnedRecord, archived};
use crate::token::SessionId;
use crate::version::Version;

/// A session's state at one moment: a cheap clone of immutable bytes, `Send`, may be held over an
/// `.await` and after the session ended.
///
/// It dereferences to the archived data. It does not follow the session: ask the store again for
/// what is true now.
///
/// # Examples
/// ```
/// use cloakroom::{Attributes, Store};
///
/// let store: Store = Store::builder().in_memory()?;
/// let id = store.create(Attributes::from([("username", "alice".into())]))?.id();
/// let session = store.get(id)?;
/// assert_eq!(session.get_str("username"), Some("alice"));
/// assert_eq!(session.id(), id);
/// # Ok::<(), cloakroom::Error>(())
/// ```
pub struct Session<S> {
    record: OwnedRecord,
    data: PhantomData<fn() -> S>,
}

impl<S> Clone for Session<S> {
    fn clone(&self) -> Session<S> {
        Session { record: self.record.clone(), data: PhantomData }
    }
}

impl<S: SessionData> Session<S> {
    /// Only for records of a store of `S`.
    pub(crate) fn new(record: OwnedRecord) -> Session<S> {
        Session { record, data: PhantomData }
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.record.record().id()
    }

    /// The version that the data has, for [`Store::replace_if`](crate::Store::replace_if).
    pub fn version(&self) -> Version {
        Version(self.record.record().version())
    }

    /// The user whom the session belongs to; None for an anonymous session.
    pub fn owner(&self) -> Option<&str> {
        self.record.record().trailer().map(|trailer| trailer.owner).filter(|text| !text.is_empty())
    }

    /// The label given by the application, such as the device's name.
    pub fn label(&self) -> Option<&str> {
        self.record.record().trailer().map(|trailer| trailer.label).filter(|text| !text.is_empty())
    }

    /// The archived data.
    pub fn data(&self) -> &S::Archived {
        view::<S>(self.record.record().data())
    }

    /// The data as a value of its own.
    ///
    /// # Errors
    /// [`Error::Encode`](crate::Error::Encode) if the type's own deserialization fails.
    pub fn to_data(&self) -> Result<S> {
        data::decode::<S>(self.data())
    }
}

/// The archive in the data of a record of a store of `S`.
#[allow(unsafe_code, reason = "the one call of `archived`, for all of the crate")]
#[inline(always)]
pub(crate) fn view<S: SessionData>(data: &[u8]) -> &S::Archived {
    // SAFETY: a store of `S` makes all its records' data with `encode` of `S`, and a record's data
    // begins 8 bytes after a multiple of 16 (`Record`, `OwnedRecord`).
    unsafe { archived::<S>(data) }
}

impl<S: SessionData> Deref for Session<S> {
    type Target = S::Archived;

    fn deref(&self) -> &S::Archived {
        self.data()
    }
}

impl<S> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.record.record();
        f.debug_struct("Session")
            .field("id", &record.id())
            .field("version", &record.version())
            .field("bytes", &record.data().len())
            .finish_non_exhaustive()
    }
}

/// What the store knows of a session besides its data: for lists of devices, for administrators.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// The session's id.
    pub id: SessionId,
    /// The number of its data writes.
    pub version: Version,
    /// The user whom it belongs to; None for an anonymous session.
    pub owner: Option<String>,
    /// The label given by the application, such as the device's name.
    pub label: Option<String>,
    /// When it was created, by the wall clock, to within 100 ms.
    pub created: SystemTime,
    /// When the user last proved who he is: at the session's creation, a
    /// [`login`](crate::Store::login) or [`bind`](crate::Store::bind), or
    /// [`reauthenticated`](crate::Store::reauthenticated).
    pub authenticated: SystemTime,
    /// When it was last seen, to within the [touch granularity](crate::Store::touch).
    pub last_seen: SystemTime,
    /// When it expires if it is not seen again; None for never.
    pub expires: Option<SystemTime>,
    /// How long ago it was last seen, to within the [touch granularity](crate::Store::touch).
    pub idle: Duration,
    /// How long ago it was created.
    pub age: Duration,
    /// The size of its archived data in bytes.
    pub data_bytes: usize,
}
