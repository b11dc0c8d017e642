//! papaya with ahash and `Arc<[u8]>`, pinned anew for each operation.

use std::sync::Arc;
use std::time::Duration;

use papaya::HashMap;

use super::{Contender, Expires, MARK_AT, Setup, Value, first_word, missing};

pub struct Papaya {
    map: HashMap<u128, Arc<[u8]>, ahash::RandomState>,
}

impl Contender for Papaya {
    const NAME: &'static str = "papaya";
    type Key = u128;

    fn open(_setup: &Setup) -> Self {
        Papaya { map: HashMap::with_hasher(ahash::RandomState::new()) }
    }

    fn create(&self, draw: u128, value: &Value) -> u128 {
        self.map.pin().insert(draw, Arc::from(&value[..]));
        draw
    }

    #[inline(always)]
    fn read(&self, key: u128) -> u64 {
        match self.map.pin().get(&key) {
            Some(data) => first_word(data),
            None => missing(),
        }
    }

    fn replace(&self, key: u128, value: &Value) {
        if self.map.pin().insert(key, Arc::from(&value[..])).is_none() {
            missing();
        }
    }

    fn end(&self, key: u128) {
        self.map.pin().remove(&key);
    }
}

impl Expires for Papaya {
    fn create_until(&self, draw: u128, value: &Value, _idle: Duration) {
        let mut value = *value;
        value[MARK_AT] = 1;
        self.create(draw, &value);
    }

    fn sweep(&self) {
        self.map.pin().retain(|_, data| data[MARK_AT] == 0);
    }

    fn live(&self) -> usize {
        self.map.len()
    }
}
