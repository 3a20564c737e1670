//! A partition's reference time: the machine's from an origin on, or standing still (property TimeFreeze, root sheet D.1).
//!
//! It lies in the partition's place rather than in the partition: the timers of its VPs are served while nobody has the
//! partition locked.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::time::{RefTime, ReferenceClock};

/// No time: it does not stand still.
const RUNS: u64 = u64::MAX;

/// What a partition's time is.
#[derive(Debug)]
pub struct PartitionClock {
    /// The machine's time at the partition's time 0, modulo 2^64: a time that was set may have begun before the machine's.
    origin: AtomicU64,
    /// The time at which it stands still, or [`RUNS`].
    frozen: AtomicU64,
}

impl PartitionClock {
    /// The machine's time.
    pub const fn new() -> Self {
        Self {
            origin: AtomicU64::new(0),
            frozen: AtomicU64::new(RUNS),
        }
    }

    /// The partition's time, when the machine's is `now`.
    pub fn time(&self, now: RefTime) -> RefTime {
        match self.frozen() {
            Some(frozen) => frozen,
            None => RefTime::from_units(now.units().wrapping_sub(self.origin())),
        }
    }

    /// The machine's time when the partition's will be `at`; `None` if it stands still. What is past is [`RefTime::ZERO`] or
    /// thereabouts, and what is too far away is never.
    pub fn machine_time(&self, at: RefTime) -> Option<RefTime> {
        if self.frozen().is_some() {
            return None;
        }
        // The origin as a signed distance: neither a time before it nor one far away may wrap.
        let origin = i128::from(self.origin() as i64);
        let time = (i128::from(at.units()) + origin).clamp(0, i128::from(u64::MAX));
        Some(RefTime::from_units(time as u64))
    }

    /// The clock that the partition's guests compute their time with, if it runs.
    pub fn reference(&self, machine: &ReferenceClock) -> Option<ReferenceClock> {
        let runs = self.frozen().is_none();
        runs.then(|| machine.moved_by(self.origin().wrapping_neg()))
    }

    /// The time at which it stands still.
    pub fn frozen(&self) -> Option<RefTime> {
        let frozen = self.frozen.load(Ordering::Acquire);
        (frozen != RUNS).then_some(RefTime::from_units(frozen))
    }

    /// A new partition's: 0 at the machine's `now`.
    pub fn begin(&self, now: RefTime) {
        self.run_from(now.units());
    }

    /// Stands still at `at`.
    pub fn freeze(&self, at: RefTime) {
        let at = at.units().min(RUNS - 1);
        self.frozen.store(at, Ordering::Release);
    }

    /// Goes on from where it stands still.
    pub fn resume(&self, now: RefTime) {
        if let Some(at) = self.frozen() {
            self.run_from(now.units().wrapping_sub(at.units()));
        }
    }

    fn run_from(&self, origin: u64) {
        self.origin.store(origin, Ordering::Relaxed);
        self.frozen.store(RUNS, Ordering::Release);
    }

    fn origin(&self) -> u64 {
        self.origin.load(Ordering::Relaxed)
    }
}

impl Default for PartitionClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::TscScale;
    use proptest::prelude::*;

    const fn at(units: u64) -> RefTime {
        RefTime::from_units(units)
    }

    #[test]
    fn a_time_that_stood_still_goes_on_from_there() {
        let clock = PartitionClock::new();
        clock.begin(at(1000));
        assert_eq!(clock.time(at(1500)), at(500));
        clock.freeze(clock.time(at(1500)));
        assert_eq!(clock.time(at(9000)), at(500));
        assert_eq!(clock.machine_time(at(600)), None);
        clock.resume(at(9000));
        assert_eq!(clock.time(at(9010)), at(510));
        clock.resume(at(10_000));
        assert_eq!(clock.time(at(9010)), at(510), "it runs already");
    }

    #[test]
    fn a_time_may_begin_before_the_machines() {
        let clock = PartitionClock::new();
        clock.freeze(at(1 << 40));
        clock.resume(at(7));
        assert_eq!(clock.time(at(8)), at((1 << 40) + 1));
        assert_eq!(clock.machine_time(at((1 << 40) + 1)), Some(at(8)));
        assert_eq!(clock.machine_time(at(3)), Some(at(0)), "long past");
    }

    proptest! {
        #[test]
        fn a_deadline_is_reached_when_the_machine_says_so(
            origin in 0..1u64 << 60, now in 0..1u64 << 60, later in 0..1u64 << 60,
        ) {
            let clock = PartitionClock::new();
            clock.begin(at(origin));
            let deadline = clock.time(at(origin + now)).saturating_add(at(later));
            let machine = clock.machine_time(deadline).unwrap();
            prop_assert_eq!(clock.time(machine), deadline);
        }

        #[test]
        fn guests_compute_the_same_time(tsc in 0..1u64 << 60, begun in 0..1u64 << 50) {
            let scale = TscScale::new(2_893_000_123).unwrap();
            let machine = ReferenceClock::new(scale, 0, at(7));
            let clock = PartitionClock::new();
            clock.begin(machine.at(begun));
            let guests = clock.reference(&machine).unwrap();
            prop_assume!(tsc >= begun);
            prop_assert_eq!(guests.at(tsc), clock.time(machine.at(tsc)));
        }

        #[test]
        fn no_value_overflows(origin: u64, frozen: u64, now: u64, deadline: u64) {
            let clock = PartitionClock::new();
            clock.begin(at(origin));
            clock.machine_time(at(deadline));
            clock.time(at(now));
            clock.freeze(at(frozen));
            clock.resume(at(now));
            clock.machine_time(at(deadline));
        }
    }
}
