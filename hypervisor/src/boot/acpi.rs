//! What the hypervisor wants of the ACPI tables: the processors and the PM timer.

use core::ptr::NonNull;

use acpi::address::AddressSpace;
use acpi::fadt::Fadt;
use acpi::madt::{Madt, MadtEntry};
use acpi::{AcpiHandler, AcpiTables, PhysicalMapping};

use crate::mem::addr::Spa;
use crate::mem::phys::PhysMap;

/// Processors that are listed at most.
pub const MAX_PROCESSORS: usize = 256;

/// A processor of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessorInfo {
    /// Physical APIC id.
    pub apic_id: u32,
    /// ACPI processor UID.
    pub uid: u32,
}

/// The usable processors, as the MADT lists them.
#[derive(Clone, Copy, Debug)]
pub struct Processors {
    list: [ProcessorInfo; MAX_PROCESSORS],
    len: usize,
}

impl Processors {
    /// None.
    pub const fn new() -> Self {
        Self {
            list: [ProcessorInfo { apic_id: 0, uid: 0 }; MAX_PROCESSORS],
            len: 0,
        }
    }

    /// Adds one, unless it is listed or the list is full.
    pub fn add(&mut self, new: ProcessorInfo) {
        if self.as_slice().iter().any(|p| p.apic_id == new.apic_id) {
            return;
        }
        if let Some(slot) = self.list.get_mut(self.len) {
            *slot = new;
            self.len += 1;
        }
    }

    /// All of them.
    pub fn as_slice(&self) -> &[ProcessorInfo] {
        self.list.get(..self.len).unwrap_or(&[])
    }
}

impl Default for Processors {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads tables through the direct map.
#[derive(Clone, Copy, Debug)]
struct Mapped(PhysMap);

impl AcpiHandler for Mapped {
    unsafe fn map_physical_region<T>(
        &self,
        address: usize,
        size: usize,
    ) -> PhysicalMapping<Self, T> {
        let covered = (address as u64)
            .checked_add(size as u64)
            .is_some_and(|end| end <= self.0.size());
        let page = Spa(address as u64);
        // A table beyond all memory is firmware damage; zeros fail every signature and checksum.
        let start = match self.0.frame_ptr(page.page()) {
            // SAFETY: within the frame that the pointer is of.
            Some(frame) if covered => unsafe { frame.cast::<u8>().add(page.offset()).cast::<T>() },
            _ => NonNull::from(&NOTHING.0).cast(),
        };
        // SAFETY: mapped for `size` bytes from `start` on, for ever: the direct map, or an area as large as any table that
        // is mapped by its type alone.
        unsafe { PhysicalMapping::new(address, start, size, size, *self) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

#[repr(align(4096))]
struct Nothing([u8; 4096]);
static NOTHING: Nothing = Nothing([0; 4096]);

/// What was found.
#[derive(Clone, Copy, Debug, Default)]
pub struct AcpiInfo {
    /// Usable processors; none if there is no MADT.
    pub processors: Processors,
    /// I/O port of the PM timer.
    pub pm_timer: Option<u16>,
}

/// Reads the tables that the RSDP at `rsdp` leads to. What is missing or damaged is not found.
///
/// # Safety
/// The direct map covers the tables, and nobody changes them meanwhile.
pub unsafe fn read(phys: PhysMap, rsdp: Spa) -> AcpiInfo {
    let mut info = AcpiInfo::default();
    // SAFETY: the loader found the RSDP there; `Mapped` bounds every access.
    let Ok(tables) = (unsafe { AcpiTables::from_rsdp(Mapped(phys), rsdp.0 as usize) }) else {
        return info;
    };
    if let Ok(madt) = tables.find_table::<Madt>() {
        for entry in madt.get().entries() {
            match entry {
                MadtEntry::LocalApic(e) if { e.flags } & 1 != 0 => {
                    info.processors.add(ProcessorInfo {
                        apic_id: u32::from(e.apic_id),
                        uid: u32::from(e.processor_id),
                    })
                }
                MadtEntry::LocalX2Apic(e) if { e.flags } & 1 != 0 => {
                    info.processors.add(ProcessorInfo {
                        apic_id: e.x2apic_id,
                        uid: e.processor_uid,
                    })
                }
                _ => {}
            }
        }
    }
    if let Ok(fadt) = tables.find_table::<Fadt>()
        && let Ok(Some(timer)) = fadt.pm_timer_block()
        && timer.address_space == AddressSpace::SystemIo
    {
        info.pm_timer = u16::try_from(timer.address).ok().filter(|&port| port != 0);
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::testing::TestMemory;

    fn checksum(bytes: &mut [u8], at: usize) {
        bytes[at] = 0;
        bytes[at] = bytes.iter().fold(0_u8, |sum, &b| sum.wrapping_sub(b));
    }

    fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = signature.to_vec();
        bytes.extend((36 + body.len() as u32).to_le_bytes());
        bytes.extend([revision, 0]);
        bytes.extend([b' '; 14]);
        bytes.extend([0; 12]);
        bytes.extend(body);
        checksum(&mut bytes, 9);
        bytes
    }

    fn machine(memory: &TestMemory, madt: &[u8], fadt: &[u8]) {
        let phys = memory.phys();
        phys.copy_to(Spa(0x3000), madt).unwrap();
        phys.copy_to(Spa(0x4000), fadt).unwrap();
        let xsdt = table(
            b"XSDT",
            1,
            &[0x3000_u64.to_le_bytes(), 0x4000_u64.to_le_bytes()].concat(),
        );
        phys.copy_to(Spa(0x2000), &xsdt).unwrap();
        let mut rsdp = b"RSD PTR \0      \x02\0\0\0\0".to_vec();
        rsdp.extend(36_u32.to_le_bytes());
        rsdp.extend(0x2000_u64.to_le_bytes());
        rsdp.extend([0; 4]);
        checksum(&mut rsdp[..20], 8);
        checksum(&mut rsdp, 32);
        phys.copy_to(Spa(0x1000), &rsdp).unwrap();
    }

    #[test]
    fn enabled_processors_and_the_timer_port_are_found() {
        let memory = TestMemory::new(2);
        let mut madt = vec![0, 0, 0xE0, 0xFE, 1, 0, 0, 0];
        for (uid, id, flags) in [(1, 0, 1), (2, 4, 1), (3, 6, 0), (4, 4, 1)] {
            madt.extend([0, 8, uid, id, flags, 0, 0, 0]);
        }
        let mut x2 = vec![9, 16, 0, 0];
        x2.extend([300_u32, 1, 5].map(u32::to_le_bytes).concat());
        madt.extend(x2);
        let mut fadt = vec![0; 244 - 36];
        fadt[76 - 36..80 - 36].copy_from_slice(&0x608_u32.to_le_bytes());
        fadt[91 - 36] = 4;
        machine(
            &memory,
            &table(b"APIC", 3, &madt),
            &table(b"FACP", 3, &fadt),
        );
        // SAFETY: the test's own memory.
        let info = unsafe { read(memory.phys(), Spa(0x1000)) };
        let ids: Vec<u32> = info
            .processors
            .as_slice()
            .iter()
            .map(|p| p.apic_id)
            .collect();
        assert_eq!(ids, [0, 4, 300]);
        assert_eq!(info.pm_timer, Some(0x608));
    }

    #[test]
    fn damaged_tables_are_not_found() {
        let memory = TestMemory::new(2);
        let mut madt = table(b"APIC", 3, &[0; 16]);
        madt[20] ^= 1;
        machine(&memory, &madt, &table(b"FACP", 3, &[0; 200]));
        // SAFETY: the test's own memory.
        let info = unsafe { read(memory.phys(), Spa(0x1000)) };
        assert!(info.processors.as_slice().is_empty());
        // SAFETY: the test's own memory; there is no RSDP, and beyond it no memory.
        let (none, beyond) = unsafe {
            (
                read(memory.phys(), Spa(0x5000)),
                read(memory.phys(), Spa(1 << 40)),
            )
        };
        assert!(none.pm_timer.is_none() && beyond.pm_timer.is_none());
    }
}
