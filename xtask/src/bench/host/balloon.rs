//! Figures of a balloon of 1 GiB: `root/dynamic-memory/benches/balloon.rs`.

use anyhow::Result;

use super::{build, count_in, told};
use crate::bench::figure::{Figure, Figures};
use crate::step::Step;

/// What `cargo xtask bench FILTER` looks for.
pub const NAME: &str = "host-balloon";
const COMMAND: &str = "cargo xtask bench host-balloon";

/// Pages of the balloon.
const PAGES: u64 = 1 << 18;
/// What is counted: the figure, the function, and the program's word.
const COUNTED: [(&str, &str, &str); 4] = [
    ("balloon_gib_large", "take_message", "large"),
    ("unballoon_gib_large", "give_message", "large"),
    ("balloon_gib_single", "take_message", "single"),
    ("unballoon_gib_single", "give_message", "single"),
];

/// Builds the program and takes its figures.
pub fn measure() -> Result<Figures> {
    let program = build("dynamic-memory", "balloon")?;
    let step = Step::start("Measuring a balloon on the host");
    let mut figures = told(&program, &["large"], COMMAND)?;
    for (key, function, word) in COUNTED {
        let counted = count_in(&program, function, &[word])?;
        let mut figure = Figure::new(counted.instructions, "instructions", COMMAND);
        let each = counted.instructions as f64 / PAGES as f64;
        figure.counters.insert("per_page".into(), each);
        figures.insert(key.into(), figure);
    }
    step.done();
    Ok(figures)
}
