//! Answers that a VP got to CPUID.
//!
//! Finding an answer takes the partition's lock, its lists, and the processor's own CPUID, which under another
//! hypervisor is an exit to that one: far more than the rest of the exit. Guests ask the same few leaves again and again.

use core::sync::atomic::{AtomicU64, Ordering};

use super::Vp;
use super::cpuid::{CR4_OSXSAVE, CR4_PKE};
use crate::arch::cpuid::CpuidResult;

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
        cr4: vp.hw.cr4() & (CR4_OSXSAVE | CR4_PKE),
    }
}
