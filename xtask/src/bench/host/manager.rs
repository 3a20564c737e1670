//! Figures of the manager's memory: `root/manager/benches/memory.rs`.

use anyhow::Result;

use super::{build, told};
use crate::bench::figure::Figures;
use crate::step::Step;

/// What `cargo xtask bench FILTER` looks for.
pub const NAME: &str = "host-manager";
const COMMAND: &str = "cargo xtask bench host-manager";

/// Builds the program and takes its figures.
pub fn measure() -> Result<Figures> {
    let program = build("manager", "memory")?;
    let step = Step::start("Measuring the manager's memory on the host");
    let figures = told(&program, &[], COMMAND)?;
    step.done();
    Ok(figures)
}
