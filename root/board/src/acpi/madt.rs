//! The interrupt controllers: a local APIC for each processor and one I/O APIC.

use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::{Aml, AmlSink};
use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{Immutable, IntoBytes};

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID};
use crate::layout::{IOAPIC_BASE, LOCAL_APIC_BASE};

/// The I/O APIC's id. It is not on a common bus with the local APICs, so it may equal one of theirs.
const IOAPIC_ID: u8 = 0;
/// APIC ids from here on need an x2APIC entry; below it, kernels drop those.
const FIRST_X2APIC_ID: u32 = 255;

/// MADT for processors whose UID and APIC id are 0, 1, 2, …. PCAT_COMPAT is clear: there is no PIC.
pub fn table(processors: u32) -> MADT {
    let address = LocalInterruptController::Address(LOCAL_APIC_BASE);
    let mut madt = MADT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION, address);
    for id in 0..processors {
        match u8::try_from(id) {
            Ok(small) if id < FIRST_X2APIC_ID => madt.add_structure(ProcessorLocalApic::new(
                small,
                small,
                EnabledStatus::Enabled,
            )),
            _ => madt.add_structure(LocalX2Apic::enabled(id)),
        }
    }
    madt.add_structure(IoApic::new(IOAPIC_ID, IOAPIC_BASE as u32, 0));
    madt
}

/// MADT entry of a processor with a large APIC id; `acpi_tables` has none.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
struct LocalX2Apic {
    kind: u8,
    length: u8,
    reserved: U16,
    x2apic_id: U32,
    flags: U32,
    processor_uid: U32,
}

impl LocalX2Apic {
    fn enabled(id: u32) -> Self {
        Self {
            kind: 9,
            length: size_of::<Self>() as u8,
            reserved: U16::ZERO,
            x2apic_id: U32::new(id),
            flags: U32::new(1),
            processor_uid: U32::new(id),
        }
    }
}

impl Aml for LocalX2Apic {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(self.as_bytes());
    }
}
