//! `cargo xtask bench`: what the hot paths cost, in instructions, with each vendor's virtualization.
//!
//! In the machines an instruction is a nanosecond of virtual time and a tick of the TSC ([`table::COUNTING`] says what else
//! is one), so the figures repeat on a busy host. The scenarios in `tests/scenarios/bench` boot payloads that print lines
//!
//! ```text
//! bench KEY VALUE UNIT [min=N] [max=N] [COUNTER=N ...]
//! counts KEY COUNTER=N ...
//! ```
//!
//! of which the second adds what was counted per round trip to a figure that may come from another scenario,
//!
//! or type `counters` on the root console, which prints tables (`console`).
//!
//! `target/bench.json` has what the last run measured and nothing else, as its table, so that no figure in it is of an older
//! tree: a run of one vendor, or of some scenarios, leaves the others out and says so. What needs no machine is measured on
//! the host (`host`). By key and by virtualization, `svm` or `vmx`, or `host`, it has a [`Figure`]:
//!
//! ```json
//! { "cpuid_exit": { "svm": { "value": 0, "unit": "instructions", "command": "cargo xtask bench ..." }, "vmx": {} } }
//! ```

mod console;
mod figure;
mod host;
mod table;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::flat;
use crate::machine::{Emulators, Processor, Vendor};
use crate::paths;
use crate::step::Step;
use crate::system::System;
use crate::test::case::Case;
use crate::test::scenario::Scenario;
use crate::test::{emulator, needs};
use figure::{Counters, Figure, Figures, Measured};

/// The longest stretch with interrupts off, of all scenarios that measure it.
const SECTION: &str = "max_hypervisor_section";

/// Options of the command.
#[derive(Args, Debug)]
pub struct Bench {
    /// Only scenarios whose name contains this
    filter: Option<String>,
    /// Whose virtualization is measured; without it, both
    #[arg(long, value_enum)]
    vendor: Option<Vendor>,
}

/// What the scenarios brought for one vendor.
#[derive(Default)]
struct Run {
    figures: Figures,
    /// What was counted per round trip, by the keys of figures.
    counted: Vec<(String, Counters)>,
}

/// Runs the command; returns whether every bounded figure was measured and keeps its bound.
///
/// # Errors
/// If a scenario cannot be built or does not end as it should.
pub fn bench(options: &Bench) -> Result<bool> {
    let filter = options.filter.as_deref();
    let asked = |name: &str| filter.is_none_or(|part| name.contains(part));
    let mut scenarios = Scenario::all(&paths::root().join("tests/scenarios/bench"))?;
    scenarios.retain(|scenario| asked(&scenario.name));
    let on_host = || host::BENCHES.iter().filter(|bench| asked(bench.name));
    if scenarios.is_empty() && on_host().next().is_none() {
        bail!(
            "no scenario in tests/scenarios/bench has {:?} in its name",
            filter.unwrap_or_default()
        );
    }
    let host = on_host()
        .map(|bench| Ok((bench, bench.measure()?)))
        .collect::<Result<Vec<_>>>()?;
    let cases = Case::all(&scenarios, options.vendor);
    let (measured, skipped) = in_machines(&cases)?;
    let file = paths::target("bench.json");
    paths::write(
        &file,
        &serde_json::to_vec_pretty(&by_key(&measured, host.iter().map(|(_, figures)| figures)))?,
    )?;
    let mut good = true;
    if !measured.is_empty() {
        let table = table::Table::new(&measured, filter.is_none());
        print!("{}", table.text);
        good &= table.good;
    }
    for (bench, figures) in &host {
        let table = table::Table::of_host(figures, bench.bounds);
        print!("{}", table.text);
        good &= table.good;
    }
    if skipped != 0 {
        println!("{skipped} skipped");
    }
    if filter.is_some() || options.vendor.is_some() {
        println!("{} has these figures and no others", file.display());
    }
    Ok(good)
}

/// Boots what there is to boot; also says how many cases are skipped.
fn in_machines(cases: &[Case]) -> Result<(Measured, usize)> {
    if cases.is_empty() {
        return Ok((Measured::new(), 0));
    }
    let runnable = cases.iter().filter(|case| case.obstacle().is_none());
    let emulators = Emulators::find(runnable.map(|case| case.processor))?;
    let system = System::build(&needs(cases))?;
    let mut runs: BTreeMap<Vendor, Run> = BTreeMap::new();
    let mut skipped = 0;
    for case in cases {
        let vendor = case.processor.vendor();
        let run = runs.entry(vendor).or_default();
        let name = format!("{} with {}", case.scenario.name, vendor.extension());
        if let Some(reason) = case.obstacle() {
            skipped += 1;
            println!("{name} is skipped: {reason}");
            continue;
        }
        let step = Step::start(format!("Measuring {name}"));
        run.measure(&system, &emulators, case)
            .with_context(|| format!("bench scenario {name}"))?;
        step.done();
    }
    let image = flat::loaded_bytes(&paths::read(system.hypervisor())?)?;
    let image = Figure::new(image, "bytes", "cargo xtask bench");
    let finished = |(vendor, run): (Vendor, Run)| (vendor, run.finish(vendor, &image));
    Ok((runs.into_iter().map(finished).collect(), skipped))
}

/// As the file has them: by key, then by virtualization.
fn by_key<'a>(
    measured: &'a Measured,
    host: impl IntoIterator<Item = &'a Figures>,
) -> BTreeMap<&'a str, BTreeMap<String, &'a Figure>> {
    let mut keys: BTreeMap<&str, BTreeMap<String, &Figure>> = BTreeMap::new();
    let machines = measured
        .iter()
        .map(|(vendor, figures)| (vendor.extension().to_lowercase(), figures));
    let host = host.into_iter().map(|figures| ("host".to_owned(), figures));
    for (place, figures) in machines.chain(host) {
        for (key, figure) in figures {
            keys.entry(key).or_default().insert(place.clone(), figure);
        }
    }
    keys
}

impl Run {
    /// Plays a scenario, and takes what it brings.
    fn measure(&mut self, system: &System, emulators: &Emulators, case: &Case) -> Result<()> {
        let scenario = case.scenario;
        let image = emulator::prepare(system, case)?;
        let mut line = emulator::boot(emulators, case, &image)?;
        if let Err(error) = emulator::play(&mut line, case) {
            bail!("{error:#}\n{}", line.transcript().tail(40));
        }
        let command = command(case);
        let transcript = line.transcript().text();
        for text in transcript.lines() {
            if let Some((key, figure)) = figure::parse(text, &command) {
                self.worst(key, figure);
            }
            self.counted.extend(figure::parse_counts(text));
        }
        if let Some(name) = &scenario.exits {
            console::exits(name, &transcript, &command, &mut self.figures)?;
        }
        if scenario.section_meter
            && let Some(figure) = console::section(&transcript, &command)
        {
            self.worst(SECTION.into(), figure);
        }
        if scenario.balloon {
            let shift = scenario.machine.icount_shift;
            console::balloon(&transcript, shift, &command, &mut self.figures)?;
        }
        if let Some(work) = &scenario.work {
            let counters = console::work(work, &transcript)?;
            self.counted.push((work.figure.clone(), counters));
        }
        Ok(())
    }

    /// Keeps the larger of two values that scenarios have for a figure.
    fn worst(&mut self, key: String, figure: Figure) {
        match self.figures.get(&key) {
            Some(other) if other.value >= figure.value => {}
            _ => {
                self.figures.insert(key, figure);
            }
        }
    }

    /// All figures, with what was counted for them. The image is the same for both vendors.
    fn finish(mut self, vendor: Vendor, image: &Figure) -> Figures {
        let name = vendor.extension();
        for (key, counters) in self.counted {
            match self.figures.get_mut(&key) {
                Some(figure) => figure.counters.extend(counters),
                None => println!("{key} with {name}, which is not measured: {counters:?}"),
            }
        }
        self.figures
            .insert("hypervisor_image_bytes".into(), image.clone());
        self.figures
    }
}

/// How to measure again what a scenario measures.
fn command(case: &Case) -> String {
    let (scenario, vendor) = (case.scenario, case.processor.vendor());
    let mut command = format!(
        "cargo xtask bench {} --vendor {}",
        scenario.name,
        vendor.name()
    );
    if *case.processor == Processor::Qemu && !scenario.machine.icount {
        command += " (no icount: differs a little each time)";
    }
    command
}

#[cfg(test)]
mod tests {
    use super::{Figure, Figures, Measured, Run, Vendor, by_key};

    fn figures(value: u64) -> Figures {
        let figure = Figure::new(value, "instructions", "x");
        [("cpuid_exit".to_owned(), figure)].into()
    }

    #[test]
    fn the_file_has_both_vendors_under_each_key() {
        let both: Measured = [(Vendor::Amd, figures(1)), (Vendor::Intel, figures(2))].into();
        let json = serde_json::to_value(by_key(&both, None)).unwrap();
        assert_eq!(json["cpuid_exit"]["svm"]["value"], 1);
        assert_eq!(json["cpuid_exit"]["vmx"]["value"], 2);
        let host = figures(3);
        let json = serde_json::to_value(by_key(&Measured::new(), Some(&host))).unwrap();
        assert_eq!(json["cpuid_exit"]["host"]["value"], 3);
    }

    #[test]
    fn the_file_has_nothing_of_a_vendor_that_was_not_measured() {
        let one: Measured = [(Vendor::Intel, figures(2))].into();
        let json = serde_json::to_value(by_key(&one, None)).unwrap();
        assert!(json["cpuid_exit"].get("svm").is_none());
    }

    #[test]
    fn the_worst_value_of_several_scenarios_counts() {
        let mut run = Run::default();
        for value in [20, 30, 10] {
            run.worst("a".into(), Figure::new(value, "instructions", "x"));
        }
        assert_eq!(run.figures["a"].value, 30);
    }

    #[test]
    fn counts_join_the_figure_of_another_scenario() {
        let mut run = Run {
            figures: figures(1),
            ..Run::default()
        };
        let counters = [("xsave".to_owned(), 2.0)].into();
        run.counted.push(("cpuid_exit".into(), counters));
        let image = Figure::new(9, "bytes", "x");
        let figures = run.finish(Vendor::Amd, &image);
        assert_eq!(figures["cpuid_exit"].counters["xsave"], 2.0);
        assert_eq!(figures["hypervisor_image_bytes"].value, 9);
    }
}
