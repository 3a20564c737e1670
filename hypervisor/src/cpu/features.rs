//! Control register features of the host itself.

use x86_64::registers::model_specific::Msr;

use crate::arch::cpuid::CpuidSource;
use crate::arch::msr::MSR_PAT;
use crate::mem::format::Pat;

/// CR4 bits to set, in addition to what long mode needs: what makes mistakes of ours faults, and machine checks exceptions
/// rather than a shutdown without a word.
pub fn cr4_hardening(cpu: &impl CpuidSource) -> u64 {
    const MCE: u64 = 1 << 6;
    const UMIP: u64 = 1 << 11;
    const SMEP: u64 = 1 << 20;
    const SMAP: u64 = 1 << 21;
    let leaf1 = cpu.cpuid_checked(1, 0);
    let leaf7 = cpu.cpuid_checked(7, 0);
    let mut bits = 0;
    for (present, bit) in [
        (leaf1.edx & 1 << 7 != 0, MCE),
        (leaf7.ebx & 1 << 7 != 0, SMEP),
        (leaf7.ebx & 1 << 20 != 0, SMAP),
        (leaf7.ecx & 1 << 2 != 0, UMIP),
    ] {
        if present {
            bits |= bit;
        }
    }
    bits
}

/// Turns on write protection for ring 0 and the given CR4 bits, and sets the PAT that all tables of ours are written for.
///
/// # Safety
/// Ring 0; `cr4` must come from [`cr4_hardening`] on this processor; the running code must not write to read-only pages.
pub unsafe fn harden(cr4: u64) {
    const CR0_WP: u64 = 1 << 16;
    // SAFETY: bits that the processor has; the caller vouches for the pages.
    unsafe {
        core::arch::asm!(
            "mov {t}, cr0", "or {t}, {wp}", "mov cr0, {t}",
            "mov {t}, cr4", "or {t}, {cr4}", "mov cr4, {t}",
            t = out(reg) _, wp = in(reg) CR0_WP, cr4 = in(reg) cr4, options(nostack)
        );
        // Entries that were in use keep their meaning (`Pat::PARTITA`), so no cache needs a flush.
        Msr::new(MSR_PAT).write(Pat::PARTITA.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::cpuid::Recorded;

    #[test]
    fn only_what_the_processor_has_is_turned_on() {
        let none = Recorded(&[(0, 0, [7, 0, 0, 0]), (7, 0, [0; 4])]);
        assert_eq!(cr4_hardening(&none), 0);
        let all = Recorded(&[
            (0, 0, [7, 0, 0, 0]),
            (1, 0, [0, 0, 0, 1 << 7]),
            (7, 0, [0, 1 << 7 | 1 << 20, 1 << 2, 0]),
        ]);
        assert_eq!(cr4_hardening(&all), 1 << 6 | 1 << 11 | 1 << 20 | 1 << 21);
    }
}
