//! `cargo xtask test`: the crates' tests on this machine, and scenarios in the emulator.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use crate::fuzz;
use crate::machine::{Emulators, Processor, Vendor};
use crate::paths;
use crate::system::{Needs, System};

pub mod case;
pub mod counters;
pub mod emulator;
mod host;
mod inquest;
mod listed;
mod random;
pub mod report;
pub mod scenario;
pub mod serial;

use case::{Case, USUAL_SEED};
use report::Outcome;
use scenario::Scenario;

/// How long the fuzz targets run in all: a check that nothing broke. A search takes `cargo xtask fuzz` and patience.
const FUZZ_TIME: Duration = Duration::from_secs(300);
const FUZZ_TIME_FAST: Duration = Duration::from_secs(20);

/// Options of the command.
#[derive(Args, Debug)]
pub struct Test {
    /// Run only crates and scenarios whose name contains this
    filter: Option<String>,
    /// Run scenarios only on this vendor's virtualization; without it, on both
    #[arg(long, value_enum)]
    vendor: Option<Vendor>,
    /// Run scenarios on this processor instead of those that they name: amd, intel, or a model of Bochs'
    #[arg(long, value_name = "PROCESSOR", conflicts_with = "vendor")]
    on: Option<String>,
    /// Only list what would run
    #[arg(long)]
    list: bool,
    /// Only the host tests and the scenarios marked fast, these on the vendors' usual processors
    #[arg(long)]
    fast: bool,
    /// Do in Bochs, which is slow, all that is done in QEMU, and for ten minutes what is done for some seconds
    #[arg(long, conflicts_with = "fast")]
    long: bool,
    /// Other random points, and other programs, in the scenarios that have some
    #[arg(long, value_name = "NUMBER", default_value_t = USUAL_SEED)]
    seed: u32,
}

/// Runs the command; returns whether nothing failed.
///
/// # Errors
/// If something that the tests need cannot be set up.
pub fn test(options: &Test) -> Result<bool> {
    let wanted = |name: &str| {
        options
            .filter
            .as_ref()
            .is_none_or(|filter| name.contains(filter))
    };
    let crates: Vec<String> = host::names()?
        .into_iter()
        .filter(|name| wanted(name))
        .collect();
    let mut scenarios = Scenario::all(&paths::root().join("tests/scenarios"))?;
    scenarios.retain(|scenario| wanted(&scenario.name) && (scenario.fast || !options.fast));
    if options.fast {
        scenarios.iter_mut().for_each(Scenario::only_usual);
    }
    if options.long {
        scenarios.iter_mut().for_each(Scenario::lengthen);
    } else {
        scenarios.iter_mut().for_each(Scenario::shorten);
    }
    if let Some(name) = &options.on {
        for scenario in &mut scenarios {
            scenario.on = vec![Processor::from(name.clone())];
        }
    }
    let mut cases = Case::all(&scenarios, options.vendor);
    for case in &mut cases {
        case.seed = options.seed;
    }
    let mut targets = fuzz::targets()?;
    targets.retain(|name| wanted(name));
    if options.list {
        for name in &crates {
            println!("host      {name}");
        }
        for case in &cases {
            let (name, machine) = (&case.scenario.name, case.machine());
            print!("scenario  {name:<28} {machine:<28} {}", case.scenario.about);
            let skipped = case
                .obstacle()
                .map(|reason| format!(" (skipped: {reason})"));
            println!("{}", skipped.unwrap_or_default());
        }
        for name in &targets {
            println!("fuzz      {name}");
        }
        return Ok(true);
    }
    if crates.is_empty() && cases.is_empty() && targets.is_empty() {
        bail!(
            "no crate, scenario or fuzz target has {:?} in its name; --list shows all",
            options.filter.as_deref().unwrap_or("")
        );
    }
    let mut outcomes = host_tests(&crates, options)?;
    let built = if targets.is_empty() {
        Built::new(&cases)?
    } else {
        Built::beside_fuzz_targets(&cases)?
    };
    if let Some(Built { system, emulators }) = &built {
        outcomes.extend(emulator::run(system, emulators, &cases));
    }
    if !targets.is_empty() {
        let time = if options.fast {
            FUZZ_TIME_FAST
        } else {
            FUZZ_TIME
        };
        outcomes.extend(fuzz::run(&targets, time, Some(USUAL_SEED))?);
    }
    for failure in outcomes
        .iter()
        .filter(|outcome| outcome.status == report::Status::Failed)
    {
        println!(
            "\n{} {}failed: {}",
            failure.name,
            if failure.machine.is_empty() {
                String::new()
            } else {
                format!("({}) ", failure.machine)
            },
            failure.reason.as_deref().unwrap_or("no reason known")
        );
    }
    report::finish(&outcomes)
}

fn host_tests(crates: &[String], options: &Test) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    if crates.is_empty() {
        return Ok(outcomes);
    }
    let built = host::build()?;
    let mut add = |outcome: Outcome| {
        outcome.print("host");
        outcomes.push(outcome);
    };
    for name in crates {
        if let Some(tests) = built.get(name) {
            add(host::run(name, tests)?);
        }
    }
    if options.filter.is_none() && !options.fast {
        add(host::doc_examples()?);
    }
    Ok(outcomes)
}

/// What scenarios run with.
struct Built {
    system: System,
    emulators: Emulators,
}

impl Built {
    /// Builds it, if there are any.
    fn new(cases: &[Case]) -> Result<Option<Self>> {
        if cases.is_empty() {
            return Ok(None);
        }
        let runnable = cases.iter().filter(|case| case.obstacle().is_none());
        let emulators = Emulators::find(runnable.map(|case| case.processor))?;
        let system = System::build(&needs(cases))?;
        Ok(Some(Self { system, emulators }))
    }

    /// Builds it, and the fuzz targets: the bare-metal programs' last steps each use one processor, the targets the other.
    fn beside_fuzz_targets(cases: &[Case]) -> Result<Option<Self>> {
        fuzz::prepare()?;
        std::thread::scope(|scope| {
            let fuzz = scope.spawn(fuzz::build);
            let built = Self::new(cases);
            fuzz.join().unwrap_or_else(|_| bail!("the thread died"))?;
            built
        })
    }
}

/// What the scenarios ask for beyond the hypervisor and the root.
pub fn needs(cases: &[Case]) -> Needs {
    let runnable = || {
        let cases = cases.iter().filter(|case| case.obstacle().is_none());
        cases.map(|case| case.scenario)
    };
    let names: Vec<&str> = runnable()
        .flat_map(|scenario| {
            let kernels = scenario
                .vm
                .iter()
                .flat_map(|vm| vm.values().filter_map(|value| value.as_str()));
            kernels.chain(scenario.root.as_deref())
        })
        .collect();
    Needs {
        section_meter: runnable().any(|scenario| scenario.section_meter),
        ..Needs::named_in(&names.join("\n"))
    }
}
