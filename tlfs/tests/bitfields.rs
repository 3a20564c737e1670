//! Bit fields against literal values: those that the sheets quote, and those that guests write.

use tlfs::*;

#[test]
fn control_word_places_code_fast_header_and_reps() {
    let word = HvHypercallInput::from_bits(0x0003_0005_0021_005D);
    assert_eq!(word.call_code(), HvCallCode::SIGNAL_EVENT);
    assert!(word.fast());
    assert_eq!(word.variable_header_size(), 0x10);
    assert!(!word.nested());
    assert_eq!(word.rep_count(), 5);
    assert_eq!(word.rep_start(), 3);
    assert_eq!(word.reps_left(), Some(2));
    assert!(!word.has_reserved_bits());
    for bit in [27, 30, 44, 47, 60, 63] {
        assert!(
            HvHypercallInput::from_bits(1 << bit).has_reserved_bits(),
            "bit {bit}"
        );
    }
    for bit in [0, 16, 26, 31, 32, 43, 48, 59] {
        assert!(
            !HvHypercallInput::from_bits(1 << bit).has_reserved_bits(),
            "bit {bit}"
        );
    }
}

#[test]
fn reps_left_is_none_for_simple_calls_and_for_starts_past_the_list() {
    assert_eq!(
        HvHypercallInput::simple(HvCallCode::CREATE_VP).reps_left(),
        None
    );
    let word = HvHypercallInput::rep(HvCallCode::DEPOSIT_MEMORY, 4).unwrap();
    assert_eq!(word.with_rep_start(4).reps_left(), None);
    assert_eq!(word.with_rep_start(5).reps_left(), None);
    assert_eq!(
        HvHypercallInput::rep(HvCallCode::DEPOSIT_MEMORY, 4096),
        None
    );
}

#[test]
fn result_word_counts_reps_in_bits_43_to_32() {
    let result = HvHypercallResult::rep(HvStatus::INSUFFICIENT_MEMORY, 0x123);
    assert_eq!(result.into_bits(), 0x0000_0123_0000_000B);
    assert_eq!(HvHypercallResult::simple(HvStatus::SUCCESS).into_bits(), 0);
}

#[test]
fn linux_stimer_values_decode() {
    let direct = HvStimerConfig::from_bits(0x1ED9);
    assert!(
        direct.enable()
            && direct.auto_enable()
            && direct.direct_mode()
            && !direct.periodic()
            && !direct.lazy()
    );
    assert_eq!(direct.apic_vector(), 0xED);
    assert!(!direct.has_reserved_bits());
    let message = HvStimerConfig::from_bits(0x20009);
    assert!(message.enable() && message.auto_enable() && !message.direct_mode());
    assert_eq!(message.sintx(), 2);
    assert!(HvStimerConfig::from_bits(0x2000).has_reserved_bits());
    assert!(HvStimerConfig::from_bits(1 << 20).has_reserved_bits());
}

#[test]
fn sint_resets_masked_and_takes_linux_values() {
    assert!(HvSynicSint::RESET.masked());
    assert_eq!(HvSynicSint::RESET.vector(), 0);
    let vmbus = HvSynicSint::from_bits(0x2_00F3);
    assert!(vmbus.auto_eoi() && !vmbus.masked() && !vmbus.polling());
    assert_eq!(vmbus.vector(), 0xF3);
    assert!(HvSynicSint::from_bits(1 << 19).as_intercept());
    assert!(HvSynicSint::from_bits(1 << 20).proxy());
}

#[test]
fn page_msrs_hold_page_numbers() {
    let simp = HvPageMsr::from_bits(0x0000_0001_2345_6001);
    assert!(simp.enabled());
    assert_eq!(simp.gpfn(), 0x12_3456);
    let hypercall = HvHypercallMsr::from_bits(0x7003);
    assert!(hypercall.enabled() && hypercall.locked());
    assert_eq!(hypercall.gpfn(), 7);
}

#[test]
fn crash_control_advertises_notify_and_message() {
    let ctl = HvCrashCtl::new()
        .with_crash_notify(true)
        .with_crash_message(true);
    assert_eq!(ctl.into_bits(), 0xC000_0000_0000_0000);
    assert_eq!(
        HvCrashCtl::new().with_no_crash_dump(true).into_bits(),
        1 << 61
    );
    assert_eq!(HvCrashCtl::new().with_pre_os_id(7).into_bits(), 7 << 58);
}

#[test]
fn pending_interruption_places_type_length_vector_and_error() {
    let event = HvX64PendingInterruptionRegister::from_bits(0x0000_ABCD_000E_0097);
    assert!(event.interruption_pending() && event.deliver_error_code());
    assert_eq!(event.interruption_type(), 3);
    assert_eq!(event.instruction_length(), 4);
    assert_eq!(event.interruption_vector(), 14);
    assert_eq!(event.error_code(), 0xABCD);
}

#[test]
fn suspend_registers_use_their_bits() {
    assert!(HvInterceptSuspendRegister::from_bits(2).tlb_locked());
    assert!(HvInterceptSuspendRegister::from_bits(1).suspended());
    assert!(HvExplicitSuspendRegister::from_bits(1).suspended());
    let activity = HvInternalActivityRegister::from_bits(0b101);
    assert!(activity.startup_suspend() && !activity.halt_suspend() && activity.idle_suspend());
    let notify = HvDeliverabilityNotificationsRegister::from_bits(1 << 50 | 0b1_0110);
    assert_eq!((notify.sints(), notify.interrupt_priority()), (4, 5));
    assert!(notify.interrupt_notification() && !notify.nmi_notification());
}

#[test]
fn execution_state_and_access_infos_use_their_bits() {
    let state = HvX64VpExecutionState::from_bits(0x3 | 1 << 2 | 1 << 4 | 1 << 12 | 2 << 7);
    assert_eq!((state.cpl(), state.vtl()), (3, 2));
    assert!(state.cr0_pe() && !state.cr0_am() && state.efer_lma() && state.interrupt_shadow());
    let port = HvX64IoPortAccessInfo::from_bits(0b1_1010);
    assert!(port.string_op() && port.rep_prefix());
    assert_eq!(port.access_size(), 2);
    let memory = HvX64MemoryAccessInfo::from_bits(0b1011);
    assert!(memory.gva_valid() && memory.gva_gpa_valid() && memory.tlb_locked());
    let byte = HvX64InstructionLengthAndCr8::from_bits(0x53);
    assert_eq!((byte.instruction_length(), byte.cr8()), (3, 5));
}

#[test]
fn segment_attributes_are_the_descriptor_bits() {
    // Flat 64-bit code: present, DPL 0, code, readable, accessed, L, G.
    let code = HvX64SegmentAttributes::from_bits(0xA09B);
    assert_eq!(
        (code.segment_type(), code.descriptor_privilege_level()),
        (0xB, 0)
    );
    assert!(
        code.non_system_segment()
            && code.present()
            && code.long()
            && !code.default()
            && code.granularity()
    );
}

#[test]
fn privileges_are_eax_and_ebx_of_leaf_3() {
    // The profile that guest sheet 2.6 gives, and the root's EBX of root sheet F.1.
    let child = HvPartitionPrivilegeMask::from_cpuid(0x0000_0AFE, 0x0000_0030);
    assert!(child.contains(
        HvPartitionPrivilegeMask::ACCESS_HYPERCALL_MSRS | HvPartitionPrivilegeMask::ACCESS_VP_INDEX
    ));
    assert!(child.contains(
        HvPartitionPrivilegeMask::POST_MESSAGES | HvPartitionPrivilegeMask::SIGNAL_EVENTS
    ));
    assert!(!child.contains(HvPartitionPrivilegeMask::CREATE_PARTITIONS));
    assert_eq!((child.cpuid_eax(), child.cpuid_ebx()), (0xAFE, 0x30));
    let root = HvPartitionPrivilegeMask::CREATE_PARTITIONS
        | HvPartitionPrivilegeMask::ACCESS_PARTITION_ID
        | HvPartitionPrivilegeMask::ACCESS_MEMORY_POOL
        | HvPartitionPrivilegeMask::POST_MESSAGES
        | HvPartitionPrivilegeMask::SIGNAL_EVENTS
        | HvPartitionPrivilegeMask::CREATE_PORT
        | HvPartitionPrivilegeMask::CONNECT_PORT
        | HvPartitionPrivilegeMask::ACCESS_STATS
        | HvPartitionPrivilegeMask::CPU_MANAGEMENT;
    assert_eq!(root.cpuid_ebx(), 0x11F7);
}

#[test]
fn flags_keep_bits_that_have_no_name() {
    let flags = HvMapGpaFlags::from_bits_retain(0x4000_0001);
    assert_eq!(flags.bits(), 0x4000_0001);
    assert_eq!((flags & !HvMapGpaFlags::READABLE).bits(), 0x4000_0000);
}

#[test]
fn input_vtl_zero_is_the_current_level() {
    assert!(HvInputVtl::from_bits(0).is_vtl0());
    assert!(HvInputVtl::from_bits(0x10).is_vtl0());
    assert!(!HvInputVtl::from_bits(0x11).is_vtl0());
}
