//! One session as a line of JSON.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloakroom::directory::{Schema, StoredSession};
use cloakroom::{Attributes, SessionId};
use serde::{Deserialize, Serialize};

use super::text;

/// The fields of a session, in the order in which they are printed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    pub(crate) id: SessionId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    version: u32,
    created: Moment,
    authenticated: Moment,
    seen: Moment,
    /// Follows from the others; not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Moment>,
    /// None: for ever.
    idle_timeout_ms: Option<Millis>,
    lifetime_ms: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attributes: Option<Attributes>,
    /// With `data` that is not decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    /// The archive as base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<String>,
}

/// A moment, either way.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Moment {
    UnixMs(u64),
    Text(String),
}

/// Milliseconds; with a fraction only where there is one.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(untagged)]
enum Millis {
    Whole(u64),
    Fraction(f64),
}

/// How moments are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    Rfc3339,
    UnixMs,
}

const NANOS_PER_MS: u64 = 1_000_000;

impl Millis {
    fn of(time: Duration) -> Millis {
        // Longer times are "for ever" in the files.
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        match nanos % NANOS_PER_MS {
            0 => Millis::Whole(nanos / NANOS_PER_MS),
            _ => Millis::Fraction(nanos as f64 / NANOS_PER_MS as f64),
        }
    }

    fn duration(self) -> Result<Duration, String> {
        match self {
            Millis::Whole(ms) => Ok(Duration::from_millis(ms)),
            Millis::Fraction(ms) => {
                let nanos = (ms * NANOS_PER_MS as f64).round();
                let is_fine = (0.0..u64::MAX as f64).contains(&nanos);
                let duration = || Duration::from_nanos(nanos as u64);
                is_fine.then(duration).ok_or_else(|| format!("{ms} ms is no length of time"))
            }
        }
    }
}

impl Moment {
    fn of(ms: u64, times: Times) -> Moment {
        match times {
            Times::Rfc3339 => Moment::Text(text::moment(ms)),
            Times::UnixMs => Moment::UnixMs(ms),
        }
    }

    fn ms(&self) -> Result<u64, String> {
        match self {
            Moment::UnixMs(ms) => Ok(*ms),
            Moment::Text(text) => {
                text::parse_moment(text).map_err(|problem| format!("{text:?}: {problem}"))
            }
        }
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl Line {
    /// For people, and for programs that look at data.
    pub(crate) fn decoded(session: &StoredSession<'_>, schema: Schema, times: Times) -> Line {
        let attributes = schema.decode(session.data);
        let is_opaque = attributes.is_none();
        Line {
            attributes,
            schema: is_opaque.then(|| format!("{:#018x}", schema.number)),
            data: is_opaque.then(|| STANDARD.encode(session.data)),
            expires: session.expires_ms().map(|ms| Moment::of(ms, times)),
            ..Line::bare(session, times)
        }
    }

    /// With the very bytes of its data.
    pub(crate) fn exact(session: &StoredSession<'_>) -> Line {
        Line { data: Some(STANDARD.encode(session.data)), ..Line::bare(session, Times::UnixMs) }
    }

    fn bare(session: &StoredSession<'_>, times: Times) -> Line {
        Line {
            id: session.id,
            owner: some(session.owner),
            label: some(session.label),
            version: session.version,
            created: Moment::of(session.created_ms, times),
            authenticated: Moment::of(session.authenticated_ms, times),
            seen: Moment::of(session.seen_ms, times),
            expires: None,
            idle_timeout_ms: session.idle_timeout.map(Millis::of),
            lifetime_ms: session.lifetime.map(Millis::of),
            attributes: None,
            schema: None,
            data: None,
        }
    }

    /// Calls `f` with the session that the line tells of, in a directory of that schema.
    ///
    /// # Errors
    /// What is wrong with the line; that of `f`.
    pub(crate) fn session<E: From<String>>(
        &self,
        schema: Schema,
        f: impl FnOnce(&StoredSession<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let data = self.bytes(schema)?;
        f(&StoredSession {
            id: self.id,
            version: self.version,
            owner: self.owner.as_deref().unwrap_or_default(),
            label: self.label.as_deref().unwrap_or_default(),
            created_ms: self.created.ms()?,
            authenticated_ms: self.authenticated.ms()?,
            seen_ms: self.seen.ms()?,
            idle_timeout: self.idle_timeout_ms.map(Millis::duration).transpose()?,
            lifetime: self.lifetime_ms.map(Millis::duration).transpose()?,
            data: &data,
        })
    }

    fn bytes(&self, schema: Schema) -> Result<Vec<u8>, String> {
        match (&self.data, &self.attributes) {
            (Some(data), None) => {
                if self.schema.as_ref().is_some_and(|of| *of != format!("{:#018x}", schema.number))
                {
                    return Err("its data is of another schema than that of the directory".into());
                }
                STANDARD.decode(data).map_err(|error| format!("`data` is no base64: {error}"))
            }
            (None, Some(attributes)) => {
                let data = schema.encode(attributes).map_err(|error| error.to_string())?;
                data.ok_or_else(|| "it has attributes, but the sessions are of another type".into())
            }
            _ => Err("it needs either `data` or `attributes`".to_owned()),
        }
    }
}
