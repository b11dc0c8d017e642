//! The zero-copy view that readers of stored attributes get.

use std::fmt;

use rkyv::Deserialize;
use rkyv::rancor::Fallible;
use rkyv::string::ArchivedString;
use rkyv::tuple::ArchivedTuple2;

use super::iter::ArchivedIter;
use super::value::{Number, fmt_bytes};
use super::{ArchivedAttributes, ArchivedValue, Attributes, Value};

// Eight is what the widest number needs. The root alone needs less, being a length with an
// offset, so its `align_of` is not what the bytes of an archive have to be aligned to: a store
// aligns every record to 16.
const _: () = assert!(align_of::<ArchivedAttributes>() <= 8);
const _: () = assert!(align_of::<ArchivedValue>() <= 8);

pub(super) type ArchivedEntry = ArchivedTuple2<ArchivedString, ArchivedValue>;

/// Reading a session without decoding it.
///
/// ```
/// use cloakroom::{ArchivedAttributes, Attributes};
/// use rkyv::rancor::Error;
///
/// let session = Attributes::from([("username", "alice".into()), ("visits", 3.into())]);
/// let bytes = rkyv::to_bytes::<Error>(&session)?;
///
/// let stored = rkyv::access::<ArchivedAttributes, Error>(&bytes)?;
/// assert_eq!(stored.get("username").and_then(|v| v.as_str()), Some("alice"));
/// assert_eq!(stored.get_i64("visits"), Some(3));
/// assert_eq!(stored.to_attributes(), session);
/// # Ok::<(), Error>(())
/// ```
impl ArchivedAttributes {
    /// Returns the value of a key, comparing keys one after another.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&ArchivedValue> {
        self.entries.iter().find(|entry| entry.0 == *key).map(|entry| &entry.1)
    }

    /// Tells whether the key is set, be it to null.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Iterates over the pairs in order of insertion.
    #[must_use]
    pub fn iter(&self) -> ArchivedIter<'_> {
        ArchivedIter::new(&self.entries)
    }

    /// Iterates over the keys in order of insertion.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> + DoubleEndedIterator {
        self.entries.iter().map(|entry| entry.0.as_str())
    }

    /// Decodes everything: one allocation for the pairs, one for each key, text or list.
    ///
    /// It cannot fail, since a view is made of valid bytes only.
    #[must_use]
    pub fn to_attributes(&self) -> Attributes {
        let pairs = self.entries.iter();
        let decode = |pair: &ArchivedEntry| (pair.0.as_str().to_owned(), pair.1.to_value());
        Attributes { entries: pairs.map(decode).collect() }
    }
}

/// Reading one value without decoding it; the rules are those of [`Value`].
///
/// ```
/// use cloakroom::{ArchivedValue, Value};
/// use rkyv::rancor::Error;
///
/// let bytes = rkyv::to_bytes::<Error>(&Value::from(vec![Value::from("a"), Value::from(2)]))?;
/// let list = rkyv::access::<ArchivedValue, Error>(&bytes)?.as_list().unwrap_or_default();
/// assert_eq!(list[0].as_str(), Some("a"));
/// assert_eq!(list[1].as_u64(), Some(2));
/// # Ok::<(), Error>(())
/// ```
impl ArchivedValue {
    /// Tells whether this is null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Returns the text, if this is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// Returns the truth value, if this is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(flag) = self { Some(*flag) } else { None }
    }

    /// Returns the integer, if this is one that an `i64` holds.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        self.number()?.as_i64()
    }

    /// Returns the integer, if this is one that a `u64` holds.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.number()?.as_u64()
    }

    /// Returns the number, if this is a float or an integer that an `f64` holds exactly.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        self.number()?.as_f64()
    }

    /// Returns the bytes, if this is bytes; text is not.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// Returns the values, if this is a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[ArchivedValue]> {
        if let Self::List(list) = self { Some(list) } else { None }
    }

    /// Returns the attributes, if this is a map.
    #[must_use]
    pub fn as_map(&self) -> Option<&ArchivedAttributes> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }

    /// Decodes the value with everything in it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(flag) => Value::Bool(*flag),
            Self::Int(n) => Value::Int(n.to_native()),
            Self::UInt(n) => Value::UInt(n.to_native()),
            Self::Float(n) => Value::Float(n.to_native()),
            Self::Text(text) => Value::Text(text.as_str().to_owned()),
            Self::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
            Self::List(list) => Value::List(list.iter().map(Self::to_value).collect()),
            Self::Map(map) => Value::Map(map.to_attributes()),
        }
    }

    fn number(&self) -> Option<Number> {
        match self {
            Self::Int(n) => Some(Number::Int(n.to_native())),
            Self::UInt(n) => Some(Number::UInt(n.to_native())),
            Self::Float(n) => Some(Number::Float(n.to_native())),
            _ => None,
        }
    }
}

impl<D: Fallible + ?Sized> Deserialize<Attributes, D> for ArchivedAttributes {
    fn deserialize(&self, _: &mut D) -> Result<Attributes, D::Error> {
        Ok(self.to_attributes())
    }
}

impl<D: Fallible + ?Sized> Deserialize<Value, D> for ArchivedValue {
    fn deserialize(&self, _: &mut D) -> Result<Value, D::Error> {
        Ok(self.to_value())
    }
}

impl fmt::Debug for ArchivedAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Prints as [`Value`] does.
impl fmt::Debug for ArchivedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(flag) => flag.fmt(f),
            Self::Int(n) => n.to_native().fmt(f),
            Self::UInt(n) => n.to_native().fmt(f),
            Self::Float(n) => n.to_native().fmt(f),
            Self::Text(text) => text.as_str().fmt(f),
            Self::Bytes(bytes) => fmt_bytes(bytes, f),
            Self::List(list) => list.as_slice().fmt(f),
            Self::Map(map) => map.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use proptest::prelude::*;
    use rkyv::api::access_with_context;
    use rkyv::api::low::{self, LowDeserializer};
    use rkyv::rancor::{Error, Strategy};
    use rkyv::ser::allocator::{Arena, ArenaHandle};
    use rkyv::util::AlignedVec;
    use rkyv::validation::Validator;
    use rkyv::validation::archive::ArchiveValidator;

    use super::super::tests::{attributes, keys, nested, value};
    use super::*;

    /// One level for the pairs of the root, one for text that is not inline; rkyv's bound is
    /// exclusive.
    const VALIDATION_DEPTH: usize = Attributes::NESTING_MAX as usize + 3;

    /// Far less than any thread has: deep data must not need more.
    const STACK_BYTES: usize = 256 * 1024;

    fn archive(session: &Attributes) -> Result<AlignedVec, Error> {
        low::to_bytes_in_with_alloc(session, AlignedVec::new(), Arena::new().acquire())
    }

    fn access(bytes: &[u8], depth: usize) -> Result<&ArchivedAttributes, Error> {
        let archive = ArchiveValidator::with_max_depth(bytes, NonZeroUsize::new(depth));
        access_with_context(bytes, &mut Validator::new(archive, ()))
    }

    fn with_small_stack(test: impl FnOnce() + Send + 'static) {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        thread.spawn(test).unwrap().join().unwrap();
    }

    /// Visits every byte that the view shows.
    fn walk(view: &ArchivedAttributes) {
        let decoded = view.to_attributes();
        assert_eq!(format!("{view:?}"), format!("{decoded:?}"));
        for (key, value) in view {
            assert!(view.contains_key(key));
            let _ = (value.as_i64(), value.as_u64(), value.as_f64());
        }
    }

    /// What a store asks of its session type, also where that type is the user's own.
    #[test]
    fn the_low_level_bounds_hold() {
        fn assert_stored<S>()
        where
            S: for<'a> rkyv::Serialize<low::LowSerializer<AlignedVec, ArenaHandle<'a>, Error>>,
            S::Archived: for<'a> rkyv::bytecheck::CheckBytes<low::LowValidator<'a, Error>>,
            S::Archived: Deserialize<S, LowDeserializer<Error>> + Send + Sync,
        {
        }

        #[derive(rkyv::Archive, rkyv::Deserialize, rkyv::Serialize)]
        struct Own {
            user: u128,
            rest: Option<Attributes>,
            list: Vec<Value>,
        }

        assert_stored::<Attributes>();
        assert_stored::<Value>();
        assert_stored::<Own>();
    }

    #[test]
    fn typed_getters_work_on_the_stored_bytes() {
        let session = Attributes::from([
            ("text", "longer than what is stored inline".into()),
            ("flag", true.into()),
            ("int", (-5).into()),
            ("uint", u64::MAX.into()),
            ("float", 0.5.into()),
            ("bytes", vec![1_u8, 2].into()),
            ("list", vec![Value::from(1)].into()),
            ("map", Attributes::from([("k", Value::Null)]).into()),
        ]);
        let bytes = archive(&session).unwrap();
        let view = access(&bytes, VALIDATION_DEPTH).unwrap();
        assert_eq!(view.len(), 8);
        assert!(view.keys().eq(session.keys()));
        assert_eq!(view.get_str("text"), session.get_str("text"));
        assert_eq!(view.get_bool("flag"), Some(true));
        assert_eq!(view.get_i64("int"), Some(-5));
        assert_eq!(view.get_u64("int"), None);
        assert_eq!(view.get_u64("uint"), Some(u64::MAX));
        assert_eq!(view.get_f64("float"), Some(0.5));
        assert_eq!(view.get_bytes("bytes"), Some(&[1, 2][..]));
        assert_eq!(view.get_list("list").unwrap()[0].as_i64(), Some(1));
        assert!(view.get_map("map").unwrap().get("k").unwrap().is_null());
        assert_eq!(view.get_str("flag"), None);
        assert!(view.get("missing").is_none());
    }

    #[test]
    fn the_deepest_session_fits_every_step_on_a_small_stack() {
        with_small_stack(|| {
            let session = Attributes::from([("deep", nested(Attributes::NESTING_MAX))]);
            let bytes = archive(&session).unwrap();
            let view = access(&bytes, VALIDATION_DEPTH).unwrap();
            walk(view);
            assert_eq!(view.to_attributes(), session);
        });
    }

    #[test]
    fn deeper_data_is_refused_by_an_error() {
        with_small_stack(|| {
            for levels in [Attributes::NESTING_MAX + 1, 300_000] {
                let session = Attributes::from([("deep", nested(levels))]);
                let error = archive(&session).unwrap_err();
                assert!(error.to_string().contains("deeper than 64 levels"), "{error}");
            }
        });
    }

    /// Bytes that nest deeper than any writer would: validation stops at its own bound.
    #[test]
    fn deeper_bytes_are_refused_by_the_validator() {
        let session = Attributes::from([("deep", nested(20))]);
        let bytes = archive(&session).unwrap();
        assert!(access(&bytes, 10).is_err());
        assert!(access(&bytes, 30).is_ok());
    }

    proptest! {
        #[test]
        fn archives_read_back(session in attributes()) {
            let bytes = archive(&session).unwrap();
            let view = access(&bytes, VALIDATION_DEPTH).unwrap();
            walk(view);
            for (key, value) in &session {
                prop_assert_eq!(&view.get(key).unwrap().to_value(), value);
            }
            let decoded: Attributes =
                view.deserialize(Strategy::<_, Error>::wrap(&mut ())).unwrap();
            prop_assert_eq!(keys(&decoded), keys(&session));
            prop_assert_eq!(decoded, session);
        }

        #[test]
        fn bare_values_read_back(value in value()) {
            let bytes = low::to_bytes_in_with_alloc::<_, _, Error>(
                &value, AlignedVec::<16>::new(), Arena::new().acquire(),
            ).unwrap();
            let view = low::access::<ArchivedValue, Error>(&bytes).unwrap();
            let mut unit = ();
            let context: &mut LowDeserializer<Error> = Strategy::wrap(&mut unit);
            prop_assert_eq!(&view.deserialize(context).unwrap(), &value);
            prop_assert_eq!(format!("{view:?}"), format!("{value:?}"));
        }

        #[test]
        fn flipped_bits_never_panic(
            session in attributes(),
            flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u32), 1..6),
            cut in 0..20_usize,
        ) {
            let mut bytes = archive(&session).unwrap();
            for (index, bit) in flips {
                let index = index.index(bytes.len());
                bytes[index] ^= 1 << bit;
            }
            for start in [0, cut.min(bytes.len())] {
                if let Ok(view) = access(&bytes[start..], VALIDATION_DEPTH) {
                    walk(view);
                }
            }
            let shorter = &bytes[..bytes.len().saturating_sub(cut)];
            if let Ok(view) = access(shorter, VALIDATION_DEPTH) {
                walk(view);
            }
        }

        #[test]
        fn random_bytes_never_panic(noise in prop::collection::vec(0..=255_u8, 0..200)) {
            let mut bytes = AlignedVec::<16>::new();
            bytes.extend_from_slice(&noise);
            if let Ok(view) = access(&bytes, VALIDATION_DEPTH) {
                walk(view);
            }
        }
    }
}
