//! What the root's own round trips cost, in instructions: the hypercall with the least to do, CPUID, an APIC register.
#![no_std]
#![no_main]

use core::arch::asm;

use guests::metal::Boot;
use guests::metal::bench::Meter;
use guests::metal::cell::Pages;
use guests::metal::cpu::wrmsr;
use guests::{println, root};
use tlfs::{HV_X64_MSR_GUEST_OS_ID, HvCallCode, HvHypercallInput};

root!(main);

const APIC_ID: u32 = 0x802;

static OUTPUT: Pages<4096> = Pages::new();

fn main(_: &Boot) {
    wrmsr(HV_X64_MSR_GUEST_OS_ID, 0x8100_0000_0000_0000).expect("GUEST_OS_ID");
    let meter = Meter::new();
    let output = OUTPUT.gpa();
    meter.row("null_hypercall", || {
        let control = HvHypercallInput::simple(HvCallCode::GET_PARTITION_ID).into_bits();
        let status: u64;
        // SAFETY: changes the registers named (guest sheet 5.1) and the output page.
        unsafe {
            asm!(
                "vmmcall",
                inout("rcx") control => _,
                inout("rdx") 0u64 => _,
                inout("r8") output => _,
                out("rax") status,
                out("r9") _,
                out("r10") _,
                out("r11") _,
            );
        }
        assert_eq!(status, 0);
    });
    assert_ne!(guests::metal::memory::read::<u64>(output), 0);
    meter.row("root_cpuid_exit", || {
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
    meter.row("root_msr_exit", || {
        // SAFETY: reads the APIC id.
        unsafe { asm!("rdmsr", in("ecx") APIC_ID, out("eax") _, out("edx") _) };
    });
    println!("ok root-bench-calls");
}
