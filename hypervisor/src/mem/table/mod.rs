//! One page-table walker for every format.
//!
//! The processors walk the tables while they change. So every entry changes by one atomic store, a table is complete
//! before an entry leads to it, and at each moment every page has either its old or its new translation. What the
//! walker takes out of the tree (tables and frames) may still be in use by a processor that walks or has cached it: the
//! [`FrameSource`] gets it at once and must keep it away from others until the TLB shootdown.
//!
//! One mutator at a time (`&mut self`); the processor itself sets accessed and dirty bits at any time, so entries are
//! replaced by compare-and-exchange.
//!
//! | Operation | Table frames it needs |
//! |---|---|
//! | unmap or protect of whole leaves, remap of equal size | 0 |
//! | splitting a leaf | 1 per level: 4 KiB out of a 2 MiB leaf 1, out of a 1 GiB leaf 2 |
//! | map | at most 3 for each 1 GiB touched; a failure keeps what was done, so that a retry makes progress |

mod change;
mod count;
#[cfg(test)]
pub(super) mod fake;
#[cfg(test)]
mod limit_tests;
mod map;
mod memory;
#[cfg(test)]
mod model_tests;
mod query;
mod second_level;
mod shape;
mod teardown;
#[cfg(test)]
mod tests;

pub use super::format::{Leaf, LeafSize};
pub use count::LeafCounts;
pub use memory::TableMemory;
pub use query::{Found, Leaves};
pub use second_level::SecondLevelTable;

use super::addr::{PageNumber, Spa, Spfn};
use super::format::{Entry, Format, level_pages};
use super::page_box::Frame;

/// Entries of a table.
const ENTRIES: u64 = 512;
/// Level of the root table.
const ROOT_LEVEL: u8 = 4;

/// Where a table's frames come from, and where that goes which it no longer uses.
pub trait FrameSource {
    /// A frame for a table, contents undefined. None when there is none (INSUFFICIENT_MEMORY).
    fn allocate(&mut self) -> Option<Frame>;

    /// A frame that is no table any more. Processors may read it until the next shootdown is done.
    fn release(&mut self, frame: Frame);

    /// A leaf that was replaced or removed. Processors may use the translation until the next shootdown is done.
    fn removed(&mut self, size: LeafSize, leaf: Leaf) {
        let _ = (size, leaf);
    }
}

/// Why an operation stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// The source has no frame for a table.
    NoMemory,
    /// The range exceeds the address width, is not canonical, or wraps.
    OutOfRange,
    /// The format has no such leaf: rights, memory type, or a frame beyond the physical address width.
    Unsupported,
}

/// An operation on a range that stopped before its end. What it did stays done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// 4 KiB pages completed, from the start of the range.
    pub done: u64,
    /// Why it did not go on.
    pub error: TableError,
}

/// A tree of page tables.
#[derive(Debug)]
pub struct PageTable<F, M> {
    format: F,
    memory: M,
    root: Spfn,
    join: bool,
    counts: LeafCounts,
    /// How far [`PageTable::free_some`] has come.
    torn_down: u64,
}

impl<F: Format, M: TableMemory> PageTable<F, M> {
    /// An empty tree; its root table comes from `source`.
    ///
    /// # Errors
    ///
    /// [`TableError::NoMemory`]
    pub fn new<S: FrameSource>(format: F, memory: M, source: &mut S) -> Result<Self, TableError> {
        let root = new_table(memory, source)?;
        Ok(Self {
            format,
            memory,
            root,
            join: true,
            counts: LeafCounts::default(),
            torn_down: 0,
        })
    }

    /// The root table, for CR3 or nCR3.
    pub const fn root(&self) -> Spfn {
        self.root
    }

    /// The format.
    pub const fn format(&self) -> F {
        self.format
    }

    /// How many leaves there are.
    pub const fn counts(&self) -> LeafCounts {
        self.counts
    }

    /// Whether full tables of equal leaves become large leaves again (they do from the start). Off while pages are
    /// tracked one by one.
    pub const fn set_join(&mut self, join: bool) {
        self.join = join;
    }

    fn read(&self, slot: Spa, level: u8) -> Entry {
        self.format.decode(self.memory.read(slot), level)
    }

    /// Replaces an entry and returns what it was, with the accessed and dirty bits of the last moment.
    fn replace(&self, slot: Spa, level: u8, new: u64) -> Entry {
        let mut old = self.memory.read(slot);
        loop {
            match self.memory.compare_exchange(slot, old, new) {
                found if found == old => return self.format.decode(old, level),
                found => old = found,
            }
        }
    }

    /// One past the last page of `pages` pages from `first` on, if all can be translated.
    fn end_of(&self, first: F::Page, pages: u64) -> Result<u64, TableError> {
        let first = first.number();
        match first.checked_add(pages) {
            Some(end) if pages == 0 || self.format.covers(first, end - 1) => Ok(end),
            _ => Err(TableError::OutOfRange),
        }
    }
}

/// Address of an entry.
const fn entry_of(table: Spfn, index: u64) -> Spa {
    Spa(table.address().0 + 8 * index)
}

/// Address of the entry for `page` in a table of `level`.
const fn slot_of(table: Spfn, page: u64, level: u8) -> Spa {
    entry_of(table, page / level_pages(level) % ENTRIES)
}

/// The first page after the entry of `level` that covers `page`.
const fn next_entry(page: u64, level: u8) -> u64 {
    (page / level_pages(level) + 1) * level_pages(level)
}

/// Whether `page` is the first page of a table of `level`, or lies after the last one: the walk leaves the table.
const fn starts_table(page: u64, level: u8) -> bool {
    page.is_multiple_of(level_pages(level) * ENTRIES)
}

fn new_table<M: TableMemory, S: FrameSource>(
    memory: M,
    source: &mut S,
) -> Result<Spfn, TableError> {
    let table = source.allocate().ok_or(TableError::NoMemory)?.into_spfn();
    memory.zero(table);
    Ok(table)
}

/// Gives a table that no entry leads to any more back to its source.
fn release_table<S: FrameSource>(table: Spfn, source: &mut S) {
    // SAFETY: the tree owned this table: its Frame was dissolved in `new_table`, and the only link to it is gone.
    source.release(unsafe { Frame::from_spfn(table) });
}
