//! xAPIC mode: the same APIC behind another door.

use super::*;
use proptest::prelude::*;

/// Offsets in the page over 16.
const ID: u32 = 0x02;
const LDR: u32 = 0x0D;
const DFR: u32 = 0x0E;
const ICR_LOW: u32 = 0x30;
const ICR_HIGH: u32 = 0x31;

const XAPIC: u64 = 0xFEE0_0800;
const X2APIC: u64 = 0xFEE0_0C00;

/// An APIC in xAPIC mode that its guest has enabled.
fn paged(id: u32) -> LocalApic {
    let mut apic = LocalApic::new(id, false);
    apic.set_base(XAPIC).unwrap();
    let _ = apic.write_page(SVR - 0x800, 0x1FF, NOW);
    apic
}

fn store(apic: &mut LocalApic, index: u32, value: u32) -> Effect {
    apic.write_page(index, value, NOW)
}

fn load(apic: &mut LocalApic, index: u32) -> u32 {
    apic.read_page(index, || NOW)
}

fn message(effect: Effect) -> InterruptMessage {
    match effect {
        Effect::Ipi(message) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_guest_goes_from_reset_to_x2apic_mode_as_on_hardware() {
    let mut apic = paged(3);
    assert!(apic.is_in_page());
    assert_eq!(apic.read(0x1B, || NOW), Ok(XAPIC));
    assert_eq!(apic.read(0x802, || NOW), Err(GeneralProtection));
    assert_eq!(apic.write(SVR, 0xFF, NOW), Err(GeneralProtection));
    assert_eq!(apic.write(0x1B, 0xFEE0_0400, NOW), Err(GeneralProtection));
    assert_eq!(apic.write(0x1B, X2APIC, NOW), Ok(Effect::Readdressed));
    assert!(!apic.is_in_page());
    assert_eq!(apic.read(0x802, || NOW), Ok(3));
    assert_eq!(apic.read(SVR, || NOW), Ok(0x1FF), "the state is kept");
    assert_eq!(apic.write(0x1B, XAPIC, NOW), Err(GeneralProtection));
    assert_eq!(apic.write(0x1B, 0xFEE0_0000, NOW), Ok(Effect::Readdressed));
    assert_eq!(apic.write(0x1B, X2APIC, NOW), Err(GeneralProtection));
    assert_eq!(apic.write(0x1B, XAPIC, NOW), Ok(Effect::Readdressed));
}

#[test]
fn ids_are_in_the_upper_byte_and_only_the_logical_one_is_the_guests() {
    let mut apic = paged(3);
    assert_eq!(load(&mut apic, ID), 3 << 24);
    let _ = store(&mut apic, ID, 5 << 24);
    assert_eq!(load(&mut apic, ID), 3 << 24);
    assert_eq!((load(&mut apic, LDR), load(&mut apic, DFR)), (0, u32::MAX));
    assert_eq!(store(&mut apic, LDR, 0x12FF_FFFF), Effect::Readdressed);
    assert_eq!(store(&mut apic, DFR, 0x0000_0000), Effect::Readdressed);
    assert_eq!(load(&mut apic, LDR), 0x1200_0000);
    assert_eq!(load(&mut apic, DFR), 0x0FFF_FFFF);
    assert!(apic.matches(Destination::Logical(0x12), false));
    assert!(!apic.matches(Destination::Logical(0x22), false));
}

#[test]
fn an_x2apics_logical_id_is_that_of_its_own_id_again() {
    let mut apic = paged(3);
    let _ = store(&mut apic, LDR, 0x8000_0000);
    set(&mut apic, 0x1B, X2APIC);
    assert_eq!(apic.read(0x80D, || NOW), Ok(8));
    assert!(apic.matches(Destination::Logical(8), false));
    assert!(!apic.matches(Destination::Logical(0x80), false));
}

#[test]
fn init_takes_the_logical_id_and_leaves_the_mode() {
    let mut apic = paged(3);
    let _ = store(&mut apic, LDR, 0x8000_0000);
    let _ = store(&mut apic, DFR, 0);
    apic.accept(Delivery::Init);
    assert!(apic.take_init());
    assert!(apic.is_in_page());
    assert_eq!((load(&mut apic, LDR), load(&mut apic, DFR)), (0, u32::MAX));
}

#[test]
fn a_command_is_sent_by_its_lower_half_to_where_the_upper_half_says() {
    let mut apic = paged(0);
    assert_eq!(
        store(&mut apic, ICR_HIGH, 5 << 24 | 0xFF_FFFF),
        Effect::None
    );
    assert_eq!(load(&mut apic, ICR_HIGH), 5 << 24);
    let sent = message(store(&mut apic, ICR_LOW, 0x40FD));
    assert_eq!(sent.destination, Destination::Physical(5));
    assert_eq!(sent.delivery, fixed(0xFD));
    assert_eq!(load(&mut apic, ICR_LOW), 0x40FD);
    let sent = message(store(&mut apic, ICR_LOW, 0x8FD));
    assert_eq!(sent.destination, Destination::Logical(5));
    let sent = message(store(&mut apic, ICR_LOW, 0x4500));
    assert_eq!(sent.delivery, Delivery::Init);
}

#[test]
fn the_destination_ff_is_everybody() {
    for command in [0xFD, 0x8FD] {
        let mut apic = paged(0);
        let _ = store(&mut apic, ICR_HIGH, 0xFF << 24);
        let sent = message(store(&mut apic, ICR_LOW, command));
        assert_eq!(load(&mut apic, ICR_HIGH), 0xFF << 24);
        assert!((0..16).all(|id| paged(id).matches(sent.destination, false)));
    }
}

#[test]
fn hyper_vs_msrs_work_in_this_mode_too() {
    let mut apic = paged(0);
    apic.accept(fixed(0x50));
    apic.begin(0x50);
    let ended = Effect::EndOfInterrupt {
        vector: 0x50,
        level: false,
    };
    assert_eq!(apic.write_synthetic(tlfs::HV_X64_MSR_EOI, 0), Ok(ended));
    let sent = apic.write_synthetic(tlfs::HV_X64_MSR_ICR, 6 << 56 | 0xFD);
    assert_eq!(message(sent.unwrap()).destination, Destination::Physical(6));
    assert_eq!(load(&mut apic, ICR_HIGH), 6 << 24);
    assert!(apic.write_synthetic(tlfs::HV_X64_MSR_TPR, 0x40).is_ok());
    assert_eq!(load(&mut apic, 0x08), 0x40);
}

#[test]
fn a_register_that_there_is_not_is_an_error_of_its_own() {
    let present = |index| Register::in_page(index).is_some() || [0x09, 0x0C].contains(&index);
    for index in 0..0x100 {
        let mut apic = paged(0);
        let before = load(&mut apic, ESR - 0x800);
        assert_eq!(before, 0);
        let value = load(&mut apic, index);
        let _ = store(&mut apic, ESR - 0x800, 0);
        let noted = load(&mut apic, ESR - 0x800);
        assert_eq!(noted, if present(index) { 0 } else { 0x80 }, "{index:x}");
        if !present(index) {
            assert_eq!(value, 0);
        }
    }
    // The self IPI register is the x2APIC's.
    assert!(!present(0x3F));
}

#[test]
fn reserved_bits_are_dropped_where_an_x2apic_faults() {
    let mut apic = paged(0);
    let _ = store(&mut apic, SVR - 0x800, u32::MAX);
    assert_eq!(load(&mut apic, SVR - 0x800), 0x3FF);
    let _ = store(&mut apic, DIVIDE - 0x800, u32::MAX);
    assert_eq!(load(&mut apic, DIVIDE - 0x800), 0xB);
    apic.accept(fixed(0x50));
    apic.begin(0x50);
    let ended = store(&mut apic, EOI - 0x800, 0x1234);
    assert!(matches!(ended, Effect::EndOfInterrupt { vector: 0x50, .. }));
}

#[test]
fn the_parent_sees_and_sets_the_logical_id() {
    let mut apic = paged(3);
    let set =
        |apic: &mut LocalApic, value| apic.set_register(Register::LogicalDestination, value, NOW);
    assert_eq!(set(&mut apic, 0x0400_0000), Ok(()));
    assert_eq!(load(&mut apic, LDR), 0x0400_0000);
    assert_eq!(set(&mut apic, 0x0400_0001), Err(InvalidValue));
    let _ = store(&mut apic, DFR, 0);
    let saved = apic.save(NOW);
    let mut other = paged(3);
    other.restore(&saved, NOW);
    assert_eq!(other.save(NOW), saved);
    assert_eq!(other.addressing(), apic.addressing());
}

proptest! {
    #[test]
    fn registers_of_both_modes_have_the_same_values(index in 0x08u32..0x40, value: u32) {
        let differ = [LDR, DFR, ICR_LOW, ICR_HIGH, 0x3F, EOI - 0x800];
        prop_assume!(!differ.contains(&index));
        let (mut paged, mut named) = (paged(0), enabled());
        if named.write(0x800 + index, value.into(), NOW).is_ok() {
            let _ = store(&mut paged, index, value);
        }
        if let Ok(value) = named.read(0x800 + index, || NOW) {
            prop_assert_eq!(u64::from(load(&mut paged, index)), value);
        }
        prop_assert_eq!(paged.next_deadline(), named.next_deadline());
    }
}
