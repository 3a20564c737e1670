//! `cargo xtask bench`: what the hot paths cost, in instructions.
//!
//! The machine runs with one instruction as one nanosecond of virtual time, so the figures repeat on a busy host. The
//! scenarios in `tests/scenarios/bench` boot payloads that print lines
//!
//! ```text
//! bench KEY VALUE UNIT [min=N] [max=N] [COUNTER=N ...]
//! counts KEY COUNTER=N ...
//! ```
//!
//! of which the second adds what was counted per round trip to a figure that may come from another scenario,
//!
//! or type `counters` on the root console, which prints tables (`console`).

mod console;
mod figure;
mod table;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::flat;
use crate::machine::{Emulators, Processor, Vendor};
use crate::paths;
use crate::system::System;
use crate::test::case::Case;
use crate::test::scenario::Scenario;
use crate::test::{emulator, needs};
use figure::{Counters, Figure, Figures};

/// The longest stretch with interrupts off, of all scenarios that measure it.
const SECTION: &str = "max_hypervisor_section";

/// Options of the command.
#[derive(Args, Debug)]
pub struct Bench {
    /// Only scenarios whose name contains this
    filter: Option<String>,
    /// Whose virtualization is measured
    #[arg(long, value_enum, default_value = "amd")]
    vendor: Vendor,
}

/// Runs the command; returns whether every bounded figure was measured and keeps its bound.
///
/// # Errors
/// If a scenario cannot be built or does not end as it should.
pub fn bench(options: &Bench) -> Result<bool> {
    let filter = options.filter.as_deref();
    let mut scenarios = Scenario::all(&paths::root().join("tests/scenarios/bench"))?;
    scenarios.retain(|scenario| filter.is_none_or(|part| scenario.name.contains(part)));
    match filter {
        _ if !scenarios.is_empty() => {}
        Some(part) => bail!("no scenario in tests/scenarios/bench has {part:?} in its name"),
        None => bail!("tests/scenarios/bench has no scenarios yet: nothing can be measured"),
    }
    let cases = Case::all(&scenarios, Some(options.vendor));
    let emulators = Emulators::find(cases.iter().map(|case| case.processor))?;
    let system = System::build(needs(&cases))?;
    let (mut figures, mut counted) = (Figures::new(), Vec::new());
    for case in &cases {
        if let Some(reason) = case.obstacle() {
            println!("{} is skipped: {reason}", case.scenario.name);
            continue;
        }
        run(&system, &emulators, case, &mut figures, &mut counted)
            .with_context(|| format!("bench scenario {}", case.scenario.name))?;
    }
    for (key, counters) in counted {
        match figures.get_mut(&key) {
            Some(figure) => figure.counters.extend(counters),
            None => println!("{key}, which is not measured: {counters:?}"),
        }
    }
    let image = flat::loaded_bytes(&paths::read(system.hypervisor())?)?;
    figures.insert(
        "hypervisor_image_bytes".into(),
        Figure::new(image, "bytes", "cargo xtask bench"),
    );
    paths::write(
        &paths::target("bench.json"),
        &serde_json::to_vec_pretty(&figures)?,
    )?;
    Ok(table::print(&figures, filter.is_none()))
}

/// Keeps the larger of two values that scenarios have for a figure.
fn worst(figures: &mut Figures, key: String, figure: Figure) {
    match figures.get(&key) {
        Some(other) if other.value >= figure.value => {}
        _ => {
            figures.insert(key, figure);
        }
    }
}

fn run(
    system: &System,
    emulators: &Emulators,
    case: &Case,
    figures: &mut Figures,
    counted: &mut Vec<(String, Counters)>,
) -> Result<()> {
    let scenario = case.scenario;
    let image = emulator::prepare(system, case)?;
    let mut line = emulator::boot(emulators, case, &image)?;
    let result = emulator::play(&mut line, case);
    if let Err(error) = result {
        bail!("{error:#}\n{}", line.transcript().tail(40));
    }
    let vendor_option = match case.processor.vendor() {
        Vendor::Amd => "",
        Vendor::Intel => " --vendor intel",
    };
    let mut command = format!("cargo xtask bench {}", scenario.name);
    command += vendor_option;
    if *case.processor == Processor::Qemu && !scenario.machine.icount {
        command += " (no icount: differs a little each time)";
    }
    let transcript = line.transcript().text();
    for text in transcript.lines() {
        if let Some((key, figure)) = figure::parse(text, &command) {
            worst(figures, key, figure);
        }
        counted.extend(figure::parse_counts(text));
    }
    if let Some(name) = &scenario.exits {
        console::exits(name, &transcript, &command, figures)?;
    }
    if scenario.section_meter
        && let Some(figure) = console::section(&transcript, &command)
    {
        worst(figures, SECTION.into(), figure);
    }
    if let Some(work) = &scenario.work {
        counted.push((work.figure.clone(), console::work(work, &transcript)?));
    }
    Ok(())
}
