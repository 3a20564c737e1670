//! Who owns which frame of machine memory.
//!
//! Every 4 KiB frame has exactly one [`Owner`]. Every change is a checked transition of this table, so a frame cannot be
//! the root's and a pool's, or back two children, whatever the root asks for. The table never touches the frames
//! themselves: free lists are threaded through its own entries.
//!
//! Two transitions wait for the processors' TLBs. A frame whose translation was just removed may still be reached
//! through a stale TLB entry, so it is *retired* first ([`FrameTable::unback`], [`FrameTable::retire`]) and gets its next owner
//! only after the shootdown: detach the list ([`FrameTable::detach_retired`]), shoot down, give it to
//! [`FrameTable::reclaim`]. In the other direction, [`FrameTable::begin_deposit`] claims frames from the root, which then
//! loses its translations, and only after that shootdown [`FrameTable::finish_deposit`] puts them into the pool.
//!
//! The table has no lock of its own; it is one object behind one lock.

mod audit;
mod child;
mod entry;
mod lists;
#[cfg(test)]
mod model_tests;
mod pool;
mod source;
#[cfg(test)]
mod tests;

pub use audit::AuditError;
pub use entry::{FrameEntry, Owner, PartitionSlot, SharedAccess};
pub use lists::Retired;
pub use source::{ChildSource, ReserveSource, RootSource};

use super::addr::Spfn;
use entry::State;
use lists::List;

/// Why a transition was refused. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Not RAM, or no such frame. A hypercall answers OPERATION_DENIED.
    NotRam,
    /// The frame has another owner or use. A hypercall answers OBJECT_IN_USE.
    InUse,
    /// The frame waits for a TLB shootdown: finish the one under way (detach, shoot down, reclaim) and try again; else
    /// OBJECT_IN_USE.
    Retired,
    /// No such partition slot: a mistake of the hypervisor's.
    NoSlot,
    /// The frame is not in the state that this step starts from: a mistake of the hypervisor's.
    WrongState,
    /// More mappings of one frame than can be counted.
    TooManyMappings,
}

/// How many frames have which owner, for one partition slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotCounts {
    /// Deposited and unused.
    pub available: u64,
    /// Deposited and in use, without the shared ones.
    pub in_use: u64,
    /// Deposited, in use and shared back to the root.
    pub shared: u64,
    /// Root frames that back the partition's memory.
    pub child_ram: u64,
    /// Frames of the pool that wait for a shootdown before they are available again.
    pub retired_pool: u64,
    /// Root frames that backed memory and wait for a shootdown before the root may give them another use.
    pub retired_ram: u64,
}

impl SlotCounts {
    /// The pool's frames, used or not: what must be withdrawn before the partition can be forgotten.
    pub const fn pool(&self) -> u64 {
        self.available + self.in_use + self.shared + self.retired_pool
    }

    /// Every frame that is bound to the partition.
    pub const fn total(&self) -> u64 {
        self.pool() + self.child_ram + self.retired_ram
    }
}

/// How many frames have which owner, for the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GlobalCounts {
    /// No RAM.
    pub not_ram: u64,
    /// Free to the root.
    pub root: u64,
    /// The hypervisor's own, in use (or waiting for a shootdown before it is in reserve again).
    pub hypervisor: u64,
    /// The hypervisor's own, in reserve.
    pub reserve: u64,
    /// Bound to partitions: the sum of [`SlotCounts::total`].
    pub partitions: u64,
}

/// Bookkeeping of one partition slot.
#[derive(Debug, Default)]
pub struct Slot {
    counts: SlotCounts,
    available: List,
    retired: List,
    audited: SlotCounts,
}

/// The owner of every frame.
pub struct FrameTable<'m> {
    entries: &'m mut [FrameEntry],
    slots: &'m mut [Slot],
    global: GlobalCounts,
    reserve: List,
}

impl<'m> FrameTable<'m> {
    /// A table for frames 0 to `entries.len()` and partitions 0 (the root) to `slots.len()`; no frame is RAM yet.
    /// The boot code adds what there is by [`FrameTable::mark_root_ram`] and [`FrameTable::mark_hypervisor`].
    pub fn new(entries: &'m mut [FrameEntry], slots: &'m mut [Slot]) -> Self {
        entries.fill(FrameEntry::default());
        slots.fill_with(Slot::default);
        let global = GlobalCounts {
            not_ram: entries.len() as u64,
            ..GlobalCounts::default()
        };
        Self {
            entries,
            slots,
            global,
            reserve: List::default(),
        }
    }

    /// One past the last frame that the table knows.
    pub fn end(&self) -> Spfn {
        Spfn(self.entries.len() as u64)
    }

    /// A frame's owner. Frames beyond the table are not RAM.
    pub fn owner(&self, frame: Spfn) -> Owner {
        self.entry(frame)
            .map_or(Owner::NotRam, |entry| entry.owner())
    }

    /// Counts of the machine.
    pub fn global_counts(&self) -> GlobalCounts {
        self.global
    }

    /// Counts of one partition slot.
    ///
    /// # Errors
    ///
    /// [`FrameError::NoSlot`]
    pub fn slot_counts(&self, slot: PartitionSlot) -> Result<SlotCounts, FrameError> {
        Ok(self.slot(slot)?.counts)
    }

    /// Boot: `count` frames from `first` on are RAM and free to the root.
    ///
    /// # Errors
    ///
    /// [`FrameError::NotRam`] beyond the table; [`FrameError::InUse`] when one was marked before.
    pub fn mark_root_ram(&mut self, first: Spfn, count: u64) -> Result<(), FrameError> {
        self.mark(first, count, &[State::NotRam], State::Root)
    }

    /// Boot: `count` frames from `first` on are the hypervisor's own. They may have been marked as the root's before.
    ///
    /// # Errors
    ///
    /// As for [`FrameTable::mark_root_ram`].
    pub fn mark_hypervisor(&mut self, first: Spfn, count: u64) -> Result<(), FrameError> {
        self.mark(
            first,
            count,
            &[State::NotRam, State::Root],
            State::Hypervisor,
        )
    }

    fn mark(
        &mut self,
        first: Spfn,
        count: u64,
        from: &[State],
        to: State,
    ) -> Result<(), FrameError> {
        let range = self.range(first, count)?;
        if !self.entries[range.clone()]
            .iter()
            .all(|entry| from.contains(&entry.state()))
        {
            return Err(FrameError::InUse);
        }
        let new = FrameEntry::new(to, PartitionSlot::ROOT, 0);
        let mut not_ram = 0;
        for entry in &mut self.entries[range] {
            not_ram += u64::from(entry.state() == State::NotRam);
            *entry = new;
        }
        self.recount(FrameEntry::default(), new, not_ram);
        self.recount(FrameEntry::ROOT, new, count - not_ram);
        Ok(())
    }

    /// Indexes of a range of frames that lies in the table.
    fn range(&self, first: Spfn, count: u64) -> Result<core::ops::Range<usize>, FrameError> {
        match first.0.checked_add(count) {
            Some(end) if end <= self.entries.len() as u64 => Ok(first.0 as usize..end as usize),
            _ => Err(FrameError::NotRam),
        }
    }

    fn entry(&self, frame: Spfn) -> Option<FrameEntry> {
        self.entries.get(usize::try_from(frame.0).ok()?).copied()
    }

    fn slot(&self, slot: PartitionSlot) -> Result<&Slot, FrameError> {
        self.slots
            .get(usize::from(slot.0))
            .ok_or(FrameError::NoSlot)
    }

    fn slot_mut(&mut self, slot: PartitionSlot) -> Result<&mut Slot, FrameError> {
        self.slots
            .get_mut(usize::from(slot.0))
            .ok_or(FrameError::NoSlot)
    }

    /// Changes an entry and keeps the counts.
    fn set(&mut self, index: usize, new: FrameEntry) {
        let old = core::mem::replace(&mut self.entries[index], new);
        self.recount(old, new, 1);
    }

    /// Keeps the counts when `frames` entries like `old` became entries like `new`: once for a whole range, because it
    /// costs more than the entries do.
    fn recount(&mut self, old: FrameEntry, new: FrameEntry, frames: u64) {
        if frames == 0 {
            return;
        }
        *self.counter(old) -= frames;
        *self.counter(new) += frames;
        self.global.partitions -= if old.state().is_partition() {
            frames
        } else {
            0
        };
        self.global.partitions += if new.state().is_partition() {
            frames
        } else {
            0
        };
    }

    /// The counter that an entry is counted in, besides `partitions`.
    fn counter(&mut self, entry: FrameEntry) -> &mut u64 {
        match entry.state() {
            State::NotRam => &mut self.global.not_ram,
            State::Root => &mut self.global.root,
            State::Hypervisor | State::RetiredReserve => &mut self.global.hypervisor,
            State::Reserve => &mut self.global.reserve,
            // Entries name a slot only after `slot()` or `slot_mut()` has found it.
            state => self.slots[usize::from(entry.slot().0)].counts.of(state),
        }
    }
}
