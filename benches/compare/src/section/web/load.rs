//! What sends the requests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::CONNECTIONS;

#[derive(Clone, Copy)]
pub enum Load {
    Wrk,
    /// Threads of this process, one for each connection.
    Own,
}

/// What a load showed.
#[derive(Default)]
pub struct Loaded {
    pub requests: u64,
    /// Requests a second.
    pub rate: f64,
    pub problem: Option<String>,
}

impl Load {
    /// wrk, if it is installed.
    pub fn new() -> Load {
        let mut wrk = Command::new("wrk");
        wrk.arg("-v").stdout(Stdio::null()).stderr(Stdio::null());
        if wrk.status().is_ok() { Load::Wrk } else { Load::Own }
    }

    pub fn name(self) -> &'static str {
        match self {
            Load::Wrk => "wrk",
            Load::Own => "the lab itself, as wrk is not installed",
        }
    }

    /// For that long, with one of the cookies in each request.
    pub fn put(self, address: SocketAddr, cookies: &Path, time: Duration) -> Loaded {
        match self {
            Load::Wrk => by_wrk(address, cookies, time)
                .unwrap_or_else(|problem| Loaded { problem: Some(problem), ..Loaded::default() }),
            Load::Own => by_threads(address, cookies, time),
        }
    }
}

/// One thread of wrk keeps up with two cores of servers, as long as it does not have to put its
/// requests together; its time is counted in whole seconds.
fn by_wrk(address: SocketAddr, cookies: &Path, time: Duration) -> Result<Loaded, String> {
    let script = cookies.with_extension("lua");
    let lines = [
        "local requests = {}".into(),
        "local head = \"GET / HTTP/1.1\\r\\nhost: a\\r\\ncookie: id=\"".into(),
        format!("for line in io.lines({cookies:?}) do"),
        "requests[#requests + 1] = head .. line .. \"\\r\\n\\r\\n\" end".into(),
        "math.randomseed(os.time())".into(),
        "request = function() return requests[math.random(#requests)] end".to_owned(),
    ];
    std::fs::write(&script, lines.join("\n")).map_err(|error| error.to_string())?;
    let seconds = time.as_secs_f64().ceil() as u64;
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "-s"])
        .arg(&script)
        .arg(format!("http://{address}/"))
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in "));
    let (Some(rate), Some((requests, _))) = (rate, requests) else {
        return Err(format!("wrk said: {text}{}", String::from_utf8_lossy(&output.stderr)));
    };
    let number = |text: &str| text.trim().parse::<f64>().map_err(|error| error.to_string());
    let is_problem = |line: &&str| line.contains("Non-2xx") || line.contains("Socket errors");
    Ok(Loaded {
        requests: number(requests)? as u64,
        rate: number(rate)?,
        problem: text.lines().find(is_problem).map(|line| line.trim().to_owned()),
    })
}

fn by_threads(address: SocketAddr, cookies: &Path, time: Duration) -> Loaded {
    let cookies = std::fs::read_to_string(cookies).expect("the server wrote its cookies");
    let cookies: Vec<&str> = cookies.lines().collect();
    let stop = AtomicBool::new(false);
    let (answered, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for client in 0..CONNECTIONS {
            let (stop, answered, failed, cookies) = (&stop, &answered, &failed, &cookies);
            scope.spawn(move || match visit(address, cookies, client as u64, stop) {
                Ok(count) => drop(answered.fetch_add(count, Relaxed)),
                Err(error) => failed.lock().expect("no client panics").push(error),
            });
        }
        std::thread::sleep(time);
        stop.store(true, Relaxed);
    });
    let requests = answered.into_inner();
    let failed = failed.into_inner().expect("no client panics");
    let told = |error| format!("{} of {CONNECTIONS} clients failed: {error}", failed.len());
    let problem = failed.first().map(told);
    Loaded { requests, rate: requests as f64 / time.as_secs_f64(), problem }
}

/// One connection: request after request, each of another session.
fn visit(
    address: SocketAddr,
    cookies: &[&str],
    client: u64,
    stop: &AtomicBool,
) -> Result<u64, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let mut draw = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(client + 1);
    let (mut answer, mut count) = ([0; 4096], 0);
    while !stop.load(Relaxed) {
        draw ^= draw << 13;
        draw ^= draw >> 7;
        draw ^= draw << 17;
        let cookie = cookies[draw as usize % cookies.len()];
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\ncookie: id={cookie}\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        read_answer(&mut stream, &mut answer)?;
        count += 1;
    }
    Ok(count)
}

/// Reads one answer to its end.
fn read_answer(stream: &mut TcpStream, answer: &mut [u8]) -> Result<(), String> {
    let mut len = 0;
    loop {
        let read = stream.read(&mut answer[len..]).map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        len += read;
        let text = std::str::from_utf8(&answer[..len]).map_err(|error| error.to_string())?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(head.lines().next().unwrap_or_default().to_owned());
        }
        let body_len = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body_len.and_then(|len| len.parse().ok()) == Some(body.len()) {
            return Ok(());
        }
    }
}
