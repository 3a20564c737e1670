//! What the hypervisor is and offers: 0x100 and 0x200 to 0x250, the Hyper-V CPUID leaves as registers, and the crash
//! registers, which are not offered.

use tlfs::{HvRegisterName as Name, HvRegisterValue};

use super::general::numbered;
use super::{Done, Got, READ_ONLY, Source, Target, got, set_if, unknown};
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

fn is_crash(name: Name) -> bool {
    (Name::GUEST_CRASH_P0..=Name::GUEST_CRASH_CTL).contains(&name)
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
        name if is_crash(name) => got(0_u64),
        _ => Err(unknown(name)),
    }
}

pub(super) fn set(_: Target<'_>, name: Name, value: HvRegisterValue) -> Done {
    if is_crash(name) {
        set_if(value.as_u128() == 0)
    } else {
        Err(READ_ONLY)
    }
}
