//! Lists of frames that are threaded through the table's entries.

use super::super::addr::Spfn;
use super::entry::State;
use super::{FrameEntry, FrameError, FrameTable, PartitionSlot};

/// Head of a list: index + 1 of its first frame, 0 if it is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct List(pub(super) u64);

/// Frames of one partition that wait for a shootdown. Must go to [`FrameTable::reclaim`] after it.
#[derive(Debug)]
#[must_use = "frames stay retired until they are reclaimed"]
pub struct Retired {
    slot: PartitionSlot,
    list: List,
}

impl Retired {
    /// Whether nothing waits (then no shootdown is needed for the frames' sake).
    pub const fn is_empty(&self) -> bool {
        self.list.0 == 0
    }
}

impl FrameTable<'_> {
    /// Gives a frame a state that is kept in a list, and pushes it there.
    pub(super) fn push(
        &mut self,
        list: List,
        index: usize,
        state: State,
        slot: PartitionSlot,
    ) -> List {
        self.set(index, FrameEntry::new(state, slot, list.0));
        List(index as u64 + 1)
    }

    /// First frame of a list and the rest of it.
    pub(super) fn pop(&self, list: List) -> Option<(usize, List)> {
        let index = list.0.checked_sub(1)? as usize;
        Some((index, List(self.entries[index].number())))
    }

    /// Takes a partition's retired frames off, so that frames that retire from now on wait for a later shootdown. Call
    /// it *before* the shootdown.
    ///
    /// # Errors
    ///
    /// [`FrameError::NoSlot`]
    pub fn detach_retired(&mut self, slot: PartitionSlot) -> Result<Retired, FrameError> {
        let list = core::mem::take(&mut self.slot_mut(slot)?.retired);
        Ok(Retired { slot, list })
    }

    /// After the shootdown: frames of the pool are available again, frames that backed memory are the root's,
    /// and frames of the hypervisor's reserve go back there.
    /// Handles at most `budget` frames and returns what is left. About 30 instructions a frame.
    pub fn reclaim(&mut self, retired: Retired, budget: usize) -> Option<Retired> {
        let Retired { slot, mut list } = retired;
        let mut ram = 0;
        for _ in 0..budget {
            let Some((index, rest)) = self.pop(list) else {
                break;
            };
            list = rest;
            match self.entries[index].state() {
                State::RetiredPool => self.make_available(index, slot),
                State::RetiredReserve => self.make_reserve(index),
                _ => {
                    self.entries[index] = FrameEntry::ROOT;
                    ram += 1;
                }
            }
        }
        self.recount(
            FrameEntry::new(State::RetiredRam, slot, 0),
            FrameEntry::ROOT,
            ram,
        );
        (list.0 != 0).then_some(Retired { slot, list })
    }

    /// Pushes a frame of a slot that exists to its pool.
    pub(super) fn make_available(&mut self, index: usize, slot: PartitionSlot) {
        let list = self.slots[usize::from(slot.0)].available;
        let list = self.push(list, index, State::Deposited, slot);
        self.slots[usize::from(slot.0)].available = list;
    }

    /// Pushes a frame to the hypervisor's reserve.
    pub(super) fn make_reserve(&mut self, index: usize) {
        self.reserve = self.push(self.reserve, index, State::Reserve, PartitionSlot::ROOT);
    }

    /// Pushes a frame of a slot that exists to its retired frames.
    pub(super) fn make_retired(&mut self, index: usize, slot: PartitionSlot, state: State) {
        let list = self.slots[usize::from(slot.0)].retired;
        let list = self.push(list, index, state, slot);
        self.slots[usize::from(slot.0)].retired = list;
    }

    /// The entry of a frame that must be in `state` and belong to `slot`, and its index.
    pub(super) fn expect(
        &self,
        frame: Spfn,
        state: State,
        slot: PartitionSlot,
    ) -> Result<usize, FrameError> {
        match self.entry(frame) {
            Some(entry) if entry.state() == state && entry.slot() == slot => Ok(frame.0 as usize),
            Some(_) => Err(FrameError::WrongState),
            None => Err(FrameError::NotRam),
        }
    }

    /// The index of a frame that must be free to the root.
    pub(super) fn expect_root(&self, frame: Spfn) -> Result<usize, FrameError> {
        match self.entry(frame).map(FrameEntry::state) {
            Some(State::Root) => Ok(frame.0 as usize),
            Some(State::NotRam) | None => Err(FrameError::NotRam),
            Some(State::RetiredRam) => Err(FrameError::Retired),
            Some(_) => Err(FrameError::InUse),
        }
    }
}
