//! Stores whose sessions survive the process, and who of them is measured.

#[cfg(feature = "ours")]
pub mod cloakroom;
#[cfg(feature = "durable")]
mod fjall;
#[cfg(feature = "durable")]
mod redb;
#[cfg(feature = "durable")]
pub mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::path::{Path, PathBuf};

use crate::cli::Cli;
use crate::contender::Value;
use crate::draw::{Random, value};

/// What an update that returned has to survive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Survives {
    /// The end of the process.
    Kill,
    /// A power loss.
    PowerLoss,
}

/// What a durable store is opened for.
pub struct Place<'a> {
    /// A directory of its own, empty.
    pub directory: &'a Path,
    pub sessions: usize,
    pub survives: Survives,
}

/// One store that holds as many sessions as were asked for.
pub trait Durable: Send + Sync + Sized + 'static {
    const NAME: &'static str;
    /// Updates that one call of [`Worker::update`] sends at once.
    const PIPELINE: usize = 1;
    type Worker<'a>: Worker;

    /// Why it cannot be measured, or the store, filled.
    fn open(place: &Place<'_>) -> Result<Self, String>;
    fn worker(&self) -> Self::Worker<'_>;
    /// How many updates share a sync, if the store tells.
    fn syncs(&self) -> Option<u64> {
        None
    }
}

/// What one thread holds of a store: a connection, or nothing.
pub trait Worker {
    /// Updates these sessions. Returns once the updates survive what they have to.
    fn update(&mut self, indexes: &[u32], value: &Value);
}

pub trait VisitDurable {
    fn visit<C: Durable>(&mut self);
}

/// Visits the contenders of the sections about files.
pub fn each(cli: &Cli, survives: Survives, visit: &mut impl VisitDurable) {
    fn offer<C: Durable>(cli: &Cli, visit: &mut impl VisitDurable) {
        if cli.admits(C::NAME) {
            visit.visit::<C>();
        }
    }
    #[cfg(feature = "ours")]
    {
        if survives == Survives::Kill {
            offer::<cloakroom::Cloakroom<cloakroom::InMemory>>(cli, visit);
            offer::<cloakroom::Cloakroom<cloakroom::Written>>(cli, visit);
            offer::<cloakroom::Cloakroom<cloakroom::Encrypted>>(cli, visit);
        }
        offer::<cloakroom::Cloakroom<cloakroom::Mapped>>(cli, visit);
    }
    #[cfg(feature = "durable")]
    {
        offer::<redb::Redb>(cli, visit);
        offer::<fjall::Fjall>(cli, visit);
        if survives == Survives::Kill {
            offer::<redis::Redis<1>>(cli, visit);
            offer::<redis::Redis<16>>(cli, visit);
        }
    }
    #[cfg(feature = "sqlite")]
    offer::<sqlite::Sqlite>(cli, visit);
}

/// The sessions that every contender is filled with: a key, a value.
pub fn sessions(count: usize) -> impl Iterator<Item = (u128, Value)> {
    let mut random = Random::new(0xD15C);
    let mut value = value(&mut random);
    (0..count).map(move |_| {
        value[..8].copy_from_slice(&random.next().to_le_bytes());
        (random.next_key(), value)
    })
}

/// The keys of [`sessions`], by index.
pub fn keys(count: usize) -> Vec<[u8; 16]> {
    sessions(count).map(|(key, _)| key.to_be_bytes()).collect()
}

/// A directory that is removed in the end.
pub struct Directory(pub PathBuf);

impl Directory {
    /// Makes it where `CLOAKROOM_COMPARE_DIR` says, or among the temporary files.
    pub fn new(name: &str) -> std::io::Result<Directory> {
        let parent = std::env::var_os("CLOAKROOM_COMPARE_DIR")
            .map_or_else(std::env::temp_dir, PathBuf::from);
        let path = parent.join(format!("cloakroom-compare-{name}-{}", std::process::id()));
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::create_dir_all(&path)?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
