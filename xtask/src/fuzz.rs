//! `cargo xtask fuzz`: the fuzz targets in `tests/fuzz`, with libFuzzer as the engine.
//!
//! The instrumentation is what `cargo fuzz` asks of the compiler, less the address sanitizer: it needs an unstable
//! compiler, and the crates under test have no `unsafe` that it could watch. So the ordinary toolchain does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;

use crate::paths;
use crate::setup::apt::{self, Package};
use crate::step::Step;
use crate::test::report::{Outcome, Status};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// libFuzzer is C++.
const COMPILER: Package = Package {
    name: "g++",
    proof: "/usr/bin/g++",
};

const INSTRUMENTATION: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// Lines shown of a fuzzer that found something.
const TAIL: usize = 40;

/// Options of the command.
#[derive(Args, Debug)]
pub struct Fuzz {
    /// Only targets whose name contains this
    target: Option<String>,
    /// Time for all targets together
    #[arg(long, default_value_t = 300)]
    seconds: u64,
}

/// Runs the command; returns whether nothing was found.
///
/// # Errors
/// If the targets cannot be built or started.
pub fn fuzz(options: &Fuzz) -> Result<bool> {
    let mut targets = targets()?;
    targets.retain(|name| {
        options
            .target
            .as_ref()
            .is_none_or(|part| name.contains(part))
    });
    if targets.is_empty() {
        bail!(
            "no fuzz target has {:?} in its name",
            options.target.as_deref().unwrap_or("")
        );
    }
    prepare()?;
    build()?;
    let outcomes = run(&targets, Duration::from_secs(options.seconds), None)?;
    Ok(outcomes
        .iter()
        .all(|outcome| outcome.status == Status::Passed))
}

/// Names of the targets.
///
/// # Errors
/// If `tests/fuzz/Cargo.toml` cannot be read.
pub fn targets() -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Manifest {
        bin: Vec<Bin>,
    }
    #[derive(Deserialize)]
    struct Bin {
        name: String,
    }
    let file = folder().join("Cargo.toml");
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(toml::from_str::<Manifest>(&text)?
        .bin
        .into_iter()
        .map(|bin| bin.name)
        .collect())
}

/// Runs targets, which are [built](build), for `time` in all, two at once, and prints a line for each.
///
/// # Errors
/// If they cannot be started.
pub fn run(targets: &[String], time: Duration, seed: Option<u32>) -> Result<Vec<Outcome>> {
    let each = (time / u32::try_from(targets.len())?.max(1)).max(Duration::from_secs(1));
    let mut outcomes = Vec::new();
    for pair in targets.chunks(2) {
        let results: Vec<Result<Outcome>> = std::thread::scope(|scope| {
            let running: Vec<_> = pair
                .iter()
                .map(|name| scope.spawn(move || run_one(name, each, seed)))
                .collect();
            running
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|_| Err(anyhow::anyhow!("the thread died")))
                })
                .collect()
        });
        for outcome in results {
            let outcome = outcome?;
            outcome.print("fuzz");
            outcomes.push(outcome);
        }
    }
    Ok(outcomes)
}

/// Gets what they are built with.
///
/// # Errors
/// If that cannot be installed.
pub fn prepare() -> Result<()> {
    apt::require(&[COMPILER])
}

/// Builds all targets.
///
/// # Errors
/// If one does not compile.
pub fn build() -> Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "build",
            "--release",
            "--bins",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(paths::target("fuzz"))
        .env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTATION.join("\u{1f}"))
        .current_dir(folder());
    Step::start("Building the fuzz targets").run(&mut cargo)
}

/// The corpus grows under `target/`; what is worth keeping is committed to `tests/fuzz/corpus` by hand.
fn run_one(name: &str, time: Duration, seed: Option<u32>) -> Result<Outcome> {
    let corpus = paths::target_dir(&format!("fuzz/corpus/{name}"))?;
    let findings = paths::target_dir(&format!("fuzz/findings/{name}"))?;
    let seeds = folder().join("corpus").join(name);
    let mut fuzzer = Command::new("setpriv");
    fuzzer
        .args(["--pdeathsig", "KILL"])
        .arg(
            paths::target("fuzz")
                .join(TARGET)
                .join("release")
                .join(name),
        )
        .arg(format!("-max_total_time={}", time.as_secs()))
        .args(["-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .arg(&corpus);
    if let Some(seed) = seed {
        fuzzer.arg(format!("-seed={seed}"));
    }
    if seeds.exists() {
        fuzzer.arg(&seeds);
    }
    let started = Instant::now();
    let result = fuzzer
        .output()
        .with_context(|| format!("the fuzz target {name} cannot be started"))?;
    let text = String::from_utf8_lossy(&result.stderr);
    let verdict = if result.status.success() {
        Ok(())
    } else {
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines
            .get(lines.len().saturating_sub(TAIL)..)
            .unwrap_or_default()
            .join("\n");
        Err((
            Status::Failed,
            format!(
                "found an input that fails; it is in {}\n{tail}",
                findings.display()
            ),
        ))
    };
    let outcome = Outcome::single(name, started.elapsed(), verdict);
    Ok(Outcome {
        note: Some(format!("{} inputs", executed(&text))),
        ..outcome
    })
}

/// Inputs tried, from libFuzzer's final statistics.
fn executed(text: &str) -> &str {
    text.lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .map_or("?", str::trim)
}

fn folder() -> PathBuf {
    Path::new(paths::root()).join("tests/fuzz")
}
