//! The local APIC in x2APIC mode.

use super::cpu::{cpuid, rdmsr, wrmsr};
use super::trap::Fault;

/// APIC base MSR.
pub const APIC_BASE: u32 = 0x1B;
/// Registers, as MSRs.
pub mod register {
    /// APIC id.
    pub const ID: u32 = 0x802;
    /// Version.
    pub const VERSION: u32 = 0x803;
    /// Task priority.
    pub const TPR: u32 = 0x808;
    /// Processor priority.
    pub const PPR: u32 = 0x80A;
    /// End of interrupt.
    pub const EOI: u32 = 0x80B;
    /// Logical destination.
    pub const LDR: u32 = 0x80D;
    /// Spurious vector.
    pub const SVR: u32 = 0x80F;
    /// In service, 8 registers.
    pub const ISR: u32 = 0x810;
    /// Trigger mode, 8 registers.
    pub const TMR: u32 = 0x818;
    /// Requested, 8 registers.
    pub const IRR: u32 = 0x820;
    /// Errors.
    pub const ESR: u32 = 0x828;
    /// Interrupt command.
    pub const ICR: u32 = 0x830;
    /// LVT: timer.
    pub const LVT_TIMER: u32 = 0x832;
    /// LVT: LINT0.
    pub const LVT_LINT0: u32 = 0x835;
    /// LVT: errors.
    pub const LVT_ERROR: u32 = 0x837;
    /// Timer: initial count.
    pub const INITIAL_COUNT: u32 = 0x838;
    /// Timer: current count.
    pub const CURRENT_COUNT: u32 = 0x839;
    /// Timer: divisor.
    pub const DIVIDE: u32 = 0x83E;
    /// Self IPI.
    pub const SELF_IPI: u32 = 0x83F;
}
/// SVR: software enable.
pub const SVR_ENABLE: u64 = 1 << 8;
/// LVT: masked.
pub const MASKED: u64 = 1 << 16;
/// LVT timer: periodic.
pub const PERIODIC: u64 = 1 << 17;
/// Divide configuration: by 1.
pub const DIVIDE_BY_1: u64 = 0b1011;
/// ICR: delivery mode NMI.
pub const DELIVER_NMI: u64 = 4 << 8;
/// ICR: assert, which all but INIT deassert have.
pub const ASSERT: u64 = 1 << 14;
/// ICR: INIT.
pub const INIT: u64 = 5 << 8 | ASSERT;
/// ICR: startup IPI; the low byte is the number of the page to start at.
pub const STARTUP: u64 = 6 << 8 | ASSERT;

/// Switches to x2APIC mode if that is not on, and software-enables the APIC with spurious vector 0xFF.
pub fn enable() {
    let base = rdmsr(APIC_BASE).expect("APIC base");
    if base & 0xC00 != 0xC00 {
        wrmsr(APIC_BASE, base | 0x800).expect("APIC on");
        wrmsr(APIC_BASE, base | 0xC00).expect("x2APIC on");
    }
    write(register::SVR, SVR_ENABLE | 0xFF);
    write(register::TPR, 0);
}

/// Whether CPUID offers x2APIC mode.
pub fn is_offered() -> bool {
    cpuid(1, 0).ecx & (1 << 21) != 0
}

/// Reads a register that exists.
pub fn read(register: u32) -> u64 {
    rdmsr(register)
        .unwrap_or_else(|fault| panic!("reading APIC register {register:#x}: {fault:x?}"))
}

/// Writes a value that a register can have.
pub fn write(register: u32, value: u64) {
    wrmsr(register, value).unwrap_or_else(|fault| {
        panic!("writing {value:#x} to APIC register {register:#x}: {fault:x?}")
    });
}

/// Writes what may be refused.
///
/// # Errors
/// The exception.
pub fn try_write(register: u32, value: u64) -> Result<(), Fault> {
    wrmsr(register, value)
}

/// Sends a vector to this processor itself.
pub fn self_ipi(vector: u8) {
    write(register::SELF_IPI, u64::from(vector));
}

/// Ends the interrupt in service.
pub fn eoi() {
    write(register::EOI, 0);
}

/// Whether `vector` is in one of the three sets (`register::ISR`, `TMR`, `IRR`).
pub fn has(set: u32, vector: u8) -> bool {
    read(set + u32::from(vector / 32)) & 1 << (vector % 32) != 0
}

/// Errors up to now, which are then forgotten.
pub fn take_errors() -> u64 {
    write(register::ESR, 0);
    let errors = read(register::ESR);
    write(register::ESR, 0);
    errors
}

/// Sends a command, ICR bits 31:0, to the processor with this APIC id.
pub fn command(id: u64, low: u64) {
    write(register::ICR, id << 32 | low);
}

/// Sends an NMI to this processor. (The shorthand "self" is for fixed interrupts only.)
pub fn nmi_to_self() {
    let id = read(register::ID);
    command(id, DELIVER_NMI | ASSERT);
}

/// Starts the timer: `count` ticks of `APIC_FREQUENCY`, with this LVT entry (vector, [`MASKED`], [`PERIODIC`]).
pub fn start_timer(lvt: u64, count: u32) {
    write(register::DIVIDE, DIVIDE_BY_1);
    write(register::LVT_TIMER, lvt);
    write(register::INITIAL_COUNT, u64::from(count));
}

/// Stops the timer.
pub fn stop_timer() {
    write(register::INITIAL_COUNT, 0);
    write(register::LVT_TIMER, MASKED);
}
