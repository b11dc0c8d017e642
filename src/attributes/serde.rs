//! Attributes in any self-describing format of `serde`.
//!
//! The nesting limit holds in both directions, so that text from outside cannot exhaust the
//! stack, whatever limit the format itself has or lacks.

use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{self, Serialize, SerializeMap, Serializer};

use super::value::TooDeep;
use super::{Attributes, Value};

/// A promised length is believed up to here, since it may come from outside.
const CAPACITY_MAX: usize = 64;

/// Writes a map in order of insertion.
impl Serialize for Attributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.nests_within(Attributes::NESTING_MAX) {
            return Err(ser::Error::custom(TooDeep));
        }
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// Writes the bare value; null becomes a unit, bytes become the bytes of the format.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(flag) => serializer.serialize_bool(*flag),
            Self::Int(n) => serializer.serialize_i64(*n),
            Self::UInt(n) => serializer.serialize_u64(*n),
            Self::Float(n) => serializer.serialize_f64(*n),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Self::List(_) | Self::Map(_) if !self.nests_within(Attributes::NESTING_MAX) => {
                Err(ser::Error::custom(TooDeep))
            }
            Self::List(list) => serializer.collect_seq(list),
            Self::Map(map) => map.serialize(serializer),
        }
    }
}

/// Reads a map with text keys; of two entries with one key the last wins, at the position of
/// the first.
impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AttributesVisitor { levels: Attributes::NESTING_MAX })
    }
}

/// Reads whatever the format says is there.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ValueSeed { levels: Attributes::NESTING_MAX }.deserialize(deserializer)
    }
}

struct AttributesVisitor {
    levels: u32,
}

impl<'de> Visitor<'de> for AttributesVisitor {
    type Value = Attributes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with text keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attributes, A::Error> {
        let capacity = map.size_hint().unwrap_or(0).min(CAPACITY_MAX);
        let mut pairs: Vec<(String, Value)> = Vec::with_capacity(capacity);
        while let Some(key) = map.next_key()? {
            pairs.push((key, map.next_value_seed(ValueSeed { levels: self.levels })?));
        }
        Ok(pairs.into_iter().collect())
    }
}

#[derive(Clone, Copy)]
struct ValueSeed {
    levels: u32,
}

impl ValueSeed {
    fn below<E: de::Error>(self) -> Result<Self, E> {
        let levels = self.levels.checked_sub(1).ok_or_else(|| E::custom(TooDeep))?;
        Ok(Self { levels })
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null, a bool, a 64-bit number, text, bytes, a list or a map")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(flag.into())
    }

    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_f64<E>(self, n: f64) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(bytes.into())
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Value, E> {
        Ok(bytes.into())
    }

    // A wrapper leaves no level in the value, yet counts as one: it recurses all the same.
    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        self.below()?.deserialize(inner)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        self.below()?.deserialize(inner)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut list: Vec<Value> =
            Vec::with_capacity(seq.size_hint().unwrap_or(0).min(CAPACITY_MAX));
        while let Some(value) = seq.next_element_seed(below)? {
            list.push(value);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        let ValueSeed { levels } = self.below()?;
        AttributesVisitor { levels }.visit_map(map).map(Value::Map)
    }
}
