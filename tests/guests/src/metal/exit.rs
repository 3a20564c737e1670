//! How a payload ends its machine.

use core::arch::asm;

use super::cpu::{outb, outl};

/// The debug exit port: of the board for a child whose definition has `debug_exit`, of QEMU for a root.
pub const PORT: u16 = 0xF4;
/// The keyboard controller's port for commands, and the command that pulses the reset line.
const KEYBOARD_COMMAND: u16 = 0x64;
const PULSE_RESET: u8 = 0xFE;
/// All held. QEMU ends with status 2 × value + 1: 33.
pub const SUCCESS: u32 = 0x10;
/// Something did not. QEMU ends with status 35.
pub const FAILURE: u32 = 0x11;

/// Ends the machine with this value. If there is no debug exit, says what it would have ended with, and halts.
pub fn with(value: u32) -> ! {
    outl(PORT, value);
    crate::println!("payload ends with {value:#x}");
    halt()
}

/// Ends the machine: all held.
pub fn success() -> ! {
    with(SUCCESS)
}

/// Ends the machine: something did not hold.
pub fn failure() -> ! {
    with(FAILURE)
}

/// Resets the machine by the keyboard controller.
pub fn reset() -> ! {
    outb(KEYBOARD_COMMAND, PULSE_RESET);
    halt()
}

/// Stops this processor for good.
pub fn halt() -> ! {
    loop {
        // SAFETY: nothing runs any more.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
