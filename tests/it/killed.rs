//! A process that is killed at any moment loses nothing that returned.
//!
//! The victim is this test program itself, started anew: it works on sessions, and writes each
//! step to its standard output once the call has returned. Its parent kills it, opens the store
//! and compares. A kill comes from outside after a random time, or, by strace, at the n-th system
//! call of a kind; there a call can also be made to fail.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use cloakroom::{Append, Attributes, Builder, Reason, SessionId, Store};

use crate::support::{Directory, Told, full};

/// The directory of the process that is to be killed.
const VICTIM: &str = "CLOAKROOM_VICTIM";
/// Whether it appends by `pwrite`.
const WRITTEN: &str = "CLOAKROOM_VICTIM_WRITTEN";
/// How many steps it does before it ends by itself; without, it does not.
const STEPS: &str = "CLOAKROOM_VICTIM_STEPS";
/// Sessions that it works on.
const VICTIM_SESSIONS: usize = 64;

/// So many sessions are left for the next process at most: else a long run works ever more slowly.
const LEFT_SESSIONS: u64 = 2048;

fn small() -> Builder<Attributes> {
    // Nothing expires while a long run goes on.
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
    let builder = Store::builder().segment_bytes(1 << 20).snapshot_bytes(2 << 20);
    builder.idle_timeout(days(1)).anonymous_idle_timeout(days(1)).lifetime(days(2))
}

fn n_of(store: &Store, id: SessionId) -> Option<i64> {
    store.read(id, |s| s.get_i64("n").unwrap()).ok()
}

/// The process that is killed. Does nothing unless a test below starts it.
#[test]
fn victim() {
    let Some(directory) = std::env::var_os(VICTIM) else { return };
    let steps = std::env::var(STEPS).map_or(usize::MAX, |steps| steps.parse().unwrap());
    let is_written = std::env::var_os(WRITTEN).is_some();
    let append = if is_written { Append::Written } else { Append::Mapped };
    let store: Store = small().append(append).open(directory).unwrap();
    let mut ids = Vec::new();
    for step in 1..steps {
        if ids.len() < VICTIM_SESSIONS {
            let id = store.create(Attributes::from([("n", 0.into())])).unwrap().id();
            println!("\nnew {id} 0.");
            ids.push(id);
        }
        let at = (step * 7919) % ids.len();
        let id = ids[at];
        match step % 16 {
            0 => {
                store.end(id, Reason::LoggedOut).unwrap();
                println!("\nend {id} 0.");
                ids.swap_remove(at);
            }
            1 => {
                let next = store.rotate(id).unwrap().id();
                let n = n_of(&store, next).unwrap();
                println!("\nend {id} 0.\nnew {next} {n}.");
                ids[at] = next;
            }
            2 if steps < usize::MAX && step % 64 == 2 => {
                store.flush().wait().unwrap();
                store.snapshot().unwrap();
            }
            _ => {
                let n = store.update(id, |s| {
                    let n = s.get_i64("n").unwrap() + 1;
                    s.set("n", n);
                    n
                });
                println!("\nnew {id} {}.", n.unwrap());
            }
        }
    }
}

/// What is known of the sessions of the processes so far.
struct Witness {
    directory: Directory,
    told: Told,
    append: Append,
}

impl Witness {
    fn new(name: &str) -> Witness {
        let (directory, append) = (Directory::new(name), Append::Mapped);
        Witness { directory, told: Told::default(), append }
    }

    /// Runs a victim, behind a prefix of its command line, for that long at most. Takes down what
    /// it said.
    fn watch(&mut self, prefix: &[OsString], steps: Option<usize>, time: Duration) -> ExitStatus {
        let program = std::env::current_exe().unwrap().into_os_string();
        let mut words = prefix.iter().cloned().chain([program]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        command.args(["killed::victim", "--exact", "--nocapture", "--test-threads=1"]);
        command.env(VICTIM, &self.directory.0).stdout(Stdio::piped()).stderr(Stdio::null());
        if self.append == Append::Written {
            command.env(WRITTEN, "1");
        }
        if let Some(steps) = steps {
            command.env(STEPS, steps.to_string());
        }
        let mut child = command.spawn().unwrap();
        let output = child.stdout.take().unwrap();
        let reading = std::thread::spawn(move || std::io::read_to_string(output).unwrap());
        if steps.is_none() {
            std::thread::sleep(time);
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        reading.join().unwrap().lines().for_each(|line| self.told.hear(line));
        status
    }

    /// Opens the store and compares. One call may have been under way.
    fn check(&mut self, what: &str) {
        let store: Store = small().open(&self.directory.0).unwrap();
        store.validate();
        self.told.compare(&store, what);
        if store.stats().live > LEFT_SESSIONS {
            for (&id, expected) in self.told.known.iter_mut().filter(|(_, n)| n.is_some()) {
                store.end(id, Reason::Revoked).unwrap();
                *expected = None;
            }
        }
        // Ended ones stay ended: the newest thousands are enough to ask for again.
        if self.told.known.len() > 20_000 {
            self.told.known.retain(|_, expected| expected.is_some());
        }
    }
}

/// `kill -9` at any moment. `CLOAKROOM_KILLS` says how often.
#[test]
fn a_killed_process_loses_nothing_that_returned() {
    let default = if full() { 500 } else { 12 };
    let kills = std::env::var("CLOAKROOM_KILLS").map_or(default, |kills| kills.parse().unwrap());
    // Each on a store of its own.
    let lanes = std::thread::available_parallelism().map_or(1, |n| (n.get() as u64).min(kills));
    let steps: usize = std::thread::scope(|scope| {
        let lane = |lane| scope.spawn(move || kill_again_and_again(lane, (kills + lane) / lanes));
        let lanes: Vec<_> = (0..lanes).map(lane).collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).sum()
    });
    assert!(steps > 100 * kills as usize, "{steps} steps in {kills} kills");
    println!("{kills} kills, {steps} returned calls, none lost");
}

/// Returns how many calls returned.
fn kill_again_and_again(lane: u64, kills: u64) -> usize {
    let mut witness = Witness::new(&format!("killed-{lane}"));
    for kill in 0..kills {
        // From the very start of the process, while it opens the store, to some thousand calls.
        let time = Duration::from_micros(3_000 + 7_100 * (kill % 16) + 307 * (kill % 23));
        witness.append = if kill % 2 == 0 { Append::Mapped } else { Append::Written };
        let status = witness.watch(&[], None, time);
        assert_eq!(status.signal(), Some(9), "the victim ended by itself: {status}");
        witness.check(&format!("kill {kill} of lane {lane}"));
        if kills >= 1000 && kill % 500 == 499 {
            eprintln!("lane {lane}: {} of {kills} kills", kill + 1);
        }
    }
    witness.told.steps
}

/// Every system call that changes a file.
const CALLS: [&str; 9] = [
    "openat",
    "pwrite64",
    "fallocate",
    "fdatasync",
    "fsync",
    "msync",
    "renameat,renameat2",
    "unlinkat",
    "ftruncate",
];

/// What happens at the n-th such call, and whether at all that follow.
const FAULTS: [(&str, &str); 4] =
    [("signal=SIGKILL", ""), ("error=EIO", ""), ("error=ENOSPC", ""), ("error=EIO", "+")];

/// Runs a victim of 200 steps in which the n-th of these calls on its directory goes wrong. False
/// if there were fewer.
fn injected(append: Append, calls: &str, (fault, lasting): (&str, &str), nth: usize) -> bool {
    let mut witness = Witness::new("injected");
    witness.append = append;
    let directory = &witness.directory.0;
    std::fs::create_dir_all(directory).unwrap();
    let trace = directory.with_extension("trace");
    let inject = format!("inject={calls}:{fault}:when={nth}{lasting}");
    let mut prefix: Vec<OsString> = ["strace", "-f", "-qq", "-o"].map(OsString::from).into();
    prefix.push(trace.clone().into());
    for filter in [inject.clone(), format!("trace={calls}")] {
        prefix.extend(["-e".into(), filter.into()]);
    }
    prefix.extend(["-P".into(), directory.into()]);
    witness.watch(&prefix, Some(200), Duration::ZERO);
    let log = std::fs::read_to_string(&trace).unwrap_or_default();
    let _ = std::fs::remove_file(&trace);
    witness.check(&format!("{append:?}, {inject}"));
    log.contains("(INJECTED)") || log.contains("killed by SIGKILL")
}

/// The n-th call of a process that changes a file is its last, or fails: nothing that returned is
/// lost.
#[test]
#[ignore = "takes minutes and needs strace: tests/run inject runs it"]
fn a_call_that_kills_or_fails_loses_nothing_that_returned() {
    let is_there = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok();
    assert!(is_there, "strace is not installed: apt-get install strace");
    let (mut kills, mut failures) = (0, 0);
    for append in [Append::Mapped, Append::Written] {
        for fault in FAULTS {
            for calls in CALLS {
                let runs = (1..=40).take_while(|&nth| injected(append, calls, fault, nth)).count();
                let counter = if fault.0 == FAULTS[0].0 { &mut kills } else { &mut failures };
                *counter += runs;
            }
        }
    }
    println!("{kills} kills and {failures} failures injected, nothing lost");
    assert!(kills > 40 && failures > 120, "too few: {kills} kills, {failures} failures");
}
