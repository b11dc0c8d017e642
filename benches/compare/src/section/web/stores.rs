//! Stores for tower-sessions, each as short as can be: those that are to be had are for an older
//! version of it.

use std::path::Path;

use async_trait::async_trait;
use moka::sync::Cache;
use redis::aio::MultiplexedConnection;
use redis::{Client, Cmd, FromRedisValue};
use time::OffsetDateTime;
use tower_sessions::SessionStore;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::{Error, Result};

/// Whole records in a cache of moka's.
#[derive(Clone, Debug)]
pub struct MokaStore(Cache<Id, Record>);

impl Default for MokaStore {
    fn default() -> MokaStore {
        MokaStore(Cache::builder().build())
    }
}

#[async_trait]
impl SessionStore for MokaStore {
    async fn create(&self, record: &mut Record) -> Result<()> {
        while self.0.contains_key(&record.id) {
            record.id = Id::default();
        }
        self.save(record).await
    }

    async fn save(&self, record: &Record) -> Result<()> {
        self.0.insert(record.id, record.clone());
        Ok(())
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let is_live = |record: &Record| record.expiry_date > OffsetDateTime::now_utc();
        Ok(self.0.get(id).filter(is_live))
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        self.0.invalidate(id);
        Ok(())
    }
}

/// JSON in Redis, under the session's id, with Redis' own expiry. All requests share a connection.
#[derive(Clone)]
pub struct RedisStore(MultiplexedConnection);

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedisStore")
    }
}

impl RedisStore {
    pub async fn connect(socket: &Path) -> std::result::Result<RedisStore, String> {
        let client = Client::open(format!("unix://{}", socket.display()));
        let client = client.map_err(|error| error.to_string())?;
        let connection = client.get_multiplexed_async_connection().await;
        connection.map(RedisStore).map_err(|error| error.to_string())
    }

    async fn ask<T: FromRedisValue>(&self, command: Cmd) -> Result<T> {
        let answer = command.query_async(&mut self.0.clone()).await;
        answer.map_err(|error| Error::Backend(error.to_string()))
    }

    /// Sets the record; true unless `condition` forbids it.
    async fn set(&self, record: &Record, condition: &[&str]) -> Result<bool> {
        let text = serde_json::to_vec(record).map_err(|error| Error::Encode(error.to_string()))?;
        let left = (record.expiry_date - OffsetDateTime::now_utc()).whole_seconds().max(1);
        let mut command = redis::cmd("SET");
        command.arg(record.id.to_string()).arg(text).arg("EX").arg(left).arg(condition);
        let answer: Option<String> = self.ask(command).await?;
        Ok(answer.is_some())
    }
}

#[async_trait]
impl SessionStore for RedisStore {
    async fn create(&self, record: &mut Record) -> Result<()> {
        while !self.set(record, &["NX"]).await? {
            record.id = Id::default();
        }
        Ok(())
    }

    async fn save(&self, record: &Record) -> Result<()> {
        self.set(record, &[]).await.map(drop)
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let mut command = redis::cmd("GET");
        command.arg(id.to_string());
        let text: Option<Vec<u8>> = self.ask(command).await?;
        let record = text.map(|text| serde_json::from_slice(&text)).transpose();
        record.map_err(|error| Error::Decode(error.to_string()))
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        let mut command = redis::cmd("DEL");
        command.arg(id.to_string());
        self.ask(command).await
    }
}
