//! Building page tables (AMD manual volume 2, 5.3, long-mode paging), over any memory that holds them.

use core::ops::Range;

use thiserror::Error;

use crate::{HUGE_PAGE, LARGE_PAGE, PAGE};

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// The address bits of an entry.
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// What may be done with a page. Writable and executable at once cannot be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights(u64);

impl Rights {
    /// Read only.
    pub const READ: Self = Self(NO_EXECUTE);
    /// Read and write.
    pub const READ_WRITE: Self = Self(WRITE | NO_EXECUTE);
    /// Read and execute.
    pub const READ_EXECUTE: Self = Self(0);
}

/// How a page is cached. The numbers are for the PAT as it is after reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Write-back: RAM.
    WriteBack,
    /// Uncached, whatever the MTRRs say: devices.
    Uncached,
}

/// A range of addresses to map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First virtual address, on a page.
    pub virt: u64,
    /// First guest physical address, on a page.
    pub gpa: u64,
    /// Length in bytes, whole pages.
    pub bytes: u64,
    /// What may be done with it.
    pub rights: Rights,
    /// How it is cached.
    pub cache: Cache,
}

impl Mapping {
    fn attributes(&self) -> u64 {
        let cache = match self.cache {
            Cache::WriteBack => 0,
            Cache::Uncached => WRITE_THROUGH | CACHE_DISABLE,
        };
        PRESENT | self.rights.0 | cache
    }

    /// An upper bound of the page tables it takes, the top level not counted.
    pub fn tables_needed(&self, huge_pages: bool) -> u64 {
        let spanned = |unit: u64| {
            let last = self.virt.saturating_add(self.bytes.saturating_sub(1));
            last / unit - self.virt / unit + 1
        };
        // A range with the same offset in both spaces is made of the largest pages, but for its two ends.
        let at_ends = |unit: u64| {
            if self.virt % unit == self.gpa % unit {
                spanned(unit).min(2)
            } else {
                spanned(unit)
            }
        };
        let directories = if huge_pages {
            at_ends(HUGE_PAGE)
        } else {
            spanned(HUGE_PAGE)
        };
        spanned(HUGE_PAGE * 512) + directories + at_ends(LARGE_PAGE)
    }
}

/// The memory that page tables are in.
pub trait TableMemory {
    /// Reads entry `index` (below 512) of the table at guest physical address `table`.
    fn load(&self, table: u64, index: usize) -> u64;
    /// Writes an entry.
    fn store(&mut self, table: u64, index: usize, entry: u64);
}

/// Why something cannot be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MapError {
    /// All memory set aside for tables is used.
    #[error(
        "the memory set aside for page tables is used up at {virt:#x}; this is a mistake in the loader"
    )]
    OutOfTables {
        /// Where.
        virt: u64,
    },
    /// Something else is mapped there.
    #[error(
        "two mappings meet at {virt:#x}; the root image must not overlap the direct map or the loader"
    )]
    Conflict {
        /// Where.
        virt: u64,
    },
    /// Addresses or length are not whole pages, or wrap.
    #[error("{bytes:#x} bytes at {virt:#x} cannot be mapped: they are not whole pages")]
    Unaligned {
        /// Where.
        virt: u64,
        /// Length.
        bytes: u64,
    },
}

/// A set of page tables being built from a pool of frames.
#[derive(Debug)]
pub struct Tables<M> {
    memory: M,
    top: u64,
    next: u64,
    end: u64,
    huge_pages: bool,
}

impl<M: TableMemory> Tables<M> {
    /// Starts with an empty top-level table in the first frame of `pool`. 1 GiB pages are used only if `huge_pages`.
    ///
    /// # Errors
    /// [`MapError::OutOfTables`] if the pool has no page.
    pub fn new(memory: M, pool: Range<u64>, huge_pages: bool) -> Result<Self, MapError> {
        let mut tables = Self {
            memory,
            top: 0,
            next: pool.start,
            end: pool.end,
            huge_pages,
        };
        tables.top = tables.new_table(0)?;
        Ok(tables)
    }

    /// Guest physical address of the top-level table, for CR3.
    pub fn top(&self) -> u64 {
        self.top
    }

    /// First frame of the pool that is not used.
    pub fn unused(&self) -> u64 {
        self.next
    }

    fn new_table(&mut self, virt: u64) -> Result<u64, MapError> {
        let table = self.next;
        let next = table.checked_add(PAGE).filter(|next| *next <= self.end);
        self.next = next.ok_or(MapError::OutOfTables { virt })?;
        (0..512).for_each(|index| self.memory.store(table, index, 0));
        Ok(table)
    }

    /// Maps a range with the largest pages that fit.
    ///
    /// # Errors
    /// [`MapError`]; part of the range may be mapped then.
    pub fn map(&mut self, mapping: &Mapping) -> Result<(), MapError> {
        let Mapping {
            mut virt,
            mut gpa,
            bytes,
            ..
        } = *mapping;
        let wraps =
            gpa.checked_add(bytes).is_none() || virt.checked_add(bytes.saturating_sub(1)).is_none();
        if wraps || (virt | gpa | bytes) % PAGE != 0 {
            return Err(MapError::Unaligned { virt, bytes });
        }
        let mut left = bytes;
        while left > 0 {
            let level = self.level_for(virt | gpa, left);
            self.map_page(virt, gpa, level, mapping.attributes())?;
            let size = page_size(level);
            // The last page may end at the end of the address space.
            virt = virt.wrapping_add(size);
            gpa = gpa.wrapping_add(size);
            left -= size;
        }
        Ok(())
    }

    /// The level (0 = page table) whose pages fit the alignment and the length.
    fn level_for(&self, alignment: u64, left: u64) -> u32 {
        let fits =
            |level: u32| alignment.is_multiple_of(page_size(level)) && page_size(level) <= left;
        match () {
            () if self.huge_pages && fits(2) => 2,
            () if fits(1) => 1,
            () => 0,
        }
    }

    fn map_page(
        &mut self,
        virt: u64,
        gpa: u64,
        level: u32,
        attributes: u64,
    ) -> Result<(), MapError> {
        let mut table = self.top;
        for above in (level + 1..4).rev() {
            let at = index(virt, above);
            let entry = self.memory.load(table, at);
            if entry & LARGE != 0 {
                return Err(MapError::Conflict { virt });
            }
            table = if entry & PRESENT != 0 {
                entry & ADDRESS
            } else {
                let new = self.new_table(virt)?;
                // Rights are restricted in the leaves alone.
                self.memory.store(table, at, new | PRESENT | WRITE);
                new
            };
        }
        let at = index(virt, level);
        if self.memory.load(table, at) & PRESENT != 0 {
            return Err(MapError::Conflict { virt });
        }
        let size_bit = if level == 0 { 0 } else { LARGE };
        self.memory.store(table, at, gpa | attributes | size_bit);
        Ok(())
    }
}

fn page_size(level: u32) -> u64 {
    PAGE << (9 * level)
}

fn index(virt: u64, level: u32) -> usize {
    (virt >> (12 + 9 * level)) as usize % 512
}
