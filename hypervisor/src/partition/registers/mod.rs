//! Registers of a VP as HvCallGetVpRegisters and HvCallSetVpRegisters see them (root sheet D.3).

use tlfs::HvX64InterruptStateRegister;

use crate::arch::VpHw;

/// InterruptState.
pub fn interrupt_state(hw: &VpHw) -> HvX64InterruptStateRegister {
    HvX64InterruptStateRegister::new()
        .with_interrupt_shadow(hw.interrupt_shadow())
        .with_nmi_masked(hw.nmi_masked())
}
