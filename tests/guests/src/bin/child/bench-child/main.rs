//! What a child's round trips cost, in instructions.
//!
//! Each row is the median of 1,000, with the cost of measuring nothing taken off; see `guests::metal::bench`.
#![no_std]
#![no_main]

mod vmbus;

use core::arch::asm;

use guests::metal::Boot;
use guests::metal::bench::{self, Meter};
use guests::metal::cell::Pages;
use guests::{child, println};
use tlfs::{
    HvCallCode, HvInputGetPartitionProperty, HvPartitionId, HvPartitionPropertyCode, HvStatus,
};
use zerocopy::IntoBytes;

child!(main);

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
    // The call with the least to do, GetPartitionId, is not for children: a payload root measures it.
    let (input, code) = (INPUT.gpa(), HvCallCode::GET_PARTITION_ID);
    let refused = HvStatus::ACCESS_DENIED;
    meter.row("refused_hypercall", || {
        bench::hypercall(code, input, &OUTPUT, refused);
    });
    let (done, code) = (HvStatus::SUCCESS, HvCallCode::GET_PARTITION_PROPERTY);
    meter.row("child_hypercall", || {
        bench::hypercall(code, input, &OUTPUT, done);
    });
    meter.row("cpuid_exit", bench::cpuid);
    meter.row("msr_exit", bench::apic_id);
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
    vmbus::row(&meter);
    println!("ok bench-child");
}
