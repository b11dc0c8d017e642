//! Patches of single keys, for a caller who loads a session long before saving it.
//!
//! Two requests of one session that each change another key must both get through. So what is
//! saved is not the whole map but what became of it, key by key:
//!
//! ```text
//! current value is   `from`      `to`      something else
//! result             set `to`    set `to`  conflict, nothing is changed
//! ```

use std::error::Error;
use std::fmt;

use super::{Attributes, Value};

/// A list of changes to single keys of [`Attributes`].
///
/// A change found by [`between`](Changes::between) knows the value it started from; one made
/// by [`set`](Changes::set) or [`remove`](Changes::remove) is unconditional. Maps and lists in
/// the values count as a whole.
///
/// # Examples
///
/// ```
/// use cloakroom::{Attributes, Changes};
///
/// let base = Attributes::from([("cart", 1.into()), ("theme", "dark".into())]);
/// let mut mine = base.clone();
/// mine.set("cart", 2);
///
/// // Meanwhile somebody else has saved another key.
/// let mut current = base.clone();
/// current.set("theme", "light");
///
/// let same_version = false;
/// Changes::between(&base, &mine).apply(&mut current, same_version)?;
/// assert_eq!(current, Attributes::from([("cart", 2.into()), ("theme", "light".into())]));
/// # Ok::<(), cloakroom::ConflictKey>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Changes {
    keys: Vec<KeyChange>,
}

#[derive(Clone, Debug)]
struct KeyChange {
    key: String,
    from: Origin,
    to: Option<Value>,
}

#[derive(Clone, Debug)]
enum Origin {
    Anything,
    Value(Value),
    Nothing,
}

impl Changes {
    /// Makes an empty list.
    ///
    /// ```
    /// use cloakroom::Changes;
    ///
    /// assert!(Changes::new().is_empty());
    /// ```
    #[must_use]
    pub const fn new() -> Self {
        Self { keys: Vec::new() }
    }

    /// Finds what makes `new` of `base`, at the cost of a clone of each value that differs.
    ///
    /// Keys that both have keep the order of `base`; keys of `new` alone are appended in its
    /// order.
    ///
    /// ```
    /// use cloakroom::{Attributes, Changes};
    ///
    /// let base = Attributes::from([("a", 1.into()), ("b", 2.into())]);
    /// let new = Attributes::from([("b", 2.into()), ("c", 3.into())]);
    /// let changes = Changes::between(&base, &new);
    /// assert_eq!(changes.keys().collect::<Vec<_>>(), ["a", "c"]);
    /// ```
    #[must_use]
    pub fn between(base: &Attributes, new: &Attributes) -> Self {
        let mut changes = Self::new();
        for (key, from) in base {
            let to = new.get(key);
            if to != Some(from) {
                changes.push(key, Origin::Value(from.clone()), to.cloned());
            }
        }
        for (key, to) in new {
            if !base.contains_key(key) {
                changes.push(key, Origin::Nothing, Some(to.clone()));
            }
        }
        changes
    }

    /// Adds an unconditional change: the key gets the value, whatever it has.
    ///
    /// An earlier change of the same key is replaced.
    ///
    /// ```
    /// use cloakroom::{Attributes, Changes};
    ///
    /// let mut current = Attributes::from([("theme", "dark".into())]);
    /// Changes::new().set("theme", "light").apply(&mut current, false)?;
    /// assert_eq!(current.get_str("theme"), Some("light"));
    /// # Ok::<(), cloakroom::ConflictKey>(())
    /// ```
    #[must_use]
    pub fn set(self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.with(key.into(), Some(value.into()))
    }

    /// Adds an unconditional change: the key goes, whatever it has.
    ///
    /// An earlier change of the same key is replaced.
    ///
    /// ```
    /// use cloakroom::{Attributes, Changes};
    ///
    /// let mut current = Attributes::from([("notice", "Saved.".into())]);
    /// Changes::new().remove("notice").apply(&mut current, false)?;
    /// assert!(current.is_empty());
    /// # Ok::<(), cloakroom::ConflictKey>(())
    /// ```
    #[must_use]
    pub fn remove(self, key: impl Into<String>) -> Self {
        self.with(key.into(), None)
    }

    /// Tells whether there is nothing to change.
    ///
    /// ```
    /// use cloakroom::{Attributes, Changes};
    ///
    /// let session = Attributes::from([("a", 1.into())]);
    /// assert!(Changes::between(&session, &session.clone()).is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Iterates over the keys that change, in the order in which they are applied.
    ///
    /// ```
    /// use cloakroom::Changes;
    ///
    /// let changes = Changes::new().set("a", 1).remove("b");
    /// assert_eq!(changes.keys().collect::<Vec<_>>(), ["a", "b"]);
    /// ```
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.keys.iter().map(|change| change.key.as_str())
    }

    /// Applies all changes, or none of them.
    ///
    /// `same_version` says that `current` still has the version of the base: then nothing can
    /// conflict, so nothing is compared.
    ///
    /// # Errors
    ///
    /// [`ConflictKey`] with the first key whose current value is neither the one that the
    /// change started from nor the one that it leads to. `current` is then as it was.
    ///
    /// ```
    /// use cloakroom::{Attributes, Changes};
    ///
    /// let base = Attributes::from([("visits", 1.into())]);
    /// let mine = Attributes::from([("visits", 2.into())]);
    /// let mut current = Attributes::from([("visits", 7.into())]);
    ///
    /// let conflict = Changes::between(&base, &mine).apply(&mut current, false).unwrap_err();
    /// assert_eq!(conflict.key(), "visits");
    /// assert_eq!(current.get_i64("visits"), Some(7));
    /// ```
    pub fn apply(&self, current: &mut Attributes, same_version: bool) -> Result<(), ConflictKey> {
        if !same_version
            && let Some(change) = self.keys.iter().find(|change| change.conflicts_with(current))
        {
            return Err(ConflictKey { key: change.key.clone() });
        }
        for change in &self.keys {
            match &change.to {
                Some(value) => current.set(change.key.as_str(), value.clone()),
                None => current.remove(&change.key),
            };
        }
        Ok(())
    }

    fn with(mut self, key: String, to: Option<Value>) -> Self {
        self.keys.retain(|change| change.key != key);
        self.keys.push(KeyChange { key, from: Origin::Anything, to });
        self
    }

    fn push(&mut self, key: &str, from: Origin, to: Option<Value>) {
        self.keys.push(KeyChange { key: key.to_owned(), from, to });
    }
}

impl KeyChange {
    fn conflicts_with(&self, current: &Attributes) -> bool {
        let now = current.get(&self.key);
        let unmoved = match &self.from {
            Origin::Anything => true,
            Origin::Value(from) => now == Some(from),
            Origin::Nothing => now.is_none(),
        };
        !unmoved && now != self.to.as_ref()
    }
}

/// The key that somebody else has changed meanwhile.
///
/// # Examples
///
/// ```
/// use cloakroom::{Attributes, Changes};
///
/// let mine = Attributes::from([("owner", "me".into())]);
/// let mut current = Attributes::from([("owner", "you".into())]);
/// let changes = Changes::between(&Attributes::new(), &mine);
/// let conflict = changes.apply(&mut current, false).unwrap_err();
/// assert_eq!(conflict.to_string(), "the key \"owner\" was changed meanwhile");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictKey {
    key: String,
}

impl ConflictKey {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for ConflictKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key {:?} was changed meanwhile", self.key)
    }
}

impl Error for ConflictKey {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{attributes, keys};
    use super::*;

    const SAME: bool = true;
    const NEWER: bool = false;

    #[test]
    fn a_conflict_changes_nothing() {
        let base = Attributes::from([("a", 1.into()), ("b", 1.into())]);
        let mine = Attributes::from([("a", 2.into()), ("b", 2.into()), ("c", 2.into())]);
        let changes = Changes::between(&base, &mine);

        for theirs in [Attributes::from([("a", 1.into()), ("b", 9.into())]), Attributes::new()] {
            let mut current = theirs.clone();
            assert!(changes.apply(&mut current, NEWER).is_err());
            assert_eq!(current, theirs);
        }
        let mut current = Attributes::from([("a", 1.into()), ("b", 2.into())]);
        assert_eq!(changes.apply(&mut current, NEWER), Ok(()));
        assert_eq!(current, mine);
    }

    #[test]
    fn the_same_removal_or_addition_twice_is_no_conflict() {
        let base = Attributes::from([("gone", 1.into())]);
        let mine = Attributes::from([("new", 1.into())]);
        let mut current = mine.clone();
        assert_eq!(Changes::between(&base, &mine).apply(&mut current, NEWER), Ok(()));
        assert_eq!(current, mine);

        let mut current = Attributes::from([("gone", 1.into()), ("new", 2.into())]);
        let conflict = Changes::between(&base, &mine).apply(&mut current, NEWER).unwrap_err();
        assert_eq!(conflict.key(), "new");
    }

    #[test]
    fn unconditional_changes_replace_earlier_ones() {
        let base = Attributes::from([("a", 1.into())]);
        let changes = Changes::between(&base, &Attributes::new()).set("a", 5).remove("b");
        assert_eq!(changes.keys().collect::<Vec<_>>(), ["a", "b"]);
        let mut current = Attributes::from([("b", 1.into()), ("a", 9.into())]);
        assert_eq!(changes.apply(&mut current, NEWER), Ok(()));
        assert_eq!(current, Attributes::from([("a", 5.into())]));
    }

    proptest! {
        #[test]
        fn what_lies_between_leads_from_one_to_the_other(
            base in attributes(), new in attributes(), same_version: bool,
        ) {
            let mut current = base.clone();
            let applied = Changes::between(&base, &new).apply(&mut current, same_version);
            prop_assert_eq!(applied, Ok(()));
            prop_assert_eq!(&current, &new);
            prop_assert!(Changes::between(&current, &new).is_empty());

            let survivors = base.keys().filter(|key| new.contains_key(key));
            let appended = new.keys().filter(|key| !base.contains_key(key));
            prop_assert_eq!(keys(&current), survivors.chain(appended).collect::<Vec<_>>());
        }

        #[test]
        fn patches_of_disjoint_keys_commute(
            base in attributes(), new in attributes(), mask: u64,
        ) {
            // Each change goes to one of two patches.
            let all = Changes::between(&base, &new);
            let (mut left, mut right) = (Changes::new(), Changes::new());
            for (index, change) in all.keys.into_iter().enumerate() {
                let side = if mask >> (index % 64) & 1 == 0 { &mut left } else { &mut right };
                side.keys.push(change);
            }
            let (mut one, mut other) = (base.clone(), base.clone());
            prop_assert_eq!(left.apply(&mut one, SAME), Ok(()));
            prop_assert_eq!(right.apply(&mut one, NEWER), Ok(()));
            prop_assert_eq!(right.apply(&mut other, SAME), Ok(()));
            prop_assert_eq!(left.apply(&mut other, NEWER), Ok(()));
            prop_assert_eq!(&one, &other);
            prop_assert_eq!(one, new);
        }

        #[test]
        fn applying_twice_is_applying_once(base in attributes(), new in attributes()) {
            let changes = Changes::between(&base, &new);
            let mut current = base;
            prop_assert_eq!(changes.apply(&mut current, NEWER), Ok(()));
            prop_assert_eq!(changes.apply(&mut current, NEWER), Ok(()));
            prop_assert_eq!(current, new);
        }
    }
}
