//! From exit codes to [`Exit`].

use crate::arch::exit::{Access, CrExit, ExceptionExit, Exit, IoExit, NestedFault};
use crate::arch::state::{cr0, vector};
use crate::mem::addr::Gpa;

use super::bits::exit_code;
use super::vmcb::{Control, Save};

/// EXITINFO1 of a port access: IN rather than OUT.
const IO_IN: u64 = 1 << 0;
/// String instruction.
const IO_STRING: u64 = 1 << 2;
/// REP prefix.
const IO_REP: u64 = 1 << 3;
/// EXITINFO1 of a nested page fault: a write.
const NPF_WRITE: u64 = 1 << 1;
/// An instruction fetch.
const NPF_FETCH: u64 = 1 << 4;
/// While walking the guest's tables.
const NPF_TABLE_WALK: u64 = 1 << 33;
/// EXITINFO1 of a control register access: a MOV, and bits 3:0 are its register.
const CR_MOV: u64 = 1 << 63;

/// The exits that come most, as [`decode`] has them: none of them is this folder's own affair.
#[inline(always)]
pub(super) fn common(control: &Control) -> Option<Exit> {
    Some(match control.exit_code {
        exit_code::CPUID => Exit::Cpuid,
        exit_code::MSR if control.exit_info1 & 1 != 0 => Exit::MsrWrite,
        exit_code::MSR => Exit::MsrRead,
        exit_code::VMMCALL => Exit::Hypercall,
        exit_code::IOIO => Exit::Io,
        exit_code::INTR => Exit::ExternalInterrupt,
        exit_code::HLT => Exit::Halt,
        exit_code::NPF => Exit::NestedFault,
        _ => return None,
    })
}

/// What the exit recorded in the block means. `decode_assists`: EXITINFO1 names the register of a MOV.
pub(super) fn decode(control: &Control, save: &Save, decode_assists: bool) -> Exit {
    if let Some(exit) = common(control) {
        return exit;
    }
    let (code, info1, info2) = (control.exit_code, control.exit_info1, control.exit_info2);
    match code {
        exit_code::CR0_READ..=exit_code::CR15_WRITE => Exit::ControlRegister(CrExit {
            register: (code & 0xF) as u8,
            write: code & 0x10 != 0,
            gpr: (decode_assists && info1 & CR_MOV != 0).then_some((info1 & 0xF) as u8),
        }),
        exit_code::CR0_SEL_WRITE => Exit::ControlRegister(CrExit {
            register: 0,
            write: true,
            gpr: (decode_assists && info1 & CR_MOV != 0).then_some((info1 & 0xF) as u8),
        }),
        exit_code::EXCEPTION_0..=exit_code::EXCEPTION_31 => {
            exception((code - exit_code::EXCEPTION_0) as u8, info1, info2, save)
        }
        exit_code::NMI => Exit::Nmi,
        exit_code::INIT => Exit::Init,
        exit_code::VINTR => Exit::InterruptWindow,
        exit_code::INVD | exit_code::WBINVD => Exit::CacheControl,
        exit_code::PAUSE => Exit::Pause,
        exit_code::TASK_SWITCH => Exit::TaskSwitch,
        exit_code::SHUTDOWN => Exit::Shutdown,
        exit_code::XSETBV => Exit::Xsetbv,
        exit_code::RDPMC => Exit::Absent {
            general_protection: true,
        },
        exit_code::RSM
        | exit_code::INVLPGA
        | exit_code::VMRUN
        | exit_code::VMLOAD..=exit_code::SKINIT
        | exit_code::RDTSCP
        | exit_code::MONITOR
        | exit_code::MWAIT
        | exit_code::MWAIT_ARMED
        | exit_code::RDPRU
        | exit_code::INVLPGB
        | exit_code::INVLPGB_ILLEGAL
        | exit_code::TLBSYNC => Exit::Absent {
            general_protection: false,
        },
        // Some processors write the low half only.
        _ if code as u32 == exit_code::INVALID as u32 => Exit::InvalidState,
        _ => Exit::Unknown { code, info: info1 },
    }
}

fn exception(number: u8, info1: u64, info2: u64, save: &Save) -> Exit {
    // In real mode there are none.
    let has_code = matches!(number, 8 | 10..=14 | 17 | 21) && save.cr0 & cr0::PE != 0;
    Exit::Exception(ExceptionExit {
        vector: number,
        error_code: has_code.then_some(info1 as u32),
        parameter: match number {
            vector::PF => info2,
            vector::DB => save.dr6,
            _ => 0,
        },
    })
}

pub(super) fn port_access(info1: u64) -> IoExit {
    IoExit {
        port: (info1 >> 16) as u16,
        size: ((info1 >> 4) & 7) as u8,
        input: info1 & IO_IN != 0,
        string: info1 & IO_STRING != 0,
        rep: info1 & IO_REP != 0,
    }
}

pub(super) fn nested_fault(info1: u64, info2: u64) -> NestedFault {
    NestedFault {
        gpa: Gpa(info2),
        gva: None,
        access: if info1 & NPF_FETCH != 0 {
            Access::Execute
        } else if info1 & NPF_WRITE != 0 {
            Access::Write
        } else {
            Access::Read
        },
        table_walk: info1 & NPF_TABLE_WALK != 0,
    }
}
