//! Answers that a VP got to CPUID.
//!
//! Finding an answer takes the partition's lock, its lists, and the processor's own CPUID, which under another
//! hypervisor is an exit to that one: far more than the rest of the exit. Guests ask the same few leaves again and again.

use core::sync::atomic::{AtomicU64, Ordering};

use super::Vp;
use crate::arch::cpuid::CpuidResult;
use crate::arch::state::cr4;

/// Says when something of a partition may have changed that an answer depends on.
#[derive(Debug)]
pub struct Changes(AtomicU64);

impl Changes {
    /// Nothing has changed yet.
    pub const fn new() -> Self {
        Self(AtomicU64::new(1))
    }

    /// Something may change now, or has. Called with the partition locked.
    pub fn note(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    /// The number of changes, never 0: ask before the partition is looked at.
    #[inline]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self::new()
    }
}

/// What an answer depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Key {
    leaf: u32,
    subleaf: u32,
    /// Of the partition; 0 if nothing is known.
    changes: u64,
    /// The bits of CR4 that CPUID shows.
    cr4: u64,
}

/// Answers that are kept.
const PLACES: usize = 8;
/// The leaf that depends on XCR0, which a guest changes without an exit.
const XSAVE: u32 = 0xD;

/// The last answers that a VP got: each leaf has one place, so that looking is a comparison.
#[derive(Clone, Debug, Default)]
pub struct CpuidCache([(Key, CpuidResult); PLACES]);

impl CpuidCache {
    /// The answer to CPUID `leaf`, `subleaf`, if it is known and nothing has changed since.
    #[inline(always)]
    pub fn find(vp: &Vp, changes: u64, leaf: u32, subleaf: u32) -> Option<CpuidResult> {
        let (known, answer) = &vp.cpuid.0[leaf as usize % PLACES];
        (*known == key(vp, changes, leaf, subleaf)).then_some(*answer)
    }

    /// Keeps an answer that nobody else wants to give, found after `changes` were counted.
    pub fn keep(vp: &mut Vp, changes: u64, leaf: u32, subleaf: u32, answer: CpuidResult) {
        if leaf != XSAVE {
            let key = key(vp, changes, leaf, subleaf);
            vp.cpuid.0[leaf as usize % PLACES] = (key, answer);
        }
    }
}

#[inline(always)]
fn key(vp: &Vp, changes: u64, leaf: u32, subleaf: u32) -> Key {
    Key {
        leaf,
        subleaf,
        changes,
        cr4: vp.hw.cr4() & (cr4::OSXSAVE | cr4::PKE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hv::testing::Machine;
    use crate::partition::table::{PartitionGuard, slot_of};

    const ANSWER: CpuidResult = CpuidResult {
        eax: 1,
        ebx: 2,
        ecx: 3,
        edx: 4,
    };

    #[test]
    fn an_answer_is_known_for_its_leaf_and_subleaf() {
        for mut machine in Machine::each() {
            let (id, _) = machine.child_with_vp();
            machine.with_vp(id, 0, |_, vp| {
                let changes = vp.home.changes.count();
                assert_eq!(CpuidCache::find(vp, changes, 0, 0), None, "nothing yet");
                CpuidCache::keep(vp, changes, 7, 0, ANSWER);
                assert_eq!(CpuidCache::find(vp, changes, 7, 0), Some(ANSWER));
                assert_eq!(CpuidCache::find(vp, changes, 7, 1), None);
                // The same place.
                assert_eq!(CpuidCache::find(vp, changes, 15, 0), None);
            });
        }
    }

    #[test]
    fn an_answer_goes_when_its_partition_may_have_changed() {
        for mut machine in Machine::each() {
            let (id, _) = machine.child_with_vp();
            machine.with_vp(id, 0, |_, vp| {
                let changes = vp.home.changes.count();
                CpuidCache::keep(vp, changes, 1, 0, ANSWER);
            });
            let home = machine.partitions.entry(slot_of(id).unwrap());
            let found = |machine: &Machine| {
                let changes = home.changes.count();
                machine.with_vp(id, 0, |_, vp| CpuidCache::find(vp, changes, 1, 0))
            };
            assert!(PartitionGuard::lock(home).is_some_and(|partition| partition.vp_count > 0));
            assert_eq!(found(&machine), Some(ANSWER), "only looked at");
            PartitionGuard::lock(home).unwrap().vp_count += 1;
            assert_eq!(found(&machine), None);
        }
    }

    #[test]
    fn an_answer_goes_with_the_bits_of_cr4_that_it_shows() {
        for mut machine in Machine::each() {
            let (id, _) = machine.child_with_vp();
            machine.with_vp(id, 0, |_, vp| {
                CpuidCache::keep(vp, 1, 1, 0, ANSWER);
                vp.hw.set_cr4(vp.hw.cr4() | cr4::OSXSAVE);
                assert_eq!(CpuidCache::find(vp, 1, 1, 0), None);
            });
        }
    }

    #[test]
    fn what_follows_xcr0_is_never_kept() {
        for mut machine in Machine::each() {
            let (id, _) = machine.child_with_vp();
            machine.with_vp(id, 0, |_, vp| {
                CpuidCache::keep(vp, 1, XSAVE, 0, ANSWER);
                assert_eq!(CpuidCache::find(vp, 1, XSAVE, 0), None);
            });
        }
    }
}
