//! The APIC timer.
//!
//! It counts in ticks of 5 ns, of which a unit of reference time is a whole number: periods are added up in ticks, so
//! that a periodic timer does not drift however its period relates to the 100 ns of a unit.

use crate::time::{RefTime, UNITS_PER_SECOND};

/// Frequency of the timer in Hz with divide-by-1, which the APIC_FREQUENCY MSR reports (guest sheet 4.7).
pub const TIMER_FREQUENCY: u64 = 200_000_000;

const TICKS_PER_UNIT: u64 = TIMER_FREQUENCY / UNITS_PER_SECOND;
const _: () = assert!(TICKS_PER_UNIT * UNITS_PER_SECOND == TIMER_FREQUENCY);

/// A periodic timer asks to be looked at no more often than this: the guest chooses periods down to 5 ns, and the
/// processor that serves them has other work. Expirations in between coalesce; the count itself runs true.
const SHORTEST_DEADLINE: RefTime = RefTime::from_micros(50);

/// Bits of the divide configuration register.
pub(super) const DIVIDE_BITS: u32 = 0b1011;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Timer {
    initial: u32,
    divide: u32,
    /// When the count reaches zero next, in ticks of reference time; `None` when it does not run.
    expiry: Option<u64>,
    /// The last time a periodic timer expired.
    last: RefTime,
}

const fn ticks(time: RefTime) -> u64 {
    time.units().saturating_mul(TICKS_PER_UNIT)
}

impl Timer {
    /// After reset and INIT: stopped, divide by 2.
    pub(super) const RESET: Self = Self {
        initial: 0,
        divide: 0,
        expiry: None,
        last: RefTime::ZERO,
    };

    /// log2 of the divisor: 000 is 2, …, 110 is 128, 111 is 1.
    const fn shift(&self) -> u32 {
        let code = self.divide & 3 | self.divide >> 1 & 4;
        (code + 1) & 7
    }

    const fn period(&self) -> u64 {
        (self.initial as u64) << self.shift()
    }

    pub(super) const fn initial(&self) -> u32 {
        self.initial
    }

    pub(super) const fn divide(&self) -> u32 {
        self.divide
    }

    /// Loads the initial count and starts; zero stops.
    pub(super) fn start(&mut self, initial: u32, now: RefTime) {
        self.initial = initial;
        self.last = RefTime::ZERO;
        self.run_for(initial, now);
    }

    fn run_for(&mut self, count: u32, now: RefTime) {
        let length = u64::from(count) << self.shift();
        self.expiry = (count != 0).then(|| ticks(now).saturating_add(length));
    }

    /// Changes the divisor. A running count goes on from where it is, at the new rate.
    pub(super) fn set_divide(&mut self, divide: u32, now: RefTime, periodic: bool) {
        let current = self.current(now, periodic);
        self.divide = divide & DIVIDE_BITS;
        self.run_for(current, now);
    }

    /// The three registers of a saved state; `current` is what remains of a running count.
    pub(super) fn restore(&mut self, initial: u32, current: u32, divide: u32, now: RefTime) {
        self.divide = divide & DIVIDE_BITS;
        self.initial = initial;
        self.last = RefTime::ZERO;
        self.run_for(current.min(initial), now);
    }

    /// The current count: zero for a timer that does not run.
    pub(super) fn current(&self, now: RefTime, periodic: bool) -> u32 {
        let Some(expiry) = self.expiry else { return 0 };
        let now = ticks(now);
        let remaining = match expiry.checked_sub(now) {
            Some(remaining) if remaining > 0 => remaining,
            _ if periodic => {
                // Expired, and not yet advanced: the count of the period that runs now.
                let period = self.period().max(1);
                period - (now - expiry) % period
            }
            _ => 0,
        };
        u32::try_from(remaining.div_ceil(1 << self.shift())).unwrap_or(u32::MAX)
    }

    /// Brings the timer to `now`; says whether it expired. A periodic timer moves on by whole periods, and those that
    /// were missed count as one.
    pub(super) fn advance(&mut self, now: RefTime, periodic: bool) -> bool {
        let Some(expiry) = self.expiry else {
            return false;
        };
        let Some(late) = ticks(now).checked_sub(expiry) else {
            return false;
        };
        let period = self.period();
        self.expiry = if periodic && period != 0 {
            self.last = now;
            let passed = (late / period).saturating_add(1).saturating_mul(period);
            Some(expiry.saturating_add(passed))
        } else {
            None
        };
        true
    }

    /// When to call [`advance`](Self::advance) next, never before the count is zero.
    pub(super) fn deadline(&self, periodic: bool) -> Option<RefTime> {
        let due = RefTime::from_units(self.expiry?.div_ceil(TICKS_PER_UNIT));
        if periodic && self.last != RefTime::ZERO {
            return Some(due.max(self.last.saturating_add(SHORTEST_DEADLINE)));
        }
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIVIDE_BY_1: u32 = 0b1011;

    fn units(units: u64) -> RefTime {
        RefTime::from_units(units)
    }

    fn started(initial: u32, divide: u32, now: u64) -> Timer {
        let mut timer = Timer::default();
        timer.set_divide(divide, units(now), false);
        timer.start(initial, units(now));
        timer
    }

    #[test]
    fn divisors_are_the_architectures() {
        let codes = [0b0000, 0b0001, 0b0010, 0b0011, 0b1000, 0b1001, 0b1010];
        for (power, divide) in (1..=7).zip(codes) {
            assert_eq!(started(1, divide, 0).period(), 1 << power);
        }
        assert_eq!(started(1, DIVIDE_BY_1, 0).period(), 1);
    }

    #[test]
    fn a_one_shot_timer_expires_once() {
        let mut timer = started(200, DIVIDE_BY_1, 50); // 1 µs = 10 units
        assert_eq!(timer.deadline(false), Some(units(60)));
        assert!(!timer.advance(units(59), false));
        assert_eq!(timer.current(units(59), false), 20);
        assert!(timer.advance(units(60), false));
        assert!(!timer.advance(units(1000), false));
        assert_eq!(timer.deadline(false), None);
        assert_eq!(timer.current(units(1000), false), 0);
    }

    #[test]
    fn writing_zero_stops() {
        let mut timer = started(200, DIVIDE_BY_1, 0);
        timer.start(0, units(1));
        assert_eq!(timer.deadline(true), None);
        assert!(!timer.advance(units(1000), true));
    }

    #[test]
    fn a_new_divisor_keeps_the_count() {
        let mut timer = started(1000, DIVIDE_BY_1, 0);
        assert_eq!(timer.current(units(10), false), 800);
        timer.set_divide(0b0000, units(10), false);
        assert_eq!(timer.current(units(10), false), 800);
        assert_eq!(timer.deadline(false), Some(units(10 + 80)));
    }

    #[test]
    fn a_tiny_period_does_not_own_the_processor() {
        let mut timer = started(1, DIVIDE_BY_1, 0);
        assert!(timer.advance(units(1), true));
        assert!(timer.deadline(true).unwrap() >= units(1).saturating_add(SHORTEST_DEADLINE));
    }

    proptest! {
        #[test]
        fn a_periodic_timer_does_not_drift(initial in 20u32..1_000_000, divide in 0u32..16, start in 0u64..1 << 40, delays in prop::collection::vec(0u64..100_000, 1..50)) {
            let mut timer = started(initial, divide, start);
            let mut now = start;
            for delay in delays {
                now = timer.deadline(true).unwrap().units().max(now) + delay;
                prop_assert!(timer.advance(units(now), true));
                // The next expiry is the first multiple of the period, counted from the start, that lies ahead.
                let next = timer.expiry.unwrap();
                let elapsed = next - start * TICKS_PER_UNIT;
                prop_assert_eq!(elapsed % timer.period(), 0);
                prop_assert!(next > now * TICKS_PER_UNIT && next - now * TICKS_PER_UNIT <= timer.period());
            }
        }

        #[test]
        fn it_is_never_early_and_never_forgotten(initial in 1u32.., divide in 0u32..16, start in 0u64..1 << 40) {
            let mut timer = started(initial, divide, start);
            let deadline = timer.deadline(false).unwrap();
            prop_assert!(ticks(deadline) >= start * TICKS_PER_UNIT + timer.period());
            prop_assert!(!timer.advance(units(deadline.units() - 1), false));
            prop_assert!(timer.advance(deadline, false));
        }

        #[test]
        fn the_count_falls_from_initial_to_zero(initial in 1u32.., divide in 0u32..16, part in 0u64..=100) {
            let timer = started(initial, divide, 0);
            prop_assert_eq!(timer.current(RefTime::ZERO, false), initial);
            let at = timer.deadline(false).unwrap().units();
            let earlier = timer.current(units(at / 100 * part), false);
            prop_assert!(earlier <= initial);
            prop_assert_eq!(timer.current(units(at), false), 0);
        }

        #[test]
        fn no_value_overflows(initial: u32, divide: u32, current: u32, now: u64, later: u64, periodic: bool) {
            let mut timer = Timer::default();
            timer.restore(initial, current, divide, units(now));
            timer.current(units(later), periodic);
            timer.advance(units(later), periodic);
            timer.deadline(periodic);
            timer.set_divide(!divide, units(later), periodic);
            timer.start(initial, units(u64::MAX));
            timer.deadline(periodic);
        }
    }
}
