//! Splitting and joining leaves, and tables that became empty. No translation changes by any of these.
//!
//! What goes through a whole table is kept out of line: inlined, its set-up costs every step of every walk.

use super::{
    ENTRIES, Entry, Format, FrameSource, Leaf, LeafSize, PageTable, TableError, TableMemory,
    entry_of, level_pages, release_table,
};
use crate::mem::addr::{Spa, Spfn};
use crate::mem::format::Rights;

impl<F: Format, M: TableMemory> PageTable<F, M> {
    /// Replaces a leaf of level 2 or 3 by a table of equal leaves, which keep its accessed and dirty bits.
    #[inline(never)]
    pub(super) fn split<S: FrameSource>(
        &self,
        source: &mut S,
        slot: Spa,
        level: u8,
    ) -> Result<Spfn, TableError> {
        let table = source.allocate().ok_or(TableError::NoMemory)?.into_spfn();
        let mut raw = self.memory.read(slot);
        loop {
            if let Entry::Leaf(leaf) = self.format.decode(raw, level) {
                self.fill(table, leaf, level - 1);
            }
            // The processor may have set the accessed or dirty bit meanwhile; then once more.
            match self
                .memory
                .compare_exchange(slot, raw, self.format.table(table))
            {
                found if found == raw => return Ok(table),
                found => raw = found,
            }
        }
    }

    fn fill(&self, table: Spfn, leaf: Leaf, level: u8) {
        for index in 0..ENTRIES {
            let piece = leaf.advanced(index * level_pages(level));
            let raw = self
                .format
                .leaf(piece, level)
                .expect("a format has the parts of each of its leaves");
            self.memory.write(entry_of(table, index), raw);
        }
    }

    /// Makes a leaf of `table`, which lies below an entry, if its 512 leaves are contiguous and equal.
    ///
    /// The processor may set dirty bits in the old table until the shootdown, where nobody sees them. So a writable leaf
    /// is born accessed and dirty. Who counts dirty pages one by one switches joining off.
    pub(super) fn join<S: FrameSource>(&self, source: &mut S, slot: Spa, level: u8, table: Spfn) {
        let Some(size) = LeafSize::of_level(level) else {
            return;
        };
        if !self.join || size > self.format.max_leaf() {
            return;
        }
        if let Some(raw) = self
            .joined(table, level)
            .and_then(|leaf| self.format.leaf(leaf, level))
        {
            self.replace(slot, level, raw);
            release_table(table, source);
        }
    }

    /// The leaf of `level` that a table below it amounts to. Fails fast on tables that are being filled in order.
    #[inline(never)]
    fn joined(&self, table: Spfn, level: u8) -> Option<Leaf> {
        let below = level - 1;
        let piece = |index| match self.read(entry_of(table, index), below) {
            Entry::Leaf(leaf) => Some(leaf),
            _ => None,
        };
        let first = piece(0)?;
        let fits = |index: u64, leaf: Leaf| {
            leaf.untouched() == first.untouched().advanced(index * level_pages(below))
        };
        if !fits(ENTRIES - 1, piece(ENTRIES - 1)?) {
            return None;
        }
        let mut joined = first;
        for index in 1..ENTRIES {
            let leaf = piece(index)?;
            if !fits(index, leaf) {
                return None;
            }
            joined.accessed |= leaf.accessed;
            joined.dirty |= leaf.dirty;
        }
        if joined.rights.contains(Rights::WRITE) {
            (joined.accessed, joined.dirty) = (true, true);
        }
        Some(joined)
    }

    /// Takes `table` away, which lies below an entry, if nothing is mapped in it.
    pub(super) fn drop_empty<S: FrameSource>(
        &self,
        source: &mut S,
        slot: Spa,
        level: u8,
        table: Spfn,
    ) {
        // Ranges are mostly removed in ascending order, so what is left is found soonest from the end.
        if (0..ENTRIES)
            .rev()
            .all(|index| self.read(entry_of(table, index), level - 1) == Entry::Empty)
        {
            self.replace(slot, level, 0);
            release_table(table, source);
        }
    }
}
