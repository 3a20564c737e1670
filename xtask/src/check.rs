//! `cargo xtask check`: formatting, lints and documentation.

use std::process::Command;

use anyhow::Result;

use crate::metal::{Metal, PROGRAMS};
use crate::paths;
use crate::step::Step;

/// Folders with a package that is no member of the workspace.
const APART: [&str; 3] = ["xtask/image", "tests/guests", "tests/fuzz"];

/// Runs the command.
///
/// # Errors
/// With the first complaint.
pub fn check() -> Result<()> {
    Step::start("Checking the formatting").run(cargo(".").args(["fmt", "--all", "--check"]))?;
    for folder in APART
        .iter()
        .filter(|folder| paths::root().join(folder).join("Cargo.toml").exists())
    {
        Step::start(format!("Checking the formatting of {folder}"))
            .run(cargo(folder).args(["fmt", "--check"]))?;
    }
    Step::start("Linting the crates").run(cargo(".").args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    let metal = Metal::new()?;
    metal.toolchain().require_clippy()?;
    for (package, _) in PROGRAMS {
        let mut clippy = metal.toolchain().cargo("clippy");
        clippy
            .args([
                "--package",
                package,
                "--features",
                "metal",
                "--",
                "-D",
                "warnings",
            ])
            .current_dir(paths::root());
        Step::start(format!("Linting {package} for the bare machine")).run(&mut clippy)?;
    }
    Step::start("Checking the documentation").run(
        cargo(".")
            .args(["doc", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-Dwarnings"),
    )?;
    println!("formatting, lints and documentation are in order");
    Ok(())
}

fn cargo(folder: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::root().join(folder));
    cargo
}
