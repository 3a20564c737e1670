//! Events: delivery, repetition, masking.

use super::*;

#[test]
fn interrupts_wait_for_if_shadow_and_a_free_slot() {
    let mut v = child();
    assert!(!v.can_take_interrupt());
    v.set_rflags(rflags::FIXED | rflags::IF);
    assert!(v.can_take_interrupt());
    v.set_interrupt_shadow(true);
    assert!(!v.can_take_interrupt() && !v.can_take_nmi());
    v.advance_rip(1);
    assert!(v.can_take_interrupt(), "the shadow covers one instruction");
    assert!(v.inject(Event::Interrupt(0x30)));
    assert!(!v.can_take_interrupt());
    assert_eq!(v.pending_event(), Some(Event::Interrupt(0x30)));
}

#[test]
fn an_interrupted_delivery_is_repeated() {
    let mut v = child();
    v.control_mut().exit_int_info = event::VALID | event::TYPE_INTERRUPT | 0x41;
    v.settle_events();
    assert_eq!(v.pending_event(), Some(Event::Interrupt(0x41)));
    v.control_mut().exit_int_info = 0;
    v.settle_events();
    assert_eq!(v.pending_event(), None, "delivered");
}

#[test]
fn an_interrupted_int_n_executes_again() {
    let mut v = exited(BARE, exit_code::NPF, 0, 0);
    v.control_mut().exit_int_info = event::VALID | event::TYPE_SOFTWARE | 0x80;
    v.settle_events();
    assert_eq!((v.pending_event(), v.rip()), (None, 0x1000));
    // The same, when the INT n had been injected and RIP moved for it.
    let int = Event::Software {
        vector: 0x80,
        length: 2,
    };
    assert!(v.inject(int));
    assert_eq!(v.pending_event(), Some(int));
    v.prepare_software_event();
    assert_eq!(v.rip(), 0x1002);
    v.settle_events();
    assert_eq!((v.pending_event(), v.rip()), (None, 0x1000));
}

#[test]
fn a_fault_in_delivery_becomes_a_double_and_then_a_triple_fault() {
    let mut v = child();
    let gp = Event::Exception {
        vector: vector::GP,
        error_code: Some(0),
    };
    assert!(v.inject(gp));
    assert!(v.inject(gp));
    let double = Event::Exception {
        vector: vector::DF,
        error_code: Some(0),
    };
    assert_eq!(v.pending_event(), Some(double));
    assert!(!v.inject(gp), "triple fault");
}

#[test]
fn a_single_stepping_guest_traps_after_an_emulated_instruction() {
    let mut v = child();
    v.set_rflags(rflags::FIXED | rflags::TF | rflags::RF);
    v.advance_rip(2);
    assert_eq!(v.rip(), 0xFFF2);
    assert_eq!(v.rflags() & rflags::RF, 0);
    assert!(matches!(
        v.pending_event(),
        Some(Event::Exception {
            vector: vector::DB,
            ..
        })
    ));
    assert_ne!(v.dr6() & 1 << 14, 0);
}

#[test]
fn no_error_code_is_delivered_in_real_mode() {
    const CODE: u64 = 1 << 11;
    let gp = Event::Exception {
        vector: vector::GP,
        error_code: Some(0),
    };
    let mut v = child();
    assert!(v.inject(gp));
    v.prepare_event();
    assert_eq!(v.control().event_inj & CODE, 0);
    let mut v = child();
    v.set_cr0(cr0::PE);
    assert!(v.inject(gp));
    v.prepare_event();
    assert_ne!(v.control().event_inj & CODE, 0);
}

#[test]
fn rip_wraps_outside_64_bit_code() {
    let mut v = child();
    v.set_rip(0xFFFF_FFFF);
    v.advance_rip(2);
    assert_eq!(v.rip(), 1);
    let mut v = exited(BARE, exit_code::CPUID, 0, 0);
    v.set_rip(0xFFFF_FFFF);
    v.advance_rip(2);
    assert_eq!(v.rip(), 0x1_0000_0001);
}

#[test]
fn an_nmi_masks_the_next_until_its_iret_has_executed() {
    let mut v = child();
    assert!(v.can_take_nmi());
    assert!(v.inject(Event::Nmi));
    assert!(v.nmi_masked());
    assert_ne!(v.control().intercept_misc1 & misc1::IRET, 0);
    v.settle_events();
    // IRET is about to execute at the current RIP.
    v.iret_begins();
    assert!(v.nmi_masked());
    assert_eq!(v.control().intercept_misc1 & misc1::IRET, 0);
    v.set_rip(0x2000);
    v.settle_events();
    assert!(!v.nmi_masked() && v.can_take_nmi());
}

#[test]
fn a_waiting_nmi_steps_over_the_iret() {
    let mut v = child();
    assert!(v.inject(Event::Nmi));
    v.settle_events();
    v.set_nmi_window(true);
    v.iret_begins();
    assert_ne!(v.rflags() & rflags::TF, 0);
    assert_ne!(v.control().intercept_exceptions & 1 << vector::DB, 0);
    // IRET popped flags without TF; the step's #DB exits.
    v.set_rflags(rflags::FIXED);
    v.set_rip(0x2000);
    v.set_dr6(0xFFFF_4FF0);
    assert!(v.debug_exit_ends_step());
    assert!(!v.nmi_masked());
    assert_eq!(v.dr6(), 0xFFFF_0FF0);
    assert!(!v.debug_exit_ends_step(), "a later #DB is the guest's");
}

#[test]
fn the_window_asks_with_a_virtual_interrupt_above_every_priority() {
    let mut v = child();
    v.set_cr8(15);
    v.set_interrupt_window(true);
    let c = v.control();
    assert_ne!(c.intercept_misc1 & misc1::VINTR, 0);
    assert_eq!(
        c.vintr & (vintr::IRQ | vintr::IGNORE_TPR),
        vintr::IRQ | vintr::IGNORE_TPR
    );
    assert_eq!(v.cr8(), 15);
    v.set_interrupt_window(false);
    assert_eq!(v.control().vintr & (vintr::IRQ | vintr::IGNORE_TPR), 0);
    assert_eq!(v.control().intercept_misc1 & misc1::VINTR, 0);
}

#[test]
fn a_waiting_nmi_steps_over_an_interrupt_shadow() {
    let mut v = child();
    v.set_interrupt_shadow(true);
    v.set_nmi_window(true);
    assert_ne!(v.rflags() & rflags::TF, 0);
    assert!(!v.can_take_nmi());
    v.set_interrupt_shadow(false);
    v.set_rip(0x2000);
    assert!(v.debug_exit_ends_step() && v.can_take_nmi());
    assert_eq!(v.rflags() & rflags::TF, 0, "the guest never had it");
}

#[test]
fn a_late_request_steps_over_an_iret_that_has_not_executed() {
    let mut v = child();
    assert!(v.inject(Event::Nmi));
    v.settle_events();
    v.iret_begins();
    assert_eq!(v.rflags() & rflags::TF, 0, "nobody waits");
    v.set_nmi_window(true);
    assert_ne!(v.rflags() & rflags::TF, 0);
}

/// What is left of an interrupt shadow after a run on a processor that forgets it, or does not, whose end says that there is
/// none.
fn shadow_after(forgets_shadow: bool, run: impl FnOnce(&mut Vcpu)) -> bool {
    let caps = Capabilities {
        forgets_shadow,
        ..BARE
    };
    let mut v = vcpu(caps, VcpuKind::Child);
    v.set_rflags(rflags::FIXED | rflags::IF);
    v.set_interrupt_shadow(true);
    v.note_shadow();
    v.set_interrupt_shadow(false);
    run(&mut v);
    v.settle_events();
    v.interrupt_shadow()
}

#[test]
fn a_forgotten_shadow_comes_back_while_nothing_has_executed() {
    let left_by = |code| move |v: &mut Vcpu| v.control_mut().exit_code = code;
    assert!(shadow_after(true, left_by(exit_code::INTR)));
    assert!(shadow_after(true, left_by(exit_code::NMI)));
    // The window opened: the processor has no shadow.
    assert!(!shadow_after(true, left_by(exit_code::VINTR)));
    assert!(!shadow_after(false, left_by(exit_code::INTR)));
    assert!(!shadow_after(true, |v| {
        v.control_mut().exit_code = exit_code::INTR;
        v.set_rip(v.rip() + 1);
    }));
}

/// A VP with interrupts on and one injected, on a processor that may deliver it twice, about to be entered.
fn posting() -> Vcpu {
    let caps = Capabilities {
        repeats_interrupts: true,
        ..BARE
    };
    let mut v = vcpu(caps, VcpuKind::Child);
    v.set_rflags(rflags::FIXED | rflags::IF);
    v.set_cr8(7);
    assert!(v.inject(Event::Interrupt(0x24)));
    v
}

#[test]
fn a_posted_interrupt_is_a_virtual_one_above_every_priority_and_without_a_window() {
    let mut v = posting();
    v.post_interrupt();
    let c = v.control();
    assert_eq!(c.event_inj, 0, "not also an event");
    assert_eq!(c.vintr >> 32 & 0xFF, 0x24);
    let bits = vintr::IRQ | vintr::IGNORE_TPR;
    assert_eq!(c.vintr & bits, bits);
    assert_eq!(c.intercept_misc1 & misc1::VINTR, 0);
    // The processor takes it.
    v.control_mut().vintr &= !vintr::IRQ;
    v.set_rflags(rflags::FIXED);
    v.settle_events();
    assert_eq!(v.pending_event(), None);
    assert_eq!(
        v.control().vintr,
        vintr::MASKING | 7,
        "nothing stays behind"
    );
    assert_eq!(v.cr8(), 7);
}

#[test]
fn a_posted_interrupt_that_was_not_taken_is_pending_again() {
    let mut v = posting();
    v.post_interrupt();
    v.settle_events();
    assert_eq!(v.pending_event(), Some(Event::Interrupt(0x24)));
    assert!(!v.can_take_interrupt(), "it comes before any other");
    assert_eq!(v.control().vintr, vintr::MASKING | 7);
}

#[test]
fn a_posted_interrupt_whose_delivery_faults_is_what_was_in_delivery() {
    // A nested page fault, as QEMU reports it; and as a processor does.
    let vector = 0x24;
    for (taken, kind) in [
        (false, event::TYPE_EXCEPTION),
        (true, event::TYPE_INTERRUPT),
    ] {
        let mut v = posting();
        v.post_interrupt();
        v.control_mut().exit_int_info = event::VALID | kind | vector;
        if taken {
            v.control_mut().vintr &= !vintr::IRQ;
        }
        v.settle_events();
        assert_eq!(v.pending_event(), Some(Event::Interrupt(0x24)));
    }
}

#[test]
fn a_posted_interrupt_never_hides_an_exception_in_delivery() {
    let mut v = posting();
    v.post_interrupt();
    v.control_mut().exit_int_info = event::VALID | event::TYPE_EXCEPTION | u64::from(vector::PF);
    v.settle_events();
    assert!(matches!(
        v.pending_event(),
        Some(Event::Exception { vector: 14, .. })
    ));
}

#[test]
fn an_interrupt_is_repeated_only_beside_a_window_and_only_by_a_processor_that_does() {
    let mut v = posting();
    assert!(!v.repeats_event(), "it is posted");
    v.set_interrupt_window(true);
    assert!(v.repeats_event());
    v.set_pending_event(Some(Event::Nmi));
    assert!(!v.repeats_event());
    v.set_pending_event(None);
    assert!(!v.repeats_event());
    let mut v = child();
    v.set_rflags(rflags::FIXED | rflags::IF);
    assert!(v.inject(Event::Interrupt(0x24)));
    v.set_interrupt_window(true);
    assert!(!v.repeats_event());
}

#[test]
fn an_event_that_must_not_wait_is_not_posted() {
    let unchanged = |v: &mut Vcpu| {
        let before = (v.control().event_inj, v.control().vintr);
        v.post_interrupt();
        assert_eq!((v.control().event_inj, v.control().vintr), before);
        assert_eq!(v.posted, None);
    };
    // Set by the parent although the VP does not take interrupts.
    let mut v = posting();
    v.set_rflags(rflags::FIXED);
    unchanged(&mut v);
    let mut v = posting();
    v.set_interrupt_shadow(true);
    unchanged(&mut v);
    // The virtual interrupt is in use.
    let mut v = posting();
    v.set_interrupt_window(true);
    unchanged(&mut v);
    let mut v = posting();
    v.set_pending_event(Some(Event::Nmi));
    unchanged(&mut v);
    v.set_pending_event(None);
    unchanged(&mut v);
}
