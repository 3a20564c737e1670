//! The TSC, and how fast it is.

use x86_64::instructions::port::Port;

use crate::arch::cpuid::CpuidSource;

/// Ticks of the ACPI PM timer a second.
const PM_TIMER_HZ: u64 = 3_579_545;
/// Ticks of the PIT a second.
const PIT_HZ: u64 = 1_193_182;
/// How long a measurement takes, in PM timer ticks: 20 ms.
const PM_TICKS: u32 = (PM_TIMER_HZ / 50) as u32;
/// PIT ticks of a measurement: 20 ms.
const PIT_TICKS: u16 = (PIT_HZ / 50) as u16;
/// Looks at a timer that does not move before it is given up.
const PATIENCE: u32 = 10_000_000;
/// Frequencies that can be one.
const SANE_HZ: core::ops::RangeInclusive<u64> = 100_000_000..=20_000_000_000;

/// The time stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: RDTSC exists on every 64-bit processor.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The time stamp counter, not before what the code before has read is there.
pub fn ordered_tsc() -> u64 {
    // SAFETY: every 64-bit processor has both fences. On some of AMD's the first one is what holds RDTSC back.
    unsafe {
        core::arch::x86_64::_mm_mfence();
        core::arch::x86_64::_mm_lfence();
    }
    tsc()
}

/// TSC ticks a second as CPUID tells, if it does: leaf 0x15, the timing leaf of hypervisors, or leaf 0x16.
pub fn frequency_from_cpuid(cpu: &impl CpuidSource) -> Option<u64> {
    let ratio = cpu.cpuid_checked(0x15, 0);
    let (denominator, numerator, crystal) = (
        u64::from(ratio.eax),
        u64::from(ratio.ebx),
        u64::from(ratio.ecx),
    );
    if denominator != 0 && numerator != 0 && crystal != 0 {
        return sane(crystal * numerator / denominator);
    }
    let below_hypervisor = cpu.cpuid_checked(1, 0).ecx & 1 << 31 != 0;
    if below_hypervisor {
        let khz = cpu.cpuid_checked(0x4000_0010, 0).eax;
        if let Some(hz) = sane(u64::from(khz) * 1000) {
            return Some(hz);
        }
    } else if ratio.ebx != 0 {
        // The base frequency is the TSC's only where leaf 0x15 says that there is such a relation.
        return sane(u64::from(cpu.cpuid_checked(0x16, 0).eax & 0xFFFF) * 1_000_000);
    }
    None
}

fn sane(hz: u64) -> Option<u64> {
    SANE_HZ.contains(&hz).then_some(hz)
}

/// Measures the TSC against the ACPI PM timer at I/O port `port`. `None` if the timer does not run.
///
/// # Safety
/// Ring 0; the port must be the PM timer's.
pub unsafe fn measure_by_pm_timer(port: u16) -> Option<u64> {
    // SAFETY: reading the timer has no effect.
    let read = || unsafe { Port::<u32>::new(port).read() } & 0xFF_FFFF;
    let (start_pm, start_tsc) = best_sample(read);
    let mut patience = PATIENCE;
    while (read().wrapping_sub(start_pm) & 0xFF_FFFF) < PM_TICKS {
        patience = patience.checked_sub(1)?;
        core::hint::spin_loop();
    }
    let (end_pm, end_tsc) = best_sample(read);
    let ticks = u64::from(end_pm.wrapping_sub(start_pm) & 0xFF_FFFF);
    sane(scale(end_tsc.wrapping_sub(start_tsc), PM_TIMER_HZ, ticks))
}

/// A reading and its time. Of several, the one that took the least time, since an emulator may be held up in the middle;
/// its time is the middle of it.
fn best_sample(read: impl Fn() -> u32) -> (u32, u64) {
    let sample = || {
        // Wait for the timer's edge: then the reading is as old as the sampling is long, not as a timer tick is.
        let old = read();
        for _ in 0..16 {
            let before = tsc();
            let value = read();
            let after = tsc();
            if value != old {
                return (
                    after.wrapping_sub(before),
                    value,
                    before.wrapping_add(after.wrapping_sub(before) / 2),
                );
            }
        }
        let before = tsc();
        let value = read();
        let after = tsc();
        (
            after.wrapping_sub(before),
            value,
            before.wrapping_add(after.wrapping_sub(before) / 2),
        )
    };
    let mut best = sample();
    for _ in 0..15 {
        let next = sample();
        if next.0 < best.0 {
            best = next;
        }
    }
    (best.1, best.2)
}

/// Measures the TSC against channel 2 of the PIT. `None` if the channel does not count.
///
/// # Safety
/// Ring 0; nothing else uses the channel or the speaker at this time.
pub unsafe fn measure_by_pit() -> Option<u64> {
    // SAFETY: the caller allows the use of the channel; its ports have no effect on memory.
    unsafe {
        let mut gate = Port::<u8>::new(0x61);
        let old = gate.read();
        // Gate on, speaker off.
        gate.write(old & !2 | 1);
        Port::<u8>::new(0x43).write(0b1011_0000);
        let [low, high] = PIT_TICKS.to_le_bytes();
        Port::<u8>::new(0x42).write(low);
        Port::<u8>::new(0x42).write(high);
        let start = tsc();
        let mut patience = PATIENCE;
        while gate.read() & 1 << 5 == 0 {
            patience = patience.checked_sub(1)?;
        }
        let end = tsc();
        gate.write(old);
        sane(scale(end.wrapping_sub(start), PIT_HZ, u64::from(PIT_TICKS)))
    }
}

/// `count` events in `ticks` of a clock of `hz`: events a second. 0 for no ticks.
pub const fn scale(count: u64, hz: u64, ticks: u64) -> u64 {
    if ticks == 0 {
        return 0;
    }
    (count as u128 * hz as u128 / ticks as u128) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::cpuid::Recorded;
    use core::cell::Cell;

    #[test]
    fn leaf_15_is_believed_when_it_is_complete() {
        let skylake = Recorded(&[(0, 0, [0x16, 0, 0, 0]), (0x15, 0, [2, 216, 24_000_000, 0])]);
        assert_eq!(frequency_from_cpuid(&skylake), Some(2_592_000_000));
        let without_crystal = Recorded(&[
            (0, 0, [0x16, 0, 0, 0]),
            (0x15, 0, [2, 216, 0, 0]),
            (0x16, 0, [2600, 0, 0, 0]),
        ]);
        assert_eq!(frequency_from_cpuid(&without_crystal), Some(2_600_000_000));
    }

    #[test]
    fn a_hypervisor_below_tells_in_its_timing_leaf_or_not_at_all() {
        let told = Recorded(&[
            (0, 0, [1, 0, 0, 0]),
            (1, 0, [0, 0, 1 << 31, 0]),
            (0x4000_0000, 0, [0x4000_0010, 0, 0, 0]),
            (0x4000_0010, 0, [3_000_000, 0, 0, 0]),
        ]);
        assert_eq!(frequency_from_cpuid(&told), Some(3_000_000_000));
        let silent = Recorded(&[
            (0, 0, [0x16, 0, 0, 0]),
            (1, 0, [0, 0, 1 << 31, 0]),
            (0x16, 0, [2600, 0, 0, 0]),
            (0x4000_0000, 0, [0x4000_0001, 0, 0, 0]),
        ]);
        assert_eq!(frequency_from_cpuid(&silent), None);
    }

    #[test]
    fn nonsense_is_not_a_frequency() {
        let slow = Recorded(&[(0, 0, [0x15, 0, 0, 0]), (0x15, 0, [1, 1, 32768, 0])]);
        assert_eq!(frequency_from_cpuid(&slow), None);
        assert_eq!(scale(1, 1, 0), 0);
        assert_eq!(scale(20_000_000, PM_TIMER_HZ, 71_590), 1_000_012_571);
    }

    #[test]
    fn a_sample_is_a_reading_after_the_timer_moved() {
        let now = Cell::new(0);
        let read = || {
            now.set(now.get() + 1);
            now.get() / 3
        };
        let (value, time) = best_sample(read);
        assert!(value >= 1 && time > 0);
    }
}
