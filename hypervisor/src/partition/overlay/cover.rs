//! Overlays in the second-level tables: what shows, and what lies below.

use tlfs::HvStatus;

use super::{Books, Covered, Overlay};
use crate::hv::Hypervisor;
use crate::mem::addr::Gpfn;
use crate::mem::format::{Leaf, LeafSize};
use crate::mem::frames::{FrameTable, Owner, PartitionSlot};
use crate::mem::page_box::Frame;
use crate::mem::table::{FrameSource, SecondLevelTable};
use crate::partition::memory::table_status;
use crate::partition::{Partition, PartitionState};

/// Tables from the pool or the reserve; what is covered still backs the partition.
struct OverlaySource<'a, 'm> {
    frames: &'a mut FrameTable<'m>,
    slot: PartitionSlot,
    books: &'a mut Books,
    /// Frames of the reserve that may be used.
    spare: usize,
}

impl OverlaySource<'_, '_> {
    /// Fills the reserve from the pool, as far as that has frames.
    fn fill_reserve(&mut self) {
        let wanted = self.books.pages.iter().flatten().count();
        while self.books.reserve.len() < wanted {
            let Some(frame) = self.frames.allocate(self.slot).ok().flatten() else {
                return;
            };
            // There is room for one each.
            let _ = self.books.reserve.try_push(frame);
        }
    }
}

impl FrameSource for OverlaySource<'_, '_> {
    fn allocate(&mut self) -> Option<Frame> {
        let pooled = self.frames.allocate(self.slot).ok().flatten();
        pooled.or_else(|| {
            self.spare = self.spare.checked_sub(1)?;
            self.books.reserve.pop()
        })
    }

    fn release(&mut self, frame: Frame) {
        let done = self.frames.retire(self.slot, frame);
        assert_eq!(done, Ok(()), "a table's frame is from its partition's pool");
    }
}

/// A covered frame backs the partition no more. It waits for the next shootdown like any other.
fn forget(hypervisor: &Hypervisor, slot: PartitionSlot, below: Leaf) {
    let Some(below) = below.frame else { return };
    let mut frames = hypervisor.frames.lock();
    if frames.owner(below) != Owner::NotRam {
        let done = frames.unback(slot, below, 1);
        assert_eq!(done, Ok(()), "a covered frame backs its partition");
    }
}

impl Hypervisor {
    /// Lays an overlay over a page of the child's addresses, wherever it was before: whether there is memory below is nothing to
    /// it, and that may come and go. The caller shoots down.
    ///
    /// # Errors
    /// INVALID_PARAMETER where the child can have no memory, INVALID_PARTITION_STATE if it has no such overlay, or is being ended,
    /// INSUFFICIENT_MEMORY if a large page cannot be cut, or tables are lacking. Nothing is changed then.
    pub fn place_overlay(
        &self,
        child: &mut Partition,
        overlay: Overlay,
        to: Gpfn,
    ) -> Result<(), HvStatus> {
        let from = child.overlays.place(overlay);
        if from == Some(to) {
            return Ok(());
        }
        if child.state != PartitionState::Active {
            return Err(HvStatus::INVALID_PARTITION_STATE);
        }
        // What there is nothing mapped at, for the local APICs, would be something with an overlay.
        if !child.can_have(to) {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        // The old place is only given up when the new one is certain.
        self.with_books(child, |table, source| {
            let number = usize::from(overlay.0);
            let page = source.books.pages.get_mut(number);
            let page = page.and_then(Option::as_mut);
            page.ok_or(HvStatus::INVALID_PARTITION_STATE)?.at = Some(to);
            let done = cover(table, source, to);
            if done.is_err()
                && let Some(page) = &mut source.books.pages[number]
            {
                page.at = from;
            }
            done
        })?;
        if let Some(from) = from {
            self.show(child, from);
        }
        Ok(())
    }

    /// Takes an overlay away. The caller shoots down.
    pub fn remove_overlay(&self, child: &mut Partition, overlay: Overlay) {
        let books = child.overlays.books.as_mut();
        let page = books.and_then(|books| books.pages[usize::from(overlay.0)].as_mut());
        if let Some(from) = page.and_then(|page| page.at.take()) {
            self.show(child, from);
        }
    }

    /// An overlay has left a page: the next one shows, or what lies below. Needs no memory, since the page has its own leaf.
    fn show(&self, child: &mut Partition, page: Gpfn) {
        let done = self.with_books(child, |table, source| {
            let of_page = |covered: &Covered| covered.page == page;
            let found = source.books.covered.iter().position(of_page);
            let Some(place) = found else { return Ok(()) };
            let mapped = match source.books.top(page) {
                Some((frame, rights)) => {
                    table.map(source, page, 1, Leaf::new(frame, rights), LeafSize::Size4K)
                }
                None => match source.books.covered.swap_remove(place).below {
                    Some(below) => table.map(source, page, 1, below, LeafSize::Size4K),
                    None => table.unmap(source, page, 1),
                },
            };
            mapped.map_err(|_| HvStatus::INSUFFICIENT_MEMORY)
        });
        debug_assert_eq!(done, Ok(()));
    }

    fn with_books(
        &self,
        child: &mut Partition,
        work: impl FnOnce(&mut SecondLevelTable, &mut OverlaySource<'_, '_>) -> Result<(), HvStatus>,
    ) -> Result<(), HvStatus> {
        let slot = child.slot;
        let (Some(table), Some(books)) =
            (child.memory.as_mut(), child.overlays.books.as_deref_mut())
        else {
            return Err(HvStatus::INVALID_PARTITION_STATE);
        };
        let done = {
            let mut frames = self.frames.lock();
            let mut source = OverlaySource {
                frames: &mut frames,
                slot,
                books,
                spare: usize::MAX,
            };
            source.fill_reserve();
            work(table, &mut source)
        };
        child.count_mappings();
        done
    }
}

/// Maps what shows at a page that has got an overlay, and remembers what is below.
fn cover(
    table: &mut SecondLevelTable,
    source: &mut OverlaySource<'_, '_>,
    to: Gpfn,
) -> Result<(), HvStatus> {
    let covered = source.books.covered.iter();
    if !covered.map(|covered| covered.page).any(|page| page == to) {
        let below = table.query(to).map(|found| Leaf {
            frame: found.frame_of(to),
            ..found.leaf
        });
        if below.is_none() {
            // Where nothing is mapped a guest can make several tables be needed: it may not use up what others cut large pages
            // with. Where other memory is near, which is where pages come and go, one is enough.
            source.spare = 1;
        }
        let added = source.books.covered.try_push(Covered { page: to, below });
        added.map_err(|_| HvStatus::INSUFFICIENT_MEMORY)?;
    }
    let Some((frame, rights)) = source.books.top(to) else {
        return Ok(());
    };
    let mapped = table.map(source, to, 1, Leaf::new(frame, rights), LeafSize::Size4K);
    mapped.map_err(|stopped| {
        // Only a page that had no leaf of its own can fail, so it was not covered before.
        let covered = source.books.covered.pop();
        if covered.is_some_and(|covered| covered.below.is_none()) {
            // Tables on the way to a leaf that did not come are empty: they go.
            let _ = table.unmap(source, to, 1);
        }
        table_status(stopped.error)
    })
}

impl Partition {
    /// The first covered page of a range.
    pub fn covered_in(&self, first: Gpfn, pages: u64) -> Option<Gpfn> {
        let books = self.overlays.books.as_ref()?;
        let last = first.0.saturating_add(pages);
        let covered = books.covered.iter().map(|covered| covered.page);
        covered
            .filter(|page| (first.0..last).contains(&page.0))
            .min()
    }

    /// Changes what lies below a covered page; what was there backs the partition no more.
    pub fn replace_covered(&mut self, hypervisor: &Hypervisor, page: Gpfn, new: Option<Leaf>) {
        let slot = self.slot;
        let books = self.overlays.books.as_mut();
        let mut covered = books.into_iter().flat_map(|books| &mut books.covered);
        if let Some(covered) = covered.find(|covered| covered.page == page)
            && let Some(old) = core::mem::replace(&mut covered.below, new)
        {
            forget(hypervisor, slot, old);
        }
    }
}
