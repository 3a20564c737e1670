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
        &mut self,
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
                found if found == raw => {
                    self.counts.note_split(level);
                    return Ok(table);
                }
                found => raw = found,
            }
        }
    }

    fn fill(&self, table: Spfn, leaf: Leaf, level: u8) {
        let (mut raw, step) = self
            .pieces(leaf, level)
            .expect("a format has the parts of each of its leaves");
        for index in 0..ENTRIES {
            self.memory.write(entry_of(table, index), raw);
            raw = raw.wrapping_add(step);
        }
    }

    /// The entry of `level` for a leaf, and what is added for each that follows it: the frame is a field of an entry.
    fn pieces(&self, leaf: Leaf, level: u8) -> Option<(u64, u64)> {
        let first = self.format.leaf(leaf, level)?;
        let second = self.format.leaf(leaf.advanced(level_pages(level)), level)?;
        Some((first, second.wrapping_sub(first)))
    }

    /// Makes a leaf of `table`, which lies below an entry, if its 512 leaves are contiguous and equal.
    ///
    /// The processor may set dirty bits in the old table until the shootdown, where nobody sees them. So a writable leaf
    /// is born accessed and dirty. Who counts dirty pages one by one switches joining off.
    pub(super) fn join<S: FrameSource>(
        &mut self,
        source: &mut S,
        slot: Spa,
        level: u8,
        table: Spfn,
    ) {
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
            self.counts.note_join(level);
            release_table(table, source);
        }
    }

    /// The leaf of `level` that a table below it amounts to. Fails fast on tables that are being filled in order.
    #[inline(never)]
    fn joined(&self, table: Spfn, level: u8) -> Option<Leaf> {
        let below = level - 1;
        let Entry::Leaf(first) = self.read(entry_of(table, 0), below) else {
            return None;
        };
        // Some formats have no such leaf at all.
        self.format.leaf(first.untouched(), level)?;
        let (plain, step) = self.pieces(first.untouched(), below)?;
        let touched = Leaf {
            accessed: true,
            dirty: true,
            ..first
        };
        let marks = self.format.leaf(touched, below)? ^ plain;
        let raw = |index| self.memory.read(entry_of(table, index));
        let fits = |index: u64, raw: u64| raw & !marks == plain.wrapping_add(index * step);
        if !fits(ENTRIES - 1, raw(ENTRIES - 1)) {
            return None;
        }
        let mut all = plain;
        for index in 0..ENTRIES {
            let raw = raw(index);
            if !fits(index, raw) {
                return None;
            }
            all |= raw & marks;
        }
        let Entry::Leaf(mut joined) = self.format.decode(all, below) else {
            return None;
        };
        if joined.rights.contains(Rights::WRITE) {
            (joined.accessed, joined.dirty) = (true, true);
        }
        Some(joined)
    }

    /// Takes `table` away, which lies below an entry, if nothing is mapped in it. Says whether it did.
    pub(super) fn drop_empty<S: FrameSource>(
        &self,
        source: &mut S,
        slot: Spa,
        level: u8,
        table: Spfn,
    ) -> bool {
        // Ranges are mostly removed in ascending order, so what is left is found soonest from the end.
        let empty = (0..ENTRIES)
            .rev()
            .map(|index| self.memory.read(entry_of(table, index)))
            .all(|raw| raw == 0 || self.format.decode(raw, level - 1) == Entry::Empty);
        if empty {
            self.replace(slot, level, 0);
            release_table(table, source);
        }
        empty
    }
}
