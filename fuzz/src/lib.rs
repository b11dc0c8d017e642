//! What the fuzz targets do with their input. Each is a plain function that panics on a finding,
//! so that the same code runs under libFuzzer and as a program that replays saved inputs.

mod attributes;
mod cookie;
mod token;

#[path = "../../tests/it/model/harness/mod.rs"]
mod harness;

pub use attributes::attributes;
pub use cookie::cookie;
pub use token::token;

use std::path::{Path, PathBuf};

use arbitrary::{Arbitrary as _, Unstructured};

/// The longest sequence: longer ones find nothing more and take long.
const OPS_MAX: usize = 300;

/// Does the operations that the bytes stand for to a store and to its model.
pub fn ops(input: &[u8]) {
    if let Some(sequence) = sequence(input) {
        harness::run(&sequence);
    }
}

/// The sequence that an input stands for, as text.
pub fn explain(input: &[u8]) -> String {
    format!("{:#?}", sequence(input))
}

fn sequence(input: &[u8]) -> Option<harness::ops::Sequence> {
    let mut input = Unstructured::new(input);
    let setup = harness::ops::Setup::arbitrary(&mut input).ok()?;
    let mut ops = Vec::new();
    while !input.is_empty() && ops.len() < OPS_MAX {
        ops.push(harness::ops::Op::arbitrary(&mut input).ok()?);
    }
    Some(harness::ops::Sequence { setup, ops })
}

/// A target by its name.
pub fn target(name: &str) -> Option<fn(&[u8])> {
    match name {
        "ops" => Some(ops),
        "token" => Some(token),
        "attributes" => Some(attributes),
        "cookie" => Some(cookie),
        _ => None,
    }
}

/// Replays one saved input.
///
/// # Panics
/// If the file cannot be read, or its input is a finding.
pub fn replay(target: fn(&[u8]), path: &Path) {
    let _where = Where(path);
    target(&std::fs::read(path).expect("a file that can be read"));
}

/// Replays the files that are given as arguments.
pub fn replay_arguments(target: fn(&[u8])) {
    for path in std::env::args_os().skip(1).map(PathBuf::from) {
        replay(target, &path);
    }
}

/// Tells which input is a finding.
struct Where<'a>(&'a Path);

impl Drop for Where<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("finding: {}", self.0.display());
        }
    }
}
