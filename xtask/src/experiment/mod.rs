//! `cargo xtask experiment dynamic-memory`: three VMs with stock kernels, and what Dynamic Memory is known to do.
//!
//! The scenes are the scenarios in `tests/experiments/dynamic-memory`, each with every kernel that it has a variant for. What the
//! counters' line has told of them becomes charts, and a verdict on everything that was to be seen (sheet of Dynamic Memory, 3.4
//! and 3.5). The report is one HTML file that needs nothing else, beside a PNG of its first chart.
//!
//! The machine's clock counts instructions and jumps where all its processors wait, so minutes of waiting cost seconds; nothing in
//! the root knows of it.

mod chart;
mod html;
mod record;
mod verdict;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::machine::{Emulators, Vendor};
use crate::paths;
use crate::step::Step;
use crate::system::System;
use crate::test::case::Case;
use crate::test::needs;
use crate::test::scenario::Scenario;
use record::Record;

/// Options of the command.
#[derive(Args, Debug)]
pub struct Experiment {
    /// Which one
    #[arg(value_enum)]
    which: Which,
    /// Only scenes whose name contains this
    filter: Option<String>,
    /// Whose virtualization: AMD's in QEMU, or Intel's in Bochs
    #[arg(long, value_enum, default_value = "amd")]
    vendor: Vendor,
    /// Folder of the report [default: target/experiments]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// The experiments.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    /// Memory follows demand
    DynamicMemory,
}

impl Which {
    const fn name(self) -> &'static str {
        match self {
            Self::DynamicMemory => "dynamic-memory",
        }
    }
}

impl Experiment {
    /// The command that does it again.
    fn command(&self) -> String {
        let mut command = format!("cargo xtask experiment {}", self.which.name());
        if let Some(filter) = &self.filter {
            command += &format!(" {filter}");
        }
        if self.vendor != Vendor::Amd {
            command += &format!(" --vendor {}", self.vendor.name());
        }
        command
    }
}

/// Runs the command; returns whether all was seen that was to be seen.
///
/// # Errors
/// If a scene cannot be built or does not come to its end, or the report cannot be written.
pub fn experiment(options: &Experiment) -> Result<bool> {
    let name = options.which.name();
    let folder = match &options.output {
        Some(folder) => folder.clone(),
        None => paths::target_dir("experiments")?,
    };
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let mut scenes = Scenario::all(&paths::root().join("tests/experiments").join(name))?;
    let asked = |scene: &Scenario| {
        let filter = options.filter.as_deref();
        filter.is_none_or(|part| scene.name.contains(part))
    };
    scenes.retain(asked);
    scenes.sort_by_key(|scene| record::place(&scene.name));
    if scenes.is_empty() {
        bail!("no scene in tests/experiments/{name} has that in its name");
    }
    chart::load_font()?;
    let records = play(&scenes, options.vendor)?;
    let good = tell(&records);
    let report = folder.join(name).with_extension("html");
    let text = html::report(&records, &options.command())?;
    paths::write(&report, text.as_bytes())?;
    let picture = report.with_extension("png");
    if let Some(record) = records.first() {
        chart::write_png(&record.memory_chart(), &picture)?;
    }
    println!("{} and {}", report.display(), picture.display());
    Ok(good)
}

/// Plays the scenes one after the other.
fn play(scenes: &[Scenario], vendor: Vendor) -> Result<Vec<Record>> {
    let cases = Case::all(scenes, Some(vendor));
    let emulators = Emulators::find(cases.iter().map(|case| case.processor))?;
    let system = System::build(&needs(&cases))?;
    let play = |case| -> Result<Record> {
        let step = Step::start(format!("Watching {}", Record::title_of(case)));
        let record = Record::play(&system, &emulators, case)?;
        step.done();
        Ok(record)
    };
    cases.iter().map(play).collect()
}

/// Prints the verdicts; returns whether all are good.
fn tell(records: &[Record]) -> bool {
    let mut good = true;
    for record in records {
        println!("{}", record.title);
        for verdict in &record.verdicts {
            println!("  {verdict}");
            good &= verdict.good;
        }
    }
    good
}
