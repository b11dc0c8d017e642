//! SQLite with a write-ahead log, a connection for each thread: NORMAL, or FULL for power loss.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::{Durable, Place, Survives, Worker, keys, sessions};
use crate::contender::Value;

const MAKE: &str = "CREATE TABLE sessions (id BLOB PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID";
const INSERT: &str = "INSERT INTO sessions VALUES (?1, ?2)";
const UPDATE: &str = "UPDATE sessions SET data = ?2 WHERE id = ?1";

pub struct Sqlite {
    path: PathBuf,
    keys: Vec<[u8; 16]>,
    survives: Survives,
}

impl Sqlite {
    fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(&self.path)?;
        let synchronous = match self.survives {
            Survives::Kill => "NORMAL",
            Survives::PowerLoss => "FULL",
        };
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.busy_timeout(Duration::from_secs(60))?;
        Ok(connection)
    }
}

impl Durable for Sqlite {
    const NAME: &'static str = "sqlite";
    type Worker<'a> = Connected<'a>;

    fn open(place: &Place<'_>) -> Result<Sqlite, String> {
        let path = place.directory.join("sessions.sqlite");
        let sqlite = Sqlite { path, keys: keys(place.sessions), survives: place.survives };
        let fill = || -> rusqlite::Result<()> {
            let mut connection = sqlite.connect()?;
            connection.execute(MAKE, [])?;
            let transaction = connection.transaction()?;
            {
                let mut insert = transaction.prepare(INSERT)?;
                for (key, value) in sessions(place.sessions) {
                    insert.execute(params![key.to_be_bytes(), value])?;
                }
            }
            transaction.commit()
        };
        fill().map_err(|error| error.to_string())?;
        Ok(sqlite)
    }

    fn worker(&self) -> Connected<'_> {
        let connection = self.connect().expect("the database was opened before");
        Connected { connection, keys: &self.keys }
    }
}

pub struct Connected<'a> {
    connection: Connection,
    keys: &'a [[u8; 16]],
}

impl Worker for Connected<'_> {
    fn update(&mut self, indexes: &[u32], value: &Value) {
        let mut update = self.connection.prepare_cached(UPDATE).expect("the statement is good");
        for &index in indexes {
            let rows = update.execute(params![self.keys[index as usize], value]);
            assert_eq!(rows.expect("sqlite updates"), 1);
        }
    }
}
