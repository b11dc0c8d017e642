//! Stores that are asked through an interface of their own, and who of them is measured: the stores
//! of tower-sessions by its trait, servers over a unix socket; ours by id.

#[cfg(feature = "ours")]
mod cloakroom;
mod memcached;
#[cfg(feature = "durable")]
mod redis;
#[cfg(feature = "web")]
mod tower;

use std::path::Path;

use crate::cli::Cli;

/// One store that holds as many sessions as were asked for.
pub trait Service: Send + Sync + Sized + 'static {
    const NAME: &'static str;
    /// Sessions that one call of [`Client::look`] asks for at once.
    const PIPELINE: usize = 1;
    type Client<'a>: Client;

    /// Why it cannot be measured, or the store, filled. The directory is empty, and its own.
    fn open(sessions: usize, directory: &Path) -> Result<Self, String>;
    fn client(&self) -> Self::Client<'_>;
}

/// What one thread holds of a store: a connection, or nothing.
pub trait Client {
    /// Looks these sessions up. Returns a number that depends on what each of them holds. Panics
    /// if one is not there.
    fn look(&mut self, indexes: &[u32]) -> u64;
}

pub trait VisitService {
    fn visit<S: Service>(&mut self);
}

/// Visits all of them.
pub fn each(cli: &Cli, visit: &mut impl VisitService) {
    fn offer<S: Service>(cli: &Cli, visit: &mut impl VisitService) {
        if cli.admits(S::NAME) {
            visit.visit::<S>();
        }
    }
    #[cfg(feature = "ours")]
    offer::<cloakroom::Cloakroom>(cli, visit);
    #[cfg(feature = "web")]
    {
        offer::<tower::Stored<tower::Ours>>(cli, visit);
        offer::<tower::Stored<tower::Memory>>(cli, visit);
        offer::<tower::Stored<tower::Moka>>(cli, visit);
    }
    #[cfg(feature = "durable")]
    {
        offer::<redis::Redis<1>>(cli, visit);
        offer::<redis::Redis<16>>(cli, visit);
    }
    offer::<memcached::Memcached<1>>(cli, visit);
    offer::<memcached::Memcached<16>>(cli, visit);
}
