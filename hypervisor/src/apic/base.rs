//! The APIC base MSR, 0x1B, and the mode it selects.

use super::GeneralProtection;

const BSP: u64 = 1 << 8;
const EXTD: u64 = 1 << 10;
const EN: u64 = 1 << 11;
/// Bits 51:12, the architecture's widest physical address.
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
const DEFAULT_ADDRESS: u64 = 0xFEE0_0000;

/// IA32_APIC_BASE: bit 8 BSP (read-only here), bit 10 EXTD, bit 11 EN, 51:12 address of the xAPIC page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApicBase(u64);

/// How the APIC is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Disabled,
    XApic,
    X2Apic,
}

impl ApicBase {
    /// The recommended reset value: x2APIC mode from the start, so that the guest never looks for the page (guest
    /// sheet 8).
    pub const fn reset(bsp: bool) -> Self {
        Self(DEFAULT_ADDRESS | EN | EXTD | if bsp { BSP } else { 0 })
    }

    /// The MSR's value.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// This VP is the one that boots.
    pub const fn is_bsp(self) -> bool {
        self.0 & BSP != 0
    }

    /// EN is set: there is a local APIC.
    pub const fn is_enabled(self) -> bool {
        self.0 & EN != 0
    }

    /// EN and EXTD are set.
    pub const fn is_x2apic(self) -> bool {
        self.0 & (EN | EXTD) == EN | EXTD
    }

    pub(super) const fn mode(self) -> Mode {
        if self.is_x2apic() {
            Mode::X2Apic
        } else if self.is_enabled() {
            Mode::XApic
        } else {
            Mode::Disabled
        }
    }

    /// From a value that the parent sets: any legal state, without regard to transitions. `None` for reserved bits and
    /// for EXTD without EN.
    pub(super) const fn new(value: u64) -> Option<Self> {
        if value & !(ADDRESS | EN | EXTD | BSP) != 0 || value & (EN | EXTD) == EXTD {
            None
        } else {
            Some(Self(value))
        }
    }

    /// The MSR after a guest's write of `value`, or #GP for reserved bits and for the transitions that the architecture
    /// forbids: into EXTD without EN, from disabled straight to x2APIC, from x2APIC back to xAPIC. The BSP flag stays.
    pub(super) fn written(self, value: u64) -> Result<Self, GeneralProtection> {
        let Self(value) = Self::new(value).ok_or(GeneralProtection)?;
        let new = Self(value & !BSP | self.0 & BSP);
        match (self.mode(), new.mode()) {
            (Mode::Disabled, Mode::X2Apic) | (Mode::X2Apic, Mode::XApic) => Err(GeneralProtection),
            _ => Ok(new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X2APIC: u64 = DEFAULT_ADDRESS | EN | EXTD;
    const XAPIC: u64 = DEFAULT_ADDRESS | EN;
    const OFF: u64 = DEFAULT_ADDRESS;

    #[test]
    fn reset_values_are_those_of_the_guest_sheet() {
        assert_eq!(ApicBase::reset(true).value(), 0xFEE0_0D00);
        assert_eq!(ApicBase::reset(false).value(), 0xFEE0_0C00);
    }

    #[test]
    fn only_the_architectures_transitions_are_legal() {
        let legal = [
            (X2APIC, X2APIC),
            (X2APIC, OFF),
            (OFF, OFF),
            (OFF, XAPIC),
            (XAPIC, XAPIC),
            (XAPIC, X2APIC),
            (XAPIC, OFF),
        ];
        for from in [X2APIC, XAPIC, OFF] {
            for to in [X2APIC, XAPIC, OFF, DEFAULT_ADDRESS | EXTD] {
                let result = ApicBase(from).written(to);
                assert_eq!(
                    result.is_ok(),
                    legal.contains(&(from, to)),
                    "{from:x} {to:x}"
                );
            }
        }
    }

    #[test]
    fn reserved_bits_fault() {
        for bit in (0..8).chain([9]).chain(52..64) {
            assert!(
                ApicBase::reset(true).written(X2APIC | 1 << bit).is_err(),
                "{bit}"
            );
        }
    }

    #[test]
    fn the_bsp_flag_is_not_the_guests() {
        assert!(ApicBase::reset(true).written(X2APIC).unwrap().is_bsp());
        assert!(
            !ApicBase::reset(false)
                .written(X2APIC | BSP)
                .unwrap()
                .is_bsp()
        );
    }
}
