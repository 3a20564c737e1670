//! Registers of the local APIC: 0x84000 and the number of their x2APIC MSR.

use tlfs::{HvRegisterName as Name, HvRegisterValue, HvStatus};

use super::{Done, Got, INVALID_VALUE, SetEffect, Source, Target, got, unknown};
use crate::apic::Register;

/// First register, x2APIC MSR 0x800.
const FIRST: u32 = 0x8_4800;
/// Number of places.
const COUNT: u32 = 0x40;

/// Whether the name is one of the local APIC's places.
pub(super) fn is_apic(name: Name) -> bool {
    (FIRST..FIRST + COUNT).contains(&name.0)
}

fn register(name: Name) -> Result<Register, HvStatus> {
    name.0
        .checked_sub(FIRST)
        .and_then(Register::from_index)
        .ok_or(unknown(name))
}

pub(super) fn get(source: Source<'_>, name: Name) -> Got {
    let register = register(name)?;
    if !source.partition.has_lapic() {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    got(source.vp.apic.register_value(register, source.hv.now()))
}

pub(super) fn set(target: Target<'_>, name: Name, value: HvRegisterValue) -> Done {
    let register = register(name)?;
    let now = target.hv.now();
    let vp = target.vp;
    vp.apic
        .set_register(register, value.low, now)
        .map_err(|_| INVALID_VALUE)?;
    vp.hw.set_cr8(vp.apic.cr8());
    Ok(SetEffect::TimerChanged)
}
