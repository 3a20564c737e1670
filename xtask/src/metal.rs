//! Builds the programs that run on the bare machine.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::paths;
use crate::setup::toolchain::{TARGET, Toolchain};
use crate::step::Step;

/// Packages of the workspace with a program for the bare machine of the same name, behind the feature `metal`.
pub const PROGRAMS: [&str; 4] = ["hypervisor", "root-loader", "root-kernel", "worker"];

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

    /// Builds the program `name` of the package `name`; returns the path of its ELF file.
    ///
    /// # Errors
    /// If it does not compile, with the compiler's messages.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let mut command = self.toolchain.cargo("build");
        command
            .args([
                "--release",
                "--package",
                name,
                "--bin",
                name,
                "--features",
                "metal",
            ])
            .current_dir(paths::root());
        Step::start(format!("Building {name}")).run(&mut command)?;
        let file = paths::target("metal")
            .join(TARGET)
            .join("release")
            .join(name);
        file.metadata()
            .with_context(|| format!("the build of {name} left no {}", file.display()))?;
        Ok(file)
    }
}
