//! Time: the TSC and what the hypervisor says about it.

use tlfs::{HV_X64_MSR_APIC_FREQUENCY, HV_X64_MSR_TIME_REF_COUNT, HV_X64_MSR_TSC_FREQUENCY};

use super::cpu::{rdmsr, tsc};

/// Units of [`reference`] in a second.
pub const SECOND: u64 = 10_000_000;

/// TSC ticks in a second.
pub fn tsc_hz() -> u64 {
    rdmsr(HV_X64_MSR_TSC_FREQUENCY).expect("the TSC frequency is a MSR of every partition")
}

/// APIC timer ticks in a second, at divide by 1.
pub fn apic_hz() -> u64 {
    rdmsr(HV_X64_MSR_APIC_FREQUENCY).expect("the APIC frequency is a MSR of every partition")
}

/// The partition's reference time in units of 100 ns.
pub fn reference() -> u64 {
    rdmsr(HV_X64_MSR_TIME_REF_COUNT).expect("the reference counter is a MSR of every partition")
}

/// Whole seconds of the partition's reference time since it was `start`.
pub fn seconds_since(start: u64) -> u64 {
    (reference() - start) / SECOND
}

/// TSC ticks of a number of microseconds.
pub fn tsc_of_micros(micros: u64) -> u64 {
    (u128::from(tsc_hz()) * u128::from(micros) / 1_000_000) as u64
}

/// Waits, busily, until `done` or until `micros` microseconds have passed; returns whether it was `done`.
pub fn wait(micros: u64, mut done: impl FnMut() -> bool) -> bool {
    let (start, ticks) = (tsc(), tsc_of_micros(micros));
    loop {
        if done() {
            return true;
        }
        if tsc().wrapping_sub(start) > ticks {
            return done();
        }
        core::hint::spin_loop();
    }
}
