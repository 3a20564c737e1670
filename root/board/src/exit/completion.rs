//! What the end of an instruction brings about beside the registers of the page.
//!
//! It ends the interrupt shadow of the instruction before it and RFLAGS.RF, and if RFLAGS.TF was set when it began, a debug
//! trap follows (processor manuals: volume 2 of AMD's, 8.5 and 13.1).

use tlfs::{HvX64InterceptMessageHeader, HvX64InterruptStateRegister};

use super::{Bus, Guest, Machine};

/// RFLAGS.TF.
const TRAP: u64 = 1 << 8;
/// RFLAGS.RF.
const RESUME: u64 = 1 << 16;

/// What is to be done with a VP whose instruction has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// InterruptState becomes this.
    pub interrupt_state: Option<HvX64InterruptStateRegister>,
    /// A debug trap follows: #DB with DR6.BS.
    pub single_step: bool,
}

impl Completion {
    /// What most instructions bring about.
    pub(super) const NOTHING: Self = Self {
        interrupt_state: None,
        single_step: false,
    };
}

/// Whether the end of this instruction brings anything about.
#[inline]
pub(super) fn matters(header: &HvX64InterceptMessageHeader) -> bool {
    header.rflags & (TRAP | RESUME) != 0 || header.execution_state.interrupt_shadow()
}

/// Whether each instruction, and each element of a repeated one, is followed by a trap.
pub(super) fn single_stepped(header: &HvX64InterceptMessageHeader) -> bool {
    header.rflags & TRAP != 0
}

impl<B: Bus, G: Guest> Machine<'_, '_, B, G> {
    /// The instruction has ended.
    #[cold]
    pub(super) fn complete(&mut self, header: &HvX64InterceptMessageHeader) {
        let flags = self.registers.flags();
        if flags & RESUME != 0 {
            self.registers.set_flags(flags & !RESUME);
        }
        self.end_part(header);
    }

    /// The instruction has ended, or a part of a repeated one, after which interrupts and traps come as well.
    pub(super) fn end_part(&mut self, header: &HvX64InterceptMessageHeader) {
        let state = self.registers.interrupt_state();
        self.completion = Completion {
            interrupt_state: state
                .interrupt_shadow()
                .then(|| state.with_interrupt_shadow(false)),
            single_step: single_stepped(header),
        };
    }
}
