//! Registers that are MSRs of the processor: 0x80000.

use tlfs::{HvRegisterName as Name, HvRegisterValue};

use super::{Done, Got, INVALID_VALUE, READ_ONLY, SetEffect, Source, Target, got, set_if, unknown};
use crate::arch::cpuid::ThisProcessor;
use crate::arch::state::SystemRegister;
use crate::hv::Hypervisor;
use crate::partition::cpuid;
use crate::partition::validate::{
    canonical, debug_ctl_ok, efer_allowed, efer_ok, pat_ok, spec_ctrl_allowed,
};

/// IA32_MISC_ENABLE. A guest has nothing to choose in it.
const MISC_ENABLE: u32 = 0x1A0;
/// Memory type of IA32_MTRR_DEF_TYPE.
const MTRR_TYPE: u64 = 0xFF;
const MTRR_WRITE_BACK: u64 = 6;

fn kept(name: Name) -> Option<SystemRegister> {
    Some(match name {
        Name::KERNEL_GS_BASE => SystemRegister::KernelGsBase,
        Name::PAT => SystemRegister::Pat,
        Name::SYSENTER_CS => SystemRegister::SysenterCs,
        Name::SYSENTER_EIP => SystemRegister::SysenterEip,
        Name::SYSENTER_ESP => SystemRegister::SysenterEsp,
        Name::STAR => SystemRegister::Star,
        Name::LSTAR => SystemRegister::Lstar,
        Name::CSTAR => SystemRegister::Cstar,
        Name::SFMASK => SystemRegister::Sfmask,
        Name::TSC_AUX => SystemRegister::TscAux,
        Name::DEBUG_CTL => SystemRegister::DebugCtl,
        Name::SPEC_CTRL => SystemRegister::SpecCtrl,
        _ => return None,
    })
}

/// Whether a register that is kept can have this value. All of them are loaded into the processor's own registers.
fn kept_ok(register: SystemRegister, value: u64) -> bool {
    match register {
        SystemRegister::Pat => pat_ok(value),
        SystemRegister::SysenterCs | SystemRegister::Sfmask | SystemRegister::TscAux => {
            value >> 32 == 0
        }
        SystemRegister::DebugCtl => debug_ctl_ok(value),
        SystemRegister::SpecCtrl => value & !spec_ctrl_allowed(&ThisProcessor) == 0,
        SystemRegister::Star => true,
        SystemRegister::SysenterEip
        | SystemRegister::SysenterEsp
        | SystemRegister::Lstar
        | SystemRegister::Cstar
        | SystemRegister::KernelGsBase
        | SystemRegister::FsBase
        | SystemRegister::GsBase => canonical(value),
    }
}

/// Registers of features that are not offered, which read as after reset: MTRRs, barriers, supervisor state, shadow stacks, the
/// TSC-deadline timer, TSC_ADJUST, extended feature disable.
fn is_absent(name: Name) -> bool {
    (Name::MSR_MTRR_CAP..=Name::MSR_MTRR_FIX4KF8000).contains(&name)
        || (Name::XSS..=Name::INTERRUPT_SSP_TABLE_ADDR).contains(&name)
        || matches!(
            name,
            Name::PRED_CMD | Name::TSC_DEADLINE | Name::TSC_ADJUST | Name::XFD | Name::XFD_ERR
        )
}

pub(super) fn get(source: Source<'_>, name: Name) -> Got {
    let vp = source.vp;
    if let Some(register) = kept(name) {
        return got(vp.hw.system_register(register));
    }
    match name {
        Name::TSC => got(crate::cpu::tsc()),
        Name::EFER => got(vp.hw.efer()),
        Name::APIC_BASE => got(vp.apic.base().value()),
        Name::INITIAL_APIC_ID => got(u64::from(vp.apic.id())),
        Name::MSR_IA32_MISC_ENABLE => got(misc_enable(source.hv)),
        name if name.name().is_some() && is_absent(name) => got(0_u64),
        _ => Err(unknown(name)),
    }
}

pub(super) fn set(target: Target<'_>, name: Name, value: HvRegisterValue) -> Done {
    let value = value.low;
    if let Some(register) = kept(name) {
        if !kept_ok(register, value) {
            return Err(INVALID_VALUE);
        }
        target.vp.hw.set_system_register(register, value);
        if register == SystemRegister::Pat {
            target.vp.tag.invalidate();
        }
        return Ok(SetEffect::None);
    }
    match name {
        Name::EFER => set_efer(target, value),
        Name::APIC_BASE => set_apic_base(target, value),
        // All VPs share the machine's counter.
        Name::TSC | Name::INITIAL_APIC_ID => Err(READ_ONLY),
        Name::MSR_IA32_MISC_ENABLE => set_if(value == misc_enable(target.hv)),
        // Memory is write-back for every guest: a parent that says so is right.
        Name::MSR_MTRR_DEF_TYPE => set_if(value == 0 || value & MTRR_TYPE == MTRR_WRITE_BACK),
        // A barrier that is asked for from outside has nothing to separate.
        Name::PRED_CMD => set_if(value <= 1),
        _ => set_if(value == 0),
    }
}

fn misc_enable(hv: &Hypervisor) -> u64 {
    hv.capabilities.constant_msr(MISC_ENABLE).unwrap_or(0)
}

fn set_efer(target: Target<'_>, value: u64) -> Done {
    let extended = cpuid::own(target.hv, target.partition, target.vp, 0x8000_0001, 0);
    if !efer_ok(value, efer_allowed(&extended)) {
        return Err(INVALID_VALUE);
    }
    target.vp.hw.set_efer(value);
    target.vp.tag.invalidate();
    Ok(SetEffect::None)
}

fn set_apic_base(target: Target<'_>, value: u64) -> Done {
    let Target { partition, vp, .. } = target;
    if !partition.has_lapic() {
        return set_if(value == vp.apic.base().value());
    }
    vp.apic.set_base(value).ok_or(INVALID_VALUE)?;
    // A disabled APIC has lost its task priority.
    vp.hw.set_cr8(vp.apic.cr8());
    Ok(SetEffect::TimerChanged)
}
