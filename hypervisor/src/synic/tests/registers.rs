use super::*;
use crate::apic::GeneralProtection;
use crate::mem::addr::Gpfn;
use proptest::prelude::*;

const RESET_SINT: u64 = 0x1_0000;

#[test]
fn reset_values_are_the_tlfs_s() {
    let synic = Synic::new();
    let zero = [
        HV_X64_MSR_SCONTROL,
        HV_X64_MSR_SIMP,
        HV_X64_MSR_SIEFP,
        HV_X64_MSR_EOM,
    ];
    for msr in zero {
        assert_eq!(synic.read(msr), Ok(0));
    }
    assert_eq!(synic.read(HV_X64_MSR_SVERSION), Ok(1));
    for sint in 0..16 {
        assert_eq!(synic.read(HV_X64_MSR_SINT0 + sint), Ok(RESET_SINT));
    }
}

#[test]
fn all_of_them_and_no_others_are_the_synics() {
    for msr in 0x4000_0070..0x4000_00B8 {
        let expected = (0x4000_0080..=0x4000_0085).contains(&msr)
            || (0x4000_0090..=0x4000_009F).contains(&msr);
        assert_eq!(is_synic_msr(msr), expected, "{msr:x}");
    }
}

#[test]
fn an_unmasked_sint_needs_a_legal_vector() {
    let mut synic = Synic::new();
    let sint2 = HV_X64_MSR_SINT0 + 2;
    assert_eq!(synic.write(sint2, 0x0F), Err(GeneralProtection));
    assert_eq!(synic.write(sint2, 0), Err(GeneralProtection));
    assert_eq!(synic.read(sint2), Ok(RESET_SINT), "a fault has no effect");
    assert_eq!(synic.write(sint2, 0x10), Ok(SynicEffect::Retry(1 << 2)));
    assert!(
        synic.write(sint2, RESET_SINT).is_ok(),
        "the reset value is legal"
    );
    assert!(synic.write(sint2, RESET_SINT | 5).is_ok());
}

#[test]
fn the_version_is_read_only_and_a_child_has_no_event_ring() {
    let mut synic = Synic::new();
    assert_eq!(synic.write(HV_X64_MSR_SVERSION, 1), Err(GeneralProtection));
    assert_eq!(synic.read(HV_X64_MSR_SIRBP), Err(GeneralProtection));
    assert_eq!(synic.write(HV_X64_MSR_SIRBP, 1), Err(GeneralProtection));
}

#[test]
fn a_page_is_where_the_guest_puts_it() {
    let mut synic = Synic::new();
    assert_eq!(
        synic.write(HV_X64_MSR_SIMP, 0x1234_5001),
        Ok(SynicEffect::MessagePage(Some(Gpfn(0x12345))))
    );
    assert_eq!(synic.message_page(), Some(Gpfn(0x12345)));
    assert_eq!(
        synic.write(HV_X64_MSR_SIMP, 0x1234_5000),
        Ok(SynicEffect::MessagePage(None))
    );
    assert_eq!(
        synic.write(HV_X64_MSR_SIEFP, 0x7001),
        Ok(SynicEffect::EventFlagsPage(Some(Gpfn(7))))
    );
}

#[test]
fn the_roots_pages_are_where_the_hypervisor_put_them() {
    let mut synic = Synic::new_root(Gpfn(0x100), Gpfn(0x101), Gpfn(0x102));
    for (msr, page) in [
        (HV_X64_MSR_SIMP, 0x10_0000),
        (HV_X64_MSR_SIEFP, 0x10_1000),
        (HV_X64_MSR_SIRBP, 0x10_2000),
    ] {
        assert_eq!(synic.read(msr), Ok(page), "before it is enabled");
        assert!(synic.write(msr, 0xDEAD_0001).is_ok());
        assert_eq!(synic.read(msr), Ok(page | 1));
    }
    assert_eq!(synic.event_ring_page(), Some(Gpfn(0x102)));
    synic.reset();
    assert_eq!(synic.read(HV_X64_MSR_SIMP), Ok(0x10_0000));
    assert_eq!(
        synic,
        Synic::new_root(Gpfn(0x100), Gpfn(0x101), Gpfn(0x102))
    );
}

#[test]
fn what_opens_a_queue_asks_for_a_retry() {
    let mut synic = Synic::new();
    for msr in [HV_X64_MSR_SCONTROL, HV_X64_MSR_EOM] {
        assert_eq!(synic.write(msr, 1), Ok(SynicEffect::Retry(0xFFFF)));
    }
    assert_eq!(synic.read(HV_X64_MSR_EOM), Ok(0));
}

#[test]
fn messages_need_everything_on() {
    for off in [HV_X64_MSR_SCONTROL, HV_X64_MSR_SIMP] {
        let mut synic = enabled();
        assert!(synic.takes_messages(VMBUS));
        set(&mut synic, off, 0);
        assert!(!synic.takes_messages(VMBUS));
    }
    let mut synic = enabled();
    set(&mut synic, HV_X64_MSR_SINT0 + 2, RESET_SINT | 0xF3);
    assert!(!synic.takes_messages(VMBUS));
    assert_eq!(synic.signal(VMBUS), Signal::None);
}

#[test]
fn a_sint_signals_as_it_is_programmed() {
    let mut synic = enabled();
    let sint2 = HV_X64_MSR_SINT0 + 2;
    assert_eq!(synic.signal(VMBUS), Signal::Interrupt { vector: 0xF3 });
    set(&mut synic, sint2, 1 << 18 | 0xF3);
    assert_eq!(synic.signal(VMBUS), Signal::None, "polling");
    set(&mut synic, sint2, 1 << 19 | 0xF3);
    let interrupt = Signal::Interrupt { vector: 0xF3 };
    assert_eq!(synic.signal(VMBUS), interrupt, "a child has no notices");
    let mut root = Synic::new_root(Gpfn(1), Gpfn(2), Gpfn(3));
    set(&mut root, sint2, 1 << 19 | 0xF3);
    assert_eq!(root.signal(VMBUS), Signal::Notice(VMBUS));
    set(&mut root, HV_X64_MSR_SINT0, 1 << 19 | 0xF3);
    assert_eq!(
        root.signal(Sint::INTERCEPTS),
        Signal::Interrupt { vector: 0xF3 },
        "SINT0 carries the notices"
    );
}

#[test]
fn auto_eoi_is_per_vector_and_only_while_unmasked() {
    let mut synic = enabled();
    assert!(!synic.vectors().is_auto_eoi(0xF3));
    let sint5 = HV_X64_MSR_SINT0 + 5;
    set(&mut synic, sint5, 1 << 17 | 0xF3);
    assert!(synic.vectors().is_auto_eoi(0xF3));
    assert!(!synic.vectors().is_auto_eoi(0xF2));
    assert_eq!(synic.sints_with_vector(0xF3), 1 << 0 | 1 << 2 | 1 << 5);
    set(&mut synic, sint5, 1 << 17 | 1 << 16 | 0xF3);
    assert!(!synic.vectors().is_auto_eoi(0xF3));
}

proptest! {
    #[test]
    fn what_is_written_is_read(msr in 0x4000_0080u32..0x4000_00A0, value: u64) {
        let mut synic = Synic::new();
        if !is_synic_msr(msr) {
            return Ok(());
        }
        let before = synic.clone();
        match synic.write(msr, value) {
            // Reserved bits are preserved too: Linux reads, changes and writes.
            Ok(_) if msr != HV_X64_MSR_EOM => prop_assert_eq!(synic.read(msr), Ok(value)),
            Ok(_) => {}
            Err(GeneralProtection) => prop_assert_eq!(synic, before),
        }
    }

    #[test]
    fn any_msr_is_answered(msr: u32, value: u64) {
        let mut synic = Synic::new_root(Gpfn(u64::MAX), Gpfn(1), Gpfn(2));
        let _ = synic.read(msr);
        let _ = synic.write(msr, value);
    }
}
