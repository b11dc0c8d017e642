//! Instructions per operation, counted by callgrind: the only figure that a shared machine leaves
//! steady.
//!
//! ```text
//! cargo instructions           counts, beside the figures of counts.txt
//! cargo instructions check     the same; fails if an operation takes 3 % more than its figure
//! cargo instructions record REASON    writes what was counted, with the reason where it changed
//! ```
//! The program runs itself under valgrind, which counts inside one function only. Exit code: 0 all
//! is well, 1 an operation takes more, 2 wrong usage, 77 cannot be counted here.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

mod operations;
mod recorded;

use std::path::Path;
use std::process::{Command, ExitCode};

use operations::{CALL_COUNT, OPERATIONS};
use recorded::{Figure, Recorded, Verdict};

const CANNOT_COUNT: u8 = 77;
/// Without these the C library copies memory by the same code on every x86-64 processor.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM";

fn counts_path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("counts.txt")
}

/// Instructions of one call of an operation.
fn count(index: usize) -> Result<f64, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--toggle-collect=*operations::counted*", "--"])
        .arg(this)
        .args(["run", &index.to_string()])
        .env("GLIBC_TUNABLES", TUNABLES)
        .output()
        .map_err(|error| format!("valgrind is needed: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().find_map(|line| line.split("Collected : ").nth(1));
    let collected = collected.and_then(|text| text.trim().parse::<f64>().ok());
    collected.map(|all| all / CALL_COUNT as f64).ok_or_else(|| format!("valgrind said:\n{text}"))
}

fn compiler() -> Option<String> {
    let output = Command::new("rustc").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split(' ').nth(1).map(str::to_owned)
}

/// Counts all and prints each beside its figure. Returns the figures as they should be.
fn compare(recorded: &Recorded, reason: &str) -> Result<(Vec<Figure>, Vec<Verdict>), String> {
    println!("{:<36} {:>12} {:>10}", "operation", "instructions", "recorded");
    let (mut figures, mut verdicts) = (Vec::new(), Vec::new());
    for (index, operation) in OPERATIONS.iter().enumerate() {
        let counted = count(index)?;
        let verdict = recorded.verdict(operation.name, counted);
        let known = recorded.figure(operation.name);
        let told = match verdict {
            Verdict::Same => "",
            Verdict::More => "  MORE",
            Verdict::Less => "  less: record it",
            Verdict::New => "  new: record it",
        };
        let figure = known.map_or("-".to_owned(), |figure| format!("{:.1}", figure.instructions));
        println!("{:<36} {counted:>12.1} {figure:>10}{told}", operation.name);
        figures.push(match known {
            Some(figure) if verdict == Verdict::Same => figure.clone(),
            _ => Figure {
                instructions: counted,
                operation: operation.name.to_owned(),
                reason: reason.to_owned(),
            },
        });
        verdicts.push(verdict);
    }
    Ok((figures, verdicts))
}

/// Does what the arguments ask. None: an operation takes more than it should.
fn run(arguments: &[&str]) -> Result<Option<()>, (u8, String)> {
    let cannot = |problem: String| (CANNOT_COUNT, problem);
    let path = counts_path();
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let recorded = || Recorded::parse(&text).map_err(|problem| (2, problem));
    match arguments {
        [] | ["check"] => {
            let recorded = recorded()?;
            let here = compiler().unwrap_or_default();
            if here != recorded.compiler || !cfg!(target_arch = "x86_64") {
                let problem = format!(
                    "the figures are of Rust {} on x86-64; this is Rust {here} on {}",
                    recorded.compiler,
                    std::env::consts::ARCH
                );
                return Err(cannot(problem));
            }
            let (_, verdicts) = compare(&recorded, "").map_err(cannot)?;
            let is_check = !arguments.is_empty();
            let is_bad = |verdict: &Verdict| matches!(verdict, Verdict::More | Verdict::New);
            Ok((!is_check || !verdicts.iter().any(is_bad)).then_some(()))
        }
        ["record", reason] => {
            let compiler = compiler().ok_or_else(|| cannot("rustc is not found".to_owned()))?;
            let before =
                recorded().unwrap_or(Recorded { compiler: String::new(), figures: vec![] });
            let (figures, _) = compare(&before, reason).map_err(cannot)?;
            let text = Recorded { compiler, figures }.to_text();
            std::fs::write(&path, text).map_err(|error| (2, error.to_string()))?;
            Ok(Some(()))
        }
        _ => Err((2, "usage: cargo instructions [check | record REASON]".to_owned())),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["run", index] = arguments.as_slice()
        && let Some(operation) = index.parse().ok().and_then(|index: usize| OPERATIONS.get(index))
    {
        std::hint::black_box((operation.run)());
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(Some(())) => ExitCode::SUCCESS,
        Ok(None) => {
            eprintln!(
                "an operation takes more instructions than benches/instructions/counts.txt says:"
            );
            eprintln!("make it cheaper, or `cargo instructions record REASON`");
            ExitCode::FAILURE
        }
        Err((code, problem)) => {
            eprintln!("{problem}");
            ExitCode::from(code)
        }
    }
}
