//! Figures that need no machine: benches of crates, as they are and under valgrind's callgrind.
//!
//! Callgrind executes one instruction after the other and counts those between entering and leaving a function, with all that
//! it calls. The same program counts the same each time, so a bound can be as near as one likes.

mod balancer;
mod balloon;
mod manager;
mod rings;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::figure::{Figures, parse};
use super::table::{self, Bounds};
use crate::paths;
use crate::setup::apt;
use crate::step::{Step, output};

/// What is measured by one program.
pub struct Bench {
    /// What `cargo xtask bench FILTER` looks for.
    pub name: &'static str,
    /// What its figures have to keep.
    pub bounds: &'static Bounds,
    figures: fn() -> Result<Figures>,
}

/// All of them.
pub const BENCHES: [Bench; 4] = [
    Bench {
        name: rings::NAME,
        bounds: table::OF_RINGS,
        figures: rings::measure,
    },
    Bench {
        name: balancer::NAME,
        bounds: table::OF_BALANCER,
        figures: balancer::measure,
    },
    Bench {
        name: balloon::NAME,
        bounds: table::OF_BALLOON,
        figures: balloon::measure,
    },
    Bench {
        name: manager::NAME,
        bounds: table::OF_MANAGER,
        figures: manager::measure,
    },
];

impl Bench {
    /// Builds the program and takes its figures.
    ///
    /// # Errors
    /// If valgrind cannot be had, or the program not be built or run.
    pub fn measure(&self) -> Result<Figures> {
        apt::require(&apt::COUNTER)?;
        (self.figures)()
    }
}

/// What callgrind counted in a function.
#[derive(Debug, PartialEq, Eq)]
struct Counted {
    instructions: u64,
    /// Calls of `memcpy`, and of `memmove`, which is the same function.
    copies: u64,
}

/// Compiles a bench of a crate, and says where the program is.
fn build(package: &str, bench: &str) -> Result<PathBuf> {
    let step = Step::start(format!("Building the bench of {package}"));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(paths::root())
        .args(["bench", "--no-run", "--message-format=json"])
        .args(["--package", package, "--bench", bench]);
    let messages = output(&mut cargo)?;
    step.done();
    let program = messages.lines().find_map(executable);
    program.context("cargo names no program that it made")
}

/// The program that a message of cargo's names.
fn executable(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let path = message.get("executable")?.as_str()?;
    Some(path.into())
}

/// Runs the program with these words, and reads the figures that it prints; `command` is what they are taken by.
fn told(program: &Path, words: &[&str], command: &str) -> Result<Figures> {
    let text = output(Command::new(program).args(words))?;
    let figures: Figures = text
        .lines()
        .filter_map(|line| parse(line, command))
        .collect();
    ensure!(!figures.is_empty(), "no figure in {text:?}");
    Ok(figures)
}

/// Runs the program with these words, and counts in its function.
fn count_in(program: &Path, function: &str, words: &[&str]) -> Result<Counted> {
    let file = paths::target("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--compress-strings=no"])
        .args(["--collect-atstart=no"])
        .arg(format!("--toggle-collect=*::{function}*"))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(words);
    output(&mut valgrind)?;
    let text = paths::read(&file)?;
    let counted = read(&String::from_utf8_lossy(&text))?;
    if counted.instructions == 0 {
        bail!("callgrind saw no {function} in {}", program.display());
    }
    Ok(counted)
}

/// Reads callgrind's file.
fn read(text: &str) -> Result<Counted> {
    let mut counted = Counted {
        instructions: 0,
        copies: 0,
    };
    let mut callee = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("cfn=") {
            callee = name;
        } else if let Some(sum) = line.strip_prefix("summary: ") {
            counted.instructions = sum.trim().parse().context("callgrind's sum")?;
        } else if let Some(calls) = line.strip_prefix("calls=")
            && ["memcpy", "memmove"]
                .iter()
                .any(|name| callee.contains(name))
        {
            let number = calls.split_whitespace().next().unwrap_or_default();
            counted.copies += number.parse::<u64>().context("callgrind's calls")?;
        }
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use super::{Counted, executable, read};

    #[test]
    fn copies_are_counted_by_whoever_made_them() {
        let text = "events: Ir\nsummary: 1028\nfn=__memcpy_avx_unaligned_erms\n270 4\n\n\
                    fn=a::write_8k\ncfn=a::store\ncalls=1 43\n7 90\n\
                    fn=a::store\ncfn=__memcpy_avx_unaligned_erms\ncalls=1 264\n9 8\n\
                    cfn=__memmove_sse2\ncalls=2 +2\n9 8\ntotals: 1028\n";
        let wanted = Counted {
            instructions: 1028,
            copies: 3,
        };
        assert_eq!(read(text).unwrap(), wanted);
        assert!(read("cfn=memcpy\ncalls=many 1\n").is_err());
    }

    #[test]
    fn the_program_is_the_one_that_cargo_names() {
        let library = r#"{"reason":"compiler-artifact","executable":null}"#;
        assert_eq!(executable(library), None);
        let bench = r#"{"reason":"compiler-artifact","executable":"/t/ring-1"}"#;
        assert_eq!(executable(bench), Some("/t/ring-1".into()));
        assert_eq!(executable("warning"), None);
    }
}
