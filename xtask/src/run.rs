//! `cargo xtask run`: boots the image interactively.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::image;
use crate::machine::accel::Wish;
use crate::machine::bochs::{self, Pace};
use crate::machine::qemu::{self, Serial};
use crate::machine::{Emulators, Machine, Processor, Vendor, terminal};
use crate::paths;
use crate::system::DefinitionFile;

/// Options of the command.
#[derive(Args, Debug)]
pub struct Run {
    #[command(flatten)]
    given: image::Given,
    /// Processors of the machine
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Memory of the machine
    #[arg(long, default_value = "2G")]
    memory: String,
    /// File for the counters that the machine's second serial line tells every second; without it, there is no such line
    #[arg(long, value_name = "FILE")]
    counters: Option<PathBuf>,
    /// Wait for gdb on port 1234
    #[arg(long)]
    gdb: bool,
    /// Whose virtualization: AMD's in QEMU, or Intel's in Bochs [default: amd]
    #[arg(long, value_enum)]
    vendor: Option<Vendor>,
    /// A processor model of Bochs' instead, for example ryzen or tigerlake
    #[arg(long, conflicts_with = "vendor")]
    model: Option<String>,
    /// What runs QEMU's processors
    #[arg(long, value_enum, default_value = "auto")]
    accel: Wish,
}

/// Runs the command.
///
/// # Errors
/// If a part cannot be built or the emulator cannot run.
pub fn run(options: &Run) -> Result<()> {
    let processor = match &options.model {
        Some(model) => Processor::Bochs(model.clone()),
        None => options.vendor.unwrap_or(Vendor::Amd).usual(),
    };
    let machine = Machine {
        cpus: options.cpus,
        memory: options.memory.clone(),
        gdb: options.gdb,
        ..Machine::default()
    };
    if options.gdb && processor != Processor::Qemu {
        bail!("--gdb is QEMU's; Debian's Bochs cannot be reached by gdb");
    }
    let emulators = Emulators::find([&processor])?;
    match &processor {
        Processor::Qemu => in_qemu(options, &machine),
        Processor::Bochs(model) => in_bochs(options, &machine, model, &emulators),
    }
}

fn in_qemu(options: &Run, machine: &Machine) -> Result<()> {
    let accel = options.accel.decide()?;
    let image = image::default_image(&options.given)?;
    greet(options, "Ctrl-A X quits it, Ctrl-A H shows more keys");
    if options.gdb {
        eprintln!(
            "    It waits for: gdb {} -ex 'target remote :1234'",
            paths::target("metal/x86_64-unknown-none/release/hypervisor").display()
        );
    }
    let status = qemu::command(
        machine,
        &image,
        accel,
        Serial::Terminal,
        options.counters.as_deref(),
    )
    .status()
    .context("QEMU cannot be started")?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => bail!("QEMU ended with status {code}"),
        None => bail!("QEMU ended: {status}"),
    }
}

fn in_bochs(options: &Run, machine: &Machine, model: &str, emulators: &Emulators) -> Result<()> {
    let image = image::default_image(&options.given)?;
    let folder = paths::target("bochs/run");
    eprintln!(
        "    Bochs takes some ten seconds to the first line, and a minute to a guest's shell"
    );
    greet(options, "Ctrl-A X quits it");
    let bochs = emulators.bochs()?;
    let counters = options.counters.as_deref();
    let link = bochs::boot(machine, model, bochs, &image, &folder, Pace::Host, counters)?;
    terminal::attach(link)?;
    eprintln!(
        "    The machine has ended; {} has Bochs' own words",
        folder.join("bochs.log").display()
    );
    Ok(())
}

/// What the user has to know once the machine speaks.
fn greet(options: &Run, keys: &str) {
    eprintln!(
        "    At the prompt \"partita>\" type: vm attach {}   (Ctrl-] d comes back, help lists the commands)",
        first_vm(&options.given.vms)
    );
    eprintln!("    Starting the machine. {keys}.");
    if std::io::stdout().is_terminal() {
        // The firmware clears the screen, but not the window's title.
        print!("\x1b]0;Partita - Ctrl-A X quits\x07");
    }
}

/// The VM to attach to: the first definition's, which has been read before, or the shipped one's.
fn first_vm(files: &[PathBuf]) -> String {
    files
        .first()
        .and_then(|file| DefinitionFile::read(file).ok())
        .and_then(|definition| definition.name().ok())
        .unwrap_or_else(|| "debian".into())
}
