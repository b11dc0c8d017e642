//! fjall: its journal goes to the operating system with each insert, to the disk on demand.

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Durable, Place, Survives, Worker, keys, sessions};
use crate::contender::Value;

pub struct Fjall {
    database: Database,
    sessions: Keyspace,
    keys: Vec<[u8; 16]>,
    survives: Survives,
}

impl Durable for Fjall {
    const NAME: &'static str = "fjall";
    type Worker<'a> = &'a Fjall;

    fn open(place: &Place<'_>) -> Result<Fjall, String> {
        let fill = || -> fjall::Result<Fjall> {
            let database = Database::builder(place.directory).open()?;
            let keyspace = database.keyspace("sessions", KeyspaceCreateOptions::default)?;
            for (key, value) in sessions(place.sessions) {
                keyspace.insert(key.to_be_bytes(), value)?;
            }
            let keys = keys(place.sessions);
            Ok(Fjall { database, sessions: keyspace, keys, survives: place.survives })
        };
        fill().map_err(|error| error.to_string())
    }

    fn worker(&self) -> &Fjall {
        self
    }
}

impl Worker for &Fjall {
    fn update(&mut self, indexes: &[u32], value: &Value) {
        for &index in indexes {
            self.sessions.insert(self.keys[index as usize], *value).expect("fjall inserts");
        }
        if self.survives == Survives::PowerLoss {
            self.database.persist(PersistMode::SyncData).expect("fjall syncs");
        }
    }
}
