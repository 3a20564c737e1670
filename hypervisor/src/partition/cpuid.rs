//! What a VP sees in CPUID: the processor's own answer, filtered by the partition's kind, and the Hyper-V leaves.
//!
//! A bit is passed only when the behaviour behind it is complete for a guest: lists say what may pass, so that a
//! feature of a future processor stays hidden until somebody has thought about it. Source: guest sheet 2, root sheet
//! F.1; bit positions from the AMD and Intel manuals.

use tlfs::{HvEnlightenmentFlags, HvFeatureFlags, HvPartitionPrivilegeMask};

use super::{MAX_VPS, Partition, Vp};
use crate::arch::cpuid::{CpuidResult, CpuidSource, ThisProcessor};
use crate::hv::Hypervisor;

/// What decides the answer besides the leaf.
#[derive(Clone, Copy, Debug)]
pub struct CpuidContext {
    /// The root sees its machine; a child sees a list of known features.
    pub root: bool,
    /// Low and high half of the privilege mask: leaf 0x40000003 EAX and EBX.
    pub privileges: HvPartitionPrivilegeMask,
    /// x2APIC id of the VP.
    pub apic_id: u32,
    /// Number of VPs of the partition.
    pub processors: u32,
    /// CR4.OSXSAVE of the VP.
    pub osxsave: bool,
    /// CR4.PKE of the VP.
    pub pke: bool,
    /// XSAVE components that VPs may enable.
    pub xcr0_allowed: u64,
    /// Highest number of VPs a partition can have.
    pub max_vps: u32,
    /// Number of processors of the machine.
    pub max_lps: u32,
}

// Leaf 1 ECX: SSE3, PCLMULQDQ, SSSE3, FMA, CMPXCHG16B, PCID, SSE4.1, SSE4.2, x2APIC, MOVBE, POPCNT, AES, XSAVE, OSXSAVE,
// AVX, F16C, RDRAND. Not: MONITOR, TSC-deadline (no such timer mode), VMX.
const LEAF1_ECX_CHILD: u32 = 1
    | 1 << 1
    | 1 << 9
    | 1 << 12
    | 1 << 13
    | 1 << 17
    | 1 << 19
    | 1 << 20
    | 1 << 21
    | 1 << 22
    | 1 << 23
    | 1 << 25
    | 1 << 26
    | 1 << 27
    | 1 << 28
    | 1 << 29
    | 1 << 30;
// Leaf 1 EDX: FPU, VME, DE, PSE, TSC, MSR, PAE, CX8, APIC, SEP, PGE, CMOV, PAT, PSE36, CLFSH, MMX, FXSR, SSE, SSE2, HTT.
// Not: MCE and MCA (no banks are virtualized), MTRR (guest sheet 12.6: hiding is the simplest honest state).
const LEAF1_EDX_CHILD: u32 = 0x1 << 0
    | 1 << 1
    | 1 << 2
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 8
    | 1 << 9
    | 1 << 11
    | 1 << 13
    | 1 << 15
    | 1 << 16
    | 1 << 17
    | 1 << 19
    | 1 << 23
    | 1 << 24
    | 1 << 25
    | 1 << 26
    | 1 << 28;
// Leaf 7 EBX: FSGSBASE, BMI1, AVX2, SMEP, BMI2, ERMS, INVPCID, AVX512F, AVX512DQ, RDSEED, ADX, SMAP, AVX512IFMA, CLFLUSHOPT,
// CLWB, AVX512CD, SHA, AVX512BW, AVX512VL. Not: TSC_ADJUST (its MSR), MPX, RDT, PT.
const LEAF7_EBX_CHILD: u32 = 1
    | 1 << 3
    | 1 << 5
    | 1 << 7
    | 1 << 8
    | 1 << 9
    | 1 << 10
    | 1 << 16
    | 1 << 17
    | 1 << 18
    | 1 << 19
    | 1 << 20
    | 1 << 21
    | 1 << 23
    | 1 << 24
    | 1 << 28
    | 1 << 29
    | 1 << 30
    | 1 << 31;
// Leaf 7 ECX: AVX512VBMI, UMIP, PKU, OSPKE, AVX512VBMI2, GFNI, VAES, VPCLMULQDQ, AVX512VNNI, AVX512BITALG, VPOPCNTDQ. Not: LA57, RDPID
// (TSC_AUX is not switched for a child that has no RDTSCP), CET.
const LEAF7_ECX_CHILD: u32 = 1 << 1
    | 1 << 2
    | 1 << 3
    | 1 << 4
    | 1 << 6
    | 1 << 8
    | 1 << 9
    | 1 << 10
    | 1 << 11
    | 1 << 12
    | 1 << 14;
// Leaf 0x80000001 ECX: LAHF, ABM, SSE4A, misaligned SSE, 3DNow prefetch, XOP, FMA4, TBM. Not: SVM, OSVW, IBS, SKINIT, WDT, performance counters,
// topology extensions, MONITORX.
const EXT1_ECX_CHILD: u32 = 1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 16 | 1 << 21;
// Leaf 0x80000001 EDX: what leaf 1 EDX has, SYSCALL, NX, MMX extensions, fast FXSAVE, 1 GiB pages, long mode, 3DNow. Not: RDTSCP.
const EXT1_EDX_CHILD: u32 = (LEAF1_EDX_CHILD & 0x0183_F3FF)
    | 1 << 11
    | 1 << 20
    | 1 << 22
    | 1 << 25
    | 1 << 26
    | 1 << 29
    | 1 << 30
    | 1 << 31;

const HYPERVISOR_PRESENT: u32 = 1 << 31;
const X2APIC: u32 = 1 << 21;
const OSXSAVE: u32 = 1 << 27;
const TSC_DEADLINE: u32 = 1 << 24;
const MONITOR: u32 = 1 << 3;
const VMX: u32 = 1 << 5;
const SVM: u32 = 1 << 2;
const SKINIT: u32 = 1 << 12;
const APIC: u32 = 1 << 9;

/// CR4.OSXSAVE.
pub(super) const CR4_OSXSAVE: u64 = 1 << 18;
/// CR4.PKE.
pub(super) const CR4_PKE: u64 = 1 << 22;

/// What a VP reads by the hypervisor's own policy, without what its parent has registered.
pub fn own(
    hypervisor: &Hypervisor,
    partition: &Partition,
    vp: &Vp,
    eax: u32,
    ecx: u32,
) -> CpuidResult {
    let context = CpuidContext {
        root: partition.is_root(),
        privileges: partition.privileges,
        apic_id: vp.apic.id(),
        processors: partition.vp_count.max(1),
        osxsave: vp.hw.cr4() & CR4_OSXSAVE != 0,
        pke: vp.hw.cr4() & CR4_PKE != 0,
        xcr0_allowed: hypervisor.fpu_format.components,
        max_vps: MAX_VPS as u32,
        max_lps: hypervisor.marks.len() as u32,
    };
    cpuid(&context, eax, ecx, |eax, ecx| ThisProcessor.cpuid(eax, ecx))
}

/// What a VP reads: the policy, and what the parent has registered.
pub fn answer(
    hypervisor: &Hypervisor,
    partition: &Partition,
    vp: &Vp,
    eax: u32,
    ecx: u32,
) -> CpuidResult {
    let own = own(hypervisor, partition, vp, eax, ecx);
    partition.results.apply_cpuid(eax, ecx, own)
}

/// The answer to CPUID `eax`, `ecx`. `host` asks the processor.
pub fn cpuid(
    context: &CpuidContext,
    eax: u32,
    ecx: u32,
    host: impl Fn(u32, u32) -> CpuidResult,
) -> CpuidResult {
    match eax {
        tlfs::HV_CPUID_FUNCTION_FIRST..=tlfs::HV_CPUID_FUNCTION_LAST => {
            hypervisor_leaf(context, eax)
        }
        0x8000_0000.. => extended_leaf(context, eax, host(eax, ecx)),
        _ => basic_leaf(context, eax, ecx, &host),
    }
}

fn basic_leaf(
    context: &CpuidContext,
    eax: u32,
    ecx: u32,
    host: &impl Fn(u32, u32) -> CpuidResult,
) -> CpuidResult {
    let mut r = host(eax, ecx);
    match eax {
        0 => r.eax = r.eax.min(0x1F),
        1 => leaf1(context, &mut r),
        // Caches: one thread shares them, one core in the package, so that they agree with leaf 0xB.
        4 if !context.root => r.eax &= 0x3FF,
        // MONITOR/MWAIT, performance counters, processor trace, SGX, hybrid and topology of the machine: not a child's.
        5 | 0xA | 0xF | 0x10 | 0x12 | 0x14 | 0x17..=0x1A | 0x1C..
            if !context.root && eax != 0x1F =>
        {
            r = CpuidResult::default();
        }
        5 | 0xA | 0x12 | 0x14 => r = CpuidResult::default(),
        // ARAT: the APIC timer runs whatever the processor does (guest sheet 2.1).
        6 => {
            r = CpuidResult {
                eax: 1 << 2,
                ..CpuidResult::default()
            }
        }
        7 if !context.root => leaf7(context, ecx, &mut r),
        0xB | 0x1F if !context.root => r = topology(context, ecx),
        0xD => leaf_d(context, ecx, &mut r),
        // The TSC's ratio and the clock: the frequency MSRs tell them.
        0x15 | 0x16 if !context.root => r = CpuidResult::default(),
        _ => {}
    }
    r
}

fn leaf1(context: &CpuidContext, r: &mut CpuidResult) {
    if !context.root {
        r.ecx &= LEAF1_ECX_CHILD;
        r.edx &= LEAF1_EDX_CHILD;
        // CLFLUSH size stays; logical processors of the package and the 8-bit APIC id are the VP's.
        let htt = u32::from(context.processors > 1) << 28;
        r.edx = (r.edx & !(1 << 28)) | htt;
        r.ebx = (r.ebx & 0xFF00) | (context.processors.min(255) << 16);
    } else {
        r.ebx &= 0x00FF_FFFF;
    }
    r.ebx = (r.ebx & 0x00FF_FFFF) | (context.apic_id.min(255) << 24);
    r.ecx &= !(OSXSAVE | MONITOR | VMX | TSC_DEADLINE);
    r.ecx |= HYPERVISOR_PRESENT | X2APIC | if context.osxsave { OSXSAVE } else { 0 };
    r.edx |= APIC;
}

fn leaf7(context: &CpuidContext, subleaf: u32, r: &mut CpuidResult) {
    if subleaf != 0 {
        *r = CpuidResult::default();
        return;
    }
    r.eax = 0;
    r.ebx &= LEAF7_EBX_CHILD;
    r.ecx &= LEAF7_ECX_CHILD & !(1 << 4);
    if context.pke {
        r.ecx |= 1 << 4;
    }
    // FSRM, MD_CLEAR: harmless hints. Speculation controls need their MSRs.
    r.edx &= 1 << 4 | 1 << 10;
    if context.xcr0_allowed & 0xE0 == 0 {
        r.ebx &= !(1 << 16 | 1 << 17 | 1 << 21 | 1 << 28 | 1 << 30 | 1 << 31);
        r.ecx &= !(1 << 1 | 1 << 6 | 1 << 11 | 1 << 12 | 1 << 14);
        r.edx &= !(1 << 2 | 1 << 3);
    }
}

/// One package, one core a VP, no threads: level 0 threads, level 1 cores.
fn topology(context: &CpuidContext, subleaf: u32) -> CpuidResult {
    let bits = u32::BITS - context.processors.saturating_sub(1).leading_zeros();
    let (eax, ebx, kind) = match subleaf {
        0 => (0, 1, 1),
        1 => (bits, context.processors, 2),
        _ => (0, 0, 0),
    };
    CpuidResult {
        eax,
        ebx,
        ecx: subleaf & 0xFF | kind << 8,
        edx: context.apic_id,
    }
}

fn leaf_d(context: &CpuidContext, subleaf: u32, r: &mut CpuidResult) {
    match subleaf {
        0 => {
            r.eax &= context.xcr0_allowed as u32;
            r.edx &= (context.xcr0_allowed >> 32) as u32;
            // ECX is the size of everything the processor could save: more than any guest may enable.
            r.ecx = r.ecx.min(4096);
        }
        // XSAVEOPT, XSAVEC, XGETBV with ECX = 1. No supervisor components, so no XSAVES.
        1 => {
            r.eax &= 0b111;
            r.ecx = 0;
            r.edx = 0;
        }
        2..=62 if context.xcr0_allowed >> subleaf & 1 == 1 => {}
        _ => *r = CpuidResult::default(),
    }
}

fn extended_leaf(context: &CpuidContext, eax: u32, mut r: CpuidResult) -> CpuidResult {
    match eax {
        0x8000_0000 => r.eax = r.eax.clamp(0x8000_0000, 0x8000_0021),
        0x8000_0001 => {
            r.ecx &= !(SVM | SKINIT);
            if !context.root {
                r.ecx &= EXT1_ECX_CHILD;
                r.edx &= EXT1_EDX_CHILD;
            }
        }
        // Invariant TSC is hidden until asked for through MSR 0x40000118 (guest sheet 2.1); the rest is power management.
        0x8000_0007 if !context.root => r = CpuidResult::default(),
        0x8000_0008 if !context.root => {
            // Address widths; CLZERO and XSAVE of error pointers; number of threads is in leaf 0xB.
            r.ebx &= 1 | 1 << 2;
            r.ecx = 0;
            r.edx = 0;
        }
        // SVM, nested features, memory encryption.
        0x8000_000A | 0x8000_001F => r = CpuidResult::default(),
        0x8000_0019 | 0x8000_001A | 0x8000_001D if !context.root => r = CpuidResult::default(),
        0x8000_001B..=0x8000_001E if !context.root => r = CpuidResult::default(),
        // Null selector clears base, LFENCE serializing: facts that a guest may rely on.
        0x8000_0021 if !context.root => {
            r = CpuidResult {
                eax: r.eax & (1 << 2 | 1 << 6),
                ..CpuidResult::default()
            }
        }
        0x8000_0009..=0x8000_0018 | 0x8000_0020 | 0x8000_0022.. if !context.root => {
            r = CpuidResult::default();
        }
        _ => {}
    }
    r
}

/// The Hyper-V leaves (guest sheet 2.2-2.6; for the root, root sheet F.1). Leaves above the highest are zero, in
/// particular 0x40000082, which Linux reads without a range check (guest sheet trap 2).
fn hypervisor_leaf(context: &CpuidContext, eax: u32) -> CpuidResult {
    let r = |eax, ebx, ecx, edx| CpuidResult { eax, ebx, ecx, edx };
    let [vendor_b, vendor_c, vendor_d] = tlfs::HV_CPUID_VENDOR;
    match eax {
        tlfs::HV_CPUID_FUNCTION_HV_VENDOR_AND_MAX_FUNCTION => {
            r(MAX_HYPERVISOR_LEAF, vendor_b, vendor_c, vendor_d)
        }
        tlfs::HV_CPUID_FUNCTION_HV_INTERFACE => r(tlfs::HV_CPUID_INTERFACE_HV1, 0, 0, 0),
        tlfs::HV_CPUID_FUNCTION_MS_HV_VERSION => r(1, 0, 0, 0),
        // The frequency MSRs need this bit beside their privilege.
        tlfs::HV_CPUID_FUNCTION_MS_HV_FEATURES => r(
            context.privileges.cpuid_eax(),
            context.privileges.cpuid_ebx(),
            0,
            HvFeatureFlags::FREQUENCY_REGS_AVAILABLE.0,
        ),
        // Never spin to wait: EBX.
        tlfs::HV_CPUID_FUNCTION_MS_HV_ENLIGHTENMENT_INFORMATION => {
            r(HvEnlightenmentFlags::DEPRECATE_AUTO_EOI.0, u32::MAX, 0, 0)
        }
        tlfs::HV_CPUID_FUNCTION_MS_HV_IMPLEMENTATION_LIMITS => {
            r(context.max_vps, context.max_lps, 0, 0)
        }
        _ => CpuidResult::default(),
    }
}

/// Highest leaf that is not zero.
const MAX_HYPERVISOR_LEAF: u32 = tlfs::HV_CPUID_FUNCTION_MS_HV_IMPLEMENTATION_LIMITS;

#[cfg(test)]
mod tests {
    use super::*;

    fn child() -> CpuidContext {
        CpuidContext {
            root: false,
            privileges: HvPartitionPrivilegeMask(0x862),
            apic_id: 3,
            processors: 4,
            osxsave: false,
            pke: false,
            xcr0_allowed: 7,
            max_vps: 16,
            max_lps: 1,
        }
    }

    fn all_ones(_: u32, _: u32) -> CpuidResult {
        CpuidResult {
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
        }
    }

    #[test]
    fn a_child_never_sees_virtualization_or_features_without_state_behind_them() {
        let r = cpuid(&child(), 1, 0, all_ones);
        assert_eq!(r.ecx & (VMX | MONITOR | TSC_DEADLINE | OSXSAVE), 0);
        assert_eq!(
            r.ecx & (HYPERVISOR_PRESENT | X2APIC),
            HYPERVISOR_PRESENT | X2APIC
        );
        assert_eq!(r.edx & (1 << 7 | 1 << 12 | 1 << 14), 0, "MCE, MTRR, MCA");
        assert_eq!(cpuid(&child(), 0x8000_0001, 0, all_ones).ecx & SVM, 0);
        assert_eq!(
            cpuid(&child(), 0x8000_000A, 0, all_ones),
            CpuidResult::default()
        );
        assert_eq!(
            cpuid(&child(), 0x8000_0007, 0, all_ones).edx & 1 << 8,
            0,
            "invariant TSC"
        );
    }

    #[test]
    fn the_vendor_leaf_is_the_one_that_linux_compares() {
        let r = cpuid(&child(), 0x4000_0000, 0, all_ones);
        assert_eq!(r.ebx.to_le_bytes(), *b"Micr");
        assert_eq!(r.ecx.to_le_bytes(), *b"osof");
        assert_eq!(r.edx.to_le_bytes(), *b"t Hv");
        assert_eq!(r.eax, 0x4000_0005);
    }

    #[test]
    fn leaves_above_the_highest_hypervisor_leaf_are_zero() {
        for eax in [0x4000_0006, 0x4000_000A, 0x4000_0082, 0x4000_FFFF] {
            assert_eq!(cpuid(&child(), eax, 0, all_ones), CpuidResult::default());
        }
    }

    #[test]
    fn topology_tells_the_vps_own_apic_id_and_the_number_of_cores() {
        let r = cpuid(&child(), 0xB, 1, all_ones);
        assert_eq!((r.eax, r.ebx, r.ecx, r.edx), (2, 4, 0x201, 3));
        assert_eq!(cpuid(&child(), 0xB, 2, all_ones).ecx, 2);
    }

    #[test]
    fn avx512_is_hidden_when_its_state_may_not_be_enabled() {
        let r = cpuid(&child(), 7, 0, all_ones);
        assert_eq!(r.ebx & 1 << 16, 0);
        let wide = CpuidContext {
            xcr0_allowed: 0xE7,
            ..child()
        };
        assert_ne!(cpuid(&wide, 7, 0, all_ones).ebx & 1 << 16, 0);
    }

    #[test]
    fn any_leaf_has_an_answer_for_root_and_child() {
        for root in [false, true] {
            for eax in (0..0x40u32)
                .chain(0x4000_0000..0x4000_0100)
                .chain(0x8000_0000..0x8000_0030)
            {
                for ecx in 0..70 {
                    let context = CpuidContext { root, ..child() };
                    let _ = cpuid(&context, eax, ecx, all_ones);
                }
            }
        }
    }
}
