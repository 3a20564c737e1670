//! How the guest's memory is, for the manager.

use dynamic_memory::{Counters, SECOND, Status};
use manager::WorkerNews;
use root_abi::news::{
    MEMORY_CAN_BALLOON, MEMORY_CAN_HOT_ADD, MEMORY_IN_FLIGHT, MEMORY_LIVE, MemoryState, NEVER,
};

use crate::system::System;

/// Tells the manager once a second, as often as the balancer looks, and at once when an order begins or ends.
#[derive(Default)]
pub struct Telling {
    /// When it was told last, and which flags.
    told: Option<(u64, u32)>,
}

impl Telling {
    /// Tells, if it is time.
    pub fn tell<S: System>(
        &mut self,
        system: &mut S,
        status: &Status,
        counters: &Counters,
        order: u32,
        now: u64,
    ) {
        let state = MemoryState {
            order,
            ..state(status, counters)
        };
        let is_due = self
            .told
            .is_none_or(|(at, flags)| flags != state.flags || now.saturating_sub(at) >= SECOND);
        if is_due {
            self.told = Some((now, state.flags));
            system.tell(&WorkerNews::Memory(state));
        }
    }

    /// The next tell is due at once.
    pub fn hurry(&mut self) {
        self.told = None;
    }
}

fn state(status: &Status, counters: &Counters) -> MemoryState {
    let demand = status.demand.unwrap_or_default();
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    let percent = |pressure: u64| u32::try_from(pressure).unwrap_or(u32::MAX);
    MemoryState {
        visible: status.visible,
        ballooned: status.ballooned,
        returnable: status.returnable,
        assigned: status.assigned,
        added: status.added,
        removed: status.removed,
        maximum: status.maximum,
        settled: demand.settled,
        smoothed: demand.average,
        newest: demand.newest,
        available: status.available,
        alignment: status.alignment,
        report_age: status.report_age.unwrap_or(NEVER),
        since_add: status.since_add.unwrap_or(NEVER),
        since_refusal: status.since_refusal.unwrap_or(NEVER),
        low_for: status.low_for,
        add_operations: counters.add_operations,
        remove_operations: counters.remove_operations,
        pressures: [status.current_pressure, status.average_pressure].map(percent),
        flags: flag(status.is_live, MEMORY_LIVE)
            | flag(status.in_flight, MEMORY_IN_FLIGHT)
            | flag(status.can_balloon, MEMORY_CAN_BALLOON)
            | flag(status.can_hot_add, MEMORY_CAN_HOT_ADD),
        order: 0,
    }
}
