//! Instructions that Rust has no words for. Those that may fault come back with the fault.

use core::arch::asm;

use super::trap::Fault;
use crate::probe;

/// Answer of CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpuid {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// CPUID of a leaf and subleaf.
pub fn cpuid(leaf: u32, subleaf: u32) -> Cpuid {
    let answer = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    Cpuid {
        eax: answer.eax,
        ebx: answer.ebx,
        ecx: answer.ecx,
        edx: answer.edx,
    }
}

/// Reads an MSR.
///
/// # Errors
/// The exception that it raised.
pub fn rdmsr(msr: u32) -> Result<u64, Fault> {
    let (low, high): (u32, u32);
    probe!("rdmsr", in("ecx") msr, lateout("eax") low, lateout("edx") high)?;
    Ok(u64::from(high) << 32 | u64::from(low))
}

/// Writes an MSR.
///
/// # Errors
/// The exception that it raised.
pub fn wrmsr(msr: u32, value: u64) -> Result<(), Fault> {
    probe!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32)
}

/// Reads an MSR that is there.
#[track_caller]
pub fn read_msr(msr: u32) -> u64 {
    rdmsr(msr).unwrap_or_else(|fault| panic!("reading MSR {msr:#x}: {fault:x?}"))
}

/// Writes an MSR that takes the value.
#[track_caller]
pub fn write_msr(msr: u32, value: u64) {
    wrmsr(msr, value)
        .unwrap_or_else(|fault| panic!("writing {value:#x} to MSR {msr:#x}: {fault:x?}"));
}

/// Reads a byte from a port.
pub fn inb(port: u16) -> u8 {
    let value;
    // SAFETY: see the module `metal`.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nostack)) };
    value
}

/// Reads two bytes from a port.
pub fn inw(port: u16) -> u16 {
    let value;
    // SAFETY: see the module `metal`.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nostack)) };
    value
}

/// Reads four bytes from a port.
pub fn inl(port: u16) -> u32 {
    let value;
    // SAFETY: see the module `metal`.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack)) };
    value
}

/// Writes a byte to a port.
pub fn outb(port: u16, value: u8) {
    // SAFETY: see the module `metal`.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack)) };
}

/// Writes two bytes to a port.
pub fn outw(port: u16, value: u16) {
    // SAFETY: see the module `metal`.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nostack)) };
}

/// Writes four bytes to a port.
pub fn outl(port: u16, value: u32) {
    // SAFETY: see the module `metal`.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack)) };
}

/// The time stamp counter, after everything before it.
pub fn tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading the counter has no effects.
    unsafe {
        asm!("lfence", "rdtsc", "lfence", out("eax") low, out("edx") high, options(nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Reads a control register: `cr!(0)`, `cr!(2)`, `cr!(3)`, `cr!(4)`, `cr!(8)`.
#[macro_export]
macro_rules! read_cr {
    ($number:literal) => {{
        let value: u64;
        // SAFETY: reading a control register has no effects.
        unsafe {
            ::core::arch::asm!(concat!("mov {}, cr", $number), out(reg) value, options(nomem, nostack));
        }
        value
    }};
}

/// Writes a control register: `write_cr!(4, value)`, which is a `Result<(), Fault>`.
#[macro_export]
macro_rules! write_cr {
    ($number:literal, $value:expr) => {{
        let value: u64 = $value;
        $crate::probe!(concat!("mov cr", $number, ", {value}"), value = in(reg) value)
    }};
}

/// Lets interrupts in.
pub fn enable_interrupts() {
    // SAFETY: handlers preserve all registers.
    unsafe { asm!("sti", options(nostack)) };
}

/// Keeps interrupts out.
pub fn disable_interrupts() {
    // SAFETY: nothing depends on interrupts.
    unsafe { asm!("cli", options(nostack)) };
}

/// Lets interrupts in and halts until one was handled; comes back with interrupts off.
pub fn wait_for_interrupt() {
    // SAFETY: handlers preserve all registers; nothing can slip in between `sti` and `hlt`.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Lets waiting interrupts in for a moment; comes back with interrupts off.
pub fn interrupt_window() {
    // SAFETY: as in `wait_for_interrupt`.
    unsafe { asm!("sti", "nop", "nop", "cli", options(nostack)) };
}
