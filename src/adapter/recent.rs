//! A map that remembers the latest so many.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;

use crate::sync::{Mutex, lock};

/// Entries by their key, of which the oldest are forgotten first.
pub(super) struct Recent<K, V> {
    entries_max: usize,
    entries: Mutex<Entries<K, V>>,
}

struct Entries<K, V> {
    values: HashMap<K, V>,
    /// The oldest first.
    order: VecDeque<K>,
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    pub(super) fn new(entries_max: usize) -> Recent<K, V> {
        let entries = Entries { values: HashMap::new(), order: VecDeque::new() };
        Recent { entries_max, entries: Mutex::new(entries) }
    }

    /// A copy of what is remembered; the default of its type if nothing is.
    #[cfg(feature = "tower-sessions-015")]
    pub(super) fn get(&self, key: K) -> V
    where
        V: Clone + Default,
    {
        lock(&self.entries).values.get(&key).cloned().unwrap_or_default()
    }

    /// Takes out what is remembered. Its place in the order stays, for another of the same key.
    pub(super) fn take(&self, key: K) -> Option<V> {
        lock(&self.entries).values.remove(&key)
    }

    /// Remembers, in the place of what was before. Returns what is not remembered any more, so
    /// that it is dropped with no lock held.
    pub(super) fn put(&self, key: K, value: V) -> Option<V> {
        let mut entries = lock(&self.entries);
        let before = entries.values.insert(key, value);
        if before.is_some() {
            return before;
        }
        entries.order.push_back(key);
        if entries.order.len() <= self.entries_max {
            return None;
        }
        let oldest = entries.order.pop_front()?;
        entries.values.remove(&oldest)
    }
}

impl<K, V> fmt::Debug for Recent<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = lock(&self.entries).values.len();
        f.debug_struct("Recent").field("count", &count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_first() {
        let recent = Recent::new(10);
        for key in 0..30_u32 {
            assert_eq!(recent.put(key, key), key.checked_sub(10));
            assert_eq!(recent.put(key, key), Some(key));
        }
        assert_eq!(recent.take(19), None);
        assert_eq!((recent.take(20), recent.take(20)), (Some(20), None));
        recent.put(30, 30);
        let entries = lock(&recent.entries);
        assert_eq!((entries.values.len(), entries.order.len()), (10, 10));
    }
}
