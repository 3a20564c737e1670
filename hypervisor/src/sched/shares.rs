//! How much of a processor each VP of a partition gets: its weight, its cap and its reserve.

use core::sync::atomic::{AtomicU64, Ordering};

use super::SLICE;
use super::entries::VirtualTime;
use crate::time::RefTime;

/// The whole of a processor, as a cap and as the most that can be reserved.
pub const WHOLE: u32 = 1 << 16;

/// Caps and reserves hold in each of these, which follow each other from the machine's time 0 on.
pub const PERIOD: RefTime = RefTime::from_millis(100);

/// What each VP of a partition gets (the properties CpuWeight, CpuCap and CpuReserve, root sheet D.1).
///
/// Units and ranges are those that Microsoft documented for the root (ff538581, ff538550, ff538568).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Its part of the time that nobody has reserved, relative to the other VPs of its processor; 1 to 10,000, 100 at
    /// first. A weight is for each VP: four of weight 100 get as much as one of weight 400.
    pub weight: u16,
    /// At most so much of a processor, in 1/65,536 of it; 0 to [`WHOLE`]. A VP without any never runs.
    pub cap: u32,
    /// At least so much of a processor if it wants it, in 1/65,536 of it; 0 to [`Self::cap`].
    pub reserve: u32,
}

impl Shares {
    /// Of a new partition: no cap, no reserve.
    pub const NEW: Self = Self {
        weight: 100,
        cap: WHOLE,
        reserve: 0,
    };
    /// The heaviest.
    pub const MAX_WEIGHT: u16 = 10_000;

    /// Most time in a [`PERIOD`].
    pub const fn most(self) -> RefTime {
        part_of_period(self.cap)
    }

    /// Time in a [`PERIOD`] that a VP gets ahead of others.
    pub const fn least(self) -> RefTime {
        part_of_period(self.reserve)
    }
}

/// [`Shares`] in a word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed(u64);

impl Packed {
    const CAP_AT: u32 = 16;
    const RESERVE_AT: u32 = 40;
    const LIMIT_BITS: u64 = (1 << 24) - 1;

    /// What is missing to the whole stands for the cap, so that the upper bits are 0 where there are no limits.
    const fn new(shares: Shares) -> Self {
        let missing = WHOLE.saturating_sub(shares.cap) as u64;
        let limits = missing << Self::CAP_AT | (shares.reserve as u64) << Self::RESERVE_AT;
        Self(limits | shares.weight as u64)
    }

    const fn unpack(self) -> Shares {
        let missing = self.0 >> Self::CAP_AT & Self::LIMIT_BITS;
        Shares {
            weight: self.weight(),
            cap: WHOLE.saturating_sub(missing as u32),
            reserve: (self.0 >> Self::RESERVE_AT & Self::LIMIT_BITS) as u32,
        }
    }

    pub(super) const fn weight(self) -> u16 {
        self.0 as u16
    }

    /// Whether there is a cap or a reserve.
    pub(super) const fn has_limits(self) -> bool {
        self.0 >> Self::CAP_AT != 0
    }
}

const fn part_of_period(part: u32) -> RefTime {
    RefTime::from_units(PERIOD.units() * part as u64 / WHOLE as u64)
}

/// The number of the [`PERIOD`] that a time lies in.
pub(super) const fn period_of(time: RefTime) -> u64 {
    time.units() / PERIOD.units()
}

/// When the period with this number ends.
pub(super) const fn end_of(period: u64) -> RefTime {
    RefTime::from_units(period.saturating_add(1).saturating_mul(PERIOD.units()))
}

/// A partition's [`Shares`], which its parent changes while the processors of its VPs read them.
#[derive(Debug)]
pub struct SharesCell(AtomicU64);

impl SharesCell {
    /// Of a new partition.
    pub const fn new() -> Self {
        Self(AtomicU64::new(Packed::new(Shares::NEW).0))
    }

    /// What holds now.
    pub fn get(&self) -> Shares {
        self.packed().unpack()
    }

    #[inline]
    pub(super) fn packed(&self) -> Packed {
        Packed(self.0.load(Ordering::Relaxed))
    }

    /// Changes it (a weight is not 0); the VPs' processors see it the next time that they choose.
    pub fn set(&self, shares: Shares) {
        self.0.store(Packed::new(shares).0, Ordering::Relaxed);
    }
}

impl Default for SharesCell {
    fn default() -> Self {
        Self::new()
    }
}

/// What a VP has run so far: goes with it from one processor to another.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// Of its partition.
    pub(super) shares: &'static SharesCell,
    /// All of it.
    pub run_time: RefTime,
    /// The period that `used` is of.
    period: u64,
    /// What counts against cap and reserve in that period. Kept up only while there are any.
    used: RefTime,
    /// How much virtual time it was ahead of those who had least, where it was last.
    pub(super) lag: u64,
    /// The weight by which that was counted.
    pub(super) weight: u16,
}

/// Where a VP stands in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// It has a reserve.
    pub(super) reserved: bool,
    /// It has had less than that.
    pub(super) ahead: bool,
    /// How long it may run before it stands elsewhere; zero if not at all in this period.
    pub(super) left: RefTime,
}

impl Standing {
    pub(super) const UNLIMITED: Self = Self {
        reserved: false,
        ahead: false,
        left: RefTime::MAX,
    };
}

impl Account {
    /// Of a VP that has not run, of the partition with these shares. It counts as having had its turn just now: VPs that
    /// come and go do not pass the others.
    pub const fn new(shares: &'static SharesCell) -> Self {
        Self {
            shares,
            run_time: RefTime::ZERO,
            period: 0,
            used: RefTime::ZERO,
            lag: VirtualTime::of(SLICE, Shares::NEW.weight),
            weight: Shares::NEW.weight,
        }
    }

    /// The VP ran from one time to the other, which counts against its limits.
    #[cold]
    pub(super) fn charge_limited(&mut self, from: RefTime, to: RefTime, shares: Packed) {
        let ran = to.saturating_sub(from);
        let period = period_of(to);
        let start = RefTime::from_units(period * PERIOD.units());
        let before = start.saturating_sub(from).min(ran);
        self.used = self.used.saturating_add(before);
        self.advance(period, shares.unpack());
        self.used = self.used.saturating_add(ran.saturating_sub(before));
    }

    /// Another period begins. What went beyond the cap counts in the next one, but no more than a slice: it may have been
    /// used when there was no cap yet.
    fn advance(&mut self, period: u64, shares: Shares) {
        let passed = period.saturating_sub(self.period);
        if passed != 0 {
            self.period = period;
            let allowed = shares.most().units().saturating_mul(passed);
            let beyond = self.used.saturating_sub(RefTime::from_units(allowed));
            self.used = beyond.min(SLICE);
        }
    }

    /// Where the VP stands.
    #[inline]
    pub(super) fn standing(&mut self, period: u64, shares: Packed) -> Standing {
        if shares.has_limits() {
            self.limited_standing(period, shares.unpack())
        } else {
            Standing::UNLIMITED
        }
    }

    #[cold]
    fn limited_standing(&mut self, period: u64, shares: Shares) -> Standing {
        self.advance(period, shares);
        let reserve = shares.least().saturating_sub(self.used);
        if reserve != RefTime::ZERO {
            return Standing {
                reserved: true,
                ahead: true,
                left: reserve,
            };
        }
        let left = match shares.cap {
            WHOLE => RefTime::MAX,
            _ => shares.most().saturating_sub(self.used),
        };
        Standing {
            reserved: shares.reserve != 0,
            ahead: false,
            left,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_go_into_a_word_and_back(weight in 1..=Shares::MAX_WEIGHT, cap in 0..=WHOLE, reserve in 0..=WHOLE) {
            let shares = Shares { weight, cap, reserve };
            let cell = SharesCell::new();
            prop_assert_eq!(cell.get(), Shares::NEW);
            cell.set(shares);
            prop_assert_eq!(cell.get(), shares);
        }
    }

    #[test]
    fn a_turn_across_periods_counts_in_both() {
        static CELL: SharesCell = SharesCell::new();
        let shares = Shares {
            cap: WHOLE / 4,
            reserve: WHOLE / 10,
            ..Shares::NEW
        };
        let mut account = Account::new(&CELL);
        let at = RefTime::from_millis;
        let shares = Packed::new(shares);
        account.charge_limited(at(90), at(104), shares);
        let standing = account.standing(1, shares);
        // 10 ms are reserved, of which 4 are used.
        assert_eq!((standing.ahead, standing.left.units() / 10_000), (true, 5));
        account.charge_limited(at(104), at(124), shares);
        let standing = account.standing(1, shares);
        assert_eq!(
            standing,
            Standing {
                reserved: true,
                ahead: false,
                left: at(1)
            }
        );
        account.charge_limited(at(124), at(127), shares);
        assert_eq!(account.standing(1, shares).left, RefTime::ZERO);
        // 2 ms too many.
        let next = account.standing(2, shares);
        assert!(next.ahead && next.left < at(8), "{next:?}");
    }
}
