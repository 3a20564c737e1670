//! A VM's board: which one the definition names, and how it is started.

use tlfs::HvMessage;

use crate::acpi::{self, AcpiError};
use crate::device::ioapic::InterruptRequest;
use crate::device::testdev::TestDevice;
use crate::direct::DirectBoard;
use crate::exit::{self, Guest, Outcome, Registers};
use crate::layout::{RESET_PORT, RESET_VALUE, RESET_VECTOR};
use crate::load::{self, BootImage, InitialState, LoadError, Protocol};
use crate::ram::{GuestRam, OutOfRam};

/// The boards there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BoardKind {
    /// No firmware, hardware-reduced ACPI; the kernel is started directly.
    Direct,
}

/// What a board is made with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Reference time at power-on, in 100 ns.
    pub now: u64,
    /// What a clock on the wall shows then: seconds since 1970, UTC.
    pub wall_clock: i64,
    /// Whether a write to port 0xF4 ends the run, as test payloads do it. Else there is nothing at that port.
    pub debug_exit: bool,
    /// With the device of the Hyper-V guest tests ([`TestDevice`]), the number of VPs that it may name. Else there is nothing at
    /// its port.
    ///
    /// [`TestDevice`]: crate::device::testdev::TestDevice
    pub hyperv_testdev: Option<u32>,
}

/// What a VM is started with.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The kernel file.
    pub kernel: &'a [u8],
    /// The initial RAM disk.
    pub initrd: Option<&'a [u8]>,
    /// The kernel's command line.
    pub command_line: &'a str,
    /// Seed for the guest's random number generator.
    pub rng_seed: Option<[u8; 32]>,
    /// Number of virtual processors.
    pub processors: u32,
    /// Whether the guest is told of VMBus.
    pub vmbus: bool,
    /// The boot protocol to use; `None`: the one that the kernel itself offers.
    pub protocol: Option<Protocol>,
}

/// Why a VM cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The kernel cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The board cannot be described.
    #[error(transparent)]
    Acpi(#[from] AcpiError),
    /// Guest memory ends too early.
    #[error(transparent)]
    OutOfRam(#[from] OutOfRam),
}

/// A board with its devices.
#[derive(Debug)]
#[non_exhaustive]
pub enum Board {
    /// See [`BoardKind::Direct`].
    Direct(DirectBoard),
}

impl Board {
    /// A board after power-on.
    pub fn new(kind: BoardKind, options: &Options) -> Self {
        match kind {
            BoardKind::Direct => Self::Direct(DirectBoard::new(options)),
        }
    }

    /// Fills guest memory, which must be all zero, and says how VP 0 starts.
    pub fn start<R: GuestRam>(
        &self,
        ram: &mut R,
        start: &Start<'_>,
    ) -> Result<InitialState, StartError> {
        match self {
            Self::Direct(_) => start_direct(ram, start),
        }
    }

    /// Handles an intercept of the VP that `registers` belong to. Afterwards there may be interrupts to assert
    /// ([`Self::take_interrupt`]) and output to print ([`Self::due_output`]).
    #[inline]
    pub fn handle<G: Guest>(
        &mut self,
        message: &HvMessage,
        registers: &mut Registers<'_>,
        guest: &mut G,
        now: u64,
    ) -> Outcome {
        match self {
            Self::Direct(board) => exit::handle(board, message, registers, guest, now),
        }
    }

    /// Lets time pass: what is due at `now` happens.
    pub fn tick(&mut self, now: u64) {
        match self {
            Self::Direct(board) => board.tick(now),
        }
    }

    /// Reference time at which [`Self::tick`] and [`Self::due_output`] have work.
    pub fn next_deadline(&self) -> Option<u64> {
        match self {
            Self::Direct(board) => board.next_deadline(),
        }
    }

    /// The next interrupt to assert.
    #[inline]
    pub fn take_interrupt(&mut self) -> Option<InterruptRequest> {
        match self {
            Self::Direct(board) => board.take_interrupt(),
        }
    }

    /// The device of the Hyper-V guest tests, if there is one: it may have SINTs to raise.
    #[inline]
    pub fn testdev(&mut self) -> Option<&mut TestDevice> {
        match self {
            Self::Direct(board) => board.testdev(),
        }
    }

    /// Typed input for the guest; returns how many bytes were taken.
    pub fn console_input(&mut self, bytes: &[u8], now: u64) -> usize {
        match self {
            Self::Direct(board) => board.console_input(bytes, now),
        }
    }

    /// How many bytes of input there is room for.
    pub fn console_input_room(&self) -> usize {
        match self {
            Self::Direct(board) => board.console_input_room(),
        }
    }

    /// Hands console output that is due at `now` to `print`; `u64::MAX` means everything.
    #[inline]
    pub fn due_output(&mut self, now: u64, print: impl FnOnce(&[u8])) {
        let console = match self {
            Self::Direct(board) => board.console(),
        };
        if console.deadline().is_some_and(|deadline| deadline <= now) {
            print(console.bytes());
            console.clear();
        }
    }
}

fn start_direct<R: GuestRam>(ram: &mut R, start: &Start<'_>) -> Result<InitialState, StartError> {
    let rsdp = acpi::write_tables(ram, start.processors, start.vmbus)?;
    write_reset_vector(ram)?;
    let image = BootImage {
        kernel: start.kernel,
        initrd: start.initrd,
        command_line: start.command_line,
        rng_seed: start.rng_seed,
        rsdp,
        protocol: start.protocol,
    };
    Ok(load::load(ram, &image)?)
}

/// What a kernel finds that reboots through real-mode firmware: real-mode code that uses the reset register.
fn write_reset_vector<R: GuestRam>(ram: &mut R) -> Result<(), OutOfRam> {
    let [low, high] = RESET_PORT.to_le_bytes();
    #[rustfmt::skip]
    let code = [
        0xBA, low, high,    // mov dx, RESET_PORT
        0xB0, RESET_VALUE,  // mov al, RESET_VALUE
        0xEE,               // out dx, al
        0xF4,               // hlt
        0xEB, 0xFD,         // jmp to the hlt
    ];
    ram.write(RESET_VECTOR, &code)
}
