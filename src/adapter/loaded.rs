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
//!
//! Digests are xxh3-64, without a key, so that they are the same in the next process. Who can
//! choose two values with one digest can only hide a change of his own session from himself.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::xxh3_64;

use super::merge::Rules;
use crate::attributes::{Attributes, Value};
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
    pub(super) fn of(key: &str, value: &Value, rules: &Rules) -> Seen {
        match value.as_i64() {
            Some(count) if rules.is_counter(key) => Seen::Count(count),
            _ => Seen::Digest(digest(value)),
        }
    }

    pub(super) fn is(self, value: &Value) -> bool {
        match self {
            Seen::Digest(seen) => digest(value) == seen,
            Seen::Count(count) => value.as_i64() == Some(count),
        }
    }
}

/// What a session's values were like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loaded {
    pub(super) id: SessionId,
    /// In order of the keys' digests.
    keys: Vec<(KeyDigest, Seen)>,
}

impl Loaded {
    pub(super) fn of(id: SessionId, data: &Attributes, rules: &Rules) -> Loaded {
        let seen = |(key, value)| (KeyDigest::of(key), Seen::of(key, value, rules));
        let mut keys: Vec<_> = data.iter().map(seen).collect();
        keys.sort_unstable_by_key(|&(key, _)| key);
        Loaded { id, keys }
    }

    pub(super) fn get(&self, key: KeyDigest) -> Option<Seen> {
        let found = self.keys.binary_search_by_key(&key, |&(key, _)| key).ok()?;
        Some(self.keys[found].1)
    }

    /// Whether a key is as it was loaded.
    #[cfg(feature = "actix-session-011")]
    pub(super) fn has(&self, key: &str, value: &Value) -> bool {
        self.get(KeyDigest::of(key)).is_some_and(|seen| seen.is(value))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = KeyDigest> {
        self.keys.iter().map(|&(key, _)| key)
    }

    pub(super) fn to_text(&self) -> String {
        let mut bytes = Vec::with_capacity(ID_BYTES + KEY_BYTES * self.keys.len());
        bytes.extend_from_slice(&self.id.0.to_be_bytes());
        for &(KeyDigest(key), seen) in &self.keys {
            bytes.extend_from_slice(&key.to_be_bytes());
            let (kind, value) = match seen {
                Seen::Digest(digest) => (0, digest.to_be_bytes()),
                Seen::Count(count) => (1, count.to_be_bytes()),
            };
            bytes.push(kind);
            bytes.extend_from_slice(&value);
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// None for any text that [`Loaded::to_text`] cannot have made.
    pub(super) fn from_text(text: &str) -> Option<Loaded> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (id, rest) = bytes.split_first_chunk::<ID_BYTES>()?;
        let mut keys = Vec::with_capacity(rest.len() / KEY_BYTES);
        let mut chunks = rest.chunks_exact(KEY_BYTES);
        for chunk in &mut chunks {
            let (key, rest) = chunk.split_first_chunk::<8>()?;
            let (kind, value) = rest.split_first()?;
            let value: [u8; 8] = value.try_into().ok()?;
            let seen = match kind {
                0 => Seen::Digest(u64::from_be_bytes(value)),
                1 => Seen::Count(i64::from_be_bytes(value)),
                _ => return None,
            };
            keys.push((KeyDigest(u64::from_be_bytes(*key)), seen));
        }
        let whole = chunks.remainder().is_empty() && keys.is_sorted_by_key(|&(key, _)| key);
        whole.then(|| Loaded { id: SessionId(u128::from_be_bytes(*id)), keys })
    }
}

/// The digest of a value as JSON knows it: equal for values that JSON cannot tell apart, since a
/// handler gets JSON and gives JSON back.
fn digest(value: &Value) -> u64 {
    let mut out = Out::new();
    write(value, &mut out);
    xxh3_64(out.bytes())
}

/// What is to be digested: on the stack as long as it is short, as most values are.
struct Out {
    short: [u8; SHORT_MAX],
    short_len: usize,
    /// All of it, once it is longer than [`SHORT_MAX`].
    long: Vec<u8>,
}

const SHORT_MAX: usize = 64;

impl Out {
    fn new() -> Out {
        Out { short: [0; SHORT_MAX], short_len: 0, long: Vec::new() }
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.short_len + bytes.len();
        if !self.long.is_empty() {
            self.long.extend_from_slice(bytes);
        } else if end <= SHORT_MAX {
            self.short[self.short_len..end].copy_from_slice(bytes);
            self.short_len = end;
        } else {
            self.long.reserve(2 * end);
            self.long.extend_from_slice(&self.short[..self.short_len]);
            self.long.extend_from_slice(bytes);
        }
    }

    fn bytes(&self) -> &[u8] {
        if self.long.is_empty() { &self.short[..self.short_len] } else { &self.long }
    }
}

fn write(value: &Value, out: &mut Out) {
    match value {
        Value::Null => out.put(b"n"),
        Value::Bool(flag) => out.put(if *flag { b"t" } else { b"f" }),
        Value::Int(int) => write_int(i128::from(*int), out),
        Value::UInt(int) => write_int(i128::from(*int), out),
        Value::Float(float) if float.is_finite() => {
            out.put(b"d");
            // Zero has two signs, which are equal.
            out.put(&(float + 0.0).to_bits().to_be_bytes());
        }
        Value::Float(_) => out.put(b"n"),
        Value::Text(text) => write_bytes(b's', text.as_bytes(), out),
        Value::Bytes(bytes) => {
            write_len(b'l', bytes.len(), out);
            bytes.iter().for_each(|&byte| write_int(i128::from(byte), out));
        }
        Value::List(list) => {
            write_len(b'l', list.len(), out);
            list.iter().for_each(|value| write(value, out));
        }
        Value::Map(map) => {
            // Equal in whatever order.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|&(key, _)| key);
            write_len(b'm', entries.len(), out);
            for (key, value) in entries {
                write_bytes(b's', key.as_bytes(), out);
                write(value, out);
            }
        }
    }
}

fn write_int(int: i128, out: &mut Out) {
    out.put(b"i");
    out.put(&int.to_be_bytes());
}

fn write_bytes(kind: u8, bytes: &[u8], out: &mut Out) {
    write_len(kind, bytes.len(), out);
    out.put(bytes);
}

fn write_len(kind: u8, len: usize, out: &mut Out) {
    out.put(&[kind]);
    out.put(&(len as u64).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::attributes::tests::{attributes, value};

    fn json(value: &Value) -> Value {
        Value::try_from(serde_json::Value::from(value.clone())).unwrap()
    }

    proptest! {
        /// What a handler gives back unchanged must not look changed.
        #[test]
        fn a_value_is_the_same_after_a_way_through_json(value in value()) {
            prop_assert_eq!(digest(&value), digest(&json(&value)));
        }

        #[test]
        fn equal_values_have_equal_digests(a in value(), b in value()) {
            let same = json(&a) == json(&b);
            prop_assert_eq!(digest(&a) == digest(&b), same);
        }

        /// However the bytes come, and wherever the border of the short ones is.
        #[test]
        fn bytes_are_put_together(parts in prop::collection::vec(0..70_usize, 0..6)) {
            let (mut out, mut expected) = (Out::new(), Vec::new());
            for (part, len) in parts.into_iter().enumerate() {
                let bytes = vec![part as u8; len];
                out.put(&bytes);
                expected.extend(bytes);
            }
            prop_assert_eq!(out.bytes(), expected);
        }

        #[test]
        fn the_text_says_all(data in attributes()) {
            let rules = Rules { counters: vec!["a".into(), "b".into()], ..Rules::default() };
            let loaded = Loaded::of(SessionId(7), &data, &rules);
            prop_assert_eq!(Loaded::from_text(&loaded.to_text()), Some(loaded.clone()));
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
