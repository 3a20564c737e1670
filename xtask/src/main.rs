//! `cargo xtask COMMAND`: builds, boots, tests and measures Partita. Each command sets up what it needs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod check;
mod experiment;
mod flat;
mod fuzz;
mod image;
mod kut;
mod machine;
mod metal;
mod paths;
mod run;
mod setup;
mod step;
mod system;
mod test;

/// Builds, boots, tests and measures Partita.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boot the hypervisor, the root partition and VMs in an emulator, on this terminal
    Run(run::Run),
    /// Write the bootable UEFI disk image, for any emulator or a USB stick
    Image {
        /// The file to write
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        #[command(flatten)]
        given: image::Given,
    },
    /// Run the crates' tests on this machine and the scenarios in the emulators
    Test(test::Test),
    /// Run the Hyper-V tests of kvm-unit-tests, which you have built, as VMs in the emulators
    Kut(kut::Kut),
    /// Count instructions on the hot paths and compare them with their bounds
    Bench(bench::Bench),
    /// Watch Dynamic Memory at work, and write a report with charts
    Experiment(experiment::Experiment),
    /// Run the fuzz targets
    Fuzz(fuzz::Fuzz),
    /// Check formatting, lints and documentation
    Check,
}

fn main() -> ExitCode {
    let done = |(): ()| true;
    let result = match Cli::parse().command {
        Command::Run(options) => run::run(&options).map(done),
        Command::Image { output, given } => image::image(&output, &given).map(done),
        Command::Test(options) => test::test(&options),
        Command::Kut(options) => kut::kut(&options),
        Command::Bench(options) => bench::bench(&options),
        Command::Experiment(options) => experiment::experiment(&options),
        Command::Fuzz(options) => fuzz::fuzz(&options),
        Command::Check => check::check().map(done),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
