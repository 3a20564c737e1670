//! Single registers of a stored state: x87, MXCSR, PKRU.

use super::{
    Fpu, HEADER_OFFSET, MXCSR_MASK_DEFAULT, MXCSR_MASK_OFFSET, MXCSR_OFFSET, MXCSR_RESET, PKRU,
    X87 as X87_BIT,
};

/// Offset of ST0; the others follow, 16 bytes each.
const ST_OFFSET: usize = 32;
/// Number of PKRU's component.
const PKRU_COMPONENT: usize = 9;
/// Bits of an x87 register.
const ST_BITS: u32 = 80;

/// Control and status of the x87 unit, as FXSAVE64 stores them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct X87 {
    /// FCW.
    pub control: u16,
    /// FSW.
    pub status: u16,
    /// Abridged tag word.
    pub tag: u8,
    /// Last opcode.
    pub opcode: u16,
    /// Last instruction pointer.
    pub rip: u64,
    /// Last data pointer.
    pub rdp: u64,
}

impl X87 {
    /// After FNINIT.
    pub const INITIAL: Self = Self {
        control: 0x37F,
        status: 0,
        tag: 0,
        opcode: 0,
        rip: 0,
        rdp: 0,
    };
}

impl Fpu {
    /// Control and status.
    pub fn x87(&self) -> X87 {
        if !self.is_present(X87_BIT) {
            return X87::INITIAL;
        }
        X87 {
            control: u16::from_le_bytes(self.field(0)),
            status: u16::from_le_bytes(self.field(2)),
            tag: self.field::<1>(4)[0],
            opcode: u16::from_le_bytes(self.field(6)),
            rip: u64::from_le_bytes(self.field(8)),
            rdp: u64::from_le_bytes(self.field(16)),
        }
    }

    /// Sets control and status.
    pub fn set_x87(&mut self, value: &X87) {
        self.make_x87_present();
        self.put_x87(value);
    }

    fn put_x87(&mut self, value: &X87) {
        self.put(0, &value.control.to_le_bytes());
        self.put(2, &value.status.to_le_bytes());
        self.put(4, &[value.tag, 0]);
        self.put(6, &value.opcode.to_le_bytes());
        self.put(8, &value.rip.to_le_bytes());
        self.put(16, &value.rdp.to_le_bytes());
    }

    /// ST0 to ST7, or their low parts MM0 to MM7 as the registers lie in the area. `None` past 7.
    pub fn st(&self, number: usize) -> Option<u128> {
        if number > 7 {
            return None;
        }
        if !self.is_present(X87_BIT) {
            return Some(0);
        }
        let raw = u128::from_le_bytes(self.field(ST_OFFSET + 16 * number));
        Some(raw & ((1 << ST_BITS) - 1))
    }

    /// Sets one of them, 80 bits. False, with nothing changed, past 7 and for more bits.
    pub fn set_st(&mut self, number: usize, value: u128) -> bool {
        if number > 7 || value >> ST_BITS != 0 {
            return false;
        }
        self.make_x87_present();
        self.put(ST_OFFSET + 16 * number, &value.to_le_bytes());
        true
    }

    /// If the unit was in its initial state, whatever the bytes say, makes them say it.
    fn make_x87_present(&mut self) {
        if self.is_present(X87_BIT) {
            return;
        }
        self.put_x87(&X87::INITIAL);
        for number in 0..8 {
            self.put(ST_OFFSET + 16 * number, &[0; 16]);
        }
        let present = self.xstate_bv() | X87_BIT;
        self.put(HEADER_OFFSET, &present.to_le_bytes());
    }

    /// MXCSR.
    pub fn mxcsr(&self) -> u32 {
        // XSAVE and XRSTOR of the standard format move it whatever the header says.
        u32::from_le_bytes(self.field(MXCSR_OFFSET))
    }

    /// Sets MXCSR. False, with nothing changed, for bits that it does not have.
    #[must_use = "a refused value is not there"]
    pub fn set_mxcsr(&mut self, value: u32) -> bool {
        let valid = value & !self.mxcsr_mask() == 0;
        if valid {
            self.put(MXCSR_OFFSET, &value.to_le_bytes());
        }
        valid
    }

    /// The bits that MXCSR has.
    pub fn mxcsr_mask(&self) -> u32 {
        match u32::from_le_bytes(self.field(MXCSR_MASK_OFFSET)) {
            0 => MXCSR_MASK_DEFAULT,
            mask => mask,
        }
    }

    /// PKRU; 0 where there is none, and in the initial state.
    pub fn pkru(&self) -> u32 {
        if self.format.components & self.xstate_bv() & PKRU == 0 {
            return 0;
        }
        let place = self.format.places[PKRU_COMPONENT];
        u32::from_le_bytes(self.field(usize::from(place.offset)))
    }

    /// MXCSR after reset, and whether it is that.
    pub(super) fn mxcsr_is_initial(&self) -> bool {
        self.mxcsr() == MXCSR_RESET
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fpu;
    use super::*;

    #[test]
    fn the_initial_state_is_what_fninit_makes_even_if_the_bytes_say_otherwise() {
        let mut fpu = fpu();
        let mut bytes = fpu.bytes().to_vec();
        bytes[..160].fill(0x55);
        bytes[24..32].fill(0);
        bytes[512] = 0;
        fpu.set_bytes(&bytes).unwrap();
        assert_eq!((fpu.x87(), fpu.st(0)), (X87::INITIAL, Some(0)));
        assert!(fpu.set_st(3, 0x3FFF << 64 | 1 << 63));
        assert_eq!((fpu.x87(), fpu.st(0)), (X87::INITIAL, Some(0)));
        assert_eq!(fpu.st(3), Some(0x3FFF << 64 | 1 << 63));
    }

    #[test]
    fn control_and_status_come_back() {
        let mut fpu = fpu();
        let value = X87 {
            control: 0x27F,
            status: 0x3800,
            tag: 0xFF,
            opcode: 0x123,
            rip: 0x1234_5678_9ABC,
            rdp: 7,
        };
        fpu.set_x87(&value);
        assert_eq!(fpu.x87(), value);
        assert!(!fpu.set_st(8, 0) && !fpu.set_st(0, 1 << 80));
    }

    #[test]
    fn mxcsr_refuses_bits_that_it_does_not_have() {
        let mut fpu = fpu();
        assert!(fpu.set_mxcsr(0x9F80));
        assert!(!fpu.set_mxcsr(0x1_0000));
        assert_eq!((fpu.mxcsr(), fpu.mxcsr_mask()), (0x9F80, 0xFFBF));
    }
}
