//! redb: each update is a transaction. Its only commit that survives a kill is a synced one.

use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use super::{Durable, Place, Worker, keys, sessions};
use crate::contender::Value;

const TABLE: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("sessions");

pub struct Redb {
    database: Database,
    keys: Vec<[u8; 16]>,
}

impl Durable for Redb {
    const NAME: &'static str = "redb";
    type Worker<'a> = &'a Redb;

    fn open(place: &Place<'_>) -> Result<Redb, String> {
        let fill = || -> Result<Redb, redb::Error> {
            let database = Database::create(place.directory.join("sessions.redb"))?;
            let write = database.begin_write()?;
            {
                let mut table = write.open_table(TABLE)?;
                for (key, value) in sessions(place.sessions) {
                    table.insert(&key.to_be_bytes(), value.as_slice())?;
                }
            }
            write.commit()?;
            let read = database.begin_read()?;
            read.open_table(TABLE)?;
            Ok(Redb { database, keys: keys(place.sessions) })
        };
        fill().map_err(|error| error.to_string())
    }

    fn worker(&self) -> &Redb {
        self
    }
}

impl Worker for &Redb {
    fn update(&mut self, indexes: &[u32], value: &Value) {
        let update = || -> Result<(), redb::Error> {
            let mut write = self.database.begin_write()?;
            write.set_durability(Durability::Immediate)?;
            {
                let mut table = write.open_table(TABLE)?;
                for &index in indexes {
                    table.insert(&self.keys[index as usize], value.as_slice())?;
                }
            }
            write.commit()?;
            Ok(())
        };
        update().expect("redb updates");
    }
}
