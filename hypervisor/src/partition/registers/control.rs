//! Control registers, XCR0 and the registers that intercept changes of them: 0x40000, 0x41000, 0xE0000.

use tlfs::{HvRegisterName as Name, HvRegisterValue};

use super::{Done, Got, INVALID_VALUE, SetEffect, Source, Target, got, unknown};
use crate::arch::CrIntercepts;
use crate::arch::state::cr0;
use crate::partition::cpuid;
use crate::partition::validate::{cr0_ok, cr3_ok, cr4_allowed, cr4_ok, cr8_ok};
use crate::partition::vp::{CR_INTERCEPT_CR0_WRITE, CR_INTERCEPT_CR4_WRITE, CrIntercept};

/// CR0 bits that exist, whatever the others are.
const CR0_BITS: u64 = 0xE005_003F;
/// What can be intercepted: writes to CR0, CR4 and XCR0, reads and writes of IA32_MISC_ENABLE.
const INTERCEPT_CONTROL: u64 = 0x1F;

pub(super) fn get(source: Source<'_>, name: Name) -> Got {
    let vp = source.vp;
    got(match name {
        Name::CR0 | Name::INTERMEDIATE_CR0 => vp.hw.cr0(),
        Name::CR2 => vp.hw.cr2(),
        Name::CR3 | Name::INTERMEDIATE_CR3 => vp.hw.cr3(),
        Name::CR4 | Name::INTERMEDIATE_CR4 => vp.hw.cr4(),
        Name::CR8 | Name::INTERMEDIATE_CR8 => vp.apic.cr8().into(),
        Name::XFEM => vp.fpu.xcr0(),
        Name::CR_INTERCEPT_CONTROL => vp.cr_intercept.control,
        Name::CR_INTERCEPT_CR0_MASK => vp.cr_intercept.cr0_mask,
        Name::CR_INTERCEPT_CR4_MASK => vp.cr_intercept.cr4_mask,
        Name::CR_INTERCEPT_IA32_MISC_ENABLE_MASK => vp.cr_intercept.misc_enable_mask,
        _ => return Err(unknown(name)),
    })
}

/// The intermediate registers are the registers themselves; of CR0 only the combinations of bits go unchecked.
pub(super) fn set(target: Target<'_>, name: Name, value: HvRegisterValue) -> Done {
    let value = value.low;
    let valid = match name {
        Name::CR0 => cr0_ok(value),
        Name::INTERMEDIATE_CR0 => value & !CR0_BITS == 0,
        Name::CR3 | Name::INTERMEDIATE_CR3 => {
            cr3_ok(value, target.partition.physical_bits(target.hv))
        }
        Name::CR4 | Name::INTERMEDIATE_CR4 => {
            let leaf = |eax| cpuid::own(target.hv, target.partition, target.vp, eax, 0);
            cr4_ok(value, cr4_allowed(&leaf(1), &leaf(7)))
        }
        Name::CR8 | Name::INTERMEDIATE_CR8 => cr8_ok(value),
        Name::XFEM => return set_xcr0(target, value),
        Name::CR_INTERCEPT_CONTROL => value & !INTERCEPT_CONTROL == 0,
        _ => true,
    };
    if !valid {
        return Err(INVALID_VALUE);
    }
    let Target { vp, .. } = target;
    match name {
        Name::CR0 | Name::INTERMEDIATE_CR0 => vp.hw.set_cr0(value | cr0::ET),
        Name::CR2 => vp.hw.set_cr2(value),
        Name::CR3 | Name::INTERMEDIATE_CR3 => vp.hw.set_cr3(value),
        Name::CR4 | Name::INTERMEDIATE_CR4 => vp.hw.set_cr4(value),
        Name::CR8 | Name::INTERMEDIATE_CR8 => {
            vp.apic.set_cr8(value as u8);
            vp.hw.set_cr8(value as u8);
        }
        _ => return Ok(set_intercept(&mut vp.cr_intercept, name, value)),
    }
    // The VP's own translations were made under the old ones.
    vp.tag.invalidate();
    Ok(SetEffect::None)
}

fn set_xcr0(target: Target<'_>, value: u64) -> Done {
    if target.vp.fpu.xcr0() == value {
        return Ok(SetEffect::None);
    }
    if target.vp.fpu.set_xcr0(value) {
        Ok(SetEffect::Xcr0)
    } else {
        Err(INVALID_VALUE)
    }
}

fn set_intercept(registers: &mut CrIntercept, name: Name, value: u64) -> SetEffect {
    match name {
        Name::CR_INTERCEPT_CONTROL => registers.control = value,
        Name::CR_INTERCEPT_CR0_MASK => registers.cr0_mask = value,
        Name::CR_INTERCEPT_CR4_MASK => registers.cr4_mask = value,
        _ => registers.misc_enable_mask = value,
    }
    SetEffect::CrIntercepts
}

impl CrIntercept {
    /// The writes that have to end a run, without those of CR8: no parent can ask for them.
    pub const fn hardware(&self) -> CrIntercepts {
        CrIntercepts {
            cr0: self.asked(CR_INTERCEPT_CR0_WRITE, self.cr0_mask),
            cr4: self.asked(CR_INTERCEPT_CR4_WRITE, self.cr4_mask),
            cr8: false,
        }
    }

    const fn asked(&self, bit: u64, mask: u64) -> u64 {
        if self.control & bit != 0 { mask } else { 0 }
    }
}
