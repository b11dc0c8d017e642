//! Digests of values as JSON knows them: equal for values that JSON cannot tell apart, since a
//! handler gets JSON and gives JSON back.
//!
//! They are xxh3-64, without a key, so that they are the same in the next process. Who can choose
//! two values with one digest can only hide a change of his own session from himself.

use xxhash_rust::xxh3::xxh3_64;

use crate::attributes::Value;

/// A value as a handler gives it back: as JSON, or converted already.
pub(super) trait Given {
    fn digest(&self) -> u64;

    /// The integer, if it is one.
    fn as_i64(&self) -> Option<i64>;
}

impl Given for Value {
    fn digest(&self) -> u64 {
        let mut out = Out::new();
        write(self, &mut out);
        xxh3_64(out.bytes())
    }

    fn as_i64(&self) -> Option<i64> {
        Value::as_i64(self)
    }
}

#[cfg(feature = "tower-sessions-015")]
impl Given for serde_json::Value {
    fn digest(&self) -> u64 {
        let mut out = Out::new();
        write_json(self, &mut out, crate::attributes::Attributes::NESTING_MAX);
        xxh3_64(out.bytes())
    }

    fn as_i64(&self) -> Option<i64> {
        serde_json::Value::as_i64(self)
    }
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
        Value::Float(float) => write_float(*float, out),
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

/// What [`write`] writes of the value that this one becomes.
#[cfg(feature = "tower-sessions-015")]
fn write_json(json: &serde_json::Value, out: &mut Out, levels: u32) {
    use serde_json::Value as Json;

    let below = levels.checked_sub(1);
    match (json, below) {
        // No value nests so deep.
        (Json::Array(_) | Json::Object(_), None) => out.put(b"x"),
        (Json::Null, _) => out.put(b"n"),
        (Json::Bool(flag), _) => out.put(if *flag { b"t" } else { b"f" }),
        (Json::Number(number), _) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => write_int(i128::from(int), out),
            (None, Some(int)) => write_int(i128::from(int), out),
            (None, None) => write_float(number.as_f64().unwrap_or(f64::NAN), out),
        },
        (Json::String(text), _) => write_bytes(b's', text.as_bytes(), out),
        (Json::Array(list), Some(below)) => {
            write_len(b'l', list.len(), out);
            list.iter().for_each(|json| write_json(json, out, below));
        }
        (Json::Object(map), Some(below)) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|&(key, _)| key);
            write_len(b'm', entries.len(), out);
            for (key, json) in entries {
                write_bytes(b's', key.as_bytes(), out);
                write_json(json, out, below);
            }
        }
    }
}

fn write_float(float: f64, out: &mut Out) {
    if float.is_finite() {
        out.put(b"d");
        // Zero has two signs, which are equal.
        out.put(&(float + 0.0).to_bits().to_be_bytes());
    } else {
        out.put(b"n");
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
    use serde_json::Value as Json;

    use super::*;
    use crate::attributes::tests::{nested, value};

    fn json(value: &Value) -> Value {
        Value::try_from(Json::from(value.clone())).unwrap()
    }

    proptest! {
        /// What a handler gives back unchanged must not look changed.
        #[test]
        fn a_value_is_the_same_after_a_way_through_json(value in value()) {
            prop_assert_eq!(value.digest(), json(&value).digest());
            prop_assert_eq!(value.digest(), Json::from(value.clone()).digest());
            prop_assert_eq!(json(&value).as_i64(), Given::as_i64(&Json::from(value)));
        }

        #[test]
        fn equal_values_have_equal_digests(a in value(), b in value()) {
            let same = json(&a) == json(&b);
            prop_assert_eq!(a.digest() == b.digest(), same);
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
    }

    /// A value that no session can hold looks like none that it holds, and overflows no stack.
    #[test]
    fn json_that_nests_too_deep_is_like_no_value() {
        let deep = (0..1000).fold(Json::Null, |inner, _| Json::Array(vec![inner]));
        assert!(Value::try_from(deep.clone()).is_err());
        let deepest = Json::from(nested(crate::attributes::Attributes::NESTING_MAX));
        assert_ne!(deep.digest(), deepest.digest());
        assert_eq!(Value::try_from(deepest.clone()).unwrap().digest(), deepest.digest());
    }
}
