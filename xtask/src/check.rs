//! `cargo xtask check`: formatting, lints and documentation.

use std::process::Command;

use anyhow::{Result, bail};

use crate::metal::{Metal, PAYLOADS, PROGRAMS};
use crate::paths;
use crate::step::Step;

/// Folders with a package that is no member of the workspace.
const APART: [&str; 2] = ["xtask/image", "tests/fuzz"];

/// Runs the command: every check, so that one complaint does not hide the next.
///
/// # Errors
/// If a check complains or cannot run.
pub fn check() -> Result<()> {
    let mut complaints = 0;
    let mut run = |what: String, command: &mut Command| {
        if let Err(error) = Step::start(what).run(command) {
            eprintln!("\n{error:#}\n");
            complaints += 1;
        }
    };
    let format = ["--check", "--", "--color", "never"];
    run(
        "Formatting".into(),
        cargo(".").args(["fmt", "--all"]).args(format),
    );
    for folder in APART
        .into_iter()
        .filter(|folder| paths::root().join(folder).join("Cargo.toml").exists())
    {
        run(
            format!("Formatting of {folder}"),
            cargo(folder).arg("fmt").args(format),
        );
    }
    let strict = ["--", "-D", "warnings"];
    run(
        "Lints".into(),
        cargo(".")
            .args(["clippy", "--workspace", "--all-targets"])
            .args(strict),
    );
    let metal = Metal::new()?;
    metal.toolchain().require_clippy()?;
    let packages = PROGRAMS.map(|(package, program)| (package, vec!["--bin", program]));
    for (package, programs) in packages.into_iter().chain([(PAYLOADS, vec!["--bins"])]) {
        // The lints above have seen it without the meter.
        let features = match package {
            "hypervisor" => "metal,section-meter",
            _ => "metal",
        };
        let mut clippy = metal.toolchain().cargo("clippy");
        clippy
            .args(["--release", "--package", package, "--lib"])
            .args(programs)
            .args(["--features", features])
            .args(strict)
            .current_dir(paths::root());
        run(
            format!("Lints of {package} for the bare machine"),
            &mut clippy,
        );
    }
    run(
        "Documentation".into(),
        cargo(".")
            .args(["doc", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-Dwarnings"),
    );
    if complaints > 0 {
        bail!("{complaints} checks complain");
    }
    println!("formatting, lints and documentation are in order");
    Ok(())
}

fn cargo(folder: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::root().join(folder));
    cargo
}
