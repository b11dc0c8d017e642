//! What a session's values were like when a request loaded it.
//!
//! The text travels with the data, under the key [`LOADED`]: whatever becomes of this process or
//! of its memory, a save tells by itself what it started from.
//!
//! ```text
//! base64url( session id, 16 bytes | per key, in order of its digest: )
//!   digest of the key, 8 bytes | 0 | digest of the value, 8 bytes
//!   digest of the key, 8 bytes | 1 | the value of a counter, 8 bytes
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::xxh3_64;

use super::digest::Given;
use super::merge::Rules;
use crate::attributes::Attributes;
use crate::token::SessionId;

/// The key under which the text is handed out.
pub(super) const LOADED: &str = "cloakroom.loaded";

const ID_BYTES: usize = 16;
const KEY_BYTES: usize = 17;

/// The digest of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyDigest(u64);

impl KeyDigest {
    pub(super) fn of(key: &str) -> KeyDigest {
        KeyDigest(xxh3_64(key.as_bytes()))
    }
}

/// As much of a value as it takes to see whether it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Any value.
    Digest(u64),
    /// A counter, to be able to tell how much was added.
    Count(i64),
}

impl Seen {
    pub(super) fn of(key: &str, value: &impl Given, rules: &Rules) -> Seen {
        match value.as_i64() {
            Some(count) if rules.is_counter(key) => Seen::Count(count),
            _ => Seen::Digest(value.digest()),
        }
    }

    pub(super) fn is(self, value: &impl Given) -> bool {
        match self {
            Seen::Digest(seen) => value.digest() == seen,
            Seen::Count(count) => value.as_i64() == Some(count),
        }
    }
}

/// A key with what was seen of its value, as it is in the text: in order of the keys.
type Entry = [u8; KEY_BYTES];

fn entry(KeyDigest(key): KeyDigest, seen: Seen) -> Entry {
    let (kind, value) = match seen {
        Seen::Digest(digest) => (0, digest.to_be_bytes()),
        Seen::Count(count) => (1, count.to_be_bytes()),
    };
    let mut entry = [kind; KEY_BYTES];
    entry[..8].copy_from_slice(&key.to_be_bytes());
    entry[9..].copy_from_slice(&value);
    entry
}

/// None for what [`entry`] cannot have made.
fn read(entry: &Entry) -> Option<(KeyDigest, Seen)> {
    let (key, rest) = entry.split_first_chunk::<8>()?;
    let (kind, value) = rest.split_first()?;
    let value: [u8; 8] = value.try_into().ok()?;
    let seen = match kind {
        0 => Seen::Digest(u64::from_be_bytes(value)),
        1 => Seen::Count(i64::from_be_bytes(value)),
        _ => return None,
    };
    Some((KeyDigest(u64::from_be_bytes(*key)), seen))
}

/// What a session's values were like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loaded {
    /// The id, then the entries.
    bytes: Vec<u8>,
}

impl Loaded {
    pub(super) fn of(id: SessionId, data: &Attributes, rules: &Rules) -> Loaded {
        let mut bytes = Vec::with_capacity(ID_BYTES + KEY_BYTES * data.len());
        bytes.extend_from_slice(&id.0.to_be_bytes());
        for (key, value) in data {
            bytes.extend_from_slice(&entry(KeyDigest::of(key), Seen::of(key, value, rules)));
        }
        bytes[ID_BYTES..].as_chunks_mut::<KEY_BYTES>().0.sort_unstable();
        Loaded { bytes }
    }

    pub(super) fn id(&self) -> SessionId {
        let id = self.bytes.first_chunk().copied().unwrap_or_default();
        SessionId(u128::from_be_bytes(id))
    }

    #[cfg(feature = "tower-sessions-015")]
    pub(super) fn set_id(&mut self, id: SessionId) {
        self.bytes[..ID_BYTES].copy_from_slice(&id.0.to_be_bytes());
    }

    fn entries(&self) -> &[Entry] {
        self.bytes[ID_BYTES..].as_chunks().0
    }

    pub(super) fn get(&self, KeyDigest(key): KeyDigest) -> Option<Seen> {
        let entries = self.entries();
        let found = entries.binary_search_by(|entry| entry[..8].cmp(&key.to_be_bytes())).ok()?;
        read(&entries[found]).map(|(_, seen)| seen)
    }

    /// Whether a key is as it was loaded.
    #[cfg(feature = "actix-session-011")]
    pub(super) fn has(&self, key: &str, value: &impl Given) -> bool {
        self.get(KeyDigest::of(key)).is_some_and(|seen| seen.is(value))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = KeyDigest> {
        self.entries().iter().filter_map(read).map(|(key, _)| key)
    }

    pub(super) fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.bytes)
    }

    /// None for any text that [`Loaded::to_text`] cannot have made.
    pub(super) fn from_text(text: &str) -> Option<Loaded> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (entries, rest) = bytes.get(ID_BYTES..)?.as_chunks();
        let is_one = rest.is_empty() && entries.is_sorted();
        (is_one && entries.iter().all(|entry| read(entry).is_some())).then_some(Loaded { bytes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::attributes::tests::attributes;

    proptest! {
        #[test]
        fn the_text_says_all(data in attributes()) {
            let rules = Rules { counters: vec!["a".into(), "b".into()], ..Rules::default() };
            let loaded = Loaded::of(SessionId(7), &data, &rules);
            prop_assert_eq!(Loaded::from_text(&loaded.to_text()), Some(loaded.clone()));
            prop_assert_eq!((loaded.id(), loaded.keys().count()), (SessionId(7), data.len()));
            for (key, value) in &data {
                prop_assert!(loaded.get(KeyDigest::of(key)).is_some_and(|seen| seen.is(value)));
            }
            prop_assert_eq!(loaded.get(KeyDigest::of("never a key of these")), None);
        }

        #[test]
        fn no_text_is_trusted(text in "[A-Za-z0-9_-]{0,120}") {
            if let Some(loaded) = Loaded::from_text(&text) {
                prop_assert_eq!(loaded.to_text(), text);
            }
        }
    }
}
