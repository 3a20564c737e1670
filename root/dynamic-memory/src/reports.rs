//! What status reports say (sheet 1.9, 2.3, 4.3).

use crate::{SECOND, Time};

/// No report for this long: the VM is frozen.
pub const OVERDUE: Time = 5 * SECOND;
/// A report that comes sooner after the last one shows that the guest lives, and nothing else: the average goes by
/// reports, and one a second is what a guest sends.
pub const SOONEST: Time = SECOND / 2;
/// Committed memory of more than this many times the visible one is a counter that wrapped (sheet 2.4).
pub const ABSURD: u64 = 64;
/// A VM is low when its average pressure is at most this, in per cent (sheet 4.2, trim pressure).
pub const LOW_PRESSURE: u64 = 50;

/// 100 × demand ÷ assigned, 0 if nothing is assigned.
pub fn pressure(demand: u64, assigned: u64) -> u64 {
    let percent = u128::from(demand) * 100;
    let pressure = percent.checked_div(assigned.into()).unwrap_or(0);
    u64::try_from(pressure).unwrap_or(u64::MAX)
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Its numbers count.
    Counted,
    /// It came too soon, or during an operation.
    AliveOnly,
    /// Its numbers cannot be.
    Absurd,
}

/// The demand of a guest, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Of the newest report.
    pub newest: u64,
    /// The lowest of the last three: a spike of one second must not bring a hot-add, which cannot be undone.
    pub settled: u64,
    /// Smoothed: each report moves it by an eighth of the difference.
    pub average: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Reports {
    /// Demands of the last three that counted, newest first.
    last: [Option<u64>; 3],
    average: u64,
    available: u64,
    /// When the last one came, and the last one that counted.
    alive_at: Option<Time>,
    counted_at: Option<Time>,
    /// Since when the VM has been low.
    low_since: Option<Time>,
}

/// A report, and what the host knows at that moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) committed: u64,
    pub(crate) available: u64,
    /// Pages that the guest counts as ballooned, in `committed` as well.
    pub(crate) held: u64,
    pub(crate) visible: u64,
    pub(crate) assigned: u64,
    pub(crate) is_busy: bool,
}

impl Reports {
    pub(crate) fn note(&mut self, report: Report, now: Time) -> Use {
        if report.committed > report.visible.saturating_mul(ABSURD) {
            return Use::Absurd;
        }
        self.alive_at = Some(now);
        let too_soon = |at: Time| now < at.saturating_add(SOONEST);
        if report.is_busy || self.counted_at.is_some_and(too_soon) {
            return Use::AliveOnly;
        }
        self.counted_at = Some(now);
        self.available = report.available;
        self.count(report.committed.saturating_sub(report.held));
        if pressure(self.average, report.assigned) <= LOW_PRESSURE {
            self.low_since.get_or_insert(now);
        } else {
            self.low_since = None;
        }
        Use::Counted
    }

    fn count(&mut self, demand: u64) {
        let [first, second, _] = self.last;
        self.last = [Some(demand), first, second];
        let settled = self.settled();
        if first.is_none() {
            self.average = settled;
            return;
        }
        // An eighth of the difference, rounded down: away from zero if it is negative (sheet 4.3).
        self.average = if settled >= self.average {
            self.average.saturating_add((settled - self.average) >> 3)
        } else {
            self.average
                .saturating_sub((self.average - settled).div_ceil(8))
        };
    }

    fn settled(&self) -> u64 {
        self.last.iter().flatten().copied().min().unwrap_or(0)
    }

    /// `None` before the first report that counted.
    pub(crate) fn demand(&self) -> Option<Demand> {
        let [newest, ..] = self.last;
        Some(Demand {
            newest: newest?,
            settled: self.settled(),
            average: self.average,
        })
    }

    pub(crate) fn available(&self) -> u64 {
        self.available
    }

    pub(crate) fn low_since(&self) -> Option<Time> {
        self.low_since
    }

    /// How long ago the last one came.
    pub(crate) fn age(&self, now: Time) -> Option<Time> {
        Some(now.saturating_sub(self.alive_at?))
    }

    /// From when on the VM is frozen.
    pub(crate) fn overdue_at(&self) -> Option<Time> {
        self.alive_at?.checked_add(OVERDUE)?.checked_add(1)
    }
}
