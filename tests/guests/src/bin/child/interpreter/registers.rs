//! MSRs.

use guests::metal::apic::{self, register};
use guests::metal::cpu::{rdmsr, wrmsr};
use guests::metal::trap::vector;
use guests::program::Program;
use tlfs::{
    HV_X64_MSR_CRASH_CTL, HV_X64_MSR_FIRST, HV_X64_MSR_GUEST_IDLE, HV_X64_MSR_GUEST_OS_ID,
    HV_X64_MSR_HYPERCALL, HV_X64_MSR_LAST, HV_X64_MSR_REFERENCE_TSC, HV_X64_MSR_RESET,
    HV_X64_MSR_SCONTROL, HV_X64_MSR_SIEFP, HV_X64_MSR_SIMP, HV_X64_MSR_SINT0,
    HV_X64_MSR_STIMER0_CONFIG, HV_X64_MSR_STIMER0_COUNT, HV_X64_MSR_VP_ASSIST_PAGE,
};

use crate::pages::{covered_page, outside, play_page, ring_page};

/// Those that a guest uses.
const USUAL: &[u32] = &[
    HV_X64_MSR_GUEST_OS_ID,
    HV_X64_MSR_HYPERCALL,
    HV_X64_MSR_REFERENCE_TSC,
    HV_X64_MSR_VP_ASSIST_PAGE,
    HV_X64_MSR_SCONTROL,
    HV_X64_MSR_SIEFP,
    HV_X64_MSR_SIMP,
    HV_X64_MSR_SINT0 + 2,
    HV_X64_MSR_SINT0 + 5,
    HV_X64_MSR_STIMER0_CONFIG,
    HV_X64_MSR_STIMER0_COUNT,
    HV_X64_MSR_STIMER0_CONFIG + 2,
    HV_X64_MSR_STIMER0_COUNT + 2,
    register::TPR,
    register::SVR,
    register::ESR,
    register::ICR,
    register::LVT_TIMER,
    register::INITIAL_COUNT,
    register::DIVIDE,
    register::SELF_IPI,
    HV_X64_MSR_CRASH_CTL,
];

/// Reads or writes an MSR. Whether it exists and takes that.
pub fn operation(program: &mut Program<'_>, which: u8) -> bool {
    let msr = match which {
        0 => program.below(0x2000) as u32,
        1 => 0xC000_0000 + program.below(0x2000) as u32,
        2 => 0xC001_0000 + program.below(0x2000) as u32,
        3..=5 => {
            HV_X64_MSR_FIRST
                + program.below(u64::from(HV_X64_MSR_LAST - HV_X64_MSR_FIRST + 1)) as u32
        }
        6 | 7 => 0x800 + program.below(0x100) as u32,
        8 => program.number(4) as u32,
        _ => program.pick(USUAL),
    };
    let value = value(program, msr);
    let reads = program.one_in(3);
    // Sleeps until an interrupt comes, which may be never.
    if msr == HV_X64_MSR_GUEST_IDLE || !reads && !may_write(msr, value) {
        return false;
    }
    let fault = if reads {
        rdmsr(msr).err()
    } else {
        wrmsr(msr, value).err()
    };
    if let Some(fault) = fault {
        let expected = (vector::PROTECTION, 0);
        assert_eq!((fault.vector, fault.error), expected, "MSR {msr:#x}");
    }
    fault.is_none()
}

/// A value for it. Pages that the hypervisor lays over memory are where they do not cover the payload.
fn value(program: &mut Program<'_>, msr: u32) -> u64 {
    let page = match msr {
        HV_X64_MSR_SIEFP | HV_X64_MSR_SIMP | HV_X64_MSR_VP_ASSIST_PAGE => match program.below(4) {
            0 => ring_page(program),
            1 => outside(program, 0) & !0xFFF,
            _ => play_page(program),
        },
        HV_X64_MSR_HYPERCALL | HV_X64_MSR_REFERENCE_TSC => match program.below(4) {
            0 => outside(program, 0) & !0xFFF,
            _ => covered_page(program),
        },
        _ => return program.odd_value(),
    };
    // Not the lock of the hypercall page: it lasts until the VM ends.
    if page == 0 {
        0
    } else {
        page | program.below(2)
    }
}

/// Whether what runs here goes on afterwards.
fn may_write(msr: u32, value: u64) -> bool {
    match msr {
        // Its job is to end all this.
        HV_X64_MSR_RESET => false,
        // INIT and startup IPIs stop this processor, or start another one without code.
        register::ICR => !matches!(value >> 8 & 7, 5 | 6),
        // An APIC that is off is off until a reset in some of its ways.
        apic::APIC_BASE => false,
        _ => true,
    }
}
