//! What status reports say (sheet 1.9, 2.3, 4.3).

use balancer::{Dwell, REPORT_AGE_LIMIT};

use crate::{SECOND, Time};

/// No report for this long: the VM is frozen.
pub const OVERDUE: Time = REPORT_AGE_LIMIT as Time * SECOND;
/// A report that comes sooner after the last one shows that the guest lives, and nothing else: the average goes by
/// reports, and one a second is what a guest sends.
pub const SOONEST: Time = SECOND / 2;
/// Committed memory of more than this many times the visible one is a counter that wrapped (sheet 2.4).
pub const ABSURD: u64 = 64;

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
    /// What those that counted make.
    demand: balancer::Demand,
    available: u64,
    /// When the last one came, and the last one that counted.
    alive_at: Option<Time>,
    counted_at: Option<Time>,
    /// For how long the VM has been low.
    dwell: Dwell,
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
        self.demand
            .report(balancer::demand(report.committed, report.held));
        self.dwell
            .note(now, self.demand.smoothed(), report.assigned);
        Use::Counted
    }

    /// `None` before the first report that counted.
    pub(crate) fn demand(&self) -> Option<Demand> {
        self.demand.is_known().then(|| Demand {
            newest: self.demand.newest(),
            settled: self.demand.settled(),
            average: self.demand.smoothed(),
        })
    }

    pub(crate) fn available(&self) -> u64 {
        self.available
    }

    /// How long the average pressure has been low.
    pub(crate) fn low_for(&self, now: Time) -> Time {
        self.dwell.low_for(now)
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
