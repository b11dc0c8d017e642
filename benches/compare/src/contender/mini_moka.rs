//! mini-moka's synchronous cache with a time to idle: moka without its threads.

use std::sync::Arc;
use std::time::Duration;

use mini_moka::sync::{Cache, ConcurrentCacheExt};

use super::{Contender, Expires, Kind, LONG_IDLE, Setup, Value, first_word, missing};

pub struct MiniMoka {
    cache: Cache<u128, Arc<[u8]>>,
}

impl Contender for MiniMoka {
    const NAME: &'static str = "mini-moka-idle";
    const KIND: Kind = Kind::Expires;
    type Key = u128;

    fn open(_setup: &Setup) -> Self {
        MiniMoka { cache: Cache::builder().time_to_idle(LONG_IDLE).build() }
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
        self.cache.insert(key, Arc::from(&value[..]));
    }

    fn end(&self, key: u128) {
        self.cache.invalidate(&key);
    }

    fn settle(&self) {
        self.cache.sync();
    }
}

impl Expires for MiniMoka {
    /// One time to idle serves all; the sessions that are to stay do so by being read.
    fn open_expiring(_setup: &Setup, window: Duration) -> Self {
        MiniMoka { cache: Cache::builder().time_to_idle(window).build() }
    }

    fn create_until(&self, draw: u128, value: &Value, _idle: Duration) {
        self.create(draw, value);
    }

    fn live(&self) -> usize {
        self.cache.entry_count() as usize
    }
}
