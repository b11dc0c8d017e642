//! Redis on a unix socket, append-only file synced each second; started by the lab.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::{Client, Connection};

use super::{Durable, Place, Worker, keys, sessions};
use crate::contender::Value;

/// How long the server may take to listen, or to load.
const PATIENCE: Duration = Duration::from_secs(600);
/// Sets that are sent at once to fill it.
const FILL_BATCH: usize = 1000;

/// A server of our own.
pub struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    /// Starts it in a directory. It listens when this returns, and may still be loading.
    pub fn start(directory: &Path, options: &[&str]) -> Result<Server, String> {
        let socket = directory.join("redis.sock");
        let _ = std::fs::remove_file(&socket);
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--daemonize", "no", "--loglevel", "warning"]);
        command.arg("--unixsocket").arg(&socket).arg("--dir").arg(directory).args(options);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| {
            format!("redis-server cannot be started ({error}): apt-get install redis-server")
        })?;
        Ok(Server { child, socket })
    }

    #[cfg(feature = "web")]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A connection, once the server answers and has loaded what it has.
    pub fn connect(&self) -> Result<Connection, String> {
        let client = Client::open(format!("unix://{}", self.socket.display()));
        let client = client.map_err(|error| error.to_string())?;
        let begin = std::time::Instant::now();
        loop {
            let answered = client.get_connection().and_then(|mut connection| {
                redis::cmd("PING").query::<String>(&mut connection)?;
                Ok(connection)
            });
            match answered {
                Ok(connection) => return Ok(connection),
                Err(error) if begin.elapsed() > PATIENCE => return Err(error.to_string()),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Sets all sessions.
    pub fn fill(&self, count: usize) -> Result<(), String> {
        let mut connection = self.connect()?;
        let mut pipe = redis::pipe();
        for (index, (key, value)) in sessions(count).enumerate() {
            pipe.set(&key.to_be_bytes()[..], &value[..]).ignore();
            if index % FILL_BATCH == FILL_BATCH - 1 || index == count - 1 {
                pipe.query::<()>(&mut connection).map_err(|error| error.to_string())?;
                pipe.clear();
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `PIPELINE` updates are sent at once, then the answers read.
pub struct Redis<const PIPELINE: usize> {
    server: Server,
    keys: Vec<[u8; 16]>,
}

impl<const PIPELINE: usize> Durable for Redis<PIPELINE> {
    const NAME: &'static str = if PIPELINE == 1 { "redis" } else { "redis-pipeline-16" };
    const PIPELINE: usize = PIPELINE;
    type Worker<'a> = Connected<'a>;

    fn open(place: &Place<'_>) -> Result<Self, String> {
        let options = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""];
        let server = Server::start(place.directory, &options)?;
        server.fill(place.sessions)?;
        Ok(Redis { server, keys: keys(place.sessions) })
    }

    fn worker(&self) -> Connected<'_> {
        let connection = self.server.connect().expect("the server answered before");
        Connected { connection, keys: &self.keys }
    }
}

pub struct Connected<'a> {
    connection: Connection,
    keys: &'a [[u8; 16]],
}

impl Worker for Connected<'_> {
    fn update(&mut self, indexes: &[u32], value: &Value) {
        let mut pipe = redis::pipe();
        for &index in indexes {
            pipe.set(&self.keys[index as usize][..], &value[..]).ignore();
        }
        pipe.query::<()>(&mut self.connection).expect("redis answers");
    }
}
