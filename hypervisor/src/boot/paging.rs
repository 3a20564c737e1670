//! The hypervisor's own address space: no page both writable and executable, nothing in the lower half.

use crate::arch::cpuid::CpuidSource;
use crate::mem::addr::{Gva, PAGE_SIZE, Spa};
use crate::mem::format::{Host, Leaf, LeafSize, MemoryType, Pat, Rights};
use crate::mem::phys::PhysMap;
use crate::mem::table::{PageTable, TableError};

use super::pool::Pool;

/// Where all machine memory from 0 on is mapped.
pub const PHYSICAL_MEMORY: u64 = 0xFFFF_8000_0000_0000;
/// Where stacks are mapped, with unmapped pages between them.
pub const STACKS: u64 = 0xFFFF_C000_0000_0000;
/// Where device memory is mapped.
pub const DEVICES: u64 = 0xFFFF_C800_0000_0000;
/// Where the image is mapped.
pub const IMAGE: u64 = 0xFFFF_FFFF_8000_0000;

/// Page table entry: it leads somewhere.
pub(super) const PRESENT: u64 = 1 << 0;
/// It is a leaf though not of the last level.
pub(super) const LARGE: u64 = 1 << 7;
/// Its address.
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// The hypervisor's page tables.
pub type HostTables = PageTable<Host, PhysMap>;

/// Empty tables for this processor.
///
/// # Errors
/// [`TableError::NoMemory`]
pub fn new_tables(
    cpu: &impl CpuidSource,
    phys: PhysMap,
    pool: &mut Pool,
) -> Result<HostTables, TableError> {
    let gib_pages = cpu.cpuid_checked(0x8000_0001, 0).edx & 1 << 26 != 0;
    let largest = if gib_pages {
        LeafSize::Size1G
    } else {
        LeafSize::Size2M
    };
    HostTables::new(
        Host::new(physical_bits(cpu), Pat::PARTITA, largest),
        phys,
        pool,
    )
}

/// Width of the processor's physical addresses.
pub fn physical_bits(cpu: &impl CpuidSource) -> u8 {
    (cpu.cpuid_checked(0x8000_0008, 0).eax as u8).clamp(36, 52)
}

/// Maps `bytes` (whole pages) from `va` to memory from `spa` with `rights`.
///
/// # Errors
/// [`TableError`]; part of the range may be mapped then.
pub fn map(
    tables: &mut HostTables,
    pool: &mut Pool,
    (va, spa, bytes): (u64, Spa, u64),
    rights: Rights,
    memory_type: MemoryType,
) -> Result<(), TableError> {
    let leaf = Leaf::new(spa.page(), rights).with_memory_type(memory_type);
    tables
        .map(
            pool,
            Gva(va).page(),
            bytes.div_ceil(PAGE_SIZE),
            leaf,
            LeafSize::Size1G,
        )
        .map_err(|stopped| stopped.error)
}

/// Where `va` leads by the tables with root `root`, which the loader made.
pub fn translate(phys: PhysMap, root: Spa, va: u64) -> Option<Spa> {
    let mut table = root.0 & ADDRESS;
    for level in (0..4).rev() {
        let shift = 12 + 9 * level;
        let entry = phys.read_u64(Spa(table + (va >> shift & 0x1FF) * 8)).ok()?;
        if entry & PRESENT == 0 {
            return None;
        }
        if level == 0 || entry & LARGE != 0 {
            let inside = (1 << shift) - 1;
            return Some(Spa(entry & ADDRESS & !inside | va & inside));
        }
        table = entry & ADDRESS;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::cpuid::Recorded;
    use crate::mem::testing::TestMemory;

    const CPU: Recorded = Recorded(&[
        (0x8000_0000, 0, [0x8000_0008, 0, 0, 0]),
        (0x8000_0001, 0, [0, 0, 0, 1 << 26]),
        (0x8000_0008, 0, [0x3028, 0, 0, 0]),
    ]);

    #[test]
    fn every_leaf_size_translates_to_the_last_byte() {
        let memory = TestMemory::new(2);
        // SAFETY: the test's memory, used by nothing else.
        let mut pool = unsafe { Pool::new(memory.phys(), Spa(0x1000), Spa(0x20_0000)) };
        let mut tables = new_tables(&CPU, memory.phys(), &mut pool).unwrap();
        let (gib, bytes) = (1 << 30, (1 << 30) + 0x20_1000);
        let range = (PHYSICAL_MEMORY, Spa(0), bytes);
        map(
            &mut tables,
            &mut pool,
            range,
            Rights::RW,
            MemoryType::WriteBack,
        )
        .unwrap();
        let root = tables.root().address();
        for offset in [0, 0x1234, gib - 1, gib + 5, gib + 0x20_0FFF] {
            assert_eq!(
                translate(memory.phys(), root, PHYSICAL_MEMORY + offset),
                Some(Spa(offset))
            );
        }
        assert_eq!(
            translate(memory.phys(), root, PHYSICAL_MEMORY + bytes),
            None
        );
        assert_eq!(
            translate(memory.phys(), Spa(1 << 40), PHYSICAL_MEMORY),
            None,
            "tables outside memory"
        );
    }

    #[test]
    fn an_empty_pool_is_an_error() {
        let memory = TestMemory::new(2);
        // SAFETY: an empty range.
        let mut empty = unsafe { Pool::new(memory.phys(), Spa(0x1000), Spa(0x1000)) };
        assert!(matches!(
            new_tables(&CPU, memory.phys(), &mut empty),
            Err(TableError::NoMemory)
        ));
    }
}
