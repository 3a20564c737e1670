//! VPs without a processor: state in, state out, and exits from recorded control blocks.

use crate::arch::exit::{Access, CrExit, Event, ExceptionExit, Exit, IoExit, NestedFault};
use crate::arch::page::HwPages;
use crate::arch::state::{Segment, SegmentName, SystemRegister, cr0, rflags, vector};
use crate::arch::{Flush, VcpuConfig, VcpuKind};
use crate::mem::addr::{Gpa, Spa};

use super::enable::Capabilities;
use super::exits;
use super::vcpu::Vcpu;
use super::vmcb::{clean, event, exit_code, misc1, misc2, tlb_control, vintr};

const BARE: Capabilities = Capabilities {
    asids: 16,
    nrip_save: false,
    decode_assists: false,
    flush_by_asid: false,
    clean_bits: false,
    pause_filter: false,
    pause_threshold: false,
    vgif: true,
    spec_ctrl: false,
    tsc_aux: true,
};
const RICH: Capabilities = Capabilities {
    asids: 0x8000,
    nrip_save: true,
    decode_assists: true,
    flush_by_asid: true,
    clean_bits: true,
    pause_filter: true,
    pause_threshold: true,
    vgif: true,
    spec_ctrl: true,
    tsc_aux: true,
};

fn vcpu(caps: Capabilities, kind: VcpuKind) -> Vcpu {
    let config = VcpuConfig {
        kind,
        nested_root: Spa(0x7000),
        port_map: Spa(0x1_0000),
        msr_map: Spa(0x2_0000),
    };
    Vcpu::new(HwPages::for_test(0x5000, 1), caps, &config)
}

fn child() -> Vcpu {
    vcpu(BARE, VcpuKind::Child)
}

/// A VP that has just left the guest in 64-bit code at 0x1000 with this exit.
fn exited(caps: Capabilities, code: u64, info1: u64, info2: u64) -> Vcpu {
    let mut v = vcpu(caps, VcpuKind::Child);
    v.set_efer(0x500);
    v.set_segment(
        SegmentName::Cs,
        &Segment {
            limit: u32::MAX,
            selector: 8,
            attributes: 0xA09B,
            base: 0,
        },
    );
    v.set_rip(0x1000);
    let control = v.control_mut();
    (control.exit_code, control.exit_info1, control.exit_info2) = (code, info1, info2);
    control.next_rip = 0x1003;
    v
}

fn decoded(v: &Vcpu) -> Exit {
    exits::decode(v.control(), v.save(), v.caps.decode_assists)
}

#[test]
fn reset_state_is_that_of_the_manual() {
    let mut v = child();
    v.gprs_mut().rsi = 7;
    v.set_cr3(0x1000);
    v.set_cr8(5);
    v.reset(0x0083_0F10);
    assert_eq!(v.gprs().rdx, 0x0083_0F10);
    assert_eq!(v.gprs().rsi, 0);
    assert_eq!((v.rip(), v.rflags(), v.cr3(), v.cr8()), (0xFFF0, 2, 0, 0));
    assert_eq!(v.cr0(), cr0::ET | cr0::CD | cr0::NW);
    assert_eq!(v.efer(), 0, "SVME is not the guest's to see");
    assert_eq!(v.save().efer, 1 << 12, "VMRUN demands SVME");
    let cs = v.segment(SegmentName::Cs);
    assert_eq!(
        (cs.selector, cs.base, cs.limit, cs.attributes),
        (0xF000, 0xFFFF_0000, 0xFFFF, 0x9B)
    );
    assert_eq!(v.dr6(), 0xFFFF_0FF0);
    assert_eq!(
        v.system_register(SystemRegister::Pat),
        0x0007_0406_0007_0406
    );
    assert_eq!(v.control().guest_asid, 1);
    assert_ne!(
        v.control().vintr & vintr::MASKING,
        0,
        "physical interrupts obey the host's IF"
    );
}

#[test]
fn a_child_is_kept_from_everything_that_reaches_the_machine() {
    let v = child();
    let c = v.control();
    let needed = misc1::INTR
        | misc1::NMI
        | misc1::INIT
        | misc1::IOIO_PROT
        | misc1::MSR_PROT
        | misc1::SHUTDOWN;
    assert_eq!(c.intercept_misc1 & needed, needed);
    let svm = misc2::VMRUN
        | misc2::VMMCALL
        | misc2::VMLOAD
        | misc2::VMSAVE
        | misc2::STGI
        | misc2::CLGI
        | misc2::SKINIT;
    assert_eq!(c.intercept_misc2 & svm, svm);
    let endless = 1 << vector::DB | 1 << vector::AC | 1 << vector::MC;
    assert_eq!(c.intercept_exceptions, endless);
    assert_eq!(
        c.intercept_misc1 & misc1::PAUSE,
        0,
        "without the filter every PAUSE would exit"
    );
    assert_ne!(
        vcpu(RICH, VcpuKind::Child).control().intercept_misc1 & misc1::PAUSE,
        0
    );
    assert_eq!(
        vcpu(BARE, VcpuKind::Root).control().intercept_exceptions,
        1 << vector::MC
    );
}

#[test]
fn ss_carries_the_privilege_level_even_when_null() {
    let mut v = child();
    let user = Segment {
        attributes: 0xC0F3,
        limit: u32::MAX,
        ..Segment::default()
    };
    v.set_segment(SegmentName::Ss, &user);
    assert_eq!(v.cpl(), 3);
    v.save_mut().ss = super::vmcb::VmcbSegment::default();
    assert_eq!(v.segment(SegmentName::Ss).dpl(), 3);
}

#[test]
fn granularity_follows_the_limit() {
    let mut v = child();
    v.set_segment(
        SegmentName::Ds,
        &Segment {
            limit: u32::MAX,
            attributes: 0x4093,
            ..Segment::default()
        },
    );
    assert_eq!(v.segment(SegmentName::Ds).attributes, 0xC093);
}

#[test]
fn setters_mark_exactly_what_they_change() {
    let mut v = vcpu(RICH, VcpuKind::Child);
    let mut marked = |change: &dyn Fn(&mut Vcpu)| {
        v.control_mut().clean_bits = clean::ALL;
        change(&mut v);
        clean::ALL & !v.control().clean_bits
    };
    assert_eq!(marked(&|v| v.set_rip(1)), 0);
    assert_eq!(marked(&|v| v.set_cr3(0x1000)), clean::CR);
    assert_eq!(marked(&|v| v.set_cr2(1)), clean::CR2);
    assert_eq!(marked(&|v| v.set_cr8(0)), 0, "unchanged");
    assert_eq!(marked(&|v| v.set_cr8(3)), clean::TPR);
    assert_eq!(marked(&|v| v.set_tlb(1, Flush::Tag)), 0);
    assert_eq!(marked(&|v| v.set_tlb(2, Flush::None)), clean::ASID);
    assert_eq!(marked(&|v| v.set_nested_root(Spa(0x9000))), clean::NESTED);
    assert_eq!(
        marked(&|v| v.set_system_register(SystemRegister::Pat, 6)),
        clean::NESTED
    );
    assert_eq!(
        marked(&|v| v.set_interrupt_window(true)),
        clean::TPR | clean::INTERCEPTS
    );
}

#[test]
fn a_flush_grows_and_never_shrinks() {
    let mut v = vcpu(RICH, VcpuKind::Child);
    v.set_tlb(3, Flush::Tag);
    assert_eq!(v.control().tlb_control, tlb_control::THIS_GUEST);
    v.set_tlb(3, Flush::All);
    v.set_tlb(3, Flush::Tag);
    v.set_tlb(3, Flush::None);
    assert_eq!(v.control().tlb_control, tlb_control::ALL);
    let mut bare = child();
    bare.set_tlb(3, Flush::Tag);
    assert_eq!(
        bare.control().tlb_control,
        tlb_control::ALL,
        "no way to flush one tag"
    );
}

#[test]
fn ports_are_decoded_with_the_next_instruction() {
    // IN AX, 0x3FD: IN, 16 bits.
    let v = exited(BARE, exit_code::IOIO, 0x03FD_0021, 0x1002);
    let io = IoExit {
        port: 0x3FD,
        size: 2,
        input: true,
        string: false,
        rep: false,
        next_rip: Some(0x1002),
    };
    assert_eq!(decoded(&v), Exit::Io(io));
    assert_eq!(
        v.instruction_length(),
        Some(2),
        "ports tell their length on every processor"
    );
    // REP OUTSB to 0x80.
    let v = exited(BARE, exit_code::IOIO, 0x0080_001C, 0x1002);
    assert!(matches!(
        decoded(&v),
        Exit::Io(IoExit {
            port: 0x80,
            size: 1,
            input: false,
            string: true,
            rep: true,
            ..
        })
    ));
}

#[test]
fn msr_direction_is_in_the_information() {
    assert_eq!(decoded(&exited(BARE, exit_code::MSR, 0, 0)), Exit::MsrRead);
    assert_eq!(decoded(&exited(BARE, exit_code::MSR, 1, 0)), Exit::MsrWrite);
}

#[test]
fn nested_faults_tell_access_and_table_walks() {
    let fault = |info1| match decoded(&exited(BARE, exit_code::NPF, info1, 0xFEE0_0300)) {
        Exit::NestedFault(f) => f,
        other => panic!("{other:?}"),
    };
    let read = NestedFault {
        gpa: Gpa(0xFEE0_0300),
        gva: None,
        access: Access::Read,
        table_walk: false,
    };
    assert_eq!(fault(0x1_0000_0004), read);
    assert_eq!(fault(0x1_0000_0006).access, Access::Write);
    assert_eq!(fault(0x1_0000_0014).access, Access::Execute);
    assert!(fault(0x2_0000_0006).table_walk);
}

#[test]
fn control_registers_name_their_operand_with_decode_assists_only() {
    let exit = |caps| decoded(&exited(caps, 0x13, 1 << 63 | 9, 0));
    let mov = |gpr| {
        Exit::ControlRegister(CrExit {
            register: 3,
            write: true,
            gpr,
        })
    };
    assert_eq!(exit(RICH), mov(Some(9)));
    assert_eq!(exit(BARE), mov(None));
}

#[test]
fn exceptions_carry_their_parameters() {
    let v = exited(BARE, exit_code::EXCEPTION_0 + 14, 6, 0xFFFF_8000_0000_1234);
    let fault = ExceptionExit {
        vector: 14,
        error_code: Some(6),
        parameter: 0xFFFF_8000_0000_1234,
    };
    assert_eq!(decoded(&v), Exit::Exception(fault));
    let v = exited(BARE, exit_code::EXCEPTION_0 + 6, 0x55, 0);
    assert!(matches!(
        decoded(&v),
        Exit::Exception(ExceptionExit {
            error_code: None,
            ..
        })
    ));
}

#[test]
fn what_a_guest_does_not_have_is_absent() {
    for code in [
        exit_code::VMRUN,
        exit_code::VMLOAD,
        0x83,
        0x84,
        0x85,
        exit_code::SKINIT,
        exit_code::MWAIT,
    ] {
        let absent = Exit::Absent {
            general_protection: false,
        };
        assert_eq!(decoded(&exited(BARE, code, 0, 0)), absent, "{code:#x}");
    }
    assert_eq!(
        decoded(&exited(BARE, exit_code::INVALID, 0, 0)),
        Exit::InvalidState
    );
    assert_eq!(
        decoded(&exited(BARE, 0x999, 7, 0)),
        Exit::Unknown {
            code: 0x999,
            info: 7
        }
    );
}

#[test]
fn lengths_come_from_the_processor_or_not_at_all() {
    assert_eq!(
        exited(RICH, exit_code::CPUID, 0, 0).instruction_length(),
        Some(3)
    );
    assert_eq!(
        exited(BARE, exit_code::CPUID, 0, 0).instruction_length(),
        None
    );
    assert_eq!(
        exited(RICH, exit_code::NPF, 0, 0).instruction_length(),
        None,
        "not saved on faults"
    );
    let mut wild = exited(RICH, exit_code::CPUID, 0, 0);
    wild.control_mut().next_rip = 0x9999;
    assert_eq!(
        wild.instruction_length(),
        None,
        "no instruction is that long"
    );
}

#[test]
fn instruction_bytes_need_decode_assists_and_a_fault() {
    let mut v = exited(RICH, exit_code::NPF, 0, 0);
    v.control_mut().bytes_fetched = 2;
    v.control_mut().instruction[..2].copy_from_slice(&[0x89, 0x07]);
    assert_eq!(v.instruction_bytes(), [0x89, 0x07]);
    v.caps = BARE;
    assert!(v.instruction_bytes().is_empty());
}

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
    v.requeue_interrupted_event();
    assert_eq!(v.pending_event(), Some(Event::Interrupt(0x41)));
    v.control_mut().exit_int_info = 0;
    v.requeue_interrupted_event();
    assert_eq!(v.pending_event(), None, "delivered");
}

#[test]
fn an_interrupted_int_n_executes_again() {
    let mut v = exited(BARE, exit_code::NPF, 0, 0);
    v.control_mut().exit_int_info = event::VALID | event::TYPE_SOFTWARE | 0x80;
    v.requeue_interrupted_event();
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
    v.requeue_interrupted_event();
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
    v.requeue_interrupted_event();
    // IRET is about to execute at the current RIP.
    v.iret_begins();
    assert!(v.nmi_masked());
    assert_eq!(v.control().intercept_misc1 & misc1::IRET, 0);
    v.set_rip(0x2000);
    v.observe_iret();
    assert!(!v.nmi_masked() && v.can_take_nmi());
}

#[test]
fn a_waiting_nmi_steps_over_the_iret() {
    let mut v = child();
    assert!(v.inject(Event::Nmi));
    v.requeue_interrupted_event();
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
