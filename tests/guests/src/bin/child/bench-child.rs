//! What a child's round trips cost, in instructions.
//!
//! Meant for `-icount shift=0`: an instruction is a nanosecond then, so TSC differences are instructions. Each row is the
//! median of 1,000, with the cost of measuring nothing taken off.
#![no_std]
#![no_main]

use core::arch::asm;

use guests::metal::Boot;
use guests::metal::cell::Pages;
use guests::metal::time;
use guests::statistics::Summary;
use guests::{child, println};
use tlfs::{
    HvCallCode, HvHypercallInput, HvInputGetPartitionProperty, HvPartitionId,
    HvPartitionPropertyCode, HvStatus,
};
use zerocopy::IntoBytes;

child!(main);

const COUNT: usize = 1000;
/// Before the first sample: the first times fill caches and pools.
const WARM_UP: usize = 50;
const APIC_ID: u32 = 0x802;
/// A port where nothing is: the worker answers with all ones.
const OPEN_PORT: u16 = 0x80;

static INPUT: Pages<4096> = Pages::new();
static OUTPUT: Pages<4096> = Pages::new();

/// Instructions that the TSC's ticks are.
struct Scale {
    hz: u64,
    nothing: u64,
}

fn main(_: &Boot) {
    let mut scale = Scale {
        hz: time::tsc_hz(),
        nothing: 0,
    };
    let nothing = scale.measure(|| {});
    println!(
        "bench empty_loop {} instructions min={} max={}",
        nothing.median, nothing.min, nothing.max
    );
    scale.nothing = nothing.median;
    let property = HvInputGetPartitionProperty {
        partition_id: HvPartitionId::SELF,
        property_code: HvPartitionPropertyCode::PRIVILEGE_FLAGS,
        ..Default::default()
    };
    INPUT.write(property.as_bytes());
    hypercall(
        &scale,
        "refused_hypercall",
        HvCallCode::GET_PARTITION_ID,
        HvStatus::ACCESS_DENIED,
    );
    hypercall(
        &scale,
        "child_hypercall",
        HvCallCode::GET_PARTITION_PROPERTY,
        HvStatus::SUCCESS,
    );
    scale.row("cpuid_exit", || {
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
    scale.row("msr_exit", || {
        // SAFETY: reads the APIC id.
        unsafe { asm!("rdmsr", in("ecx") APIC_ID, out("eax") _, out("edx") _) };
    });
    scale.row("io_intercept_round_trip", || {
        // SAFETY: nothing is there.
        unsafe { asm!("out dx, al", in("dx") OPEN_PORT, in("al") 0u8) };
    });
    scale.row("io_intercept_round_trip_in", || {
        let value: u8;
        // SAFETY: nothing is there.
        unsafe { asm!("in al, dx", in("dx") OPEN_PORT, out("al") value) };
        assert_eq!(value, 0xFF);
    });
    scale.row("apic_timer_write", || {
        // SAFETY: the timer's LVT entry is masked.
        unsafe { asm!("wrmsr", in("ecx") 0x838, in("eax") 1, in("edx") 0) };
    });
    println!("ok bench-child");
}

/// A hypercall of a child with blocks in memory. (The one with the least to do, GetPartitionId, is not for children: a
/// payload root measures it.)
#[inline(always)]
fn hypercall(scale: &Scale, key: &str, code: HvCallCode, wanted: HvStatus) {
    let (input, output) = (INPUT.gpa(), OUTPUT.gpa());
    scale.row(key, || {
        let status: u64;
        // SAFETY: changes the registers named (guest sheet 5.1) and the output page.
        unsafe {
            asm!(
                "vmmcall",
                inout("rcx") HvHypercallInput::simple(code).into_bits() => _,
                inout("rdx") input => _,
                inout("r8") output => _,
                out("rax") status,
                out("r9") _,
                out("r10") _,
                out("r11") _,
            );
        }
        assert_eq!(status, u64::from(wanted.0));
    });
}

/// The TSC, with nothing moved across.
#[inline(always)]
fn tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading the counter has no effects.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

impl Scale {
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
        let nanoseconds = |ticks: u64| {
            ((u128::from(ticks) * 1_000_000_000 + u128::from(self.hz) / 2) / u128::from(self.hz))
                as u64
        };
        samples
            .iter_mut()
            .for_each(|sample| *sample = nanoseconds(*sample));
        Summary::of(&mut samples).unwrap_or(Summary {
            min: 0,
            median: 0,
            max: 0,
        })
    }

    #[inline(always)]
    fn row(&self, key: &str, work: impl FnMut()) {
        let cost = self.measure(work).less(self.nothing);
        println!(
            "bench {key} {} instructions min={} max={}",
            cost.median, cost.min, cost.max
        );
    }
}
