//! The APIC base MSR, 0x1B, and the mode it selects.

use super::GeneralProtection;
use crate::mem::addr::Gpfn;

const BSP: u64 = 1 << 8;
const EXTD: u64 = 1 << 10;
const EN: u64 = 1 << 11;
/// The only address that the page has: moving it, which the architecture allows, is a #GP.
const DEFAULT_ADDRESS: u64 = PAGE.address().0;

/// The guest's page with the registers of an APIC in xAPIC mode.
pub const PAGE: Gpfn = Gpfn(0xFEE00);

/// IA32_APIC_BASE: bit 8 BSP (read-only here), bit 10 EXTD, bit 11 EN, 51:12 address of the xAPIC page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApicBase(u64);

/// How the APIC is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Not at all.
    Disabled,
    /// By its page.
    XApic,
    /// By MSRs.
    X2Apic,
}

impl ApicBase {
    /// What a parent finds that does not choose: x2APIC mode from the start, so that the guest never looks for the page
    /// (guest sheet 8). The architecture's own reset value is this without EXTD.
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

    /// From a value that the parent sets: any legal state, without regard to transitions. `None` for reserved bits, for
    /// another address of the page, and for EXTD without EN.
    pub(super) const fn new(value: u64) -> Option<Self> {
        if value & !(EN | EXTD | BSP) == DEFAULT_ADDRESS && value & (EN | EXTD) != EXTD {
            Some(Self(value))
        } else {
            None
        }
    }

    /// The MSR after a guest's write of `value`, or #GP for reserved bits, another address, and the transitions that the
    /// architecture forbids: into EXTD without EN, from disabled straight to x2APIC, from x2APIC back to xAPIC. The BSP
    /// flag stays.
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
    fn the_page_stays_where_it_is() {
        for mode in [X2APIC, XAPIC, OFF] {
            for bit in 12..52 {
                let elsewhere = mode ^ 1 << bit;
                assert_eq!(ApicBase::new(elsewhere), None, "{bit}");
                assert!(ApicBase(XAPIC).written(elsewhere).is_err(), "{bit}");
            }
        }
    }

    #[test]
    fn the_architectures_reset_value_can_be_set() {
        for (value, bsp) in [(0xFEE0_0900, true), (0xFEE0_0800, false)] {
            let base = ApicBase::new(value).unwrap();
            assert_eq!((base.mode(), base.is_bsp()), (Mode::XApic, bsp));
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
