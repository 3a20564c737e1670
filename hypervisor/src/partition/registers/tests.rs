//! Registers, behaviour by behaviour.

use proptest::prelude::*;
use tlfs::{
    HvPartitionCreationFlags, HvPartitionId, HvRegisterName as Name, HvRegisterValue, HvStatus,
    HvX64PendingExceptionEvent, HvX64PendingInterruptionRegister,
};

use super::*;
use crate::arch::exit::Event;
use crate::arch::testing::Vendor;
use crate::hv::ROOT_ID;
use crate::hv::testing::{LINUX_CHILD, Machine};
use crate::partition::register_page;

/// A child with a VP on a machine of each vendor.
fn children() -> impl Iterator<Item = (Machine, HvPartitionId)> {
    Machine::each().map(with_child)
}

/// A child with a VP on a machine of one of them.
fn child(vendor: Vendor) -> (Machine, HvPartitionId) {
    with_child(Machine::of(vendor))
}

fn with_child(mut machine: Machine) -> (Machine, HvPartitionId) {
    let (id, _) = machine.child_with_vp();
    (machine, id)
}

fn read(machine: &Machine, id: HvPartitionId, name: Name) -> Result<HvRegisterValue, HvStatus> {
    machine.with_vp(id, 0, |partition, vp| get(machine, partition, vp, name))
}

fn write(
    machine: &Machine,
    id: HvPartitionId,
    name: Name,
    value: impl Into<HvRegisterValue>,
) -> Result<SetEffect, HvStatus> {
    let value = value.into();
    machine.with_vp(id, 0, |partition, vp| {
        let effect = set(machine, partition, vp, name, value)?;
        // What is the partition's is left to the caller.
        match effect {
            SetEffect::GuestOsId(value) => machine.set_guest_os_id(partition, value),
            SetEffect::ReferenceTsc(value) => machine
                .set_reference_tsc(partition, value)
                .map_err(|_| HvStatus::INVALID_REGISTER_VALUE)?,
            SetEffect::Crash { msr, value } => partition.msrs.set_crash(msr, value),
            SetEffect::VpPage { msr, value } => {
                let laid = machine.set_vp_page(partition, vp, msr, value);
                let _ = laid.map_err(|_| HvStatus::INVALID_REGISTER_VALUE)?;
            }
            _ => {}
        }
        Ok(effect)
    })
}

/// Names of the TLFS that this hypervisor has no register for.
fn is_unknown(name: Name) -> bool {
    matches!(
        name,
        Name::GUEST_IDLE
            | Name::BNDCFGS
            | Name::MCOUNT
            | Name::ACOUNT
            | Name::SGX_LAUNCH_CONTROL0
            | Name::SGX_LAUNCH_CONTROL1
            | Name::SGX_LAUNCH_CONTROL2
            | Name::SGX_LAUNCH_CONTROL3
            | Name::VIRT_SPEC_CTRL
            | Name::REFERENCE_TSC_SEQUENCE
            | Name::REG_PAGE
    ) || name.0 >> 16 == 0xD
}

#[test]
fn every_register_that_the_tlfs_names_reads_unless_it_is_known_not_to_exist() {
    for (machine, id) in children() {
        for &name in Name::NAMED {
            let value = read(&machine, id, name);
            if is_unknown(name) {
                assert_eq!(value, Err(HvStatus::UNKNOWN_REGISTER_NAME), "{name:?}");
            } else {
                assert!(value.is_ok(), "{name:?}: {value:?}");
            }
        }
        for name in [0x5, 0x1_0000, 0x2_0012, 0x8_4801, 0xC_0000, u32::MAX] {
            let value = read(&machine, id, Name(name));
            assert_eq!(value, Err(HvStatus::INVALID_PARAMETER), "{name:#x}");
            let done = write(&machine, id, Name(name), 0_u64);
            assert_eq!(done, Err(HvStatus::INVALID_PARAMETER), "{name:#x}");
        }
    }
}

#[test]
fn a_new_processor_takes_back_every_value_that_it_shows() {
    for (machine, id) in children() {
        let changing = [
            Name::TSC,
            Name::TIME_REF_COUNT,
            Name::VP_RUNTIME,
            Name::EOI,
            Name::ICR,
            Name::VP_INDEX,
            Name::VP_ROOT_SIGNAL_COUNT,
            Name::INITIAL_APIC_ID,
            Name::PROCESSOR_CLOCK_FREQUENCY,
            Name::INTERRUPT_CLOCK_FREQUENCY,
            Name::HYPERVISOR_VERSION,
        ];
        let names = Name::NAMED.iter().filter(|&&name| {
            let leaf =
                (Name::PRIVILEGES_AND_FEATURES_INFO..=Name::IPT_FEATURES_INFO).contains(&name);
            !is_unknown(name) && !changing.contains(&name) && !leaf
        });
        for &name in names {
            let value = read(&machine, id, name).unwrap();
            let done = write(&machine, id, name, value);
            assert!(done.is_ok(), "{name:?}: {done:?}");
            assert_eq!(read(&machine, id, name), Ok(value), "{name:?}");
        }
        for name in changing {
            let done = write(&machine, id, name, 0_u64);
            assert_eq!(done, Err(HvStatus::INVALID_PARAMETER), "{name:?}");
        }
    }
}

#[test]
fn the_two_suspend_registers_have_effect_in_their_order() {
    for (machine, id) in children() {
        let suspended = HvX64Suspended::both();
        machine.with_vp(id, 0, |_, vp| vp.suspend.intercept = suspended);
        assert_eq!(
            write(&machine, id, Name::INTERCEPT_SUSPEND, 0_u64),
            Ok(SetEffect::Resume)
        );
        machine.with_vp(id, 0, |_, vp| assert!(!vp.is_runnable()));
        assert_eq!(
            write(&machine, id, Name::EXPLICIT_SUSPEND, 0_u64),
            Ok(SetEffect::Resume)
        );
        machine.with_vp(id, 0, |_, vp| assert!(vp.is_runnable()));
        assert_eq!(
            write(&machine, id, Name::EXPLICIT_SUSPEND, 1_u64),
            Ok(SetEffect::Suspend)
        );
        assert_eq!(read(&machine, id, Name::EXPLICIT_SUSPEND), Ok(1_u64.into()));
    }
}

#[test]
fn how_a_vp_sleeps_can_be_read_and_set() {
    let sleep = |halt: bool, idle: bool| {
        let register = tlfs::HvInternalActivityRegister::new();
        HvRegisterValue::from(register.with_halt_suspend(halt).with_idle_suspend(idle))
    };
    for (machine, id) in children() {
        for (halt, idle) in [(true, false), (false, true), (false, false)] {
            let value = sleep(halt, idle);
            let done = write(&machine, id, Name::INTERNAL_ACTIVITY_STATE, value);
            assert_eq!(done, Ok(SetEffect::None));
            assert_eq!(read(&machine, id, Name::INTERNAL_ACTIVITY_STATE), Ok(value));
            machine.with_vp(id, 0, |_, vp| {
                assert_eq!((vp.halted, vp.idle), (halt || idle, idle))
            });
        }
        let both = write(
            &machine,
            id,
            Name::INTERNAL_ACTIVITY_STATE,
            sleep(true, true),
        );
        assert_eq!(both, Err(HvStatus::INVALID_REGISTER_VALUE));
    }
}

/// An intercept suspend register of a memory intercept.
struct HvX64Suspended;

impl HvX64Suspended {
    fn both() -> tlfs::HvInterceptSuspendRegister {
        tlfs::HvInterceptSuspendRegister::new()
            .with_suspended(true)
            .with_tlb_locked(true)
    }
}

#[test]
fn only_the_hypervisor_sets_the_intercept_suspend_register() {
    for (machine, id) in children() {
        for value in [1_u64, 2, 3, 4, 1 << 63] {
            assert_eq!(
                write(&machine, id, Name::INTERCEPT_SUSPEND, value),
                Err(HvStatus::INVALID_REGISTER_VALUE)
            );
        }
        machine.with_vp(id, 0, |_, vp| vp.suspend.intercept = HvX64Suspended::both());
        // The lock of the TLB may go first.
        assert_eq!(
            write(&machine, id, Name::INTERCEPT_SUSPEND, 1_u64),
            Ok(SetEffect::None)
        );
        assert_eq!(
            write(&machine, id, Name::INTERCEPT_SUSPEND, 2_u64),
            Err(HvStatus::INVALID_REGISTER_VALUE)
        );
    }
}

#[test]
fn a_running_processor_can_be_read_stopped_and_nothing_else() {
    for (machine, id) in children() {
        assert!(write(&machine, id, Name::EXPLICIT_SUSPEND, 0_u64).is_ok());
        for &name in Name::NAMED.iter().filter(|&&name| !is_unknown(name)) {
            let Ok(value) = read(&machine, id, name) else {
                panic!("{name:?}")
            };
            let free = [
                Name::INTERCEPT_SUSPEND,
                Name::DISPATCH_SUSPEND,
                Name::DELIVERABILITY_NOTIFICATIONS,
                Name::EXPLICIT_SUSPEND,
            ];
            let done = write(&machine, id, name, value);
            if free.contains(&name) {
                assert!(done.is_ok(), "{name:?}");
            } else {
                assert_eq!(done, Err(HvStatus::INVALID_VP_STATE), "{name:?}");
            }
        }
        // A partition that is suspended as a whole is as good.
        machine.with_vp(id, 0, |partition, _| partition.suspended = true);
        assert_eq!(write(&machine, id, Name::RAX, 1_u64), Ok(SetEffect::None));
    }
}

#[test]
fn the_root_sets_its_own_registers_while_it_runs() {
    for (machine, _) in children() {
        assert_eq!(
            write(&machine, ROOT_ID, Name::RAX, 5_u64),
            Ok(SetEffect::None)
        );
        // Pages that are provided to it stay where they are.
        let done = write(&machine, ROOT_ID, Name::REFERENCE_TSC, u64::MAX);
        let page = machine.root_pages.reference_tsc.spfn().0 << 12 | 1;
        assert_eq!(done, Ok(SetEffect::ReferenceTsc(page)));
        assert_eq!(
            read(&machine, ROOT_ID, Name::REFERENCE_TSC),
            Ok(page.into())
        );
    }
}

#[test]
fn an_nmi_notification_is_refused_where_the_local_apic_is_emulated() {
    for (mut machine, id) in children() {
        let name = Name::DELIVERABILITY_NOTIFICATIONS;
        for value in [1_u64, 2, 3] {
            let done = write(&machine, id, name, value);
            assert_eq!(done, Err(HvStatus::INVALID_PARAMETER));
        }
        let sint2 = 1_u64 << 50;
        assert_eq!(write(&machine, id, name, sint2), Ok(SetEffect::None));
        assert_eq!(read(&machine, id, name), Ok(sint2.into()));
        let flags = LINUX_CHILD.difference(HvPartitionCreationFlags::LAPIC_ENABLED);
        let without = machine.child_with(flags);
        machine.add_vp(without, 0);
        assert_eq!(write(&machine, without, name, 3_u64), Ok(SetEffect::None));
        assert_eq!(read(&machine, without, name), Ok(3_u64.into()));
        assert_eq!(
            read(&machine, without, Name::APIC_ID),
            Err(HvStatus::INVALID_PARAMETER)
        );
    }
}

#[test]
fn a_pending_page_fault_brings_its_address() {
    for (machine, id) in children() {
        let event = HvX64PendingExceptionEvent::new()
            .with_event_pending(true)
            .with_vector(14)
            .with_deliver_error_code(true)
            .with_error_code(6)
            .with_exception_parameter(0xFFFF_8000_1234_5678);
        assert!(write(&machine, id, Name::PENDING_EVENT0, event).is_ok());
        assert_eq!(
            read(&machine, id, Name::CR2),
            Ok(0xFFFF_8000_1234_5678_u64.into())
        );
        let shown = read(&machine, id, Name::PENDING_INTERRUPTION).unwrap().low;
        let shown = HvX64PendingInterruptionRegister::from_bits(shown);
        assert!(shown.interruption_pending() && shown.deliver_error_code());
        assert_eq!((shown.interruption_vector(), shown.error_code()), (14, 6));
        // An empty event takes nothing back.
        assert!(write(&machine, id, Name::PENDING_EVENT0, 0_u64).is_ok());
        let pending = machine.with_vp(id, 0, |_, vp| vp.hw.pending_event());
        assert_eq!(
            pending,
            Some(Event::Exception {
                vector: 14,
                error_code: Some(6)
            })
        );
    }
}

#[test]
fn effects_tell_what_else_is_to_be_done() {
    for (machine, id) in children() {
        let effect = |name, value: u64| write(&machine, id, name, value).unwrap();
        assert_eq!(effect(Name::XFEM, 7), SetEffect::Xcr0);
        assert_eq!(effect(Name::XFEM, 7), SetEffect::None);
        assert_eq!(effect(Name::APIC_INIT_COUNT, 1000), SetEffect::TimerChanged);
        assert_eq!(
            effect(Name::APIC_BASE, 0xFEE0_0900),
            SetEffect::TimerChanged
        );
        assert_eq!(
            effect(Name::CR_INTERCEPT_CR0_MASK, 1 << 31),
            SetEffect::CrIntercepts
        );
        assert_eq!(
            effect(Name::CR_INTERCEPT_CONTROL, 1),
            SetEffect::CrIntercepts
        );
        machine.with_vp(id, 0, |_, vp| {
            let wanted = vp.cr_intercept.hardware();
            assert_eq!((wanted.cr0, wanted.cr4, wanted.cr8), (1 << 31, 0, false));
        });
    }
}

#[test]
fn the_hypercall_page_needs_a_guest_os_id_and_goes_with_it() {
    for (machine, id) in children() {
        let effect = |name, value: u64| write(&machine, id, name, value).unwrap();
        assert_eq!(
            effect(Name::HYPERCALL, 0x5001),
            SetEffect::HypercallPage(0x5000)
        );
        let linux = 0x8100 << 48;
        assert_eq!(
            effect(Name::GUEST_OS_ID, linux),
            SetEffect::GuestOsId(linux)
        );
        assert_eq!(
            effect(Name::HYPERCALL, 0x5001),
            SetEffect::HypercallPage(0x5001)
        );
        machine.with_vp(id, 0, |partition, _| partition.msrs.hypercall = 0x5001);
        assert_eq!(effect(Name::GUEST_OS_ID, 0), SetEffect::GuestOsId(0));
        assert_eq!(read(&machine, id, Name::HYPERCALL), Ok(0x5000_u64.into()));
        assert_eq!(
            write(&machine, id, Name::HYPERCALL, 1_u64 << 60 | 1),
            Err(HvStatus::INVALID_REGISTER_VALUE)
        );
    }
}

#[test]
fn what_was_set_shows_in_the_register_page() {
    for (machine, id) in children() {
        assert!(write(&machine, id, Name::RIP, 0x1000_u64).is_ok());
        assert!(write(&machine, id, Name::XMM3, 77_u64).is_ok());
        machine.with_vp(id, 0, |_, vp| {
            register_page::publish_stored(&machine, vp);
            let page = register_page::contents(&machine, vp);
            assert_eq!((page.rip, page.xmm[3]), (0x1000, [77, 0]));
        });
    }
}

#[test]
fn feature_registers_are_the_cpuid_leaves() {
    for (machine, id) in children() {
        let value = read(&machine, id, Name::PRIVILEGES_AND_FEATURES_INFO).unwrap();
        let privileges = machine.with_vp(id, 0, |partition, _| partition.privileges);
        assert_eq!(value.low, privileges.0);
        let limits = read(&machine, id, Name::IMPLEMENTATION_LIMITS_INFO).unwrap();
        assert_eq!(limits.low as u32, 16);
    }
}

/// Values that are likely to be legal somewhere, and any others.
fn value() -> impl Strategy<Value = HvRegisterValue> {
    prop_oneof![
        any::<u128>(),
        any::<u64>().prop_map(u128::from),
        any::<u16>().prop_map(u128::from),
        (0..128u32).prop_map(|bit| 1 << bit),
        Just(0),
    ]
    .prop_map(HvRegisterValue::from)
}

/// What a segment register of an Intel VP shows where an AMD one shows this: an entry wants TR to be a busy TSS, and
/// segments in use to be marked accessed (docs/hardware.md).
fn as_intel_has_it(
    name: Name,
    value: Result<HvRegisterValue, HvStatus>,
) -> Result<HvRegisterValue, HvStatus> {
    const ATTRIBUTES: u32 = 48;
    const IN_USE: u64 = 0x90;
    let attributes = value.map_or(0, |value| value.high >> ATTRIBUTES);
    let attributes = match name {
        Name::TR if matches!(attributes & 0x1F, 1 | 3) => attributes & !0x1F | 0x83,
        Name::TR => attributes & !0x1F | 0x8B,
        _ if attributes & IN_USE == IN_USE => attributes | 1,
        _ => attributes,
    };
    if !(Name::ES..=Name::TR).contains(&name) {
        return value;
    }
    value.map(|value| HvRegisterValue {
        high: value.high & 0xFFFF_FFFF_FFFF | attributes << ATTRIBUTES,
        ..value
    })
}

/// Any register, and those that lie in a processor's control block half of the time.
fn name() -> impl Strategy<Value = Name> {
    let processor = |name: &&Name| matches!(name.0 >> 16, 2 | 4..=8);
    let own: Vec<Name> = Name::NAMED.iter().filter(processor).copied().collect();
    let events = [
        Name::PENDING_INTERRUPTION,
        Name::PENDING_EVENT0,
        Name::INTERRUPT_STATE,
    ];
    prop_oneof![
        prop::sample::select(own),
        prop::sample::select(events.to_vec()),
        prop::sample::select(Name::NAMED),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_value_that_is_taken_is_read_back_and_one_that_is_refused_changes_nothing(
        vendor in Vendor::any(),
        steps in proptest::collection::vec((any::<prop::sample::Index>(), value()), 1..60),
    ) {
        let (machine, id) = child(vendor);
        for (index, value) in steps {
            let name = *index.get(Name::NAMED);
            let before = read(&machine, id, name);
            let done = write(&machine, id, name, value);
            let after = read(&machine, id, name);
            let moves = matches!(
                name,
                Name::TSC | Name::TIME_REF_COUNT | Name::APIC_CURRENT_COUNT | Name::HYPERCALL
            );
            // Registers that read as absent, bits that are not the value's, and events shown elsewhere.
            let partial = moves
                || (Name::FP_MMX0..=Name::XMM_CONTROL_STATUS).contains(&name)
                || (Name::ES..=Name::GDTR).contains(&name)
                || (Name::APIC_LVT_CMCI..=Name::APIC_LVT_ERROR).contains(&name)
                // A timer that could not notify is not enabled; its count may enable or stop it.
                || (Name::STIMER0_CONFIG..=Name::STIMER3_COUNT).contains(&name)
                || matches!(
                    name,
                    Name::PENDING_EVENT0
                        | Name::PENDING_INTERRUPTION
                        | Name::MSR_MTRR_DEF_TYPE
                        | Name::PRED_CMD
                        | Name::INTERNAL_ACTIVITY_STATE
                        | Name::EOM
                );
            match done {
                Err(_) if !moves => prop_assert_eq!(after, before, "{:?}", name),
                Ok(_) if !partial => {
                    let fixed = match name {
                        Name::RFLAGS => 2,
                        Name::CR0 | Name::INTERMEDIATE_CR0 => 0x10,
                        _ => 0,
                    };
                    prop_assert_eq!(after.unwrap().low, value.low | fixed, "{:?}", name);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn whose_processor_it_is_does_not_show_in_the_registers(
        steps in proptest::collection::vec((name(), value()), 1..60),
    ) {
        let [(amd, amd_id), (intel, intel_id)] = Vendor::ALL.map(child);
        for (name, value) in steps {
            let on_amd = write(&amd, amd_id, name, value);
            let on_intel = write(&intel, intel_id, name, value);
            // A constant of the vendor's takes its own value only.
            if name != Name::MSR_IA32_MISC_ENABLE {
                prop_assert_eq!(on_amd, on_intel, "{:?} = {:?}", name, value);
            }
            // Clocks, and what each vendor has in its own way.
            let own = [
                Name::TSC,
                Name::TIME_REF_COUNT,
                Name::APIC_CURRENT_COUNT,
                Name::MSR_IA32_MISC_ENABLE,
            ];
            for &shown in Name::NAMED.iter().filter(|shown| !own.contains(shown)) {
                let on_amd = as_intel_has_it(shown, read(&amd, amd_id, shown));
                let on_intel = read(&intel, intel_id, shown);
                prop_assert_eq!(on_amd, on_intel, "{:?} after {:?} = {:?}", shown, name, value);
            }
        }
    }

    #[test]
    fn any_name_and_value_are_answered(
        vendor in Vendor::any(),
        name: u32,
        known in any::<prop::sample::Index>(),
        value in value(),
        exact: bool,
    ) {
        let (machine, id) = child(vendor);
        let name = if exact { *known.get(Name::NAMED) } else { Name(name) };
        let _ = read(&machine, id, name);
        let _ = write(&machine, id, name, value);
        let _ = write(&machine, ROOT_ID, name, value);
        machine.with_vp(id, 0, |_, vp| {
            register_page::publish_stored(&machine, vp);
        });
    }
}
