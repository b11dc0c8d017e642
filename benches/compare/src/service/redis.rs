//! Redis on a unix socket; started by the lab.

use std::path::Path;

use redis::Connection;

use super::{Client, Service};
use crate::contender::first_word;
use crate::durable::keys;
use crate::durable::redis::Server;

/// `PIPELINE` keys are asked for at once, by `MGET`.
pub struct Redis<const PIPELINE: usize> {
    server: Server,
    keys: Vec<[u8; 16]>,
}

impl<const PIPELINE: usize> Service for Redis<PIPELINE> {
    const NAME: &'static str = if PIPELINE == 1 { "redis" } else { "redis-16-at-once" };
    const PIPELINE: usize = PIPELINE;
    type Client<'a> = Connected<'a>;

    fn open(sessions: usize, directory: &Path) -> Result<Self, String> {
        let server = Server::start(directory, &["--appendonly", "no", "--save", ""])?;
        server.fill(sessions)?;
        Ok(Redis { server, keys: keys(sessions) })
    }

    fn client(&self) -> Connected<'_> {
        let connection = self.server.connect().expect("the server answered before");
        Connected { connection, keys: &self.keys }
    }
}

pub struct Connected<'a> {
    connection: Connection,
    keys: &'a [[u8; 16]],
}

impl Client for Connected<'_> {
    fn look(&mut self, indexes: &[u32]) -> u64 {
        let mut command = redis::cmd("MGET");
        for &index in indexes {
            command.arg(&self.keys[index as usize][..]);
        }
        let values: Vec<Vec<u8>> = command.query(&mut self.connection).expect("redis answers");
        values.iter().fold(0, |sum, value| first_word(value).wrapping_add(sum))
    }
}
