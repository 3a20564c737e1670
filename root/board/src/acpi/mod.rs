//! What the board tells the guest about itself: ACPI tables of a hardware-reduced platform (guest sheet 12.3).
//!
//! Hardware-reduced, because then a kernel looks for neither PIC nor PIT nor PM timer nor SCI, none of which exist here.

mod dsdt;
mod fadt;
mod madt;

use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, sdt::Sdt};
use alloc::vec::Vec;

use crate::layout::{ACPI_TABLES, ONE_MIB, RESET_VECTOR};
use crate::ram::{GuestRam, OutOfRam};

const OEM_ID: [u8; 6] = *b"PARTIT";
const OEM_TABLE_ID: [u8; 8] = *b"PARTBORD";
const OEM_REVISION: u32 = 1;
/// The RSDP has its own 64 bytes in front of the tables.
const RSDP_ROOM: u64 = 64;
/// The reset vector's instructions are in the same range, at its end.
const TABLES_END: u64 = RESET_VECTOR & !0xFFF;
/// Bounded by the names of the processor devices, and long before by the room.
const MAX_PROCESSORS: u32 = 1024;
const _: () = assert!(ACPI_TABLES < TABLES_END && TABLES_END < ONE_MIB);

/// Why there are no tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcpiError {
    /// Too many processors for the room below 1 MiB.
    #[error("{0} processors are more than the ACPI tables have room for")]
    TooManyProcessors(u32),
    /// Guest memory ends too early.
    #[error(transparent)]
    OutOfRam(#[from] OutOfRam),
}

/// Writes all tables for `processors` processors (APIC id = VP index = UID), with the device of VMBus if there is `vmbus`, and
/// returns the GPA of the RSDP.
pub fn write_tables<R: GuestRam>(
    ram: &mut R,
    processors: u32,
    vmbus: bool,
) -> Result<u64, AcpiError> {
    if processors > MAX_PROCESSORS {
        return Err(AcpiError::TooManyProcessors(processors));
    }
    let mut place = Place {
        ram,
        next: ACPI_TABLES + RSDP_ROOM,
        processors,
    };
    let dsdt = place.put(&dsdt::table(processors, vmbus))?;
    let fadt = place.put(&bytes(&fadt::table(dsdt)))?;
    let madt = place.put(&bytes(&madt::table(processors)))?;
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = place.put(&bytes(&xsdt))?;
    ram.write(ACPI_TABLES, &bytes(&Rsdp::new(OEM_ID, xsdt)))?;
    Ok(ACPI_TABLES)
}

/// Tables one after the other.
struct Place<'a, R> {
    ram: &'a mut R,
    next: u64,
    processors: u32,
}

impl<R: GuestRam> Place<'_, R> {
    fn put(&mut self, table: &[u8]) -> Result<u64, AcpiError> {
        let address = self.next;
        // Tables start at multiples of 16.
        self.next += (table.len() as u64).next_multiple_of(16);
        if self.next > TABLES_END {
            return Err(AcpiError::TooManyProcessors(self.processors));
        }
        self.ram.write(address, table)?;
        Ok(address)
    }
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn definition_block(signature: [u8; 4], aml: &[u8]) -> Vec<u8> {
    // Revision 2: 64-bit integers.
    let mut table = Sdt::new(signature, 36, 2, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    table.append_slice(aml);
    table.as_slice().to_vec()
}

#[cfg(test)]
mod tests;
