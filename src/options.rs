//! Every default with every limit, in one place: the builder.

use std::marker::PhantomData;
use std::time::Duration;

use crate::budget::{Bounds, Cost};
use crate::clock::ManualClock;
use crate::error::{Error, Result};
use crate::keep::Keep;
use crate::memory::Memory;
use crate::record::DATA_BYTES_MAX;
#[cfg(unix)]
use crate::schema::Migration;
use crate::timeouts::Timeouts;

/// What a create does when the store is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// It fails with [`Error::Full`]; the default. No session is lost.
    #[default]
    Refuse,
    /// The least recently seen session of a sample ends, with
    /// [`Reason::Evicted`](crate::Reason::Evicted): an anonymous one as long as there is any. An
    /// anonymous create never evicts an authenticated session. The sample is 32 sessions, or
    /// fewer where they are rare, so the victim is old but not surely the oldest.
    EvictLeastRecentlySeen,
}

/// What a login does when its owner has as many sessions as are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OwnerLimit {
    /// It fails with [`Error::OwnerFull`].
    Refuse,
    /// The owner's oldest session ends, the one in which he proved longest ago who he is, with
    /// [`Reason::Revoked`](crate::Reason::Revoked), in the same step as the new one comes, and not
    /// at all if the login fails. A session that is created takes over its room, so that where the
    /// store is full none is evicted, or refused, for it.
    EndOldest,
}

/// All options of a store.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) authenticated: Timeouts,
    pub(crate) anonymous: Timeouts,
    pub(crate) grace: Duration,
    pub(crate) remember: Duration,
    pub(crate) remember_max: usize,
    pub(crate) record_bytes_max: usize,
    pub(crate) sessions_max: u64,
    pub(crate) bytes_max: u64,
    pub(crate) anonymous_share_percent: u8,
    pub(crate) when_full: WhenFull,
    pub(crate) owner_limit: Option<(u32, OwnerLimit)>,
    pub(crate) capacity: usize,
    pub(crate) shard_count: Option<usize>,
    pub(crate) memory: Memory,
    pub(crate) clock: Option<ManualClock>,
    pub(crate) expiry_thread: bool,
    pub(crate) keep: Keep,
    #[cfg(unix)]
    pub(crate) migrations: Vec<Migration>,
}

/// Bounds of the number of shards.
const SHARD_COUNT: std::ops::RangeInclusive<usize> = 2..=65_536;
/// Sessions per shard above which the default number of shards goes up: an array of this size is
/// copied in well under a millisecond.
const SESSIONS_PER_SHARD: usize = 8 * 1024;
/// What an anonymous record takes at most, beside its data and an eighth of it (the pool's
/// steps): header, trailer, label, its part of the table.
const RECORD_BYTES_MORE: u64 = 1024;
/// The longest grace time: OWASP's "safety interval" is seconds, not minutes.
const GRACE_MAX: Duration = Duration::from_secs(60);

/// Makes a [`Store`](crate::Store): see [`Store::builder`](crate::Store::builder).
///
/// | option | default |
/// |---|---|
/// | [`idle_timeout`](Builder::idle_timeout) | 30 minutes |
/// | [`lifetime`](Builder::lifetime) | 12 hours |
/// | [`anonymous_idle_timeout`](Builder::anonymous_idle_timeout) | 10 minutes |
/// | [`grace`](Builder::grace) | 10 seconds |
/// | [`remember_ended`](Builder::remember_ended) | 2 minutes, 262,144 sessions |
/// | [`record_bytes_max`](Builder::record_bytes_max) | 16 KiB |
/// | [`sessions_max`](Builder::sessions_max), [`bytes_max`](Builder::bytes_max) | no limit |
/// | [`anonymous_share`](Builder::anonymous_share) | 25 % of both |
/// | [`sessions_per_owner`](Builder::sessions_per_owner) | no limit |
/// | [`when_full`](Builder::when_full) | refuse |
/// | [`memory`](Builder::memory) | huge pages |
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use cloakroom::{Error, Store};
///
/// let store: Store = Store::builder()
///     .idle_timeout(Duration::from_secs(15 * 60))
///     .lifetime(Duration::from_secs(8 * 60 * 60))
///     .bytes_max(512 << 20)
///     .in_memory()?;
///
/// let refused = Store::<cloakroom::Attributes>::builder().anonymous_share(101).in_memory();
/// assert!(matches!(refused, Err(Error::Option { option: "anonymous_share", .. })));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `in_memory` is called"]
pub struct Builder<S> {
    pub(crate) options: Options,
    anonymous_idle: Option<Duration>,
    data: PhantomData<fn() -> S>,
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

fn hours(hours: u64) -> Duration {
    minutes(60 * hours)
}

impl<S> Builder<S> {
    pub(crate) fn new() -> Builder<S> {
        let authenticated = Timeouts { idle: minutes(30), lifetime: hours(12) };
        Builder {
            options: Options {
                authenticated,
                anonymous: Timeouts { idle: minutes(10), ..authenticated },
                grace: Duration::from_secs(10),
                remember: minutes(2),
                remember_max: 262_144,
                record_bytes_max: 16 * 1024,
                sessions_max: u64::MAX,
                bytes_max: u64::MAX,
                anonymous_share_percent: 25,
                when_full: WhenFull::Refuse,
                owner_limit: None,
                capacity: 0,
                shard_count: None,
                memory: Memory::HugePages,
                clock: None,
                expiry_thread: true,
                keep: Keep::default(),
                #[cfg(unix)]
                migrations: Vec::new(),
            },
            anonymous_idle: None,
            data: PhantomData,
        }
    }

    /// How long a session lives without being seen. Default 30 minutes.
    ///
    /// A session expires when so much time has passed since it was last noted as seen: never
    /// later, and at most 100 ms earlier. That it was seen is noted once per touch granularity, by
    /// default every 28 seconds ([`touch`](crate::Store::touch)), so that it may expire as much
    /// earlier.
    ///
    /// Zero: sessions expire at once, and those of less than 100 ms may. `Duration::MAX`: never.
    /// A session keeps the timeouts that it began with, also when the store is opened with others:
    /// [`set_timeouts`](crate::Store::set_timeouts) changes those of one,
    /// [`end_all`](crate::Store::end_all) ends all of them.
    ///
    /// OWASP names 15 to 30 minutes for low-risk applications, 2 to 5 for high-value ones.
    pub fn idle_timeout(mut self, timeout: Duration) -> Builder<S> {
        self.options.authenticated.idle = timeout;
        self
    }

    /// How long an anonymous session lives without being seen. Default 10 minutes, or the
    /// [`idle_timeout`](Builder::idle_timeout) if that is shorter.
    ///
    /// Crawlers leave anonymous sessions behind in bulk; a short timeout keeps them few.
    pub fn anonymous_idle_timeout(mut self, timeout: Duration) -> Builder<S> {
        self.anonymous_idle = Some(timeout);
        self
    }

    /// How long a session lives at most, however active it is, from the moment on at which its
    /// user last proved who he is: its creation, a [`login`](crate::Store::login) or
    /// [`bind`](crate::Store::bind), [`reauthenticated`](crate::Store::reauthenticated). Default 12
    /// hours. Exact to 100 ms, and never longer.
    pub fn lifetime(mut self, lifetime: Duration) -> Builder<S> {
        self.options.authenticated.lifetime = lifetime;
        self.options.anonymous.lifetime = lifetime;
        self
    }

    /// NIST SP 800-63B-4, authenticator assurance level 1: a lifetime of 30 days and no idle
    /// timeout. Anonymous sessions keep theirs.
    pub fn aal1(self) -> Builder<S> {
        self.idle_timeout(Duration::MAX).lifetime(hours(30 * 24))
    }

    /// NIST SP 800-63B-4, authenticator assurance level 2: one hour idle, 24 hours in all.
    pub fn aal2(self) -> Builder<S> {
        self.idle_timeout(hours(1)).lifetime(hours(24))
    }

    /// NIST SP 800-63B-4, authenticator assurance level 3: 15 minutes idle, 12 hours in all.
    pub fn aal3(self) -> Builder<S> {
        self.idle_timeout(minutes(15)).lifetime(hours(12))
    }

    /// How long the old token of a [renewed](crate::Store::renew) session lives on. Default 10
    /// seconds, at most 60.
    pub fn grace(mut self, grace: Duration) -> Builder<S> {
        self.options.grace = grace;
        self
    }

    /// How long at least, and for how many sessions, the store remembers why a session ended.
    /// Default 2 minutes and 262,144 sessions; beyond that number the oldest are forgotten first,
    /// never the newest so many. Each costs about 80 bytes. Zero of either: none is remembered, and
    /// an ended session is `Unknown` at once.
    ///
    /// When the time is over it takes the next tidying to forget them, by the expiry thread or by
    /// [`expire_due`](crate::Store::expire_due).
    pub fn remember_ended(mut self, time: Duration, sessions_max: usize) -> Builder<S> {
        self.options.remember = time;
        self.options.remember_max = sessions_max;
        self
    }

    /// The largest record, in bytes of archived data. Default 16 KiB, at most 16 MiB - 1.
    pub fn record_bytes_max(mut self, bytes: usize) -> Builder<S> {
        self.options.record_bytes_max = bytes;
        self
    }

    /// The largest number of sessions. No limit by default: set this or
    /// [`bytes_max`](Builder::bytes_max) on every server that strangers can reach.
    pub fn sessions_max(mut self, sessions: u64) -> Builder<S> {
        self.options.sessions_max = sessions;
        self
    }

    /// The largest sum of the memory that sessions take, in bytes: each record as it is
    /// allocated, with 32 bytes for its part of the table. No limit by default.
    pub fn bytes_max(mut self, bytes: u64) -> Builder<S> {
        self.options.bytes_max = bytes;
        self
    }

    /// The part of [`sessions_max`](Builder::sessions_max) and [`bytes_max`](Builder::bytes_max)
    /// that anonymous sessions may take, in hundredths. Default 25, at most 100. Unless it is 0,
    /// it has room for at least one session and one of the largest records, however small the
    /// limits are.
    ///
    /// A flood of anonymous sessions then leaves three quarters to those who log in.
    pub fn anonymous_share(mut self, percent: u8) -> Builder<S> {
        self.options.anonymous_share_percent = percent;
        self
    }

    /// What a create does when the store is full. Default [`WhenFull::Refuse`].
    pub fn when_full(mut self, when_full: WhenFull) -> Builder<S> {
        self.options.when_full = when_full;
        self
    }

    /// How many sessions an owner may have at a time, and what the next login does. No limit by
    /// default. Exact also under parallel logins.
    pub fn sessions_per_owner(mut self, sessions: u32, limit: OwnerLimit) -> Builder<S> {
        self.options.owner_limit = Some((sessions, limit));
        self
    }

    /// The number of sessions to expect: chooses the number of shards. It takes no memory;
    /// [`Store::reserve`](crate::Store::reserve) does.
    pub fn capacity(mut self, sessions: usize) -> Builder<S> {
        self.options.capacity = sessions;
        self
    }

    /// The number of shards, a power of two from 2 to 65,536. By default 64 per core, at least
    /// 256, and more for a large [`capacity`](Builder::capacity). Each costs about 7 KiB.
    pub fn shards(mut self, count: usize) -> Builder<S> {
        self.options.shard_count = Some(count);
        self
    }

    /// Where sessions live. Default [`Memory::HugePages`].
    pub fn memory(mut self, memory: Memory) -> Builder<S> {
        self.options.memory = memory;
        self
    }

    /// A clock that only moves when it is told to, for tests. By default the system's, which
    /// counts the time that the machine is suspended.
    pub fn clock(mut self, clock: &ManualClock) -> Builder<S> {
        self.options.clock = Some(clock.clone());
        self
    }

    /// Whether a thread gives the memory of expired sessions back and tells their events. Default
    /// true. Without it call [`Store::expire_due`](crate::Store::expire_due) now and then; expired
    /// sessions are never returned either way.
    pub fn expiry_thread(mut self, run: bool) -> Builder<S> {
        self.options.expiry_thread = run;
        self
    }

    /// Checks all options.
    pub(crate) fn validated(mut self) -> Result<Options> {
        let refuse = |option, problem: String| Err(Error::Option { option, problem });
        self.options.keep.validate()?;
        let options = &mut self.options;
        options.anonymous.idle =
            self.anonymous_idle.unwrap_or(minutes(10).min(options.authenticated.idle));
        if options.anonymous_share_percent > 100 {
            let given = options.anonymous_share_percent;
            return refuse("anonymous_share", format!("{given} is not a percentage (0 to 100)"));
        }
        if options.grace > GRACE_MAX {
            let problem = format!(
                "{:?} is longer than {GRACE_MAX:?}: the old token would be a second key",
                options.grace
            );
            return refuse("grace", problem);
        }
        if options.record_bytes_max == 0 || options.record_bytes_max > DATA_BYTES_MAX {
            let problem =
                format!("{} is not between 1 and {DATA_BYTES_MAX} bytes", options.record_bytes_max);
            return refuse("record_bytes_max", problem);
        }
        if options.sessions_max == 0 {
            return refuse("sessions_max", "0 would refuse every session".into());
        }
        if options.bytes_max < options.record_bytes_max as u64 {
            let problem = format!(
                "{} bytes have no room for one record of {} bytes (record_bytes_max)",
                options.bytes_max, options.record_bytes_max
            );
            return refuse("bytes_max", problem);
        }
        if let Some((0, _)) = options.owner_limit {
            return refuse("sessions_per_owner", "0 would refuse every login".into());
        }
        if let Some(count) = options.shard_count
            && !(count.is_power_of_two() && SHARD_COUNT.contains(&count))
        {
            let problem = format!("{count} is not a power of two from 2 to 65,536");
            return refuse("shards", problem);
        }
        if options.anonymous.idle > options.authenticated.idle {
            let problem = format!(
                "{:?} is longer than the idle timeout of authenticated sessions, {:?}",
                options.anonymous.idle, options.authenticated.idle
            );
            return refuse("anonymous_idle_timeout", problem);
        }
        Ok(self.options)
    }
}

impl Options {
    pub(crate) fn shard_count(&self) -> usize {
        self.shard_count.unwrap_or_else(|| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let by_capacity = self.capacity / SESSIONS_PER_SHARD;
            (cores * 64).max(by_capacity).next_power_of_two().clamp(256, *SHARD_COUNT.end())
        })
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let share = |max: u64, least: u64| match (max, self.anonymous_share_percent) {
            (u64::MAX, _) => u64::MAX,
            (_, 0) => 0,
            (max, percent) => {
                let share = (u128::from(max) * u128::from(percent) / 100) as u64;
                share.max(least).min(max)
            }
        };
        // Where a share rounded to nothing would refuse every visitor, one has room: with the
        // largest record, which takes at most so much.
        let data = self.record_bytes_max as u64;
        let record = data + data / 8 + RECORD_BYTES_MORE;
        Bounds {
            all: Cost { sessions: self.sessions_max, bytes: self.bytes_max },
            anonymous: Cost {
                sessions: share(self.sessions_max, 1),
                bytes: share(self.bytes_max, record),
            },
        }
    }
}

/// What a session is created with, other than its data: for
/// [`Store::create_with`](crate::Store::create_with).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct CreateOptions {
    pub(crate) owner: Option<String>,
    pub(crate) label: Option<String>,
    pub(crate) idle: Option<Duration>,
    pub(crate) lifetime: Option<Duration>,
}

impl CreateOptions {
    /// An anonymous session with the store's timeouts.
    pub fn new() -> CreateOptions {
        CreateOptions::default()
    }

    /// The user whom the session belongs to, 1 to 512 bytes: makes it an authenticated session.
    pub fn owner(mut self, owner: impl Into<String>) -> CreateOptions {
        self.owner = Some(owner.into());
        self
    }

    /// A text to show in a list of devices, up to 512 bytes.
    pub fn label(mut self, label: impl Into<String>) -> CreateOptions {
        self.label = Some(label.into());
        self
    }

    /// An idle timeout of this session's own. "Remember me" is a long one.
    pub fn idle_timeout(mut self, timeout: Duration) -> CreateOptions {
        self.idle = Some(timeout);
        self
    }

    /// A lifetime of this session's own.
    pub fn lifetime(mut self, lifetime: Duration) -> CreateOptions {
        self.lifetime = Some(lifetime);
        self
    }
}
