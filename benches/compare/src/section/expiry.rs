//! Many sessions that expire together while one thread looks up others, which stay.

use std::hint::black_box;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::refuse_beyond_memory;
use crate::cli::Cli;
use crate::contender::{Contender, Expires, MARK_AT, Setup, VisitExpiring, dashmap, each_expiring};
use crate::draw::{Random, Workload, value};
use crate::interleave::{Cell, Lane, Metric, Point, Sample};
use crate::latency::Latencies;
use crate::machine::{resident_bytes_quick, trim_heap};
use crate::report::Report;
use crate::shards;

const SESSIONS: [usize; 1] = [1_000_000];

/// The sessions that are looked up and outlive the others.
const STAYING: usize = 10_000;

/// From the first session's creation until all are due: at least this, more for many sessions.
const WINDOW: Duration = Duration::from_secs(3);
const FILL_NS_PER_SESSION: u64 = 4500;

/// The phase before ends so long before the sessions are due, the deadline's own ticks aside.
const MARGIN: Duration = Duration::from_millis(50);

/// Given up then; the rest is reported as left over.
const GONE_MAX: Duration = Duration::from_secs(30);

/// From the last expiry until the memory counts as given back or kept.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// Idle timeouts come in so few sizes as in a real server; the sessions are due within one step.
const IDLE_STEP: Duration = Duration::from_millis(50);

const SAMPLE_EVERY: Duration = Duration::from_millis(10);
const BYTES_PER_SESSION: u64 = 620;

/// What the looking-up thread is to do. While nothing has expired yet, the two armed phases take
/// turns and each forgets what the one before recorded, so that quiet lookups do not dilute those
/// during the expiry, and not even its first stall is lost.
const WAIT: u8 = 0;
const BEFORE: u8 = 1;
const ARMED: [u8; 2] = [2, 3];
const DURING: u8 = 4;
const STOP: u8 = 5;

pub fn run(cli: &Cli, report: &mut Report) {
    let workload = Workload::Uniform;
    for sessions in cli.sessions(&SESSIONS) {
        refuse_beyond_memory(sessions, BYTES_PER_SESSION);
        report.progress("choosing dashmap's shard count");
        let shards = shards::best(cli.admits(dashmap::Ahash::NAME), |shards| {
            -(sweep_max_ns(&Setup { sessions: sessions.min(200_000), shards }) as f64)
        });
        let setup = Setup { sessions, shards };
        let mut build = Build { setup: &setup, lanes: Vec::new() };
        each_expiring(cli, &mut build);
        let mut lanes = build.lanes;
        let cell = Cell { workload, sessions, threads: 1 };
        report.cell("expiry", cell, &mut lanes, &(), cli.runs());
    }
}

/// A small trial without the waiting: the longest lookup beside a sweep of the whole map.
fn sweep_max_ns(setup: &Setup) -> u64 {
    let store = dashmap::Ahash::open(setup);
    let mut random = Random::new(0x7214);
    let keys = create_staying(&store, &mut random);
    let value = value(&mut random);
    for _ in 0..setup.sessions {
        store.create_until(random.next_key(), &value, WINDOW);
    }
    let mut latencies = Latencies::new();
    std::thread::scope(|scope| {
        let sweep = scope.spawn(|| store.sweep());
        while !sweep.is_finished() {
            let key = keys[random.below(keys.len())];
            black_box(latencies.time(|| store.read(key)));
        }
    });
    latencies.quantile_ns(1.0)
}

fn create_staying<C: Contender>(store: &C, random: &mut Random) -> Vec<C::Key> {
    let mut value = value(random);
    value[MARK_AT] = 0;
    (0..STAYING).map(|_| store.create(random.next_key(), &value)).collect()
}

struct Build<'a> {
    setup: &'a Setup,
    lanes: Vec<Lane<'a, ()>>,
}

impl VisitExpiring for Build<'_> {
    fn visit<C: Expires>(&mut self) {
        let setup = self.setup;
        self.lanes.push(Lane {
            name: C::NAME,
            note: shards::note(C::NAME, setup.shards),
            run: Box::new(move |()| measure::<C>(setup)),
        });
    }
}

fn measure<C: Expires>(setup: &Setup) -> Sample {
    trim_heap();
    let window = WINDOW.max(Duration::from_nanos(setup.sessions as u64 * FILL_NS_PER_SESSION));
    let store = C::open_expiring(setup, window);
    let mut random = Random::new(0xE7E7);
    let keys = create_staying(&store, &mut random);
    let mut value = value(&mut random);
    let empty_bytes = resident_bytes_quick();
    let phase = AtomicU8::new(WAIT);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| look_up(&store, &keys, &phase));
        let due = Instant::now() + window;
        for _ in 0..setup.sessions {
            value[..8].copy_from_slice(&random.next().to_le_bytes());
            // All are due at one moment, however long the filling takes.
            let steps = (due - Instant::now()).as_millis() / IDLE_STEP.as_millis() + 1;
            store.create_until(random.next_key(), &value, IDLE_STEP * steps as u32);
        }
        phase.store(BEFORE, Ordering::Relaxed);
        sleep((due - MARGIN).saturating_duration_since(Instant::now()));
        let full_bytes = resident_bytes_quick();
        phase.store(WAIT, Ordering::Relaxed);
        sleep(due.saturating_duration_since(Instant::now()));
        phase.store(ARMED[0], Ordering::Relaxed);
        let sweep = scope.spawn(|| store.sweep());
        let (spent, peak_bytes) = until_gone(&store, &phase, full_bytes);
        phase.store(STOP, Ordering::Relaxed);
        sweep.join().expect("the sweep does not panic");
        let lookups = reader.join().expect("the reader does not panic");
        store.settle();
        sleep(GIVE_BACK);
        let bytes = [empty_bytes, peak_bytes, resident_bytes_quick()];
        describe(&store, setup, &lookups, spent, bytes)
    })
}

fn describe<C: Expires>(
    store: &C,
    setup: &Setup,
    [before, during]: &[Latencies; 2],
    spent: Duration,
    [empty_bytes, peak_bytes, after_bytes]: [u64; 3],
) -> Sample {
    let remark = format!(
        "p99.9 {:.2} times that before; gone {} ms after due, {} left over; \
         resident MiB: {} before, {} at peak, {} after",
        during.quantile_ns(0.999) as f64 / before.quantile_ns(0.999).max(1) as f64,
        spent.as_millis(),
        store.live().saturating_sub(STAYING),
        empty_bytes >> 20,
        peak_bytes >> 20,
        after_bytes >> 20,
    );
    let mut points = before.points("expiry-before");
    points.extend(during.points("expiry"));
    // Resident bytes per expired session above those before it all, the data included.
    for (section, bytes) in [("expiry-peak", peak_bytes), ("expiry-after", after_bytes)] {
        let value = (bytes as f64 - empty_bytes as f64) / setup.sessions as f64;
        points.push(Point { section, metric: Metric::OverheadBytes, value });
    }
    Sample { points, remarks: std::iter::once(remark).chain(store.tally()).collect() }
}

/// Looks up the staying sessions all the time; what it records before and during the expiry.
fn look_up<C: Contender>(store: &C, keys: &[C::Key], phase: &AtomicU8) -> [Latencies; 2] {
    let mut random = Random::new(0x100C);
    let mut before = Latencies::new();
    let mut during = Latencies::new();
    let mut armed = ARMED[0];
    loop {
        let key = keys[random.below(keys.len())];
        // Relaxed: the phase orders nothing but this thread's own bookkeeping.
        match phase.load(Ordering::Relaxed) {
            BEFORE => black_box(before.time(|| store.read(key))),
            STOP => return [before, during],
            WAIT => black_box(store.read(key)),
            now => {
                if now != DURING && now != armed {
                    armed = now;
                    during.clear();
                }
                black_box(during.time(|| store.read(key)))
            }
        };
    }
}

/// Waits until only the staying sessions are left; how long that took, and the most resident
/// bytes meanwhile.
fn until_gone<C: Expires>(store: &C, phase: &AtomicU8, full_bytes: u64) -> (Duration, u64) {
    let start = Instant::now();
    let full = store.live();
    let mut peak_bytes = full_bytes;
    for turn in 1.. {
        sleep(SAMPLE_EVERY);
        peak_bytes = peak_bytes.max(resident_bytes_quick());
        let live = store.live();
        if live <= STAYING || start.elapsed() >= GONE_MAX {
            break;
        }
        let next = if live < full { DURING } else { ARMED[turn % 2] };
        phase.store(next, Ordering::Relaxed);
    }
    (start.elapsed(), peak_bytes)
}
