//! The hash-like session data of [`Attributes`].
//!
//! ```text
//! mod       Attributes: the owned map          archived  what a reader sees without decoding
//! value     Value: what a key may hold         changes   patches of single keys
//! getters   a lookup with a conversion         iter      walks over the pairs
//! serde     any self-describing format         json      serde_json::Value
//! ```
//!
//! A session has few keys, so a map is a plain vector of pairs: the order is the order of
//! insertion, a lookup compares keys one by one, and the archive is as flat as the vector.

mod archived;
mod changes;
mod getters;
mod iter;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "serde")]
mod serde;
mod value;

use std::fmt;
use std::mem;

use rkyv::rancor::Source;
use rkyv::ser::{Allocator, Writer};
use rkyv::validation::ArchiveContext;
use rkyv::{Archive, Serialize};

use self::iter::Iter;

pub use self::changes::{Changes, ConflictKey};
#[cfg(feature = "json")]
pub use self::json::JsonError;
pub use self::value::{ArchivedValue, Value};

/// Above this many keys, bulk insertion looks for duplicates by sorting. Without it the cost
/// of hostile JSON with very many keys would grow with their square.
const SCAN_KEYS_MAX: usize = 32;

/// The default data of a session: text keys with values of any kind, in order of insertion.
///
/// It behaves as a Ruby `Hash` or a JSON object does. Overwriting a key keeps its position,
/// removing one keeps the order of the rest, and two maps are equal when they hold the same
/// pairs in whatever order.
///
/// A lookup compares keys one after another. That is the fastest way for the handful of keys a
/// session has; it is the wrong type for thousands of them.
///
/// # Nesting
///
/// Lists and maps may nest [`NESTING_MAX`](Attributes::NESTING_MAX) levels deep. Deeper data
/// can be built in memory, but a store refuses to take it, with an error. Dropping
/// `Attributes` needs no stack at any depth. A bare [`Value`] recurses once per level when it is
/// dropped, as both types do when they are cloned, compared or printed.
///
/// # Examples
///
/// ```
/// use cloakroom::{Attributes, Value};
///
/// let mut session = Attributes::from([("username", "alice".into())]);
/// session.set("logged_in", true);
/// session.set("visits", 1 + session.get_i64("visits").unwrap_or(0));
///
/// assert_eq!(session.get_str("username"), Some("alice"));
/// assert_eq!(session.get("logged_in"), Some(&Value::Bool(true)));
/// assert_eq!(session.keys().collect::<Vec<_>>(), ["username", "logged_in", "visits"]);
/// ```
#[derive(Archive, Clone, Default, Serialize)]
#[rkyv(
    serialize_bounds(__S: Writer + Allocator, __S::Error: Source),
    bytecheck(bounds(__C: ArchiveContext, __C::Error: Source)),
    attr(doc = "as readers of a store get it: the getters work on the stored bytes.")
)]
pub struct Attributes {
    #[rkyv(omit_bounds)]
    entries: Vec<(String, Value)>,
}

impl Attributes {
    /// Levels of lists and maps that a value may have: `[[1]]` has two.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// assert_eq!(Attributes::NESTING_MAX, 64);
    /// ```
    pub const NESTING_MAX: u32 = 64;

    /// Makes an empty map; it allocates nothing.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// assert!(Attributes::new().is_empty());
    /// ```
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Makes an empty map with room for `capacity` keys.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// let session = Attributes::with_capacity(4);
    /// assert_eq!(session.len(), 0);
    /// ```
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { entries: Vec::with_capacity(capacity) }
    }

    /// Returns the value of a key.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// let session = Attributes::from([("username", "alice".into())]);
    /// assert_eq!(session.get("username").and_then(|v| v.as_str()), Some("alice"));
    /// assert_eq!(session.get("missing"), None);
    /// ```
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Returns the value of a key for changing it in place.
    ///
    /// ```
    /// use cloakroom::{Attributes, Value};
    ///
    /// let mut session = Attributes::from([("cart", Value::List(vec![]))]);
    /// if let Some(Value::List(cart)) = session.get_mut("cart") {
    ///     cart.push("apple".into());
    /// }
    /// assert_eq!(session.get_list("cart"), Some(&["apple".into()][..]));
    /// ```
    #[must_use]
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.entries.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Sets a key, returning its former value.
    ///
    /// A new key is appended; a known key keeps its position. Only a new key allocates.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// let mut session = Attributes::new();
    /// assert_eq!(session.set("theme", "dark"), None);
    /// assert_eq!(session.set("theme", "light"), Some("dark".into()));
    /// ```
    pub fn set<K>(&mut self, key: K, value: impl Into<Value>) -> Option<Value>
    where
        K: AsRef<str> + Into<String>,
    {
        let value = value.into();
        if let Some(slot) = self.get_mut(key.as_ref()) {
            return Some(mem::replace(slot, value));
        }
        self.entries.push((key.into(), value));
        None
    }

    /// Removes a key, returning its value; the other keys keep their order.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// let mut session = Attributes::from([("a", 1.into()), ("b", 2.into()), ("c", 3.into())]);
    /// assert_eq!(session.remove("a"), Some(1.into()));
    /// assert_eq!(session.keys().collect::<Vec<_>>(), ["b", "c"]);
    /// ```
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let position = self.entries.iter().position(|(name, _)| name == key)?;
        Some(self.entries.remove(position).1)
    }

    /// Reads a key once: the same as [`remove`](Attributes::remove), named for flash messages.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// let mut session = Attributes::from([("notice", "Saved.".into())]);
    /// assert_eq!(session.take("notice"), Some("Saved.".into()));
    /// assert_eq!(session.take("notice"), None);
    /// ```
    #[must_use = "to drop the value, call `remove`"]
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.remove(key)
    }

    /// Tells whether the key is set, be it to null.
    ///
    /// ```
    /// use cloakroom::{Attributes, Value};
    ///
    /// let session = Attributes::from([("referrer", Value::Null)]);
    /// assert!(session.contains_key("referrer"));
    /// ```
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Returns the number of keys.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// assert_eq!(Attributes::from([("a", 1.into()), ("b", 2.into())]).len(), 2);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells whether there is no key.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// assert!(Attributes::default().is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Removes all keys.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// let mut session = Attributes::from([("a", 1.into())]);
    /// session.clear();
    /// assert!(session.is_empty());
    /// ```
    pub fn clear(&mut self) {
        dismantle(mem::take(&mut self.entries));
    }

    /// Iterates over the pairs in order of insertion.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// let session = Attributes::from([("username", "alice".into()), ("admin", true.into())]);
    /// let lines = session.iter().map(|(key, value)| format!("{key}: {value:?}"));
    /// assert_eq!(lines.collect::<Vec<_>>(), ["username: \"alice\"", "admin: true"]);
    /// ```
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter::new(&self.entries)
    }

    /// Iterates over the keys in order of insertion.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// let session = Attributes::from([("b", 1.into()), ("a", 2.into())]);
    /// assert_eq!(session.keys().collect::<Vec<_>>(), ["b", "a"]);
    /// ```
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> + DoubleEndedIterator {
        self.entries.iter().map(|(key, _)| key.as_str())
    }

    /// Keeps only the pairs for which the closure says so; it may change the values it keeps.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// let mut session = Attributes::from([("flash.notice", "Hi".into()), ("user", 7.into())]);
    /// session.retain(|key, _| !key.starts_with("flash."));
    /// assert_eq!(session.keys().collect::<Vec<_>>(), ["user"]);
    /// ```
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut Value) -> bool) {
        self.entries.retain_mut(|(key, value)| keep(key, value));
    }

    /// Appends pairs, of which a later one with the same key wins.
    fn append(&mut self, pairs: impl Iterator<Item = (String, Value)>) {
        for (key, value) in pairs {
            if self.entries.len() < SCAN_KEYS_MAX {
                self.set(key, value);
            } else {
                self.entries.push((key, value));
            }
        }
        if self.entries.len() > SCAN_KEYS_MAX {
            self.merge_duplicates();
        }
    }

    /// Leaves of the pairs with one key the position of the first with the value of the last.
    fn merge_duplicates(&mut self) {
        let mut by_key: Vec<usize> = (0..self.entries.len()).collect();
        by_key.sort_by(|&a, &b| self.entries[a].0.cmp(&self.entries[b].0));

        let mut keep = vec![true; self.entries.len()];
        let mut start = 0;
        while start < by_key.len() {
            let first = by_key[start];
            let same = by_key[start..].iter();
            let count = same.take_while(|&&i| self.entries[i].0 == self.entries[first].0).count();
            for &later in &by_key[start + 1..start + count] {
                let value = mem::replace(&mut self.entries[later].1, Value::Null);
                self.entries[first].1 = value;
                keep[later] = false;
            }
            start += count;
        }
        let mut keep = keep.into_iter();
        self.entries.retain(|_| keep.next() == Some(true));
    }

    /// Tells whether no value has more than `levels` levels of lists and maps.
    fn nests_within(&self, levels: u32) -> bool {
        self.entries.iter().all(|(_, value)| value.nests_within(levels))
    }
}

/// Takes nested values apart with a stack on the heap: the drop of a list in a list in a list
/// would otherwise recurse as deep as the data.
impl Drop for Attributes {
    fn drop(&mut self) {
        if self.entries.iter().any(|(_, value)| value.is_nested()) {
            dismantle(mem::take(&mut self.entries));
        }
    }
}

fn dismantle(entries: Vec<(String, Value)>) {
    let mut pending: Vec<Value> = Vec::new();
    pending.extend(entries.into_iter().map(|(_, value)| value).filter(Value::is_nested));
    while let Some(value) = pending.pop() {
        match value {
            Value::List(list) => pending.extend(list.into_iter().filter(Value::is_nested)),
            Value::Map(map) => {
                pending.extend(map.into_iter().map(|(_, value)| value).filter(Value::is_nested));
            }
            _ => {}
        }
    }
}

/// Equality of maps: the same keys with equal values, in any order.
impl PartialEq for Attributes {
    fn eq(&self, other: &Self) -> bool {
        let same_pair = |(index, (key, value)): (usize, &(String, Value))| {
            // Most often both have the same order, so the place of the key is guessed first.
            let guess = other.entries.get(index).filter(|(name, _)| name == key);
            guess.map(|(_, value)| value).or_else(|| other.get(key)) == Some(value)
        };
        self.len() == other.len() && self.entries.iter().enumerate().all(same_pair)
    }
}

impl Eq for Attributes {}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Makes a map of pairs; of two with the same key the last wins, at the position of the first.
impl<K: Into<String>, const N: usize> From<[(K, Value); N]> for Attributes {
    fn from(pairs: [(K, Value); N]) -> Self {
        pairs.into_iter().collect()
    }
}

/// Makes a map of pairs; of two with the same key the last wins, at the position of the first.
impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut attributes = Self::new();
        attributes.extend(pairs);
        attributes
    }
}

/// Sets each pair in turn: known keys keep their position, new ones are appended.
impl<K: Into<String>, V: Into<Value>> Extend<(K, V)> for Attributes {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, pairs: I) {
        let pairs = pairs.into_iter();
        // An iterator may promise anything, so its word is taken for a session's worth only.
        self.entries.reserve(pairs.size_hint().0.min(SCAN_KEYS_MAX));
        self.append(pairs.map(|(key, value)| (key.into(), value.into())));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = String> {
        // Few different keys, so that they meet; some too long to be stored inline.
        prop_oneof![
            4 => "[a-h]".boxed(),
            1 => "[a-b]{9,12}".boxed(),
            1 => "\\PC{0,4}".boxed(),
        ]
    }

    pub(crate) fn value() -> impl Strategy<Value = super::Value> {
        use super::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::UInt),
            any::<f64>().prop_map(Value::Float),
            Just(Value::Float(f64::NAN)),
            "\\PC{0,12}".prop_map(Value::Text),
            vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..6).prop_map(Value::List),
                vec((key(), inner), 0..6).prop_map(|pairs| Value::Map(pairs.into_iter().collect())),
            ]
        })
    }

    pub(crate) fn attributes() -> impl Strategy<Value = Attributes> {
        vec((key(), value()), 0..8).prop_map(|pairs| pairs.into_iter().collect())
    }

    /// Wraps null in lists and maps by turns.
    pub(crate) fn nested(levels: u32) -> super::Value {
        (0..levels).fold(super::Value::Null, |inner, level| match level % 2 {
            0 => super::Value::List(vec![inner]),
            _ => super::Value::Map(Attributes::from([("k", inner)])),
        })
    }

    pub(crate) fn keys(attributes: &Attributes) -> Vec<&str> {
        attributes.keys().collect()
    }

    #[test]
    fn sketch_of_the_readme_compiles() {
        let mut session = Attributes::from([("username", "alice".into())]);
        let update = |s: &mut Attributes| {
            s.set("visits", 1 + s.get_i64("visits").unwrap_or(0));
        };
        update(&mut session);
        update(&mut session);
        let name = session.get("username").and_then(|v| v.as_str()).map(str::to_owned);
        assert_eq!(name.as_deref(), Some("alice"));
        assert_eq!(session.get_i64("visits"), Some(2));
    }

    #[test]
    fn of_equal_keys_the_last_value_takes_the_first_place() {
        let few = Attributes::from([("a", 1.into()), ("b", 2.into()), ("a", 3.into())]);
        assert_eq!(keys(&few), ["a", "b"]);
        assert_eq!(few.get_i64("a"), Some(3));

        let many: Attributes = (0..1000).map(|i| ((i % 300).to_string(), i)).collect();
        let expected: Vec<String> = (0..300).map(|i| i.to_string()).collect();
        assert_eq!(keys(&many), expected);
        assert_eq!(many.get_i64("99"), Some(999));
        assert_eq!(many.get_i64("100"), Some(700));
    }

    #[test]
    fn equality_ignores_order() {
        let ab = Attributes::from([("a", 1.into()), ("b", Value::Null)]);
        let ba = Attributes::from([("b", Value::Null), ("a", 1.into())]);
        let ac = Attributes::from([("a", 1.into()), ("c", Value::Null)]);
        assert_eq!(ab, ba);
        assert_ne!(ab, ac);
        assert_ne!(ab, Attributes::from([("a", 1.into())]));
    }

    #[test]
    fn debug_prints_a_map() {
        let inner = Attributes::from([("n", vec![7_u8, b'x'].into())]);
        let session = Attributes::from([
            ("name", "a\"b".into()),
            ("list", vec![1.into(), Value::Null].into()),
            ("map", inner.into()),
        ]);
        let printed = r#"{"name": "a\"b", "list": [1, null], "map": {"n": b"\x07x"}}"#;
        assert_eq!(format!("{session:?}"), printed);
    }

    #[test]
    fn drop_needs_no_stack() {
        const LEVELS: u32 = 300_000;
        let mut session = Attributes::from([("deep", nested(LEVELS))]);
        session.clear();
        session.set("deep", nested(LEVELS));
        session.set("other", Attributes::from([("deep", nested(LEVELS))]));
        session.set("lists", (0..LEVELS).fold(Value::Null, |inner, _| Value::List(vec![inner])));
        drop(session);
    }

    proptest! {
        /// A vector of pairs, used in the most obvious way, says what every operation does.
        #[test]
        fn operations_follow_the_model(
            ops in vec((0..5, key(), any::<i64>()), 0..60),
        ) {
            let mut session = Attributes::new();
            let mut model: Vec<(String, i64)> = Vec::new();
            for (op, key, n) in ops {
                let place = model.iter().position(|(name, _)| *name == key);
                match (op, place) {
                    (0, _) => {
                        let removed = place.map(|place| Value::Int(model.remove(place).1));
                        prop_assert_eq!(session.remove(&key), removed);
                    }
                    (1, _) => {
                        model.retain(|(name, m)| *name != key && m % 3 != 0);
                        session.retain(|name, m| {
                            name != key && m.as_i64().is_some_and(|m| m % 3 != 0)
                        });
                    }
                    (_, Some(place)) => {
                        let former = std::mem::replace(&mut model[place].1, n);
                        prop_assert_eq!(session.set(key, n), Some(Value::Int(former)));
                    }
                    (_, None) => {
                        model.push((key.clone(), n));
                        prop_assert_eq!(session.set(key, n), None);
                    }
                }
                let pairs = session.iter().map(|(k, v)| (k.to_owned(), v.as_i64().unwrap()));
                prop_assert_eq!(pairs.collect::<Vec<_>>(), model.clone());
            }
        }

        /// Sorting out duplicates does the same as setting one pair after another.
        #[test]
        fn bulk_insertion_is_setting_in_turn(pairs in vec((key(), any::<i64>()), 0..80)) {
            let mut one_by_one = Attributes::new();
            for (key, n) in pairs.clone() {
                one_by_one.set(key, n);
            }
            let bulk: Attributes = pairs.into_iter().collect();
            prop_assert_eq!(keys(&bulk), keys(&one_by_one));
            prop_assert_eq!(bulk, one_by_one);
        }
    }
}
