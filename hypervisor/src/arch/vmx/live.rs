//! Registers that no entry or exit switches and that the hypervisor does not use: they stay in the processor from one VP's
//! turn to the next one's.

use core::cell::Cell;

use crate::arch::Counters;
use crate::arch::msr::{rdmsr, wrmsr};

/// Such a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Register {
    /// CR2. The guest changes it without an exit; so it does the next two.
    Cr2,
    /// DR6.
    Dr6,
    /// IA32_KERNEL_GS_BASE.
    KernelGsBase,
    /// IA32_STAR. Writes of this one and the next three exit.
    Star,
    /// IA32_LSTAR.
    Lstar,
    /// IA32_CSTAR.
    Cstar,
    /// IA32_FMASK.
    Sfmask,
}

const ALL: [Register; COUNT] = [
    Register::Cr2,
    Register::Dr6,
    Register::KernelGsBase,
    Register::Star,
    Register::Lstar,
    Register::Cstar,
    Register::Sfmask,
];
const COUNT: usize = 7;
/// Bits of those that change without an exit.
const VOLATILE: u8 = 0b111;
const EVERY: u8 = (1 << COUNT) - 1;
/// DR6 with nothing reported.
pub(super) const DR6_RESET: u64 = 0xFFFF_0FF0;

/// What one processor holds in them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held([u64; COUNT]);

impl Held {
    /// Puts the processor's into a known state.
    ///
    /// # Safety
    /// Ring 0, in a hypervisor that uses none of the registers.
    pub unsafe fn take(counters: &mut Counters) -> Self {
        let mut values = [0; COUNT];
        for register in ALL {
            // SAFETY: all exist in 64-bit mode, take zero, and nobody uses them.
            unsafe { write(register, 0, counters) };
            if let Some(slot) = values.get_mut(register as usize) {
                *slot = 0;
            }
        }
        Self(values)
    }

    /// For tests on the host.
    #[cfg(any(test, feature = "test-support"))]
    pub const fn for_test() -> Self {
        Self([0; COUNT])
    }
}

/// A VP's.
#[derive(Clone, Debug)]
pub(super) struct Live {
    values: [Cell<u64>; COUNT],
    /// Bits of those whose value is here; the others are in the processor.
    known: Cell<u8>,
    /// Bits of those that have to go to the processor before the next entry.
    changed: u8,
}

impl Live {
    /// All in the state after reset.
    pub fn new() -> Self {
        let mut live = Self {
            values: [const { Cell::new(0) }; COUNT],
            known: Cell::new(EVERY),
            changed: EVERY,
        };
        live.reset();
        live
    }

    /// The state after reset.
    pub fn reset(&mut self) {
        for register in ALL {
            self.set(register, 0);
        }
        self.set(Register::Dr6, DR6_RESET);
    }

    /// The value. If it is not known, the VP is in hand on this processor.
    pub fn get(&self, register: Register) -> u64 {
        let Some(cell) = self.values.get(register as usize) else {
            return 0;
        };
        let bit = 1 << register as u8;
        if self.known.get() & bit == 0 {
            // SAFETY: only a run makes values unknown, so this is ring 0 of a processor that has the register.
            cell.set(unsafe { read(register) });
            self.known.set(self.known.get() | bit);
        }
        cell.get()
    }

    /// Sets a value. Bits that the register does not have are dropped, addresses are made canonical: the processor has to
    /// take it.
    pub fn set(&mut self, register: Register, value: u64) {
        let value = match register {
            Register::KernelGsBase | Register::Lstar | Register::Cstar => canonical(value),
            Register::Sfmask | Register::Dr6 => value & 0xFFFF_FFFF,
            Register::Cr2 | Register::Star => value,
        };
        if let Some(cell) = self.values.get(register as usize) {
            cell.set(value);
        }
        self.known.set(self.known.get() | 1 << register as u8);
        self.changed |= 1 << register as u8;
    }

    /// The VP comes to a processor that held another's.
    pub const fn arrive(&mut self) {
        self.changed = EVERY;
    }

    /// Before an entry: what changed goes to the processor.
    ///
    /// # Safety
    /// `held` is what this processor holds, in ring 0.
    #[inline(always)]
    pub unsafe fn enter(&mut self, held: &mut Held, counters: &mut Counters) {
        if self.changed != 0 {
            // SAFETY: as the caller says.
            unsafe { self.load(held, counters) };
        }
    }

    #[cold]
    unsafe fn load(&mut self, held: &mut Held, counters: &mut Counters) {
        for register in ALL {
            let index = register as usize;
            let (Some(cell), Some(slot)) = (self.values.get(index), held.0.get_mut(index)) else {
                continue;
            };
            let (bit, value) = (1 << index, cell.get());
            // What a guest changes without an exit may be anything by now.
            if self.changed & bit != 0 && (VOLATILE & bit != 0 || *slot != value) {
                *slot = value;
                // SAFETY: ring 0, as the caller says; `set` keeps values to what the register takes.
                unsafe { write(register, value, counters) };
            }
        }
        self.changed = 0;
    }

    /// After an exit: the guest may have changed some.
    #[inline(always)]
    pub fn exited(&self) {
        self.known.set(EVERY & !VOLATILE);
    }

    /// Every value is here.
    pub fn is_complete(&self) -> bool {
        self.known.get() == EVERY
    }

    /// The VP leaves the processor: its values come along.
    pub fn leave(&self) {
        for register in ALL {
            self.get(register);
        }
    }
}

/// The address that the processor makes of one: bits 63:48 as bit 47.
const fn canonical(address: u64) -> u64 {
    ((address << 16) as i64 >> 16) as u64
}

const fn msr(register: Register) -> u32 {
    match register {
        Register::KernelGsBase => 0xC000_0102,
        Register::Star => 0xC000_0081,
        Register::Lstar => 0xC000_0082,
        Register::Cstar => 0xC000_0083,
        Register::Cr2 | Register::Dr6 | Register::Sfmask => 0xC000_0084,
    }
}

unsafe fn read(register: Register) -> u64 {
    let value: u64;
    // SAFETY: ring 0, as the caller vouches; reading has no effect, DR7.GD being off in the host.
    unsafe {
        match register {
            Register::Cr2 => {
                core::arch::asm!("mov {}, cr2", out(reg) value, options(nomem, nostack))
            }
            Register::Dr6 => {
                core::arch::asm!("mov {}, dr6", out(reg) value, options(nomem, nostack))
            }
            _ => return rdmsr(msr(register)),
        }
    }
    value
}

unsafe fn write(register: Register, value: u64, counters: &mut Counters) {
    // SAFETY: ring 0, a value that the register takes, and nobody in the host uses it, as the caller vouches.
    unsafe {
        match register {
            Register::Cr2 => {
                core::arch::asm!("mov cr2, {}", in(reg) value, options(nomem, nostack))
            }
            Register::Dr6 => {
                core::arch::asm!("mov dr6, {}", in(reg) value, options(nomem, nostack))
            }
            _ => {
                counters.msr_writes += 1;
                wrmsr(msr(register), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_kept_that_the_processor_would_refuse() {
        let mut live = Live::new();
        live.set(Register::Lstar, 0x1234_8000_0000_0000);
        live.set(Register::KernelGsBase, 0x1234_7FFF_0000_0000);
        live.set(Register::Sfmask, u64::MAX);
        live.set(Register::Dr6, u64::MAX);
        assert_eq!(live.get(Register::Lstar), 0xFFFF_8000_0000_0000);
        assert_eq!(live.get(Register::KernelGsBase), 0x0000_7FFF_0000_0000);
        assert_eq!(live.get(Register::Sfmask), 0xFFFF_FFFF);
        assert_eq!(live.get(Register::Dr6), 0xFFFF_FFFF);
    }

    #[test]
    fn after_reset_dr6_reports_nothing() {
        assert_eq!(Live::new().get(Register::Dr6), DR6_RESET);
    }
}
