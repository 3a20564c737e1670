//! The sheet's sequence SEQ1 (4.9), the experiment "Watching Dynamic Memory", with a guest that obeys.

use balancer::{Demand, Dwell};
use root_abi::MemoryOrder;
use root_abi::news;

use super::{A, MIB, Machine, dynamic, state};
use crate::life::SECOND;
use crate::tests::fake::{Effect, vm};

/// A worker whose guest does at once what it is asked for.
struct Worker {
    visible: u64,
    ballooned: u64,
    demand: Demand,
    dwell: Dwell,
    added_at: Option<u64>,
}

impl Worker {
    fn tell(&mut self, machine: &mut Machine, now: u64, demand: u64) {
        self.demand.report(demand * MIB);
        let assigned = (self.visible - self.ballooned) * MIB;
        self.dwell.note(now, self.demand.smoothed(), assigned);
        let since = self.added_at.map_or(news::NEVER, |at| (now - at) * SECOND);
        let mut told = state(self.visible, self.ballooned, demand);
        told.settled = self.demand.settled();
        told.smoothed = self.demand.smoothed();
        told.since_add = since;
        told.low_for = self.dwell.low_for(now) * SECOND;
        machine.ram(A, self.visible - self.ballooned);
        machine.tell(A, told);
    }

    fn obey(&mut self, now: u64, order: &MemoryOrder) {
        let [remove, unballoon, hot_add] =
            [order.remove, order.unballoon, order.hot_add].map(|pages| pages / MIB);
        self.ballooned = self.ballooned + remove - unballoon;
        self.visible += hot_add;
        if remove == 0 && order.flags & MemoryOrder::PARTIAL == 0 {
            // It is over when the second is.
            self.added_at = Some(now + 1);
        }
    }
}

#[test]
fn the_experiment_goes_as_the_sheet_says() {
    let definitions = [dynamic("a", [1024, 512, 4096], ""), vm("c", "")];
    let mut machine = Machine::new(16384, &definitions);
    machine.run(A, 668);
    machine.run(super::B, 2048);
    let mut worker = Worker {
        visible: 1024,
        ballooned: 356,
        demand: Demand::default(),
        dwell: Dwell::default(),
        added_at: None,
    };
    let mut orders = Vec::new();
    for time in 0..1000 {
        // An interval of the trim tick begins with the sequence.
        machine.host.now = (3000 + time) * SECOND;
        let demand = if (10..130).contains(&time) { 1500 } else { 500 };
        worker.tell(&mut machine, time, demand);
        machine.manager.tick(&mut machine.host);
        for effect in machine.host.done() {
            let Effect::Memory(A, order) = effect else {
                panic!("{effect:?}");
            };
            worker.obey(time, &order);
            let assigned = worker.visible - worker.ballooned;
            orders.push((time, assigned, worker.visible));
        }
    }
    let expected = [(12, 1536, 1536), (43, 2048, 2048), (600, 668, 2048)];
    assert_eq!(orders, expected);
}
