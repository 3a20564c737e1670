//! The hypervisor's own page tables: four levels, no page both writable and executable, nothing in the lower half.

use crate::mem::addr::{PAGE_SIZE, Spa};
use crate::mem::phys::PhysMap;

use super::pool::Pool;

/// Where all machine memory from 0 on is mapped.
pub const PHYSICAL_MEMORY: u64 = 0xFFFF_8000_0000_0000;
/// Where stacks are mapped, with unmapped pages between them.
pub const STACKS: u64 = 0xFFFF_C000_0000_0000;
/// Where device memory is mapped, uncached.
pub const DEVICES: u64 = 0xFFFF_C800_0000_0000;
/// Where the image is mapped.
pub const IMAGE: u64 = 0xFFFF_FFFF_8000_0000;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const UNCACHED: u64 = 1 << 3 | 1 << 4;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// What may be done with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and execute.
    ReadExecute,
    /// Read and write a device: uncached.
    Device,
}

impl Rights {
    const fn bits(self) -> u64 {
        match self {
            Self::Read => NO_EXECUTE,
            Self::ReadWrite => WRITABLE | NO_EXECUTE,
            Self::ReadExecute => 0,
            Self::Device => WRITABLE | UNCACHED | NO_EXECUTE,
        }
    }
}

/// Why a page could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagingError {
    /// The pool has no page for a table.
    NoMemory,
    /// Something is mapped there already.
    Occupied,
    /// Tables outside the direct map, or addresses that are not aligned.
    Invalid,
}

/// Bytes of a leaf at a level: 1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB.
const fn leaf_size(level: u32) -> u64 {
    PAGE_SIZE << (9 * (level - 1))
}

/// A tree of page tables.
#[derive(Clone, Copy, Debug)]
pub struct PageTables {
    phys: PhysMap,
    root: Spa,
}

impl PageTables {
    /// An empty tree.
    ///
    /// # Errors
    /// [`PagingError::NoMemory`]
    pub fn new(phys: PhysMap, pool: &mut Pool) -> Result<Self, PagingError> {
        let root = pool.take(1).ok_or(PagingError::NoMemory)?;
        Ok(Self { phys, root })
    }

    /// The tree whose root is at `root`, to look addresses up.
    pub const fn at(phys: PhysMap, root: Spa) -> Self {
        Self { phys, root }
    }

    /// The value for CR3.
    pub const fn root(&self) -> Spa {
        self.root
    }

    /// Maps `bytes` from `va` to memory from `spa`, by the largest leaves that alignment and `largest` (a level) allow.
    ///
    /// # Errors
    /// [`PagingError`]; part of the range may be mapped then.
    pub fn map(
        &self,
        pool: &mut Pool,
        (va, spa, bytes): (u64, Spa, u64),
        rights: Rights,
        largest: u32,
    ) -> Result<(), PagingError> {
        if (va | spa.0 | bytes) & (PAGE_SIZE - 1) != 0 {
            return Err(PagingError::Invalid);
        }
        let mut done = 0;
        while done < bytes {
            let (va, spa, left) = (va + done, spa.0 + done, bytes - done);
            let fits = |level: &u32| {
                (va | spa) & (leaf_size(*level) - 1) == 0 && left >= leaf_size(*level)
            };
            let level = (1..=largest.min(3)).rev().find(fits).unwrap_or(1);
            let large = if level > 1 { LARGE } else { 0 };
            let entry = self.entry(pool, va, level)?;
            if self.read(entry)? & PRESENT != 0 {
                return Err(PagingError::Occupied);
            }
            self.write(entry, spa | PRESENT | GLOBAL | large | rights.bits())?;
            done += leaf_size(level);
        }
        Ok(())
    }

    /// Where `va` leads, if it is mapped.
    pub fn translate(&self, va: u64) -> Option<Spa> {
        let mut table = self.root;
        for level in (1..=4).rev() {
            let entry = self.read(slot(table, va, level)).ok()?;
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 1 || entry & LARGE != 0 {
                let inside = leaf_size(level) - 1;
                return Some(Spa(entry & ADDRESS & !inside | va & inside));
            }
            table = Spa(entry & ADDRESS);
        }
        None
    }

    /// Address of the entry of `va` at `level`, with the tables above it made as needed.
    fn entry(&self, pool: &mut Pool, va: u64, level: u32) -> Result<Spa, PagingError> {
        let mut table = self.root;
        for above in (level + 1..=4).rev() {
            let at = slot(table, va, above);
            let entry = self.read(at)?;
            table = if entry & PRESENT == 0 {
                let new = pool.take(1).ok_or(PagingError::NoMemory)?;
                self.write(at, new.0 | PRESENT | WRITABLE)?;
                new
            } else if entry & LARGE != 0 {
                return Err(PagingError::Occupied);
            } else {
                Spa(entry & ADDRESS)
            };
        }
        Ok(slot(table, va, level))
    }

    fn read(&self, at: Spa) -> Result<u64, PagingError> {
        self.phys.read_u64(at).map_err(|_| PagingError::Invalid)
    }

    fn write(&self, at: Spa, value: u64) -> Result<(), PagingError> {
        self.phys
            .write_u64(at, value)
            .map_err(|_| PagingError::Invalid)
    }
}

const fn slot(table: Spa, va: u64, level: u32) -> Spa {
    Spa(table.0 + (va >> (12 + 9 * (level - 1)) & 0x1FF) * 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::testing::TestMemory;

    fn tree(memory: &TestMemory) -> (PageTables, Pool) {
        // SAFETY: the test's memory, used by nothing else.
        let mut pool = unsafe { Pool::new(memory.phys(), Spa(0x1000), Spa(0x20_0000)) };
        (PageTables::new(memory.phys(), &mut pool).unwrap(), pool)
    }

    fn leaf(tables: &PageTables, va: u64, level: u32) -> u64 {
        let mut table = tables.root;
        for above in (level + 1..=4).rev() {
            table = Spa(tables.read(slot(table, va, above)).unwrap() & ADDRESS);
        }
        tables.read(slot(table, va, level)).unwrap()
    }

    #[test]
    fn large_leaves_are_used_where_alignment_allows() {
        let memory = TestMemory::new(2);
        let (tables, mut pool) = tree(&memory);
        let gib = 1 << 30;
        let range = (PHYSICAL_MEMORY, Spa(0), gib + 0x20_1000);
        tables.map(&mut pool, range, Rights::ReadWrite, 3).unwrap();
        assert_eq!(leaf(&tables, PHYSICAL_MEMORY, 3) & LARGE, LARGE);
        assert_eq!(leaf(&tables, PHYSICAL_MEMORY + gib, 2) & LARGE, LARGE);
        assert_eq!(
            leaf(&tables, PHYSICAL_MEMORY + gib + 0x20_0000, 1) & ADDRESS,
            gib + 0x20_0000
        );
        for offset in [0, 0x1234, gib - 1, gib + 5, gib + 0x20_0FFF] {
            assert_eq!(
                tables.translate(PHYSICAL_MEMORY + offset),
                Some(Spa(offset))
            );
        }
        assert_eq!(tables.translate(PHYSICAL_MEMORY + gib + 0x20_1000), None);
    }

    #[test]
    fn no_rights_make_a_page_writable_and_executable() {
        for rights in [
            Rights::Read,
            Rights::ReadWrite,
            Rights::ReadExecute,
            Rights::Device,
        ] {
            let bits = rights.bits();
            assert!(bits & WRITABLE == 0 || bits & NO_EXECUTE != 0, "{rights:?}");
        }
    }

    #[test]
    fn nothing_is_mapped_twice() {
        let memory = TestMemory::new(2);
        let (tables, mut pool) = tree(&memory);
        tables
            .map(&mut pool, (IMAGE, Spa(0x1000), 0x2000), Rights::Read, 1)
            .unwrap();
        let again = tables.map(
            &mut pool,
            (IMAGE + 0x1000, Spa(0x9000), 0x1000),
            Rights::ReadWrite,
            1,
        );
        assert_eq!(again, Err(PagingError::Occupied));
        let unaligned = tables.map(&mut pool, (DEVICES + 1, Spa(0), 0x1000), Rights::Device, 1);
        assert_eq!(unaligned, Err(PagingError::Invalid));
    }

    #[test]
    fn an_empty_pool_is_an_error() {
        let memory = TestMemory::new(2);
        let (tables, _) = tree(&memory);
        // SAFETY: an empty range.
        let mut empty = unsafe { Pool::new(memory.phys(), Spa(0x1000), Spa(0x1000)) };
        let result = tables.map(&mut empty, (IMAGE, Spa(0), 0x1000), Rights::Read, 1);
        assert_eq!(result, Err(PagingError::NoMemory));
    }
}
