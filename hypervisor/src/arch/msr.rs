//! MSR access, and the MSRs that no vendor's entries and exits switch.

use super::Counters;

/// IA32_SPEC_CTRL.
const MSR_SPEC_CTRL: u32 = 0x48;
/// IA32_PAT.
pub const MSR_PAT: u32 = 0x277;
/// EFER.
pub const MSR_EFER: u32 = 0xC000_0080;
/// TSC_AUX.
const MSR_TSC_AUX: u32 = 0xC000_0103;

/// Reads an MSR.
///
/// # Safety
/// Ring 0, and the MSR must exist.
pub(super) unsafe fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller vouches for ring 0 and the MSR; RDMSR touches no memory.
    unsafe {
        core::arch::asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes an MSR.
///
/// # Safety
/// Ring 0; the MSR must exist, take the value, and the new value must not break what running code relies on.
pub(super) unsafe fn wrmsr(msr: u32, value: u64) {
    // SAFETY: the caller vouches for all of it; no `nomem`, since an MSR may change what memory means.
    unsafe {
        core::arch::asm!(
            "wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags)
        );
    }
}

/// A source of MSRs, so that decisions made on them can be tested with recorded ones.
pub trait MsrSource {
    /// The MSR's value. Asked only for MSRs that exist, as far as CPUID and other MSRs tell.
    fn read(&self, msr: u32) -> u64;
}

/// The processor that this code runs on.
#[derive(Clone, Copy, Debug)]
pub struct ThisProcessorMsrs(());

impl ThisProcessorMsrs {
    /// # Safety
    /// Ring 0, and the value must only be given to code that asks for MSRs that exist.
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

impl MsrSource for ThisProcessorMsrs {
    fn read(&self, msr: u32) -> u64 {
        // SAFETY: who made the value vouches for ring 0, and that only MSRs are asked for that exist.
        unsafe { rdmsr(msr) }
    }
}

#[cfg(test)]
impl<F: Fn(u32) -> u64> MsrSource for F {
    fn read(&self, msr: u32) -> u64 {
        self(msr)
    }
}

/// TSC_AUX and SPEC_CTRL of one processor, where it has them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SwitchedMsrs {
    /// What TSC_AUX holds now: some VP's value, since the host does not use it.
    tsc_aux: Option<u64>,
    /// What the host wants in SPEC_CTRL.
    host_spec_ctrl: Option<u64>,
}

impl SwitchedMsrs {
    /// Looks at what the processor has in them.
    ///
    /// # Safety
    /// Ring 0, and the MSRs exist as told.
    pub unsafe fn enable(tsc_aux: bool, spec_ctrl: bool) -> Self {
        Self {
            tsc_aux: tsc_aux.then(|| {
                // SAFETY: the MSR exists, as the caller says, and the hypervisor does not use it.
                unsafe { wrmsr(MSR_TSC_AUX, 0) };
                0
            }),
            // SAFETY: the MSR exists, as the caller says.
            host_spec_ctrl: spec_ctrl.then(|| unsafe { rdmsr(MSR_SPEC_CTRL) }),
        }
    }

    /// Before an entry: the VP's values. Setters keep TSC_AUX to 32 bits and SPEC_CTRL to bits that exist.
    ///
    /// # Safety
    /// This processor's, ring 0.
    #[inline(always)]
    pub unsafe fn enter(&mut self, tsc_aux: u64, spec_ctrl: u64, counters: &mut Counters) {
        if let Some(current) = &mut self.tsc_aux
            && *current != tsc_aux
        {
            *current = tsc_aux;
            counters.msr_writes += 1;
            // SAFETY: the MSR exists; the value has 32 bits; the host does not use it.
            unsafe { wrmsr(MSR_TSC_AUX, tsc_aux & 0xFFFF_FFFF) };
        }
        // SAFETY: the value was validated when the guest wrote it.
        unsafe { self.write_spec_ctrl(spec_ctrl, spec_ctrl, counters) };
    }

    /// After an exit: the host's values again, where it has some.
    ///
    /// # Safety
    /// As [`enter`](Self::enter), with the same `spec_ctrl`.
    #[inline(always)]
    pub unsafe fn leave(&self, spec_ctrl: u64, counters: &mut Counters) {
        if let Some(host) = self.host_spec_ctrl {
            // SAFETY: this is the value the host found there.
            unsafe { self.write_spec_ctrl(spec_ctrl, host, counters) };
        }
    }

    #[inline(always)]
    unsafe fn write_spec_ctrl(&self, guest: u64, value: u64, counters: &mut Counters) {
        if self.host_spec_ctrl.is_some_and(|host| host != guest) {
            counters.msr_writes += 1;
            // SAFETY: the MSR exists, and the caller vouches for the value.
            unsafe { wrmsr(MSR_SPEC_CTRL, value) };
        }
    }
}
