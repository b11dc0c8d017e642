//! A day of a server in some minutes, by a clock that is moved by hand: logins that follow the sun,
//! visits, logouts, bots all day and a flood of them in the afternoon; ours alone.

use std::time::Duration;

use cloakroom::{CreateOptions, Error, ManualClock, Reason, SessionId, Store};

use super::refuse_beyond_memory;
use crate::cli::Cli;
use crate::contender::VALUE_BYTES;
use crate::contender::cloakroom::Payload;
use crate::draw::{Random, Workload};
use crate::interleave::{Cell, Lane, Metric, Point, Sample};
use crate::machine::{resident_bytes_quick, trim_heap};
use crate::report::Report;

/// Live sessions at noon, about.
const SESSIONS: [usize; 1] = [500_000];
const BYTES_PER_SESSION: u64 = 1000;
const MINUTE: Duration = Duration::from_secs(60);
const MINUTES: usize = 24 * 60;
/// A user comes back so often, for so long in the mean; then logs out, or just goes.
const VISIT_EVERY: usize = 4;
const STAY: usize = 24;
const LOGOUT_PERCENT: usize = 40;
/// How long a session lives in the mean: its stay, and the idle timeout of those who just go.
const LIFE: usize = STAY + 30 * (100 - LOGOUT_PERCENT) / 100;
/// Sessions of bots for each login at noon; they are never seen again.
const BOTS: f64 = 0.2;
/// The flood, in minutes of the day, and how many times as many bots come.
const FLOOD: std::ops::Range<usize> = 15 * 60..16 * 60;
const FLOOD_TIMES: f64 = 50.0;

pub fn run(cli: &Cli, report: &mut Report) {
    if !cli.admits("cloakroom") {
        return;
    }
    for sessions in cli.sessions(&SESSIONS) {
        refuse_beyond_memory(sessions, BYTES_PER_SESSION);
        let run = Box::new(move |(): &()| Day::new(sessions).pass());
        let mut lanes = [Lane { name: "cloakroom", note: String::new(), run }];
        let cell = Cell { workload: Workload::Uniform, sessions, threads: 1 };
        // All days are the same.
        report.cell("day", cell, &mut lanes, &(), 1);
    }
}

struct User {
    id: SessionId,
    leaves: usize,
}

struct Day {
    clock: ManualClock,
    store: Store<Payload>,
    random: Random,
    logins_at_noon: f64,
    /// Who comes back, by the minute.
    visits: Vec<Vec<User>>,
    logins: u64,
    visited: u64,
    refused: u64,
    /// Resident before there was anything.
    empty_bytes: u64,
}

impl Day {
    fn new(sessions: usize) -> Day {
        let empty_bytes = resident_bytes_quick();
        let clock = ManualClock::new();
        let sessions_max = 2 * sessions as u64;
        let builder = Store::builder().clock(&clock).sessions_max(sessions_max);
        Day {
            store: builder.in_memory().expect("a store in memory opens"),
            clock,
            random: Random::new(0xDA7),
            logins_at_noon: sessions as f64 / LIFE as f64,
            visits: (0..=MINUTES).map(|_| Vec::new()).collect(),
            logins: 0,
            visited: 0,
            refused: 0,
            empty_bytes,
        }
    }

    fn pass(mut self) -> Sample {
        let mut sample = Sample::default();
        let note = |sample: &mut Sample, section, metric, value| {
            sample.points.push(Point { section, metric, value });
        };
        for minute in 0..MINUTES {
            self.minute(minute);
            if minute % 60 == 59 {
                // For the store's own thread, which gives memory back once a second.
                std::thread::sleep(Duration::from_millis(1200));
                let (resident, line) = self.hour(minute / 60 + 1);
                sample.remarks.push(line);
                let section = match minute / 60 + 1 {
                    12 => "day-noon",
                    16 => "day-flood",
                    17 => "day-after-flood",
                    24 => "day-midnight",
                    _ => continue,
                };
                note(&mut sample, section, Metric::Mib, resident);
                let live = self.store.stats().live as f64;
                let beyond = resident * f64::from(1 << 20) / live - VALUE_BYTES as f64;
                note(&mut sample, section, Metric::OverheadBytes, beyond);
            }
        }
        sample.remarks.push(format!(
            "{} logins, {} visits, {} bots refused",
            self.logins, self.visited, self.refused
        ));
        sample
    }

    fn minute(&mut self, minute: usize) {
        self.clock.advance(MINUTE);
        for user in std::mem::take(&mut self.visits[minute]) {
            self.visit(user, minute);
        }
        let sun = (std::f64::consts::PI * minute as f64 / MINUTES as f64).sin().powi(2);
        let logins = (self.logins_at_noon * (0.1 + 0.9 * sun)) as usize;
        for _ in 0..logins {
            self.log_in(minute);
        }
        let times = if FLOOD.contains(&minute) { FLOOD_TIMES } else { 1.0 };
        for _ in 0..(self.logins_at_noon * BOTS * times) as usize {
            match self.store.create(self.payload()) {
                Ok(_) => {}
                Err(Error::Full(_)) => self.refused += 1,
                Err(error) => panic!("create: {error}"),
            }
        }
        // Ended here, as a minute passes in no time: the thread would come behind.
        self.store.expire_due();
    }

    fn payload(&self) -> Payload {
        Payload { bytes: [self.logins as u8; VALUE_BYTES] }
    }

    fn log_in(&mut self, minute: usize) {
        self.logins += 1;
        let options = CreateOptions::new().owner(format!("user-{}", self.logins));
        let token = self.store.create_with(self.payload(), options).expect("users find room");
        // Exponential, so that some stay for hours.
        let stay =
            -(STAY as f64) * (1.0 - self.random.next() as f64 / u64::MAX as f64).max(1e-9).ln();
        self.come_back(User { id: token.id(), leaves: minute + stay as usize }, minute);
    }

    fn visit(&mut self, user: User, minute: usize) {
        self.visited += 1;
        self.store.read(user.id, |_| ()).expect("a user who comes back in time is still there");
        if minute < user.leaves {
            self.come_back(user, minute);
        } else if self.random.below(100) < LOGOUT_PERCENT {
            self.store.end(user.id, Reason::LoggedOut).expect("it was there a moment ago");
        }
    }

    fn come_back(&mut self, user: User, minute: usize) {
        let next = (minute + VISIT_EVERY).min(user.leaves.max(minute + 1));
        if let Some(visits) = self.visits.get_mut(next) {
            visits.push(user);
        }
    }

    /// The resident MiB beyond those of the beginning, and a line about the hour.
    fn hour(&self, hour: usize) -> (f64, String) {
        let stats = self.store.stats();
        // What the lab itself keeps of the users is not the store's.
        let own: usize = self.visits.iter().map(|users| users.capacity() * size_of::<User>()).sum();
        trim_heap();
        let bytes = resident_bytes_quick().saturating_sub(self.empty_bytes + own as u64);
        let resident = bytes as f64 / f64::from(1 << 20);
        let line = format!(
            "{hour:2}:00  {:>9} live, {:>9} of them bots, {resident:>6.0} MiB, {:>4.0} bytes each; \
             pool {} MiB",
            stats.live,
            stats.anonymous,
            bytes as f64 / stats.live.max(1) as f64,
            stats.mapped_bytes >> 20,
        );
        (resident, line)
    }
}
