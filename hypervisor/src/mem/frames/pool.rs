//! Pools: deposit, withdraw, and what the hypervisor allocates from them (root sheet A.4).

use super::super::addr::Spfn;
use super::super::page_box::Frame;
use super::entry::State;
use super::{FrameEntry, FrameError, FrameTable, PartitionSlot, SharedAccess};

impl FrameTable<'_> {
    /// Whether each frame of a deposit is free to the root. A frame that is named twice is found by the deposit itself.
    ///
    /// # Errors
    ///
    /// [`FrameError::NoSlot`], [`FrameError::NotRam`], [`FrameError::InUse`], [`FrameError::Retired`]
    pub fn check_deposit(&self, slot: PartitionSlot, frames: &[Spfn]) -> Result<(), FrameError> {
        self.slot(slot)?;
        frames
            .iter()
            .try_for_each(|&frame| self.expect_root(frame).map(drop))
    }

    /// First step of a deposit: takes all `frames` from the root, or none. They count as in use, so that nobody
    /// allocates them while the root's translations go. Then comes [`FrameTable::finish_deposit`] or
    /// [`FrameTable::cancel_deposit`] with the same list.
    ///
    /// # Errors
    ///
    /// As for [`FrameTable::check_deposit`], and [`FrameError::InUse`] for a frame that is named twice.
    pub fn begin_deposit(
        &mut self,
        slot: PartitionSlot,
        frames: &[Spfn],
    ) -> Result<(), FrameError> {
        self.slot(slot)?;
        for (done, &frame) in frames.iter().enumerate() {
            match self.expect_root(frame) {
                Ok(index) => self.set(index, FrameEntry::new(State::InUse, slot, 0)),
                Err(error) => {
                    self.cancel_deposit(slot, &frames[..done])?;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Second step of a deposit, after the root's translations are gone from page tables and TLBs: the frames become
    /// available.
    ///
    /// # Errors
    ///
    /// [`FrameError::WrongState`] for a list other than the first step's.
    pub fn finish_deposit(
        &mut self,
        slot: PartitionSlot,
        frames: &[Spfn],
    ) -> Result<(), FrameError> {
        self.slot(slot)?;
        for &frame in frames {
            let index = self.expect(frame, State::InUse, slot)?;
            self.make_available(index, slot);
        }
        Ok(())
    }

    /// Undoes [`FrameTable::begin_deposit`].
    ///
    /// # Errors
    ///
    /// [`FrameError::WrongState`] for a list other than the first step's.
    pub fn cancel_deposit(
        &mut self,
        slot: PartitionSlot,
        frames: &[Spfn],
    ) -> Result<(), FrameError> {
        for &frame in frames {
            let index = self.expect(frame, State::InUse, slot)?;
            self.set(index, FrameEntry::ROOT);
        }
        Ok(())
    }

    /// Both steps at once, for frames that the root has no translation for. All or none.
    ///
    /// # Errors
    ///
    /// As for [`FrameTable::begin_deposit`].
    pub fn deposit(&mut self, slot: PartitionSlot, frames: &[Spfn]) -> Result<(), FrameError> {
        self.begin_deposit(slot, frames)?;
        self.finish_deposit(slot, frames)
    }

    /// Second step of a withdrawal, the first being [`FrameTable::allocate`]: the frame, which the caller has zeroed, and to
    /// which the root has its translation back, is the root's.
    ///
    /// # Errors
    ///
    /// [`FrameError::WrongState`] when it is not from this pool.
    pub fn finish_withdraw(
        &mut self,
        slot: PartitionSlot,
        frame: Frame,
    ) -> Result<Spfn, FrameError> {
        let index = self.expect(frame.spfn(), State::InUse, slot)?;
        self.set(index, FrameEntry::ROOT);
        Ok(Spfn(index as u64))
    }

    /// Both steps at once.
    #[cfg(test)]
    pub fn withdraw(&mut self, slot: PartitionSlot) -> Result<Option<Spfn>, FrameError> {
        let taken = self.allocate(slot)?;
        taken
            .map(|frame| self.finish_withdraw(slot, frame))
            .transpose()
    }

    /// Takes a frame out of a pool for the hypervisor's use, contents undefined. None: INSUFFICIENT_MEMORY.
    ///
    /// # Errors
    ///
    /// [`FrameError::NoSlot`]
    pub fn allocate(&mut self, slot: PartitionSlot) -> Result<Option<Frame>, FrameError> {
        let Some(index) = self.take(slot)? else {
            return Ok(None);
        };
        self.set(index, FrameEntry::new(State::InUse, slot, 0));
        Ok(Some(frame_at(index)))
    }

    fn take(&mut self, slot: PartitionSlot) -> Result<Option<usize>, FrameError> {
        let Some((index, rest)) = self.pop(self.slot(slot)?.available) else {
            return Ok(None);
        };
        self.slot_mut(slot)?.available = rest;
        Ok(Some(index))
    }

    /// Gives an allocated frame back to its pool.
    ///
    /// # Errors
    ///
    /// [`FrameError::WrongState`] when it is not from this pool, or still shared.
    pub fn release(&mut self, slot: PartitionSlot, frame: Frame) -> Result<(), FrameError> {
        let index = self.expect(frame.spfn(), State::InUse, slot)?;
        self.slot(slot)?;
        self.make_available(index, slot);
        Ok(())
    }

    /// As [`FrameTable::release`], but the frame waits for the next shootdown: for page tables.
    ///
    /// # Errors
    ///
    /// As for [`FrameTable::release`].
    pub fn retire(&mut self, slot: PartitionSlot, frame: Frame) -> Result<(), FrameError> {
        let index = self.expect(frame.spfn(), State::InUse, slot)?;
        self.slot(slot)?;
        self.make_retired(index, slot, State::RetiredPool);
        Ok(())
    }

    /// Marks an allocated frame as shared back to the root. The caller makes the translation.
    ///
    /// # Errors
    ///
    /// [`FrameError::WrongState`] when it is not in use by this partition, or shared already.
    pub fn share(
        &mut self,
        slot: PartitionSlot,
        frame: Spfn,
        access: SharedAccess,
    ) -> Result<(), FrameError> {
        let index = self.expect(frame, State::InUse, slot)?;
        self.set(index, FrameEntry::new(shared_state(access), slot, 0));
        Ok(())
    }

    /// Ends the sharing, after the root's translation is gone from page tables and TLBs.
    ///
    /// # Errors
    ///
    /// [`FrameError::WrongState`] when the frame is not shared by this partition.
    pub fn unshare(&mut self, slot: PartitionSlot, frame: Spfn) -> Result<(), FrameError> {
        let index = self
            .expect(frame, State::SharedReadOnly, slot)
            .or_else(|_| self.expect(frame, State::SharedReadWrite, slot))?;
        self.set(index, FrameEntry::new(State::InUse, slot, 0));
        Ok(())
    }

    /// Boot: puts `count` frames of the hypervisor's own into its reserve.
    ///
    /// # Errors
    ///
    /// [`FrameError::WrongState`] when one is not the hypervisor's.
    pub fn add_reserve(&mut self, first: Spfn, count: u64) -> Result<(), FrameError> {
        let range = self.range(first, count)?;
        if !self.entries[range.clone()]
            .iter()
            .all(|entry| entry.state() == State::Hypervisor)
        {
            return Err(FrameError::WrongState);
        }
        for index in range.rev() {
            self.make_reserve(index);
        }
        Ok(())
    }

    /// Takes a frame out of the hypervisor's reserve, contents undefined.
    pub fn allocate_reserve(&mut self) -> Option<Frame> {
        let (index, rest) = self.pop(self.reserve)?;
        self.reserve = rest;
        self.set(
            index,
            FrameEntry::new(State::Hypervisor, PartitionSlot::ROOT, 0),
        );
        Some(frame_at(index))
    }

    /// Gives a frame back to the hypervisor's reserve.
    ///
    /// # Errors
    ///
    /// [`FrameError::WrongState`] when it is not the hypervisor's.
    pub fn release_reserve(&mut self, frame: Frame) -> Result<(), FrameError> {
        let index = self.expect(frame.spfn(), State::Hypervisor, PartitionSlot::ROOT)?;
        self.make_reserve(index);
        Ok(())
    }

    /// As [`FrameTable::release_reserve`], but the frame waits for the root's next shootdown
    /// (`detach_retired(PartitionSlot::ROOT)`): for tables of the root's second-level translation.
    ///
    /// # Errors
    ///
    /// As for [`FrameTable::release_reserve`].
    pub fn retire_reserve(&mut self, frame: Frame) -> Result<(), FrameError> {
        let index = self.expect(frame.spfn(), State::Hypervisor, PartitionSlot::ROOT)?;
        self.slot(PartitionSlot::ROOT)?;
        self.make_retired(index, PartitionSlot::ROOT, State::RetiredReserve);
        Ok(())
    }
}

const fn shared_state(access: SharedAccess) -> State {
    match access {
        SharedAccess::ReadOnly => State::SharedReadOnly,
        SharedAccess::ReadWrite => State::SharedReadWrite,
    }
}

fn frame_at(index: usize) -> Frame {
    // SAFETY: the caller has just moved this frame from a free list to "in use": it is RAM that the root has no access
    // to, and it was in no other hands while it was in the list.
    unsafe { Frame::from_spfn(Spfn(index as u64)) }
}
