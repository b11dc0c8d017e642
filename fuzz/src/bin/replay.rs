//! Replays saved inputs on stable, without libFuzzer.
//!
//! `replay FOLDER...`: each folder holds one folder per target, whose files are inputs. A file
//! given after `--explain` is printed as the operations that it stands for.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if let [flag, file] = &*arguments
        && flag.as_os_str() == "--explain"
    {
        println!("{}", cloakroom_fuzz::explain(&std::fs::read(file).expect("a file")));
        return ExitCode::SUCCESS;
    }
    let mut count = 0;
    for folder in &arguments {
        for path in entries(folder) {
            match replay_target(&path) {
                Some(replayed) => count += replayed,
                None => {
                    eprintln!("{}: no folder of a target", path.display());
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    println!("{count} inputs replayed");
    if count == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Replays a folder of inputs; a finding ends the program with its panic.
fn replay_target(folder: &Path) -> Option<usize> {
    let target = cloakroom_fuzz::target(folder.file_name()?.to_str()?)?;
    let paths = entries(folder);
    for path in &paths {
        cloakroom_fuzz::replay(target, path);
    }
    Some(paths.len())
}
