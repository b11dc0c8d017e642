//! dashmap with `Arc<[u8]>`, read through the guard of `get` without cloning the `Arc`.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;

use super::{Contender, Expires, MARK_AT, Setup, Value, first_word, missing};

/// dashmap as it comes.
pub type Plain = Dash<std::collections::hash_map::RandomState>;
/// dashmap with ahash and as many shards as serve it best.
pub type Ahash = Dash<ahash::RandomState>;

pub struct Dash<S> {
    map: DashMap<u128, Arc<[u8]>, S>,
}

pub trait Flavour: BuildHasher + Clone + Send + Sync + 'static {
    const NAME: &'static str;
    fn map<K: Eq + Hash, V>(shards: usize) -> DashMap<K, V, Self>;
}

impl Flavour for std::collections::hash_map::RandomState {
    const NAME: &'static str = "dashmap-default";
    fn map<K: Eq + Hash, V>(_shards: usize) -> DashMap<K, V, Self> {
        DashMap::new()
    }
}

impl Flavour for ahash::RandomState {
    const NAME: &'static str = "dashmap-ahash";
    fn map<K: Eq + Hash, V>(shards: usize) -> DashMap<K, V, Self> {
        DashMap::with_hasher_and_shard_amount(ahash::RandomState::new(), shards)
    }
}

impl<S: Flavour> Contender for Dash<S> {
    const NAME: &'static str = S::NAME;
    type Key = u128;

    fn open(setup: &Setup) -> Self {
        Dash { map: S::map(setup.shards) }
    }

    fn create(&self, draw: u128, value: &Value) -> u128 {
        self.map.insert(draw, Arc::from(&value[..]));
        draw
    }

    #[inline(always)]
    fn read(&self, key: u128) -> u64 {
        match self.map.get(&key) {
            Some(data) => first_word(&data),
            None => missing(),
        }
    }

    fn replace(&self, key: u128, value: &Value) {
        let fresh = Arc::from(&value[..]);
        match self.map.get_mut(&key) {
            Some(mut data) => *data = fresh,
            None => missing(),
        }
    }

    fn end(&self, key: u128) {
        self.map.remove(&key);
    }
}

impl<S: Flavour> Expires for Dash<S> {
    fn create_until(&self, draw: u128, value: &Value, _idle: Duration) {
        let mut value = *value;
        value[MARK_AT] = 1;
        self.create(draw, &value);
    }

    fn sweep(&self) {
        self.map.retain(|_, data| data[MARK_AT] == 0);
    }

    fn live(&self) -> usize {
        self.map.len()
    }
}
