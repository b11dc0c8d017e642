//! The commands with their options.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser, Subcommand};
use cloakroom::SessionId;

use super::text;

const ABOUT: &str = "Inspects, checks and changes the directory in which a server keeps its \
                     sessions.";

const EXIT_CODES: &str = "Exit codes: 0 done, 1 damage or a failed change, 2 wrong usage, 3 the \
                          directory is in use.\n\nRun it as the user of the server: it refuses \
                          files of others. `inspect`, `verify`, `dump`, `backup` and `export` \
                          change nothing and lock nothing; they may run beside a server.";

#[derive(Parser)]
#[command(name = "cloakroom", version, about = ABOUT, after_help = EXIT_CODES)]
#[command(arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// The secrets of encrypted sessions: one a line, the newest first, as text or as `hex:` with
    /// digits.
    ///
    /// Without them `inspect` and `verify` tell what can be told, and all else is refused.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) secrets: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Inspect(Inspect),
    Verify(Verify),
    Dump(Dump),
    End(End),
    Compact(Compact),
    Backup(Backup),
    Export(Export),
    Import(Import),
}

/// Shows what the files are, how many sessions they hold, how old and how large those are.
///
/// Reads everything once, beside a server too: then it says as of which position of the log.
#[derive(Parser)]
#[command(after_help = "Examples:\n  cloakroom inspect /var/lib/shop/sessions\n  \
                        cloakroom inspect --json sessions | jq .sessions.live")]
pub(crate) struct Inspect {
    /// The directory given to `Builder::open`.
    pub(crate) dir: PathBuf,
    /// Prints one JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Compares every checksum of every file, and sees whether the files belong together.
///
/// Prints each damaged file with the offset and what is wrong there; then the exit code is 1. May
/// run beside a server. A torn tail of the log, as a crash leaves it, is no damage.
#[derive(Parser)]
#[command(after_help = "Examples:\n  cloakroom verify /var/lib/shop/sessions\n  \
                        cloakroom verify --quiet /backup/sessions || mail -s damaged root")]
pub(crate) struct Verify {
    /// The directory given to `Builder::open`.
    pub(crate) dir: PathBuf,
    /// Prints nothing but damage. Without it there is a progress bar, on a terminal.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Prints the sessions as JSON, one a line.
///
/// Those that have expired are left out. Attributes are decoded; data of another type of session is
/// printed as base64, with the schema of the type. May run beside a server.
#[derive(Parser)]
#[command(after_help = "Examples:\n  cloakroom dump sessions | head\n  \
                        cloakroom dump sessions --owner alice\n  \
                        cloakroom dump sessions --unix-ms | jq 'select(.attributes.cart != null)'")]
pub(crate) struct Dump {
    /// The directory given to `Builder::open`.
    pub(crate) dir: PathBuf,
    /// Only the sessions of this owner.
    #[arg(long, value_name = "NAME")]
    pub(crate) owner: Option<String>,
    /// Only the session with this id; may be given several times.
    #[arg(long, value_name = "ID")]
    pub(crate) id: Vec<SessionId>,
    /// Prints times as Unix milliseconds instead of RFC 3339.
    #[arg(long)]
    pub(crate) unix_ms: bool,
}

/// Ends sessions for good. Asks nothing; prints how many.
///
/// Several choices end only what fits all of them. No server may use the directory, except for
/// `--dry-run`. Works with any type of session.
#[derive(Parser)]
#[command(group = ArgGroup::new("choice").required(true).multiple(true)
    .args(["owner", "id", "older_than", "all"]))]
#[command(after_help = "Examples:\n  cloakroom end sessions --owner alice\n  \
                        cloakroom end sessions --older-than 30d --dry-run\n  \
                        cloakroom end sessions --all")]
pub(crate) struct End {
    /// The directory given to `Builder::open`.
    pub(crate) dir: PathBuf,
    /// Those of this owner.
    #[arg(long, value_name = "NAME")]
    pub(crate) owner: Option<String>,
    /// The one with this id; may be given several times.
    #[arg(long, value_name = "ID")]
    pub(crate) id: Vec<SessionId>,
    /// Those that were created longer ago: 90s, 30m, 12h, 30d, 8w.
    #[arg(long, value_name = "TIME", value_parser = text::parse_duration)]
    pub(crate) older_than: Option<Duration>,
    /// All.
    #[arg(long, conflicts_with_all = ["owner", "id", "older_than"])]
    pub(crate) all: bool,
    /// Prints how many it would end, and ends none.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Writes a snapshot that takes the place of the log, without what has expired.
///
/// Servers do so by themselves. No server may use the directory. Works with any type of session.
#[derive(Parser)]
#[command(after_help = "Examples:\n  cloakroom compact sessions")]
pub(crate) struct Compact {
    /// The directory given to `Builder::open`.
    pub(crate) dir: PathBuf,
}

/// Copies all sessions into another directory, from which a server can be started.
///
/// The copy is the state of one moment; what has expired is left out. The other directory must be
/// empty, or is created. May run beside a server. Works with any type of session.
#[derive(Parser)]
#[command(after_help = "Examples:\n  cloakroom backup sessions /backup/sessions-$(date +%F)")]
pub(crate) struct Backup {
    /// The directory given to `Builder::open`.
    pub(crate) dir: PathBuf,
    /// The directory that is to hold the copy.
    pub(crate) target: PathBuf,
}

/// Prints all sessions with whatever belongs to them, as JSON lines for `import`.
///
/// The first line tells the type of the sessions, the last one how many there were. Those that have
/// expired are left out. May run beside a server.
#[derive(Parser)]
#[command(after_help = "Examples:\n  cloakroom export sessions > sessions.jsonl\n  \
                        cloakroom export sessions | ssh other cloakroom import sessions")]
pub(crate) struct Export {
    /// The directory given to `Builder::open`.
    pub(crate) dir: PathBuf,
}

/// Adds sessions from JSON lines: all of them, or none.
///
/// They keep their ids, owners, labels, times, versions and data, so that whoever was logged in
/// still is. The directory is created if it is not there; no server may use it. Reads what `export`
/// prints, and lines of `dump` with attributes.
#[derive(Parser)]
#[command(after_help = "Examples:\n  cloakroom import sessions < sessions.jsonl\n  \
                        cloakroom import sessions --replace sessions.jsonl")]
pub(crate) struct Import {
    /// The directory to be given to `Builder::open`.
    pub(crate) dir: PathBuf,
    /// The lines; by default the standard input.
    pub(crate) file: Option<PathBuf>,
    /// Puts sessions in the place of those with the same id, instead of refusing all.
    #[arg(long)]
    pub(crate) replace: bool,
}
