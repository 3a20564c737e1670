//! From time-stamp counter to reference time and back.

use tlfs::HvReferenceTscPage;

use super::RefTime;

/// How fast reference time runs against the TSC: a 64-bit binary fraction of a unit per tick, as in the reference TSC
/// page (TLFS, "Partition Reference TSC Mechanism").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TscScale {
    fraction: u64,
}

impl TscScale {
    /// For a TSC of `tsc_hz`, which must be faster than 10 MHz: else the scale is no fraction.
    pub const fn new(tsc_hz: u64) -> Option<Self> {
        match HvReferenceTscPage::scale_for(tsc_hz) {
            Some(fraction) => Some(Self { fraction }),
            None => None,
        }
    }

    /// The fraction as the page's TscScale field holds it.
    pub const fn fraction(self) -> u64 {
        self.fraction
    }

    /// Units that have passed when the TSC has counted `ticks`, rounded down as a guest that reads the page does.
    pub const fn units(self, ticks: u64) -> u64 {
        ((ticks as u128 * self.fraction as u128) >> 64) as u64
    }

    /// The smallest count of ticks for which [`units`](Self::units) is `units` or more; `u64::MAX` if there is none.
    pub const fn ticks(self, units: u64) -> u64 {
        // units(t) >= u  <=>  t * fraction >= u * 2^64. The fraction is not zero: it is at least 10^7 for any u64 of hertz.
        let ticks = ((units as u128) << 64).div_ceil(self.fraction as u128);
        if ticks > u64::MAX as u128 {
            u64::MAX
        } else {
            ticks as u64
        }
    }
}

/// The reference clock of a partition: a scaled TSC with an origin.
///
/// `TIME_REF_COUNT` and the reference TSC page are the same function of the same TSC, so that a guest which mixes them
/// never sees time step back (guest sheet 4.5, 4.6; traps 30 and 32). "TSC" here is what the guest's RDTSC returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReferenceClock {
    scale: TscScale,
    offset: u64,
}

impl ReferenceClock {
    /// A clock that shows `time` when the TSC shows `tsc`.
    pub const fn new(scale: TscScale, tsc: u64, time: RefTime) -> Self {
        Self {
            scale,
            offset: time.units().wrapping_sub(scale.units(tsc)),
        }
    }

    /// The same with all times later by `units`, modulo 2^64.
    pub const fn moved_by(&self, units: u64) -> Self {
        Self {
            scale: self.scale,
            offset: self.offset.wrapping_add(units),
        }
    }

    /// The scale.
    pub const fn scale(&self) -> TscScale {
        self.scale
    }

    /// The page's TscOffset: what is added to the scaled TSC.
    pub const fn offset(&self) -> i64 {
        self.offset as i64
    }

    /// The time when the TSC shows `tsc`.
    pub const fn at(&self, tsc: u64) -> RefTime {
        RefTime::from_units(self.scale.units(tsc).wrapping_add(self.offset))
    }

    /// The first TSC value at which the clock shows `time` or later; 0 for a time before TSC 0, `u64::MAX` for never.
    pub const fn tsc_at(&self, time: RefTime) -> u64 {
        // Done in 128 bits because the offset is signed: neither the sum nor the difference may wrap.
        let units = time.units() as i128 - self.offset() as i128;
        if units <= 0 {
            0
        } else if units > u64::MAX as i128 {
            u64::MAX
        } else {
            self.scale.ticks(units as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::UNITS_PER_SECOND;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tsc_too_slow_for_the_page_is_refused() {
        assert_eq!(TscScale::new(UNITS_PER_SECOND), None);
        assert_eq!(TscScale::new(0), None);
        assert!(TscScale::new(UNITS_PER_SECOND + 1).is_some());
    }

    #[test]
    fn a_second_of_ticks_is_a_second_within_a_unit() {
        for hz in [1_000_000_000, 2_399_997_000, 3_700_000_001] {
            let units = TscScale::new(hz).unwrap().units(hz);
            assert!((UNITS_PER_SECOND - 1..=UNITS_PER_SECOND).contains(&units));
        }
    }

    #[test]
    fn a_clock_starts_where_it_is_told() {
        let scale = TscScale::new(2_000_000_000).unwrap();
        let clock = ReferenceClock::new(scale, 1 << 40, RefTime::ZERO);
        assert_eq!(clock.at(1 << 40), RefTime::ZERO);
        assert_eq!(
            clock.at((1 << 40) + 2_000_000_001).units(),
            UNITS_PER_SECOND
        );
        assert!(clock.offset() < 0);
    }

    proptest! {
        #[test]
        fn ticks_are_the_first_that_reach_the_unit(hz in 10_000_001u64..10_000_000_000, units in 1..1u64 << 48) {
            let scale = TscScale::new(hz).unwrap();
            let ticks = scale.ticks(units);
            prop_assert!(scale.units(ticks) >= units);
            prop_assert!(scale.units(ticks - 1) < units);
        }

        #[test]
        fn no_deadline_is_early(hz in 10_000_001u64..10_000_000_000, tsc in 0..1u64 << 60, start in 0..1u64 << 40, later in 0..1u64 << 40) {
            let clock = ReferenceClock::new(TscScale::new(hz).unwrap(), tsc, RefTime::from_units(start));
            let deadline = RefTime::from_units(start.saturating_add(later));
            let at = clock.tsc_at(deadline);
            prop_assert!(clock.at(at) >= deadline);
            prop_assert!(at <= tsc || clock.at(at - 1) < deadline);
        }

        #[test]
        fn time_never_steps_back(hz in 10_000_001u64..10_000_000_000, a in 0..1u64 << 62, step in 0..1u64 << 40) {
            let clock = ReferenceClock::new(TscScale::new(hz).unwrap(), 0, RefTime::from_units(7));
            prop_assert!(clock.at(a) <= clock.at(a + step));
        }

        #[test]
        fn no_value_overflows(hz in 10_000_001u64.., tsc: u64, time: u64, at: u64) {
            let clock = ReferenceClock::new(TscScale::new(hz).unwrap(), tsc, RefTime::from_units(time));
            clock.at(at);
            clock.tsc_at(RefTime::from_units(at));
        }
    }
}
