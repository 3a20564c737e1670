//! Where things are in the guest physical address space of a board without firmware.
//!
//! The first MiB is RAM throughout, also where the memory map shows a hole: a kernel scans it for option ROMs and
//! tables, and as device memory every such read would be an intercept (guest sheet 12.2).

use core::ops::Range;

/// 4 KiB.
pub const PAGE: u64 = 4096;
/// First address of the device window below 4 GiB; RAM that would lie there lies above 4 GiB.
pub const MMIO_START: u64 = 0xD000_0000;
/// End of the device window.
pub const FOUR_GIB: u64 = 1 << 32;

/// GDT of the 64-bit and 32-bit boot protocols.
pub const GDT: u64 = 0x1000;
/// Zero page, `hvm_start_info` or multiboot information: whatever the boot protocol points at.
pub const BOOT_INFO: u64 = 0x2000;
/// Lists that the boot information points at (memory map, modules, `setup_data`).
pub const BOOT_LISTS: u64 = 0x3000;
/// PML4 of the identity map; the PDPT follows, then four page directories of 2 MiB pages.
pub const PAGE_TABLES: u64 = 0x4000;
/// Command line.
pub const COMMAND_LINE: u64 = 0x1_0000;
/// Room for the command line, its NUL included.
pub const COMMAND_LINE_ROOM: u64 = 0x1_0000;
/// End of RAM as the memory map tells it, below the first hole.
pub const CONVENTIONAL_END: u64 = 0x9_F000;
/// First address of the ACPI tables; the RSDP is here, where a scan for it also looks.
pub const ACPI_TABLES: u64 = 0xE_0000;
/// Where a reset through real-mode firmware would start.
pub const RESET_VECTOR: u64 = 0xF_FFF0;
/// End of the first MiB, and of what the board reserves below it.
pub const ONE_MIB: u64 = 0x10_0000;

/// Registers of the I/O APIC.
pub const IOAPIC_BASE: u64 = 0xFEC0_0000;
/// Bytes that the I/O APIC decodes.
pub const IOAPIC_LEN: u64 = 0x1000;
/// Local APIC page as the MADT gives it; the hypervisor answers there.
pub const LOCAL_APIC_BASE: u32 = 0xFEE0_0000;

/// First port of the serial line COM1.
pub const COM1_PORT: u16 = 0x3F8;
/// I/O APIC pin (GSI) of COM1.
pub const COM1_GSI: u32 = 4;
/// ACPI sleep control register.
pub const SLEEP_CONTROL_PORT: u16 = 0x600;
/// ACPI sleep status register.
pub const SLEEP_STATUS_PORT: u16 = 0x601;
/// ACPI reset register.
pub const RESET_PORT: u16 = 0x602;
/// What to write to [`RESET_PORT`].
pub const RESET_VALUE: u8 = 1;
/// SLP_TYP of the state S5, "off".
pub const S5_TYPE: u8 = 5;

/// How RAM of a given size is spread over guest physical addresses: `[0, MMIO_START)`, and what is left from 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamLayout {
    size: u64,
}

impl RamLayout {
    /// Layout of `size` bytes of RAM.
    pub const fn new(size: u64) -> Self {
        Self { size }
    }

    /// All of RAM in bytes.
    pub const fn size(self) -> u64 {
        self.size
    }

    /// End of the RAM below 4 GiB.
    pub const fn low_end(self) -> u64 {
        if self.size < MMIO_START {
            self.size
        } else {
            MMIO_START
        }
    }

    /// Bytes of RAM from 4 GiB on.
    pub const fn high_len(self) -> u64 {
        self.size - self.low_end()
    }

    /// Its addresses below and above the device window; the latter may be none.
    pub const fn regions(self) -> [Range<u64>; 2] {
        let high_end = FOUR_GIB.saturating_add(self.high_len());
        [0..self.low_end(), FOUR_GIB..high_end]
    }

    /// Where `len` bytes at `gpa` are within a linear backing of the RAM; `None` unless all of them are RAM.
    #[inline]
    pub fn offset(self, gpa: u64, len: u64) -> Option<u64> {
        let end = gpa.checked_add(len)?;
        if end <= self.low_end() {
            return Some(gpa);
        }
        let high = gpa.checked_sub(FOUR_GIB)?;
        (high.checked_add(len)? <= self.high_len()).then(|| self.low_end() + high)
    }
}

/// A type of memory in the map that a kernel is given (E820 numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MemoryType {
    /// Free for the guest.
    Ram = 1,
    /// Not to be used.
    Reserved = 2,
}

/// An entry of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// First address.
    pub start: u64,
    /// Length in bytes, not 0.
    pub len: u64,
    /// What is there.
    pub kind: MemoryType,
}

/// The memory map, ascending (guest sheet 12.2). Ranges of length 0 are left out, so the RAM above 4 GiB may be missing.
pub fn memory_map(ram: RamLayout) -> impl Iterator<Item = MemoryRange> + Clone {
    use MemoryType::{Ram, Reserved};
    let ranges = [
        (0, CONVENTIONAL_END, Ram),
        (ACPI_TABLES, ONE_MIB - ACPI_TABLES, Reserved),
        (ONE_MIB, ram.low_end().saturating_sub(ONE_MIB), Ram),
        (FOUR_GIB, ram.high_len(), Ram),
    ];
    ranges
        .into_iter()
        .filter(|range| range.1 != 0)
        .map(|(start, len, kind)| MemoryRange { start, len, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_over_the_device_window_continues_at_4_gib() {
        let ram = RamLayout::new(4 << 30);
        assert_eq!(ram.low_end(), MMIO_START);
        assert_eq!(ram.high_len(), FOUR_GIB - MMIO_START);
        let high = FOUR_GIB..FOUR_GIB + ram.high_len();
        assert_eq!(ram.regions(), [0..MMIO_START, high]);
        let [_, none] = RamLayout::new(MMIO_START).regions();
        assert!(none.is_empty());
        assert_eq!(ram.offset(FOUR_GIB, PAGE), Some(MMIO_START));
        assert_eq!(ram.offset(MMIO_START - 1, 2), None);
        assert_eq!(ram.offset(FOUR_GIB + ram.high_len() - 1, 2), None);
        assert_eq!(ram.offset(MMIO_START, 1), None);
    }

    #[test]
    fn the_map_tells_all_ram_but_the_holes_of_the_first_mib() {
        let ram = RamLayout::new(5 << 30);
        let total: u64 = memory_map(ram)
            .filter(|range| range.kind == MemoryType::Ram)
            .map(|range| range.len)
            .sum();
        assert_eq!(total, ram.size() - (ONE_MIB - CONVENTIONAL_END));
        assert_eq!(memory_map(RamLayout::new(64 << 20)).count(), 3);
    }
}
