//! The kinds of value that a key of the attributes may hold.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use rkyv::rancor::{Fallible, Source, fail};
use rkyv::ser::{Allocator, Writer};
use rkyv::validation::ArchiveContext;
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::with::{ArchiveWith, SerializeWith};
use rkyv::{Archive, Place, Serialize};

use super::{ArchivedAttributes, Attributes, AttributesResolver};

/// What a key of [`Attributes`] may hold.
///
/// # Equality
///
/// Two integers are equal when they are the same number, whichever variant holds them. An
/// integer never equals a float. Two floats are equal as `f64` says, except that NaN equals
/// NaN: the question asked of session data is whether it changed.
///
/// # Examples
///
/// ```
/// use cloakroom::Value;
///
/// assert_eq!(Value::from("alice").as_str(), Some("alice"));
/// assert_eq!(Value::from(7_u8), Value::Int(7));
/// assert_eq!(Value::from(None::<bool>), Value::Null);
/// assert_eq!(Value::Int(7), Value::UInt(7));
/// assert_ne!(Value::Int(7), Value::Float(7.0));
/// assert_eq!(Value::Float(f64::NAN), Value::Float(f64::NAN));
/// ```
#[derive(Archive, Clone, Default, Serialize)]
#[rkyv(
    serialize_bounds(__S: Writer + Allocator, __S::Error: Source),
    bytecheck(bounds(__C: ArchiveContext, __C::Error: Source)),
)]
pub enum Value {
    /// Nothing: `nil` of Ruby, `null` of JSON.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer; conversions choose this variant for every integer that fits.
    Int(i64),
    /// An integer that may be above `i64::MAX`.
    UInt(u64),
    /// A floating-point number.
    Float(f64),
    /// Text in UTF-8.
    Text(String),
    /// Bytes of any kind.
    Bytes(Vec<u8>),
    /// Values in a row.
    List(#[rkyv(with = Bounded, omit_bounds)] Vec<Value>),
    /// Values with names.
    Map(#[rkyv(with = Bounded, omit_bounds)] Attributes),
}

impl Value {
    /// Tells whether this is null.
    ///
    /// ```
    /// use cloakroom::Value;
    ///
    /// assert!(Value::Null.is_null());
    /// assert!(!Value::from("").is_null());
    /// ```
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Returns the text, if this is text.
    ///
    /// ```
    /// use cloakroom::Value;
    ///
    /// assert_eq!(Value::from("alice").as_str(), Some("alice"));
    /// assert_eq!(Value::from(1).as_str(), None);
    /// ```
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// Returns the truth value, if this is one; nothing else is true or false.
    ///
    /// ```
    /// use cloakroom::Value;
    ///
    /// assert_eq!(Value::from(true).as_bool(), Some(true));
    /// assert_eq!(Value::from(1).as_bool(), None);
    /// ```
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(flag) = self { Some(*flag) } else { None }
    }

    /// Returns the integer, if this is one that an `i64` holds.
    ///
    /// ```
    /// use cloakroom::Value;
    ///
    /// assert_eq!(Value::UInt(3).as_i64(), Some(3));
    /// assert_eq!(Value::from(u64::MAX).as_i64(), None);
    /// assert_eq!(Value::from(3.0).as_i64(), None);
    /// ```
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        self.number()?.as_i64()
    }

    /// Returns the integer, if this is one that a `u64` holds.
    ///
    /// ```
    /// use cloakroom::Value;
    ///
    /// assert_eq!(Value::from(3).as_u64(), Some(3));
    /// assert_eq!(Value::from(-3).as_u64(), None);
    /// ```
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.number()?.as_u64()
    }

    /// Returns the number, if this is a float or an integer that an `f64` holds exactly.
    ///
    /// ```
    /// use cloakroom::Value;
    ///
    /// assert_eq!(Value::from(0.5).as_f64(), Some(0.5));
    /// assert_eq!(Value::from(2).as_f64(), Some(2.0));
    /// assert_eq!(Value::from(i64::MAX).as_f64(), None);
    /// ```
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        self.number()?.as_f64()
    }

    /// Returns the bytes, if this is bytes; text is not.
    ///
    /// ```
    /// use cloakroom::Value;
    ///
    /// assert_eq!(Value::from(&[1, 2][..]).as_bytes(), Some(&[1, 2][..]));
    /// ```
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// Returns the values, if this is a list.
    ///
    /// ```
    /// use cloakroom::Value;
    ///
    /// let list = Value::from(vec![Value::from(1), Value::from("two")]);
    /// assert_eq!(list.as_list().map(<[_]>::len), Some(2));
    /// ```
    #[must_use]
    pub fn as_list(&self) -> Option<&[Value]> {
        if let Self::List(list) = self { Some(list) } else { None }
    }

    /// Returns the attributes, if this is a map.
    ///
    /// ```
    /// use cloakroom::{Attributes, Value};
    ///
    /// let map = Value::from(Attributes::from([("city", "Oslo".into())]));
    /// assert_eq!(map.as_map().and_then(|m| m.get_str("city")), Some("Oslo"));
    /// ```
    #[must_use]
    pub fn as_map(&self) -> Option<&Attributes> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }

    fn number(&self) -> Option<Number> {
        match *self {
            Self::Int(n) => Some(Number::Int(n)),
            Self::UInt(n) => Some(Number::UInt(n)),
            Self::Float(n) => Some(Number::Float(n)),
            _ => None,
        }
    }

    pub(super) fn is_nested(&self) -> bool {
        matches!(self, Self::List(_) | Self::Map(_))
    }

    /// Tells whether there are no more than `levels` levels of lists and maps. It never
    /// recurses deeper than that.
    pub(super) fn nests_within(&self, levels: u32) -> bool {
        let Some(below) = levels.checked_sub(1) else {
            return !self.is_nested();
        };
        match self {
            Self::List(list) => list.iter().all(|value| value.nests_within(below)),
            Self::Map(map) => map.nests_within(below),
            _ => true,
        }
    }
}

/// A number of either form of a value, owned or archived: conversions are written once.
#[derive(Clone, Copy)]
pub(super) enum Number {
    Int(i64),
    UInt(u64),
    Float(f64),
}

impl Number {
    pub(super) fn as_i64(self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(n),
            Self::UInt(n) => i64::try_from(n).ok(),
            Self::Float(_) => None,
        }
    }

    pub(super) fn as_u64(self) -> Option<u64> {
        match self {
            Self::Int(n) => u64::try_from(n).ok(),
            Self::UInt(n) => Some(n),
            Self::Float(_) => None,
        }
    }

    pub(super) fn as_f64(self) -> Option<f64> {
        let exact = |n: i128| {
            let float = n as f64;
            (float as i128 == n).then_some(float)
        };
        match self {
            Self::Int(n) => exact(n.into()),
            Self::UInt(n) => exact(n.into()),
            Self::Float(n) => Some(n),
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::UInt(a), Self::UInt(b)) => a == b,
            (Self::Int(a), Self::UInt(b)) | (Self::UInt(b), Self::Int(a)) => {
                u64::try_from(*a) == Ok(*b)
            }
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

/// Prints the bare value as a literal, without the name of the variant.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(flag) => flag.fmt(f),
            Self::Int(n) => n.fmt(f),
            Self::UInt(n) => n.fmt(f),
            Self::Float(n) => n.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::Bytes(bytes) => fmt_bytes(bytes, f),
            Self::List(list) => list.fmt(f),
            Self::Map(map) => map.fmt(f),
        }
    }
}

pub(super) fn fmt_bytes(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "b\"{}\"", bytes.escape_ascii())
}

macro_rules! from_integers {
    ($($integer:ty)*) => {$(
        impl From<$integer> for Value {
            fn from(n: $integer) -> Self {
                Self::Int(n.into())
            }
        }
    )*};
}

from_integers!(i8 i16 i32 i64 u8 u16 u32);

/// Makes an [`Int`](Value::Int) where it fits, otherwise a [`UInt`](Value::UInt).
impl From<u64> for Value {
    fn from(n: u64) -> Self {
        i64::try_from(n).map_or(Self::UInt(n), Self::Int)
    }
}

/// Keeps a length or count.
impl From<usize> for Value {
    fn from(n: usize) -> Self {
        Self::from(n as u64)
    }
}

impl From<f32> for Value {
    fn from(n: f32) -> Self {
        Self::Float(n.into())
    }
}

impl From<f64> for Value {
    fn from(n: f64) -> Self {
        Self::Float(n)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Cow<'_, str>> for Value {
    fn from(text: Cow<'_, str>) -> Self {
        Self::Text(text.into_owned())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<Value>> for Value {
    fn from(list: Vec<Value>) -> Self {
        Self::List(list)
    }
}

impl From<Attributes> for Value {
    fn from(map: Attributes) -> Self {
        Self::Map(map)
    }
}

/// Makes null of `None`.
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Archives a list or map only where it stays within the nesting limit.
///
/// Every nested value is checked before its children are visited, so the serializer never
/// recurses beyond the limit, wherever in a user's own type a `Value` stands. A flat session
/// pays nothing for it; each level of nesting pays one scan of what is below.
struct Bounded;

impl ArchiveWith<Vec<Value>> for Bounded {
    type Archived = ArchivedVec<ArchivedValue>;
    type Resolver = VecResolver;

    fn resolve_with(list: &Vec<Value>, resolver: VecResolver, out: Place<Self::Archived>) {
        list.resolve(resolver, out);
    }
}

impl<S> SerializeWith<Vec<Value>, S> for Bounded
where
    S: Fallible<Error: Source> + Writer + Allocator + ?Sized,
{
    fn serialize_with(list: &Vec<Value>, serializer: &mut S) -> Result<VecResolver, S::Error> {
        if !list.iter().all(|value| value.nests_within(Attributes::NESTING_MAX - 1)) {
            fail!(TooDeep);
        }
        list.serialize(serializer)
    }
}

impl ArchiveWith<Attributes> for Bounded {
    type Archived = ArchivedAttributes;
    type Resolver = AttributesResolver;

    fn resolve_with(map: &Attributes, resolver: AttributesResolver, out: Place<Self::Archived>) {
        map.resolve(resolver, out);
    }
}

impl<S> SerializeWith<Attributes, S> for Bounded
where
    S: Fallible<Error: Source> + Writer + Allocator + ?Sized,
{
    fn serialize_with(
        map: &Attributes,
        serializer: &mut S,
    ) -> Result<AttributesResolver, S::Error> {
        if !map.nests_within(Attributes::NESTING_MAX - 1) {
            fail!(TooDeep);
        }
        map.serialize(serializer)
    }
}

/// Lists and maps nest deeper than [`Attributes::NESTING_MAX`].
#[derive(Clone, Copy, Debug)]
pub(super) struct TooDeep;

impl fmt::Display for TooDeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lists and maps nest deeper than {} levels", Attributes::NESTING_MAX)
    }
}

impl Error for TooDeep {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_convert_where_the_number_fits() {
        assert_eq!(Value::from(u64::MAX), Value::UInt(u64::MAX));
        assert!(matches!(Value::from(5_u64), Value::Int(5)));
        assert_eq!(Value::UInt(5), Value::Int(5));
        assert_ne!(Value::UInt(u64::MAX), Value::Int(-1));
        assert_eq!(Value::Int(-1).as_u64(), None);
        assert_eq!(Value::UInt(u64::MAX).as_i64(), None);
        assert_eq!(Value::Int(i64::MIN).as_f64(), Some(i64::MIN as f64));
        assert_eq!(Value::Int((1 << 53) + 1).as_f64(), None);
        assert_eq!(Value::UInt(u64::MAX).as_f64(), None);
        assert_eq!(Value::Float(1.0).as_i64(), None);
    }

    #[test]
    fn conversions_choose_the_plain_variant() {
        assert_eq!(Value::from(Cow::Borrowed("a")), Value::Text("a".into()));
        assert_eq!(Value::from(Some("a")), Value::Text("a".into()));
        assert_eq!(Value::from(None::<&str>), Value::Null);
        assert_eq!(Value::from(0.5_f32), Value::Float(0.5));
        assert_eq!(Value::from("abc".len()), Value::Int(3));
        assert_eq!(Value::from(vec![1_u8]), Value::Bytes(vec![1]));
    }

    #[test]
    fn levels_are_counted() {
        let flat = Value::from(1);
        let one = Value::List(vec![flat.clone()]);
        let two = Value::Map(Attributes::from([("a", one.clone())]));
        assert!(flat.nests_within(0));
        assert!(!one.nests_within(0) && one.nests_within(1));
        assert!(!two.nests_within(1) && two.nests_within(2));
    }
}
