//! A map that remembers the latest so many. In parts, each with a lock of its own, so that requests
//! on many cores do not wait for each other.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;

use ahash::RandomState;

use crate::sync::{Mutex, lock};

/// As many parts as one map has at most, and how few entries each has at least: in a small one the
/// parts would fill too unevenly.
const PARTS_MAX: usize = 8;
const PART_ENTRIES_MIN: usize = 256;

/// Entries by their key, of which the oldest are forgotten first, those of each part by themselves.
pub(super) struct Recent<K, V> {
    /// Of a part.
    entries_max: usize,
    parts: Box<[Mutex<Entries<K, V>>]>,
    hasher: RandomState,
}

struct Entries<K, V> {
    values: HashMap<K, V, RandomState>,
    /// The oldest first.
    order: VecDeque<K>,
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    pub(super) fn new(entries_max: usize) -> Recent<K, V> {
        let count = (entries_max / PART_ENTRIES_MIN).clamp(1, PARTS_MAX);
        let part = |_| Mutex::new(Entries { values: HashMap::default(), order: VecDeque::new() });
        let parts = (0..count).map(part).collect();
        Recent { entries_max: entries_max.div_ceil(count), parts, hasher: RandomState::new() }
    }

    fn part(&self, key: K) -> &Mutex<Entries<K, V>> {
        &self.parts[self.hasher.hash_one(key) as usize % self.parts.len()]
    }

    /// A copy of what is remembered; the default of its type if nothing is.
    #[cfg(feature = "tower-sessions-015")]
    pub(super) fn get(&self, key: K) -> V
    where
        V: Clone + Default,
    {
        lock(self.part(key)).values.get(&key).cloned().unwrap_or_default()
    }

    /// Takes out what is remembered. Its place in the order stays, for another of the same key.
    pub(super) fn take(&self, key: K) -> Option<V> {
        lock(self.part(key)).values.remove(&key)
    }

    /// Remembers, in the place of what was before. Returns what is not remembered any more, so
    /// that it is dropped with no lock held.
    pub(super) fn put(&self, key: K, value: V) -> Option<V> {
        let mut entries = lock(self.part(key));
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
        let count: usize = self.parts.iter().map(|part| lock(part).values.len()).sum();
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
        let entries = lock(&recent.parts[0]);
        assert_eq!((entries.values.len(), entries.order.len()), (10, 10));
    }

    #[test]
    fn a_large_one_has_parts_and_remembers_as_many() {
        let entries_max = 256 * PARTS_MAX;
        let recent = Recent::new(entries_max);
        assert_eq!(recent.parts.len(), PARTS_MAX);
        for key in 0..100 * entries_max {
            let _ = recent.put(key, key);
            assert_eq!(recent.put(key, key), Some(key));
        }
        let count: usize = recent.parts.iter().map(|part| lock(part).values.len()).sum();
        assert_eq!(count, entries_max);
    }
}
