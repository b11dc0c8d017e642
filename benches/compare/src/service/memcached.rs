//! memcached on a unix socket; started by the lab. Its text protocol, as
//! <https://github.com/memcached/memcached/blob/master/doc/protocol.txt> has it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Client, Service};
use crate::contender::first_word;
use crate::durable::sessions;

/// How long the server may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);
/// Room for that many sessions, with what it adds to each.
const BYTES_PER_SESSION: usize = 400;

/// `PIPELINE` keys are asked for at once.
pub struct Memcached<const PIPELINE: usize> {
    child: Child,
    socket: PathBuf,
    keys: Vec<String>,
}

impl<const PIPELINE: usize> Service for Memcached<PIPELINE> {
    const NAME: &'static str = if PIPELINE == 1 { "memcached" } else { "memcached-16-at-once" };
    const PIPELINE: usize = PIPELINE;
    type Client<'a> = Connected<'a>;

    fn open(count: usize, directory: &Path) -> Result<Self, String> {
        let socket = directory.join("memcached.sock");
        let mut command = Command::new("memcached");
        command.arg("-s").arg(&socket).args(["-u", "root", "-t", "2", "-m"]);
        command.arg((64 + ((count * BYTES_PER_SESSION) >> 20)).to_string());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| {
            format!("memcached cannot be started ({error}): apt-get install memcached")
        })?;
        let keys = sessions(count).map(|(key, _)| format!("{key:032x}")).collect();
        let server = Memcached { child, socket, keys };
        server.fill(count).map_err(|error| format!("memcached: {error}"))?;
        Ok(server)
    }

    fn client(&self) -> Connected<'_> {
        let stream = self.connect().expect("the server answered before");
        Connected { stream: BufReader::new(stream), asked: Vec::new(), keys: &self.keys }
    }
}

impl<const PIPELINE: usize> Memcached<PIPELINE> {
    fn connect(&self) -> std::io::Result<UnixStream> {
        let begin = Instant::now();
        loop {
            match UnixStream::connect(&self.socket) {
                Err(error) if begin.elapsed() > PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
                connected => return connected,
            }
        }
    }

    fn fill(&self, count: usize) -> std::io::Result<()> {
        let stream = self.connect()?;
        let mut output = std::io::BufWriter::new(&stream);
        for ((_, value), key) in sessions(count).zip(&self.keys) {
            write!(output, "set {key} 0 36000 {} noreply\r\n", value.len())?;
            output.write_all(&value)?;
            output.write_all(b"\r\n")?;
        }
        // An answer to this comes when all of that is done.
        output.write_all(b"version\r\n")?;
        output.flush()?;
        drop(output);
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        if answer.starts_with("VERSION") { Ok(()) } else { Err(std::io::Error::other(answer)) }
    }
}

impl<const PIPELINE: usize> Drop for Memcached<PIPELINE> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Connected<'a> {
    stream: BufReader<UnixStream>,
    asked: Vec<u8>,
    keys: &'a [String],
}

impl Connected<'_> {
    /// The value behind a line `VALUE key flags length`; None behind `END`.
    fn value(&mut self, line: &mut Vec<u8>, value: &mut Vec<u8>) -> std::io::Result<Option<u64>> {
        line.clear();
        self.stream.read_until(b'\n', line)?;
        if line.starts_with(b"END") {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(line);
        let len = text.trim_end().rsplit(' ').next().and_then(|len| len.parse::<usize>().ok());
        let len = len.ok_or_else(|| std::io::Error::other(text.into_owned()))?;
        value.resize(len + 2, 0);
        self.stream.read_exact(value)?;
        Ok(Some(first_word(value)))
    }
}

impl Client for Connected<'_> {
    fn look(&mut self, indexes: &[u32]) -> u64 {
        self.asked.clear();
        self.asked.extend_from_slice(b"get");
        for &index in indexes {
            self.asked.push(b' ');
            self.asked.extend_from_slice(self.keys[index as usize].as_bytes());
        }
        self.asked.extend_from_slice(b"\r\n");
        self.stream.get_mut().write_all(&self.asked).expect("memcached listens");
        let (mut line, mut value) = (Vec::new(), Vec::new());
        let (mut found, mut sum) = (0, 0_u64);
        while let Some(word) = self.value(&mut line, &mut value).expect("memcached answers") {
            found += 1;
            sum = sum.wrapping_add(word);
        }
        assert_eq!(
            found,
            indexes.len(),
            "memcached has dropped sessions: it has too little memory"
        );
        sum
    }
}
