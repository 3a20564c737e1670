//! What the root's own round trips cost, in instructions: the hypercall with the least to do, CPUID, an APIC register.
#![no_std]
#![no_main]

use guests::metal::Boot;
use guests::metal::bench::Meter;
use guests::metal::cell::Pages;
use guests::metal::cpu::wrmsr;
use guests::{println, root};
use tlfs::{HV_X64_MSR_GUEST_OS_ID, HvCallCode, HvStatus};

root!(main);

static OUTPUT: Pages<4096> = Pages::new();

fn main(_: &Boot) {
    wrmsr(HV_X64_MSR_GUEST_OS_ID, 0x8100_0000_0000_0000).expect("GUEST_OS_ID");
    let meter = Meter::new();
    let (code, done) = (HvCallCode::GET_PARTITION_ID, HvStatus::SUCCESS);
    meter.hypercall_row("null_hypercall", code, 0, &OUTPUT, done);
    assert_ne!(guests::metal::memory::read::<u64>(OUTPUT.gpa()), 0);
    meter.cpuid_row("root_cpuid_exit");
    meter.apic_id_row("root_msr_exit");
    println!("ok root-bench-calls");
}
