//! Turns the fence path of `reclaim.rs` on, and makes the seeded variants: copies of a source
//! file with one bug each, which the models have to catch.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// One bug: what to replace in which file. The text must stand there exactly once.
struct Seed {
    name: &'static str,
    file: &'static str,
    shipped: &'static str,
    seeded: &'static str,
}

include!("seeds.rs");

const SOURCES: [&str; 3] = ["bucket", "life", "reclaim"];
const MODELS: [&str; 4] = ["buckets", "lives", "pins", "sessions"];

fn main() {
    println!("cargo::rustc-cfg=loom");
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    let path_of = |file: &str| match SOURCES.contains(&file) {
        true => root.join("../../src").join(file).with_extension("rs"),
        false => root.join("src/models").join(file).with_extension("rs"),
    };
    for file in SOURCES.iter().chain(&MODELS) {
        println!("cargo::rerun-if-changed={}", path_of(file).display());
    }
    for file in ["build.rs", "seeds.rs"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let mut modules = String::new();
    for seed in SEEDS {
        let seeded = plant(seed, &path_of(seed.file), &out);
        let _ = writeln!(modules, "#[allow(unused_imports)]\npub mod {} {{", seed.name);
        for file in SOURCES.iter().chain(&MODELS) {
            if *file == seed.file {
                let _ = writeln!(modules, "    #[path = {seeded:?}]\n    pub mod {file};");
            } else if SOURCES.contains(file) {
                let _ = writeln!(modules, "    pub(crate) use crate::{file};");
            } else {
                let path = path_of(file);
                let _ = writeln!(modules, "    #[path = {path:?}]\n    pub mod {file};");
            }
        }
        modules.push_str("}\n");
    }
    fs::write(out.join("seeded.rs"), modules).expect("write the list of seeded variants");
}

/// Writes the file with its bug.
fn plant(seed: &Seed, path: &Path, out: &Path) -> PathBuf {
    let text = fs::read_to_string(path).expect("read a source file");
    let count = text.matches(seed.shipped).count();
    assert_eq!(count, 1, "seed {}: its text is not in {} once", seed.name, path.display());
    let seeded = out.join(format!("{}.rs", seed.name));
    fs::write(&seeded, text.replace(seed.shipped, seed.seeded)).expect("write a seeded file");
    seeded
}
