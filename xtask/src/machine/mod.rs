//! The emulated machine, in QEMU or in Bochs.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Deserialize;

use crate::setup::apt;
use crate::setup::bochs::Bochs;

pub mod accel;
pub mod bochs;
mod processor;
pub mod qemu;
pub mod terminal;

pub use processor::{Processor, Vendor};

/// A machine to boot an image on.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Machine {
    /// Processors.
    pub cpus: u32,
    /// RAM, as QEMU writes it: `512M`, `4G`.
    pub memory: String,
    /// QEMU's `-cpu` for the software CPU.
    pub cpu: String,
    /// One instruction is one nanosecond of virtual time, on one processor: repeatable counts. Bochs always counts
    /// instructions; with this, a nanosecond each.
    pub icount: bool,
    /// With `icount`: an instruction takes 2 to this power nanoseconds instead, for what goes on for seconds. Bochs wants 4 at most.
    pub icount_shift: u8,
    /// Further arguments for QEMU.
    pub extra: Vec<String>,
    /// Whether there is a second serial port, for the counters.
    pub counters: bool,
    /// Waits for gdb on port 1234 before the first instruction.
    #[serde(skip)]
    pub gdb: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            cpus: 1,
            memory: "2G".into(),
            cpu: qemu::USUAL_CPU.into(),
            icount: false,
            icount_shift: 0,
            extra: Vec::new(),
            counters: false,
            gdb: false,
        }
    }
}

/// How a machine comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// A payload root has found all in order.
    Success,
    /// The machine is switched off.
    Off,
    /// The machine is reset.
    Reset,
}

/// How an emulator shows a machine's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It ends with this status.
    Status(i32),
    /// It ends, and says this as its reason.
    Words(&'static str),
    /// It goes on, but this is on the serial line.
    Text(&'static str),
}

/// A running emulator, and the far end of the machine's first serial port.
pub struct Link {
    /// The emulator.
    pub emulator: Child,
    /// What is typed.
    pub input: Box<dyn Write + Send>,
    /// What is printed.
    pub output: Box<dyn Read + Send>,
    /// Where the emulator says why it ended, if it does.
    pub words: Option<PathBuf>,
    /// The file that the machine's second serial port writes to, if there is one.
    pub counters: Option<PathBuf>,
}

/// The emulators, as far as they are there.
#[derive(Debug, Default)]
pub struct Emulators {
    bochs: Option<Bochs>,
}

impl Emulators {
    /// Sets up what these processors need.
    ///
    /// # Errors
    /// If an emulator cannot be had.
    pub fn find<'a>(processors: impl IntoIterator<Item = &'a Processor>) -> Result<Self> {
        let mut emulators = Self::default();
        for processor in processors {
            match processor {
                Processor::Qemu => apt::require(&apt::EMULATOR)?,
                Processor::Bochs(model) => {
                    if emulators.bochs.is_none() {
                        emulators.bochs = Some(Bochs::find()?);
                    }
                    emulators.bochs()?.require(model)?;
                }
            }
        }
        Ok(emulators)
    }

    /// Bochs.
    ///
    /// # Errors
    /// If no processor of [`Self::find`] was one of Bochs'.
    pub fn bochs(&self) -> Result<&Bochs> {
        self.bochs.as_ref().context("Bochs was not set up")
    }

    /// Boots `image` for a program at the far end of the serial line. A reset or a crash does not start the machine over
    /// where the emulator can help it. What the emulator itself says goes to `log`; Bochs keeps its files in `folder`, and a
    /// second serial port writes to a file named like it, with `.counters` behind.
    ///
    /// # Errors
    /// If the emulator does not start.
    pub fn boot(
        &self,
        machine: &Machine,
        processor: &Processor,
        image: &Path,
        folder: &Path,
        log: File,
    ) -> Result<Link> {
        let counters = machine.counters.then(|| {
            let mut name = folder.as_os_str().to_owned();
            name.push(".counters");
            PathBuf::from(name)
        });
        let counters = counters.as_deref();
        match processor {
            Processor::Qemu => qemu::boot(machine, image, log, counters),
            Processor::Bochs(model) => {
                let pace = bochs::Pace::Free;
                bochs::boot(machine, model, self.bochs()?, image, folder, pace, counters)
            }
        }
    }
}
