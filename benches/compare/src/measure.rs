//! The measured loops over lookups.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::contender::{Contender, Setup};
use crate::draw::{Random, value};
use crate::latency::Latencies;

/// Operations between two looks at the stop flag.
pub const BATCH: usize = 1024;

const WARM_BATCHES: usize = 16;

/// Sessions of one call where several are looked up together.
pub const BATCH_LEN: usize = 16;

/// A store with its sessions, and their keys by index.
pub struct Filled<C: Contender> {
    pub store: C,
    pub keys: Vec<C::Key>,
}

impl<C: Contender> Filled<C> {
    pub fn new(setup: &Setup) -> Filled<C> {
        let store = C::open(setup);
        let mut random = Random::new(0xF111);
        let mut value = value(&mut random);
        let mut keys = Vec::with_capacity(setup.sessions);
        for _ in 0..setup.sessions {
            value[..8].copy_from_slice(&random.next().to_le_bytes());
            keys.push(store.create(random.next_key(), &value));
        }
        store.settle();
        Filled { store, keys }
    }

    /// Lookups back to back by one thread per sequence, in millions a second.
    pub fn lookups_mops(&self, sequences: &[Vec<u32>], time: Duration) -> f64 {
        self.mops(sequences, time, |batch| {
            batch.iter().fold(0_u64, |sum, &key| sum.wrapping_add(self.store.read(key)))
        })
    }

    /// The same in calls of [`BATCH_LEN`] sessions.
    pub fn many_mops(&self, sequences: &[Vec<u32>], time: Duration) -> f64 {
        self.mops(sequences, time, |batch| {
            let calls = batch.chunks_exact(BATCH_LEN);
            calls.fold(0_u64, |sum, keys| sum.wrapping_add(self.store.read_many(keys)))
        })
    }

    #[inline(always)]
    fn mops(
        &self,
        sequences: &[Vec<u32>],
        time: Duration,
        read_batch: impl Fn(&[C::Key]) -> u64 + Sync,
    ) -> f64 {
        let rates = on_each(sequences, time, |sequence, stop| {
            // In the order of use: what is timed is the store, not the fetching of keys.
            let keys: Vec<C::Key> = sequence.iter().map(|&i| self.keys[i as usize]).collect();
            let batches = || keys.chunks_exact(BATCH).cycle();
            for batch in batches().take(WARM_BATCHES) {
                black_box(read_batch(batch));
            }
            stop.begin();
            let start = Instant::now();
            let mut done = 0;
            for batch in batches() {
                black_box(read_batch(batch));
                done += BATCH;
                if stop.requested() {
                    break;
                }
            }
            done as f64 / start.elapsed().as_secs_f64()
        });
        rates.iter().sum::<f64>() / 1e6
    }

    /// Mean time of a lookup whose key depends on the last one's answer.
    pub fn alone_ns(&self, sequence: &[u32], time: Duration) -> f64 {
        // The keys are laid out in the order of use, so that fetching a key misses no cache:
        // what is timed is the store alone.
        let chain: Vec<C::Key> = sequence.iter().map(|&i| self.keys[i as usize]).collect();
        let mut at = 0;
        let start = Instant::now();
        let mut done = 0;
        let mut answer = 0;
        while done == 0 || start.elapsed() < time {
            for _ in 0..BATCH {
                answer = self.store.read(chain[at]);
                // One or two keys on, as the answer says.
                at += 1 + (answer & 1) as usize;
                if at >= chain.len() {
                    at = 0;
                }
            }
            done += BATCH;
        }
        black_box(answer);
        start.elapsed().as_nanos() as f64 / done as f64
    }
}

/// The beginning and the end that all threads of a run share.
pub struct Span {
    start: Barrier,
    stop: AtomicBool,
}

impl Span {
    pub fn begin(&self) {
        self.start.wait();
    }

    /// Relaxed: the flag orders nothing, the threads are joined afterwards.
    #[inline(always)]
    pub fn requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Runs `work` for each item on a thread of its own; each must call `begin` once and return soon
/// after a stop is requested.
pub fn on_each<T: Sync, R: Send>(
    items: &[T],
    time: Duration,
    work: impl Fn(&T, &Span) -> R + Sync,
) -> Vec<R> {
    let span = Span { start: Barrier::new(items.len() + 1), stop: AtomicBool::new(false) };
    std::thread::scope(|scope| {
        let (work, span) = (&work, &span);
        let spawn = |item| scope.spawn(move || work(item, span));
        let threads: Vec<_> = items.iter().map(spawn).collect();
        span.begin();
        std::thread::sleep(time);
        span.stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().expect("no contender panics")).collect()
    })
}

/// Calls by one thread for each sequence, in thousands of operations a second. Each thread has a
/// worker of its own; a call is of `at_once` operations.
pub fn calls_kops<W>(
    sequences: &[Vec<u32>],
    time: Duration,
    at_once: usize,
    worker: impl Fn() -> W + Sync,
    call: impl Fn(&mut W, &[u32]) + Sync,
) -> f64 {
    let rates = on_each(sequences, time, |sequence, span| {
        let mut worker = worker();
        span.begin();
        let start = Instant::now();
        let mut done = 0;
        for batch in sequence.chunks_exact(at_once).cycle() {
            call(&mut worker, batch);
            done += batch.len();
            if span.requested() {
                break;
            }
        }
        done as f64 / start.elapsed().as_secs_f64()
    });
    rates.iter().sum::<f64>() / 1e3
}

/// How long such a call takes: all of its operations.
pub fn calls_latencies<W>(
    sequences: &[Vec<u32>],
    time: Duration,
    at_once: usize,
    worker: impl Fn() -> W + Sync,
    call: impl Fn(&mut W, &[u32]) + Sync,
) -> Latencies {
    let each = on_each(sequences, time, |sequence, span| {
        let mut worker = worker();
        let mut latencies = Latencies::new();
        span.begin();
        for batch in sequence.chunks_exact(at_once).cycle() {
            latencies.time(|| call(&mut worker, batch));
            if span.requested() {
                break;
            }
        }
        latencies
    });
    let mut all = Latencies::new();
    for latencies in &each {
        all.add(latencies);
    }
    all
}
