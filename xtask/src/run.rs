//! `cargo xtask run`: boots the image interactively.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::accel::Wish;
use crate::image;
use crate::machine::{Machine, Serial};
use crate::setup::apt;
use crate::system::DefinitionFile;

/// Options of the command.
#[derive(Args, Debug)]
pub struct Run {
    /// A VM definition to put into the image (repeatable); without one, the Debian guest that is fetched and packed
    #[arg(long = "vm", value_name = "FILE")]
    vms: Vec<PathBuf>,
    /// Processors of the machine
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Memory of the machine
    #[arg(long, default_value = "2G")]
    memory: String,
    /// Wait for gdb on port 1234
    #[arg(long)]
    gdb: bool,
    /// What runs the machine's processors
    #[arg(long, value_enum, default_value = "auto")]
    accel: Wish,
}

/// Runs the command.
///
/// # Errors
/// If a part cannot be built or QEMU cannot run.
pub fn run(options: &Run) -> Result<()> {
    apt::require(&apt::EMULATOR)?;
    let accel = options.accel.decide()?;
    let image = image::default_image(&options.vms)?;
    let machine = Machine {
        cpus: options.cpus,
        memory: options.memory.clone(),
        gdb: options.gdb,
        ..Machine::default()
    };
    eprintln!(
        "    At the prompt \"partita>\" type: vm attach {}   (Ctrl-] d comes back, help lists the commands)",
        first_vm(&options.vms)
    );
    eprintln!("    Starting the machine. Ctrl-A X quits it, Ctrl-A H shows more keys.");
    if std::io::stdout().is_terminal() {
        // The firmware clears the screen, but not the window's title.
        print!("\x1b]0;Partita - Ctrl-A X quits\x07");
    }
    if options.gdb {
        eprintln!(
            "    It waits for: gdb {} -ex 'target remote :1234'",
            crate::paths::target("metal/x86_64-unknown-none/release/hypervisor").display()
        );
    }
    let status = machine
        .command(&image, accel, Serial::Terminal)
        .status()
        .context("QEMU cannot be started")?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => bail!("QEMU ended with status {code}"),
        None => bail!("QEMU ended: {status}"),
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
