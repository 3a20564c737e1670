use super::*;

mod intel;
mod recorded;

fn child() -> CpuidContext {
    CpuidContext {
        root: false,
        privileges: HvPartitionPrivilegeMask(0x862),
        features: HvFeatureFlags::FREQUENCY_REGS_AVAILABLE,
        hints: HvEnlightenmentFlags::DEPRECATE_AUTO_EOI,
        apic_id: 3,
        processors: 4,
        osxsave: false,
        pke: false,
        xcr0_allowed: 7,
        max_vps: 16,
        max_lps: 1,
        tsc_invariant: false,
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
}

#[test]
fn a_child_sees_that_its_tsc_is_invariant_once_it_has_asked_for_it() {
    let edx = |tsc_invariant, host: fn(u32, u32) -> CpuidResult| {
        let context = CpuidContext {
            tsc_invariant,
            ..child()
        };
        cpuid(&context, 0x8000_0007, 0, host).edx
    };
    assert_eq!(edx(false, all_ones), 0);
    assert_eq!(edx(true, all_ones), INVARIANT_TSC);
    assert_eq!(edx(true, |_, _| CpuidResult::default()), 0);
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
