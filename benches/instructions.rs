//! Instructions per operation, counted by callgrind: the only figure that a shared machine leaves
//! steady.
//!
//! The program runs itself under valgrind, each operation twice as often in the second run as in
//! the first; the difference is the operation's own. Needs valgrind.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::hint::black_box;
use std::process::Command;
use std::time::Duration;

use cloakroom::{Attributes, CreateOptions, Reason, SessionId, Store};

#[derive(Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Payload {
    bytes: [u8; 200],
}

const SESSION_COUNT: usize = 1000;
const ROUNDS: u32 = 20;

type Run = fn(u32) -> u64;
const OPERATIONS: [(&str, Run); 8] = [
    ("read, 8 of 200 bytes", |rounds| {
        lookups(rounds, |store, id| {
            store.read(id, |payload| u64::from(payload.bytes[0])).unwrap_or_default()
        })
    }),
    ("peek, 8 of 200 bytes", |rounds| {
        lookups(rounds, |store, id| {
            store.peek(id, |payload| u64::from(payload.bytes[0])).unwrap_or_default()
        })
    }),
    ("read of an unknown id", |rounds| {
        lookups(rounds, |store, id| {
            let unknown =
                SessionId::from(uuid::Uuid::from_u128(uuid::Uuid::from(id).as_u128() ^ 1 << 90));
            u64::from(store.read(unknown, |_| ()).is_err())
        })
    }),
    ("get", |rounds| {
        lookups(rounds, |store, id| store.get(id).map_or(0, |session| u64::from(session.bytes[0])))
    }),
    ("touch", |rounds| lookups(rounds, |store, id| u64::from(store.touch(id).is_ok()))),
    ("replace 200 bytes", |rounds| {
        lookups(rounds, |store, id| {
            u64::from(store.replace(id, Payload { bytes: [7; 200] }).is_ok())
        })
    }),
    ("update of one attribute in five", attributes),
    ("create and end", |rounds| {
        lookups(rounds, |store, _| {
            let token = store.create(Payload { bytes: [7; 200] }).expect("no limit is set");
            u64::from(store.end(token.id(), Reason::LoggedOut).is_ok())
        })
    }),
];

fn lookups(rounds: u32, operation: impl Fn(&Store<Payload>, SessionId) -> u64) -> u64 {
    let store = Store::<Payload>::builder().expiry_thread(false).in_memory().expect("opens");
    let options = CreateOptions::new().idle_timeout(Duration::from_secs(1800));
    let ids: Vec<_> = (0..SESSION_COUNT)
        .map(|_| store.create_with(Payload { bytes: [1; 200] }, options.clone()).unwrap().id())
        .collect();
    let mut sum = 0;
    for _ in 0..rounds {
        for &id in &ids {
            sum += operation(&store, black_box(id));
        }
    }
    sum
}

fn attributes(rounds: u32) -> u64 {
    let store = Store::<Attributes>::builder().expiry_thread(false).in_memory().expect("opens");
    let data = || {
        Attributes::from([
            ("username", "alice".into()),
            ("logged_in", true.into()),
            ("visits", 0.into()),
            ("theme", "dark".into()),
            ("cart", 12.into()),
        ])
    };
    let ids: Vec<_> = (0..SESSION_COUNT).map(|_| store.create(data()).unwrap().id()).collect();
    let mut sum = 0;
    for _ in 0..rounds {
        for &id in &ids {
            let updated =
                store.update(id, |s| s.set("visits", 1 + s.get_i64("visits").unwrap_or(0)));
            sum += u64::from(updated.is_ok());
        }
    }
    sum
}

/// All instructions of a process that runs this operation this often.
fn count(operation: usize, rounds: u32) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().ok()?)
        .args(["run", &operation.to_string(), &rounds.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("Collected : "))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [run, operation, rounds] = arguments.as_slice()
        && run == "run"
    {
        let (operation, rounds): (usize, u32) =
            (operation.parse().expect("a number"), rounds.parse().expect("a number"));
        black_box(OPERATIONS[operation].1(rounds));
        return;
    }
    println!("{:<36} instructions", "operation");
    for (index, (name, _)) in OPERATIONS.iter().enumerate() {
        let counts = (count(index, ROUNDS), count(index, 2 * ROUNDS));
        let (Some(once), Some(twice)) = counts else {
            eprintln!("valgrind is needed: install it and try again");
            std::process::exit(1);
        };
        let operations = f64::from(ROUNDS) * SESSION_COUNT as f64;
        println!("{name:<36} {:>12.1}", (twice as f64 - once as f64) / operations);
    }
}
