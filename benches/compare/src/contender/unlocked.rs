//! A plain hash map without any lock: the bound that a shared store cannot pass.

use std::cell::UnsafeCell;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use hashbrown::HashMap;

use super::{Contender, Kind, Setup, Value, first_word, missing};

type Map = HashMap<u128, Arc<[u8]>, BuildHasherDefault<Identity>>;

pub struct Unlocked {
    map: UnsafeCell<Map>,
}

// SAFETY: `SHARED_WRITES` is false, so the sections write only while no other thread uses the
// map; shared reads of a hash map need no lock.
unsafe impl Sync for Unlocked {}

impl Unlocked {
    #[inline(always)]
    fn shared(&self) -> &Map {
        // SAFETY: No write runs meanwhile, see `Sync` above, and no reference outlives its call.
        unsafe { &*self.map.get() }
    }

    #[expect(clippy::mut_from_ref, reason = "exclusive by the contract of SHARED_WRITES")]
    fn exclusive(&self) -> &mut Map {
        // SAFETY: As in `shared`; the one thread that uses the map is inside this call.
        unsafe { &mut *self.map.get() }
    }
}

impl Contender for Unlocked {
    const NAME: &'static str = "unlocked";
    const KIND: Kind = Kind::Bound;
    const SHARED_WRITES: bool = false;
    type Key = u128;

    fn open(_setup: &Setup) -> Self {
        Unlocked { map: UnsafeCell::new(Map::default()) }
    }

    fn create(&self, draw: u128, value: &Value) -> u128 {
        self.exclusive().insert(draw, Arc::from(&value[..]));
        draw
    }

    #[inline(always)]
    fn read(&self, key: u128) -> u64 {
        match self.shared().get(&key) {
            Some(data) => first_word(data),
            None => missing(),
        }
    }

    fn replace(&self, key: u128, value: &Value) {
        match self.exclusive().get_mut(&key) {
            Some(data) => *data = Arc::from(&value[..]),
            None => missing(),
        }
    }

    fn end(&self, key: u128) {
        self.exclusive().remove(&key);
    }
}

/// Keys are random already: their own bits are the hash.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("only u128 keys are hashed")
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}
