//! Checks all files.

use std::io::{IsTerminal as _, Write};

use indicatif::{ProgressBar, ProgressStyle};

use super::args::Verify;
use super::failure::Failure;
use super::secrets::Secrets;
use super::text;

pub(crate) fn run(args: &Verify, secrets: &Secrets, out: &mut impl Write) -> Result<(), Failure> {
    let bar = bar(!args.quiet && std::io::stderr().is_terminal());
    let verdict = secrets.verify(&args.dir, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let verdict = verdict?;
    for damage in &verdict.damage {
        writeln!(out, "{}: byte {}: {}", damage.file.display(), damage.offset, damage.problem)?;
    }
    match verdict.damage.len() {
        0 if args.quiet => Ok(()),
        0 => Ok(writeln!(
            out,
            "ok: {} sessions, {} read, as of position {}",
            verdict.sessions,
            text::bytes(verdict.bytes),
            verdict.position
        )?),
        files => Err(Failure::Damage { files }),
    }
}

fn bar(is_shown: bool) -> ProgressBar {
    if !is_shown {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec}");
    let bar = ProgressBar::new(0);
    // A template that is wrong would leave the usual one.
    style.map(|style| bar.with_style(style)).unwrap_or_else(|_| ProgressBar::hidden())
}
