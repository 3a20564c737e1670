//! Root frames that back the memory of a child (root sheet A.4, "child RAM").

use super::super::addr::Spfn;
use super::entry::State;
use super::lists::List;
use super::{FrameEntry, FrameError, FrameTable, PartitionSlot};

impl FrameTable<'_> {
    /// Counts one more guest page of `slot` for each of `count` frames from `first` on; all or none. Before the
    /// translation is made. The frames must be the root's, or back this partition already.
    ///
    /// # Errors
    ///
    /// [`FrameError`]: any but `WrongState`.
    pub fn back(&mut self, slot: PartitionSlot, first: Spfn, count: u64) -> Result<(), FrameError> {
        self.slot(slot)?;
        let range = self.range(first, count)?;
        for &entry in &self.entries[range.clone()] {
            check_back(entry, slot)?;
        }
        let backing = FrameEntry::new(State::ChildRam, slot, 1);
        let mut taken = 0;
        for entry in &mut self.entries[range] {
            *entry = match entry.state() {
                State::ChildRam => entry.with_mapping(),
                _ => {
                    taken += 1;
                    backing
                }
            };
        }
        self.recount(FrameEntry::ROOT, backing, taken);
        Ok(())
    }

    /// Counts one guest page less for each of `count` frames, after the translation was removed from the page table.
    /// A frame that backs nothing any more retires: it is the root's after the shootdown. All or none.
    ///
    /// # Errors
    ///
    /// [`FrameError::NoSlot`], [`FrameError::NotRam`], [`FrameError::WrongState`]
    pub fn unback(
        &mut self,
        slot: PartitionSlot,
        first: Spfn,
        count: u64,
    ) -> Result<(), FrameError> {
        self.drop_mappings(slot, first, count, true)
    }

    /// [`FrameTable::unback`] of one frame, in fewer instructions: a large page that replaces small ones has 512 of them.
    ///
    /// # Errors
    ///
    /// As for [`FrameTable::unback`].
    pub fn unback_page(&mut self, slot: PartitionSlot, frame: Spfn) -> Result<(), FrameError> {
        let index = usize::try_from(frame.0).map_err(|_| FrameError::NotRam)?;
        let place = self.slots.get_mut(usize::from(slot.0));
        let place = place.ok_or(FrameError::NoSlot)?;
        let entry = self.entries.get_mut(index).ok_or(FrameError::NotRam)?;
        match entry.state() {
            State::ChildRam if entry.slot() == slot => {}
            State::NotRam => return Err(FrameError::NotRam),
            _ => return Err(FrameError::WrongState),
        }
        if entry.number() > 1 {
            *entry = entry.without_mapping();
            return Ok(());
        }
        *entry = FrameEntry::new(State::RetiredRam, slot, place.retired.0);
        place.retired = List(frame.0 + 1);
        // Both states are a partition's: no count of the machine changes.
        place.counts.child_ram -= 1;
        place.counts.retired_ram += 1;
        Ok(())
    }

    /// Undoes [`FrameTable::back`] for frames whose translation was never made: no shootdown is needed.
    ///
    /// # Errors
    ///
    /// As for [`FrameTable::unback`].
    pub fn cancel_back(
        &mut self,
        slot: PartitionSlot,
        first: Spfn,
        count: u64,
    ) -> Result<(), FrameError> {
        self.drop_mappings(slot, first, count, false)
    }

    fn drop_mappings(
        &mut self,
        slot: PartitionSlot,
        first: Spfn,
        count: u64,
        retire: bool,
    ) -> Result<(), FrameError> {
        let range = self.range(first, count)?;
        let backs = |entry: &FrameEntry| entry.state() == State::ChildRam && entry.slot() == slot;
        if !self.entries[range.clone()].iter().all(backs) {
            return Err(FrameError::WrongState);
        }
        let mut list = self.slot(slot)?.retired;
        let mut gone = 0;
        for (index, entry) in range.clone().zip(&mut self.entries[range]) {
            if entry.number() > 1 {
                *entry = entry.without_mapping();
                continue;
            }
            gone += 1;
            if retire {
                *entry = FrameEntry::new(State::RetiredRam, slot, list.0);
                list = List(index as u64 + 1);
            } else {
                *entry = FrameEntry::ROOT;
            }
        }
        self.slot_mut(slot)?.retired = list;
        let state = if retire {
            State::RetiredRam
        } else {
            State::Root
        };
        let backing = FrameEntry::new(State::ChildRam, slot, 1);
        self.recount(backing, FrameEntry::new(state, slot, 0), gone);
        Ok(())
    }
}

fn check_back(entry: FrameEntry, slot: PartitionSlot) -> Result<(), FrameError> {
    match entry.state() {
        State::Root => Ok(()),
        State::ChildRam if entry.slot() != slot => Err(FrameError::InUse),
        State::ChildRam if entry.number() == FrameEntry::MAX_NUMBER => {
            Err(FrameError::TooManyMappings)
        }
        State::ChildRam => Ok(()),
        State::NotRam => Err(FrameError::NotRam),
        State::RetiredRam => Err(FrameError::Retired),
        _ => Err(FrameError::InUse),
    }
}
