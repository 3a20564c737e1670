//! The probe on recorded processors, and on any.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::arch::cpuid::Recorded;
use crate::arch::vmx::controls::{ENTRY, EXIT, PIN, Wanted, entry, exit, primary_of, secondary_of};

mod recorded;

use recorded::{
    BOCHS, BOCHS_SAPPHIRE_RAPIDS, BOCHS_SKYLAKE_X, COFFEE_LAKE, Machine, PARTS_2024, PENRYN,
    PUBLISHED, SKYLAKE, TRUE_CONTROLS_2020,
};

/// MSRs of a machine. One that the machine does not have is a #GP there, and a panic here.
struct Msrs<'a>(&'a [(u32, u64)]);

impl MsrSource for Msrs<'_> {
    fn read(&self, msr: u32) -> u64 {
        match self.0.iter().find(|(number, _)| *number == msr) {
            Some((_, value)) => *value,
            None => panic!("MSR {msr:#x} does not exist here"),
        }
    }
}

fn probe_machine(machine: &Machine) -> Result<Capabilities, Refusal> {
    probe(&Recorded(machine.cpuid), &Msrs(machine.msrs))
}

/// The machine's probe with some MSRs changed.
fn with(machine: &Machine, changes: &[(u32, u64)]) -> Result<Capabilities, Refusal> {
    let mut values: BTreeMap<u32, u64> = machine.msrs.iter().copied().collect();
    values.extend(changes.iter().copied());
    let values: Vec<_> = values.into_iter().collect();
    probe(&Recorded(machine.cpuid), &Msrs(&values))
}

/// A recorded MSR of the machine without some bits.
fn without(machine: &Machine, msr: u32, bits: u64) -> Result<Capabilities, Refusal> {
    with(machine, &[(msr, Msrs(machine.msrs).read(msr) & !bits)])
}

/// A recorded MSR of the machine with more bits.
fn with_bits(machine: &Machine, msr: u32, bits: u64) -> Result<Capabilities, Refusal> {
    with(machine, &[(msr, Msrs(machine.msrs).read(msr) | bits)])
}

#[test]
fn a_processor_without_ept_is_refused_before_msrs_that_it_lacks_are_asked_for() {
    assert_eq!(probe_machine(&PENRYN), Err(Refusal::NoNestedPaging));
}

#[test]
fn recorded_processors_get_the_controls_of_the_manual_or_a_refusal() {
    for machine in PUBLISHED.into_iter().chain(BOCHS) {
        let signature = machine.cpuid[1].2[0];
        let probed = probe_machine(machine);
        assert_eq!(
            probed.map(|caps| caps.controls),
            machine.child,
            "{signature:#x}"
        );
        let (Ok(caps), Ok(child)) = (probed, machine.child) else {
            continue;
        };
        let root = caps.root_controls;
        assert_eq!(root.primary, child.primary & !primary::RDPMC_EXITING);
        let may_be_set = (Msrs(machine.msrs).read(0x48B) >> 32) as u32;
        let more = secondary::ENABLE_RDTSCP | secondary::ENABLE_USER_WAIT_AND_PAUSE;
        assert_eq!(
            root.secondary,
            child.secondary & !secondary::ENCLS_EXITING | (more & may_be_set),
            "{signature:#x}"
        );
        let rest = |c: Controls| (c.pin, c.exit, c.entry);
        assert_eq!(rest(root), rest(child));
    }
}

#[test]
fn a_user_can_wait_in_the_root_where_the_processor_can() {
    let waits = |machine| {
        probe_machine(machine).is_ok_and(|caps| {
            caps.root_controls.secondary & secondary::ENABLE_USER_WAIT_AND_PAUSE != 0
        })
    };
    let able = PUBLISHED.into_iter().chain(BOCHS).filter(|m| waits(m));
    let signatures: Vec<u32> = able.map(|m| m.cpuid[1].2[0]).collect();
    assert_eq!(signatures, [0x8_06F8]);
}

#[test]
fn what_is_published_of_recent_processors_would_do() {
    let changes: Vec<_> = (0x48D..)
        .zip(TRUE_CONTROLS_2020)
        .chain(PARTS_2024)
        .collect();
    let caps = with(&SKYLAKE, &changes).unwrap();
    let usual = probe_machine(&SKYLAKE).unwrap();
    assert_eq!(caps.controls, usual.controls);
    assert_eq!(caps.vmcs_revision, 0x13);
    assert!(caps.ept_1g && caps.ept_access_dirty && caps.invept_single);
}

#[test]
fn skylake_can_what_its_msrs_tell() {
    let caps = probe_machine(&SKYLAKE).unwrap();
    assert_eq!(caps.vmcs_revision, 4);
    assert_eq!(caps.preemption_timer_shift, Some(7));
    assert!(caps.ept_2m && caps.ept_1g && caps.ept_access_dirty && caps.ept_execute_only);
    assert!(caps.invept_single);
    assert!(caps.tsc_aux && !caps.spec_ctrl);
    let cr0 = Fixed {
        ones: 0x8000_0021,
        may: 0xFFFF_FFFF,
    };
    let cr4 = Fixed {
        ones: 0x2000,
        may: 0x0037_27FF,
    };
    assert_eq!((caps.cr0_fixed, caps.cr4_fixed), (cr0, cr4));
}

#[test]
fn children_execute_by_small_leaves_on_affected_processors_and_with_the_leaves_own_memory_type() {
    let small = |machine| !probe_machine(machine).unwrap().large_code;
    assert!(small(&SKYLAKE) && small(&COFFEE_LAKE) && small(&BOCHS_SKYLAKE_X));
    assert!(!small(&BOCHS_SAPPHIRE_RAPIDS));
    for (machine, large_code) in [(&SKYLAKE, false), (&BOCHS_SAPPHIRE_RAPIDS, true)] {
        let caps = probe_machine(machine).unwrap();
        let child = caps.ept_features(VcpuKind::Child, LeafSize::Size2M);
        let root = caps.ept_features(VcpuKind::Root, LeafSize::Size2M);
        assert_eq!((child.large_code, child.guest_pat), (large_code, false));
        assert_eq!((root.large_code, root.guest_pat), (true, true));
        assert_eq!(child.max_leaf, LeafSize::Size2M);
    }
}

#[test]
fn firmware_can_lock_virtualization_off_and_what_is_unlocked_is_for_us_to_lock() {
    assert_eq!(
        with(&SKYLAKE, &[(0x3A, 1)]),
        Err(Refusal::DisabledByFirmware)
    );
    // Only inside SMX operation, where the hypervisor is not.
    assert_eq!(
        with(&SKYLAKE, &[(0x3A, 3)]),
        Err(Refusal::DisabledByFirmware)
    );
    assert!(with(&SKYLAKE, &[(0x3A, 0)]).is_ok());
    assert!(with(&SKYLAKE, &[(0x3A, 4)]).is_ok());
}

#[test]
fn without_vmx_in_cpuid_no_msr_is_asked_for() {
    let cpu = Recorded(&[(0, 0, [1, 0, 0, 0]), (1, 0, [0, 0, !(1 << 5), 0])]);
    assert_eq!(probe(&cpu, &Msrs(&[])), Err(Refusal::NoVirtualization));
}

#[test]
fn the_plain_msrs_count_where_there_are_no_true_ones_and_impose_cr3_exits() {
    let plain = without(&SKYLAKE, 0x480, 1 << 55);
    assert_eq!(plain, Err(Lacks("optional CR3-load exiting")));
}

#[test]
fn each_lack_is_refused_by_its_name() {
    let high = |bit: u32| 1u64 << (bit + 32);
    let lacks = [
        (0x480, 1 << 51, Lacks("VMCS in write-back memory")),
        (0x48D, high(5), Lacks("virtual NMIs")),
        (0x48E, high(21), Lacks("TPR shadow")),
        (0x48E, high(28), Lacks("MSR bitmaps")),
        (0x48E, high(31), Refusal::NoNestedPaging),
        (0x48B, high(1), Refusal::NoNestedPaging),
        (0x48B, high(5), Refusal::NoTlbTags),
        (0x48B, high(7), Lacks("unrestricted guest mode")),
        (0x48C, 1 << 6, Lacks("EPT with four levels")),
        (0x48C, 1 << 14, Lacks("EPT tables in write-back memory")),
        (0x48C, 1 << 26, Lacks("all-context INVEPT")),
        (0x48C, 1 << 42, Lacks("all-context INVVPID")),
        (0x48F, high(9), Lacks("VM exits to 64-bit mode")),
        (0x490, high(15), Lacks("loading of the guest's IA32_EFER")),
    ];
    for (msr, bits, refusal) in lacks {
        assert_eq!(without(&SKYLAKE, msr, bits), Err(refusal), "{msr:#x}");
    }
}

#[test]
fn what_cannot_be_turned_off_is_refused_by_its_name() {
    let imposed = [
        (0x480, 1 << 48, Imposes("a VMCS below 4 GiB")),
        (0x48E, 1 << 9, Imposes("INVLPG exiting")),
        (0x48E, 1 << 15, Lacks("optional CR3-load exiting")),
        (
            0x48B,
            1 << 13,
            Imposes("unwanted secondary processor-based controls"),
        ),
        (
            0x48F,
            1 << 15,
            Imposes("acknowledgement of interrupts on VM exit"),
        ),
        (0x486, 1 << 18, Imposes("some bits of CR0 or CR4")),
        (0x488, 1 << 4, Imposes("some bits of CR0 or CR4")),
    ];
    for (msr, bits, refusal) in imposed {
        assert_eq!(with_bits(&SKYLAKE, msr, bits), Err(refusal), "{msr:#x}");
    }
}

#[test]
fn what_is_optional_is_left_off_where_it_is_not_there() {
    let optional = secondary::WBINVD_EXITING
        | secondary::PAUSE_LOOP_EXITING
        | secondary::ENABLE_INVPCID
        | secondary::ENABLE_RDTSCP
        | secondary::ENCLS_EXITING;
    let caps = without(&SKYLAKE, 0x48B, u64::from(optional) << 32).unwrap();
    assert_eq!(caps.controls.secondary, 0xA2);
    assert_eq!(caps.root_controls.secondary, 0xA2);
    let timer = u64::from(pin::ACTIVATE_PREEMPTION_TIMER) << 32;
    let caps = without(&SKYLAKE, 0x48D, timer).unwrap();
    assert_eq!(caps.preemption_timer_shift, None);
}

#[test]
fn a_refusal_says_what_is_missing_and_what_to_do() {
    let text = Lacks("unrestricted guest mode").to_string();
    assert!(text.contains("no unrestricted guest mode:") && text.contains("use a newer processor"));
    let text = Imposes("INVLPG exiting").to_string();
    assert!(text.contains("cannot do without INVLPG exiting:"));
}

/// All words that are adjusted.
fn words() -> [(Wanted, u32); 7] {
    [
        (PIN, 0x29),
        (primary_of(VcpuKind::Child), 0xB2A0_0C80),
        (primary_of(VcpuKind::Root), 0xB2A0_0480),
        (secondary_of(VcpuKind::Child), 0xA2),
        (secondary_of(VcpuKind::Root), 0xA2),
        (EXIT, exit::HOST_ADDRESS_SPACE_SIZE | 0x003C_0004),
        (ENTRY, entry::LOAD_EFER | entry::LOAD_PAT | 4),
    ]
}

/// A word with few bits.
fn sparse() -> impl Strategy<Value = u32> {
    prop::collection::vec(0u32..32, 0..4)
        .prop_map(|bits| bits.iter().fold(0, |all, b| all | 1 << b))
}

proptest! {
    /// Whatever the processor allows, the word respects it and has what is needed, or there is a refusal.
    #[test]
    fn an_adjusted_word_is_one_that_the_processor_allows(ones: u32, may: u32) {
        for (wanted, needed) in words() {
            if let Ok(word) = wanted.adjust(Allowed { ones, may }) {
                prop_assert_eq!(word & ones, ones);
                prop_assert_eq!(word & !may, 0);
                prop_assert_eq!(word & needed, needed);
            }
        }
    }

    /// The same near what processors offer, where a refusal is the exception.
    #[test]
    fn a_word_of_a_usual_processor_differs_in_what_it_imposes_only(
        imposed in sparse(), missing in sparse()
    ) {
        const USUAL: [u32; 7] = [0x16, 0x0400_6172, 0x0400_6172, 0, 0, 0x0003_6DFB, 0x11FB];
        for ((wanted, needed), usual) in words().into_iter().zip(USUAL) {
            let allowed = Allowed { ones: usual | imposed, may: !missing };
            match wanted.adjust(allowed) {
                Ok(word) => {
                    prop_assert_eq!(word & allowed.ones, allowed.ones);
                    prop_assert_eq!(word & !allowed.may, 0);
                    prop_assert_eq!(word & needed, needed);
                }
                Err(Imposes(name) | Lacks(name)) => {
                    prop_assert!(imposed & !usual != 0 || missing != 0);
                    prop_assert!(!name.is_empty());
                }
                Err(Refusal::NoNestedPaging) => prop_assert_ne!(missing & 1 << 1, 0),
                Err(Refusal::NoTlbTags) => prop_assert_ne!(missing & 1 << 5, 0),
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
