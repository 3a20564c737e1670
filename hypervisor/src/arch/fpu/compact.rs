//! The compacted XSAVE format, in which state is saved and moved (root sheet A.3.5): components without gaps.
//!
//! Source: Intel SDM volume 1, 13.4.3 and 13.8; AMD APM volume 2, 11.5.

use super::{
    Fpu, FpuFormat, HEADER_END, HEADER_OFFSET, InvalidFpuState, MXCSR_MASK_OFFSET, MXCSR_OFFSET,
    MXCSR_RESET, Place, SSE, X87,
};

/// XCOMP_BV: the area is compacted.
const COMPACTED: u64 = 1 << 63;
/// Offset of XCOMP_BV.
const XCOMP_OFFSET: usize = HEADER_OFFSET + 8;
/// The x87 part: control and status, then the registers.
const X87_RANGES: [core::ops::Range<usize>; 2] = [0..24, 32..160];
/// The SSE part without MXCSR.
const XMM_RANGE: core::ops::Range<usize> = 160..416;
/// MXCSR and its mask.
const MXCSR_RANGE: core::ops::Range<usize> = MXCSR_OFFSET..MXCSR_OFFSET + 8;

impl FpuFormat {
    /// The components from number 2 on that are in `mask`, with their offsets in a compacted area of all of these.
    fn compacted(&self, mask: u64) -> impl Iterator<Item = (u64, Place, usize)> + '_ {
        let mut end = HEADER_END;
        let numbered = self.places.iter().enumerate().skip(2);
        numbered
            .filter(move |(number, _)| mask & 1 << number != 0)
            .map(move |(number, &place)| {
                let start = if place.aligned {
                    end.next_multiple_of(64)
                } else {
                    end
                };
                end = start + usize::from(place.size);
                (1 << number, place, start)
            })
    }

    /// Bytes of a compacted area of these components. Without XSAVE, of the legacy area.
    pub fn compacted_size(&self, mask: u64) -> usize {
        if self.components == 0 {
            return HEADER_OFFSET;
        }
        self.compacted(mask & self.components)
            .last()
            .map_or(HEADER_END, |(_, place, start)| {
                start + usize::from(place.size)
            })
    }
}

impl Fpu {
    /// Writes x87, SSE and those of the machine's components that are in `mask` in the compacted format. Returns its size;
    /// `None`, with nothing written, if `out` is shorter. A machine without XSAVE gives its legacy area.
    pub fn save_compacted(&self, mask: u64, out: &mut [u8]) -> Option<usize> {
        let mask = (mask | X87 | SSE) & self.format.components;
        let size = self.format.compacted_size(mask);
        let out = out.get_mut(..size)?;
        if self.format.components == 0 {
            out.copy_from_slice(self.bytes());
            return Some(size);
        }
        let mut present = self.xstate_bv() & mask;
        // MXCSR is part of SSE in this format.
        if !self.mxcsr_is_initial() {
            present |= SSE;
        }
        out.fill(0);
        let area = self.area.bytes();
        if self.xstate_bv() & X87 != 0 {
            for range in X87_RANGES {
                copy(out, range.start, area, range);
            }
        }
        if self.xstate_bv() & SSE != 0 {
            copy(out, XMM_RANGE.start, area, XMM_RANGE);
        }
        copy(out, MXCSR_RANGE.start, area, MXCSR_RANGE);
        copy(out, HEADER_OFFSET, &present.to_le_bytes(), 0..8);
        copy(out, XCOMP_OFFSET, &(COMPACTED | mask).to_le_bytes(), 0..8);
        for (bit, place, start) in self.format.compacted(mask) {
            if present & bit != 0 {
                let from = usize::from(place.offset);
                copy(out, start, area, from..from + usize::from(place.size));
            }
        }
        Some(size)
    }

    /// Replaces the state by one in the compacted format, or in the standard one if its header says so. What the
    /// components of the area leave out becomes initial.
    ///
    /// # Errors
    /// If it holds anything on which XRSTOR would fault, or is too short; nothing is changed then.
    pub fn load_compacted(&mut self, bytes: &[u8]) -> Result<(), InvalidFpuState> {
        let components = self.format.components;
        if components == 0 {
            return self.set_bytes(bytes.get(..HEADER_OFFSET).ok_or(InvalidFpuState)?);
        }
        let layout = word(bytes, XCOMP_OFFSET)?;
        if layout & COMPACTED == 0 {
            let length = bytes.len().min(self.format.size);
            return self.set_bytes(bytes.get(..length).unwrap_or(bytes));
        }
        let (mask, present) = (layout & !COMPACTED, word(bytes, HEADER_OFFSET)?);
        let reserved = bytes.get(XCOMP_OFFSET + 8..HEADER_END);
        let zero = reserved.is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0));
        let long_enough = bytes.len() >= self.format.compacted_size(mask);
        if mask & !components != 0 || present & !mask != 0 || !zero || !long_enough {
            return Err(InvalidFpuState);
        }
        let mxcsr = if present & SSE != 0 {
            word(bytes, MXCSR_OFFSET)? as u32
        } else {
            MXCSR_RESET
        };
        if mxcsr & !self.mxcsr_mask() != 0 {
            return Err(InvalidFpuState);
        }
        self.load_checked(bytes, mask, present, mxcsr);
        Ok(())
    }

    fn load_checked(&mut self, bytes: &[u8], mask: u64, present: u64, mxcsr: u32) {
        let mask_bytes: [u8; 4] = self.field(MXCSR_MASK_OFFSET);
        let xcr0 = self.xcr0;
        self.reset();
        self.xcr0 = xcr0;
        self.put(MXCSR_OFFSET, &mxcsr.to_le_bytes());
        self.put(MXCSR_MASK_OFFSET, &mask_bytes);
        self.put(HEADER_OFFSET, &present.to_le_bytes());
        let part = |range: core::ops::Range<usize>| bytes.get(range).unwrap_or(&[]);
        if present & X87 != 0 {
            for range in X87_RANGES {
                self.put(range.start, part(range));
            }
        }
        if present & SSE != 0 {
            self.put(XMM_RANGE.start, part(XMM_RANGE));
        }
        let format = self.format;
        for (bit, place, start) in format.compacted(mask) {
            if present & bit != 0 {
                let end = start + usize::from(place.size);
                self.put(usize::from(place.offset), part(start..end));
            }
        }
    }
}

fn word(bytes: &[u8], offset: usize) -> Result<u64, InvalidFpuState> {
    let raw = bytes.get(offset..offset + 8).ok_or(InvalidFpuState)?;
    raw.try_into()
        .map(u64::from_le_bytes)
        .map_err(|_| InvalidFpuState)
}

/// Copies `from[range]` to `to` from `start` on, if both have it.
fn copy(to: &mut [u8], start: usize, from: &[u8], range: core::ops::Range<usize>) {
    let target = to.get_mut(start..start + range.len());
    if let (Some(target), Some(source)) = (target, from.get(range)) {
        target.copy_from_slice(source);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fpu;
    use super::super::{AVX, AVX512, PKRU};
    use super::*;
    use proptest::prelude::*;

    const ALL: u64 = X87 | SSE | AVX | AVX512 | PKRU;

    #[test]
    fn components_lie_without_gaps_but_for_alignment() {
        let fpu = fpu();
        let format = fpu.format();
        assert_eq!(format.compacted_size(X87 | SSE), 576);
        assert_eq!(format.compacted_size(ALL), 576 + 256 + 64 + 512 + 1024 + 8);
        let places: Vec<_> = format.compacted(AVX | PKRU).collect();
        assert_eq!(places.len(), 2);
        assert_eq!((places[0].2, places[1].2), (576, 832));
        // ZMM_Hi256 begins at a multiple of 64.
        let starts: Vec<_> = format
            .compacted(ALL & !AVX)
            .map(|(_, _, start)| start)
            .collect();
        assert_eq!(starts, [576, 640, 1152, 2176]);
    }

    #[test]
    fn mxcsr_alone_makes_sse_present() {
        let mut fpu = fpu();
        let mut area = [0; 4096];
        fpu.save_compacted(0, &mut area).unwrap();
        assert_eq!(area[HEADER_OFFSET], 1);
        assert!(fpu.set_mxcsr(0x1F00));
        fpu.save_compacted(0, &mut area).unwrap();
        assert_eq!(area[HEADER_OFFSET], 3);
        fpu.reset();
        fpu.load_compacted(&area).unwrap();
        assert_eq!(fpu.mxcsr(), 0x1F00);
    }

    #[test]
    fn a_short_buffer_gets_nothing_and_a_short_area_changes_nothing() {
        let mut fpu = fpu();
        assert!(fpu.set_xmm(1, 5));
        let mut area = vec![0; 4096];
        let size = fpu.save_compacted(ALL, &mut area).unwrap();
        assert_eq!(fpu.save_compacted(ALL, &mut area[..size - 1]), None);
        let before = fpu.bytes().to_vec();
        for length in [0, 8, 511, 575, size - 1] {
            assert_eq!(fpu.load_compacted(&area[..length]), Err(InvalidFpuState));
        }
        assert_eq!(fpu.bytes(), before);
        assert_eq!(fpu.load_compacted(&area[..size]), Ok(()));
    }

    #[test]
    fn a_header_that_xrstor_refuses_is_refused() {
        let mut fpu = fpu();
        let mut good = vec![0; 4096];
        fpu.save_compacted(ALL, &mut good).unwrap();
        for (offset, value, what) in [
            (HEADER_OFFSET + 1, 1u8, "present, but not in the layout"),
            (XCOMP_OFFSET + 1, 0xFF, "a layout with unknown components"),
            (XCOMP_OFFSET + 8, 1, "reserved"),
        ] {
            let mut bad = good.clone();
            bad[offset] |= value;
            assert_eq!(fpu.load_compacted(&bad), Err(InvalidFpuState), "{what}");
        }
        good[HEADER_OFFSET] |= SSE as u8;
        good[MXCSR_OFFSET + 3] = 1;
        assert_eq!(fpu.load_compacted(&good), Err(InvalidFpuState), "MXCSR");
    }

    proptest! {
        #[test]
        fn a_state_survives_the_compacted_format(
            bytes in proptest::collection::vec(any::<u8>(), 2696),
            present in 0u64..ALL + 1,
        ) {
            let mut fpu = fpu();
            let mut image = bytes;
            image[MXCSR_RANGE].copy_from_slice(&[0x80, 0x1F, 0, 0, 0, 0, 0, 0]);
            image[HEADER_OFFSET..HEADER_OFFSET + 8].copy_from_slice(&(present & ALL).to_le_bytes());
            image[XCOMP_OFFSET..HEADER_END].fill(0);
            fpu.set_bytes(&image).unwrap();
            let mut area = vec![0; 4096];
            let size = fpu.save_compacted(ALL, &mut area).unwrap();
            let (x87, xmm, pkru) = (fpu.x87(), fpu.xmm(7), fpu.pkru());
            fpu.reset();
            fpu.load_compacted(&area[..size]).unwrap();
            prop_assert_eq!((fpu.x87(), fpu.xmm(7), fpu.pkru()), (x87, xmm, pkru));
            let mut again = vec![0; 4096];
            prop_assert_eq!(fpu.save_compacted(ALL, &mut again), Some(size));
            prop_assert_eq!(area, again);
        }

        #[test]
        fn no_area_panics(bytes in proptest::collection::vec(any::<u8>(), 0..4096), layout in 0u64..ALL + 1) {
            let mut fpu = fpu();
            let _ = fpu.load_compacted(&bytes);
            if bytes.len() >= HEADER_END {
                let mut bytes = bytes;
                bytes[HEADER_OFFSET..HEADER_END].fill(0);
                bytes[XCOMP_OFFSET..XCOMP_OFFSET + 8].copy_from_slice(&(COMPACTED | layout).to_le_bytes());
                let _ = fpu.load_compacted(&bytes);
            }
        }
    }
}
