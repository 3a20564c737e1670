//! What ends a run at an instruction.

use tlfs::*;
use zerocopy::{FromBytes, IntoBytes};

use super::{After, Asked, Mode, READABLE, Scene, gprs, machines};
use crate::arch::exit::{Access, ExceptionExit, IoExit, NestedFault};
use crate::arch::state::{Gprs, dr6, vector};
use crate::arch::testing::Cause;
use crate::mem::addr::{Gpa, Gva};

/// DR6 with nothing reported.
const DR6_RESET: u64 = 0xFFFF_0FF0;
/// A page that it does not have.
const ABSENT: u64 = 0x5_0000;

fn io(port: u16, size: u8, input: bool, string: bool) -> Cause {
    Cause::Io(IoExit {
        port,
        size,
        input,
        string,
        rep: string,
    })
}

fn exception(vector: u8, error_code: Option<u32>, parameter: u64) -> Cause {
    Cause::Exception(ExceptionExit {
        vector,
        error_code,
        parameter,
    })
}

/// Instructions, and the ends of a run at them.
fn instructions() -> Vec<(&'static [u8], Cause, Gprs)> {
    let leaf = gprs(|gprs| (gprs.rax, gprs.rcx) = (0x4000_0000, 0));
    let nobodys_msr = gprs(|gprs| gprs.rcx = 0x1234);
    let star = gprs(|gprs| (gprs.rcx, gprs.rdx, gprs.rax) = (0xC000_0081, 0x23_0010, 5));
    let reserved_efer = gprs(|gprs| (gprs.rcx, gprs.rax) = (0xC000_0080, 1 << 9));
    let port = gprs(|gprs| (gprs.rax, gprs.rdx) = (0x1122_3344_5566_7788, 0x3F8));
    let wide = gprs(|gprs| (gprs.rcx, gprs.rdx, gprs.rax) = (0, 0, 7));
    let bad_xcr0 = gprs(|gprs| (gprs.rcx, gprs.rdx, gprs.rax) = (0, 0, 6));
    vec![
        (&[0x0F, 0xA2], Cause::Cpuid, leaf),
        (&[0x66, 0x0F, 0xA2], Cause::Cpuid, leaf),
        (&[0x0F, 0x32], Cause::Rdmsr, nobodys_msr),
        (&[0x0F, 0x32], Cause::Rdmsr, star),
        (&[0x0F, 0x30], Cause::Wrmsr, nobodys_msr),
        (&[0x0F, 0x30], Cause::Wrmsr, star),
        (&[0x0F, 0x30], Cause::Wrmsr, reserved_efer),
        (&[0xEE], io(0x3F8, 1, false, false), port),
        (&[0xEC], io(0x3F8, 1, true, false), port),
        (&[0xE5, 0x60], io(0x60, 4, true, false), port),
        (&[0xF3, 0x6E], io(0x3F8, 1, false, true), port),
        (&[0xF4], Cause::Halt, Gprs::default()),
        (&[0x0F, 0x01, 0xD1], Cause::Xsetbv, bad_xcr0),
        (&[0x0F, 0x01, 0xD1], Cause::Xsetbv, wide),
        (&[0x0F, 0x09], Cause::Wbinvd, Gprs::default()),
        (&[0x0F, 0x33], Cause::Rdpmc, Gprs::default()),
        (&[0x0F, 0x01, 0xC8], Cause::Monitor, Gprs::default()),
        (&[0x90], Cause::TripleFault, Gprs::default()),
        (&[0xCD, 0x20], Cause::TaskSwitch, Gprs::default()),
    ]
}

fn every_scene(mut each: impl FnMut(Scene)) {
    for asked in [Asked::Nothing, Asked::Everything] {
        for mode in [Mode::Real, Mode::Protected, Mode::Long] {
            for stepping in [false, true] {
                each(Scene {
                    asked,
                    mode,
                    stepping,
                    code: &[],
                    cause: Cause::Halt,
                    gprs: Gprs::default(),
                });
            }
        }
    }
}

#[test]
fn an_instruction_that_exits_ends_alike() {
    let mut machines = machines();
    let mut messages = 0;
    every_scene(|scene| {
        for (code, cause, gprs) in instructions() {
            let scene = Scene {
                code,
                cause,
                gprs,
                ..scene
            };
            let after = scene.same(&mut machines, |_| {});
            messages += usize::from(after.message.is_some());
        }
    });
    assert!(messages > 50, "{messages}");
}

#[test]
fn an_exception_that_the_parent_wants_is_told_alike() {
    let mut machines = machines();
    every_scene(|scene| {
        // Without protection there are no codes.
        let code = |code| (scene.mode != Mode::Real).then_some(code);
        for (bytes, cause, parameter) in [
            (&[0xCC][..], exception(3, None, 0), 0),
            (&[0x0F, 0x0B], exception(vector::UD, None, 0), 0),
            (&[0x0F, 0x22, 0xC0], exception(vector::GP, code(0x18), 0), 0),
            (
                &[0x8A, 0x00],
                exception(vector::PF, code(6), 0x1234),
                0x1234,
            ),
            (
                &[0x90],
                exception(vector::DB, None, dr6::BS),
                DR6_RESET | dr6::BS,
            ),
        ] {
            let scene = Scene {
                code: bytes,
                cause,
                ..scene
            };
            let after = scene.same(&mut machines, |_| {});
            if scene.asked == Asked::Nothing {
                assert!(
                    after.message.is_none() && after.event.is_some(),
                    "{scene:?}"
                );
                continue;
            }
            let (kind, payload) = after.message.expect("asked for");
            assert_eq!(kind, HvMessageType::X64_EXCEPTION_INTERCEPT);
            let told = HvX64ExceptionInterceptMessage::read_from_bytes(&payload).unwrap();
            assert_eq!(told.exception_parameter, parameter, "{scene:?}");
        }
    });
}

#[test]
fn a_change_of_a_control_register_that_the_parent_wants_is_told_alike() {
    let mut machines = machines();
    for mode in [Mode::Protected, Mode::Long] {
        // The last is from R10.
        let writes: [(&[u8], u8, u8, u64); 3] = [
            (&[0x0F, 0x22, 0xC1], 0, 1, 0x8001_0019),
            (&[0x0F, 0x22, 0xE2], 4, 2, 0xA0),
            (&[0x41, 0x0F, 0x22, 0xE2], 4, 10, 0xA0),
        ];
        let count = if mode == Mode::Long { 3 } else { 2 };
        for (code, register, gpr, value) in writes.into_iter().take(count) {
            let mut all = [0; 16];
            all[usize::from(gpr)] = value;
            let scene = Scene {
                asked: Asked::Everything,
                mode,
                stepping: false,
                code,
                cause: Cause::MovToCr { register, gpr },
                gprs: Gprs::from_array(all),
            };
            let (kind, _) = scene
                .same(&mut machines, |_| {})
                .message
                .expect("asked for");
            assert_eq!(kind, HvMessageType::X64_REGISTER_INTERCEPT);
        }
    }
}

#[test]
fn an_access_to_memory_is_told_alike_but_for_its_virtual_address() {
    let mut machines = machines();
    /// AMD's processors do not tell it (docs/hardware.md).
    fn without_address(after: &mut After) {
        let Some((_, payload)) = &mut after.message else {
            return;
        };
        let mut told = HvX64MemoryInterceptMessage::read_from_bytes(payload).unwrap();
        told.memory_access_info = told
            .memory_access_info
            .with_gva_valid(false)
            .with_gva_gpa_valid(false);
        told.guest_virtual_address = 0;
        *payload = told.as_bytes().to_vec();
    }
    every_scene(|scene| {
        for (page, access, expected) in [
            (ABSENT, Access::Read, Some(HvMessageType::UNMAPPED_GPA)),
            (ABSENT, Access::Write, Some(HvMessageType::UNMAPPED_GPA)),
            (ABSENT, Access::Execute, Some(HvMessageType::UNMAPPED_GPA)),
            (READABLE, Access::Write, Some(HvMessageType::GPA_INTERCEPT)),
            (
                READABLE,
                Access::Execute,
                Some(HvMessageType::GPA_INTERCEPT),
            ),
            (READABLE, Access::Read, None),
        ] {
            for table_walk in [false, true] {
                let fault = NestedFault {
                    gpa: Gpa(page + 8),
                    gva: Some(Gva(page + 8)),
                    access,
                    table_walk,
                };
                let scene = Scene {
                    code: &[0x8A, 0x07],
                    cause: Cause::Nested(fault),
                    ..scene
                };
                let kind = scene
                    .same(&mut machines, without_address)
                    .message
                    .map(|told| told.0);
                assert_eq!(kind, expected, "{scene:?}");
            }
        }
    });
}
