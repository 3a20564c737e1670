//! x87, SSE and extended state of VPs. The hypervisor is compiled without floating point, so what lies in these registers
//! is always some VP's, and changes only when [`FpuUnit::load`] is told to.

mod compact;
mod registers;
mod unit;

use super::cpuid::CpuidSource;
use super::page::HwPages;

pub use registers::X87;
pub use unit::FpuUnit;

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

/// Number of the highest component that is switched, PKRU, and one.
const COMPONENTS: usize = 10;

/// Where a component lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// In the standard format, from the start of the area.
    pub offset: u16,
    /// Bytes.
    pub size: u16,
    /// In the compacted format it begins at a multiple of 64.
    pub aligned: bool,
}

/// Which state exists on this machine and how it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FpuFormat {
    /// XCR0 bits that are switched; 0 on a processor with FXSAVE only.
    pub components: u64,
    /// Bytes of the standard-format area.
    pub size: usize,
    /// Places of the components from number 2 on, if they are switched.
    pub places: [Place; COMPONENTS],
}

impl FpuFormat {
    /// What CPUID says, cut down to what is switched and to what fits in a page.
    pub fn probe(cpu: &impl CpuidSource) -> Self {
        if cpu.cpuid_checked(1, 0).ecx & (1 << 26) == 0 {
            return Self {
                components: 0,
                size: HEADER_OFFSET,
                places: [Place::default(); COMPONENTS],
            };
        }
        let mut places = [Place::default(); COMPONENTS];
        let offered = cpu.cpuid_checked(0xD, 0);
        let offered = (u64::from(offered.edx) << 32 | u64::from(offered.eax)) & SWITCHED;
        let (mut components, mut size) = (offered & (X87 | SSE), HEADER_END);
        let numbered = places.iter_mut().enumerate().skip(2);
        for (component, to) in numbered.filter(|(i, _)| offered & 1 << i != 0) {
            let place = cpu.cpuid_checked(0xD, component as u32);
            let end = (place.ebx as usize).saturating_add(place.eax as usize);
            if place.eax != 0 && end <= 4096 {
                components |= 1 << component;
                size = size.max(end);
                *to = Place {
                    offset: place.ebx as u16,
                    size: place.eax as u16,
                    aligned: place.ecx & 1 << 1 != 0,
                };
            }
        }
        if components & AVX512 != AVX512 {
            components &= !AVX512;
        }
        Self {
            components,
            size,
            places,
        }
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

    /// How it is stored.
    pub const fn format(&self) -> &FpuFormat {
        &self.format
    }

    /// XMM0 to XMM15 of the stored state. `None` past 15.
    pub fn xmm(&self, number: usize) -> Option<u128> {
        if number > 15 {
            return None;
        }
        if !self.is_present(SSE) {
            return Some(0);
        }
        Some(u128::from_le_bytes(self.field(XMM_OFFSET + number * 16)))
    }

    /// Sets XMM0 to XMM15 of the stored state. False past 15.
    pub fn set_xmm(&mut self, number: usize, value: u128) -> bool {
        if number > 15 {
            return false;
        }
        if !self.is_present(SSE) {
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
        u64::from_le_bytes(self.field(HEADER_OFFSET))
    }

    /// Whether a component's bytes count, rather than its initial state.
    fn is_present(&self, component: u64) -> bool {
        self.format.components == 0 || self.xstate_bv() & component != 0
    }

    /// Bytes of the area; zeros past its end.
    fn field<const N: usize>(&self, offset: usize) -> [u8; N] {
        let raw = self.area.bytes().get(offset..offset.saturating_add(N));
        raw.and_then(|b| b.try_into().ok()).unwrap_or([0; N])
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.saturating_add(bytes.len());
        if let Some(target) = self.area.bytes_mut().get_mut(offset..end) {
            target.copy_from_slice(bytes);
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
        (0xD, 6, [512, 1152, 2, 0]),
        (0xD, 7, [1024, 1664, 2, 0]),
        (0xD, 9, [8, 2688, 0, 0]),
    ]);

    pub(super) fn fpu() -> Fpu {
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
