//! Results: lines for the reader, `target/test-results.json` for programs.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::case::Case;
use crate::paths;

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should.
    Passed,
    /// Not as it should.
    Failed,
    /// It did not run.
    Skipped,
}

/// The result of one crate's tests, of one scenario or of one fuzz target.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What ran.
    pub name: String,
    /// `host`, or whose virtualization it ran on.
    pub vendor: String,
    /// The emulated processor: `qemu`, or a model of Bochs'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processor: Option<String>,
    /// Both, as the reader is told.
    #[serde(skip)]
    pub machine: String,
    /// How it ended.
    pub status: Status,
    /// How long it took.
    pub seconds: f64,
    /// Why it failed or was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What else there is to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Tests in it that passed, failed, were skipped.
    pub counts: Counts,
}

/// Numbers of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
    /// Skipped.
    pub skipped: u64,
}

impl Counts {
    /// One thing that ended so.
    pub fn one(status: Status) -> Self {
        let count = |wanted| u64::from(status == wanted);
        Self {
            passed: count(Status::Passed),
            failed: count(Status::Failed),
            skipped: count(Status::Skipped),
        }
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl Outcome {
    /// One thing that is a test by itself, on this machine.
    pub fn single(name: &str, took: Duration, result: Result<(), (Status, String)>) -> Self {
        let (status, reason) = match result {
            Ok(()) => (Status::Passed, None),
            Err((status, reason)) => (status, Some(reason)),
        };
        Self {
            name: name.into(),
            vendor: "host".into(),
            processor: None,
            machine: String::new(),
            status,
            seconds: took.as_secs_f64(),
            reason,
            note: None,
            counts: Counts::one(status),
        }
    }

    /// A scenario on an emulated processor.
    pub fn of(case: &Case, took: Duration, result: Result<(), (Status, String)>) -> Self {
        Self {
            vendor: case.processor.vendor().name().into(),
            processor: Some(case.processor.to_string()),
            machine: case.machine(),
            ..Self::single(&case.scenario.name, took, result)
        }
    }

    /// Prints its line.
    pub fn print(&self, kind: &str) {
        let status = match self.status {
            Status::Passed => "ok",
            Status::Failed => "FAILED",
            Status::Skipped => "skipped",
        };
        let mut line = format!(
            "{kind:<9} {:<28} {:<28} {status:<8} {:>7.1} s",
            self.name, self.machine, self.seconds
        );
        let all = self.counts.passed + self.counts.failed + self.counts.skipped;
        if all != 1 || kind == "host" {
            line += &format!("  {} passed", self.counts.passed);
            if self.counts.failed > 0 {
                line += &format!(", {} failed", self.counts.failed);
            }
            if self.counts.skipped > 0 {
                line += &format!(", {} skipped", self.counts.skipped);
            }
        }
        if let Some(note) = &self.note {
            line += &format!("  {note}");
        }
        if let Some(reason) = &self.reason {
            line += &format!("  {}", reason.lines().next().unwrap_or_default());
        }
        println!("{line}");
    }
}

/// Writes the file and prints the last line; returns whether nothing failed.
///
/// # Errors
/// If the file cannot be written.
pub fn finish(outcomes: &[Outcome]) -> Result<bool> {
    let file = paths::target("test-results.json");
    paths::write(&file, &serde_json::to_vec_pretty(outcomes)?)?;
    let total = outcomes
        .iter()
        .fold(Counts::default(), |sum, outcome| sum.plus(outcome.counts));
    println!(
        "{} passed, {} failed, {} skipped",
        total.passed, total.failed, total.skipped
    );
    Ok(total.failed == 0)
}
