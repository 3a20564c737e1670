//! Interrupt messages: what the interrupt command register sends, and to whom.

use super::FIRST_VECTOR;
use super::lvt::LvtEntry;

/// How an interrupt is triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Once.
    Edge,
    /// For as long as the source asserts it; its end is reported.
    Level,
}

/// What arrives at a local APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// An interrupt with a vector. Below 16 the receiver notes an error.
    Fixed {
        /// Vector.
        vector: u8,
        /// Trigger mode.
        trigger: Trigger,
    },
    /// A system management interrupt: there is no SMM, so it is ignored.
    Smi,
    /// A non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// Startup IPI: a VP that waits for it starts at real-mode address `vector << 12`.
    Startup {
        /// Page number of the first instruction.
        vector: u8,
    },
    /// An interrupt of a PIC, which supplies the vector itself.
    ExtInt {
        /// Vector, any.
        vector: u8,
    },
    /// One of the APIC's local inputs: what it means is in its LVT entry.
    Local {
        /// The entry.
        entry: LvtEntry,
        /// The vector that a PIC behind the input would supply, if the entry is programmed as ExtINT.
        pic_vector: u8,
    },
}

/// The APICs that a message is for, in x2APIC form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The APIC with this id, or with [`BROADCAST`](Self::BROADCAST) all.
    Physical(u32),
    /// The APICs of cluster 31:16 whose bit is in 15:0, or with [`BROADCAST`](Self::BROADCAST) all. Eight bits alone are an
    /// xAPIC's: those of a flat one are cluster 0, bit for bit.
    Logical(u32),
    /// The sender.
    OnlySelf,
    /// All APICs.
    AllIncludingSelf,
    /// All APICs but the sender's.
    AllExcludingSelf,
}

impl Destination {
    /// Destination id for all APICs.
    pub const BROADCAST: u32 = u32::MAX;
    /// Physical destination for all xAPICs, from whomever: of an x2APIC it is an id.
    pub const XAPIC_BROADCAST: u32 = 0xFF;

    /// The one APIC id that this can be, if it can be only one: no need to ask all VPs.
    pub const fn single(self) -> Option<u32> {
        match self {
            Self::Physical(id) if id != Self::BROADCAST && id != Self::XAPIC_BROADCAST => Some(id),
            _ => None,
        }
    }

    /// Whether the x2APIC with this id is meant.
    pub const fn includes(self, id: u32, is_sender: bool) -> bool {
        match self {
            Self::Physical(Self::BROADCAST) | Self::Logical(Self::BROADCAST) => true,
            Self::Physical(destination) => destination == id,
            Self::Logical(destination) => {
                let own = logical_id(id);
                destination >> 16 == own >> 16 && destination & own & 0xFFFF != 0
            }
            Self::OnlySelf => is_sender,
            Self::AllIncludingSelf => true,
            Self::AllExcludingSelf => !is_sender,
        }
    }
}

/// The logical x2APIC id (LDR) of the APIC with this id: cluster in 31:16, one bit in 15:0.
pub(super) const fn logical_id(id: u32) -> u32 {
    (id >> 4) << 16 | 1 << (id & 15)
}

/// An interrupt on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptMessage {
    /// For whom.
    pub destination: Destination,
    /// What.
    pub delivery: Delivery,
    /// Only one of the destinations gets it: see [`lowest_priority`](super::lowest_priority).
    pub lowest_priority: bool,
}

/// A destination of an xAPIC as an x2APIC's.
pub(super) const fn to_x2apic(destination: u8) -> u32 {
    match destination as u32 {
        Destination::XAPIC_BROADCAST => Destination::BROADCAST,
        other => other,
    }
}

/// Reserved bits of the x2APIC ICR. Bit 12, the xAPIC's delivery status, is ignored.
const RESERVED: u64 = 0xFFF3_2000;
const DELIVERY_STATUS: u64 = 1 << 12;
/// All but the destination.
const LOW: u64 = 0xFFFF_FFFF;

/// The interrupt command register: 7:0 vector, 10:8 delivery mode, 11 logical, 14 level, 15 trigger, 19:18 shorthand,
/// 63:32 destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Icr(u64);

/// What a write of the ICR asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Send(InterruptMessage),
    /// Nothing to do: INIT de-assert, SMI, and combinations that the architecture calls invalid.
    Nothing,
    /// A vector below 16, or a reserved delivery mode: noted in the ESR.
    Illegal,
}

impl Icr {
    /// From a guest's value, `None` if reserved bits are set.
    pub(super) const fn new(value: u64) -> Option<Self> {
        if value & RESERVED != 0 {
            None
        } else {
            Some(Self(value & !DELIVERY_STATUS))
        }
    }

    /// From a saved state; bits that a guest cannot set are dropped.
    pub(super) const fn restored(value: u64) -> Self {
        Self(value & !(RESERVED | DELIVERY_STATUS))
    }

    pub(super) const fn value(self) -> u64 {
        self.0
    }

    /// The destination in eight bits, as an xAPIC has it.
    pub(super) const fn xapic_destination(self) -> u8 {
        (self.0 >> 32) as u8
    }

    /// With the destination that an xAPIC's eight bits mean.
    pub(super) const fn with_xapic_destination(self, destination: u8) -> Self {
        Self((to_x2apic(destination) as u64) << 32 | self.0 & LOW)
    }

    /// With another command, from a register without reserved bits that fault: they are dropped.
    pub(super) const fn with_command(self, command: u32) -> Self {
        Self::restored(self.0 & !LOW | command as u64)
    }

    const fn destination(self) -> Destination {
        let id = (self.0 >> 32) as u32;
        match self.0 >> 18 & 3 {
            1 => Destination::OnlySelf,
            2 => Destination::AllIncludingSelf,
            3 => Destination::AllExcludingSelf,
            _ if self.0 & 1 << 11 != 0 => Destination::Logical(id),
            _ => Destination::Physical(id),
        }
    }

    /// INIT level de-assert synchronized arbitration ids once; it does nothing today.
    const fn is_init_deassert(self) -> bool {
        self.0 & (1 << 14 | 1 << 15) == 1 << 15
    }

    pub(super) const fn command(self) -> Command {
        let vector = self.0 as u8;
        // IPIs are edge-triggered, whatever the trigger bit says.
        let fixed = Delivery::Fixed {
            vector,
            trigger: Trigger::Edge,
        };
        let (delivery, lowest_priority) = match self.0 >> 8 & 7 {
            0 if vector >= FIRST_VECTOR => (fixed, false),
            1 if vector >= FIRST_VECTOR => (fixed, true),
            0 | 1 => return Command::Illegal,
            2 => return Command::Nothing,
            4 => (Delivery::Nmi, false),
            5 if self.is_init_deassert() => return Command::Nothing,
            5 => (Delivery::Init, false),
            6 => (Delivery::Startup { vector }, false),
            // 3 is remote read, which is unsupported; 7 has no meaning for an IPI.
            _ => return Command::Illegal,
        };
        let destination = self.destination();
        let only_fixed = matches!(
            destination,
            Destination::OnlySelf | Destination::AllIncludingSelf
        );
        if only_fixed && (lowest_priority || !matches!(delivery, Delivery::Fixed { .. })) {
            return Command::Nothing;
        }
        Command::Send(InterruptMessage {
            destination,
            delivery,
            lowest_priority,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn command(value: u64) -> Command {
        Icr::new(value).unwrap().command()
    }

    fn sent(value: u64) -> InterruptMessage {
        match command(value) {
            Command::Send(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn linux_boots_a_processor_with_init_and_startup() {
        // INIT assert, level; INIT de-assert; SIPI to page 0x9A, as wakeup_secondary_cpu_via_init writes them.
        let init = sent(3 << 32 | 0xC500);
        assert_eq!(init.delivery, Delivery::Init);
        assert_eq!(init.destination, Destination::Physical(3));
        assert_eq!(command(3 << 32 | 0x8500), Command::Nothing);
        let startup = sent(3 << 32 | 0x69A);
        assert_eq!(startup.delivery, Delivery::Startup { vector: 0x9A });
    }

    #[test]
    fn reserved_bits_are_refused_and_delivery_status_is_ignored() {
        for bit in [13, 16, 17].into_iter().chain(20..32) {
            assert_eq!(Icr::new(1 << bit), None, "{bit}");
        }
        assert_eq!(Icr::new(1 << 12), Icr::new(0));
    }

    #[test]
    fn illegal_vectors_and_reserved_modes_are_errors() {
        assert_eq!(command(0x00F), Command::Illegal);
        assert_eq!(command(0x10F), Command::Illegal);
        assert_eq!(command(0x3FF), Command::Illegal);
        assert_eq!(command(0x7FF), Command::Illegal);
        assert!(matches!(command(0x010), Command::Send(_)));
    }

    #[test]
    fn the_self_shorthands_send_fixed_interrupts_only() {
        for shorthand in [1u64 << 18, 2 << 18] {
            assert!(matches!(command(shorthand | 0xF0), Command::Send(_)));
            for mode in [1u64, 2, 4, 5, 6] {
                assert_eq!(command(shorthand | mode << 8 | 0xF0), Command::Nothing);
            }
        }
        assert_eq!(
            sent(3 << 18 | 4 << 8).destination,
            Destination::AllExcludingSelf
        );
    }

    #[test]
    fn lowest_priority_is_marked() {
        assert!(sent(0x1F0).lowest_priority);
        assert!(!sent(0x0F0).lowest_priority);
    }

    #[test]
    fn broadcast_reaches_everybody() {
        for destination in [
            Destination::Physical(u32::MAX),
            Destination::Logical(u32::MAX),
        ] {
            assert!(destination.includes(0, true) && destination.includes(77, false));
            assert_eq!(destination.single(), None);
        }
    }

    proptest! {
        #[test]
        fn a_logical_destination_names_up_to_16_ids_of_one_cluster(cluster in 0u32..0xFFFF, mask: u16, id in 0u32..0x10_0000) {
            let destination = Destination::Logical(cluster << 16 | u32::from(mask));
            let expected = id / 16 == cluster && mask & 1 << (id % 16) != 0;
            prop_assert_eq!(destination.includes(id, false), expected);
        }

        #[test]
        fn a_physical_destination_names_one_id(destination in 0..u32::MAX, id: u32) {
            prop_assert_eq!(Destination::Physical(destination).includes(id, false), destination == id);
            prop_assert_eq!(Destination::Physical(destination).single(), Some(destination));
        }

        #[test]
        fn shorthands_look_at_the_sender_only(id: u32, sender: bool) {
            prop_assert_eq!(Destination::OnlySelf.includes(id, sender), sender);
            prop_assert_eq!(Destination::AllExcludingSelf.includes(id, sender), !sender);
            prop_assert!(Destination::AllIncludingSelf.includes(id, sender));
        }

        #[test]
        fn any_value_decodes(value: u64) {
            if let Some(icr) = Icr::new(value) {
                let _ = icr.command();
            }
        }
    }
}
