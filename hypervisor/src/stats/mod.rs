//! Counters pages (root sheet E): arrays of numbers that the hypervisor writes without locks and the root reads.

use core::sync::atomic::{AtomicU64, Ordering};

use tlfs::HV_STATS_COUNTERS_PER_PAGE;

/// The counters of one object, in the layout of its page. Each page has one writer at a time: the processor that runs
/// the object, or the holder of its lock.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct StatsPage([AtomicU64; HV_STATS_COUNTERS_PER_PAGE]);

const _: () = assert!(size_of::<StatsPage>() == 4096);

impl StatsPage {
    /// All counters zero.
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; HV_STATS_COUNTERS_PER_PAGE])
    }

    /// Adds to a counter. A number that no page has is ignored; it is a constant everywhere.
    #[inline]
    pub fn add(&self, counter: u32, amount: u64) {
        if let Some(cell) = self.0.get(counter as usize) {
            cell.store(
                cell.load(Ordering::Relaxed).wrapping_add(amount),
                Ordering::Relaxed,
            );
        }
    }

    /// One more.
    #[inline]
    pub fn count(&self, counter: u32) {
        self.add(counter, 1);
    }

    /// Sets a gauge.
    pub fn set(&self, counter: u32, value: u64) {
        if let Some(cell) = self.0.get(counter as usize) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// A counter's value.
    pub fn get(&self, counter: u32) -> u64 {
        self.0
            .get(counter as usize)
            .map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}

impl Default for StatsPage {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_grow_and_numbers_beyond_the_page_do_nothing() {
        let page = StatsPage::new();
        page.count(3);
        page.add(3, 4);
        page.set(511, 9);
        page.count(512);
        assert_eq!((page.get(3), page.get(511), page.get(512)), (5, 9, 0));
    }
}
