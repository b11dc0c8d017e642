//! Which session type files are of, and how sessions of another one become ours.

use std::fmt;
use std::sync::Arc;

use crate::data::{self, Encoded, SessionData};

/// The number that files of this session type bear.
pub(crate) fn schema_of<S: SessionData>(number: u64) -> u64 {
    let name = std::any::type_name::<S>();
    let name = name.rsplit("::").next().unwrap_or(name);
    let text =
        format!("{name} {number} {} {}", size_of::<S::Archived>(), align_of::<S::Archived>());
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

/// What a session's data becomes: None where the session is not to go on, an error where it is no
/// archive of the type that it should be of.
pub(crate) type Converted = Result<Option<Encoded>, String>;

type Convert = dyn Fn(&[u8]) -> Converted + Send + Sync;

/// The way from one session type to another.
#[derive(Clone)]
pub(crate) struct Migration {
    /// Where it begins.
    pub(crate) schema: u64,
    convert: Arc<Convert>,
}

impl Migration {
    /// From `Old`, whose files have this number, to `New`.
    pub(crate) fn new<Old: SessionData, New: SessionData>(
        number: u64,
        f: impl Fn(Old) -> Option<New> + Send + Sync + 'static,
    ) -> Migration {
        let convert = move |bytes: &[u8]| match f(data::parse::<Old>(bytes)?) {
            Some(new) => data::encode(&new).map(Some).map_err(|error| error.to_string()),
            None => Ok(None),
        };
        Migration { schema: schema_of::<Old>(number), convert: Arc::new(convert) }
    }

    pub(crate) fn convert(&self, bytes: &[u8]) -> Converted {
        (self.convert)(bytes)
    }
}

impl fmt::Debug for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Migration(from schema {:#x})", self.schema)
    }
}
