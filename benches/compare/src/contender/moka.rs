//! moka's synchronous cache with a time to idle: the peer that expires by itself.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use super::{Contender, Expires, Kind, LONG_IDLE, Setup, Value, first_word, missing};

pub struct Moka {
    cache: Cache<u128, Arc<[u8]>>,
}

impl Contender for Moka {
    const NAME: &'static str = "moka-idle";
    const KIND: Kind = Kind::Expires;
    type Key = u128;

    fn open(_setup: &Setup) -> Self {
        Moka { cache: Cache::builder().time_to_idle(LONG_IDLE).build() }
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
        self.cache.run_pending_tasks();
    }
}

impl Expires for Moka {
    /// One time to idle serves all; the sessions that are to stay do so by being read.
    fn open_expiring(_setup: &Setup, window: Duration) -> Self {
        Moka { cache: Cache::builder().time_to_idle(window).build() }
    }

    fn create_until(&self, draw: u128, value: &Value, _idle: Duration) {
        self.create(draw, value);
    }

    fn live(&self) -> usize {
        self.cache.entry_count() as usize
    }
}
