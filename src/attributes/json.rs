//! Conversions between attributes on one side, `serde_json::Value` on the other.
//!
//! Text needs no detour through these: `serde_json::from_str` makes `Attributes` directly,
//! always keeping the order of the keys. A `serde_json::Value` keeps it thanks to the feature
//! `preserve_order` of that crate, which our feature `json` turns on.

use std::error::Error;
use std::fmt;

use serde_json::Value as Json;

use super::value::TooDeep;
use super::{Attributes, Value};

/// Why a JSON value is not [`Attributes`].
///
/// # Examples
///
/// ```
/// use cloakroom::{Attributes, JsonError};
///
/// let error = Attributes::try_from(serde_json::json!(["a", "list"])).unwrap_err();
/// assert!(matches!(error, JsonError::NotAnObject));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonError {
    /// Only an object has named values.
    NotAnObject,
    /// Arrays and objects nest deeper than [`Attributes::NESTING_MAX`].
    TooDeep,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("attributes are made of a JSON object only"),
            Self::TooDeep => TooDeep.fmt(f),
        }
    }
}

impl Error for JsonError {}

/// Takes over a JSON object.
///
/// ```
/// use cloakroom::Attributes;
/// use serde_json::json;
///
/// let session = Attributes::try_from(json!({ "username": "alice", "visits": 3 }))?;
/// assert_eq!(session.get_str("username"), Some("alice"));
/// assert_eq!(session.get_i64("visits"), Some(3));
/// # Ok::<(), cloakroom::JsonError>(())
/// ```
impl TryFrom<Json> for Attributes {
    type Error = JsonError;

    fn try_from(json: Json) -> Result<Self, JsonError> {
        match json {
            Json::Object(object) => map_from_json(object, Attributes::NESTING_MAX),
            _ => Err(JsonError::NotAnObject),
        }
    }
}

/// Takes over any JSON value that does not nest too deep.
impl TryFrom<Json> for Value {
    type Error = JsonError;

    fn try_from(json: Json) -> Result<Self, JsonError> {
        value_from_json(json, Attributes::NESTING_MAX)
    }
}

/// Makes a JSON object.
///
/// JSON knows less than [`Value`]. Bytes become an array of numbers, which reads back as a
/// list; NaN and the infinities become null, as does what nests deeper than
/// [`Attributes::NESTING_MAX`].
///
/// ```
/// use cloakroom::Attributes;
/// use serde_json::json;
///
/// let session = Attributes::from([("nonce", vec![1_u8, 2].into()), ("ratio", f64::NAN.into())]);
/// assert_eq!(serde_json::Value::from(session), json!({ "nonce": [1, 2], "ratio": null }));
/// ```
impl From<Attributes> for Json {
    fn from(attributes: Attributes) -> Self {
        map_to_json(attributes, Attributes::NESTING_MAX)
    }
}

/// Makes a JSON value, by the rules for [`Attributes`].
impl From<Value> for Json {
    fn from(value: Value) -> Self {
        value_to_json(value, Attributes::NESTING_MAX)
    }
}

fn map_from_json(
    object: serde_json::Map<String, Json>,
    levels: u32,
) -> Result<Attributes, JsonError> {
    object.into_iter().map(|(key, json)| Ok((key, value_from_json(json, levels)?))).collect()
}

fn value_from_json(json: Json, levels: u32) -> Result<Value, JsonError> {
    let below = || levels.checked_sub(1).ok_or(JsonError::TooDeep);
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(flag) => flag.into(),
        Json::Number(number) => {
            let int = number.as_i64().map(Value::from);
            let uint = || number.as_u64().map(Value::from);
            int.or_else(uint).unwrap_or_else(|| number.as_f64().into())
        }
        Json::String(text) => text.into(),
        Json::Array(array) => {
            let below = below()?;
            let list = array.into_iter().map(|json| value_from_json(json, below));
            Value::List(list.collect::<Result<_, _>>()?)
        }
        Json::Object(object) => map_from_json(object, below()?)?.into(),
    })
}

fn map_to_json(map: Attributes, levels: u32) -> Json {
    Json::Object(map.into_iter().map(|(key, value)| (key, value_to_json(value, levels))).collect())
}

fn value_to_json(value: Value, levels: u32) -> Json {
    match (value, levels.checked_sub(1)) {
        (Value::Null, _) => Json::Null,
        (value @ (Value::List(_) | Value::Map(_)), None) => {
            // The drop of attributes is the one that needs no stack.
            drop(Attributes::from([("", value)]));
            Json::Null
        }
        (Value::Bool(flag), _) => flag.into(),
        (Value::Int(n), _) => n.into(),
        (Value::UInt(n), _) => n.into(),
        (Value::Float(n), _) => n.into(),
        (Value::Text(text), _) => text.into(),
        (Value::Bytes(bytes), _) => bytes.into(),
        (Value::List(list), Some(below)) => {
            list.into_iter().map(|value| value_to_json(value, below)).collect()
        }
        (Value::Map(map), Some(below)) => map_to_json(map, below),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::tests::{attributes, keys, nested};
    use super::*;

    /// What JSON keeps of a value.
    fn as_json_sees(value: &Value) -> Value {
        match value {
            Value::Float(n) if !n.is_finite() => Value::Null,
            Value::Bytes(bytes) => Value::List(bytes.iter().map(|&byte| byte.into()).collect()),
            Value::List(list) => Value::List(list.iter().map(as_json_sees).collect()),
            Value::Map(map) => Value::Map(all_as_json_sees(map)),
            other => other.clone(),
        }
    }

    fn all_as_json_sees(map: &Attributes) -> Attributes {
        map.iter().map(|(key, value)| (key, as_json_sees(value))).collect()
    }

    #[test]
    fn text_keeps_order_with_the_last_of_equal_keys() {
        let session: Attributes = serde_json::from_str(
            r#"{"z": 1, "a": [true, null, -2, 18446744073709551615, 0.5], "z": {"k": "v"}}"#,
        )
        .unwrap();
        assert_eq!(keys(&session), ["z", "a"]);
        let text = r#"{"z":{"k":"v"},"a":[true,null,-2,18446744073709551615,0.5]}"#;
        assert_eq!(serde_json::to_string(&session).unwrap(), text);
    }

    #[test]
    fn only_objects_become_attributes() {
        assert_eq!(Attributes::try_from(json!([1])), Err(JsonError::NotAnObject));
        assert!(serde_json::from_str::<Attributes>("[1]").is_err());
        assert!(serde_json::from_str::<Attributes>("null").is_err());
    }

    #[test]
    fn nesting_is_limited_both_ways() {
        for (levels, fits) in
            [(Attributes::NESTING_MAX, true), (Attributes::NESTING_MAX + 1, false)]
        {
            let array = "[".repeat(levels as usize) + &"]".repeat(levels as usize);
            let text = format!(r#"{{"a":{array}}}"#);
            assert_eq!(serde_json::from_str::<Attributes>(&text).is_ok(), fits);
            assert_eq!(serde_json::from_str::<Value>(&array).is_ok(), fits);
            let json: Json = serde_json::from_str(&text).unwrap();
            assert_eq!(Attributes::try_from(json).is_ok(), fits);
            let session = Attributes::from([("a", nested(levels))]);
            assert_eq!(serde_json::to_string(&session).is_ok(), fits);
        }
        let deep = Attributes::from([("a", nested(300_000))]);
        assert!(serde_json::to_string(&deep).is_err());
        assert!(Json::from(deep)["a"].is_object());
        let lists = (0..300_000).fold(Value::Null, |inner, _| Value::List(vec![inner]));
        assert!(Json::from(lists).is_array());
    }

    proptest! {
        #[test]
        fn json_reads_back(session in attributes()) {
            let expected = all_as_json_sees(&session);

            let json = serde_json::to_value(&session).unwrap();
            let converted = Json::from(session.clone());
            prop_assert_eq!(&converted, &json);
            prop_assert_eq!(&serde_json::from_value::<Attributes>(json).unwrap(), &expected);
            let back = Attributes::try_from(converted).unwrap();
            prop_assert_eq!(keys(&back), keys(&session));
            prop_assert_eq!(&back, &expected);
        }

        #[test]
        fn text_never_panics(text in r#"[\[\]{}",:0-9a-z\\ -]{0,40}"#) {
            let _ = serde_json::from_str::<Attributes>(&text);
        }
    }
}
