//! MSRs of a child that always read the same and ignore what is written.
//!
//! A stock kernel accesses some MSRs of its vendor's processors without a look at CPUID, and a few of them where a #GP is
//! its end or a warning. They have no state behind them that a VM could use. What a kernel accesses so that it survives a
//! #GP (feature control, platform information, the power and thermal registers) stays absent.

/// One such MSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConstantMsr {
    /// Its number.
    pub number: u32,
    /// What it reads.
    pub value: u64,
}

const fn msr(number: u32, value: u64) -> ConstantMsr {
    ConstantMsr { number, value }
}

/// Revision of the microcode: unknown. Linux writes zero, executes CPUID, and reads.
const MICROCODE_REVISION: ConstantMsr = msr(0x8B, 0);
/// IA32_MISC_ENABLE: fast string operations.
const FAST_STRINGS: u64 = 1 << 0;
/// IA32_MISC_ENABLE: neither branch trace store nor precise event sampling.
const NO_DEBUG_STORE: u64 = 1 << 11 | 1 << 12;

/// Of AMD's.
pub static AMD: [ConstantMsr; 14] = [
    MICROCODE_REVISION,
    msr(0x1A0, FAST_STRINGS),
    // The four performance counters that each AMD processor has, whatever CPUID says, with their event selects: they count
    // nothing. kvm-unit-tests write zero; a kernel that tries them sees that they do not keep what it writes.
    msr(0xC001_0000, 0),
    msr(0xC001_0001, 0),
    msr(0xC001_0002, 0),
    msr(0xC001_0003, 0),
    msr(0xC001_0004, 0),
    msr(0xC001_0005, 0),
    msr(0xC001_0006, 0),
    msr(0xC001_0007, 0),
    // SYSCFG.
    msr(0xC001_0010, 0),
    // HWCR: the TSC counts at the P0 frequency.
    msr(0xC001_0015, 1 << 24),
    // Interrupt pending message: no interrupt, and so no C1E, for which Linux looks on processors that had it.
    msr(0xC001_0055, 0),
    // DE_CFG: LFENCE waits for what is before it.
    msr(0xC001_1029, 1 << 1),
];

/// Of Intel's.
pub static INTEL: [ConstantMsr; 3] = [
    MICROCODE_REVISION,
    // IA32_PLATFORM_ID: which microcode would fit; there is no update for a VM.
    msr(0x17, 0),
    // IA32_MISC_ENABLE: the start of each of Linux' processors reads it before there is an IDT, and wants NX (bit 34 clear).
    msr(0x1A0, FAST_STRINGS | NO_DEBUG_STORE),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_msr_has_two_values_or_another_owner() {
        for list in [&AMD[..], &INTEL[..]] {
            for (at, entry) in list.iter().enumerate() {
                let twice = list[..at].iter().any(|other| other.number == entry.number);
                assert!(!twice, "{:#x}", entry.number);
                let register = crate::arch::state::SystemRegister::from_msr(entry.number);
                assert_eq!(register, None, "{:#x} is a register", entry.number);
            }
        }
    }

    #[test]
    fn a_kernel_may_rely_on_nx_and_long_leaves() {
        let [.., misc] = INTEL;
        let (limit_cpuid, no_execute_off) = (1 << 22, 1 << 34);
        assert_eq!(misc.value & (limit_cpuid | no_execute_off), 0);
        assert_ne!(misc.value & FAST_STRINGS, 0);
    }

    #[test]
    fn msrs_of_one_vendor_are_not_the_others() {
        let amd = |entry: &ConstantMsr| entry.number >> 16 == 0xC001;
        assert_eq!(AMD.iter().filter(|entry| amd(entry)).count(), 12);
        assert!(!INTEL.iter().any(amd));
    }
}
