//! The devices: serial line and processors, and how to switch off.

use acpi_tables::Aml;
use acpi_tables::aml::{Device, EISAName, IO, Interrupt, Name, Package, ResourceTemplate, Scope};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::definition_block;
use crate::layout::{COM1_GSI, COM1_PORT, S5_TYPE};

/// The DSDT for `processors` processors, with or without `vmbus`.
pub fn table(processors: u32, vmbus: bool) -> Vec<u8> {
    let mut aml = Vec::new();
    Name::new("_S5_".into(), &Package::new(vec![&S5_TYPE, &0u8])).to_aml_bytes(&mut aml);
    let mut devices = Vec::new();
    serial_line(&mut devices);
    if vmbus {
        bus(&mut devices);
    }
    for uid in 0..processors {
        processor(&mut devices, uid);
    }
    aml.extend(Scope::raw("\\_SB_".into(), devices));
    definition_block(*b"DSDT", &aml)
}

/// COM1. The interrupt is edge-triggered as on every PC: the UART model lowers its line whenever no cause is left, and
/// an edge needs no EOI intercept.
fn serial_line(aml: &mut Vec<u8>) {
    let ports = IO::new(COM1_PORT, COM1_PORT, 1, 8);
    let (consumer, edge, active_low, shared) = (true, true, false, false);
    let interrupt = Interrupt::new(consumer, edge, active_low, shared, COM1_GSI);
    let resources = ResourceTemplate::new(vec![&ports, &interrupt]);
    Device::new(
        "COM1".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0501")),
            &Name::new("_UID".into(), &0u8),
            &Name::new("_STA".into(), &0x0Fu8),
            &Name::new("_CRS".into(), &resources),
        ],
    )
    .to_aml_bytes(aml);
}

/// VMBus (guest sheet 11): a module, which is where windows of device memory would be, and the bus in it. Linux looks for
/// the device by its id, and gives up on one without `_CRS`; an interrupt in that would only be in the way.
fn bus(aml: &mut Vec<u8>) {
    let nothing = ResourceTemplate::new(vec![]);
    let id = Name::new("_HID".into(), &"VMBUS");
    let number = Name::new("_UID".into(), &0u8);
    let state = Name::new("_STA".into(), &0x0Fu8);
    let resources = Name::new("_CRS".into(), &nothing);
    let bus = Device::new("VMBS".into(), vec![&id, &number, &state, &resources]);
    let id = Name::new("_HID".into(), &"ACPI0004");
    Device::new("VMOD".into(), vec![&id, &number, &bus]).to_aml_bytes(aml);
}

/// A processor device; its UID is the one of the MADT.
fn processor(aml: &mut Vec<u8>, uid: u32) {
    Device::new(
        format!("C{uid:03X}").as_str().into(),
        vec![
            &Name::new("_HID".into(), &"ACPI0007"),
            &Name::new("_UID".into(), &uid),
        ],
    )
    .to_aml_bytes(aml);
}
