//! `cargo xtask bench`: what the hot paths cost, in instructions.
//!
//! The machine runs with one instruction as one nanosecond of virtual time, so the figures repeat on a busy host. The
//! scenarios in `tests/scenarios/bench` boot payloads that print lines
//!
//! ```text
//! bench KEY VALUE UNIT [min=N] [max=N] [COUNTER=N ...]
//! ```

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::flat;
use crate::paths;
use crate::setup::apt;
use crate::system::System;
use crate::test::scenario::Scenario;
use crate::test::{emulator, needs};

/// The most that a figure may be; figures without a bound are reported only.
const BOUNDS: [(&str, u64); 6] = [
    ("null_hypercall", 300),
    ("cpuid_exit", 300),
    ("msr_exit", 400),
    ("io_intercept_round_trip", 3_000),
    ("max_hypervisor_section", 100_000),
    ("bytes_per_mapped_gib", 16_384),
];

/// One figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Figure {
    value: u64,
    unit: String,
    /// How to measure it again.
    command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u64>,
    /// What else was counted during the measurement.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    counters: BTreeMap<String, u64>,
}

type Figures = BTreeMap<String, Figure>;

/// Runs the command; returns whether every bounded figure was measured and keeps its bound.
///
/// # Errors
/// If a scenario cannot be built or does not end as it should.
pub fn bench(filter: Option<&str>) -> Result<bool> {
    let mut scenarios = Scenario::all(&paths::root().join("tests/scenarios/bench"))?;
    scenarios.retain(|scenario| filter.is_none_or(|part| scenario.name.contains(part)));
    match filter {
        _ if !scenarios.is_empty() => {}
        Some(part) => bail!("no scenario in tests/scenarios/bench has {part:?} in its name"),
        None => bail!("tests/scenarios/bench has no scenarios yet: nothing can be measured"),
    }
    apt::require(&apt::EMULATOR)?;
    let system = System::build(needs(&scenarios))?;
    let mut figures = Figures::new();
    for scenario in &scenarios {
        run(&system, scenario, &mut figures)
            .with_context(|| format!("bench scenario {}", scenario.name))?;
    }
    let image = flat::loaded_bytes(&paths::read(system.hypervisor())?)?;
    figures.insert(
        "hypervisor_image_bytes".into(),
        Figure {
            value: image,
            unit: "bytes".into(),
            command: "cargo xtask bench".into(),
            min: None,
            max: None,
            counters: BTreeMap::new(),
        },
    );
    paths::write(
        &paths::target("bench.json"),
        &serde_json::to_vec_pretty(&figures)?,
    )?;
    Ok(print(&figures, filter.is_none()))
}

fn run(system: &System, scenario: &Scenario, figures: &mut Figures) -> Result<()> {
    let image = emulator::prepare(system, scenario)?;
    let mut line = emulator::boot(scenario, &image)?;
    let result = emulator::play(&mut line, &scenario.steps);
    if let Err(error) = result {
        bail!("{error:#}\n{}", line.transcript().tail(40));
    }
    let command = format!("cargo xtask bench {}", scenario.name);
    for text in line.transcript().text().lines() {
        if let Some((key, figure)) = parse(text, &command) {
            figures.insert(key, figure);
        }
    }
    Ok(())
}

/// Reads a line `bench KEY VALUE UNIT NAME=N ...`; whatever stands before the word is somebody's prefix.
fn parse(line: &str, command: &str) -> Option<(String, Figure)> {
    let mut words = line
        .split_whitespace()
        .skip_while(|word| *word != "bench")
        .skip(1);
    let key = words.next()?.to_owned();
    let value = words.next()?.parse().ok()?;
    let unit = words.next()?.to_owned();
    let mut counters: BTreeMap<String, u64> = words
        .filter_map(|word| word.split_once('='))
        .filter_map(|(name, number)| Some((name.to_owned(), number.parse().ok()?)))
        .collect();
    let (min, max) = (counters.remove("min"), counters.remove("max"));
    Some((
        key,
        Figure {
            value,
            unit,
            command: command.into(),
            min,
            max,
            counters,
        },
    ))
}

/// Prints the table; returns whether all bounds are kept.
fn print(figures: &Figures, complete: bool) -> bool {
    let mut good = true;
    println!(
        "{:<32} {:>12} {:<14} {:>10}  verdict",
        "figure", "value", "unit", "bound"
    );
    for (key, figure) in figures {
        let bound = BOUNDS
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, bound)| *bound);
        let verdict = match bound {
            None => "",
            Some(bound) if figure.value <= bound => "pass",
            Some(_) => "MISS",
        };
        good &= verdict != "MISS";
        let bound = bound.map(|bound| bound.to_string()).unwrap_or_default();
        println!(
            "{key:<32} {:>12} {:<14} {bound:>10}  {verdict}",
            figure.value, figure.unit
        );
    }
    for (key, bound) in BOUNDS
        .iter()
        .filter(|(key, _)| complete && !figures.contains_key(*key))
    {
        good = false;
        println!(
            "{key:<32} {:>12} {:<14} {bound:>10}  MISS (not measured)",
            "-", "-"
        );
    }
    good
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_figure_has_bounds_and_counters() {
        let (key, figure) = parse(
            "[vm1] bench cpuid_exit 250 instructions min=240 max=300 exits=1000",
            "x",
        )
        .unwrap();
        assert_eq!(key, "cpuid_exit");
        assert_eq!(
            (figure.value, figure.min, figure.max),
            (250, Some(240), Some(300))
        );
        assert_eq!(figure.counters["exits"], 1000);
    }

    #[test]
    fn other_lines_are_no_figures() {
        assert!(parse("benchmark cpuid_exit 250 instructions", "x").is_none());
        assert!(parse("bench cpuid_exit fast", "x").is_none());
    }
}
