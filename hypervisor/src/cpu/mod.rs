//! The physical processors: per-processor block, descriptor tables, exceptions, interrupts, local APIC, TSC.

pub mod apic;
pub mod exceptions;
pub mod features;
pub mod local;
pub mod pic;
pub mod tables;
pub mod tsc;

pub use tsc::{ordered_tsc, tsc};

/// Vector of the local APIC timer, which is the hypervisor's.
pub const VECTOR_TIMER: u8 = 0xF0;
/// Vector by which processors wake each other.
pub const VECTOR_WAKE: u8 = 0xF1;
/// Vector of spurious interrupts.
pub const VECTOR_SPURIOUS: u8 = 0xFF;

/// Stops this processor for good. An NMI or SMI only makes it stop again.
pub fn halt_forever() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}

/// Lets pending physical interrupts in for a moment, and tells each vector that arrived, the highest first. The interrupts
/// are in service in the local APIC: ending them is the caller's business ([`apic::LocalApic::eoi`]), so lower ones stay
/// pending until then.
///
/// Runs with interrupts off before and after; `each` too.
pub fn take_interrupts(local: &local::Local, each: &mut dyn FnMut(u8)) {
    // SAFETY: the handlers only set bits in the per-processor block, on the current stack. SVM leaves GIF on outside
    // `run`, so IF alone decides; the NOP is the instruction that STI's shadow covers.
    unsafe { core::arch::asm!("sti", "nop", "cli") };
    local.drain(each);
}

/// Halts until an interrupt arrives, and tells it like [`take_interrupts`]. The caller has looked for work with interrupts
/// off; none can slip in before the halt, because STI takes effect after it.
pub fn idle(local: &local::Local, each: &mut dyn FnMut(u8)) {
    // SAFETY: as in `take_interrupts`.
    unsafe { core::arch::asm!("sti", "hlt", "cli") };
    local.drain(each);
}
