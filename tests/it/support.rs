//! What the tests of several promises need: processes of their own, time limits, parallel starts.

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::{Arc, Barrier, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use cloakroom::{Builder, CreateOptions, SessionId, Store};

/// Whether this is the long run (`tests/run full`).
pub(crate) fn full() -> bool {
    std::env::var_os("CLOAKROOM_FULL").is_some_and(|value| value == "1")
}

/// A directory of its own, removed afterwards.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    /// Its path, where nothing is yet.
    pub(crate) fn new(name: &str) -> Directory {
        Directory::within(&std::env::temp_dir(), name)
    }

    /// As [`new`](Directory::new), in that place.
    pub(crate) fn within(parent: &Path, name: &str) -> Directory {
        let path = parent.join(format!("cloakroom-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Directory(path)
    }

    /// The files whose names begin like this, in order.
    pub(crate) fn files(&self, prefix: &str) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix))
            .collect();
        files.sort();
        files
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a process that is killed said of its sessions, each of which holds a count `n`: a line
/// `new ID N.` or `end ID 0.` for each call that returned.
#[derive(Default)]
pub(crate) struct Told {
    /// The count that a session has at least; None of one that has ended.
    pub(crate) known: HashMap<SessionId, Option<i64>>,
    pub(crate) steps: usize,
}

impl Told {
    /// Takes down a line. The last one of a process may be cut off.
    pub(crate) fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        let (Some(what @ ("new" | "end")), Some(id), Some(n)) =
            (words.next(), words.next(), words.next())
        else {
            return;
        };
        let Some(n) = n.strip_suffix('.') else { return };
        let n = (what == "new").then(|| n.parse().unwrap());
        self.known.insert(id.parse().unwrap(), n);
        self.steps += 1;
    }

    /// Compares the store with what was said, and goes on from what it has. One call may have been
    /// under way.
    pub(crate) fn compare(&mut self, store: &Store, what: &str) {
        let mut in_doubt = 0;
        for (&id, expected) in &mut self.known {
            let found = store.read(id, |s| s.get_i64("n").unwrap()).ok();
            match (*expected, found) {
                (Some(n), Some(found)) => assert!(found >= n, "{what}: {id}: {found} after {n}"),
                // The call that ended it was under way.
                (Some(_), None) => in_doubt += 1,
                (None, found) => assert!(found.is_none(), "{what}: {id} is back"),
            }
            *expected = found;
        }
        assert!(in_doubt <= 1, "{what}: {in_doubt} sessions are lost");
    }
}

/// Runs the test `name` in a process of its own, where nothing else takes memory or threads.
/// True in that process; false once it has passed.
pub(crate) fn alone(name: &str) -> bool {
    if std::env::var_os("CLOAKROOM_ALONE").is_some_and(|value| value == name) {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--include-ignored", "--nocapture", "--test-threads=1"])
        .env("CLOAKROOM_ALONE", name)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}\n{errors}", output.status);
    assert!(text.contains("test result: ok. 1 passed"), "the test did not run: {text}");
    false
}

/// Runs something that must not hang, on a thread of its own.
pub(crate) fn within<R: Send + 'static>(
    time: Duration,
    what: &str,
    f: impl FnOnce() -> R + Send + 'static,
) -> R {
    let (done, result) = mpsc::channel();
    let thread = std::thread::spawn(move || done.send(f()).unwrap());
    match result.recv_timeout(time) {
        Ok(result) => {
            thread.join().unwrap();
            result
        }
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().unwrap_err())
        }
    }
}

/// As [`within`], with a limit that only a hang exceeds.
pub(crate) fn no_hang<R: Send + 'static>(what: &str, f: impl FnOnce() -> R + Send + 'static) -> R {
    within(Duration::from_secs(10), what, f)
}

/// Runs `f(0)` to `f(threads - 1)` on threads that start together; returns what they return.
pub(crate) fn parallel<R: Send>(threads: usize, f: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let barrier = Barrier::new(threads);
    let run = |index| {
        barrier.wait();
        f(index)
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> =
            (0..threads).map(|index| scope.spawn(move || run(index))).collect::<Vec<_>>();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    })
}

/// The bytes of this process that are in memory.
#[cfg(target_os = "linux")]
pub(crate) fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// The time since something, for upper bounds that leave room for a busy machine.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[allow(clippy::disallowed_methods, reason = "measures the store from outside")]
    pub(crate) fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    #[allow(clippy::disallowed_methods, reason = "measures the store from outside")]
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Polls a future once, with a waker that does nothing.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Calls a closure when it is woken.
struct OnWake<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for OnWake<F> {
    fn wake(self: Arc<Self>) {
        self.0();
    }
}

/// A waker that calls a closure.
pub(crate) fn on_wake(f: impl Fn() + Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(OnWake(f)))
}

/// A store of attributes with these options.
pub(crate) fn store_with(options: impl FnOnce(Builder<Data>) -> Builder<Data>) -> Store {
    options(Store::builder()).in_memory().unwrap()
}

pub(crate) type Data = cloakroom::Attributes;

pub(crate) fn owned_by(owner: &str) -> CreateOptions {
    CreateOptions::new().owner(owner)
}

/// The ids of an owner's sessions, as listed.
pub(crate) fn listed(store: &Store, owner: &str) -> Vec<SessionId> {
    store.owner_sessions(owner).into_iter().map(|info| info.id).collect()
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
