//! Generations of translations, and who is in the guest with which.

use core::sync::atomic::{AtomicU64, Ordering};

use super::super::frames::PartitionSlot;

/// Bits of a generation in a mark.
const GENERATION_BITS: u32 = 48;
const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;

/// The translations of one partition.
#[derive(Debug)]
pub struct Domain {
    slot: PartitionSlot,
    /// 1 or more. At a million removals a second, 48 bits last for nine years.
    generation: AtomicU64,
}

impl Domain {
    /// The domain of the partition in `slot`, which is not the last one that a number could name. When the domain ends, no
    /// processor may run its VPs.
    pub const fn new(slot: PartitionSlot) -> Self {
        assert!(slot.0 != u16::MAX);
        Self {
            slot,
            generation: AtomicU64::new(1),
        }
    }

    /// After entries were removed or narrowed: makes VPs flush before they next enter, and tells which processors
    /// must leave the guest first. One shootdown serves any number of changes before it.
    #[must_use = "processors in the guest use the old translations until the shootdown is done"]
    pub fn shoot_down<'m>(&self, marks: &'m [CpuMark]) -> Shootdown<'m> {
        let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        Shootdown {
            marks,
            slot: self.slot,
            generation,
        }
    }

    /// Changes with every shootdown: what was found by walking the tables holds as long as it is the same.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// The last shootdown again.
    #[cfg(test)]
    pub(super) fn shootdown_again<'m>(&self, marks: &'m [CpuMark]) -> Shootdown<'m> {
        Shootdown {
            marks,
            slot: self.slot,
            generation: self.generation(),
        }
    }

    /// Undoes a new generation, for a test of the tests.
    #[cfg(test)]
    pub(super) fn forget_last_generation(&self) {
        self.generation.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What one processor is doing: in no guest, or in the guest of some domain with some generation. One for each
/// processor, in a slice that all of them read; a cache line each.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct CpuMark(AtomicU64);

impl CpuMark {
    /// A processor outside any guest.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Publishes that this processor is about to enter the guest; returns the generation to enter with.
    pub(super) fn publish(&self, domain: &Domain) -> u64 {
        let mut generation = domain.generation();
        loop {
            self.0
                .store(pack(domain.slot, generation), Ordering::SeqCst);
            match domain.generation() {
                now if now == generation => return generation,
                now => generation = now,
            }
        }
    }

    /// The processor has left the guest, or did not enter after all. First thing after an exit, before any lock.
    pub fn leave(&self) {
        self.0.store(0, Ordering::Release);
    }
}

const fn pack(slot: PartitionSlot, generation: u64) -> u64 {
    // Slot + 1 fits 16 bits, by `Domain::new`; 0 is "in no guest".
    (slot.0 as u64 + 1) << GENERATION_BITS | generation & GENERATION_MASK
}

/// A shootdown under way.
#[derive(Debug)]
#[must_use = "processors in the guest use the old translations until the shootdown is done"]
pub struct Shootdown<'m> {
    marks: &'m [CpuMark],
    slot: PartitionSlot,
    generation: u64,
}

impl Shootdown<'_> {
    /// Indexes of the processors that are in the guest with translations of the past. Each needs one kick. The caller's
    /// own is never among them.
    pub fn targets(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.marks.len()).filter(|&cpu| self.is_stale(cpu))
    }

    /// Whether every processor that had to has left the guest: the old translations are out of use for good. A processor
    /// that has entered again since does not count.
    pub fn is_done(&self) -> bool {
        self.targets().next().is_none()
    }

    fn is_stale(&self, cpu: usize) -> bool {
        let mark = self.marks[cpu].0.load(Ordering::SeqCst);
        mark >> GENERATION_BITS == pack(self.slot, 0) >> GENERATION_BITS
            && mark & GENERATION_MASK < self.generation
    }
}
