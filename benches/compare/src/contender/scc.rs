//! scc's two concurrent hash maps, with ahash and `Arc<[u8]>`.

use std::sync::Arc;

use scc::{HashIndex, HashMap};

use super::{Contender, Setup, Value, first_word, missing};

/// `scc::HashMap`: readers lock a bucket.
pub struct SccMap {
    map: HashMap<u128, Arc<[u8]>, ahash::RandomState>,
}

impl Contender for SccMap {
    const NAME: &'static str = "scc-map";
    type Key = u128;

    fn open(_setup: &Setup) -> Self {
        SccMap { map: HashMap::with_hasher(ahash::RandomState::new()) }
    }

    fn create(&self, draw: u128, value: &Value) -> u128 {
        let _ = self.map.upsert_sync(draw, Arc::from(&value[..]));
        draw
    }

    #[inline(always)]
    fn read(&self, key: u128) -> u64 {
        match self.map.read_sync(&key, |_, data| first_word(data)) {
            Some(word) => word,
            None => missing(),
        }
    }

    fn replace(&self, key: u128, value: &Value) {
        if self.map.update_sync(&key, |_, data| *data = Arc::from(&value[..])).is_none() {
            missing();
        }
    }

    fn end(&self, key: u128) {
        self.map.remove_sync(&key);
    }
}

/// `scc::HashIndex`: readers take no lock. An update is an insertion and a removal, between which a
/// reader may find nothing: then it looks again.
pub struct SccIndex {
    index: HashIndex<u128, Arc<[u8]>, ahash::RandomState>,
}

impl Contender for SccIndex {
    const NAME: &'static str = "scc-index";
    type Key = u128;

    fn open(_setup: &Setup) -> Self {
        SccIndex { index: HashIndex::with_hasher(ahash::RandomState::new()) }
    }

    fn create(&self, draw: u128, value: &Value) -> u128 {
        let _ = self.index.insert_sync(draw, Arc::from(&value[..]));
        draw
    }

    #[inline(always)]
    fn read(&self, key: u128) -> u64 {
        match self.index.peek_with(&key, |_, data| first_word(data)) {
            Some(word) => word,
            None => self.read_again(key),
        }
    }

    fn replace(&self, key: u128, value: &Value) {
        match self.index.get_sync(&key) {
            Some(mut entry) => entry.update(Arc::from(&value[..])),
            None => missing(),
        }
    }

    fn end(&self, key: u128) {
        self.index.remove_sync(&key);
    }
}

/// A reader meets an update again and again this often at most.
const LOOKS_MAX: usize = 1000;

impl SccIndex {
    #[cold]
    fn read_again(&self, key: u128) -> u64 {
        let look = || self.index.peek_with(&key, |_, data| first_word(data));
        (0..LOOKS_MAX).find_map(|_| look()).unwrap_or_else(|| missing())
    }
}
