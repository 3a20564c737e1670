//! x87, SSE and extended state of VPs. The hypervisor is compiled without floating point, so what lies in these registers
//! is always some VP's, and changes only when [`FpuUnit::switch`] is told to.

use super::Counters;
use super::cpuid::CpuidSource;
use super::page::HwPages;

/// XCR0: x87.
const X87: u64 = 1 << 0;
/// XCR0: SSE.
const SSE: u64 = 1 << 1;
/// XCR0: AVX.
const AVX: u64 = 1 << 2;
/// XCR0: the three parts of AVX-512.
const AVX512: u64 = 7 << 5;
/// XCR0: protection keys.
const PKRU: u64 = 1 << 9;
/// What the hypervisor switches. Everything else is hidden from guests.
const SWITCHED: u64 = X87 | SSE | AVX | AVX512 | PKRU;

/// Offset of MXCSR in the area.
const MXCSR_OFFSET: usize = 24;
/// Offset of MXCSR_MASK.
const MXCSR_MASK_OFFSET: usize = 28;
/// Offset of XMM0.
const XMM_OFFSET: usize = 160;
/// Offset of the XSAVE header: XSTATE_BV, XCOMP_BV, reserved.
const HEADER_OFFSET: usize = 512;
/// Bytes of the legacy part and the header.
const HEADER_END: usize = 576;
/// MXCSR after reset.
const MXCSR_RESET: u32 = 0x1F80;
/// MXCSR bits where MXCSR_MASK is 0.
const MXCSR_MASK_DEFAULT: u32 = 0xFFBF;

/// Which state exists on this machine and how it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FpuFormat {
    /// XCR0 bits that are switched; 0 on a processor with FXSAVE only.
    pub components: u64,
    /// Bytes of the standard-format area.
    pub size: usize,
}

impl FpuFormat {
    /// What CPUID says, cut down to what is switched and to what fits in a page.
    pub fn probe(cpu: &impl CpuidSource) -> Self {
        if cpu.cpuid_checked(1, 0).ecx & (1 << 26) == 0 {
            return Self {
                components: 0,
                size: HEADER_OFFSET,
            };
        }
        let offered = cpu.cpuid_checked(0xD, 0);
        let offered = (u64::from(offered.edx) << 32 | u64::from(offered.eax)) & SWITCHED;
        let (mut components, mut size) = (offered & (X87 | SSE), HEADER_END);
        for component in (2..63).filter(|i| offered & 1 << i != 0) {
            let place = cpu.cpuid_checked(0xD, component);
            let end = (place.ebx as usize).saturating_add(place.eax as usize);
            if place.eax != 0 && end <= 4096 {
                components |= 1 << component;
                size = size.max(end);
            }
        }
        if components & AVX512 != AVX512 {
            components &= !AVX512;
        }
        Self { components, size }
    }

    /// Whether a guest may put `value` into XCR0.
    pub const fn accepts_xcr0(&self, value: u64) -> bool {
        let avx512 = value & AVX512;
        value & !self.components == 0
            && value & X87 != 0
            && (value & AVX == 0 || value & SSE != 0)
            && (avx512 == 0 || (avx512 == AVX512 && value & AVX != 0))
    }
}

/// The state of one VP while it is not in the processor.
#[derive(Debug)]
pub struct Fpu {
    area: HwPages,
    xcr0: u64,
    format: FpuFormat,
}

/// Why a state from outside is refused: XRSTOR would fault on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidFpuState;

impl Fpu {
    /// The state after reset, in one page.
    pub fn new(page: HwPages, format: FpuFormat) -> Self {
        let mut fpu = Self {
            area: page,
            xcr0: X87,
            format,
        };
        fpu.reset();
        fpu
    }

    /// The state after reset.
    pub fn reset(&mut self) {
        self.xcr0 = X87;
        self.area.bytes_mut().fill(0);
        self.put(0, &0x37F_u16.to_le_bytes());
        self.put(MXCSR_OFFSET, &MXCSR_RESET.to_le_bytes());
        self.put(HEADER_OFFSET, &(self.format.components & X87).to_le_bytes());
    }

    /// Ends it and returns its page. Its state must not be the one in a processor.
    pub fn into_page(self) -> HwPages {
        self.area
    }

    /// XCR0.
    pub const fn xcr0(&self) -> u64 {
        self.xcr0
    }

    /// Sets XCR0. False, with nothing changed, for a value that the guest cannot have. If the VP's state is in the
    /// processor, [`FpuUnit::load_xcr0`] must follow.
    #[must_use = "an invalid value is the guest's #GP"]
    pub fn set_xcr0(&mut self, value: u64) -> bool {
        let valid = self.format.accepts_xcr0(value);
        if valid {
            self.xcr0 = value;
        }
        valid
    }

    /// The area in standard XSAVE format.
    pub fn bytes(&self) -> &[u8] {
        self.area.bytes().get(..self.format.size).unwrap_or(&[])
    }

    /// Replaces the area by one in standard XSAVE format, shorter than the machine's where its components allow.
    ///
    /// # Errors
    /// If it holds anything on which XRSTOR would fault; nothing is changed then.
    pub fn set_bytes(&mut self, bytes: &[u8]) -> Result<(), InvalidFpuState> {
        let field = |offset: usize| -> Option<u64> {
            let raw = bytes.get(offset..offset.checked_add(8)?)?;
            Some(u64::from_le_bytes(raw.try_into().ok()?))
        };
        if bytes.len() > self.format.size {
            return Err(InvalidFpuState);
        }
        let mxcsr = field(MXCSR_OFFSET).ok_or(InvalidFpuState)? as u32;
        if mxcsr & !self.mxcsr_mask() != 0 {
            return Err(InvalidFpuState);
        }
        if self.format.components != 0 {
            let xstate_bv = field(HEADER_OFFSET).ok_or(InvalidFpuState)?;
            let reserved = bytes
                .get(HEADER_OFFSET + 8..HEADER_END)
                .ok_or(InvalidFpuState)?;
            if xstate_bv & !self.format.components != 0 || reserved.iter().any(|&b| b != 0) {
                return Err(InvalidFpuState);
            }
        } else if bytes.len() < HEADER_OFFSET {
            return Err(InvalidFpuState);
        }
        self.area.bytes_mut().fill(0);
        self.put(0, bytes);
        Ok(())
    }

    /// XMM0 to XMM15 of the stored state. `None` past 15.
    pub fn xmm(&self, number: usize) -> Option<u128> {
        if number > 15 {
            return None;
        }
        if self.format.components != 0 && self.xstate_bv() & SSE == 0 {
            return Some(0);
        }
        let start = XMM_OFFSET + number * 16;
        let raw = self.area.bytes().get(start..start + 16)?;
        Some(u128::from_le_bytes(raw.try_into().ok()?))
    }

    /// Sets XMM0 to XMM15 of the stored state. False past 15.
    pub fn set_xmm(&mut self, number: usize, value: u128) -> bool {
        if number > 15 {
            return false;
        }
        if self.format.components != 0 && self.xstate_bv() & SSE == 0 {
            // The other registers were in their initial state, whatever the bytes say.
            self.area
                .bytes_mut()
                .get_mut(XMM_OFFSET..XMM_OFFSET + 256)
                .unwrap_or(&mut [])
                .fill(0);
            let present = self.xstate_bv() | SSE;
            self.put(HEADER_OFFSET, &present.to_le_bytes());
        }
        self.put(XMM_OFFSET + number * 16, &value.to_le_bytes());
        true
    }

    fn xstate_bv(&self) -> u64 {
        let raw = self.area.bytes().get(HEADER_OFFSET..HEADER_OFFSET + 8);
        raw.and_then(|b| b.try_into().ok())
            .map_or(0, u64::from_le_bytes)
    }

    fn mxcsr_mask(&self) -> u32 {
        let raw = self
            .area
            .bytes()
            .get(MXCSR_MASK_OFFSET..MXCSR_MASK_OFFSET + 4);
        match raw
            .and_then(|b| b.try_into().ok())
            .map_or(0, u32::from_le_bytes)
        {
            0 => MXCSR_MASK_DEFAULT,
            mask => mask,
        }
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.saturating_add(bytes.len());
        if let Some(target) = self.area.bytes_mut().get_mut(offset..end) {
            target.copy_from_slice(bytes);
        }
    }
}

/// The floating point unit of one processor.
#[derive(Debug)]
pub struct FpuUnit {
    format: FpuFormat,
    /// XCR0 as it is now.
    xcr0: u64,
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
        let mut unit = Self { format, xcr0: 0 };
        // SAFETY: OSXSAVE is on if there are components, and they are what CPUID offers.
        unsafe { unit.write_xcr0(format.components, &mut Counters::default()) };
        unit
    }

    /// Stores the state of the VP whose state is in the processor, if one's is, and loads the other's.
    ///
    /// # Safety
    /// This processor's unit, ring 0; `from`, if any, must be the VP last given as `to`.
    pub unsafe fn switch(&mut self, from: Option<&mut Fpu>, to: &Fpu, counters: &mut Counters) {
        let mask = self.format.components;
        // SAFETY: the areas are pages of ours in the unit's format (`Fpu`), whose content XRSTOR accepts: made by `reset`,
        // by XSAVE, or checked by `set_bytes`. XCR0 values are checked ones.
        unsafe {
            // A guest's XCR0 may hide components that hold its state all the same.
            self.write_xcr0(mask, counters);
            if let Some(from) = from {
                self.save(from);
                counters.xsaves += 1;
            }
            self.restore(to);
            counters.xrstors += 1;
            self.load_xcr0(to, counters);
        }
    }

    /// Stores the state of the VP whose state is in the processor, which keeps it.
    ///
    /// # Safety
    /// This processor's unit, ring 0; `current` must be the VP last given as `to`.
    pub unsafe fn store(&mut self, current: &mut Fpu, counters: &mut Counters) {
        // SAFETY: as in `switch`.
        unsafe {
            self.write_xcr0(self.format.components, counters);
            self.save(current);
            counters.xsaves += 1;
            self.load_xcr0(current, counters);
        }
    }

    /// Makes a change of the current VP's XCR0 take effect.
    ///
    /// # Safety
    /// This processor's unit, ring 0; `current` must be the VP last given as `to`.
    pub unsafe fn load_xcr0(&mut self, current: &Fpu, counters: &mut Counters) {
        // SAFETY: `Fpu` holds only values that the format accepts.
        unsafe { self.write_xcr0(current.xcr0, counters) };
    }

    unsafe fn write_xcr0(&mut self, value: u64, counters: &mut Counters) {
        if self.format.components == 0 || self.xcr0 == value {
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

    unsafe fn restore(&self, fpu: &Fpu) {
        let area = fpu.area.bytes().as_ptr();
        let mask = self.format.components;
        // SAFETY: a page, aligned, with content that the instruction accepts (see `switch`).
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

    /// Sets XMM0 to XMM5 in the processor: the output of such a hypercall.
    ///
    /// # Safety
    /// The state in the processor must be the VP's that is meant.
    pub unsafe fn set_live_xmm(&mut self, values: &[u128; 6]) {
        // SAFETY: the unit is on; the registers hold no state of the hypervisor's (the caller, and the module's head).
        unsafe {
            core::arch::asm!(
                "movups xmm0, [{0}]", "movups xmm1, [{0} + 16]", "movups xmm2, [{0} + 32]",
                "movups xmm3, [{0} + 48]", "movups xmm4, [{0} + 64]", "movups xmm5, [{0} + 80]",
                in(reg) values.as_ptr(), options(nostack, preserves_flags, readonly)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::cpuid::Recorded;

    /// A processor with everything up to AVX-512 and PKRU, and MPX besides.
    const WIDE: Recorded = Recorded(&[
        (0, 0, [0x16, 0, 0, 0]),
        (1, 0, [0, 0, 1 << 26, 0]),
        (0xD, 0, [0x2FF, 0, 0, 0]),
        (0xD, 2, [256, 576, 0, 0]),
        (0xD, 3, [64, 960, 0, 0]),
        (0xD, 4, [64, 1024, 0, 0]),
        (0xD, 5, [64, 1088, 0, 0]),
        (0xD, 6, [512, 1152, 0, 0]),
        (0xD, 7, [1024, 1664, 0, 0]),
        (0xD, 9, [8, 2688, 0, 0]),
    ]);

    fn fpu() -> Fpu {
        Fpu::new(HwPages::for_test(0x1000, 1), FpuFormat::probe(&WIDE))
    }

    #[test]
    fn all_switched_components_fit_in_a_page() {
        let format = FpuFormat::probe(&WIDE);
        assert_eq!(format.components, 0x2E7);
        assert_eq!(format.size, 2696);
    }

    #[test]
    fn a_processor_without_xsave_uses_the_legacy_area() {
        let old = Recorded(&[(0, 0, [1, 0, 0, 0]), (1, 0, [0; 4])]);
        let format = FpuFormat::probe(&old);
        assert_eq!((format.components, format.size), (0, 512));
        assert!(!format.accepts_xcr0(1));
    }

    #[test]
    fn xcr0_takes_the_combinations_that_the_instruction_takes() {
        let mut fpu = fpu();
        for good in [1, 3, 7, 0xE7, 0x207, 0x2E7] {
            assert!(fpu.set_xcr0(good), "{good:#x}");
            assert_eq!(fpu.xcr0(), good);
        }
        for bad in [0, 2, 5, 0x27, 0xE3, 0x1F, 1 << 63 | 1] {
            assert!(!fpu.set_xcr0(bad), "{bad:#x}");
        }
        assert_eq!(fpu.xcr0(), 0x2E7, "a refused value changes nothing");
    }

    #[test]
    fn a_state_that_xrstor_refuses_is_refused() {
        let mut fpu = fpu();
        let good = fpu.bytes().to_vec();
        assert_eq!(fpu.set_bytes(&good), Ok(()));
        for (offset, what) in [
            (513, "unknown component"),
            (527, "compact format"),
            (530, "reserved"),
            (27, "MXCSR"),
        ] {
            let mut bad = good.clone();
            bad[offset] = 0xFF;
            assert_eq!(fpu.set_bytes(&bad), Err(InvalidFpuState), "{what}");
        }
        assert_eq!(fpu.set_bytes(&good[..575]), Err(InvalidFpuState));
        assert_eq!(fpu.bytes(), good);
    }

    #[test]
    fn setting_one_xmm_register_leaves_the_others_initial() {
        let mut fpu = fpu();
        assert_eq!(fpu.xmm(3), Some(0));
        assert!(fpu.set_xmm(3, 0x1234));
        assert_eq!(
            (fpu.xmm(3), fpu.xmm(4), fpu.xmm(16)),
            (Some(0x1234), Some(0), None)
        );
        assert_eq!(fpu.bytes()[512] & 2, 2);
    }
}
