//! Ours: in memory as the bound, and on files, mapped and written.

use std::marker::PhantomData;
use std::path::Path;
use std::time::Duration;

use cloakroom::cookie::Keys;
use cloakroom::{Append, Builder, CreateOptions, Durability, Result, SessionId, Store};

use super::{Durable, Place, Survives, Worker, sessions};
use crate::contender::cloakroom::Payload;
use crate::contender::{LONG_IDLE, Value};

/// How often a store is asked whether all is in memory.
const ASK_EVERY: Duration = Duration::from_millis(1);

/// Where a store keeps its sessions.
pub trait Kept: Send + Sync + 'static {
    const NAME: &'static str;
    fn open(builder: Builder<Payload>, directory: &Path) -> Result<Store<Payload>>;
}

pub struct InMemory;
pub struct Mapped;
pub struct Written;
pub struct Encrypted;

impl Kept for InMemory {
    const NAME: &'static str = "cloakroom-memory";

    fn open(builder: Builder<Payload>, _directory: &Path) -> Result<Store<Payload>> {
        builder.in_memory()
    }
}

impl Kept for Mapped {
    const NAME: &'static str = "cloakroom";

    fn open(builder: Builder<Payload>, directory: &Path) -> Result<Store<Payload>> {
        builder.append(Append::Mapped).open(directory)
    }
}

impl Kept for Written {
    const NAME: &'static str = "cloakroom-written";

    fn open(builder: Builder<Payload>, directory: &Path) -> Result<Store<Payload>> {
        builder.append(Append::Written).open(directory)
    }
}

impl Kept for Encrypted {
    const NAME: &'static str = "cloakroom-encrypted";

    fn open(builder: Builder<Payload>, directory: &Path) -> Result<Store<Payload>> {
        let keys = Keys::new([[7; 32]]).expect("a secret of 32 bytes");
        builder.encryption(keys).open(directory)
    }
}

/// A store whose sessions do not expire while they are measured.
pub fn lasting() -> Builder<Payload> {
    Store::builder().idle_timeout(LONG_IDLE).anonymous_idle_timeout(LONG_IDLE)
}

/// Creates so many sessions.
pub fn fill(store: &Store<Payload>, count: usize) -> Vec<SessionId> {
    let created = |bytes| store.create(Payload { bytes }).expect("no limit is set").id();
    sessions(count).map(|(_, bytes)| created(bytes)).collect()
}

/// How many sessions only the snapshot's file has.
pub fn unloaded(store: &Store<Payload>) -> u64 {
    store.stats().journal.expect("it is on disk").unloaded
}

pub fn wait_until_loaded(store: &Store<Payload>) {
    while unloaded(store) > 0 {
        std::thread::sleep(ASK_EVERY);
    }
}

pub struct Cloakroom<K> {
    store: Store<Payload>,
    ids: Vec<SessionId>,
    survives: Survives,
    kept: PhantomData<K>,
}

impl<K: Kept> Cloakroom<K> {
    fn filled(place: &Place<'_>) -> Result<Self> {
        let durability = match place.survives {
            Survives::Kill => Durability::Crash,
            Survives::PowerLoss => Durability::Power,
        };
        let builder = Store::builder().idle_timeout(LONG_IDLE).durability(durability);
        let store = K::open(builder, place.directory)?;
        let mut ids = Vec::with_capacity(place.sessions);
        for (_, bytes) in sessions(place.sessions) {
            let options = CreateOptions::new().idle_timeout(LONG_IDLE);
            ids.push(store.create_with(Payload { bytes }, options)?.id());
        }
        Ok(Cloakroom { store, ids, survives: place.survives, kept: PhantomData })
    }
}

impl<K: Kept> Durable for Cloakroom<K> {
    const NAME: &'static str = K::NAME;
    type Worker<'a> = &'a Self;

    fn open(place: &Place<'_>) -> std::result::Result<Self, String> {
        Self::filled(place).map_err(|error| error.to_string())
    }

    fn worker(&self) -> &Self {
        self
    }

    fn syncs(&self) -> Option<u64> {
        self.store.stats().journal.map(|journal| journal.syncs)
    }
}

impl<K: Kept> Worker for &Cloakroom<K> {
    #[inline(always)]
    fn update(&mut self, indexes: &[u32], value: &Value) {
        for &index in indexes {
            let updated = self.store.update(self.ids[index as usize], |s| s.bytes = *value);
            updated.expect("the session is there");
            if self.survives == Survives::PowerLoss {
                self.store.flush().wait().expect("the disk works");
            }
        }
    }
}
