//! Taking a whole tree down, in steps.

use super::map::size_at;
use super::{
    Entry, Format, FrameSource, PageTable, ROOT_LEVEL, TableMemory, level_pages, next_entry,
    release_table, slot_of, starts_table,
};
use crate::mem::addr::Spfn;

/// All pages that a root table covers.
const ALL: u64 = level_pages(ROOT_LEVEL) * super::ENTRIES;

impl<F: Format, M: TableMemory> PageTable<F, M> {
    /// Removes everything, a step at a time: about `budget` entries are visited, where a leaf counts as many as it has
    /// 4 KiB pages (its frames have owners to be told), so one call takes some 20 instructions for each of them, and one
    /// leaf at least is done. Returns whether only the empty root table is left; [`PageTable::release_root`] ends it.
    /// Nothing may be mapped between the steps.
    pub fn free_some<S: FrameSource>(&mut self, source: &mut S, budget: u64) -> bool {
        let mut budget = budget.max(1);
        let mut page = self.torn_down;
        let done =
            page >= ALL || self.free_table(source, &mut page, &mut budget, self.root, ROOT_LEVEL);
        self.torn_down = if done { ALL } else { page };
        done
    }

    /// Frees what lies in a table from `page` on. Returns whether its end was reached.
    fn free_table<S: FrameSource>(
        &self,
        source: &mut S,
        page: &mut u64,
        budget: &mut u64,
        table: Spfn,
        level: u8,
    ) -> bool {
        loop {
            if *budget == 0 {
                return false;
            }
            let slot = slot_of(table, *page, level);
            match self.read(slot, level) {
                Entry::Empty => {
                    *budget -= 1;
                    *page = next_entry(*page, level);
                }
                Entry::Leaf(_) => {
                    if let Entry::Leaf(leaf) = self.replace(slot, level, 0) {
                        source.removed(size_at(level), leaf);
                    }
                    *budget = budget.saturating_sub(level_pages(level));
                    *page = next_entry(*page, level);
                }
                Entry::Table(child) => {
                    // Where this child ends, `page` is already at the next entry.
                    if !self.free_table(source, page, budget, child, level - 1) {
                        return false;
                    }
                    self.replace(slot, level, 0);
                    release_table(child, source);
                }
            }
            if starts_table(*page, level) {
                return true;
            }
        }
    }

    /// Gives the root table back. What is still mapped stays in no tree: only after [`PageTable::free_some`] is done.
    pub fn release_root<S: FrameSource>(self, source: &mut S) {
        debug_assert_eq!(self.torn_down, ALL, "tables would be lost");
        release_table(self.root, source);
    }
}
