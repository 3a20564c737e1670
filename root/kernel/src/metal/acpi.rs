//! What the firmware's ACPI tables say: processors, IOAPIC, serial interrupt, NUMA nodes, ways to switch off and to reset.

use core::ptr::NonNull;

use acpi::address::AddressSpace;
use acpi::fadt::Fadt;
use acpi::madt::{Madt, MadtEntry};
use acpi::sdt::{SdtHeader, Signature};
use acpi::{AcpiHandler, AcpiTable, AcpiTables, PhysicalMapping};
use root_kernel::frames::Nodes;
use root_kernel::s5::{self, SleepTypes};
use root_kernel::srat;

use super::memory;

/// AML is searched up to here.
const MOST_AML: usize = 1 << 20;

/// A longer SRAT is read up to here.
const MOST_SRAT: usize = 1 << 16;

/// Processors are listed up to here: more than the kernel uses, so that it can say so.
const MOST_PROCESSORS: usize = 64;
/// Of a processor's entry in the MADT.
const ENABLED: u32 = 1 << 0;

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
    /// Port and value that hand the power registers over from the firmware, if they are not ours yet.
    pub enable: Option<(u16, u8)>,
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
    /// COM2's interrupt, ISA interrupt 3.
    pub second_serial: Option<IsaInterrupt>,
    /// Reset register.
    pub reset: Option<Reset>,
    /// Soft off.
    pub power_off: Option<PowerOff>,
    /// CMOS register of the century, 0 for none.
    pub century: u8,
    /// Processors that can be used.
    pub processors: Processors,
}

/// Processors, by APIC id.
#[derive(Clone, Copy, Debug)]
pub struct Processors {
    ids: [u32; MOST_PROCESSORS],
    count: usize,
}

impl Default for Processors {
    fn default() -> Self {
        Self {
            ids: [0; MOST_PROCESSORS],
            count: 0,
        }
    }
}

impl Processors {
    /// Their APIC ids, as the MADT lists them.
    pub fn apic_ids(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        self.ids.iter().copied().take(self.count)
    }

    fn add(&mut self, id: u32) {
        let known = self.apic_ids().any(|known| known == id);
        if let Some(place) = self.ids.get_mut(self.count).filter(|_| !known) {
            *place = id;
            self.count += 1;
        }
    }
}

/// ISA interrupt of COM1.
const SERIAL_IRQ: u8 = 4;
/// ISA interrupt of COM2.
const SECOND_SERIAL_IRQ: u8 = 3;

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
    if let Ok(madt) = tables.find_table::<Madt>() {
        interrupts(&madt, &mut machine);
    }
    if let Ok(fadt) = tables.find_table::<Fadt>() {
        power(&tables, &fadt, &mut machine);
    }
    machine
}

/// The header of the System Resource Affinity Table.
#[repr(transparent)]
struct Srat(SdtHeader);

// SAFETY: it is the header of a table of that signature, and nothing else.
unsafe impl AcpiTable for Srat {
    const SIGNATURE: Signature = Signature::SRAT;

    fn header(&self) -> &SdtHeader {
        &self.0
    }
}

/// The machine's NUMA nodes; one if it says nothing of any. Needs the heap.
pub fn nodes(rsdp: u64) -> Nodes {
    if rsdp == 0 {
        return Nodes::ONE;
    }
    // SAFETY: as in `read`.
    let Ok(tables) = (unsafe { AcpiTables::from_rsdp(DirectMap, rsdp as usize) }) else {
        return Nodes::ONE;
    };
    let Ok(table) = tables.find_table::<Srat>() else {
        return Nodes::ONE;
    };
    let len = (table.get().0.length as usize).min(MOST_SRAT);
    // SAFETY: an ACPI table that the firmware names, whose length its checksum confirms, in memory that is in the direct map;
    // nobody writes it.
    let bytes =
        unsafe { core::slice::from_raw_parts(memory::direct(table.physical_start() as u64), len) };
    Nodes::new(&srat::memory(bytes))
}

fn interrupts(madt: &PhysicalMapping<DirectMap, Madt>, machine: &mut Machine) {
    // Unless the table says something else, ISA interrupts are as on an ISA bus.
    let usual = |irq: u8| IsaInterrupt {
        gsi: irq.into(),
        low: false,
        level: false,
    };
    machine.serial = Some(usual(SERIAL_IRQ));
    machine.second_serial = Some(usual(SECOND_SERIAL_IRQ));
    for entry in madt.get().entries() {
        match entry {
            MadtEntry::IoApic(entry) if machine.ioapic.is_none() => {
                let (address, first_gsi) =
                    (entry.io_apic_address, entry.global_system_interrupt_base);
                machine.ioapic = Some(IoApic {
                    address: address.into(),
                    first_gsi,
                });
            }
            MadtEntry::InterruptSourceOverride(entry) if entry.bus == 0 => {
                // MPS INTI flags: polarity 1:0 (3 = low), trigger mode 3:2 (3 = level).
                let (gsi, flags) = (entry.global_system_interrupt, entry.flags);
                let interrupt = Some(IsaInterrupt {
                    gsi,
                    low: flags & 3 == 3,
                    level: flags >> 2 & 3 == 3,
                });
                match entry.irq {
                    SERIAL_IRQ => machine.serial = interrupt,
                    SECOND_SERIAL_IRQ => machine.second_serial = interrupt,
                    _ => {}
                }
            }
            MadtEntry::LocalApic(entry) if entry.flags & ENABLED != 0 => {
                machine.processors.add(entry.apic_id.into());
            }
            MadtEntry::LocalX2Apic(entry) if entry.flags & ENABLED != 0 => {
                machine.processors.add(entry.x2apic_id);
            }
            _ => {}
        }
    }
}

fn power(
    tables: &AcpiTables<DirectMap>,
    fadt: &PhysicalMapping<DirectMap, Fadt>,
    machine: &mut Machine,
) {
    let fadt = fadt.get();
    machine.century = fadt.century;
    let flags = fadt.flags;
    if flags.supports_system_reset_via_fadt()
        && let Ok(register) = fadt.reset_register()
        && matches!(register.address_space, AddressSpace::SystemIo)
    {
        let port = u16::try_from(register.address).ok();
        machine.reset = port.map(|port| Reset {
            port,
            value: fadt.reset_value,
        });
    }
    let port = |block: acpi::address::GenericAddress| {
        u16::try_from(block.address).ok().filter(|port| *port != 0)
    };
    let pm1a = fadt.pm1a_control_block().ok().and_then(port);
    let pm1b = fadt.pm1b_control_block().ok().flatten().and_then(port);
    let dsdt = tables.dsdt().ok();
    let types = dsdt.into_iter().chain(tables.ssdts()).find_map(|table| {
        // SAFETY: an ACPI table that the firmware names, in memory that is in the direct map; nobody writes it.
        s5::find(unsafe { aml(table.address, table.length as usize) })
    });
    let command = u16::try_from(fadt.smi_cmd_port)
        .ok()
        .filter(|port| *port != 0);
    let enable = command
        .filter(|_| fadt.acpi_enable != 0)
        .map(|port| (port, fadt.acpi_enable));
    if let (Some(pm1a), Some(types)) = (pm1a, types) {
        machine.power_off = Some(PowerOff {
            enable,
            pm1a,
            pm1b,
            types,
        });
    }
}

/// A table's AML.
///
/// # Safety
/// The range must be readable in the direct map and not written while the slice is in use.
unsafe fn aml<'a>(address: usize, len: usize) -> &'a [u8] {
    // SAFETY: the caller's.
    unsafe { core::slice::from_raw_parts(memory::direct(address as u64), len.min(MOST_AML)) }
}

/// Tables are read through the direct map.
#[derive(Clone, Copy)]
struct DirectMap;

impl AcpiHandler for DirectMap {
    unsafe fn map_physical_region<T>(
        &self,
        physical_address: usize,
        size: usize,
    ) -> PhysicalMapping<Self, T> {
        let start = memory::direct(physical_address as u64).cast();
        // SAFETY: the caller says that there is a `T`; memory with ACPI tables is in the direct map, which is never null.
        unsafe {
            PhysicalMapping::new(
                physical_address,
                NonNull::new_unchecked(start),
                size,
                size,
                *self,
            )
        }
    }

    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {}
}
