//! The xAPIC page: the registers at [`PAGE`](super::PAGE), 32 bits each, 16 bytes apart.
//!
//! Accesses are of 32 bits and aligned to 16 bytes, as the manual wants them; the caller refuses all others. Reserved bits
//! are dropped, and so are writes of read-only registers. A register that there is not reads as zero, and is an error for the
//! ESR.

use super::local::error;
use super::{Effect, LocalApic, Register};
use crate::time::RefTime;

/// Arbitration priority and remote read, in steps of 16 bytes: registers that processors no longer have, and that are no
/// error.
const OBSOLETE: [u32; 2] = [0x09, 0x0C];

impl LocalApic {
    /// The registers are reached by the page: xAPIC mode.
    pub const fn is_in_page(&self) -> bool {
        self.base.is_enabled() && !self.base.is_x2apic()
    }

    /// Reads the register at `index` times 16 of the page. `now` is asked by what depends on the time.
    pub fn read_page(&mut self, index: u32, now: impl FnOnce() -> RefTime) -> u32 {
        match Register::in_page(index) {
            Some(register) => self.read_register(register, now),
            None => {
                self.note_absent(index);
                0
            }
        }
    }

    /// Writes the register at `index` times 16 of the page.
    pub fn write_page(&mut self, index: u32, value: u32, now: RefTime) -> Effect {
        let Some(register) = Register::in_page(index) else {
            self.note_absent(index);
            return Effect::None;
        };
        match register {
            Register::InterruptCommand => {
                self.icr = self.icr.with_command(value);
                self.send(self.icr)
            }
            Register::InterruptDestination => {
                self.icr = self.icr.with_xapic_destination((value >> 24) as u8);
                Effect::None
            }
            Register::LogicalDestination => {
                self.logical = self.logical.with_register(value);
                Effect::Readdressed
            }
            Register::DestinationFormat => {
                self.logical = self.logical.with_format(value);
                Effect::Readdressed
            }
            register => self.write_register(register, value, now),
        }
    }

    fn note_absent(&mut self, index: u32) {
        if !OBSOLETE.contains(&index) {
            self.note_error(error::ILLEGAL_REGISTER);
        }
    }
}
