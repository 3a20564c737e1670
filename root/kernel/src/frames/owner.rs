//! Who a frame of memory belongs to, and the books about it.

use crate::addr::Pfn;

/// Number of owners: the root kernel (slot 0) and the processes.
pub const SLOTS: usize = 64;

/// One of the parties that own memory: slot 0 is the root kernel, the others are processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Slot(pub(super) u8);

impl Slot {
    /// The root kernel.
    pub const KERNEL: Self = Self(0);

    /// The slot of that number.
    pub fn new(index: usize) -> Option<Self> {
        (index < SLOTS).then_some(Self(index as u8))
    }

    /// Its number, below [`SLOTS`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What a frame is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Class {
    /// Not in use.
    #[default]
    Free = 0,
    /// The first megabyte: kept for starting processors, never handed out.
    Low = 1,
    /// Kernel image, and what the loader left: page tables, start info.
    Image = 2,
    /// The boot archive.
    Archive = 3,
    /// The frame table itself.
    FrameTable = 4,
    /// Kernel heap, kernel stacks, fixed pages of the kernel.
    Kernel = 5,
    /// Page tables of a process.
    PageTable = 6,
    /// Memory of a process.
    Process = 7,
    /// Memory of a process that backs its guest.
    GuestRam = 8,
    /// Given to the hypervisor, for a process's partition or (slot 0) for the root partition.
    Deposit = 9,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 10] = [
        Self::Free,
        Self::Low,
        Self::Image,
        Self::Archive,
        Self::FrameTable,
        Self::Kernel,
        Self::PageTable,
        Self::Process,
        Self::GuestRam,
        Self::Deposit,
    ];
}

/// Slot and class together: the tag of every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Owner {
    /// Who.
    pub slot: Slot,
    /// What for.
    pub class: Class,
}

impl Owner {
    /// Nobody.
    pub const FREE: Self = Self {
        slot: Slot::KERNEL,
        class: Class::Free,
    };
    /// The kernel's heap, stacks and pages.
    pub const KERNEL: Self = Self::kernel(Class::Kernel);

    /// A use by the kernel.
    pub const fn kernel(class: Class) -> Self {
        Self {
            slot: Slot::KERNEL,
            class,
        }
    }

    /// A use by that slot.
    pub const fn new(slot: Slot, class: Class) -> Self {
        Self { slot, class }
    }
}

/// Frames by owner. The sum over all owners never changes.
#[derive(Clone, Debug)]
pub struct Ledger {
    counts: [[u64; Class::ALL.len()]; SLOTS],
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            counts: [[0; Class::ALL.len()]; SLOTS],
        }
    }
}

impl Ledger {
    /// Frames of one owner.
    pub fn of(&self, owner: Owner) -> u64 {
        self.cell(owner).copied().unwrap_or_default()
    }

    /// Frames of one class, over all slots.
    pub fn class(&self, class: Class) -> u64 {
        self.counts
            .iter()
            .filter_map(|row| row.get(class as usize))
            .sum()
    }

    /// All frames that a slot owns.
    pub fn slot(&self, slot: Slot) -> u64 {
        let free = if slot == Slot::KERNEL {
            self.of(Owner::FREE)
        } else {
            0
        };
        self.counts
            .get(slot.index())
            .map_or(0, |row| row.iter().sum::<u64>().saturating_sub(free))
    }

    /// All frames.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    pub(super) fn enter(&mut self, owner: Owner, count: u64) {
        if let Some(cell) = self
            .counts
            .get_mut(owner.slot.index())
            .and_then(|row| row.get_mut(owner.class as usize))
        {
            *cell = cell.saturating_add(count);
        }
    }

    pub(super) fn transfer(&mut self, from: Owner, to: Owner, count: u64) {
        if let Some(cell) = self
            .counts
            .get_mut(from.slot.index())
            .and_then(|row| row.get_mut(from.class as usize))
        {
            *cell = cell.saturating_sub(count);
        }
        self.enter(to, count);
    }

    fn cell(&self, owner: Owner) -> Option<&u64> {
        self.counts
            .get(owner.slot.index())?
            .get(owner.class as usize)
    }
}

/// A frame is not what the caller says it is: a bug in the kernel, or a wrong answer of the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pfn:?} is not of {expected:?}")]
pub struct NotOwner {
    /// The frame.
    pub pfn: Pfn,
    /// Whose it was said to be.
    pub expected: Owner,
}
