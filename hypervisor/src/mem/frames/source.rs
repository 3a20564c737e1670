//! Where page tables get their frames from, and what happens to the frames that they no longer map.

use super::super::page_box::Frame;
use super::super::table::{FrameSource, Leaf, LeafSize};
use super::{FrameError, FrameTable, Owner, PartitionSlot};

/// For a child's second-level table: tables from the child's pool; frames that are no longer mapped stop backing it.
/// Both retire: call [`FrameTable::detach_retired`] for the child, shoot down its domain, [`FrameTable::reclaim`].
pub struct ChildSource<'a, 'm> {
    /// The owners.
    pub frames: &'a mut FrameTable<'m>,
    /// The child.
    pub slot: PartitionSlot,
}

impl FrameSource for ChildSource<'_, '_> {
    fn allocate(&mut self) -> Option<Frame> {
        self.frames.allocate(self.slot).ok()?
    }

    fn release(&mut self, frame: Frame) {
        let done = self.frames.retire(self.slot, frame);
        assert_eq!(done, Ok(()), "a table's frame is from its partition's pool");
    }

    fn removed(&mut self, size: LeafSize, leaf: Leaf) {
        let Some(first) = leaf.frame else { return };
        let done = if size == LeafSize::Size4K {
            self.frames.unback_page(self.slot, first)
        } else if self.frames.owner(first) == Owner::NotRam {
            Err(FrameError::NotRam)
        } else {
            self.frames.unback(self.slot, first, size.pages())
        };
        // Device memory has no owner to tell.
        let told = matches!(done, Ok(()) | Err(FrameError::NotRam));
        assert!(told, "a mapped frame backs its partition: {done:?}");
    }
}

/// For the root's second-level table: tables from the hypervisor's reserve, so that a deposit, which splits the root's
/// leaves, never needs memory of the root's pool (root sheet A.4, "no retry"). They retire with the root's slot. What the
/// table maps is not counted.
///
/// A reserve of one frame for each 2 MiB of the root's address range that is RAM, one for each 1 GiB and one more is
/// always enough.
pub struct RootSource<'a, 'm>(pub &'a mut FrameTable<'m>);

impl FrameSource for RootSource<'_, '_> {
    fn allocate(&mut self) -> Option<Frame> {
        self.0.allocate_reserve()
    }

    fn release(&mut self, frame: Frame) {
        let done = self.0.retire_reserve(frame);
        assert_eq!(done, Ok(()), "a table's frame is from the reserve");
    }
}

/// For the hypervisor's own table: tables from its reserve, freed at once. The caller flushes before it allocates again.
pub struct ReserveSource<'a, 'm>(pub &'a mut FrameTable<'m>);

impl FrameSource for ReserveSource<'_, '_> {
    fn allocate(&mut self) -> Option<Frame> {
        self.0.allocate_reserve()
    }

    fn release(&mut self, frame: Frame) {
        let done = self.0.release_reserve(frame);
        assert_eq!(done, Ok(()), "a table's frame is from the reserve");
    }
}
