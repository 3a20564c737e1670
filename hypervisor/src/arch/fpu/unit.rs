//! The floating point unit of a processor: whose state is in it.

use super::{Fpu, FpuFormat};
use crate::arch::Counters;

/// The floating point unit of one processor.
#[derive(Debug)]
pub struct FpuUnit {
    format: FpuFormat,
    /// XCR0 as it is now.
    xcr0: u64,
    /// Stands for the registers in tests on the host, whose own are the test's.
    #[cfg(any(test, feature = "test-support"))]
    registers: Option<&'static mut [u8; 4096]>,
}

impl FpuUnit {
    /// Turns the unit on for the processor that this runs on: CR0.EM and TS off, MP on, CR4.OSFXSR, OSXMMEXCPT and, with
    /// XSAVE, OSXSAVE on, XCR0 everything that is switched.
    ///
    /// # Safety
    /// Ring 0; `format` must be this machine's; the value must stay on this processor.
    pub unsafe fn enable(format: FpuFormat) -> Self {
        // SAFETY: ring 0; the bits exist on every 64-bit processor, and OSXSAVE where CPUID told of XSAVE.
        unsafe {
            let (mut cr0, mut cr4): (u64, u64);
            core::arch::asm!("mov {}, cr0", "mov {}, cr4", out(reg) cr0, out(reg) cr4, options(nomem, nostack));
            cr0 = cr0 & !(1 << 2 | 1 << 3) | 1 << 1;
            cr4 |= 1 << 9 | 1 << 10;
            if format.components != 0 {
                cr4 |= 1 << 18;
            }
            core::arch::asm!("mov cr0, {}", "mov cr4, {}", in(reg) cr0, in(reg) cr4, options(nostack));
        }
        let mut unit = Self {
            format,
            xcr0: 0,
            #[cfg(any(test, feature = "test-support"))]
            registers: None,
        };
        // SAFETY: OSXSAVE is on if there are components, and they are what CPUID offers.
        unsafe { unit.write_xcr0(format.components, &mut Counters::default()) };
        unit
    }

    /// A unit for tests on the host: its registers are plain memory.
    #[cfg(any(test, feature = "test-support"))]
    pub const fn for_test(format: FpuFormat, registers: &'static mut [u8; 4096]) -> Self {
        Self {
            format,
            xcr0: format.components,
            registers: Some(registers),
        }
    }

    /// Stores the state of the VP whose state is in the processor. What the processor keeps is nobody's: [`load`](Self::load)
    /// is to follow.
    ///
    /// # Safety
    /// This processor's unit, ring 0; `from` must be the VP last given to `load`.
    pub unsafe fn unload(&mut self, from: &mut Fpu, counters: &mut Counters) {
        // SAFETY: the area is a page of ours in the unit's format (`Fpu`).
        unsafe {
            self.observe_xcr0(from);
            // A guest's XCR0 may hide components that hold its state all the same.
            self.write_xcr0(self.format.components, counters);
            self.save(from);
        }
        counters.xsaves += 1;
    }

    /// Loads the state of a VP. Whose was in the processor is lost, unless it was stored.
    ///
    /// # Safety
    /// This processor's unit, ring 0.
    pub unsafe fn load(&mut self, to: &Fpu, counters: &mut Counters) {
        // SAFETY: the area is a page of ours in the unit's format (`Fpu`), whose content XRSTOR accepts: made by `new`, by
        // XSAVE, or checked by `set_bytes`. XCR0 values are checked ones.
        unsafe {
            self.write_xcr0(self.format.components, counters);
            self.restore(to);
            counters.xrstors += 1;
            self.load_xcr0(to, counters);
        }
    }

    /// Stores the state of the VP whose state is in the processor, which keeps it.
    ///
    /// # Safety
    /// This processor's unit, ring 0; `current` must be the VP last given to `load`.
    pub unsafe fn store(&mut self, current: &mut Fpu, counters: &mut Counters) {
        // SAFETY: as in `unload`.
        unsafe {
            self.unload(current, counters);
            self.load_xcr0(current, counters);
        }
    }

    /// Makes a change of the current VP's XCR0 take effect.
    ///
    /// # Safety
    /// This processor's unit, ring 0; `current` must be the VP last given to `load`.
    pub unsafe fn load_xcr0(&mut self, current: &Fpu, counters: &mut Counters) {
        // SAFETY: `Fpu` holds only values that the format accepts.
        unsafe { self.write_xcr0(current.xcr0, counters) };
    }

    /// XSETBV should exit, but an emulator of SVM may execute it: QEMU 7.2 does. So XCR0 is looked at before another VP's
    /// comes. Components that are not switched stay switched off.
    unsafe fn observe_xcr0(&mut self, current: &mut Fpu) {
        if self.format.components == 0 {
            return;
        }
        #[cfg(any(test, feature = "test-support"))]
        if self.registers.is_some() {
            return;
        }
        let (low, high): (u32, u32);
        // SAFETY: OSXSAVE is on (`enable`).
        unsafe {
            core::arch::asm!(
                "xgetbv", in("ecx") 0, out("eax") low, out("edx") high,
                options(nomem, nostack, preserves_flags)
            );
        }
        let live = u64::from(high) << 32 | u64::from(low);
        if live != self.xcr0 {
            self.xcr0 = live;
            // XCR0 always has x87, and a refused combination cannot be in the register.
            let _ = current.set_xcr0(live & self.format.components);
        }
    }

    unsafe fn write_xcr0(&mut self, value: u64, counters: &mut Counters) {
        if self.format.components == 0 || self.xcr0 == value {
            return;
        }
        #[cfg(any(test, feature = "test-support"))]
        if self.registers.is_some() {
            self.xcr0 = value;
            return;
        }
        // SAFETY: OSXSAVE is on (`enable`), and the caller vouches for the value.
        unsafe {
            core::arch::asm!(
                "xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32,
                options(nomem, nostack, preserves_flags)
            );
        }
        self.xcr0 = value;
        counters.xcr_writes += 1;
    }

    unsafe fn save(&self, fpu: &mut Fpu) {
        #[cfg(any(test, feature = "test-support"))]
        if let Some(registers) = &self.registers {
            fpu.area.bytes_mut().copy_from_slice(&registers[..]);
            return;
        }
        let area = fpu.area.bytes_mut().as_mut_ptr();
        let mask = self.format.components;
        // SAFETY: a page, aligned, large enough for the components (`FpuFormat::probe`).
        unsafe {
            if mask == 0 {
                core::arch::asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags));
            } else {
                core::arch::asm!(
                    "xsave64 [{}]", in(reg) area, in("eax") mask as u32, in("edx") (mask >> 32) as u32,
                    options(nostack, preserves_flags)
                );
            }
        }
    }

    unsafe fn restore(&mut self, fpu: &Fpu) {
        #[cfg(any(test, feature = "test-support"))]
        if let Some(registers) = &mut self.registers {
            registers.copy_from_slice(fpu.area.bytes());
            return;
        }
        let area = fpu.area.bytes().as_ptr();
        let mask = self.format.components;
        // SAFETY: a page, aligned, with content that the instruction accepts (see `load`).
        unsafe {
            if mask == 0 {
                core::arch::asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags, readonly));
            } else {
                core::arch::asm!(
                    "xrstor64 [{}]", in(reg) area, in("eax") mask as u32, in("edx") (mask >> 32) as u32,
                    options(nostack, preserves_flags, readonly)
                );
            }
        }
    }

    /// XMM0 to XMM5 as they are in the processor: the input of a hypercall that passes it there.
    pub fn live_xmm(&self) -> [u128; 6] {
        let mut values = [0_u128; 6];
        #[cfg(any(test, feature = "test-support"))]
        if let Some(registers) = &self.registers {
            // Where FXSAVE puts them.
            for (value, bytes) in values.iter_mut().zip(registers[160..].as_chunks().0) {
                *value = u128::from_le_bytes(*bytes);
            }
            return values;
        }
        // SAFETY: the unit is on (`enable`); the array is writable for 96 bytes.
        unsafe {
            core::arch::asm!(
                "movups [{0}], xmm0", "movups [{0} + 16], xmm1", "movups [{0} + 32], xmm2",
                "movups [{0} + 48], xmm3", "movups [{0} + 64], xmm4", "movups [{0} + 80], xmm5",
                in(reg) values.as_mut_ptr(), options(nostack, preserves_flags)
            );
        }
        values
    }
}
