//! What partitions see of Intel's processors.

use super::recorded::{SAPPHIRE_RAPIDS, SKYLAKE};
use super::*;
use crate::arch::cpuid::Recorded;
use crate::partition::validate;

const BOTH: [&Recorded; 2] = [&SKYLAKE, &SAPPHIRE_RAPIDS];

fn root() -> CpuidContext {
    CpuidContext {
        root: true,
        xcr0_allowed: 0xE7,
        ..child()
    }
}

fn seen(context: &CpuidContext, machine: &Recorded, eax: u32, ecx: u32) -> CpuidResult {
    cpuid(context, eax, ecx, |eax, ecx| machine.cpuid(eax, ecx))
}

/// As Intel answers: a leaf above the highest one reads as that one.
fn beyond(machine: &Recorded, eax: u32, ecx: u32) -> CpuidResult {
    let highest = machine.cpuid(0, 0).eax;
    match eax {
        0x8000_0000.. => machine.cpuid(eax, ecx),
        _ => machine.cpuid(eax.min(highest), ecx),
    }
}

#[test]
fn a_kernel_finds_the_vendor_the_model_and_the_name() {
    for machine in BOTH {
        for context in [child(), root()] {
            for leaf in [0x8000_0002, 0x8000_0003, 0x8000_0004] {
                assert_eq!(seen(&context, machine, leaf, 0), machine.cpuid(leaf, 0));
            }
            let vendor = seen(&context, machine, 0, 0);
            assert_eq!(vendor.ebx.to_le_bytes(), *b"Genu");
            assert!(vendor.eax <= 0x1F);
            let signature = seen(&context, machine, 1, 0).eax;
            assert_eq!(signature, machine.cpuid(1, 0).eax);
        }
    }
}

#[test]
fn a_leaf_above_the_highest_is_zero_and_not_the_highest() {
    for context in [child(), root()] {
        for leaf in [0x17, 0x18, 0x1A, 0x1E, 0x21, 0x23, 0x100] {
            let answer = cpuid(&context, leaf, 0, |eax, ecx| beyond(&SKYLAKE, eax, ecx));
            assert_eq!(answer, CpuidResult::default(), "{leaf:#x}");
        }
    }
}

#[test]
fn a_child_has_one_core_a_vp_whatever_the_machine_has() {
    for machine in BOTH {
        let caches = seen(&child(), machine, 4, 3);
        assert_eq!(caches.eax >> 14, 0, "threads that share it, and cores");
        assert_eq!(caches.ebx, machine.cpuid(4, 3).ebx, "the cache itself");
        assert_eq!(seen(&child(), machine, 2, 0), machine.cpuid(2, 0));
        let cores = seen(&child(), machine, 0xB, 1);
        assert_eq!((cores.ebx, cores.edx), (4, 3));
    }
}

#[test]
fn a_child_has_neither_counters_nor_trace_nor_thermal_nor_turbo() {
    for machine in BOTH {
        for leaf in [5, 0xA, 0xF, 0x10, 0x12, 0x14, 0x15, 0x16, 0x19, 0x1C, 0x1D] {
            for subleaf in 0..3 {
                let answer = seen(&child(), machine, leaf, subleaf);
                assert_eq!(answer, CpuidResult::default(), "{leaf:#x}");
            }
        }
        // ARAT alone: neither HWP nor the energy bias nor APERF and MPERF.
        let power = seen(&child(), machine, 6, 0);
        assert_eq!((power.eax, power.ecx), (1 << 2, 0));
        let one = seen(&child(), machine, 1, 0);
        // Debug store, SMX, EIST, TM2, PDCM; DS, ACPI, TM, PBE: each has MSRs that a kernel would use.
        assert_eq!(
            one.ecx & (1 << 2 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 15),
            0
        );
        assert_eq!(one.edx & (1 << 21 | 1 << 22 | 1 << 29 | 1 << 31), 0);
    }
}

#[test]
fn a_child_has_what_needs_no_more_than_its_registers() {
    let one = seen(&child(), &SKYLAKE, 1, 0);
    // PCID, x2APIC, AES, XSAVE, AVX, RDRAND.
    let wanted = 1 << 17 | 1 << 21 | 1 << 25 | 1 << 26 | 1 << 28 | 1 << 30;
    assert_eq!(one.ecx & wanted, wanted);
    let seven = seen(&child(), &SKYLAKE, 7, 0);
    // FSGSBASE, AVX2, SMEP, INVPCID, SMAP; no FPU segments.
    let wanted = 1 | 1 << 5 | 1 << 7 | 1 << 10 | 1 << 13 | 1 << 20;
    assert_eq!(seven.ebx & wanted, wanted);
    // TSC_ADJUST, SGX, transactions, MPX, trace.
    assert_eq!(
        seven.ebx & (1 << 1 | 1 << 2 | 1 << 4 | 1 << 11 | 1 << 14 | 1 << 25),
        0
    );
    let extended = seen(&child(), &SKYLAKE, 0x8000_0001, 0);
    // SYSCALL, NX, 1 GiB pages, long mode, but no RDTSCP.
    assert_eq!(extended.edx, 0x2410_0800);
    let cr4 = validate::cr4_allowed(&one, &seven);
    assert_eq!(cr4, 0x0037_07FF, "FSGSBASE, PCID, OSXSAVE, SMEP, SMAP");
    assert_eq!(validate::efer_allowed(&extended), 0xD01);
}

#[test]
fn speculation_controls_are_the_roots_alone() {
    let bits = 0xFC00_0000_u32;
    let child = seen(&child(), &SAPPHIRE_RAPIDS, 7, 0);
    assert_eq!(child.edx & bits, 0);
    let root = seen(&root(), &SAPPHIRE_RAPIDS, 7, 0);
    assert_eq!(root.edx & bits, SAPPHIRE_RAPIDS.cpuid(7, 0).edx & bits);
    let more = seen(&self::root(), &SAPPHIRE_RAPIDS, 7, 2);
    assert_eq!(more, SAPPHIRE_RAPIDS.cpuid(7, 2));
    // IBRS, STIBP, SSBD; predictors, return stack, PSFD, branch history.
    assert_eq!(validate::spec_ctrl_allowed(&SAPPHIRE_RAPIDS), 0x04FF);
    assert_eq!(validate::spec_ctrl_allowed(&SKYLAKE), 0);
}

#[test]
fn the_root_sees_nothing_whose_registers_are_not_kept_for_it() {
    let seven = seen(&root(), &SAPPHIRE_RAPIDS, 7, 0);
    let machine = SAPPHIRE_RAPIDS.cpuid(7, 0);
    assert_ne!(machine.ecx & 1 << 16, 0, "the machine has LA57");
    // Shadow stacks, LA57, supervisor keys; user interrupts, indirect branch tracking, AMX.
    assert_eq!(seven.ecx & (1 << 7 | 1 << 16 | 1 << 31), 0);
    assert_eq!(
        seven.edx & (1 << 5 | 1 << 20 | 1 << 22 | 1 << 24 | 1 << 25),
        0
    );
    assert_eq!(seven.ebx & (1 << 1 | 1 << 2 | 1 << 14 | 1 << 25), 0);
    assert_ne!(seven.ecx & (1 << 5 | 1 << 22), 0, "user waits and RDPID");
    let addresses = seen(&root(), &SAPPHIRE_RAPIDS, 0x8000_0008, 0).eax;
    assert_eq!(addresses, 0x3028);
    let one = seen(&root(), &SKYLAKE, 1, 0);
    assert_eq!(
        one.ecx & (1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 24),
        0
    );
    assert_eq!(one.edx & 1 << 21, 0, "debug store");
    for leaf in [0xA, 0x12, 0x14, 0x19, 0x1D] {
        assert_eq!(seen(&root(), &SKYLAKE, leaf, 0), CpuidResult::default());
    }
    let states = seen(&root(), &SAPPHIRE_RAPIDS, 0xD, 0);
    assert_eq!((states.eax, states.edx), (0xE7, 0));
}

#[test]
fn protection_keys_of_the_operating_system_follow_the_vp() {
    for context in [child(), root()] {
        let seven = |pke| {
            let context = CpuidContext { pke, ..context };
            seen(&context, &SAPPHIRE_RAPIDS, 7, 0).ecx & 0x18
        };
        assert_eq!((seven(false), seven(true)), (0x08, 0x18));
    }
}
