//! The page of a local APIC in xAPIC mode, as the guest's instructions reach it.

mod messages;

use tlfs::*;

use super::{After, Asked, Mode, Scene, enter, gprs};
use crate::apic::{Delivery, PAGE, Trigger};
use crate::arch::exit::{Access, Event, NestedFault};
use crate::arch::state::{Gprs, SegmentName, vector};
use crate::arch::testing::Cause;
use crate::mem::addr::{Gpa, Gva};
use crate::partition::Vp;
use crate::run::testing::{Bench, CHILD_BASE, FULL_ACCESS};
use crate::time::RefTime;

const XAPIC: u64 = 0xFEE0_0900;
const BASE: u64 = PAGE.address().0;
const VERSION: u64 = BASE + 0x30;
const TPR: u64 = BASE + 0x80;
const EOI: u64 = BASE + 0xB0;
/// What the version register reads.
const OWN_VERSION: u64 = 0x6_0014;

/// Registers of the APIC over 16.
mod index {
    pub const LDR: u32 = 0x0D;
    pub const DFR: u32 = 0x0E;
    pub const SVR: u32 = 0x0F;
    pub const DESTINATION: u32 = 0x31;
}

/// An access to the page by an instruction.
#[derive(Clone, Copy, Debug)]
struct Touch {
    mode: Mode,
    code: &'static [u8],
    gpa: u64,
    access: Access,
    gprs: Gprs,
}

impl Touch {
    /// mov eax, [rdi]
    const fn read(gpa: u64, gprs: Gprs) -> Self {
        Self {
            mode: Mode::Long,
            code: &[0x8B, 0x07],
            gpa,
            access: Access::Read,
            gprs,
        }
    }

    /// mov [rdi], eax
    const fn write(gpa: u64, gprs: Gprs) -> Self {
        Self {
            code: &[0x89, 0x07],
            access: Access::Write,
            ..Self::read(gpa, gprs)
        }
    }

    const fn fault(&self) -> NestedFault {
        NestedFault {
            gpa: Gpa(self.gpa),
            gva: Some(Gva(self.gpa)),
            access: self.access,
            table_walk: false,
        }
    }

    const fn scene(&self, fault: NestedFault) -> Scene {
        Scene {
            asked: Asked::Nothing,
            mode: self.mode,
            stepping: false,
            code: self.code,
            cause: Cause::Nested(fault),
            gprs: self.gprs,
        }
    }

    /// Of the VP in hand.
    fn act(&self, bench: &mut Bench) -> After {
        self.scene(self.fault()).act(bench)
    }
}

fn at(rdi: u64, rax: u64) -> Gprs {
    gprs(|gprs| (gprs.rdi, gprs.rax) = (rdi, rax))
}

/// Machines with a child whose VP 0 is in hand, in xAPIC mode and with its APIC on.
fn paged() -> impl Iterator<Item = Bench> {
    Bench::each().map(|mut bench| {
        bench.audit_rarely();
        begin(&mut bench);
        bench
    })
}

fn begin(bench: &mut Bench) {
    enter(bench, Asked::Nothing);
    bench.hand().apic.set_base(XAPIC).unwrap();
    let_in(bench.hand());
}

/// With another child: the VP of the one before has been stopped.
fn again(bench: &mut Bench) {
    bench.tear_down();
    begin(bench);
}

/// The guest switches its APIC on.
fn let_in(vp: &mut Vp) {
    let _ = vp.apic.write_page(index::SVR, 0x1FF, RefTime::ZERO);
}

#[track_caller]
fn expect_intercept(after: &After) {
    let (kind, _) = after.message.as_ref().expect("the parent's");
    assert_eq!(*kind, HvMessageType::UNMAPPED_GPA);
    assert_eq!(after.rip, CHILD_BASE.address().0);
}

#[test]
fn a_load_reads_a_register_and_clears_the_upper_half() {
    let with = |set: fn(&mut Gprs)| gprs(set);
    let full = u64::MAX;
    let table: [(Mode, &[u8], Gprs, usize); 8] = [
        (Mode::Long, &[0x8B, 0x07], at(VERSION, full), 0),
        // mov r9d, [r15 + rcx * 4 + 0x10]
        (
            Mode::Long,
            &[0x45, 0x8B, 0x4C, 0x8F, 0x10],
            with(|it| (it.r15, it.rcx, it.r9) = (BASE, 8, u64::MAX)),
            9,
        ),
        // mov eax, [moffs]
        (
            Mode::Long,
            &[0xA1, 0x30, 0x00, 0xE0, 0xFE, 0, 0, 0, 0],
            at(0, full),
            0,
        ),
        // mov ecx, gs:[rbx]
        (
            Mode::Long,
            &[0x65, 0x8B, 0x0B],
            with(|it| (it.rbx, it.rcx) = (VERSION, u64::MAX)),
            1,
        ),
        // mov esi, [edx]: what is above 32 bits does not count.
        (
            Mode::Long,
            &[0x67, 0x8B, 0x32],
            with(|it| it.rdx = 0x5_0000_0000 | VERSION),
            6,
        ),
        // mov edx, [disp32]
        (
            Mode::Protected,
            &[0x8B, 0x15, 0x30, 0x00, 0xE0, 0xFE],
            Gprs::default(),
            2,
        ),
        // mov eax, [ebp - 0x10]
        (
            Mode::Protected,
            &[0x8B, 0x45, 0xF0],
            with(|it| it.rbp = VERSION + 0x10),
            0,
        ),
        // mov eax, [edi] with 16-bit code
        (Mode::Real, &[0x67, 0x66, 0x8B, 0x07], at(VERSION, full), 0),
    ];
    for mut bench in paged() {
        for (mode, code, gprs, to) in table {
            let touch = Touch {
                mode,
                code,
                ..Touch::read(VERSION, gprs)
            };
            let after = touch.act(&mut bench);
            assert_eq!(after.message, None, "{touch:?}");
            assert_eq!(after.gprs[to], OWN_VERSION, "{touch:?}");
            let length = code.len() as u64;
            assert_eq!(after.rip, CHILD_BASE.address().0 + length, "{touch:?}");
        }
    }
}

#[test]
fn a_store_writes_a_register() {
    let table: [(Mode, &[u8], Gprs, u8); 5] = [
        (Mode::Long, &[0x89, 0x07], at(TPR, 0x31), 0x31),
        // mov [rsi], r12d
        (
            Mode::Long,
            &[0x44, 0x89, 0x26],
            gprs(|it| (it.rsi, it.r12) = (TPR, 0x42)),
            0x42,
        ),
        // mov dword [rdi - 0x10], 0x53
        (
            Mode::Long,
            &[0xC7, 0x47, 0xF0, 0x53, 0, 0, 0],
            at(TPR + 0x10, 0),
            0x53,
        ),
        // mov [moffs], eax
        (
            Mode::Protected,
            &[0xA3, 0x80, 0x00, 0xE0, 0xFE],
            at(0, 0x64),
            0x64,
        ),
        // mov dword [edi], 0x75 with 16-bit code
        (
            Mode::Real,
            &[0x66, 0x67, 0xC7, 0x07, 0x75, 0, 0, 0],
            at(TPR, 0),
            0x75,
        ),
    ];
    for mut bench in paged() {
        for (mode, code, gprs, tpr) in table {
            let touch = Touch {
                mode,
                code,
                ..Touch::write(TPR, gprs)
            };
            let after = touch.act(&mut bench);
            assert_eq!(after.message, None, "{touch:?}");
            assert_eq!(after.gprs, gprs.as_array());
            assert_eq!(after.rip, CHILD_BASE.address().0 + code.len() as u64);
            let vp = bench.hand();
            assert_eq!((vp.apic.tpr(), vp.hw.cr8()), (tpr, tpr >> 4), "{touch:?}");
        }
    }
}

#[test]
fn a_segment_is_added() {
    for mut bench in paged() {
        let touch = Touch {
            // mov ecx, gs:[rbx]
            code: &[0x65, 0x8B, 0x0B],
            ..Touch::read(VERSION, gprs(|it| it.rbx = 0x1030))
        };
        let mut segment = bench.hand().hw.segment(SegmentName::Gs);
        segment.base = BASE - 0x1000;
        bench.hand().hw.set_segment(SegmentName::Gs, &segment);
        let after = touch.act(&mut bench);
        assert_eq!((after.message, after.gprs[1]), (None, OWN_VERSION));
    }
}

#[test]
fn what_the_page_does_not_take_is_the_parents() {
    let other_widths: [&[u8]; 4] = [
        &[0x66, 0x8B, 0x07],
        &[0x48, 0x8B, 0x07],
        &[0x8A, 0x07],
        // movzx eax, word [rdi]
        &[0x0F, 0xB7, 0x07],
    ];
    let touches = other_widths.map(|code| Touch {
        code,
        ..Touch::read(VERSION, at(VERSION, 0))
    });
    let between =
        [4, 1, 0xFFC - 0x30].map(|offset| Touch::read(VERSION + offset, at(VERSION + offset, 0)));
    for mut bench in paged() {
        for touch in touches.into_iter().chain(between) {
            let after = touch.act(&mut bench);
            expect_intercept(&after);
            assert_eq!(after.gprs, touch.gprs.as_array(), "{touch:?}");
            again(&mut bench);
        }
    }
}

#[test]
fn a_fetch_or_a_table_at_the_page_is_the_parents() {
    let touch = Touch::read(VERSION, at(VERSION, 0));
    let fetch = NestedFault {
        access: Access::Execute,
        ..touch.fault()
    };
    let walk = NestedFault {
        table_walk: true,
        ..touch.fault()
    };
    for mut bench in paged() {
        for fault in [fetch, walk] {
            expect_intercept(&touch.scene(fault).act(&mut bench));
            again(&mut bench);
        }
    }
}

/// Another VP has put other bytes there since the processor fetched the instruction.
#[test]
fn bytes_that_cannot_have_faulted_so_are_not_believed() {
    let read = Touch::read(VERSION, at(VERSION, 0x20));
    let lies = [
        // A store where the fault is of a load.
        Touch {
            code: &[0x89, 0x07],
            ..read
        },
        // Another register, and another address.
        Touch {
            gprs: at(TPR, 0x20),
            ..read
        },
        Touch {
            code: &[0x8B, 0x06],
            ..read
        },
        // Not all of an instruction that there can be.
        Touch {
            code: &[0x66; 15],
            ..read
        },
        Touch {
            code: &[0x0F, 0x0B],
            ..read
        },
    ];
    for mut bench in paged() {
        for touch in lies {
            let before = bench.hand().apic.save(RefTime::ZERO);
            let after = touch.act(&mut bench);
            expect_intercept(&after);
            assert_eq!(after.gprs, touch.gprs.as_array(), "{touch:?}");
            let now = bench.hand().apic.save(RefTime::ZERO);
            assert_eq!(now, before, "{touch:?}");
            again(&mut bench);
        }
    }
}

#[test]
fn code_that_cannot_be_read_any_more_is_the_parents_affair() {
    for mut bench in paged() {
        let touch = Touch::read(VERSION, at(VERSION, 0));
        bench.restore();
        let (cpu, vp) = bench.parts();
        touch.scene(touch.fault()).prepare(vp);
        // A page of code that is gone.
        vp.hw.set_rip(0x2000_0000);
        vp.hw.exit_over(Cause::Nested(touch.fault()), 2);
        assert!(!cpu.access_apic_page(vp, &touch.fault()));
    }
}

#[test]
fn an_event_in_delivery_is_not_the_instruction() {
    for mut bench in paged() {
        let touch = Touch::read(VERSION, at(VERSION, 0));
        bench.restore();
        let code = CHILD_BASE.address();
        bench.write(code, touch.code);
        let (cpu, vp) = bench.parts();
        touch.scene(touch.fault()).prepare(vp);
        vp.hw.exit_over(Cause::Nested(touch.fault()), 2);
        vp.hw.set_pending_event(Some(Event::Interrupt(0x41)));
        assert!(!cpu.access_apic_page(vp, &touch.fault()));
        vp.hw.set_pending_event(None);
        assert!(cpu.access_apic_page(vp, &touch.fault()));
    }
}

#[test]
fn there_is_no_page_in_the_other_modes() {
    for mut bench in paged() {
        for base in [0xFEE0_0D00, 0xFEE0_0100] {
            bench.hand().apic.set_base(base).unwrap();
            expect_intercept(&Touch::read(VERSION, at(VERSION, 0)).act(&mut bench));
            again(&mut bench);
        }
    }
}

#[test]
fn a_single_step_over_an_access_is_one() {
    for mut bench in paged() {
        let touch = Touch::read(VERSION, at(VERSION, 0));
        let scene = Scene {
            stepping: true,
            ..touch.scene(touch.fault())
        };
        let after = scene.act(&mut bench);
        let debug = Event::Exception {
            vector: vector::DB,
            error_code: None,
        };
        assert_eq!((after.event, after.shadow), (Some(debug), false));
    }
}

#[test]
fn the_x2apics_msrs_fault_and_hyper_vs_do_not() {
    let read = |msr| Scene {
        asked: Asked::Nothing,
        mode: Mode::Long,
        stepping: false,
        code: &[0x0F, 0x32],
        cause: Cause::Rdmsr,
        gprs: gprs(|gprs| gprs.rcx = msr),
    };
    for mut bench in paged() {
        let after = read(0x802).act(&mut bench);
        let fault = Event::Exception {
            vector: vector::GP,
            error_code: Some(0),
        };
        assert_eq!(after.event, Some(fault));
        bench.hand().hw.set_pending_event(None);
        bench.hand().privileges = HvPartitionPrivilegeMask::ACCESS_APIC_MSRS;
        let after = read(HV_X64_MSR_TPR.into()).act(&mut bench);
        assert_eq!((after.event, after.gprs[0]), (None, 0));
        let after = read(0x1B).act(&mut bench);
        assert_eq!((after.event, after.gprs[0]), (None, XAPIC));
    }
}

#[test]
fn the_end_of_a_level_interrupt_is_told_behind_the_instruction() {
    for mut bench in paged() {
        let apic = &mut bench.hand().apic;
        let trigger = Trigger::Level;
        assert!(apic.accept(Delivery::Fixed {
            vector: 0x41,
            trigger
        }));
        assert!(apic.begin(0x41));
        let after = Touch::write(EOI, at(EOI, 0)).act(&mut bench);
        let (kind, _) = after.message.expect("told");
        assert_eq!(kind, HvMessageType::X64_APIC_EOI);
        assert_eq!(after.rip, CHILD_BASE.address().0 + 2);
    }
}

#[test]
fn the_parent_chooses_the_mode_and_cannot_move_the_page() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let base = HvRegisterName::APIC_BASE;
        let mut set = |value| bench.set_registers(id, HvVpIndex(0), &[(base, value)]).0;
        assert_eq!(set(XAPIC), HvStatus::SUCCESS);
        for value in [0xFEF0_0900, 0xFEE0_1900, 0x1_FEE0_0900, 0x0900, 0xFEE0_0500] {
            assert_ne!(set(value), HvStatus::SUCCESS, "{value:#x}");
        }
        let kept = bench.with_vp(id, 0, |vp| vp.apic.base().value());
        assert_eq!(kept, Some(XAPIC));
    }
}

#[test]
fn no_memory_can_be_mapped_over_the_page() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let frame = bench.frames(1);
        let flags = FULL_ACCESS;
        let refused = (HvStatus::OPERATION_DENIED, 0);
        assert_eq!(bench.map_once(id, PAGE.0, flags, &frame), refused);
        let none = HvMapGpaFlags::NO_ACCESS;
        assert_eq!(bench.map_once(id, PAGE.0, none, &[0]), refused);
        let large = bench.large_frame();
        let flags = FULL_ACCESS.union(HvMapGpaFlags::LARGE_PAGE);
        assert_eq!(bench.map_once(id, PAGE.0, flags, &[large]), refused);
        // The pages beside it are memory as any.
        bench.map(id, PAGE.0 + 1, FULL_ACCESS, &frame);
        bench.map(id, PAGE.0 - 512, flags, &[large]);
    }
}
