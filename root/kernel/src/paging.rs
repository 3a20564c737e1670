//! x86-64 page tables: mapping, lookup and dismantling, over any memory that holds tables.
//!
//! The kernel's own tables come from the loader; this module extends them and makes the lower halves of processes.
//! A mapping that is writable and executable at once cannot be expressed.

use crate::addr::{LARGE_PAGE_FRAMES, PAGE_SIZE, Pfn};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
const LARGE: u64 = 1 << 7;
/// Ours, ignored by the processor: the frame belongs to the address space and is given back with it.
const OWNED: u64 = 1 << 9;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// Entries of a table.
pub const ENTRIES: usize = 512;
/// Index of the first entry of the top table that belongs to the kernel's half.
pub const KERNEL_HALF: usize = 256;
/// What looking through a table counts as, in entries that are taken apart.
const TABLE_COST: u64 = 64;

/// Where tables live. A table is a frame of 512 entries.
pub trait TableMemory {
    /// An entry. `index` is below [`ENTRIES`].
    fn read(&self, table: Pfn, index: usize) -> u64;
    /// Writes an entry. `index` is below [`ENTRIES`].
    fn write(&mut self, table: Pfn, index: usize, entry: u64);
    /// A new table of zeros, `None` when memory is out.
    fn allocate(&mut self) -> Option<Pfn>;
    /// Takes a table back that [`allocate`](Self::allocate) gave.
    fn free(&mut self, table: Pfn);
    /// Takes the 2^order frames of a leaf back that the address space owned.
    fn free_leaf(&mut self, first: Pfn, order: u8);
}

/// What may be done with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and execute.
    ReadExecute,
}

/// How a page is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// What may be done with it.
    pub rights: Rights,
    /// By ring 3 too.
    pub user: bool,
    /// Device memory: not cached.
    pub device: bool,
    /// The frame is given back when the address space ends.
    pub owned: bool,
}

impl Attributes {
    /// Memory of a process that it owns.
    pub const fn owned(rights: Rights) -> Self {
        Self {
            rights,
            user: true,
            device: false,
            owned: true,
        }
    }

    /// Memory of somebody else that a process may see.
    pub const fn borrowed(rights: Rights) -> Self {
        Self {
            rights,
            user: true,
            device: false,
            owned: false,
        }
    }

    /// Memory of the kernel.
    pub const fn kernel(rights: Rights) -> Self {
        Self {
            rights,
            user: false,
            device: false,
            owned: false,
        }
    }

    /// Registers of a device, for the kernel.
    pub const DEVICE: Self = Self {
        rights: Rights::ReadWrite,
        user: false,
        device: true,
        owned: false,
    };

    fn bits(self) -> u64 {
        let rights = match self.rights {
            Rights::Read => NO_EXECUTE,
            Rights::ReadWrite => WRITABLE | NO_EXECUTE,
            Rights::ReadExecute => 0,
        };
        let user = if self.user { USER } else { 0 };
        let device = if self.device {
            WRITE_THROUGH | CACHE_DISABLE
        } else {
            0
        };
        let owned = if self.owned { OWNED } else { 0 };
        PRESENT | rights | user | device | owned
    }
}

/// A leaf found in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The 4 KiB frame at the address asked for.
    pub pfn: Pfn,
    /// Whether a 2 MiB (or larger) leaf maps it.
    pub large: bool,
    /// Ring 3 may read it.
    pub user: bool,
    /// It may be written.
    pub writable: bool,
    /// The frame belongs to the address space.
    pub owned: bool,
}

/// Why a page could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// No memory for a table.
    #[error("no memory for a page table")]
    NoMemory,
    /// Something is mapped there already.
    #[error("address {0:#x} is mapped already")]
    Occupied(u64),
}

/// One tree of tables.
#[derive(Debug)]
pub struct Tables<'m, M> {
    root: Pfn,
    memory: &'m mut M,
}

impl<'m, M: TableMemory> Tables<'m, M> {
    /// The tree under a top table.
    pub fn new(root: Pfn, memory: &'m mut M) -> Self {
        Self { root, memory }
    }

    /// Maps one 4 KiB page.
    ///
    /// # Errors
    /// [`MapError`]; tables that were made on the way stay, empty.
    pub fn map(&mut self, address: u64, pfn: Pfn, attributes: Attributes) -> Result<(), MapError> {
        self.set_leaf(address, 0, (pfn.address() & ADDRESS) | attributes.bits())
    }

    /// Maps one 2 MiB page; address and frame must be aligned to it.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn map_large(
        &mut self,
        address: u64,
        pfn: Pfn,
        attributes: Attributes,
    ) -> Result<(), MapError> {
        let aligned = pfn.address() & ADDRESS & !(LARGE_PAGE_FRAMES * PAGE_SIZE - 1);
        self.set_leaf(address, 1, aligned | attributes.bits() | LARGE)
    }

    /// Makes sure that the table one below the top exists, so that trees which share the entry stay alike.
    ///
    /// # Errors
    /// [`MapError::NoMemory`].
    pub fn reserve(&mut self, address: u64) -> Result<(), MapError> {
        self.next_table(self.root, index(address, 3), address)
            .map(|_| ())
    }

    /// The mapping of an address.
    pub fn lookup(&self, address: u64) -> Option<Mapping> {
        let mut table = self.root;
        let (mut user, mut writable) = (true, true);
        for level in (0..=3).rev() {
            let entry = self.memory.read(table, index(address, level));
            if entry & PRESENT == 0 {
                return None;
            }
            user &= entry & USER != 0;
            writable &= entry & WRITABLE != 0;
            if level == 0 || entry & LARGE != 0 {
                let offset = (address / PAGE_SIZE) & ((1 << (9 * level)) - 1);
                let pfn = frame(entry).plus(offset);
                return Some(Mapping {
                    pfn,
                    large: level != 0,
                    user,
                    writable,
                    owned: entry & OWNED != 0,
                });
            }
            table = frame(entry);
        }
        None
    }

    /// The first address from `start` on, and below `end`, that is mapped. What is not mapped is stepped over as far as one
    /// absent entry says. Both are in the lower half.
    pub fn first_mapped(&self, start: u64, end: u64) -> Option<u64> {
        let mut at = start;
        while at < end {
            let Some(level) = self.absent_level(at) else {
                return Some(at);
            };
            let covered = 1u64 << (12 + 9 * level);
            at = (at & !covered.saturating_sub(1)).saturating_add(covered);
        }
        None
    }

    /// Removes a 4 KiB page; `None` if there is none. The caller invalidates the TLB. Tables stay.
    pub fn unmap(&mut self, address: u64) -> Option<Pfn> {
        let table = self.table_of(address, 0)?;
        self.clear(table, index(address, 0)).map(frame)
    }

    /// Removes a 2 MiB page; `None` if there is none. The caller invalidates the TLB. Tables stay.
    pub fn unmap_large(&mut self, address: u64) -> Option<Pfn> {
        let (table, at) = self.large_leaf(address)?;
        self.clear(table, at).map(frame)
    }

    /// Puts a table of 512 small pages, which are mapped as before, in the place of the 2 MiB page at an address; does
    /// nothing if there is none. The caller invalidates the TLB.
    ///
    /// # Errors
    /// [`MapError::NoMemory`]; nothing has changed then.
    pub fn split_large(&mut self, address: u64) -> Result<(), MapError> {
        let Some((table, at)) = self.large_leaf(address) else {
            return Ok(());
        };
        let leaf = self.memory.read(table, at);
        let small = self.memory.allocate().ok_or(MapError::NoMemory)?;
        for (page, entry) in (0..LARGE_PAGE_FRAMES).zip(0..ENTRIES) {
            let pfn = frame(leaf).plus(page);
            let attributes = leaf & !(ADDRESS | LARGE);
            self.memory
                .write(small, entry, pfn.address() & ADDRESS | attributes);
        }
        // Rights are decided by the leaves, as in `next_table`.
        let link = small.address() | PRESENT | WRITABLE | leaf & USER;
        self.memory.write(table, at, link);
        Ok(())
    }

    /// Takes the table of the small pages around an address out of the tree if nothing is mapped by it any more. The caller
    /// invalidates the TLB, which may know the table, before the frame that is returned is used for anything else.
    pub fn unlink_empty(&mut self, address: u64) -> Option<Pfn> {
        let small = self.table_of(address, 0)?;
        let empty = (0..ENTRIES).all(|at| self.memory.read(small, at) & PRESENT == 0);
        let table = self.table_of(address, 1).filter(|_| empty)?;
        self.clear(table, index(address, 1)).map(frame)
    }

    /// Takes the whole lower half apart: gives back the leaves that the address space owns, and all tables below the
    /// top one. False if that is not all yet, after about so many entries: the same again goes on with it. Nobody uses the
    /// address space any more.
    pub fn dismantle_some(&mut self, entries: u64) -> bool {
        // Enough to get to a lowest table, and to something in it.
        let mut left = entries.max(8 * TABLE_COST);
        self.dismantle_table(self.root, 3, KERNEL_HALF, &mut left)
    }

    /// A table is given back when nothing is in it any more, so what is left is found from the top.
    fn dismantle_table(&mut self, table: Pfn, level: u32, entries: usize, left: &mut u64) -> bool {
        // However little is in it, all of it is looked through.
        *left = left.saturating_sub(TABLE_COST);
        for at in 0..entries {
            let entry = self.memory.read(table, at);
            if entry & PRESENT == 0 {
                continue;
            }
            if *left == 0 {
                return false;
            }
            *left = left.saturating_sub(1);
            if level == 0 || entry & LARGE != 0 {
                self.memory.write(table, at, 0);
                if entry & OWNED != 0 {
                    self.memory.free_leaf(frame(entry), (9 * level) as u8);
                }
                continue;
            }
            let below = frame(entry);
            if !self.dismantle_table(below, level.saturating_sub(1), ENTRIES, left) {
                return false;
            }
            self.memory.write(table, at, 0);
            self.memory.free(below);
        }
        true
    }

    /// The table of a level (0 the lowest) that has an address, `None` if there is none.
    fn table_of(&self, address: u64, wanted: u32) -> Option<Pfn> {
        let mut table = self.root;
        for level in (wanted.saturating_add(1)..=3).rev() {
            let entry = self.memory.read(table, index(address, level));
            if entry & PRESENT == 0 || entry & LARGE != 0 {
                return None;
            }
            table = frame(entry);
        }
        Some(table)
    }

    /// Where the 2 MiB leaf of an address is.
    fn large_leaf(&self, address: u64) -> Option<(Pfn, usize)> {
        let (table, at) = (self.table_of(address, 1)?, index(address, 1));
        let entry = self.memory.read(table, at);
        (entry & PRESENT != 0 && entry & LARGE != 0).then_some((table, at))
    }

    /// The level of the entry by which an address is not mapped, `None` if it is.
    fn absent_level(&self, address: u64) -> Option<u32> {
        let mut table = self.root;
        for level in (0..=3).rev() {
            let entry = self.memory.read(table, index(address, level));
            if entry & PRESENT == 0 {
                return Some(level);
            }
            if entry & LARGE != 0 {
                return None;
            }
            table = frame(entry);
        }
        None
    }

    /// Clears an entry; returns what was there.
    fn clear(&mut self, table: Pfn, at: usize) -> Option<u64> {
        let entry = self.memory.read(table, at);
        self.memory.write(table, at, 0);
        (entry & PRESENT != 0).then_some(entry)
    }

    fn set_leaf(&mut self, address: u64, leaf_level: u32, entry: u64) -> Result<(), MapError> {
        let mut table = self.root;
        for level in (leaf_level.saturating_add(1)..=3).rev() {
            table = self.next_table(table, index(address, level), address)?;
        }
        let at = index(address, leaf_level);
        if self.memory.read(table, at) & PRESENT != 0 {
            return Err(MapError::Occupied(address));
        }
        self.memory.write(table, at, entry);
        Ok(())
    }

    /// The table that an entry leads to, made if it is not there. Rights are decided by the leaves.
    fn next_table(&mut self, table: Pfn, at: usize, address: u64) -> Result<Pfn, MapError> {
        let entry = self.memory.read(table, at);
        if entry & PRESENT == 0 {
            let new = self.memory.allocate().ok_or(MapError::NoMemory)?;
            let user = if address >> 63 == 0 { USER } else { 0 };
            self.memory
                .write(table, at, new.address() | PRESENT | WRITABLE | user);
            return Ok(new);
        }
        if entry & LARGE != 0 {
            Err(MapError::Occupied(address))
        } else {
            Ok(frame(entry))
        }
    }
}

fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level)) as usize % ENTRIES
}

fn frame(entry: u64) -> Pfn {
    // In a large leaf bit 12 is the PAT bit, which is never set here.
    Pfn::containing(entry & ADDRESS)
}

#[cfg(test)]
#[path = "paging_tests.rs"]
mod tests;
