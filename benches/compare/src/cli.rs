//! The command line, with its defaults.

use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::draw::Workload;

/// Measures cloakroom beside its peers.
#[derive(Parser)]
#[command(name = "cargo compare")]
pub struct Cli {
    /// What to measure.
    pub section: Section,
    /// Sessions in the store [default: per section].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=500_000_000))]
    sessions: Option<u32>,
    /// Thread counts, separated by commas (lookup, hot, mix, journal, services, token, cost, web).
    #[arg(long, value_delimiter = ',', default_value = "1,2",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Vec<u16>,
    /// Interleaved runs of each contender in each cell; fewer than 5 are only a smoke test.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Length of one timed run (lookup, hot, mix, journal, services, token, cost, web).
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// Only this workload (lookup).
    #[arg(long)]
    pub workload: Option<Workload>,
    /// Only the contenders whose name begins so; several separated by commas.
    #[arg(long = "contender", value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Also saves the results for `publish`, as docs/performance/NAME.jsonl [default: the section].
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    save: Option<String>,
    /// One JSON object a line instead of tables.
    #[arg(long)]
    pub json: bool,
    /// Shard count of `dashmap-ahash` in a child process of `memory`.
    #[arg(long, hide = true, default_value_t = 1024)]
    pub shards: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// Lookups back to back, uniform and zipf; one lookup alone.
    Lookup,
    /// One session looked up by every thread.
    Hot,
    /// 95 % reads, 4 % replacements, 1 % create and end; zipf.
    Mix,
    /// From an empty store upwards while another thread looks up.
    Growth,
    /// Sessions that expire together while another thread looks up others.
    Expiry,
    /// Resident bytes per session beyond the data, in fresh processes.
    Memory,
    /// Updates that survive the process, and the power; beside embedded databases and Redis.
    Journal,
    /// From the start of a store on disk to its first answer, and until all is in memory; beside
    /// Redis, if it is installed.
    Restart,
    /// Lookups in the stores of tower-sessions, in Redis and memcached; the latter if they are
    /// installed.
    Services,
    /// A server process that follows another one on the same directory: the gap between answers.
    #[cfg(feature = "ours")]
    Rolling,
    /// Lookups before and while a snapshot is written.
    #[cfg(feature = "ours")]
    Snapshot,
    /// Lookups by the text of a cookie, beside those by id and the hash alone.
    #[cfg(feature = "ours")]
    Token,
    /// What each operation costs in small and in large stores; ours alone.
    #[cfg(feature = "ours")]
    Cost,
    /// A day of a server with its logins, visits and bots, in some minutes; ours alone.
    #[cfg(feature = "ours")]
    Day,
    /// Requests to a counter page behind session middlewares, over local TCP.
    #[cfg(feature = "web")]
    Web,
    /// Every section in turn, but for `rolling`, `snapshot`, `token`, `cost`, `day` and `web`.
    All,
    /// Writes what was saved into docs/performance.md, and pictures of it. Measures nothing.
    Publish,
    #[value(hide = true)]
    MemoryChild,
    #[cfg(feature = "ours")]
    #[value(hide = true)]
    RollingChild,
    #[cfg(feature = "web")]
    #[value(hide = true)]
    WebChild,
}

impl Section {
    pub const EVERY: [Section; 9] = [
        Section::Lookup,
        Section::Hot,
        Section::Mix,
        Section::Growth,
        Section::Expiry,
        Section::Memory,
        Section::Journal,
        Section::Restart,
        Section::Services,
    ];
}

impl Cli {
    /// The session counts to measure: the one asked for, else the section's own.
    pub fn sessions(&self, default: &[usize]) -> Vec<usize> {
        match self.sessions {
            Some(count) => vec![count as usize],
            None => default.to_vec(),
        }
    }

    pub fn threads(&self) -> impl Iterator<Item = usize> + '_ {
        self.threads.iter().map(|&count| usize::from(count))
    }

    pub fn runs(&self) -> usize {
        usize::from(self.runs)
    }

    pub fn run_time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// No filter at all.
    pub fn everybody() -> Cli {
        Cli::parse_from(["cargo compare", "all"])
    }

    /// The name under which a section's results are to be saved.
    pub fn save_name(&self, section: Section) -> Option<String> {
        let name = self.save.as_deref()?;
        let own = section.to_possible_value().map(|value| value.get_name().to_owned());
        if name.is_empty() || self.section == Section::All { own } else { Some(name.to_owned()) }
    }

    pub fn admits(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|start| name.starts_with(start.as_str()))
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.001..=3600.0).contains(&value) => Ok(value),
        _ => Err("expected seconds between 0.001 and 3600".into()),
    }
}
