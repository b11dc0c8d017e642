//! What a request did itself, by its earlier saves.

use std::iter;

use super::loaded::{KeyDigest, Seen};

/// What it left of single keys; None where it removed one. Most requests change one key, and then
/// this allocates nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    first: Option<(KeyDigest, Option<Seen>)>,
    others: Vec<(KeyDigest, Option<Seen>)>,
}

impl Own {
    #[cfg(any(test, feature = "tower-sessions-015"))]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// None if it left the key alone.
    pub(super) fn get(&self, key: KeyDigest) -> Option<Option<Seen>> {
        self.iter().find(|left| left.0 == key).map(|left| left.1)
    }

    pub(super) fn set(&mut self, key: KeyDigest, seen: Option<Seen>) {
        let left = (key, seen);
        let Some(first) = &mut self.first else {
            self.first = Some(left);
            return;
        };
        let known = iter::once(first).chain(&mut self.others).find(|left| left.0 == key);
        match known {
            Some(known) => *known = left,
            None => self.others.push(left),
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = KeyDigest> {
        self.iter().map(|left| left.0)
    }

    fn iter(&self) -> impl Iterator<Item = &(KeyDigest, Option<Seen>)> {
        self.first.iter().chain(&self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_key_counts() {
        let mut own = Own::default();
        assert!(own.is_empty());
        let keys = ["a", "b", "c"].map(KeyDigest::of);
        for count in [1, 2] {
            for key in keys {
                own.set(key, Some(Seen::Count(count)));
            }
        }
        own.set(keys[0], None);
        assert_eq!(own.keys().collect::<Vec<_>>(), keys);
        assert_eq!(keys.map(|key| own.get(key)), [Some(None), two(), two()]);
        assert_eq!(own.get(KeyDigest::of("d")), None);
    }

    fn two() -> Option<Option<Seen>> {
        Some(Some(Seen::Count(2)))
    }
}
