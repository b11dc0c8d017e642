//! A process that is killed while sessions are on their way into memory.

use std::time::Duration;

use cloakroom::{Reason, SessionId, Store};

use super::{data, filled, small};
use crate::support::Told;

/// The directory of the process that is to be killed.
const VICTIM: &str = "CLOAKROOM_RESTART_VICTIM";
const SESSIONS: i64 = 12_000;

/// The process that is killed: opens the store, works on its sessions, and writes down what its
/// calls returned. Does nothing unless [`a_kill_on_the_way_loses_nothing`] starts it.
#[test]
fn victim() {
    let Some(directory) = std::env::var_os(VICTIM) else { return };
    let store: Store = small().open(directory).unwrap();
    let ids = std::fs::read_to_string(std::env::var_os("CLOAKROOM_RESTART_IDS").unwrap()).unwrap();
    let ids: Vec<SessionId> = ids.lines().map(|line| line.parse().unwrap()).collect();
    println!("\nopened");
    let start = std::process::id() as usize * 31;
    for step in 0..ids.len() {
        let id = ids[(start + step * 7919) % ids.len()];
        if step % 3 == 0 {
            if store.end(id, Reason::LoggedOut).is_ok() {
                println!("\nend {id} 0.");
            }
        } else {
            let n = store.update(id, |s| {
                let n = s.get_i64("n").unwrap() + 1;
                s.set("n", n);
                n
            });
            if let Ok(n) = n {
                println!("\nnew {id} {n}.");
            }
        }
    }
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_kill_on_the_way_loses_nothing() {
    let kills = if crate::support::full() { 100 } else { 6 };
    let (directory, ids) = filled("restart-killed", small(), |store| {
        (0..SESSIONS).map(|n| store.create(data(n)).unwrap().id()).collect::<Vec<_>>()
    });
    let list = directory.0.with_extension("ids");
    let text: Vec<_> = ids.iter().map(ToString::to_string).collect();
    std::fs::write(&list, text.join("\n")).unwrap();
    let known = ids.iter().enumerate().map(|(n, &id)| (id, Some(n as i64))).collect();
    let mut told = Told { known, steps: 0 };
    for kill in 0..kills {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["restart::killed::victim", "--exact", "--nocapture", "--test-threads=1"])
            .env(VICTIM, &directory.0)
            .env("CLOAKROOM_RESTART_IDS", &list)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let (opened, is_open) = std::sync::mpsc::channel();
        let reading = std::thread::spawn(move || {
            let mut lines = Vec::new();
            for line in std::io::BufRead::lines(std::io::BufReader::new(output)) {
                let line = line.unwrap();
                if line == "opened" {
                    opened.send(()).unwrap();
                }
                lines.push(line);
            }
            lines
        });
        is_open.recv_timeout(Duration::from_secs(60)).unwrap();
        std::thread::sleep(Duration::from_millis(1 + 3 * (kill % 8)));
        child.kill().unwrap();
        child.wait().unwrap();
        reading.join().unwrap().iter().for_each(|line| told.hear(line));
        // Opened again without the log ever becoming a snapshot, once from the file, once as a
        // whole.
        let builder = small().loader_thread(false);
        let store: Store = builder.open(&directory.0).unwrap();
        told.compare(&store, &format!("kill {kill}"));
        store.validate();
    }
    let _ = std::fs::remove_file(&list);
    assert!(told.steps > 20 * kills as usize, "{} steps in {kills} kills", told.steps);
}
