//! Writes what was measured into the documentation: tables and pictures, from saved results.

mod blocks;
mod costs;
mod plots;
mod record;
mod tables;

use std::path::{Path, PathBuf};

use record::Results;

/// Where results are saved, and read again.
pub fn results_directory() -> PathBuf {
    documentation().join("performance")
}

fn documentation() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// # Errors
/// What could not be read or written, by name.
pub fn run() -> Result<(), String> {
    let results = Results::read(&results_directory())?;
    let page = documentation().join("performance.md");
    let told = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(&page).map_err(|error| told(&page, error))?;
    let text = blocks::fill(&text, |words| part(&results, words))?;
    std::fs::write(&page, text).map_err(|error| told(&page, error))?;
    for (name, svg) in plots::draw(&results) {
        let path = results_directory().join(name);
        std::fs::write(&path, svg).map_err(|error| told(&path, error))?;
        println!("{}", path.display());
    }
    println!("{}", page.display());
    Ok(())
}

/// One generated part of the page.
fn part(results: &Results, words: &[&str]) -> Result<String, String> {
    match *words {
        ["origins"] => Ok(tables::origins(results)),
        ["costs"] => Ok(costs::table(results)),
        ["losing"] => Ok(tables::losing(results)),
        ["ratios", sections, metric] => {
            let sections: Vec<&str> = sections.split(',').collect();
            Ok(tables::ratios(results, &sections, metric))
        }
        ["values", section, metrics] => {
            let metrics: Vec<&str> = metrics.split(',').collect();
            Ok(tables::values(results, section, &metrics))
        }
        _ => Err("not `origins`, `costs`, `losing`, `ratios SECTIONS METRIC` or `values SECTION \
                 METRICS`"
            .into()),
    }
}
