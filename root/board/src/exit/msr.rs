//! MSRs whose writes the worker asks to see: the report of a crash, and the reset (guest sheet 4.4, 4.12). Reading them is the
//! hypervisor's affair.

use tlfs::{
    HV_X64_MSR_CRASH_CTL, HV_X64_MSR_RESET, HvCrashCtl, HvInterceptAccessType,
    HvX64MsrInterceptMessage,
};

use super::{Bus, Exception, Guest, Handled, Machine, Outcome, ResetReason};

/// RSP.
const RSP: usize = 4;
/// RESET: the partition is reset.
const RESET_NOW: u64 = 1;

/// A guest's report of its crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestCrash {
    /// What the guest wrote: there is a text if it says so.
    pub control: HvCrashCtl,
    /// RIP of the write.
    pub rip: u64,
    /// RSP at the write.
    pub rsp: u64,
}

impl<B: Bus, G: Guest> Machine<'_, '_, B, G> {
    /// Carries out a write and goes on behind it. An MSR that nobody has asked for does not exist.
    pub(super) fn msr(&mut self, intercept: &HvX64MsrInterceptMessage) -> Handled {
        let header = &intercept.header;
        let value = intercept.rdx << 32 | intercept.rax & 0xFFFF_FFFF;
        let write = header.intercept_access_type == HvInterceptAccessType::WRITE;
        match intercept.msr_number {
            HV_X64_MSR_CRASH_CTL if write => {
                let control = HvCrashCtl::from_bits(value);
                if control.crash_notify() {
                    self.guest.crashed(&GuestCrash {
                        control,
                        rip: header.rip,
                        rsp: self.registers.get(RSP),
                    });
                }
            }
            HV_X64_MSR_RESET if write && value & RESET_NOW != 0 => {
                return Err(Outcome::Reset(ResetReason::Msr));
            }
            HV_X64_MSR_RESET if write => {}
            _ => return Err(Outcome::Inject(Exception::GENERAL_PROTECTION)),
        }
        self.advance(header, usize::from(header.instruction_length()))
    }
}
