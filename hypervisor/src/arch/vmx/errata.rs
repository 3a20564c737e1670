//! Mistakes of processors that a guest could use against everybody.

use crate::arch::cpuid::CpuidSource;
use crate::arch::msr::MsrSource;

/// IA32_ARCH_CAPABILITIES.
const MSR_ARCH_CAPABILITIES: u32 = 0x10A;
/// IA32_ARCH_CAPABILITIES: a change of a page's size in mid-air is no machine check.
const PSCHANGE_MC_NO: u64 = 1 << 6;

/// Models of family 6 from Nehalem to Comet Lake: all that have EPT and the mistake below, as Intel lists them. The Atoms
/// never had it, and what came later says so.
const MULTIHIT_MODELS: [u32; 27] = [
    0x1A, 0x1E, 0x1F, 0x2E, // Nehalem
    0x25, 0x2C, 0x2F, // Westmere
    0x2A, 0x2D, // Sandy Bridge
    0x3A, 0x3E, // Ivy Bridge
    0x3C, 0x3F, 0x45, 0x46, // Haswell
    0x3D, 0x47, 0x4F, 0x56, // Broadwell
    0x4E, 0x5E, 0x55, // Skylake, Cascade Lake, Cooper Lake
    0x8E, 0x9E, // Kaby Lake to Whiskey Lake
    0x66, // Cannon Lake
    0xA5, 0xA6, // Comet Lake
];

/// A guest can stop the machine with a machine check: it changes the size of a page that it executes, of which the
/// instruction TLB has a large and a small translation then (INTEL-SA-00210, CVE-2018-12207). Where its second-level
/// translation of code is by 4 KiB there never is a large one.
pub fn itlb_multihit(cpu: &impl CpuidSource, msrs: &impl MsrSource) -> bool {
    let signature = cpu.cpuid_checked(1, 0).eax;
    let (family, model) = (signature >> 8 & 0xF, signature >> 4 & 0xF);
    let model = model | signature >> 12 & 0xF0;
    if family != 6 || !MULTIHIT_MODELS.contains(&model) {
        return false;
    }
    // Later steppings of some of these models are mended. The MSR exists where CPUID says so.
    let tells = cpu.cpuid_checked(7, 0).edx & 1 << 29 != 0;
    !(tells && msrs.read(MSR_ARCH_CAPABILITIES) & PSCHANGE_MC_NO != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::cpuid::CpuidResult;

    /// A processor that has CPUID leaf 7 with these values.
    struct Cpu {
        signature: u32,
        leaf7_edx: u32,
    }

    impl CpuidSource for Cpu {
        fn cpuid(&self, leaf: u32, _: u32) -> CpuidResult {
            let (eax, edx) = match leaf {
                0 => (7, 0),
                1 => (self.signature, 0),
                7 => (0, self.leaf7_edx),
                _ => (0, 0),
            };
            CpuidResult {
                eax,
                edx,
                ..CpuidResult::default()
            }
        }
    }

    const SKYLAKE_X: u32 = 0x5_0654;
    const CASCADE_LAKE: u32 = 0x5_0657;
    const COMET_LAKE: u32 = 0xA_0652;
    const GOLDMONT: u32 = 0x5_06C9;
    const SAPPHIRE_RAPIDS: u32 = 0x8_06F8;
    const ICE_LAKE: u32 = 0x7_06E5;
    const PENTIUM_4: u32 = 0xF43;
    const ARCH_CAPABILITIES: u32 = 1 << 29;

    fn no_msr(msr: u32) -> u64 {
        panic!("MSR {msr:#x} does not exist here")
    }

    #[test]
    fn models_of_the_list_have_it_and_others_do_not() {
        let has = |signature| {
            let cpu = Cpu {
                signature,
                leaf7_edx: 0,
            };
            itlb_multihit(&cpu, &no_msr)
        };
        assert!(has(SKYLAKE_X) && has(CASCADE_LAKE) && has(COMET_LAKE));
        assert!(!has(GOLDMONT) && !has(SAPPHIRE_RAPIDS) && !has(ICE_LAKE) && !has(PENTIUM_4));
    }

    #[test]
    fn a_model_of_the_list_may_say_that_it_is_mended() {
        let cpu = Cpu {
            signature: CASCADE_LAKE,
            leaf7_edx: ARCH_CAPABILITIES,
        };
        let msr = |value: u64| {
            move |msr: u32| {
                assert_eq!(msr, 0x10A);
                value
            }
        };
        assert!(itlb_multihit(&cpu, &msr(!PSCHANGE_MC_NO)));
        assert!(!itlb_multihit(&cpu, &msr(PSCHANGE_MC_NO)));
    }
}
