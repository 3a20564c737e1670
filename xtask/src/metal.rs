//! Builds the programs that run on the bare machine.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::paths;
use crate::setup::toolchain::{TARGET, Toolchain};
use crate::step::Step;

/// Packages of the workspace with a program for the bare machine behind the feature `metal`, each with its program.
pub const PROGRAMS: [(&str, &str); 4] = [
    ("hypervisor", "partita"),
    ("root-loader", "root-loader"),
    ("root-kernel", "root-kernel"),
    ("worker", "worker"),
];

/// The package of the payload guests and roots, many programs behind the feature `metal`.
pub const PAYLOADS: &str = "guests";

/// Builds programs with one toolchain.
#[derive(Clone, Copy, Debug)]
pub struct Metal {
    toolchain: Toolchain,
}

impl Metal {
    /// With a toolchain found or set up now.
    ///
    /// # Errors
    /// If there is no toolchain for the bare machine.
    pub fn new() -> Result<Self> {
        Ok(Self {
            toolchain: Toolchain::find()?,
        })
    }

    /// The toolchain.
    pub fn toolchain(&self) -> Toolchain {
        self.toolchain
    }

    /// Builds the program of a package in [`PROGRAMS`]; returns the path of its ELF file.
    ///
    /// # Errors
    /// If it does not compile, with the compiler's messages.
    pub fn program(&self, package: &str) -> Result<PathBuf> {
        self.program_with(package, "metal")
    }

    /// As [`Self::program`], with these features. The next build of the program replaces the file.
    ///
    /// # Errors
    /// As there.
    pub fn program_with(&self, package: &str, features: &str) -> Result<PathBuf> {
        let (_, program) = PROGRAMS
            .iter()
            .find(|(name, _)| *name == package)
            .with_context(|| format!("{package} has no program"))?;
        let mut command = self.toolchain.cargo("build");
        command
            .args([
                "--release",
                "--package",
                package,
                "--bin",
                program,
                "--features",
                features,
            ])
            .current_dir(paths::root());
        Step::start(format!("Building {package}")).run(&mut command)?;
        let file = Self::folder().join(program);
        file.metadata()
            .with_context(|| format!("the build of {package} left no {}", file.display()))?;
        Ok(file)
    }

    /// Builds the payload guests and roots of `tests/guests`; returns the folder with their ELF files.
    ///
    /// # Errors
    /// If one does not compile.
    pub fn payloads(&self) -> Result<PathBuf> {
        let mut command = self.toolchain.cargo("build");
        command
            .args(["--release", "--package", PAYLOADS, "--bins"])
            .args(["--features", "metal"])
            .current_dir(paths::root());
        Step::start("Building the payload guests").run(&mut command)?;
        Ok(Self::folder())
    }

    fn folder() -> PathBuf {
        paths::target("metal").join(TARGET).join("release")
    }
}
