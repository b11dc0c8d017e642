//! Puts one bug at a time into a copy of the crate; the test that is named with it has to fail.
//!
//! A bug is a replacement of a text that must stand exactly once in its file, so that the list
//! cannot grow stale unnoticed. The copy has the crate's sources, `tests/seeded/inside.rs` as one
//! more module of its unit tests, and of the behaviour tests only `tests/it/seeds.rs`: so each bug
//! costs the compilation of the crate and one small test. All tests first run without any bug.

mod seeds;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use seeds::{SEEDS, Seed, Test};

/// How long a test may take: it hangs then, which is a way to be caught. Without a bug each takes
/// less than a second.
const LIMIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (root, work, names) = (Path::new(&arguments[0]), Path::new(&arguments[1]), &arguments[2..]);
    if names.first().is_some_and(|name| name == "--list") {
        SEEDS.iter().for_each(|seed| println!("{}", seed.name));
        return ExitCode::SUCCESS;
    }
    if let Some(name) = names.iter().find(|name| SEEDS.iter().all(|seed| seed.name != **name)) {
        eprintln!("error: there is no seed '{name}'; see tests/seeded/run --list");
        return ExitCode::from(2);
    }
    let chosen = |seed: &&Seed| names.is_empty() || names.iter().any(|name| name == seed.name);
    match run(root, work, &SEEDS.iter().filter(chosen).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(root: &Path, work: &Path, seeds: &[&Seed]) -> Result<(), String> {
    let begin = Instant::now();
    let copy = Copy::new(root, work)?;
    let stale: Vec<_> = seeds.iter().filter_map(|seed| copy.bug(seed).err()).collect();
    if !stale.is_empty() {
        return Err(stale.join("\n"));
    }
    copy.check_unchanged(seeds)?;
    println!("{:<36} {:<72} {:>5}", "seed", "caught by", "s");
    let mut missed = Vec::new();
    for seed in seeds {
        let begin = Instant::now();
        let caught = match copy.outcome(seed)? {
            Outcome::Passed => {
                missed.push(seed.name);
                "NOT CAUGHT: it passes".to_owned()
            }
            Outcome::Failed => seed.test.filter().to_owned(),
            Outcome::Hung => format!("{} (hangs)", seed.test.filter()),
        };
        println!("{:<36} {caught:<72} {:>5.1}", seed.name, begin.elapsed().as_secs_f64());
    }
    let count = seeds.len();
    println!("{} of {count} caught in {} s", count - missed.len(), begin.elapsed().as_secs());
    match missed.is_empty() {
        true => Ok(()),
        false => Err(format!("not caught: {}", missed.join(", "))),
    }
}

enum Outcome {
    Passed,
    Failed,
    Hung,
}

/// The copy of the crate.
struct Copy {
    root: PathBuf,
    folder: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn new(root: &Path, work: &Path) -> Result<Copy, String> {
        // Beside the other tests, whose dependencies need not be built twice.
        let (folder, target) = (work.join("crate"), work.join(".."));
        let copy = Copy { root: root.to_owned(), folder, target };
        let _ = fs::remove_dir_all(copy.folder.join("src"));
        copy_folder(&root.join("src"), &copy.folder.join("src"))?;
        let lib =
            read(&root.join("src/lib.rs"))?.replace(r#"#[doc = include_str!("../README.md")]"#, "");
        let inside = root.join("tests/seeded/inside.rs");
        let module = format!("#[cfg(test)]\n#[path = {inside:?}]\nmod inside;\n");
        write(&copy.folder.join("src/lib.rs"), &(lib + "\n" + &module))?;
        let seeds = root.join("tests/it/seeds.rs");
        let main = format!("#[path = {seeds:?}]\nmod seeds;\n");
        write(&copy.folder.join("tests/it/main.rs"), &main)?;
        write(&copy.folder.join("Cargo.toml"), &manifest(&read(&root.join("Cargo.toml"))?))?;
        write(&copy.folder.join("Cargo.lock"), &read(&root.join("Cargo.lock"))?)?;
        Ok(copy)
    }

    /// The file of a bug with the text before and with it.
    fn bug(&self, seed: &Seed) -> Result<(PathBuf, String, String), String> {
        let shipped = read(&self.root.join("src").join(seed.file))?;
        match shipped.matches(seed.shipped).count() {
            1 => {}
            count => {
                return Err(format!(
                    "seed {}: its text stands {count} times in src/{}, not once:\n{}",
                    seed.name, seed.file, seed.shipped
                ));
            }
        }
        let seeded = shipped.replace(seed.shipped, seed.seeded);
        Ok((self.folder.join("src").join(seed.file), shipped, seeded))
    }

    /// Without a bug every test has to pass.
    fn check_unchanged(&self, seeds: &[&Seed]) -> Result<(), String> {
        for unit in [true, false] {
            let mut tests = seeds.iter().map(|seed| &seed.test);
            if !tests.clone().any(|test| test.is_unit() == unit) {
                continue;
            }
            let program = self.build(unit)?;
            let failed = tests.find(|test| {
                test.is_unit() == unit && !matches!(execute(&program, test), Ok(Outcome::Passed))
            });
            if let Some(test) = failed {
                return Err(format!("{} fails without any bug", test.filter()));
            }
        }
        Ok(())
    }

    fn outcome(&self, seed: &Seed) -> Result<Outcome, String> {
        let (file, shipped, seeded) = self.bug(seed)?;
        write(&file, &seeded)?;
        let outcome = self
            .build(seed.test.is_unit())
            .and_then(|program| execute(&program, &seed.test))
            .map_err(|problem| format!("seed {}: {problem}", seed.name));
        write(&file, &shipped)?;
        outcome
    }

    /// Builds the tests; returns their program.
    fn build(&self, unit: bool) -> Result<PathBuf, String> {
        let which: &[&str] = if unit { &["--lib"] } else { &["--test", "it"] };
        let output = Command::new("cargo")
            .args(["test", "--no-run", "--features", "encryption", "--manifest-path"])
            .arg(self.folder.join("Cargo.toml"))
            .args(which)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_INCREMENTAL", "1")
            .env("CARGO_PROFILE_TEST_DEBUG", "0")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_TERM_COLOR", "never")
            .env_remove("RUSTFLAGS")
            .output()
            .map_err(|error| format!("cargo: {error}"))?;
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().rev().find(|line| line.trim_start().starts_with("Executable"));
        match line.and_then(|line| line.split(['(', ')']).rev().nth(1)) {
            Some(program) if output.status.success() => Ok(PathBuf::from(program)),
            _ => Err(format!("it does not compile:\n{text}")),
        }
    }
}

/// What lines of the manifest begin with that the seeded tests do not need.
const UNWANTED: [&str; 13] = [
    "aes-gcm ",
    "autobenches",
    "axum ",
    "criterion ",
    "futures-util ",
    "http-body-util ",
    "jwt-compact ",
    "percent-encoding ",
    "readme",
    "sha1 ",
    "tokio ",
    "tokio-tungstenite ",
    "tower ",
];

/// The crate's manifest without benches, and without what only other tests need.
fn manifest(text: &str) -> String {
    let unwanted = |line: &str| UNWANTED.iter().any(|word| line.starts_with(word));
    let mut kept = String::new();
    let mut in_bench = false;
    for line in text.lines() {
        if line.starts_with('[') {
            in_bench = line == "[[bench]]" || line == "[[example]]";
        }
        if !in_bench && !unwanted(line) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept + "\n[workspace]\n"
}

/// Runs one test.
fn execute(program: &Path, test: &Test) -> Result<Outcome, String> {
    let mut child = Command::new(program)
        .args(["--exact", test.filter(), "--test-threads=1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let begin = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                let output = child.wait_with_output().map_err(|error| error.to_string())?;
                let text = String::from_utf8_lossy(&output.stdout);
                if std::env::var_os("CLOAKROOM_SEEDED_SHOW").is_some() {
                    println!("{text}");
                }
                return match (status.success(), text.contains("running 1 test")) {
                    (_, false) => Err(format!("there is no test {}", test.filter())),
                    (true, true) => Ok(Outcome::Passed),
                    (false, true) => Ok(Outcome::Failed),
                };
            }
            Ok(None) if begin.elapsed() < LIMIT => thread::sleep(Duration::from_millis(10)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Ok(Outcome::Hung);
            }
        }
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), String> {
    for entry in fs::read_dir(from).map_err(|error| format!("{}: {error}", from.display()))? {
        let entry = entry.map_err(|error| error.to_string())?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            write(&target, &read(&entry.path())?)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let result = fs::create_dir_all(path.parent().unwrap_or(path));
    result
        .and_then(|()| fs::write(path, text))
        .map_err(|error| format!("{}: {error}", path.display()))
}
