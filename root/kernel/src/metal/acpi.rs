//! What the firmware's ACPI tables say: IOAPIC, serial interrupt, ways to switch off and to reset.

use core::ptr::NonNull;

use acpi::sdt::fadt::Fadt;
use acpi::sdt::madt::{Madt, MadtEntry};
use acpi::{AcpiTables, Handler, PciAddress, PhysicalMapping};
use root_kernel::s5::{self, SleepTypes};

use super::memory;

/// An I/O APIC.
#[derive(Clone, Copy, Debug)]
pub struct IoApic {
    /// Physical address of its registers.
    pub address: u64,
    /// Number of its first pin.
    pub first_gsi: u32,
}

/// Where an ISA interrupt arrives.
#[derive(Clone, Copy, Debug)]
pub struct IsaInterrupt {
    /// Global system interrupt.
    pub gsi: u32,
    /// Active low.
    pub low: bool,
    /// Level triggered.
    pub level: bool,
}

/// How the machine resets.
#[derive(Clone, Copy, Debug)]
pub struct Reset {
    /// I/O port.
    pub port: u16,
    /// What to write there.
    pub value: u8,
}

/// How the machine switches off.
#[derive(Clone, Copy, Debug)]
pub struct PowerOff {
    /// PM1a control port.
    pub pm1a: u16,
    /// PM1b control port.
    pub pm1b: Option<u16>,
    /// What to write there.
    pub types: SleepTypes,
}

/// Everything the kernel wants to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// The first I/O APIC.
    pub ioapic: Option<IoApic>,
    /// COM1's interrupt, ISA interrupt 4.
    pub serial: Option<IsaInterrupt>,
    /// Reset register.
    pub reset: Option<Reset>,
    /// Soft off.
    pub power_off: Option<PowerOff>,
    /// CMOS register of the century, 0 for none.
    pub century: u8,
}

/// ISA interrupt of COM1.
const SERIAL_IRQ: u8 = 4;
const SYSTEM_IO: u8 = 1;

/// Reads the tables. What is missing or damaged is left out.
pub fn read(rsdp: u64) -> Machine {
    let mut machine = Machine::default();
    if rsdp == 0 {
        return machine;
    }
    // SAFETY: the hypervisor passes on the address that the firmware gave; tables lie in memory that nobody reuses.
    let Ok(tables) = (unsafe { AcpiTables::from_rsdp(DirectMap, rsdp as usize) }) else {
        return machine;
    };
    if let Some(madt) = tables.find_table::<Madt>() {
        interrupts(&madt, &mut machine);
    }
    if let Some(fadt) = tables.find_table::<Fadt>() {
        power(&tables, &fadt, &mut machine);
    }
    machine
}

fn interrupts(madt: &PhysicalMapping<DirectMap, Madt>, machine: &mut Machine) {
    let serial = IsaInterrupt { gsi: SERIAL_IRQ.into(), low: false, level: false };
    machine.serial = Some(serial);
    for entry in madt.get().entries() {
        match entry {
            MadtEntry::IoApic(entry) if machine.ioapic.is_none() => {
                let (address, first_gsi) = (entry.io_apic_address, entry.global_system_interrupt_base);
                machine.ioapic = Some(IoApic { address: address.into(), first_gsi });
            }
            MadtEntry::InterruptSourceOverride(entry) if entry.irq == SERIAL_IRQ && entry.bus == 0 => {
                // MPS INTI flags: polarity 1:0 (3 = low), trigger mode 3:2 (3 = level).
                let (gsi, flags) = (entry.global_system_interrupt, entry.flags);
                machine.serial = Some(IsaInterrupt { gsi, low: flags & 3 == 3, level: flags >> 2 & 3 == 3 });
            }
            _ => {}
        }
    }
}

fn power(tables: &AcpiTables<DirectMap>, fadt: &PhysicalMapping<DirectMap, Fadt>, machine: &mut Machine) {
    let fadt = fadt.get();
    machine.century = fadt.century;
    if fadt.supports_system_reset_via_fadt()
        && let Ok(register) = fadt.reset_register()
        && register.address_space as u8 == SYSTEM_IO
    {
        let port = u16::try_from(register.address).ok();
        machine.reset = port.map(|port| Reset { port, value: fadt.reset_value });
    }
    let port = |block: acpi::address::GenericAddress| u16::try_from(block.address).ok().filter(|port| *port != 0);
    let pm1a = fadt.pm1a_control_block().ok().and_then(port);
    let pm1b = fadt.pm1b_control_block().ok().flatten().and_then(port);
    let types = tables.dsdt().ok().and_then(|dsdt| s5::find(&aml(dsdt.phys_address, dsdt.length as usize)));
    let types = types.or_else(|| {
        tables.ssdts().find_map(|table| s5::find(&aml(table.phys_address, table.length as usize)))
    });
    if let (Some(pm1a), Some(types)) = (pm1a, types) {
        machine.power_off = Some(PowerOff { pm1a, pm1b, types });
    }
}

/// A copy of a table's AML.
fn aml(address: usize, len: usize) -> alloc::vec::Vec<u8> {
    const MOST: usize = 1 << 20;
    let len = len.min(MOST);
    // SAFETY: an ACPI table that the firmware names, in memory that is in the direct map; nobody writes it.
    unsafe { core::slice::from_raw_parts(memory::direct(address as u64), len) }.to_vec()
}

/// Tables are read through the direct map; nothing else is needed to read tables.
#[derive(Clone, Copy)]
struct DirectMap;

impl Handler for DirectMap {
    unsafe fn map_physical_region<T>(&self, physical_address: usize, size: usize) -> PhysicalMapping<Self, T> {
        PhysicalMapping {
            physical_start: physical_address,
            virtual_start: NonNull::new(memory::direct(physical_address as u64).cast()).unwrap_or(NonNull::dangling()),
            region_length: size,
            mapped_length: size,
            handler: *self,
        }
    }

    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {}

    fn read_u8(&self, _address: usize) -> u8 {
        0
    }
    fn read_u16(&self, _address: usize) -> u16 {
        0
    }
    fn read_u32(&self, _address: usize) -> u32 {
        0
    }
    fn read_u64(&self, _address: usize) -> u64 {
        0
    }
    fn write_u8(&self, _address: usize, _value: u8) {}
    fn write_u16(&self, _address: usize, _value: u16) {}
    fn write_u32(&self, _address: usize, _value: u32) {}
    fn write_u64(&self, _address: usize, _value: u64) {}
    fn read_io_u8(&self, _port: u16) -> u8 {
        0
    }
    fn read_io_u16(&self, _port: u16) -> u16 {
        0
    }
    fn read_io_u32(&self, _port: u16) -> u32 {
        0
    }
    fn write_io_u8(&self, _port: u16, _value: u8) {}
    fn write_io_u16(&self, _port: u16, _value: u16) {}
    fn write_io_u32(&self, _port: u16, _value: u32) {}
    fn read_pci_u8(&self, _address: PciAddress, _offset: u16) -> u8 {
        0
    }
    fn read_pci_u16(&self, _address: PciAddress, _offset: u16) -> u16 {
        0
    }
    fn read_pci_u32(&self, _address: PciAddress, _offset: u16) -> u32 {
        0
    }
    fn write_pci_u8(&self, _address: PciAddress, _offset: u16, _value: u8) {}
    fn write_pci_u16(&self, _address: PciAddress, _offset: u16, _value: u16) {}
    fn write_pci_u32(&self, _address: PciAddress, _offset: u16, _value: u32) {}
    fn nanos_since_boot(&self) -> u64 {
        0
    }
    fn stall(&self, _microseconds: u64) {}
    fn sleep(&self, _milliseconds: u64) {}
}
