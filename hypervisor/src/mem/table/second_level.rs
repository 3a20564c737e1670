//! The tables of a partition, in the format that was chosen at run time.
//!
//! The choice is made once for an operation and not for each entry, of which a large page has 512: what goes on for long
//! (`docs/architecture.md`, "Calls that take long") would go on for twice as long.

use super::{Found, FrameSource, Leaf, LeafCounts, LeafSize, PageTable, Stopped, TableError};
use crate::mem::addr::{Gpfn, Spfn};
use crate::mem::format::{Ept, Format as _, Npt, Rights, SecondLevel};
use crate::mem::mtrr::{Mtrrs, map_as_it_is};
use crate::mem::phys::PhysMap;

/// A tree of second-level tables.
#[derive(Debug)]
pub enum SecondLevelTable {
    /// AMD SVM's.
    Npt(PageTable<Npt, PhysMap>),
    /// Intel VMX's.
    Ept(PageTable<Ept, PhysMap>),
}

macro_rules! with {
    ($self:ident, $table:ident => $what:expr) => {
        match $self {
            Self::Npt($table) => $what,
            Self::Ept($table) => $what,
        }
    };
}

impl SecondLevelTable {
    /// As [`PageTable::new`].
    ///
    /// # Errors
    ///
    /// [`TableError::NoMemory`]
    pub fn new<S: FrameSource>(
        format: SecondLevel,
        phys: PhysMap,
        source: &mut S,
    ) -> Result<Self, TableError> {
        Ok(match format {
            SecondLevel::Npt(format) => Self::Npt(PageTable::new(format, phys, source)?),
            SecondLevel::Ept(format) => Self::Ept(PageTable::new(format, phys, source)?),
        })
    }

    /// The root table, for nCR3 or an EPT pointer.
    pub const fn root(&self) -> Spfn {
        with!(self, table => table.root())
    }

    /// Whether a leaf for 2 MiB, with an aligned frame, can be one.
    pub fn has_large(&self, leaf: Leaf) -> bool {
        with!(self, table => table.format().leaf(leaf, LeafSize::Size2M as u8).is_some())
    }

    /// As [`PageTable::counts`].
    pub const fn counts(&self) -> LeafCounts {
        with!(self, table => table.counts())
    }

    /// As [`PageTable::set_join`].
    pub const fn set_join(&mut self, join: bool) {
        with!(self, table => table.set_join(join));
    }

    /// As [`PageTable::covers`].
    pub fn covers(&self, page: Gpfn) -> bool {
        with!(self, table => table.covers(page))
    }

    /// As [`PageTable::query`].
    pub fn query(&self, page: Gpfn) -> Option<Found<Gpfn>> {
        with!(self, table => table.query(page))
    }

    /// As [`PageTable::map`].
    ///
    /// # Errors
    ///
    /// [`Stopped`]
    pub fn map<S: FrameSource>(
        &mut self,
        source: &mut S,
        first: Gpfn,
        pages: u64,
        leaf: Leaf,
        largest: LeafSize,
    ) -> Result<(), Stopped> {
        with!(self, table => table.map(source, first, pages, leaf, largest))
    }

    /// As [`map_as_it_is`].
    ///
    /// # Errors
    ///
    /// [`Stopped`]
    pub fn map_as_it_is<S: FrameSource>(
        &mut self,
        source: &mut S,
        types: Option<&Mtrrs>,
        frames: (Spfn, u64),
        rights: Rights,
    ) -> Result<(), Stopped> {
        with!(self, table => map_as_it_is(table, source, types, frames, rights))
    }

    /// As [`PageTable::unmap`].
    ///
    /// # Errors
    ///
    /// [`Stopped`]
    pub fn unmap<S: FrameSource>(
        &mut self,
        source: &mut S,
        first: Gpfn,
        pages: u64,
    ) -> Result<(), Stopped> {
        with!(self, table => table.unmap(source, first, pages))
    }

    /// As [`PageTable::free_some`].
    pub fn free_some<S: FrameSource>(&mut self, source: &mut S, budget: u64) -> bool {
        with!(self, table => table.free_some(source, budget))
    }

    /// As [`PageTable::release_root`].
    pub fn release_root<S: FrameSource>(self, source: &mut S) {
        with!(self, table => table.release_root(source));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::addr::Spa;
    use crate::mem::table::fake::{FakeSource, Hardware};
    use crate::mem::testing::TestMemory;

    #[test]
    fn tables_are_written_in_the_format_that_was_chosen() {
        let npt = SecondLevel::Npt(Npt::sample(LeafSize::Size2M));
        let ept = SecondLevel::Ept(Ept::sample(LeafSize::Size2M));
        // A table: present, writable, user, accessed; or read, write, execute, accessed.
        for (format, entry) in [(npt, 0x27), (ept, 0x107)] {
            let memory = TestMemory::new(2);
            let mut source = FakeSource::new(8);
            let mut table = SecondLevelTable::new(format, memory.phys(), &mut source).unwrap();
            let leaf = Leaf::new(Spfn(512), Rights::RWX);
            table
                .map(&mut source, Gpfn(0), 512, leaf, LeafSize::Size1G)
                .unwrap();
            let first = memory.phys().read_u64(table.root().address());
            assert_eq!(first.map(|entry| entry & 0xFFF), Ok(entry));
            assert_eq!(table.query(Gpfn(7)).unwrap().size, LeafSize::Size2M);
            table.unmap(&mut source, Gpfn(7), 1).unwrap();
            assert_eq!(table.query(Gpfn(7)), None);
            let root = Spa(table.root().address().0);
            while !table.free_some(&mut source, 100) {}
            assert_eq!(memory.phys().read_u64(root), Ok(0));
            table.release_root(&mut source);
            assert!(source.live.is_empty());
            assert_eq!(source.removed_pages().len(), 512);
        }
    }
}
