//! What a child's round trips cost, in instructions.
//!
//! Each row is the median of 1,000, with the cost of measuring nothing taken off; see `guests::metal::bench`.
#![no_std]
#![no_main]

use core::arch::asm;

use guests::metal::Boot;
use guests::metal::bench::Meter;
use guests::metal::cell::Pages;
use guests::{child, println};
use tlfs::{
    HvCallCode, HvHypercallInput, HvInputGetPartitionProperty, HvPartitionId,
    HvPartitionPropertyCode, HvStatus,
};
use zerocopy::IntoBytes;

child!(main);

const APIC_ID: u32 = 0x802;
/// A port where nothing is: the worker answers with all ones.
const OPEN_PORT: u16 = 0x80;

static INPUT: Pages<4096> = Pages::new();
static OUTPUT: Pages<4096> = Pages::new();

fn main(_: &Boot) {
    let meter = Meter::new();
    let property = HvInputGetPartitionProperty {
        partition_id: HvPartitionId::SELF,
        property_code: HvPartitionPropertyCode::PRIVILEGE_FLAGS,
        ..Default::default()
    };
    INPUT.write(property.as_bytes());
    hypercall(
        &meter,
        "refused_hypercall",
        HvCallCode::GET_PARTITION_ID,
        HvStatus::ACCESS_DENIED,
    );
    hypercall(
        &meter,
        "child_hypercall",
        HvCallCode::GET_PARTITION_PROPERTY,
        HvStatus::SUCCESS,
    );
    meter.row("cpuid_exit", || {
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
    meter.row("msr_exit", || {
        // SAFETY: reads the APIC id.
        unsafe { asm!("rdmsr", in("ecx") APIC_ID, out("eax") _, out("edx") _) };
    });
    meter.row("io_intercept_round_trip", || {
        // SAFETY: nothing is there.
        unsafe { asm!("out dx, al", in("dx") OPEN_PORT, in("al") 0u8) };
    });
    meter.row("io_intercept_round_trip_in", || {
        let value: u8;
        // SAFETY: nothing is there.
        unsafe { asm!("in al, dx", in("dx") OPEN_PORT, out("al") value) };
        assert_eq!(value, 0xFF);
    });
    meter.row("apic_timer_write", || {
        // SAFETY: the timer's LVT entry is masked.
        unsafe { asm!("wrmsr", in("ecx") 0x838, in("eax") 1, in("edx") 0) };
    });
    println!("ok bench-child");
}

/// A hypercall of a child with blocks in memory. (The one with the least to do, GetPartitionId, is not for children: a
/// payload root measures it.)
#[inline(always)]
fn hypercall(meter: &Meter, key: &str, code: HvCallCode, wanted: HvStatus) {
    let (input, output) = (INPUT.gpa(), OUTPUT.gpa());
    meter.row(key, || {
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
