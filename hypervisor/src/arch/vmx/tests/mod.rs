//! VPs without a processor: state in, state out.

mod checks;
mod events;

use crate::arch::exit::{Event, Exit};
use crate::arch::page::HwPages;
use crate::arch::state::{Segment, SegmentName, SystemRegister, cr0, rflags, vector};
use crate::arch::{CrIntercepts, VcpuConfig, VcpuKind};
use crate::mem::addr::Spa;

use super::capabilities::{Capabilities, Fixed};
use super::controls::primary;
use super::fields::{Control, Guest, Info};
use super::vcpu::Vcpu;

fn vcpu(kind: VcpuKind) -> Vcpu {
    let caps = Capabilities {
        vmcs_revision: 0x2B,
        cr0_fixed: Fixed {
            ones: 0x8000_0021,
            may: 0xFFFF_FFFF,
        },
        cr4_fixed: Fixed {
            ones: 0x2000,
            may: 0x37_27FF,
        },
        ..Capabilities::default()
    };
    let config = VcpuConfig {
        kind,
        nested_root: Spa(0x7000),
        port_map: Spa(0x1_0000),
        msr_map: Spa(0x2_0000),
    };
    Vcpu::new(HwPages::for_test(0x5000, 1), caps, &config)
}

pub(super) fn child() -> Vcpu {
    vcpu(VcpuKind::Child)
}

/// In 64-bit code at 0x1000, ring 0.
fn long_mode() -> Vcpu {
    let mut v = child();
    v.set_cr0(0x8005_0033);
    v.set_cr4(0x20);
    v.set_efer(0xD00);
    let code = Segment {
        limit: u32::MAX,
        selector: 8,
        attributes: 0xA09B,
        base: 0,
    };
    let data = Segment {
        selector: 16,
        attributes: 0xC093,
        ..code
    };
    v.set_segment(SegmentName::Cs, &code);
    for name in [SegmentName::Ss, SegmentName::Ds, SegmentName::Es] {
        v.set_segment(name, &data);
    }
    v.set_rip(0x1000);
    v
}

#[test]
fn the_guest_sees_cr0_and_cr4_as_it_set_them_and_the_processor_has_what_vmx_demands() {
    let mut v = child();
    v.set_cr0(0x6000_0010);
    v.set_cr4(0);
    assert_eq!((v.cr0(), v.cr4()), (0x6000_0010, 0));
    assert_eq!(v.field(Guest::Cr0), 0x30, "NE on, the cache's bits off");
    assert_eq!(v.field(Guest::Cr4), 0x2040, "VMXE and MCE on");
    v.set_cr_intercepts(&CrIntercepts {
        cr0: 1 << 31 | 1,
        cr4: 1 << 5,
        cr8: true,
    });
    assert_eq!((v.cr0(), v.cr4()), (0x6000_0010, 0));
    assert_eq!(v.control.get(Control::Cr0Mask), 0xE000_0021);
    assert_eq!(v.control.get(Control::Cr4Mask), !0x0077_0F9F);
    assert_ne!(
        v.control.get(Control::Primary) & u64::from(primary::CR8_LOAD_EXITING),
        0
    );
    v.set_cr_intercepts(&CrIntercepts::default());
    assert_eq!(v.control.get(Control::Cr0Mask), 0x6000_0020);
}

#[test]
fn segments_survive_the_round_trip() {
    let mut v = child();
    let null = Segment {
        attributes: 0,
        ..Segment::default()
    };
    v.set_segment(SegmentName::Fs, &null);
    assert_eq!(v.segment(SegmentName::Fs), null);
    let user = Segment {
        base: 0,
        limit: u32::MAX,
        selector: 0x33,
        attributes: 0xA0FB,
    };
    v.set_segment(SegmentName::Cs, &user);
    assert_eq!(v.segment(SegmentName::Cs), user);
    let stack = Segment {
        selector: 0x2B,
        attributes: 0xC0F3,
        ..user
    };
    v.set_segment(SegmentName::Ss, &stack);
    assert_eq!(v.cpl(), 3);
}

#[test]
fn registers_that_no_entry_switches_are_kept_beside_the_vmcs() {
    let mut v = child();
    for (register, value) in [
        (SystemRegister::Lstar, 0xFFFF_8000_0000_1000),
        (SystemRegister::KernelGsBase, 0x7000),
        (SystemRegister::Star, 0x23_0010 << 32),
        (SystemRegister::TscAux, 3),
        (SystemRegister::SysenterEip, 0x9000),
    ] {
        v.set_system_register(register, value);
        assert_eq!(v.system_register(register), value, "{register:?}");
    }
    v.set_cr2(0x1234);
    assert_eq!(v.cr2(), 0x1234);
    v.reset(0x663);
    assert_eq!(v.system_register(SystemRegister::Lstar), 0);
    assert_eq!((v.gprs().rdx, v.rip(), v.rflags()), (0x663, 0xFFF0, 2));
}

#[test]
fn debug_registers_are_the_guests_from_its_first_use_on() {
    let mut v = child();
    let exiting = u64::from(primary::MOV_DR_EXITING);
    assert_ne!(v.control.get(Control::Primary) & exiting, 0);
    v.set_debug_loaded(true);
    assert_eq!(v.control.get(Control::Primary) & exiting, 0);
}

#[test]
fn only_instructions_tell_their_length() {
    let mut v = child();
    v.info.note(Info::InstructionLength, 3);
    v.reason = 10;
    assert_eq!(v.instruction_length(), Some(3));
    for other in [0, 1, 7, 48, 52] {
        v.reason = other;
        assert_eq!(v.instruction_length(), None, "reason {other}");
    }
}

/// MOV to CR0 from RBX.
fn mov_to_cr0(v: &mut Vcpu, value: u64) -> Exit {
    v.gprs_mut().rbx = value;
    v.reason = 28;
    v.info.note(Info::Qualification, 3 << 8);
    v.rare_exit()
}

#[test]
fn the_processor_itself_does_a_move_to_cr0_that_nobody_asked_for() {
    let mut v = child();
    v.set_cr0(0x6000_0011);
    // Paging and protection on, and the caches, as a kernel does. The upper half does not count in 32-bit code.
    assert_eq!(mov_to_cr0(&mut v, 0xFFFF_FFFF_8005_0033), Exit::Internal);
    assert_eq!(v.field(Guest::Cr0), 0x31, "nothing is done in its place");
    let (shadow, mask) = (
        v.control.get(Control::Cr0Shadow),
        v.control.get(Control::Cr0Mask),
    );
    assert_eq!((shadow ^ 0x8005_0033) & mask, 0, "it does not exit again");
    // Write-through without caching.
    let refused = Exit::Absent {
        general_protection: true,
    };
    assert_eq!(mov_to_cr0(&mut v, 0x2000_0011), refused);
    assert_eq!(v.control.get(Control::Cr0Shadow), shadow);
}

#[test]
fn a_change_of_cr0_that_the_parent_asked_for_is_its_own() {
    let mut v = child();
    v.set_cr0(0x6000_0011);
    v.set_cr_intercepts(&CrIntercepts {
        cr0: cr0::PG,
        ..CrIntercepts::default()
    });
    let asked = mov_to_cr0(&mut v, 0x8000_0011);
    assert!(matches!(asked, Exit::ControlRegister(_)));
    assert_eq!(v.cr0(), 0x6000_0011);
    assert_eq!(mov_to_cr0(&mut v, 0x0000_0011), Exit::Internal);
    assert_eq!(v.cr0(), 0x11);
}

/// MOV to CR4 from RBX.
fn mov_to_cr4(v: &mut Vcpu, value: u64) -> Exit {
    v.gprs_mut().rbx = value;
    v.reason = 28;
    v.info.note(Info::Qualification, 3 << 8 | 4);
    v.rare_exit()
}

#[test]
fn a_child_sees_its_own_mce_and_turns_on_nothing_that_is_hidden() {
    const LA57: u64 = 1 << 12;
    let mut v = long_mode();
    assert_eq!(mov_to_cr4(&mut v, 0x60), Exit::Internal);
    assert_eq!(v.cr4(), 0x60);
    assert_eq!(mov_to_cr4(&mut v, 0x20), Exit::Internal);
    assert_eq!(v.cr4(), 0x20);
    assert_eq!(v.field(Guest::Cr4) & 0x40, 0x40, "it stays on");
    for hidden in [LA57, 1 << 13, 1 << 23, 1 << 25, 1 << 32] {
        let exit = mov_to_cr4(&mut v, 0x60 | hidden);
        assert!(matches!(exit, Exit::ControlRegister(_)), "{hidden:#x}");
        assert_eq!(v.cr4(), 0x20);
    }
    let mut root = vcpu(VcpuKind::Root);
    assert_eq!(mov_to_cr4(&mut root, 0x40), Exit::Internal);
    assert_eq!(root.control.get(Control::Cr4Mask), 0x2040);
}

#[test]
fn a_task_register_has_a_busy_tss_of_its_width() {
    let mut v = child();
    for (kind, busy) in [(1, 3), (3, 3), (9, 11), (11, 11), (2, 11), (0x13, 11)] {
        let segment = Segment {
            attributes: 0x80 | kind,
            limit: 0x67,
            ..Segment::default()
        };
        v.set_segment(SegmentName::Tr, &segment);
        assert_eq!(v.segment(SegmentName::Tr).attributes, 0x80 | busy, "{kind}");
    }
}
