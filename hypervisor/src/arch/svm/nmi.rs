//! NMI masking: from delivery until the handler's IRET has executed, which this processor does not track for us.
//!
//! IRET is intercepted while an NMI is in progress. That exit comes before it executes; so either the next exit with
//! another RIP tells that it has, or, if someone waits, it is single-stepped.

use crate::arch::state::{dr6, rflags};

use super::bits::clean;
use super::vcpu::{NmiState, Vcpu};

impl Vcpu {
    /// NMIs wait for an IRET.
    pub fn nmi_masked(&self) -> bool {
        match self.nmi {
            NmiState::Open => false,
            NmiState::Masked => true,
            NmiState::Returning { rip, .. } => rip == self.save().rip,
        }
    }

    /// Masks NMIs until an IRET, or unmasks them.
    pub fn set_nmi_masked(&mut self, masked: bool) {
        if masked != self.nmi_masked() {
            self.end_step();
            self.nmi = if masked {
                NmiState::Masked
            } else {
                NmiState::Open
            };
            self.refresh_intercepts();
        }
    }

    /// Asks for [`crate::arch::exit::Exit::NmiWindow`] as soon as the IRET of the NMI in progress, or the instruction in
    /// an interrupt shadow, has executed. While another event waits for delivery, the next exit of any kind must do.
    pub fn set_nmi_window(&mut self, wanted: bool) {
        self.nmi_window = wanted;
        let steps_already = matches!(
            self.nmi,
            NmiState::Returning {
                stepping: Some(_),
                ..
            }
        );
        let one_instruction =
            self.nmi != NmiState::Masked && (self.nmi_masked() || self.interrupt_shadow());
        if wanted && !steps_already && one_instruction && self.pending_event().is_none() {
            self.begin_step(self.nmi_masked());
        }
    }

    /// The IRET exit: it has not executed yet.
    pub(super) fn iret_begins(&mut self) {
        self.begin_step(true);
    }

    /// The instruction at RIP is the last with NMIs masked; it is single-stepped if someone waits for that.
    fn begin_step(&mut self, iret: bool) {
        let save = self.save();
        let (rip, own_tf) = (save.rip, save.rflags & rflags::TF != 0);
        let stepping = self.nmi_window.then_some(own_tf);
        if stepping.is_some() {
            self.save_mut().rflags |= rflags::TF;
        }
        self.nmi = NmiState::Returning {
            rip,
            iret,
            stepping,
        };
        self.refresh_intercepts();
    }

    /// After each exit: whether the IRET that was awaited has executed.
    pub(super) fn observe_iret(&mut self) {
        if let NmiState::Returning {
            rip,
            stepping: None,
            ..
        } = self.nmi
            && self.save().rip != rip
        {
            self.nmi = NmiState::Open;
        }
    }

    /// A #DB exit: whether it was the end of the step over IRET, and no one else's.
    pub(super) fn debug_exit_ends_step(&mut self) -> bool {
        let NmiState::Returning {
            stepping: Some(own_tf),
            ..
        } = self.nmi
        else {
            return false;
        };
        self.end_step();
        self.nmi = NmiState::Open;
        self.refresh_intercepts();
        if own_tf {
            return false;
        }
        let others = self.save().dr6 & 0xF;
        self.save_mut().dr6 &= !dr6::BS;
        self.dirty(clean::DR);
        others == 0
    }

    /// Gives the guest its own TF back if the step over IRET had set it.
    fn end_step(&mut self) {
        if let NmiState::Returning {
            stepping: Some(false),
            rip,
            iret,
        } = self.nmi
        {
            // Once IRET has executed, RFLAGS is what it popped, and TF in it is the guest's.
            if self.save().rip == rip || !iret {
                self.save_mut().rflags &= !rflags::TF;
            }
        }
    }
}
