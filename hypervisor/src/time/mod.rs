//! Reference time, deadlines, and the conversion from the time-stamp counter.
//!
//! One unit of time is used in the whole hypervisor: 100 ns, the TLFS's. Everything that is finer (TSC ticks, ticks of a
//! local APIC timer) is converted here, and always so that a deadline is never reported reached before it is: a guest
//! that programs the shortest delay again and again must not find the clock still before it (guest sheet, trap 27).

mod agreement;
mod page;
mod tsc;

pub use agreement::TscAgreement;
pub use page::ReferenceTscPage;
pub use tsc::{ReferenceClock, TscScale};

/// Units of [`RefTime`] in a second.
pub const UNITS_PER_SECOND: u64 = tlfs::HV_REFERENCE_TIME_HZ;

/// A point in reference time, or a length of it, in units of 100 ns.
///
/// Arithmetic saturates: [`RefTime::MAX`] is 58,000 years away and means "never".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct RefTime(u64);

impl RefTime {
    /// The origin, and the empty length.
    pub const ZERO: Self = Self(0);
    /// Never.
    pub const MAX: Self = Self(u64::MAX);

    /// From units of 100 ns, as the TLFS counts.
    pub const fn from_units(units: u64) -> Self {
        Self(units)
    }

    /// From microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros.saturating_mul(UNITS_PER_SECOND / 1_000_000))
    }

    /// From milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(UNITS_PER_SECOND / 1_000))
    }

    /// Units of 100 ns.
    pub const fn units(self) -> u64 {
        self.0
    }

    /// This point, moved on by `length`.
    pub const fn saturating_add(self, length: Self) -> Self {
        Self(self.0.saturating_add(length.0))
    }

    /// The length from `earlier` to this point, or zero if `earlier` is the later one.
    pub const fn saturating_sub(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// Ticks that a counter of `hz` needs to cover this length, rounded up.
    pub const fn ticks_ceil(self, hz: u64) -> u64 {
        let ticks = (self.0 as u128 * hz as u128).div_ceil(UNITS_PER_SECOND as u128);
        if ticks > u64::MAX as u128 {
            u64::MAX
        } else {
            ticks as u64
        }
    }
}

/// The earlier of two deadlines, where either may be absent.
pub fn earlier(a: Option<RefTime>, b: Option<RefTime>) -> Option<RefTime> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// The count to load into a down-counter of `hz` so that it reaches zero no earlier than `deadline`, as long as the
/// counter can count: from 1 (a deadline in the past is due at once) to `u32::MAX`.
///
/// A counter that runs out before a distant deadline, or is a little fast, makes its interrupt come early; whoever takes
/// it compares with the clock and loads it again.
pub fn timer_count(deadline: RefTime, now: RefTime, hz: u64) -> u32 {
    let ticks = deadline.saturating_sub(now).ticks_ceil(hz);
    u32::try_from(ticks).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_deadline_in_the_past_is_due_at_once() {
        assert_eq!(
            timer_count(RefTime::ZERO, RefTime::from_millis(1), 1_000_000_000),
            1
        );
    }

    #[test]
    fn a_distant_deadline_loads_the_longest_count() {
        assert_eq!(
            timer_count(RefTime::MAX, RefTime::ZERO, 1_000_000_000),
            u32::MAX
        );
    }

    #[test]
    fn an_absent_deadline_does_not_hide_the_other() {
        let t = RefTime::from_micros(3);
        assert_eq!(earlier(None, Some(t)), Some(t));
        assert_eq!(earlier(Some(t), None), Some(t));
        assert_eq!(earlier(Some(t), Some(RefTime::ZERO)), Some(RefTime::ZERO));
        assert_eq!(earlier(None, None), None);
    }

    proptest! {
        #[test]
        fn a_count_never_ends_early(now in 0..1u64 << 50, length in 1..1u64 << 20, hz in 1_000_000u64..4_000_000_000) {
            let deadline = RefTime::from_units(now + length);
            let count = timer_count(deadline, RefTime::from_units(now), hz);
            // count / hz seconds cover the length; if the count was cut off, they need not.
            let covered = u128::from(count) * u128::from(UNITS_PER_SECOND) >= u128::from(length) * u128::from(hz);
            prop_assert!(covered || count == u32::MAX);
        }

        #[test]
        fn a_count_is_the_smallest_that_does(length in 1..1u64 << 20, hz in 1_000_000u64..4_000_000_000) {
            let count = timer_count(RefTime::from_units(length), RefTime::ZERO, hz);
            prop_assume!(count > 1 && count < u32::MAX);
            let shorter = u128::from(count - 1) * u128::from(UNITS_PER_SECOND);
            prop_assert!(shorter < u128::from(length) * u128::from(hz));
        }
    }
}
