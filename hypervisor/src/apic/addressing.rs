//! Which messages are for an APIC: by its id and mode, and in xAPIC mode by the logical id that its guest has given it.

use core::sync::atomic::{AtomicU32, Ordering};

use super::base::Mode;
use super::icr::Destination;

/// The xAPIC's logical destination and destination format registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Logical {
    /// LDR 31:24.
    id: u8,
    /// DFR 31:28: [`FLAT`] or [`CLUSTER`]; others mean nothing.
    model: u8,
}

const FLAT: u8 = 0xF;
const CLUSTER: u8 = 0;
/// Bits of the DFR that read as ones.
const FORMAT_ONES: u32 = 0x0FFF_FFFF;

impl Logical {
    /// After reset and INIT.
    pub(super) const RESET: Self = Self { id: 0, model: FLAT };

    /// LDR.
    pub(super) const fn register(self) -> u32 {
        (self.id as u32) << 24
    }

    /// With another LDR; bits that it does not have are dropped.
    pub(super) const fn with_register(self, value: u32) -> Self {
        Self {
            id: (value >> 24) as u8,
            ..self
        }
    }

    /// DFR.
    pub(super) const fn format(self) -> u32 {
        (self.model as u32) << 28 | FORMAT_ONES
    }

    /// With another DFR; bits that it does not have are dropped.
    pub(super) const fn with_format(self, value: u32) -> Self {
        Self {
            model: (value >> 28) as u8,
            ..self
        }
    }

    /// Whether a logical destination that is no broadcast means this one. An x2APIC's cluster is none of an xAPIC's.
    const fn is_meant(self, destination: u32) -> bool {
        if destination > 0xFF {
            return false;
        }
        let destination = destination as u8;
        match self.model {
            FLAT => self.id & destination != 0,
            CLUSTER => self.id >> 4 == destination >> 4 && self.id & destination & 0xF != 0,
            _ => false,
        }
    }
}

/// What decides, beside its id, which messages are for an APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressing {
    mode: Mode,
    logical: Logical,
}

impl Addressing {
    pub(super) const fn new(mode: Mode, logical: Logical) -> Self {
        Self { mode, logical }
    }

    /// Whether a message with this destination is for the APIC with this id; `is_sender` for a shorthand's sake.
    pub const fn include(self, id: u32, destination: Destination, is_sender: bool) -> bool {
        match (self.mode, destination) {
            (Mode::Disabled, _) => false,
            (Mode::XApic, Destination::Logical(destination)) => {
                destination == Destination::BROADCAST || self.logical.is_meant(destination)
            }
            (Mode::XApic, Destination::Physical(Destination::XAPIC_BROADCAST)) => true,
            _ => destination.includes(id, is_sender),
        }
    }

    const fn to_word(self) -> u32 {
        let mode = match self.mode {
            Mode::Disabled => 0,
            Mode::XApic => 1,
            Mode::X2Apic => 2,
        };
        mode << 16 | (self.logical.model as u32) << 8 | self.logical.id as u32
    }

    const fn from_word(word: u32) -> Self {
        let mode = match word >> 16 {
            0 => Mode::Disabled,
            1 => Mode::XApic,
            _ => Mode::X2Apic,
        };
        let logical = Logical {
            id: word as u8,
            model: (word >> 8) as u8,
        };
        Self { mode, logical }
    }
}

/// How an APIC is addressed whose VP a processor has in hand: for the others, who cannot look at the VP then.
#[derive(Debug)]
pub struct SharedAddressing(AtomicU32);

impl SharedAddressing {
    /// Of an APIC that takes no messages.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Shows it.
    #[inline]
    pub fn show(&self, addressing: Addressing) {
        self.0.store(addressing.to_word(), Ordering::Release);
    }

    /// What was shown last.
    pub fn get(&self) -> Addressing {
        Addressing::from_word(self.0.load(Ordering::Acquire))
    }
}

impl Default for SharedAddressing {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn xapic(ldr: u32, dfr: u32) -> Addressing {
        let logical = Logical::RESET.with_register(ldr).with_format(dfr);
        Addressing::new(Mode::XApic, logical)
    }

    fn is_meant(addressing: Addressing, destination: u32) -> bool {
        addressing.include(5, Destination::Logical(destination), false)
    }

    #[test]
    fn a_flat_id_is_meant_by_any_of_its_bits() {
        let flat = xapic(0x0600_0000, 0xF000_0000);
        let meant = (0..0x100).filter(|&destination| is_meant(flat, destination));
        assert!(meant.eq((0..0x100).filter(|destination| destination & 6 != 0)));
    }

    #[test]
    fn a_clusters_member_is_meant_in_its_cluster_alone() {
        let member = xapic(0x2400_0000, 0);
        for (destination, meant) in [(0x24, true), (0x2F, true), (0x2B, false), (0x34, false)] {
            assert_eq!(is_meant(member, destination), meant, "{destination:x}");
        }
        assert!(is_meant(member, Destination::BROADCAST));
    }

    #[test]
    fn another_format_means_a_broadcast_only() {
        let odd = xapic(0xFF00_0000, 0x7000_0000);
        assert!((0..0x100).all(|destination| !is_meant(odd, destination)));
        assert!(is_meant(odd, Destination::BROADCAST));
    }

    #[test]
    fn before_the_guest_gives_one_there_is_no_logical_id() {
        let reset = Addressing::new(Mode::XApic, Logical::RESET);
        assert!((0..0x100).all(|destination| !is_meant(reset, destination)));
    }

    #[test]
    fn nothing_is_for_a_disabled_apic() {
        let off = Addressing::new(Mode::Disabled, Logical::RESET);
        for destination in [
            Destination::Physical(5),
            Destination::Physical(Destination::BROADCAST),
            Destination::AllIncludingSelf,
        ] {
            assert!(!off.include(5, destination, true));
        }
    }

    #[test]
    fn an_io_apics_broadcast_is_for_all_that_are_in_xapic_mode() {
        let all = Destination::Physical(0xFF);
        assert_eq!(all.single(), None);
        assert!(Addressing::new(Mode::XApic, Logical::RESET).include(5, all, false));
        assert!(!Addressing::new(Mode::X2Apic, Logical::RESET).include(5, all, false));
        assert!(!Addressing::new(Mode::Disabled, Logical::RESET).include(5, all, false));
    }

    fn any_addressing() -> impl Strategy<Value = Addressing> {
        let mode = prop::sample::select(vec![Mode::Disabled, Mode::XApic, Mode::X2Apic]);
        (mode, any::<u32>(), any::<u32>()).prop_map(|(mode, ldr, dfr)| {
            Addressing::new(mode, Logical::RESET.with_register(ldr).with_format(dfr))
        })
    }

    proptest! {
        #[test]
        fn others_see_it_as_it_is(addressing in any_addressing()) {
            let shared = SharedAddressing::new();
            shared.show(addressing);
            prop_assert_eq!(shared.get(), addressing);
        }

        #[test]
        fn but_for_logical_destinations_both_modes_are_alike(id in 0u32..0xFF, destination in 0u32..0xFF, sender: bool) {
            let x2apic = Addressing::new(Mode::X2Apic, Logical::RESET);
            let xapic = Addressing::new(Mode::XApic, Logical::RESET);
            for destination in [
                Destination::Physical(destination),
                Destination::OnlySelf,
                Destination::AllIncludingSelf,
                Destination::AllExcludingSelf,
            ] {
                let both = [x2apic, xapic].map(|it| it.include(id, destination, sender));
                prop_assert_eq!(both[0], both[1]);
            }
        }

        #[test]
        fn a_destination_of_an_x2apic_is_no_xapics(ldr: u32, dfr: u32, destination in 0x100..u32::MAX) {
            prop_assert!(!is_meant(xapic(ldr, dfr), destination));
        }
    }
}
