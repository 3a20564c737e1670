//! What a VP sees in CPUID: the processor's own answer, filtered by the partition's kind, and the Hyper-V leaves.
//!
//! A bit is passed only when the behaviour behind it is complete for a guest (see `features`). Source: guest sheet 2, root
//! sheet F.1; bit positions from the AMD and Intel manuals.

mod features;

use tlfs::{
    HvEnlightenmentFlags, HvFeatureFlags, HvPartitionPrivilegeMask,
    HvPartitionSyntheticProcessorFeatures,
};

use super::{MAX_VPS, Partition, Vp};
use crate::arch::cpuid::{CpuidResult, CpuidSource, INVARIANT_TSC, ThisProcessor};
use crate::arch::state::cr4;
use crate::hv::Hypervisor;
use features::*;

/// What decides the answer besides the leaf.
#[derive(Clone, Copy, Debug)]
pub struct CpuidContext {
    /// The root sees its machine; a child sees a list of known features.
    pub root: bool,
    /// Low and high half of the privilege mask: leaf 0x40000003 EAX and EBX.
    pub privileges: HvPartitionPrivilegeMask,
    /// EDX of that leaf: what there is besides.
    pub features: HvFeatureFlags,
    /// EAX of leaf 0x40000004: what is better done by calls.
    pub hints: HvEnlightenmentFlags,
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
    /// The guest has asked to see that its TSC is invariant.
    pub tsc_invariant: bool,
}

const HYPERVISOR_PRESENT: u32 = 1 << 31;
const X2APIC: u32 = 1 << 21;
const OSXSAVE: u32 = 1 << 27;
const TSC_DEADLINE: u32 = 1 << 24;
const MONITOR: u32 = 1 << 3;
const VMX: u32 = 1 << 5;
const SVM: u32 = 1 << 2;
const SKINIT: u32 = 1 << 12;
const APIC: u32 = 1 << 9;

/// EDX of leaf 0x40000003.
fn features_of(partition: &Partition) -> HvFeatureFlags {
    use HvPartitionSyntheticProcessorFeatures as F;
    // The frequency MSRs need this bit beside their privilege.
    let mut features = HvFeatureFlags::FREQUENCY_REGS_AVAILABLE;
    let timers = HvPartitionPrivilegeMask::ACCESS_SYNTHETIC_TIMER_MSRS;
    let direct = partition.features.contains(F::DIRECT_SYNTHETIC_TIMERS)
        && partition.privileges.contains(timers);
    let child = !partition.is_root();
    features.set(HvFeatureFlags::DIRECT_SYNTHETIC_TIMERS, direct && child);
    features.set(HvFeatureFlags::GUEST_CRASH_REGS_AVAILABLE, child);
    features
}

/// EAX of leaf 0x40000004.
fn hints_of(partition: &Partition) -> HvEnlightenmentFlags {
    use HvEnlightenmentFlags as H;
    use HvPartitionSyntheticProcessorFeatures as F;
    let mut hints = H::DEPRECATE_AUTO_EOI;
    if partition.is_root() {
        return hints;
    }
    // All of these calls have a form with sets.
    for (feature, hint) in [
        (
            F::TB_FLUSH_HYPERCALLS,
            H::USE_HYPERCALL_FOR_REMOTE_FLUSH | H::USE_EX_PROCESSOR_MASKS,
        ),
        (
            F::SYNTHETIC_CLUSTER_IPI,
            H::USE_SYNTHETIC_CLUSTER_IPI | H::USE_EX_PROCESSOR_MASKS,
        ),
        // An EOI by them may be none at all: `lazy_eoi`.
        (F::ACCESS_INTR_CTRL_REGS, H::USE_APIC_MSRS),
    ] {
        if partition.features.contains(feature) {
            hints |= hint;
        }
    }
    hints
}

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
        features: features_of(partition),
        hints: hints_of(partition),
        apic_id: vp.apic.id(),
        processors: partition.vp_count.max(1),
        osxsave: vp.hw.cr4() & cr4::OSXSAVE != 0,
        pke: vp.hw.cr4() & cr4::PKE != 0,
        xcr0_allowed: hypervisor.fpu_format.components,
        max_vps: MAX_VPS as u32,
        max_lps: hypervisor.marks.len() as u32,
        tsc_invariant: partition.msrs.tsc_invariant,
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
        0x8000_0000.. => extended_leaf(context, eax, machine(eax, ecx, host)),
        _ => basic_leaf(context, eax, ecx, machine(eax, ecx, host)),
    }
}

/// The processor's leaf, or zeros where it has none: Intel's answer with their highest leaf, AMD's with zeros.
fn machine(eax: u32, ecx: u32, host: impl Fn(u32, u32) -> CpuidResult) -> CpuidResult {
    if eax > host(eax & 0x8000_0000, 0).eax {
        CpuidResult::default()
    } else {
        host(eax, ecx)
    }
}

fn basic_leaf(context: &CpuidContext, eax: u32, ecx: u32, mut r: CpuidResult) -> CpuidResult {
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
        // Of the root: the same, and key locker, PCONFIG, last branch records, AMX.
        5 | 0xA | 0x12 | 0x14 | 0x19 | 0x1B..=0x1E => r = CpuidResult::default(),
        // ARAT: the APIC timer runs whatever the processor does (guest sheet 2.1).
        6 => {
            r = CpuidResult {
                eax: 1 << 2,
                ..CpuidResult::default()
            }
        }
        7 if context.root => root_leaf7(context, ecx, &mut r),
        7 => leaf7(context, ecx, &mut r),
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
        r.ecx &= !LEAF1_ECX_ROOT_HIDDEN;
        r.edx &= !LEAF1_EDX_ROOT_HIDDEN;
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
    r.ecx &= LEAF7_ECX_CHILD;
    os_pke(context, r);
    // FSRM, MD_CLEAR: harmless hints. Speculation controls need their MSRs.
    r.edx &= 1 << 4 | 1 << 10;
    if context.xcr0_allowed & 0xE0 == 0 {
        r.ebx &= !(1 << 16 | 1 << 17 | 1 << 21 | 1 << 28 | 1 << 30 | 1 << 31);
        r.ecx &= !(1 << 1 | 1 << 6 | 1 << 11 | 1 << 12 | 1 << 14);
        r.edx &= !(1 << 2 | 1 << 3);
    }
}

/// The root's features; subleaf 2 has those of its SPEC_CTRL.
fn root_leaf7(context: &CpuidContext, subleaf: u32, r: &mut CpuidResult) {
    match subleaf {
        0 => {
            r.ebx &= !LEAF7_EBX_ROOT_HIDDEN;
            r.ecx &= !LEAF7_ECX_ROOT_HIDDEN;
            r.edx &= !LEAF7_EDX_ROOT_HIDDEN;
            os_pke(context, r);
        }
        1 => {
            r.eax &= !LEAF7_1_EAX_ROOT_HIDDEN;
            r.ebx &= !LEAF7_1_EBX_ROOT_HIDDEN;
            r.ecx &= !LEAF7_1_ECX_ROOT_HIDDEN;
            r.edx &= !LEAF7_1_EDX_ROOT_HIDDEN;
        }
        _ => {}
    }
}

/// OSPKE follows the VP's own CR4, not that of the hypervisor.
fn os_pke(context: &CpuidContext, r: &mut CpuidResult) {
    r.ecx &= !(1 << 4);
    r.ecx |= u32::from(context.pke) << 4;
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
    if eax == 0x8000_0008 {
        // Without 5-level paging a linear address has 48 bits.
        let linear = (r.eax >> 8 & 0xFF).min(48);
        r.eax = r.eax & !0xFF00 | linear << 8;
    }
    match eax {
        0x8000_0000 => r.eax = r.eax.clamp(0x8000_0000, 0x8000_0021),
        0x8000_0001 => {
            r.ecx &= !(SVM | SKINIT);
            if !context.root {
                r.ecx &= EXT1_ECX_CHILD;
                r.edx &= EXT1_EDX_CHILD;
            }
        }
        // Invariant TSC is hidden until asked for by TSC_INVARIANT_CONTROL (guest sheet 2.1); the rest is power management.
        0x8000_0007 if !context.root => {
            let shown = u32::from(context.tsc_invariant) * INVARIANT_TSC;
            r = CpuidResult {
                edx: r.edx & shown,
                ..CpuidResult::default()
            }
        }
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
        tlfs::HV_CPUID_FUNCTION_MS_HV_FEATURES => r(
            context.privileges.cpuid_eax(),
            context.privileges.cpuid_ebx(),
            0,
            context.features.0,
        ),
        // Never spin to wait: EBX.
        tlfs::HV_CPUID_FUNCTION_MS_HV_ENLIGHTENMENT_INFORMATION => {
            r(context.hints.0, u32::MAX, 0, 0)
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
mod tests;
