//! VPs without a processor: state in, state out.

mod events;
mod exits;
mod recorded;
mod wild;

use crate::arch::exit::{Access, CrExit, Event, ExceptionExit, Exit, IoExit, NestedFault};
use crate::arch::page::HwPages;
use crate::arch::state::{Segment, SegmentName, SystemRegister, cr0, rflags, vector};
use crate::arch::{Flush, VcpuConfig, VcpuKind};
use crate::mem::addr::{Gpa, Spa};

use crate::arch::svm::bits::{clean, event, exit_code, misc1, misc2, tlb_control, vintr};
use crate::arch::svm::enable::Capabilities;
use crate::arch::svm::exits as svm_exits;
use crate::arch::svm::vcpu::Vcpu;

const BARE: Capabilities = Capabilities {
    asids: 16,
    nrip_save: false,
    decode_assists: false,
    flush_by_asid: false,
    clean_bits: false,
    pause_filter: false,
    pause_threshold: false,
    spec_ctrl: false,
    tsc_aux: true,
    repeats_interrupts: false,
    forgets_shadow: false,
};
const RICH: Capabilities = Capabilities {
    asids: 0x8000,
    nrip_save: true,
    decode_assists: true,
    flush_by_asid: true,
    clean_bits: true,
    pause_filter: true,
    pause_threshold: true,
    spec_ctrl: true,
    tsc_aux: true,
    repeats_interrupts: false,
    forgets_shadow: false,
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
    v.set_cr0(cr0::PG | cr0::PE);
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
    svm_exits::decode(v.control(), v.save(), v.caps.decode_assists)
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
    v.save_mut().ss = crate::arch::svm::vmcb::VmcbSegment::default();
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
    for flush in [Flush::Tag, Flush::Domain] {
        v.set_tlb(3, flush);
        assert_eq!(v.control().tlb_control, tlb_control::THIS_GUEST);
    }
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
