//! `cargo xtask COMMAND`: builds, boots, tests and measures Partita. Each command sets up what it needs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod accel;
mod image;
mod machine;
mod metal;
mod paths;
mod run;
mod setup;
mod step;

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
        /// A VM definition to put into the image (repeatable)
        #[arg(long = "vm", value_name = "FILE")]
        vms: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Image { output, vms } => image::image(&output, &vms),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
