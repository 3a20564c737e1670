//! Measuring round trips: the median of many, by the TSC, in instructions.
//!
//! Meant for emulators in which the TSC counts instructions: Bochs always, QEMU with `-icount shift=0`, where an
//! instruction is a nanosecond and that a tick.

use core::arch::asm;

use tlfs::{HvCallCode, HvHypercallInput, HvStatus};

use super::cell::Pages;
use crate::statistics::Summary;
use crate::{println, with_hypercall};

/// Samples of a figure.
pub const COUNT: usize = 1000;
const APIC_ID: u32 = 0x802;
/// Before the first sample: the first times fill caches and pools.
const WARM_UP: usize = 50;

/// What measuring itself costs.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    nothing: u64,
}

impl Meter {
    /// Measures what measuring nothing costs; that is taken off later figures.
    pub fn new() -> Self {
        let raw = Self { nothing: 0 };
        let nothing = raw.measure(|| {});
        report("empty_loop", nothing);
        Self {
            nothing: nothing.median,
        }
    }

    /// Measures `work`, and prints the figure under `key`.
    #[inline(always)]
    pub fn row(&self, key: &str, work: impl FnMut()) {
        report(key, self.measure(work));
    }

    /// Measures `work`.
    #[inline(always)]
    pub fn measure(&self, mut work: impl FnMut()) -> Summary {
        let mut samples = [0u64; COUNT];
        for _ in 0..WARM_UP {
            work();
        }
        for sample in &mut samples {
            let start = tsc();
            work();
            *sample = tsc().wrapping_sub(start);
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

/// Prints a figure.
pub fn report(key: &str, cost: Summary) {
    println!(
        "bench {key} {} instructions min={} max={}",
        cost.median, cost.min, cost.max
    );
}

/// CPUID leaf 1.
#[inline(always)]
pub fn cpuid() {
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
}

/// RDMSR of the x2APIC's id.
#[inline(always)]
pub fn apic_id() {
    // SAFETY: reads the APIC id.
    unsafe { asm!("rdmsr", in("ecx") APIC_ID, out("eax") _, out("edx") _) };
}

/// A simple hypercall, which has to end with `wanted`. The pages are the call's.
#[inline(always)]
pub fn hypercall(code: HvCallCode, input: u64, output: &Pages<4096>, wanted: HvStatus) {
    let control = HvHypercallInput::simple(code).into_bits();
    let result: u64;
    // SAFETY: changes the registers named (guest sheet 5.1) and the output page.
    unsafe {
        with_hypercall!(asm!(
            "", @, "",
            inout("rcx") control => _,
            inout("rdx") input => _,
            inout("r8") output.gpa() => _,
            out("rax") result,
            out("r9") _,
            out("r10") _,
            out("r11") _,
        ));
    }
    assert_eq!(result, u64::from(wanted.0));
}

/// The TSC, with nothing moved across. Bochs counts what it executed when it comes to a jump or an exit: without a jump
/// here, the instructions since the one before would be missing.
#[inline(always)]
pub fn tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading the counter has no effects.
    unsafe {
        asm!(
            "jmp 2f",
            "2: rdtsc",
            out("eax") low,
            out("edx") high,
            options(nostack),
        );
    }
    u64::from(high) << 32 | u64::from(low)
}
