//! What the fuzz targets do with their input. Each is a plain function that panics on a finding,
//! so that the same code runs under libFuzzer and as a program that replays saved inputs.

mod attributes;
mod cookie;
mod entry;
mod frame;
mod segment;
mod snapshot;
mod token;

#[path = "../../tests/it/model/harness/mod.rs"]
mod harness;

/// The shipped sources of the journal's formats. What they import stands in the modules below.
#[path = "../../src/journal"]
#[allow(dead_code, unused_imports, reason = "the crate uses more of them than the targets do")]
mod journal {
    pub(crate) mod entry;
    pub(crate) mod frame;
    pub(crate) mod segment;
    pub(crate) mod snapshot;
    pub(crate) mod stored;
}

mod error {
    pub(crate) use cloakroom::Reason;
}

/// As in `src/record.rs`.
mod record {
    pub(crate) const DATA_BYTES_MAX: usize = (1 << 24) - 1;
    pub(crate) const TEXT_BYTES_MAX: usize = 512;
}

/// What the files of the journal know of the crate's `sync.rs`.
mod sync {
    pub(crate) use std::sync::atomic;
}

pub use attributes::attributes;
pub use cookie::cookie;
pub use entry::entry;
pub use frame::frame;
pub use segment::segment;
pub use snapshot::snapshot;
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
        "frame" => Some(frame),
        "segment" => Some(segment),
        "entry" => Some(entry),
        "snapshot" => Some(snapshot),
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
