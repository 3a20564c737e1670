//! One frame's entry: 8 bytes.

use super::SlotCounts;

/// Index of a partition in the hypervisor's partition table. 0 is the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PartitionSlot(pub u16);

impl PartitionSlot {
    /// The root partition.
    pub const ROOT: Self = Self(0);
}

/// What the root may do with a frame that is shared back to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedAccess {
    /// Stats pages.
    ReadOnly,
    /// State pages of a VP.
    ReadWrite,
}

/// Who owns a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Not RAM, or not known: devices, firmware.
    NotRam,
    /// The root's, for any use.
    Root,
    /// The hypervisor's own, in use or in reserve.
    Hypervisor,
    /// In a partition's pool, unused.
    Deposited(PartitionSlot),
    /// From a partition's pool, in use by the hypervisor.
    InUse(PartitionSlot),
    /// From a partition's pool, in use, and mapped by the root.
    Shared(PartitionSlot, SharedAccess),
    /// The root's, backing a partition's memory at `mappings` guest pages.
    ChildRam {
        /// The partition.
        slot: PartitionSlot,
        /// Guest pages that it backs, at least 1.
        mappings: u64,
    },
    /// Waits for a shootdown, then is available in the partition's pool.
    RetiredPool(PartitionSlot),
    /// Waits for a shootdown, then is the root's.
    RetiredRam(PartitionSlot),
}

/// State as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    NotRam = 0,
    Root = 1,
    Hypervisor = 2,
    Reserve = 3,
    Deposited = 4,
    InUse = 5,
    SharedReadOnly = 6,
    SharedReadWrite = 7,
    ChildRam = 8,
    RetiredPool = 9,
    RetiredRam = 10,
    RetiredReserve = 11,
}

impl State {
    pub(super) const fn is_partition(self) -> bool {
        !matches!(
            self,
            Self::NotRam | Self::Root | Self::Hypervisor | Self::Reserve | Self::RetiredReserve
        )
    }
}

impl SlotCounts {
    /// The counter of a state that is bound to a partition (of `InUse`, for one that is not).
    pub(super) fn of(&mut self, state: State) -> &mut u64 {
        match state {
            State::Deposited => &mut self.available,
            State::SharedReadOnly | State::SharedReadWrite => &mut self.shared,
            State::ChildRam => &mut self.child_ram,
            State::RetiredPool => &mut self.retired_pool,
            State::RetiredRam => &mut self.retired_ram,
            _ => &mut self.in_use,
        }
    }
}

/// State, partition and one number of a frame: 3:0 state, 19:4 slot, 63:20 link or mapping count. All zeros is "not RAM".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct FrameEntry(u64);

impl FrameEntry {
    /// Free to the root.
    pub(super) const ROOT: Self = Self::new(State::Root, PartitionSlot::ROOT, 0);
    /// Largest number in an entry.
    pub(super) const MAX_NUMBER: u64 = (1 << 44) - 1;

    pub(super) const fn new(state: State, slot: PartitionSlot, number: u64) -> Self {
        debug_assert!(number <= Self::MAX_NUMBER);
        Self(number << 20 | (slot.0 as u64) << 4 | state as u64)
    }

    pub(super) const fn state(self) -> State {
        match self.0 & 0xF {
            1 => State::Root,
            2 => State::Hypervisor,
            3 => State::Reserve,
            4 => State::Deposited,
            5 => State::InUse,
            6 => State::SharedReadOnly,
            7 => State::SharedReadWrite,
            8 => State::ChildRam,
            9 => State::RetiredPool,
            10 => State::RetiredRam,
            11 => State::RetiredReserve,
            _ => State::NotRam,
        }
    }

    pub(super) const fn slot(self) -> PartitionSlot {
        PartitionSlot((self.0 >> 4) as u16)
    }

    /// Mapping count of child RAM; index + 1 of the next frame of a list, 0 at its end; else 0.
    pub(super) const fn number(self) -> u64 {
        self.0 >> 20
    }

    /// Child RAM with one mapping more.
    pub(super) const fn with_mapping(self) -> Self {
        Self::new(State::ChildRam, self.slot(), self.number() + 1)
    }

    /// Child RAM with one mapping less.
    pub(super) const fn without_mapping(self) -> Self {
        Self::new(State::ChildRam, self.slot(), self.number() - 1)
    }

    pub(super) fn owner(self) -> Owner {
        let slot = self.slot();
        match self.state() {
            State::NotRam => Owner::NotRam,
            State::Root => Owner::Root,
            State::Hypervisor | State::Reserve | State::RetiredReserve => Owner::Hypervisor,
            State::Deposited => Owner::Deposited(slot),
            State::InUse => Owner::InUse(slot),
            State::SharedReadOnly => Owner::Shared(slot, SharedAccess::ReadOnly),
            State::SharedReadWrite => Owner::Shared(slot, SharedAccess::ReadWrite),
            State::ChildRam => Owner::ChildRam {
                slot,
                mappings: self.number(),
            },
            State::RetiredPool => Owner::RetiredPool(slot),
            State::RetiredRam => Owner::RetiredRam(slot),
        }
    }
}
