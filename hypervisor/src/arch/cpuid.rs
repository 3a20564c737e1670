//! CPUID behind a trait, so that decisions made on it can be tested with recorded leaves.

/// What CPUID answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuidResult {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// CPUID.80000001:EDX: pages of 1 GiB.
pub const GIB_PAGES: u32 = 1 << 26;
/// Leaf 0x80000007, EDX: the TSC runs at one rate in all power states.
pub const INVARIANT_TSC: u32 = 1 << 8;

/// A source of CPUID leaves.
pub trait CpuidSource {
    /// The answer to CPUID with EAX = `leaf` and ECX = `subleaf`.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidResult;

    /// The leaf, or zeros if the processor's maximum says that it does not have it.
    fn cpuid_checked(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        if self.cpuid(leaf & 0xF000_0000, 0).eax >= leaf {
            self.cpuid(leaf, subleaf)
        } else {
            CpuidResult::default()
        }
    }
}

/// The processor that this code runs on.
#[derive(Clone, Copy, Debug)]
pub struct ThisProcessor;

impl CpuidSource for ThisProcessor {
    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        let r = core::arch::x86_64::__cpuid_count(leaf, subleaf);
        CpuidResult {
            eax: r.eax,
            ebx: r.ebx,
            ecx: r.ecx,
            edx: r.edx,
        }
    }
}

/// Leaves recorded on some machine: (leaf, subleaf, answer). A leaf not listed answers zeros.
#[cfg(test)]
pub struct Recorded(pub &'static [(u32, u32, [u32; 4])]);

#[cfg(test)]
impl CpuidSource for Recorded {
    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        let found = self.0.iter().find(|(l, s, _)| (*l, *s) == (leaf, subleaf));
        let [eax, ebx, ecx, edx] = found.map_or([0; 4], |(_, _, r)| *r);
        CpuidResult { eax, ebx, ecx, edx }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_beyond_the_maximum_reads_as_zeros() {
        let cpu = Recorded(&[
            (0, 0, [1, 0, 0, 0]),
            (1, 0, [7, 7, 7, 7]),
            (2, 0, [9, 9, 9, 9]),
        ]);
        assert_eq!(cpu.cpuid_checked(1, 0).eax, 7);
        assert_eq!(cpu.cpuid_checked(2, 0), CpuidResult::default());
        assert_eq!(cpu.cpuid_checked(0x8000_0001, 0), CpuidResult::default());
    }
}
