//! Floating point registers: 0x30000. The VP's state is in memory.

use tlfs::{
    HvRegisterName as Name, HvRegisterValue, HvX64FpControlStatusRegister,
    HvX64XmmControlStatusRegister,
};

use super::general::numbered;
use super::{Done, Got, Source, Target, got, set_if, unknown};
use crate::arch::fpu::X87;

/// An x87 register has 80 bits; the others are ignored.
const ST_MASK: u128 = (1 << 80) - 1;

fn xmm(name: Name) -> Option<usize> {
    numbered(name, Name::XMM0, Name::XMM15)
}

fn st(name: Name) -> Option<usize> {
    numbered(name, Name::FP_MMX0, Name::FP_MMX7)
}

pub(super) fn get(source: Source<'_>, name: Name) -> Got {
    let fpu = &source.vp.fpu;
    let register = xmm(name).and_then(|number| fpu.xmm(number));
    if let Some(value) = register.or_else(|| st(name).and_then(|number| fpu.st(number))) {
        return got(value);
    }
    let x87 = fpu.x87();
    match name {
        Name::FP_CONTROL_STATUS => got(HvX64FpControlStatusRegister {
            fp_control: x87.control,
            fp_status: x87.status,
            fp_tag: x87.tag,
            reserved: 0,
            last_fp_op: x87.opcode,
            last_fp_rip: x87.rip,
        }),
        Name::XMM_CONTROL_STATUS => got(HvX64XmmControlStatusRegister {
            last_fp_rdp: x87.rdp,
            xmm_status_control: fpu.mxcsr(),
            xmm_status_control_mask: fpu.mxcsr_mask(),
        }),
        _ => Err(unknown(name)),
    }
}

pub(super) fn set(target: Target<'_>, name: Name, value: HvRegisterValue) -> Done {
    let fpu = &mut target.vp.fpu;
    if let Some(number) = xmm(name) {
        return set_if(fpu.set_xmm(number, value.as_u128()));
    }
    if let Some(number) = st(name) {
        return set_if(fpu.set_st(number, value.as_u128() & ST_MASK));
    }
    let x87 = fpu.x87();
    if name == Name::FP_CONTROL_STATUS {
        let value = value.as_fp_control_status();
        fpu.set_x87(&X87 {
            control: value.fp_control,
            status: value.fp_status,
            tag: value.fp_tag,
            opcode: value.last_fp_op,
            rip: value.last_fp_rip,
            ..x87
        });
        return set_if(true);
    }
    // XMM_CONTROL_STATUS, since `get` knows no other. Its mask is the processor's.
    let value = value.as_xmm_control_status();
    let valid = fpu.set_mxcsr(value.xmm_status_control);
    if valid && value.last_fp_rdp != x87.rdp {
        fpu.set_x87(&X87 {
            rdp: value.last_fp_rdp,
            ..x87
        });
    }
    set_if(valid)
}
