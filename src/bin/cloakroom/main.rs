//! The program `cloakroom`: inspects, checks and changes the directory of a store.

mod args;
mod change;
mod dump;
mod failure;
mod inspect;
mod line;
mod secrets;
mod text;
mod transfer;
mod verify;

use std::io::{BufWriter, Write as _};
use std::process::ExitCode;

use args::Command;
use clap::Parser as _;
use failure::Failure;
use secrets::Secrets;

fn main() -> ExitCode {
    // Ends the program by itself: with 0 for --help, with 2 for a wrong usage.
    let args = args::Args::parse();
    let mut out = BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
    let done = Secrets::read(args.secrets.as_ref())
        .and_then(|secrets| run(args.command, &secrets, &mut out));
    let done = done.and_then(|()| Ok(out.flush()?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_closed_pipe() => {
            // Whoever reads has seen enough. What is buffered would fail once more.
            drop(out.into_parts());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            // What was printed before says how far it came.
            let _ = out.flush();
            let _ = writeln!(std::io::stderr(), "cloakroom: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn run(command: Command, secrets: &Secrets, out: &mut impl std::io::Write) -> Result<(), Failure> {
    match command {
        Command::Inspect(args) => inspect::run(&args, secrets, out),
        Command::Verify(args) => verify::run(&args, secrets, out),
        Command::Dump(args) => dump::run(&args, secrets, out),
        Command::End(args) => change::end(&args, secrets, out),
        Command::Compact(args) => change::compact(&args, secrets, out),
        Command::Backup(args) => change::backup(&args, secrets, out),
        Command::Export(args) => transfer::export(&args, secrets, out),
        Command::Import(args) => transfer::import(&args, secrets, out),
    }
}
