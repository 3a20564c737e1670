//! The few functions that the types have.

use tlfs::*;
use zerocopy::IntoBytes;

#[test]
fn the_four_memory_statuses_name_their_deposit() {
    let shortage = |status: HvStatus| status.memory_shortage().map(|s| (s.pages, s.own_pool));
    assert_eq!(shortage(HvStatus(0x0B)), Some((1, false)));
    assert_eq!(shortage(HvStatus(0x75)), Some((8, false)));
    assert_eq!(shortage(HvStatus(0x73)), Some((1, true)));
    assert_eq!(shortage(HvStatus(0x83)), Some((8, true)));
    assert_eq!(
        HvStatus::NAMED
            .iter()
            .filter(|s| s.memory_shortage().is_some())
            .count(),
        4
    );
}

#[test]
fn only_success_is_no_error() {
    assert_eq!(HvStatus(0).into_result(), Ok(()));
    assert_eq!(HvStatus(0xFFFF).into_result(), Err(HvStatus(0xFFFF)));
}

#[test]
fn unknown_values_are_printed_as_numbers() {
    assert_eq!(format!("{:?}", HvCallCode(0x40)), "HvCallCreatePartition");
    assert_eq!(format!("{:?}", HvCallCode(0x7FFF)), "HvCallCode(0x7fff)");
    assert_eq!(HvMessageType(0x1234_5678).name(), None);
}

#[test]
fn named_values_ascend_within_calls_and_statuses() {
    assert!(HvCallCode::NAMED.is_sorted());
    assert!(HvStatus::NAMED.is_sorted());
    assert!(HvMessageType::NAMED.is_sorted());
    assert!(HvRegisterName::NAMED.is_sorted());
    assert!(HvPartitionPropertyCode::NAMED.is_sorted());
}

#[test]
fn register_families_are_consecutive() {
    assert_eq!(HvRegisterName::sint(15), Some(HvRegisterName::SINT15));
    assert_eq!(HvRegisterName::sint(16), None);
    assert_eq!(
        HvRegisterName::general_purpose(4),
        Some(HvRegisterName::RSP)
    );
    assert_eq!(
        HvRegisterName::stimer_config(3),
        Some(HvRegisterName::STIMER3_CONFIG)
    );
    assert_eq!(
        HvRegisterName::stimer_count(3),
        Some(HvRegisterName::STIMER3_COUNT)
    );
    assert_eq!(HvRegisterName::apic(0x802), Some(HvRegisterName::APIC_ID));
    assert_eq!(
        HvRegisterName::apic(0x83E),
        Some(HvRegisterName::APIC_DIVIDE)
    );
    assert_eq!(HvRegisterName::apic(0x840), None);
}

#[test]
fn a_segment_survives_the_way_through_a_register_value() {
    let segment = HvX64SegmentRegister {
        base: 0xFFFF_0000,
        limit: 0xFFFF,
        selector: 0xF000,
        attributes: HvX64SegmentAttributes::from_bits(0x9B),
    };
    let value = HvRegisterValue::from(segment);
    assert_eq!(value.as_u128(), 0x009B_F000_0000_FFFF_0000_0000_FFFF_0000);
    assert_eq!(value.as_segment(), segment);
    let table = HvX64TableRegister {
        limit: 0x7F,
        base: 0x1000,
        ..Default::default()
    };
    assert_eq!(
        HvRegisterValue::from(table).as_u128(),
        0x1000_007F_0000_0000_0000
    );
}

#[test]
fn messages_take_payloads_up_to_240_bytes() {
    let payload = HvOpaqueInterceptMessage {
        vp_index: HvVpIndex(3),
    };
    let message = HvMessage::new(HvMessageType::OPAQUE_INTERCEPT, 7, &payload).unwrap();
    assert_eq!(
        &message.as_bytes()[..20],
        &[
            0x3F, 0, 0, 0x80, 4, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0
        ]
    );
    assert_eq!(
        message.payload_as::<HvOpaqueInterceptMessage>(),
        Some(payload)
    );
    assert_eq!(message.payload_bytes(), &[3, 0, 0, 0]);
    assert!(HvMessage::new(HvMessageType(1), 0, &[0u8; 240]).is_some());
    assert!(HvMessage::new(HvMessageType(1), 0, &[0u8; 241]).is_none());
}

#[test]
fn a_payload_size_out_of_range_yields_no_more_than_the_payload() {
    let mut message = HvMessage::default();
    message.header.payload_size = 255;
    assert_eq!(message.payload_bytes().len(), 240);
}

#[test]
fn ids_with_a_high_byte_are_refused() {
    assert_eq!(HvConnectionId(0x00FF_FFFF).id(), Some(0x00FF_FFFF));
    assert_eq!(HvConnectionId(0x0100_0000).id(), None);
    assert_eq!(HvPortId(0x8000_0001).id(), None);
}

#[test]
fn synthetic_msrs_are_classified() {
    assert_eq!(sint_of_msr(0x4000_0092), Some(2));
    assert_eq!(sint_of_msr(0x4000_00A0), None);
    assert_eq!(stimer_of_msr(0x4000_00B0), Some(StimerRegister::Config(0)));
    assert_eq!(stimer_of_msr(0x4000_00B7), Some(StimerRegister::Count(3)));
    assert_eq!(stimer_of_msr(0x4000_00B8), None);
    assert_eq!(crash_parameter_of_msr(0x4000_0104), Some(4));
    assert_eq!(crash_parameter_of_msr(0x4000_0105), None);
}

#[test]
fn reference_time_counts_100_ns() {
    let hz = 2_500_000_000;
    let page = HvReferenceTscPage {
        tsc_sequence: 1,
        tsc_scale: HvReferenceTscPage::scale_for(hz).unwrap(),
        ..Default::default()
    };
    // One second, less one unit of rounding.
    assert!((9_999_999..=10_000_000).contains(&page.reference_time(hz)));
    let shifted = HvReferenceTscPage {
        tsc_offset: -5,
        ..page
    };
    assert_eq!(shifted.reference_time(hz), page.reference_time(hz) - 5);
    assert_eq!(HvReferenceTscPage::scale_for(10_000_000), None);
}

#[test]
fn masked_values_replace_the_bits_of_the_mask() {
    let value = HvMaskedValue {
        value: 0xFFFF_0000,
        mask: 0x00FF_00FF,
    };
    assert_eq!(value.apply(0x1234_5678), 0x12FF_5600);
}

#[test]
fn registered_results_read_back_by_type() {
    let cpuid = HvRegisterX64CpuidResultParameters {
        eax: 0x4000_0000,
        always_override: 1,
        ..Default::default()
    };
    let id = HvPartitionId(0x0102_0304_0506_0708);
    let input =
        HvInputRegisterInterceptResult::new(id, HvVpIndex::ANY, HvInterceptType::X64_CPUID, &cpuid)
            .unwrap();
    assert_eq!(input.partition_id(), id);
    assert_eq!(input.cpuid(), cpuid);
    let msr = HvRegisterX64MsrResultParameters {
        msr_index: 0x10,
        ..Default::default()
    };
    let input =
        HvInputRegisterInterceptResult::new(id, HvVpIndex::ANY, HvInterceptType::X64_MSR, &msr)
            .unwrap();
    assert_eq!(input.msr(), msr);
    let too_large = HvMessage::default();
    assert!(
        HvInputRegisterInterceptResult::new(
            id,
            HvVpIndex::ANY,
            HvInterceptType::X64_MSR,
            &too_large
        )
        .is_none()
    );
}

#[test]
fn a_directly_posted_message_lies_at_offset_20() {
    let message = HvMessage::new(HvMessageType(1), 9, &[0xABu8; 3]).unwrap();
    let input = HvInputPostMessageDirect::new(HvPartitionId(1), HvVpIndex(2), 3, &message);
    assert_eq!(&input.as_bytes()[20..276], message.as_bytes());
    assert_eq!(input.message(), message);
}

#[test]
fn device_ids_take_the_form_of_their_type() {
    assert_eq!(
        HvDeviceId::pci(2, 0x00F8).into_bits(),
        1 << 62 | 2 << 16 | 0xF8
    );
    assert_eq!(HvDeviceId::ioapic(7).into_bits(), 2 << 62 | 7);
    assert_eq!(
        HvDeviceId::from_bits(1 << 50 | 3 << 62).form(),
        HvDeviceType::ACPI
    );
    assert!(HvDeviceId::from_bits(1 << 50).source_shadow());
}

#[test]
fn msi_entries_hold_the_address_below_the_data() {
    assert_eq!(
        HvInterruptEntry::msi(0xFEE0_3000, 0x41).data,
        0x0000_0041_FEE0_3000
    );
}

#[test]
fn doorbell_sizes_beyond_8_bytes_do_not_exist() {
    assert_eq!(HvDoorbellFlags::empty().trigger_size(), Some(None));
    assert_eq!(
        HvDoorbellFlags::TRIGGER_SIZE_QWORD.trigger_size(),
        Some(Some(8))
    );
    assert_eq!(
        (HvDoorbellFlags::TRIGGER_SIZE_WORD | HvDoorbellFlags::TRIGGER_ANY_VALUE).trigger_size(),
        Some(Some(2))
    );
    assert_eq!(HvDoorbellFlags(5).trigger_size(), None);
}

#[test]
fn gva_ranges_count_the_pages_after_the_first() {
    let range = HvGvaRange(0xFFFF_8000_0000_1FFF);
    assert_eq!(
        (range.start(), range.page_count()),
        (0xFFFF_8000_0000_1000, 4096)
    );
}

#[test]
fn cpuid_identifies_microsoft_hv() {
    let bytes: Vec<u8> = HV_CPUID_VENDOR
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    assert_eq!(bytes, b"Microsoft Hv");
    assert_eq!(&HV_CPUID_INTERFACE_HV1.to_le_bytes(), b"Hv#1");
}

#[test]
fn the_profile_of_the_guest_sheet_is_made_of_named_bits() {
    let hints = HvEnlightenmentFlags::USE_RELAXED_TIMING | HvEnlightenmentFlags::DEPRECATE_AUTO_EOI;
    assert_eq!(hints.bits(), 0x220);
    let features = HvFeatureFlags::FREQUENCY_REGS_AVAILABLE
        | HvFeatureFlags::GUEST_CRASH_REGS_AVAILABLE
        | HvFeatureFlags::DIRECT_SYNTHETIC_TIMERS;
    assert_eq!(features.bits(), 0x0008_0500);
    let all = hints
        | HvEnlightenmentFlags::USE_HYPERCALL_FOR_REMOTE_FLUSH
        | HvEnlightenmentFlags::USE_APIC_MSRS
        | HvEnlightenmentFlags::USE_SYNTHETIC_CLUSTER_IPI
        | HvEnlightenmentFlags::USE_EX_PROCESSOR_MASKS;
    assert_eq!(all.bits(), 0x0E2C);
}

#[test]
fn ports_of_each_type_use_their_fields() {
    let event = HvPortInfo::event(2, HvVpIndex(1), 0x10, 0x20);
    assert_eq!(
        event.as_bytes(),
        [
            2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0x10, 0, 0x20, 0, 0, 0, 0, 0
        ]
    );
    assert_eq!(
        HvPortInfo::monitor(0x1_2345_6789).monitor_address(),
        0x1_2345_6789
    );
    assert_eq!(
        HvPortInfo::message(3, HvVpIndex::ANY).port_type,
        HvPortType::MESSAGE
    );
    assert_eq!(
        HvConnectionInfo::doorbell(0x1000, 7, HvDoorbellFlags::empty()).as_bytes()[8..24],
        {
            let mut expected = [0; 16];
            expected[1] = 0x10;
            expected[8] = 7;
            expected
        }
    );
}

#[test]
fn an_unmapped_device_interrupt_is_the_one_that_was_mapped() {
    let entry = HvInterruptEntry::msi(0xFEE0_0000, 0x30);
    let input = HvInputUnmapDeviceInterrupt::new(HvPartitionId(1), HvDeviceId::pci(0, 8), entry);
    assert_eq!(input.as_bytes().len(), 36);
    assert_eq!(
        (input.partition_id(), input.device_id()),
        (HvPartitionId(1), HvDeviceId::pci(0, 8))
    );
    assert_eq!(input.interrupt_entry(), entry);
}
