//! The reference TSC page: guests compute the reference time from it without an exit (guest sheet 4.6).

use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering, fence};

use core::mem::offset_of;

use tlfs::HvReferenceTscPage;

use super::ReferenceClock;

/// The page as it lies in memory. Guests only read it, on any processor and at any moment, so that all fields are
/// atomics and an update is visible as "no valid page" in between.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct ReferenceTscPage {
    sequence: AtomicU32,
    reserved: AtomicU32,
    scale: AtomicU64,
    offset: AtomicI64,
    rest: [AtomicU64; 509],
}

const _: () = assert!(size_of::<ReferenceTscPage>() == 4096);
const _: () = assert!(
    offset_of!(ReferenceTscPage, scale) == offset_of!(HvReferenceTscPage, tsc_scale)
        && offset_of!(ReferenceTscPage, offset) == offset_of!(HvReferenceTscPage, tsc_offset)
);

impl ReferenceTscPage {
    /// A page that tells its readers to use the MSR: sequence 0, all else zero.
    pub const fn new() -> Self {
        Self {
            sequence: AtomicU32::new(0),
            reserved: AtomicU32::new(0),
            scale: AtomicU64::new(0),
            offset: AtomicI64::new(0),
            rest: [const { AtomicU64::new(0) }; 509],
        }
    }

    /// Sends all readers to the MSR.
    pub fn invalidate(&self) {
        self.sequence.store(0, Ordering::SeqCst);
    }

    /// Publishes `clock`. Readers see the old values, an invalid page or the new values, never a mixture. `sequence` is the
    /// page's last one, 0 at first; the caller keeps it, for an invalid page does not.
    ///
    /// Callers publish one after the other; two at a time could leave a mixture.
    pub fn publish(&self, clock: &ReferenceClock, sequence: &mut u32) {
        let next = next_sequence(*sequence);
        *sequence = next;
        self.sequence.store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.scale
            .store(clock.scale().fraction(), Ordering::Relaxed);
        self.offset.store(clock.offset(), Ordering::Relaxed);
        self.sequence.store(next, Ordering::Release);
    }
}

impl Default for ReferenceTscPage {
    fn default() -> Self {
        Self::new()
    }
}

/// The sequence after `sequence`: never 0, which would send every reader to the MSR for good (guest sheet, trap 31).
const fn next_sequence(sequence: u32) -> u32 {
    match sequence.wrapping_add(1) {
        0 => 1,
        next => next,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{RefTime, TscScale};
    use super::*;

    /// What a guest computes from the page, or `None` when it has to use the MSR.
    fn guest_time(page: &ReferenceTscPage, tsc: u64) -> Option<u64> {
        let read = HvReferenceTscPage {
            tsc_sequence: page.sequence.load(Ordering::Acquire),
            reserved: 0,
            tsc_scale: page.scale.load(Ordering::Relaxed),
            tsc_offset: page.offset.load(Ordering::Relaxed),
        };
        (read.tsc_sequence != 0).then(|| read.reference_time(tsc))
    }

    #[test]
    fn the_page_and_the_msr_show_the_same_time() {
        let clock = ReferenceClock::new(
            TscScale::new(2_893_000_123).unwrap(),
            987_654_321_987,
            RefTime::from_units(5),
        );
        let page = ReferenceTscPage::new();
        assert_eq!(guest_time(&page, 1), None);
        page.publish(&clock, &mut 0);
        for tsc in [0, 987_654_321_986, 987_654_321_987, u64::MAX / 3] {
            assert_eq!(guest_time(&page, tsc), Some(clock.at(tsc).units()));
        }
    }

    #[test]
    fn a_wrapping_sequence_skips_the_invalid_value() {
        assert_eq!(next_sequence(u32::MAX), 1);
        assert_eq!(next_sequence(0), 1);
        assert_eq!(next_sequence(1), 2);
    }

    #[test]
    fn every_update_changes_the_sequence() {
        let clock = ReferenceClock::new(TscScale::new(1 << 31).unwrap(), 0, RefTime::ZERO);
        let page = ReferenceTscPage::new();
        let mut sequence = 0;
        page.publish(&clock, &mut sequence);
        let first = page.sequence.load(Ordering::Relaxed);
        page.invalidate();
        assert_eq!(guest_time(&page, 1), None);
        page.publish(&clock, &mut sequence);
        assert_ne!(first, page.sequence.load(Ordering::Relaxed));
        assert_eq!(page.reserved.load(Ordering::Relaxed), 0);
        assert!(page.rest.iter().all(|w| w.load(Ordering::Relaxed) == 0));
    }
}
