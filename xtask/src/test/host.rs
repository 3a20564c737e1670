//! The crates' own tests, on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::report::{Counts, Outcome, Status};
use crate::paths;
use crate::step::Step;

/// Crates by name.
pub type Crates = BTreeMap<String, Tests>;

/// The test programs of a crate.
#[derive(Debug, Default)]
pub struct Tests {
    programs: Vec<PathBuf>,
    /// The crate's folder, in which they run.
    folder: PathBuf,
}

#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Names of the workspace's crates.
///
/// # Errors
/// If cargo cannot read the workspace.
pub fn names() -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
    }
    let text =
        crate::step::output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Metadata =
        serde_json::from_str(&text).context("cargo metadata is not what it should be")?;
    Ok(metadata
        .packages
        .into_iter()
        .map(|package| package.name)
        .collect())
}

/// Compiles the tests of all crates.
///
/// # Errors
/// With the compiler's messages if they do not compile.
pub fn build() -> Result<Crates> {
    Step::start("Compiling the host tests").run(cargo().args([
        "test",
        "--workspace",
        "--no-run",
    ]))?;
    let listing = crate::step::output(cargo().args([
        "test",
        "--workspace",
        "--no-run",
        "--quiet",
        "--message-format=json",
    ]))?;
    let mut crates = Crates::new();
    for line in listing.lines() {
        let Ok(message) = serde_json::from_str::<Message>(line) else {
            continue;
        };
        let (Some(executable), Some(manifest), Some(Profile { test: true })) =
            (message.executable, message.manifest_path, message.profile)
        else {
            continue;
        };
        let tests = crates.entry(package_name(&manifest)?).or_default();
        tests.programs.push(executable);
        tests.folder = manifest.parent().unwrap_or(paths::root()).to_path_buf();
    }
    Ok(crates)
}

/// Runs the test programs of one crate.
///
/// # Errors
/// If one cannot be started.
pub fn run(name: &str, tests: &Tests) -> Result<Outcome> {
    let started = Instant::now();
    let mut counts = Counts::default();
    let mut failure = String::new();
    for program in &tests.programs {
        let result = Command::new(program)
            .current_dir(&tests.folder)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let text = String::from_utf8_lossy(&result.stdout).into_owned();
        let mut found = parse_counts(&text);
        if !result.status.success() {
            // A crash ends the program before it can count.
            found.failed = found.failed.max(1);
            failure += &format!("{text}\n{}", String::from_utf8_lossy(&result.stderr));
        }
        counts = counts.plus(found);
    }
    Ok(outcome(name, counts, failure, started.elapsed()))
}

/// Runs the examples in the documentation of all crates.
///
/// # Errors
/// If cargo cannot be started.
pub fn doc_examples() -> Result<Outcome> {
    let started = Instant::now();
    let result = cargo()
        .args(["test", "--workspace", "--doc", "--quiet"])
        .output()
        .context("cannot start cargo")?;
    let text = String::from_utf8_lossy(&result.stdout).into_owned();
    let mut counts = parse_counts(&text);
    let mut failure = String::new();
    if !result.status.success() {
        counts.failed = counts.failed.max(1);
        failure = format!("{text}\n{}", String::from_utf8_lossy(&result.stderr));
    }
    Ok(outcome(
        "documentation examples",
        counts,
        failure,
        started.elapsed(),
    ))
}

fn outcome(name: &str, counts: Counts, failure: String, took: Duration) -> Outcome {
    let result = if failure.is_empty() {
        Ok(())
    } else {
        Err((Status::Failed, failure))
    };
    Outcome {
        counts,
        ..Outcome::single(name, took, result)
    }
}

/// Adds up the lines `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
fn parse_counts(text: &str) -> Counts {
    let mut counts = Counts::default();
    for line in text
        .lines()
        .filter_map(|line| line.strip_prefix("test result: "))
    {
        for part in line.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(word)) = (words.next(), words.next()) else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match word {
                "passed" => counts.passed += number,
                "failed" => counts.failed += number,
                "ignored" => counts.skipped += number,
                _ => {}
            }
        }
    }
    counts
}

fn package_name(manifest: &Path) -> Result<String> {
    #[derive(Deserialize)]
    struct Manifest {
        package: Package,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
    }
    let text = std::fs::read_to_string(manifest)
        .with_context(|| format!("cannot read {}", manifest.display()))?;
    Ok(toml::from_str::<Manifest>(&text)?.package.name)
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::root());
    cargo
}

#[cfg(test)]
mod tests {
    use super::{Counts, parse_counts};

    #[test]
    fn counts_of_several_programs_add_up() {
        let text = "running 2 tests\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; \
                    finished in 0.00s\n\ntest result: FAILED. 3 passed; 4 failed; 0 ignored; 0 measured\n";
        assert_eq!(
            parse_counts(text),
            Counts {
                passed: 5,
                failed: 4,
                skipped: 1
            }
        );
    }
}
