//! The table checked against itself: for tests and for a debug command, not for the running machine.

use super::super::addr::Spfn;
use super::entry::State;
use super::{FrameTable, GlobalCounts, PartitionSlot, SlotCounts};

/// What the audit found. Each one is a mistake of the hypervisor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditError {
    /// The machine's counts differ from the entries.
    Global {
        /// Kept while running.
        kept: GlobalCounts,
        /// Found in the entries.
        found: GlobalCounts,
    },
    /// A partition's counts differ from the entries.
    Slot {
        /// The partition.
        slot: PartitionSlot,
        /// Kept while running.
        kept: SlotCounts,
        /// Found in the entries.
        found: SlotCounts,
    },
    /// A free list has another length than its count, or holds a frame that does not belong there.
    List {
        /// The partition.
        slot: PartitionSlot,
    },
    /// A frame's entry contradicts itself.
    Entry {
        /// The frame.
        frame: Spfn,
    },
}

impl FrameTable<'_> {
    /// Walks the whole table and compares it with the counts: free + hypervisor + partitions is all there is, each
    /// partition has what its counts say, and each free list holds exactly the available frames.
    ///
    /// # Errors
    ///
    /// The first [`AuditError`]
    pub fn audit(&mut self) -> Result<(), AuditError> {
        self.count_entries()?;
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let id = PartitionSlot(index as u16);
            if slot.counts != slot.audited {
                return Err(AuditError::Slot {
                    slot: id,
                    kept: slot.counts,
                    found: slot.audited,
                });
            }
            let available = slot.counts.available;
            let retired_most = self.entries.len() as u64;
            let retired = [State::RetiredPool, State::RetiredRam, State::RetiredReserve];
            let lists_hold = self.list_length(slot.available, id, available, &[State::Deposited]) == Some(available)
                // Detached lists are in somebody's hands, so this one may be shorter than the counts say.
                && self.list_length(slot.retired, id, retired_most, &retired).is_some();
            if !lists_hold {
                return Err(AuditError::List { slot: id });
            }
        }
        let reserve = self.global.reserve;
        match self.list_length(
            self.reserve,
            PartitionSlot::ROOT,
            reserve,
            &[State::Reserve],
        ) == Some(reserve)
        {
            true => Ok(()),
            false => Err(AuditError::List {
                slot: PartitionSlot::ROOT,
            }),
        }
    }

    fn count_entries(&mut self) -> Result<(), AuditError> {
        self.slots
            .iter_mut()
            .for_each(|slot| slot.audited = SlotCounts::default());
        let mut found = GlobalCounts::default();
        for (index, entry) in self.entries.iter().enumerate() {
            let wrong = AuditError::Entry {
                frame: Spfn(index as u64),
            };
            match entry.state() {
                State::NotRam => found.not_ram += 1,
                State::Root => found.root += 1,
                State::Hypervisor | State::RetiredReserve => found.hypervisor += 1,
                State::Reserve => found.reserve += 1,
                State::ChildRam if entry.number() == 0 => return Err(wrong),
                state => {
                    let slot = self
                        .slots
                        .get_mut(usize::from(entry.slot().0))
                        .ok_or(wrong)?;
                    *slot.audited.of(state) += 1;
                    found.partitions += 1;
                }
            }
        }
        let sum = found.not_ram + found.root + found.hypervisor + found.reserve + found.partitions;
        if found != self.global || sum != self.entries.len() as u64 {
            return Err(AuditError::Global {
                kept: self.global,
                found,
            });
        }
        Ok(())
    }

    /// Length of a list of at most `most` frames that all belong to `slot` and are in one of `states`.
    fn list_length(
        &self,
        list: super::List,
        slot: PartitionSlot,
        most: u64,
        states: &[State],
    ) -> Option<u64> {
        let (mut rest, mut length) = (list, 0);
        while let Some((index, next)) = self.pop(rest) {
            let entry = self.entries[index];
            if length == most || entry.slot() != slot || !states.contains(&entry.state()) {
                return None;
            }
            length += 1;
            rest = next;
        }
        Some(length)
    }
}
