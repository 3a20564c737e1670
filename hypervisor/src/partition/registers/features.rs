//! What the hypervisor is and offers: 0x100 and 0x200 to 0x250, the Hyper-V CPUID leaves as registers, and the crash
//! registers.

use tlfs::{HV_X64_MSR_CRASH_P0, HvRegisterName as Name, HvRegisterValue};

use super::general::numbered;
use super::{Done, Got, READ_ONLY, SetEffect, Source, Target, got, unknown};
use crate::apic::TIMER_FREQUENCY;
use crate::partition::cpuid;

/// The leaf that a register shows.
fn leaf(name: Name) -> Option<u32> {
    if name == Name::HYPERVISOR_VERSION {
        return Some(tlfs::HV_CPUID_FUNCTION_MS_HV_VERSION);
    }
    numbered(
        name,
        Name::PRIVILEGES_AND_FEATURES_INFO,
        Name::IPT_FEATURES_INFO,
    )
    .map(|number| tlfs::HV_CPUID_FUNCTION_MS_HV_FEATURES + number as u32)
}

/// The MSR of a crash register.
fn crash_msr(name: Name) -> Option<u32> {
    let number = numbered(name, Name::GUEST_CRASH_P0, Name::GUEST_CRASH_CTL)?;
    Some(HV_X64_MSR_CRASH_P0 + number as u32)
}

pub(super) fn get(source: Source<'_>, name: Name) -> Got {
    if let Some(leaf) = leaf(name) {
        let r = cpuid::own(source.hv, source.partition, source.vp, leaf, 0);
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        return Ok(HvRegisterValue {
            low: pair(r.eax, r.ebx),
            high: pair(r.ecx, r.edx),
        });
    }
    match name {
        Name::PROCESSOR_CLOCK_FREQUENCY => got(source.hv.tsc_hz),
        Name::INTERRUPT_CLOCK_FREQUENCY => got(TIMER_FREQUENCY),
        Name::GUEST_CRASH_CTL => got(source.partition.msrs.crash_control),
        name => match crash_msr(name).and_then(|msr| source.partition.msrs.crash(msr)) {
            Some(value) => got(value),
            None => Err(unknown(name)),
        },
    }
}

pub(super) fn set(_: Target<'_>, name: Name, value: HvRegisterValue) -> Done {
    let msr = crash_msr(name).ok_or(READ_ONLY)?;
    Ok(SetEffect::Crash {
        msr,
        value: value.low,
    })
}
