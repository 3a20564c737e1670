//! The synthetic APIC MSRs EOI, ICR and TPR, 0x40000070 to 0x40000072 (guest sheet 4.8).

use tlfs::{HV_X64_MSR_EOI as EOI, HV_X64_MSR_ICR as ICR, HV_X64_MSR_TPR as TPR};

use super::icr::{Icr, to_x2apic};
use super::{Effect, GeneralProtection, LocalApic};

const LOW: u64 = 0xFFFF_FFFF;

/// The ICR from the MSR's value, which has the destination in bits 63:56 whatever the mode. Bits 55:32 are ignored.
const fn from_msr(value: u64) -> Option<Icr> {
    let destination = to_x2apic((value >> 56) as u8) as u64;
    Icr::new(destination << 32 | value & LOW)
}

impl LocalApic {
    /// RDMSR of one of the three; EOI is write-only.
    pub fn read_synthetic(&self, msr: u32) -> Result<u64, GeneralProtection> {
        match msr {
            ICR => Ok(u64::from(self.icr.xapic_destination()) << 56 | self.icr.value() & LOW),
            TPR => Ok(u64::from(self.tpr())),
            _ => Err(GeneralProtection),
        }
    }

    /// WRMSR of one of the three.
    pub fn write_synthetic(&mut self, msr: u32, value: u64) -> Result<Effect, GeneralProtection> {
        match msr {
            EOI if value == 0 => Ok(self.end_of_interrupt()),
            ICR => {
                self.icr = from_msr(value).ok_or(GeneralProtection)?;
                Ok(self.send(self.icr))
            }
            TPR => {
                self.set_tpr(u8::try_from(value).map_err(|_| GeneralProtection)?);
                Ok(Effect::None)
            }
            _ => Err(GeneralProtection),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Destination, InterruptMessage};
    use super::*;

    fn sent(apic: &mut LocalApic, value: u64) -> InterruptMessage {
        match apic.write_synthetic(ICR, value) {
            Ok(Effect::Ipi(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_icr_has_its_destination_in_the_xapics_place() {
        let mut apic = LocalApic::new(0, true);
        let value = 5 << 56 | 0xFD;
        assert_eq!(sent(&mut apic, value).destination, Destination::Physical(5));
        assert_eq!(apic.read_synthetic(ICR), Ok(value));
        let all = sent(&mut apic, 0xFF << 56 | 0xFD);
        assert_eq!(all.destination.single(), None);
    }

    #[test]
    fn a_flat_logical_destination_names_the_first_eight() {
        let mut apic = LocalApic::new(0, true);
        let message = sent(&mut apic, 0x0A << 56 | 0x8FD);
        let hit = (0..20).filter(|&id| message.destination.includes(id, false));
        assert_eq!(hit.collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn reserved_values_fault() {
        let mut apic = LocalApic::new(0, true);
        assert!(apic.write_synthetic(EOI, 1).is_err());
        assert!(apic.write_synthetic(TPR, 0x100).is_err());
        assert!(apic.read_synthetic(EOI).is_err());
        assert!(apic.write_synthetic(TPR, 0x80).is_ok());
        assert_eq!(apic.cr8(), 8);
    }
}
