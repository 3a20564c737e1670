//! What the balancer and the counters need to know.

use balancer::pressure;

use crate::Time;
use crate::book::GuestPages;
use crate::order::Order;
use crate::reports::Demand;
use crate::segment::PageState;
use crate::vsp::DynamicMemory;

/// What the VSP has counted since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// Messages sent.
    pub sent: u64,
    /// Messages received while the channel was open.
    pub received: u64,
    /// Those that were dropped.
    pub dropped: u64,
    /// Messages received while the channel was closed.
    pub strays: u64,
    /// Status reports whose numbers counted.
    pub reports: u64,
    /// Status reports that came too soon, or during an operation.
    pub reports_ignored: u64,
    /// Adds that are over and added something.
    pub add_operations: u64,
    /// Removes that are over and removed something.
    pub remove_operations: u64,
    /// Ballooned pages that the guest touched and got again.
    pub touched: u64,
    /// BALLOON_RESPONSE messages that were looked at.
    pub balloon_messages: u64,
    /// The ranges in them, whatever became of their pages.
    pub balloon_ranges: u64,
    /// UNBALLOON_REQUEST messages.
    pub unballoon_messages: u64,
    /// The ranges in them.
    pub unballoon_ranges: u64,
    /// Events that a caller who did not drain has lost.
    pub events_dropped: u64,
}

/// A VM as the balancer sees it (sheet 3.3, 4.1). Sizes in pages, ages in units of [`Time`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What the guest believes it has.
    pub visible: u64,
    /// What the guest gave back, lost pages included.
    pub ballooned: u64,
    /// What can be given back to the guest: ballooned without the lost ones.
    pub returnable: u64,
    /// What machine memory is behind: visible - ballooned + offered.
    pub assigned: u64,
    /// New memory that the guest has not answered for.
    pub offered: u64,
    /// Added since the start: assigned = startup + added - removed + offered.
    pub added: u64,
    /// Removed since the start.
    pub removed: u64,
    /// Fewest pages that it may have.
    pub minimum: u64,
    /// Most pages that it may have; 4 GiB for a 32-bit guest.
    pub maximum: u64,
    /// `None` before the first report of this connection.
    pub demand: Option<Demand>,
    /// 100 × demand of the newest report ÷ assigned.
    pub current_pressure: u64,
    /// 100 × smoothed demand ÷ assigned.
    pub average_pressure: u64,
    /// What the guest's kernel could give out, of the newest report.
    pub available: u64,
    /// The quiet time is over, and there was a report.
    pub is_live: bool,
    /// An order is under way.
    pub in_flight: bool,
    /// The VM is to be left alone: not live, paused, an order under way, or no report for 5 s.
    pub is_frozen: bool,
    /// It can be asked for pages.
    pub can_balloon: bool,
    /// It can be given new memory.
    pub can_hot_add: bool,
    /// New memory comes in multiples of this.
    pub alignment: u64,
    /// Since the last report.
    pub report_age: Option<Time>,
    /// Since the last add that was no partial one.
    pub since_add: Option<Time>,
    /// Since the guest last returned less than it was asked for.
    pub since_refusal: Option<Time>,
    /// For how long the average pressure has been at most 50.
    pub low_for: Time,
}

impl DynamicMemory {
    /// How the VM is.
    pub fn status(&self, book: &GuestPages, now: Time) -> Status {
        let mut clock = self.clock;
        let now = clock.at(now);
        let since = |at: Option<Time>| Some(now.saturating_sub(at?));
        let demand = self.reports.demand();
        let assigned = book.assigned();
        let pressure_of =
            |of: fn(Demand) -> u64| demand.map_or(0, |demand| pressure(of(demand), assigned));
        Status {
            visible: book.visible(),
            ballooned: book.ballooned(),
            returnable: book.count(PageState::Ballooned),
            assigned,
            offered: book.offered_pages(),
            added: book.added(),
            removed: book.removed(),
            minimum: self.settings.minimum,
            maximum: self.upper(),
            demand,
            current_pressure: pressure_of(|demand| demand.newest),
            average_pressure: pressure_of(|demand| demand.average),
            available: self.reports.available(),
            is_live: self.is_live,
            in_flight: self.order.is_some(),
            is_frozen: self.check_idle(now).is_err(),
            can_balloon: self.capabilities.balloon() && !self.balloon_off,
            can_hot_add: self.check_hot_add(now).is_ok(),
            alignment: self.block(),
            report_age: self.reports.age(now),
            since_add: since(self.added_at),
            since_refusal: since(self.refused_at),
            low_for: self.reports.low_for(now),
        }
    }

    /// What it has counted.
    pub fn counters(&self) -> Counters {
        Counters {
            events_dropped: self.events.dropped(),
            ..self.counters
        }
    }

    /// The order under way, for who wants to show it: pages that it is still to move.
    pub fn pages_in_flight(&self) -> u64 {
        self.order.as_ref().map_or(0, Order::pages_left)
    }
}
