//! The two clocks: the one that counts suspend, by which sessions expire, beside the wall clock,
//! which is only ever shown.
//!
//! Time is counted in nanoseconds since the clock's start wherever something is written. Lookups
//! take no system call: they load one word that holds the present [`Tick`], their store's dial.
//! The system's clock is moved by a thread of its own (never the expiry thread), 50 ms ahead, so
//! that a lookup is not late even when the thread is woken late. A tick is 50 ms, half of the
//! promised resolution of 100 ms: rounding down takes one half, the lead takes the other.

mod word;

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, lock};
use word::{Dial, Pacer};

/// A point in time, in units of [`TICK`] since the clock's start.
///
/// 32 bits of 50 ms reach 5.8 years of uptime, behind a year for the past. Then the clock stands
/// still at [`Tick::LAST`] and every session with a finite deadline counts as expired: time never
/// wraps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Tick(pub(crate) u32);

/// The length of a tick.
pub(crate) const TICK: Duration = Duration::from_nanos(TICK_NANOS);
const TICK_NANOS: u64 = 50_000_000;

/// What a clock shows when it starts: a year, so that there is a past for the sessions of an
/// earlier process. Those that are older count as that old.
const ORIGIN_NANOS: u64 = 365 * 24 * 60 * 60 * 1_000_000_000;

impl Tick {
    /// A deadline that never comes.
    pub(crate) const NEVER: Tick = Tick(u32::MAX);
    /// The last tick that a clock shows.
    pub(crate) const LAST: Tick = Tick(u32::MAX - 1);
    /// The first tick that a clock shows: smaller deadlines have a meaning of their own.
    pub(crate) const FIRST: Tick = Tick(16);

    /// The tick that is running at `nanos`.
    pub(crate) fn at(nanos: Nanos) -> Tick {
        let ticks = nanos.0 / TICK_NANOS + u64::from(Tick::FIRST.0);
        Tick(u32::try_from(ticks).unwrap_or(u32::MAX).min(Tick::LAST.0))
    }

    /// The tick in which a deadline `after` later falls, rounded down. [`Tick::NEVER`] for times
    /// of 584 years and more; the last tick for those that are only beyond the clock's reach.
    pub(crate) fn deadline(from: Nanos, after: Duration) -> Tick {
        let Ok(after) = u64::try_from(after.as_nanos()) else { return Tick::NEVER };
        let ticks = from.0.saturating_add(after) / TICK_NANOS + u64::from(Tick::FIRST.0);
        Tick(u32::try_from(ticks).unwrap_or(u32::MAX).min(Tick::LAST.0))
    }

    /// Whether this time is a number of ticks.
    pub(crate) fn divides(time: Duration) -> bool {
        time.as_nanos().is_multiple_of(u128::from(TICK_NANOS))
    }

    /// This tick as [`crate::life::Life::is_fresh`] compares it: above every life that is fresh
    /// until then.
    pub(crate) const fn present(self) -> u64 {
        (self.0 as u64) << 32 | u32::MAX as u64
    }

    /// The time at which this tick begins.
    pub(crate) fn start(self) -> Nanos {
        Nanos(u64::from(self.0.saturating_sub(Tick::FIRST.0)) * TICK_NANOS)
    }
}

/// Nanoseconds since the clock's start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Nanos(pub(crate) u64);

impl Nanos {
    pub(crate) fn since(self, earlier: Nanos) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A clock that only moves when it is told to, for the tests of those who use the store.
///
/// It belongs to the process that made it: after a fork the child needs one of its own.
///
/// A test that lets a session be seen now and then has to mind that this is noted only once per
/// touch granularity ([`Store::touch`](crate::Store::touch)). Lookups heed the clock at once;
/// events and numbers of what expired come with the expiry thread, or with
/// [`Store::expire_due`](crate::Store::expire_due).
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use cloakroom::{Attributes, ManualClock, Missing, Reason, Store};
///
/// let clock = ManualClock::new();
/// let store: Store =
///     Store::builder().idle_timeout(Duration::from_secs(60)).clock(&clock).in_memory()?;
/// let id = store.create(Attributes::new())?.id();
/// clock.advance(Duration::from_secs(59));
/// assert!(store.peek(id, |_| ()).is_ok());
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(store.peek(id, |_| ()), Err(Missing::Ended(Reason::Expired)));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct ManualClock {
    shared: Arc<Manual>,
}

struct Manual {
    nanos: AtomicU64,
    pacer: Pacer,
}

impl ManualClock {
    /// A clock that shows zero.
    pub fn new() -> ManualClock {
        ManualClock {
            shared: Arc::new(Manual {
                nanos: AtomicU64::new(ORIGIN_NANOS),
                pacer: Pacer::new(Tick::at(Nanos(ORIGIN_NANOS)).present()),
            }),
        }
    }

    /// Moves the clock on. Lookups that begin after this call see the new time. It saturates
    /// after 584 years.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        // AcqRel and Release: who sees the new time also sees what was done before it moved.
        let mut now = self.shared.nanos.load(Ordering::Acquire);
        loop {
            let next = now.saturating_add(by);
            match self.shared.nanos.compare_exchange(now, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    self.shared.pacer.raise(Tick::at(Nanos(next)).present());
                    return;
                }
                Err(changed) => now = changed,
            }
        }
    }

    /// Moves the exact time only, as if the thread that keeps the tick were not run.
    #[cfg(test)]
    pub(crate) fn advance_without_tick(&self, by: Duration) {
        self.shared.nanos.fetch_add(by.as_nanos() as u64, Ordering::AcqRel);
    }

    /// What the clock shows.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.shared.nanos.load(Ordering::Acquire).saturating_sub(ORIGIN_NANOS))
    }
}

impl Default for ManualClock {
    fn default() -> ManualClock {
        ManualClock::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.now()).finish()
    }
}

/// The clock that a store goes by.
#[derive(Clone)]
pub(crate) enum Clock {
    /// Keeps the ticker going.
    System(Arc<Ticker>),
    Manual(ManualClock),
}

impl Clock {
    /// The system's clock, shared by all stores of the process in this generation.
    pub(crate) fn system(generation: u32) -> std::io::Result<Clock> {
        Ticker::shared(generation).map(Clock::System)
    }

    /// A clock that somebody moves by hand. None if it was made before the process was forked.
    pub(crate) fn manual(clock: &ManualClock) -> Option<Clock> {
        (!clock.shared.pacer.is_ended()).then(|| Clock::Manual(clock.clone()))
    }

    fn pacer(&self) -> &Pacer {
        match self {
            Clock::System(ticker) => &ticker.pacer,
            Clock::Manual(manual) => &manual.shared.pacer,
        }
    }

    /// The exact time.
    pub(crate) fn now(&self) -> Nanos {
        match self {
            Clock::System(_) => system_now(),
            Clock::Manual(manual) => Nanos(manual.shared.nanos.load(Ordering::Acquire)),
        }
    }

    /// The wall-clock time that belongs to a time of this clock, for showing to people.
    #[allow(clippy::disallowed_methods, reason = "this file is the one that reads time")]
    pub(crate) fn wall(&self, at: Nanos) -> SystemTime {
        match self {
            Clock::System(_) => {
                let (now, age) = (SystemTime::now(), self.now().since(at));
                now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)
            }
            Clock::Manual(_) => SystemTime::UNIX_EPOCH
                .checked_add(Duration::from_nanos(at.0.saturating_sub(ORIGIN_NANOS)))
                .unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }
}

/// The clock of one store, with the present tick where lookups find it.
pub(crate) struct StoreClock {
    dial: Dial,
    clock: Clock,
}

impl StoreClock {
    /// It stands still until it follows.
    pub(crate) fn new(clock: Clock) -> StoreClock {
        StoreClock { dial: Dial::new(clock.pacer()), clock }
    }

    /// Follows the clock from now on. To be called once, before other threads see it.
    ///
    /// # Safety
    /// From here on until it is dropped it stays where it is.
    #[allow(unsafe_code, reason = "passed on")]
    pub(crate) unsafe fn follow(&self) {
        // SAFETY: as for this call; the drop leaves.
        unsafe { self.dial.follow(self.clock.pacer()) };
    }

    /// The present tick as [`crate::life::Life::is_fresh`] compares it. One load.
    #[inline(always)]
    pub(crate) fn present(&self) -> u64 {
        self.dial.present()
    }

    /// The present tick, as lookups see it.
    pub(crate) fn tick(&self) -> Tick {
        Tick((self.present() >> 32) as u32)
    }
}

impl Drop for StoreClock {
    fn drop(&mut self) {
        self.dial.leave(self.clock.pacer());
    }
}

impl std::ops::Deref for StoreClock {
    type Target = Clock;

    fn deref(&self) -> &Clock {
        &self.clock
    }
}

/// The wall-clock time, for what others have to understand: the expiry of a cookie, or of a record.
#[cfg(any(feature = "cookie", feature = "cli", feature = "tower-sessions-015"))]
#[allow(clippy::disallowed_methods, reason = "this file is the one that reads time")]
pub(crate) fn system_time() -> SystemTime {
    SystemTime::now()
}

/// Moves the system's clock.
pub(crate) struct Ticker {
    generation: u32,
    pacer: Pacer,
    stop: Mutex<Option<std::thread::Thread>>,
}

/// In the child of a fork no ticker of the parent runs, and who moves a manual clock there cannot
/// know what ended in the parent: their time ends, so that no lookup finds anything. Called from a
/// fork handler: it may do nothing but load and store.
#[cfg_attr(cloakroom_shuttle, allow(dead_code, reason = "nothing forks there"))]
pub(crate) fn stop_in_child() {
    word::end_all();
}

/// How far the word is ahead of the time.
const LEAD_NANOS: u64 = TICK_NANOS;

impl Ticker {
    fn shared(generation: u32) -> std::io::Result<Arc<Ticker>> {
        static SHARED: OnceLock<std::sync::Mutex<std::sync::Weak<Ticker>>> = OnceLock::new();
        let mut shared = SHARED
            .get_or_init(Default::default)
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(ticker) = shared.upgrade().filter(|old| old.generation == generation) {
            return Ok(ticker);
        }
        let pacer = Pacer::new(Tick::at(Nanos(ORIGIN_NANOS)).present());
        let ticker = Arc::new(Ticker { generation, pacer, stop: Mutex::new(None) });
        ticker.publish();
        let weak = Arc::downgrade(&ticker);
        let thread =
            std::thread::Builder::new().name("cloakroom-clock".into()).spawn(move || {
                loop {
                    let Some(ticker) = weak.upgrade() else { return };
                    let wait = ticker.publish();
                    drop(ticker);
                    std::thread::park_timeout(wait);
                }
            })?;
        *lock(&ticker.stop) = Some(thread.thread().clone());
        *shared = Arc::downgrade(&ticker);
        Ok(ticker)
    }

    /// Shows the time; returns how long until the next tick.
    fn publish(&self) -> Duration {
        let ahead = system_now().0.saturating_add(LEAD_NANOS);
        // It never goes back, whatever the system's clock does.
        self.pacer.raise(Tick::at(Nanos(ahead)).present());
        Duration::from_nanos(TICK_NANOS - ahead % TICK_NANOS)
    }
}

/// The system clock's exact time, since the first store of the process was opened.
fn system_now() -> Nanos {
    static START: OnceLock<u64> = OnceLock::new();
    let now = boot_nanos();
    Nanos(now.saturating_sub(*START.get_or_init(|| now)).saturating_add(ORIGIN_NANOS))
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if let Some(thread) = lock(&self.stop).take() {
            thread.unpark();
        }
    }
}

/// Measures real time, whatever the store's clock.
pub(crate) struct Stopwatch(std::time::Instant);

impl Stopwatch {
    #[allow(clippy::disallowed_methods, reason = "this file is the one that reads time")]
    pub(crate) fn start() -> Stopwatch {
        Stopwatch(std::time::Instant::now())
    }

    #[allow(clippy::disallowed_methods, reason = "this file is the one that reads time")]
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Nanoseconds since boot, with the time spent suspended.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn boot_nanos() -> u64 {
    clock_nanos(rustix::time::ClockId::Boottime)
}

/// `CLOCK_MONOTONIC` counts suspend on Apple's systems; on the other Unixes nothing better exists.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
fn boot_nanos() -> u64 {
    clock_nanos(rustix::time::ClockId::Monotonic)
}

#[cfg(unix)]
fn clock_nanos(clock: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    // Never negative for these clocks; 584 years of uptime fit.
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

#[cfg(not(unix))]
#[allow(clippy::disallowed_methods, reason = "this file is the one that reads time")]
fn boot_nanos() -> u64 {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    let since = START.get_or_init(std::time::Instant::now).elapsed();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(unsafe_code, reason = "a clock that follows stays where it is")]
mod tests {
    use super::*;

    #[test]
    fn deadlines_round_down_and_saturate() {
        let from = Nanos(0);
        assert_eq!(Tick::deadline(from, Duration::ZERO), Tick::FIRST);
        assert_eq!(Tick::deadline(from, Duration::from_nanos(1)), Tick::FIRST);
        assert_eq!(Tick::deadline(from, TICK).0, Tick::FIRST.0 + 1);
        assert_eq!(Tick::deadline(from, TICK * 2 - Duration::from_nanos(1)).0, Tick::FIRST.0 + 1);
        assert_eq!(Tick::deadline(from, Duration::MAX), Tick::NEVER);
        assert_eq!(Tick::deadline(from, Duration::from_secs(100 * 31_557_600)), Tick::LAST);
        assert_eq!(Tick::deadline(Nanos(u64::MAX), Duration::MAX), Tick::NEVER);
        assert_eq!(Tick::at(Nanos(u64::MAX)), Tick::LAST);
        assert!(Tick::LAST < Tick::NEVER);
    }

    #[test]
    fn manual_clock_moves_only_forward() {
        let clock = ManualClock::new();
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.now(), Duration::from_secs(1));
        clock.advance(Duration::MAX);
        let end = clock.now();
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), end);
        assert_eq!(StoreClock::new(Clock::manual(&clock).unwrap()).tick(), Tick::LAST);
    }

    #[test]
    fn system_word_is_never_behind() {
        let clock = Box::new(StoreClock::new(Clock::system(0).unwrap()));
        // SAFETY: it stays in the box.
        unsafe { clock.follow() };
        for _ in 0..20 {
            let exact = Tick::at(clock.now());
            let word = clock.tick();
            assert!(word >= exact, "{word:?} is behind {exact:?}");
            std::thread::sleep(Duration::from_millis(7));
        }
    }
}
