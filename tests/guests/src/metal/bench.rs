//! Measuring round trips: the median of many, by the TSC, in instructions.
//!
//! Meant for `-icount shift=0`: an instruction is a nanosecond then, so TSC differences are instructions.

use core::arch::asm;

use tlfs::{HvCallCode, HvHypercallInput, HvStatus};

use super::cell::Pages;
use super::time;
use crate::println;
use crate::statistics::Summary;

/// Samples of a figure.
pub const COUNT: usize = 1000;
const APIC_ID: u32 = 0x802;
/// Before the first sample: the first times fill caches and pools.
const WARM_UP: usize = 50;

/// What the TSC's ticks are in instructions, and what measuring itself costs.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    hz: u64,
    nothing: u64,
}

impl Meter {
    /// Measures what measuring nothing costs; that is taken off later figures.
    pub fn new() -> Self {
        let raw = Self {
            hz: time::tsc_hz(),
            nothing: 0,
        };
        let nothing = raw.measure(|| {});
        report("empty_loop", nothing, format_args!(""));
        Self {
            nothing: nothing.median,
            ..raw
        }
    }

    /// Measures `work`, and prints the figure under `key`.
    #[inline(always)]
    pub fn row(&self, key: &str, work: impl FnMut()) {
        report(key, self.measure(work), format_args!(""));
    }

    /// Measures CPUID leaf 1.
    pub fn cpuid_row(&self, key: &str) {
        self.row(key, || {
            // SAFETY: changes the registers named; RBX is brought back.
            unsafe {
                asm!(
                    "mov {saved}, rbx",
                    "cpuid",
                    "mov rbx, {saved}",
                    saved = out(reg) _,
                    inout("eax") 1 => _,
                    inout("ecx") 0 => _,
                    out("edx") _,
                );
            }
        });
    }

    /// Measures RDMSR of the x2APIC's id.
    pub fn apic_id_row(&self, key: &str) {
        self.row(key, || {
            // SAFETY: reads the APIC id.
            unsafe { asm!("rdmsr", in("ecx") APIC_ID, out("eax") _, out("edx") _) };
        });
    }

    /// Measures a simple hypercall, which has to end with `wanted`. The pages are the call's.
    pub fn hypercall_row(
        &self,
        key: &str,
        code: HvCallCode,
        input: u64,
        output: &Pages<4096>,
        wanted: HvStatus,
    ) {
        let control = HvHypercallInput::simple(code).into_bits();
        self.row(key, || {
            let result: u64;
            // SAFETY: changes the registers named (guest sheet 5.1) and the output page.
            unsafe {
                asm!(
                    "vmmcall",
                    inout("rcx") control => _,
                    inout("rdx") input => _,
                    inout("r8") output.gpa() => _,
                    out("rax") result,
                    out("r9") _,
                    out("r10") _,
                    out("r11") _,
                );
            }
            assert_eq!(result, u64::from(wanted.0));
        });
    }

    /// As [`row`](Self::row), with what `count` counted meanwhile: pairs of a name and a number, which are printed per round trip.
    #[inline(always)]
    pub fn counted_row<const N: usize>(
        &self,
        key: &str,
        names: [&str; N],
        count: impl Fn() -> [u64; N],
        work: impl FnMut(),
    ) {
        let before = count();
        let summary = self.measure(work);
        let after = count();
        let trips = (COUNT + WARM_UP) as u64;
        let per_trip: [u64; N] =
            core::array::from_fn(|index| (after[index] - before[index] + trips / 2) / trips);
        report(
            key,
            summary,
            format_args!("{}", Counters(&names, &per_trip)),
        );
    }

    #[inline(always)]
    fn measure(&self, mut work: impl FnMut()) -> Summary {
        let mut samples = [0u64; COUNT];
        for _ in 0..WARM_UP {
            work();
        }
        for sample in &mut samples {
            let start = tsc();
            work();
            *sample = tsc().wrapping_sub(start);
        }
        let hz = u128::from(self.hz);
        for sample in &mut samples {
            *sample = ((u128::from(*sample) * 1_000_000_000 + hz / 2) / hz) as u64;
        }
        let nothing = Summary {
            min: 0,
            median: 0,
            max: 0,
        };
        Summary::of(&mut samples)
            .unwrap_or(nothing)
            .less(self.nothing)
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

fn report(key: &str, cost: Summary, counters: core::fmt::Arguments<'_>) {
    println!(
        "bench {key} {} instructions min={} max={}{counters}",
        cost.median, cost.min, cost.max
    );
}

/// ` NAME=N` for each.
struct Counters<'a>(&'a [&'a str], &'a [u64]);

impl core::fmt::Display for Counters<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0
            .iter()
            .zip(self.1)
            .try_for_each(|(name, count)| write!(f, " {name}={count}"))
    }
}

/// The TSC, with nothing moved across.
#[inline(always)]
fn tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading the counter has no effects.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nostack)) };
    u64::from(high) << 32 | u64::from(low)
}
