//! Side-by-side measurements: every contender in one process, run by run in turn.

#[cfg(feature = "web")]
mod allocations;
mod cli;
mod contender;
mod draw;
mod durable;
mod interleave;
mod latency;
mod machine;
mod measure;
mod publish;
mod report;
mod section;
mod service;
mod shards;
mod svg;

use clap::Parser;
use cli::{Cli, Section};
use report::Report;

fn main() {
    let cli = Cli::parse();
    if let Section::MemoryChild = cli.section {
        section::memory::child(&cli);
        return;
    }
    #[cfg(feature = "ours")]
    if cli.section == Section::RollingChild {
        section::rolling::child();
        return;
    }
    #[cfg(feature = "web")]
    if cli.section == Section::WebChild {
        section::web::child();
        return;
    }
    if cli.section == Section::Publish {
        if let Err(problem) = publish::run() {
            eprintln!("{problem}");
            std::process::exit(1);
        }
        return;
    }
    let mut report = Report::new(cli.json);
    report.machine();
    let chosen = match cli.section {
        Section::All => &Section::EVERY[..],
        ref one => std::slice::from_ref(one),
    };
    for (index, section) in chosen.iter().enumerate() {
        if chosen.len() > 1 {
            report.progress(&format!("section {} of {}", index + 1, chosen.len()));
        }
        if let Some(name) = cli.save_name(*section) {
            report.save_to(publish::results_directory().join(format!("{name}.jsonl")));
        }
        match section {
            Section::Lookup => section::lookup::run(&cli, &mut report),
            Section::Hot => section::hot::run(&cli, &mut report),
            Section::Mix => section::mix::run(&cli, &mut report),
            Section::Growth => section::growth::run(&cli, &mut report),
            Section::Expiry => section::expiry::run(&cli, &mut report),
            Section::Memory => section::memory::run(&cli, &mut report),
            Section::Journal => section::journal::run(&cli, &mut report),
            Section::Restart => section::restart::run(&cli, &mut report),
            Section::Services => section::services::run(&cli, &mut report),
            #[cfg(feature = "ours")]
            Section::Rolling => section::rolling::run(&cli, &mut report),
            #[cfg(feature = "ours")]
            Section::Snapshot => section::snapshot::run(&cli, &mut report),
            #[cfg(feature = "ours")]
            Section::Token => section::token::run(&cli, &mut report),
            #[cfg(feature = "ours")]
            Section::Cost => section::cost::run(&cli, &mut report),
            #[cfg(feature = "ours")]
            Section::Day => section::day::run(&cli, &mut report),
            #[cfg(feature = "web")]
            Section::Web => section::web::run(&cli, &mut report),
            #[cfg(feature = "ours")]
            Section::RollingChild => unreachable!("not a section by itself"),
            #[cfg(feature = "web")]
            Section::WebChild => unreachable!("not a section by itself"),
            Section::All | Section::Publish | Section::MemoryChild => {
                unreachable!("not a section by itself")
            }
        }
    }
    if report.is_empty() {
        eprintln!("no contender's name begins so");
        std::process::exit(2);
    }
    report.finish();
}
