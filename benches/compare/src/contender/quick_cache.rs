//! quick_cache as it comes, with room enough that it evicts nothing. It knows no expiry.

use std::sync::Arc;

use quick_cache::UnitWeighter;
use quick_cache::sync::Cache;

use super::{Contender, Setup, Value, first_word, missing};

pub struct QuickCache {
    cache: Cache<u128, Arc<[u8]>>,
}

impl Contender for QuickCache {
    const NAME: &'static str = "quick_cache";
    type Key = u128;

    fn open(setup: &Setup) -> Self {
        // Twice the sessions, because the shards fill unevenly; the spare costs no memory.
        let room = setup.sessions * 2 + 8192;
        let sessions = setup.sessions.max(64);
        Self { cache: Cache::with_weighter(sessions, room as u64, UnitWeighter) }
    }

    fn create(&self, draw: u128, value: &Value) -> u128 {
        self.cache.insert(draw, Arc::from(&value[..]));
        draw
    }

    #[inline(always)]
    fn read(&self, key: u128) -> u64 {
        match self.cache.get(&key) {
            Some(data) => first_word(&data),
            None => missing(),
        }
    }

    fn replace(&self, key: u128, value: &Value) {
        if self.cache.replace(key, Arc::from(&value[..]), false).is_err() {
            missing();
        }
    }

    fn end(&self, key: u128) {
        self.cache.remove(&key);
    }
}
