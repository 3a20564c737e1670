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

/// Where a walk through the tables ended.
struct Found {
    table: Pfn,
    at: usize,
    /// Of the table, 0 the lowest.
    level: u32,
    entry: u64,
    /// [`USER`] and [`WRITABLE`], if all entries on the way have them.
    rights: u64,
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
        let found = self.walk(address, 0);
        let offset = (address / PAGE_SIZE) & ((1 << (9 * found.level)) - 1);
        (found.entry & PRESENT != 0).then(|| Mapping {
            pfn: frame(found.entry).plus(offset),
            large: found.level != 0,
            user: found.rights & USER != 0,
            writable: found.rights & WRITABLE != 0,
            owned: found.entry & OWNED != 0,
        })
    }

    /// The first address from `start` on, and below `end`, that is mapped. What is not mapped is stepped over as far as one
    /// absent entry says. Both are in the lower half.
    pub fn first_mapped(&self, start: u64, end: u64) -> Option<u64> {
        let mut at = start;
        while at < end {
            let found = self.walk(at, 0);
            if found.entry & PRESENT != 0 {
                return Some(at);
            }
            let covered = 1u64 << (12 + 9 * found.level);
            at = (at & !covered.saturating_sub(1)).saturating_add(covered);
        }
        None
    }

    /// Removes a 4 KiB page; `None` if there is none. The caller invalidates the TLB. Tables stay.
    pub fn unmap(&mut self, address: u64) -> Option<Pfn> {
        let leaf = self.leaf(address, 0)?;
        Some(self.clear(&leaf))
    }

    /// Removes a 2 MiB page; `None` if there is none. The caller invalidates the TLB. Tables stay.
    pub fn unmap_large(&mut self, address: u64) -> Option<Pfn> {
        let leaf = self.leaf(address, 1)?;
        Some(self.clear(&leaf))
    }

    /// Puts a table of 512 small pages, which are mapped as before, in the place of the 2 MiB page at an address; does
    /// nothing if there is none. The caller invalidates the TLB.
    ///
    /// # Errors
    /// [`MapError::NoMemory`]; nothing has changed then.
    pub fn split_large(&mut self, address: u64) -> Result<(), MapError> {
        let Some(leaf) = self.leaf(address, 1) else {
            return Ok(());
        };
        let small = self.memory.allocate().ok_or(MapError::NoMemory)?;
        for (page, entry) in (0..LARGE_PAGE_FRAMES).zip(0..ENTRIES) {
            let pfn = frame(leaf.entry).plus(page);
            let attributes = leaf.entry & !(ADDRESS | LARGE);
            self.memory
                .write(small, entry, pfn.address() & ADDRESS | attributes);
        }
        // Rights are decided by the leaves, as in `next_table`.
        let link = small.address() | PRESENT | WRITABLE | leaf.entry & USER;
        self.memory.write(leaf.table, leaf.at, link);
        Ok(())
    }

    /// Takes the table of the small pages around an address out of the tree if nothing is mapped by it any more. The caller
    /// invalidates the TLB, which may know the table, before the frame that is returned is used for anything else.
    pub fn unlink_empty(&mut self, address: u64) -> Option<Pfn> {
        let link = self.walk(address, 1);
        if link.level != 1 || !is_link(link.entry) {
            return None;
        }
        let small = frame(link.entry);
        let empty = (0..ENTRIES).all(|at| self.memory.read(small, at) & PRESENT == 0);
        empty.then(|| self.clear(&link))
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

    /// Where an address leads to: its entry of level `to` (0 the lowest), or the one above that leads no further.
    fn walk(&self, address: u64, to: u32) -> Found {
        let (mut table, mut level, mut rights) = (self.root, 3u32, USER | WRITABLE);
        loop {
            let at = index(address, level);
            let entry = self.memory.read(table, at);
            rights &= entry;
            if level <= to || !is_link(entry) {
                return Found {
                    table,
                    at,
                    level,
                    entry,
                    rights,
                };
            }
            table = frame(entry);
            level = level.saturating_sub(1);
        }
    }

    /// The leaf of an address, if it has one of that level.
    fn leaf(&self, address: u64, level: u32) -> Option<Found> {
        let found = self.walk(address, 0);
        (found.level == level && found.entry & PRESENT != 0).then_some(found)
    }

    /// Clears an entry; returns the frame that it had.
    fn clear(&mut self, found: &Found) -> Pfn {
        self.memory.write(found.table, found.at, 0);
        frame(found.entry)
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

/// Whether an entry, above the lowest level, leads to another table.
fn is_link(entry: u64) -> bool {
    entry & (PRESENT | LARGE) == PRESENT
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
