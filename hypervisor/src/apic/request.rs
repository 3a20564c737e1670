//! Interrupts that the root asserts: HvCallAssertVirtualInterrupt (root sheet A.3.6).

use super::FIRST_VECTOR;
use super::icr::{Delivery, Destination, InterruptMessage, Trigger};
use super::lvt::LvtEntry;

/// The request has no meaning: HV_STATUS_INVALID_PARAMETER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRequest;

impl InterruptMessage {
    /// Decodes the hypercall's fields: `kind` is bits 31:0 of the control, `level` bit 32, `logical` bit 33;
    /// `vector` is that of the interrupt, or of the PIC for ExtINT and for a local input that is programmed so.
    pub fn from_request(
        kind: u32,
        level: bool,
        logical: bool,
        apic_id: u64,
        vector: u32,
    ) -> Result<Self, InvalidRequest> {
        let id = u32::try_from(apic_id).map_err(|_| InvalidRequest)?;
        let vector = u8::try_from(vector).map_err(|_| InvalidRequest)?;
        let trigger = if level { Trigger::Level } else { Trigger::Edge };
        let local = |entry| Delivery::Local {
            entry,
            pic_vector: vector,
        };
        let delivery = match kind {
            0 | 1 if vector < FIRST_VECTOR => return Err(InvalidRequest),
            0 | 1 => Delivery::Fixed { vector, trigger },
            2 => Delivery::Smi,
            4 => Delivery::Nmi,
            5 => Delivery::Init,
            6 => Delivery::Startup { vector },
            7 => Delivery::ExtInt { vector },
            8 => local(LvtEntry::Lint0),
            9 => local(LvtEntry::Lint1),
            _ => return Err(InvalidRequest),
        };
        Ok(Self {
            destination: if logical {
                Destination::Logical(id)
            } else {
                Destination::Physical(id)
            },
            delivery,
            lowest_priority: kind == 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: u32, vector: u32) -> Result<InterruptMessage, InvalidRequest> {
        InterruptMessage::from_request(kind, false, false, 1, vector)
    }

    #[test]
    fn every_type_of_the_tlfs_is_known() {
        for kind in [0, 1, 2, 4, 5, 6, 7, 8, 9] {
            assert!(request(kind, 0x30).is_ok(), "{kind}");
        }
        assert!(request(1, 0x30).unwrap().lowest_priority);
    }

    #[test]
    fn remote_read_and_unknown_types_are_refused() {
        assert_eq!(request(3, 0x30), Err(InvalidRequest));
        assert_eq!(request(10, 0x30), Err(InvalidRequest));
    }

    #[test]
    fn vectors_and_ids_out_of_range_are_refused() {
        assert_eq!(request(0, 15), Err(InvalidRequest));
        assert_eq!(request(0, 256), Err(InvalidRequest));
        // A PIC's vectors begin at 8 under real-mode code.
        assert!(request(7, 8).is_ok());
        let far = InterruptMessage::from_request(0, false, false, 1 << 32, 0x30);
        assert_eq!(far, Err(InvalidRequest));
    }
}
