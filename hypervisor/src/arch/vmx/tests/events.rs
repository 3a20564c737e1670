//! Events into the guest, and exits that interrupt their delivery.

use super::*;

const FAULT: Event = Event::Exception {
    vector: vector::GP,
    error_code: Some(0),
};

#[test]
fn an_event_is_pending_as_it_was_injected() {
    let mut v = long_mode();
    for event in [
        FAULT,
        Event::Nmi,
        Event::Interrupt(0x41),
        Event::Software {
            vector: 0x80,
            length: 2,
        },
        Event::Exception {
            vector: vector::UD,
            error_code: None,
        },
    ] {
        v.set_pending_event(Some(event));
        assert_eq!(v.pending_event(), Some(event));
    }
    v.set_pending_event(None);
    assert_eq!(v.pending_event(), None);
}

#[test]
fn whether_an_error_code_is_delivered_is_decided_at_the_entry() {
    const CODE: u64 = 1 << 11;
    let mut v = child();
    v.set_pending_event(Some(FAULT));
    assert_eq!(v.pending_event(), Some(FAULT));
    // Protection may be turned on later than the event is set.
    let mut protected = long_mode();
    protected.set_pending_event(Some(FAULT));
    for v in [&mut v, &mut protected] {
        v.settle_error_code();
    }
    assert_eq!(v.control.get(Control::EntryInterruption) & CODE, 0);
    assert_ne!(protected.control.get(Control::EntryInterruption) & CODE, 0);
}

#[test]
fn an_nmi_window_behind_sti_waits_on_every_processor() {
    let mut v = long_mode();
    v.set_rflags(rflags::FIXED | rflags::IF);
    v.set_interrupt_shadow(true);
    assert_eq!(v.field(Guest::Interruptibility), 1);
    v.set_nmi_window(true);
    assert_eq!(v.field(Guest::Interruptibility), 2);
    assert!(v.interrupt_shadow());
}

#[test]
fn the_delivery_of_a_debug_exception_ends_general_detect() {
    let mut v = long_mode();
    v.set_dr7(0x2401);
    v.set_pending_event(Some(FAULT));
    assert_eq!(v.dr7(), 0x2401);
    let debug = Event::Exception {
        vector: vector::DB,
        error_code: None,
    };
    v.set_pending_event(Some(debug));
    assert_eq!(v.dr7(), 0x401);
}

#[test]
fn an_interrupt_waits_for_if_the_shadow_and_an_event_under_way() {
    let mut v = long_mode();
    assert!(!v.can_take_interrupt());
    v.set_rflags(rflags::FIXED | rflags::IF);
    assert!(v.can_take_interrupt());
    v.set_interrupt_shadow(true);
    assert!(!v.can_take_interrupt() && !v.can_take_nmi());
    v.set_interrupt_shadow(false);
    v.set_pending_event(Some(FAULT));
    assert!(!v.can_take_interrupt() && !v.can_take_nmi());
}

/// What an exit says of an event in delivery.
fn interrupted(v: &mut Vcpu, information: u64, error_code: u64, length: u64) {
    v.info.note(Info::IdtVectoringInformation, information);
    v.info.note(Info::IdtVectoringErrorCode, error_code);
    v.info.note(Info::InstructionLength, length);
    v.requeue_interrupted_event();
}

#[test]
fn an_interrupted_delivery_is_made_again() {
    let mut v = long_mode();
    interrupted(&mut v, 0x8000_0B0D, 0x18, 0);
    let fault = Event::Exception {
        vector: vector::GP,
        error_code: Some(0x18),
    };
    assert_eq!(v.pending_event(), Some(fault));
    let mut v = long_mode();
    interrupted(&mut v, 0x8000_0480, 0, 2);
    let software = Event::Software {
        vector: 0x80,
        length: 2,
    };
    assert_eq!(v.pending_event(), Some(software));
    assert_eq!(v.rip(), 0x1000, "it is delivered from its instruction");
    let mut v = long_mode();
    v.set_nmi_masked(true);
    interrupted(&mut v, 0x8000_0202, 0, 0);
    assert_eq!(v.pending_event(), Some(Event::Nmi));
    assert!(!v.nmi_masked(), "its delivery masks them again");
}

#[test]
fn a_fault_in_the_delivery_of_a_fault_is_a_double_fault() {
    let mut v = long_mode();
    interrupted(&mut v, 0x8000_0B0D, 0, 0);
    assert!(v.inject(FAULT));
    let double = Event::Exception {
        vector: vector::DF,
        error_code: Some(0),
    };
    assert_eq!(v.pending_event(), Some(double));
    assert!(!v.inject(FAULT), "and one more is the end");
}

#[test]
fn an_emulated_instruction_ends_the_shadow_and_traps_when_single_stepped() {
    let mut v = long_mode();
    v.set_interrupt_shadow(true);
    v.set_rflags(rflags::FIXED | rflags::TF | rflags::RF);
    v.advance_rip(2);
    assert_eq!(v.rip(), 0x1002);
    assert!(!v.interrupt_shadow());
    assert_eq!(v.rflags(), rflags::FIXED | rflags::TF);
    assert_ne!(v.dr6() & 1 << 14, 0);
    let trap = Event::Exception {
        vector: vector::DB,
        error_code: None,
    };
    assert_eq!(v.pending_event(), Some(trap));
}

#[test]
fn only_code_below_4_gib_wraps_and_only_outside_of_64_bit_mode() {
    let mut v = long_mode();
    v.set_rip(0xFFFF_FFFE);
    v.advance_rip(3);
    assert_eq!(v.rip(), 0x1_0000_0001);
    let mut v = child();
    v.set_cr0(cr0::PE | cr0::ET);
    v.set_rip(0xFFFF_FFFE);
    v.advance_rip(3);
    assert_eq!(v.rip(), 1);
}

#[test]
fn a_shadow_without_if_is_one_of_mov_ss_and_carries_the_pending_trap() {
    let mut v = long_mode();
    v.set_interrupt_shadow(true);
    v.set_rflags(rflags::FIXED | rflags::TF);
    v.reconcile_shadow();
    assert_eq!(v.field(Guest::Interruptibility), 2);
    assert_eq!(v.field(Guest::PendingDebugExceptions), 1 << 14);
    v.set_rflags(rflags::FIXED);
    v.reconcile_shadow();
    assert_eq!(v.field(Guest::PendingDebugExceptions), 0);
}

#[test]
fn an_intercepted_debug_exception_tells_its_conditions_in_dr6() {
    let mut v = long_mode();
    v.set_exception_intercepts(1 << vector::DB);
    v.reason = 0;
    v.info.note(Info::IdtVectoringInformation, 0);
    v.info.note(Info::InterruptionInformation, 0x8000_0301);
    v.info.note(Info::Qualification, 1 << 14 | 1);
    let Exit::Exception(exception) = v.rare_exit() else {
        panic!("another exit");
    };
    assert_eq!((exception.vector, exception.parameter), (1, 0xFFFF_4FF1));
    assert_eq!(v.dr6(), 0xFFFF_4FF1);
}

/// The processor's rule for an entry: a shadow under TF has the single step pending.
#[test]
fn a_single_step_over_sti_can_be_entered_again() {
    let mut v = long_mode();
    v.set_rflags(rflags::FIXED | rflags::IF | rflags::TF);
    v.set_interrupt_shadow(true);
    v.guest.set(Guest::PendingDebugExceptions, 0);
    v.reason = 0;
    v.info.note(Info::IdtVectoringInformation, 0);
    v.info.note(Info::InterruptionInformation, 0x8000_0301);
    v.info.note(Info::Qualification, 1 << 14);
    assert_eq!(v.rare_exit(), Exit::Internal);
    assert_eq!(v.field(Guest::PendingDebugExceptions), 1 << 14);
    assert!(v.interrupt_shadow());
}

#[test]
fn an_iret_that_faulted_blocks_nmis_again() {
    let mut v = long_mode();
    v.reason = 48;
    v.info.note(Info::IdtVectoringInformation, 0);
    v.info.note(Info::Qualification, 1 << 12 | 1);
    assert_eq!(v.rare_exit(), Exit::NestedFault);
    assert!(v.nmi_masked());
}
