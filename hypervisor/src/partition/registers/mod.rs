//! Registers of a VP as HvCallGetVpRegisters and HvCallSetVpRegisters see them (root sheet A.3.4, D.3).
//!
//! Setting a register has none of the side effects of the instruction that would set it. A value that no register can have is
//! refused here ([`super::validate`]); whether the registers fit each other the processor says at the next entry.
//!
//! What does not fit into the three shapes *readable and settable*, *read-only* and *unknown*:
//! * a register of a feature that is not offered reads as after reset, and takes that value alone, so that a parent that
//!   saves and restores everything it knows comes through;
//! * a read-only register refuses every write with INVALID_PARAMETER;
//! * a name of the TLFS's that has no meaning here is UNKNOWN_REGISTER_NAME, any other INVALID_PARAMETER.
//!
//! A VP whose registers are read or set is at rest, its floating point state in memory. Callers load the register page
//! ([`super::register_page`]) before, and publish it after a set.

mod apic;
mod control;
mod features;
mod fpu;
mod general;
mod suspend;
mod synthetic;
mod system;
#[cfg(test)]
mod tests;

use tlfs::{HvRegisterName, HvRegisterValue, HvStatus};

use super::{Partition, Vp};
use crate::hv::Hypervisor;
use crate::synic::SynicEffect;

pub use suspend::interrupt_state;

/// What the caller has to do after a register was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum SetEffect {
    /// Nothing.
    None,
    /// A suspend register was cleared: the VP runs if nothing else holds it.
    Resume,
    /// A suspend register was set: the VP does not run when the call returns (root sheet B.5).
    Suspend,
    /// [`Vp::next_deadline`] may have changed.
    TimerChanged,
    /// HYPERCALL is to become this: place or remove the page, then store the value in the partition.
    HypercallPage(u64),
    /// GUEST_OS_ID is to become this, in the partition; zero disables the hypercall page.
    GuestOsId(u64),
    /// REFERENCE_TSC is to become this, in the partition.
    ReferenceTsc(u64),
    /// A crash register is to become this, in the partition.
    Crash {
        /// The MSR that it is.
        msr: u32,
        /// Its new value.
        value: u64,
    },
    /// SIMP, SIEFP or VP_ASSIST_PAGE of a child's VP is to become this: lay the page there, then store the value.
    VpPage {
        /// The MSR that it is.
        msr: u32,
        /// Its new value.
        value: u64,
    },
    /// [`Vp::cr_intercept`] has changed: `set_cr_intercepts` to what it needs.
    CrIntercepts,
    /// XCR0 has changed: if the VP's state is in a processor, that one has to load it.
    Xcr0,
    /// A SynIC register was set.
    Synic(SynicEffect),
}

/// A register that is to be read: where it is looked for.
#[derive(Clone, Copy)]
struct Source<'a> {
    hv: &'a Hypervisor,
    partition: &'a Partition,
    vp: &'a Vp,
}

/// A register that is to be set: where it is.
struct Target<'a> {
    hv: &'a Hypervisor,
    partition: &'a Partition,
    vp: &'a mut Vp,
}

impl Target<'_> {
    fn source(&self) -> Source<'_> {
        Source {
            hv: self.hv,
            partition: self.partition,
            vp: self.vp,
        }
    }

    /// Refuses what only a stopped VP allows. The root sets its own registers while it runs.
    fn require_stopped(&self) -> Result<(), HvStatus> {
        let stopped = self.vp.is_suspended() || self.partition.suspended;
        if stopped || self.partition.is_root() {
            Ok(())
        } else {
            Err(HvStatus::INVALID_VP_STATE)
        }
    }
}

/// For a value that the register cannot have.
const INVALID_VALUE: HvStatus = HvStatus::INVALID_REGISTER_VALUE;
/// For a write to a register that is read-only.
const READ_ONLY: HvStatus = HvStatus::INVALID_PARAMETER;

type Got = Result<HvRegisterValue, HvStatus>;
type Done = Result<SetEffect, HvStatus>;

fn got(value: impl Into<HvRegisterValue>) -> Got {
    Ok(value.into())
}

/// Nothing to do, if the value was one.
fn set_if(valid: bool) -> Done {
    if valid {
        Ok(SetEffect::None)
    } else {
        Err(INVALID_VALUE)
    }
}

const fn unknown(name: HvRegisterName) -> HvStatus {
    if name.name().is_some() {
        HvStatus::UNKNOWN_REGISTER_NAME
    } else {
        HvStatus::INVALID_PARAMETER
    }
}

/// The groups of the TLFS's numbering.
mod group {
    pub const SYSTEM: u32 = 0x0;
    pub const PENDING: u32 = 0x1;
    pub const GENERAL: u32 = 0x2;
    pub const FLOATING_POINT: u32 = 0x3;
    pub const CONTROL: u32 = 0x4;
    pub const DEBUG: u32 = 0x5;
    pub const SEGMENT: u32 = 0x6;
    pub const TABLE: u32 = 0x7;
    pub const MSR: u32 = 0x8;
    pub const SYNTHETIC: u32 = 0x9;
    pub const SYNIC: u32 = 0xA;
    pub const STIMER: u32 = 0xB;
    pub const CR_INTERCEPT: u32 = 0xE;
}

/// Reads a register, whether or not the VP is suspended.
///
/// # Errors
/// UNKNOWN_REGISTER_NAME, INVALID_PARAMETER: see the module.
pub fn get(
    hypervisor: &Hypervisor,
    partition: &Partition,
    vp: &Vp,
    name: HvRegisterName,
) -> Result<HvRegisterValue, HvStatus> {
    let source = Source {
        hv: hypervisor,
        partition,
        vp,
    };
    match name.0 >> 16 {
        group::SYSTEM if name.0 < 0x100 => suspend::get(source, name),
        group::SYSTEM => features::get(source, name),
        group::PENDING => suspend::get(source, name),
        group::GENERAL | group::DEBUG | group::SEGMENT | group::TABLE => general::get(source, name),
        group::FLOATING_POINT => fpu::get(source, name),
        group::CONTROL | group::CR_INTERCEPT => control::get(source, name),
        group::MSR if apic::is_apic(name) => apic::get(source, name),
        group::MSR => system::get(source, name),
        group::SYNTHETIC | group::SYNIC | group::STIMER => synthetic::get(source, name),
        _ => Err(unknown(name)),
    }
}

/// Sets a register.
///
/// # Errors
/// UNKNOWN_REGISTER_NAME, INVALID_PARAMETER: see the module. INVALID_REGISTER_VALUE. INVALID_VP_STATE for a register that
/// can only be set while the VP is suspended (all but the suspend registers and the notifications). Nothing has changed then.
pub fn set(
    hypervisor: &Hypervisor,
    partition: &Partition,
    vp: &mut Vp,
    name: HvRegisterName,
    value: HvRegisterValue,
) -> Result<SetEffect, HvStatus> {
    let target = Target {
        hv: hypervisor,
        partition,
        vp,
    };
    match name.0 >> 16 {
        group::SYSTEM if name.0 < 0x100 => return suspend::set(target, name, value),
        group::PENDING => return suspend::set(target, name, value),
        _ => {}
    }
    // A name that there is not is that, whatever the VP does.
    get(target.hv, target.partition, target.vp, name)?;
    target.require_stopped()?;
    match name.0 >> 16 {
        group::SYSTEM => features::set(target, name, value),
        group::GENERAL | group::DEBUG | group::SEGMENT | group::TABLE => {
            general::set(target, name, value)
        }
        group::FLOATING_POINT => fpu::set(target, name, value),
        group::CONTROL | group::CR_INTERCEPT => control::set(target, name, value),
        group::MSR if apic::is_apic(name) => apic::set(target, name, value),
        group::MSR => system::set(target, name, value),
        group::SYNTHETIC | group::SYNIC | group::STIMER => synthetic::set(target, name, value),
        _ => Err(unknown(name)),
    }
}
