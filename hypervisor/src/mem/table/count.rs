//! How many leaves a tree has.

use super::{ENTRIES, LeafSize};

/// The leaves of a tree by their size, and how often some changed it. Those without a frame count as well.
///
/// They are not kept while the tree is [taken down](super::PageTable::free_some): nobody looks at them any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeafCounts {
    /// Of levels 1, 2 and 3.
    leaves: [u64; 3],
    /// Leaves that were split so far.
    pub split: u64,
    /// Tables of equal leaves that became one leaf so far.
    pub joined: u64,
}

impl LeafCounts {
    /// How many leaves have that size.
    pub const fn of(&self, size: LeafSize) -> u64 {
        let [small, large, huge] = self.leaves;
        match size {
            LeafSize::Size4K => small,
            LeafSize::Size2M => large,
            LeafSize::Size1G => huge,
        }
    }

    fn slot(&mut self, level: u8) -> Option<&mut u64> {
        self.leaves.get_mut(usize::from(level).wrapping_sub(1))
    }

    pub(super) fn add(&mut self, level: u8, count: u64) {
        if let Some(slot) = self.slot(level) {
            *slot = slot.wrapping_add(count);
        }
    }

    pub(super) fn remove(&mut self, level: u8, count: u64) {
        if let Some(slot) = self.slot(level) {
            *slot = slot.wrapping_sub(count);
        }
    }

    /// A leaf of `level` became a table of leaves.
    pub(super) fn note_split(&mut self, level: u8) {
        self.remove(level, 1);
        self.add(level - 1, ENTRIES);
        self.split = self.split.wrapping_add(1);
    }

    /// A table of leaves became a leaf of `level`.
    pub(super) fn note_join(&mut self, level: u8) {
        self.remove(level - 1, ENTRIES);
        self.add(level, 1);
        self.joined = self.joined.wrapping_add(1);
    }
}
