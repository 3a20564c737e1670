//! Guests that do what they are told within a second, and a clock.

use crate::{
    Action, Demand, Dwell, Input, LONG_AGO, Node, Operation, Round, TRIM_INTERVAL, Unit, Vm, VmId,
    round,
};

/// A guest: its numbers for the next round, and what makes them.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    pub(super) vm: Vm,
    demand: Demand,
    dwell: Dwell,
    added_at: Option<u64>,
}

impl Guest {
    pub(super) fn new(vm: Vm) -> Self {
        Self {
            vm,
            demand: Demand::default(),
            dwell: Dwell::default(),
            added_at: None,
        }
    }

    fn visible(&self) -> u64 {
        self.vm.assigned + self.vm.ballooned
    }

    fn report(&mut self, now: u64, demand: u64) {
        self.demand.report(demand);
        let vm = &mut self.vm;
        vm.settled = self.demand.settled();
        vm.smoothed = self.demand.smoothed();
        self.dwell.note(now, vm.smoothed, vm.assigned);
        vm.low_for = u32::try_from(self.dwell.low_for(now)).expect("no long test");
        vm.since_add = self.added_at.map_or(LONG_AGO, |at| {
            u32::try_from(now - at).expect("no long test")
        });
    }

    /// The operation is done, one second after the round.
    fn obey(&mut self, now: u64, action: Action) {
        let vm = &mut self.vm;
        match action {
            Action::Add {
                unballoon,
                hot_add,
                partial,
            } => {
                vm.assigned += unballoon + hot_add;
                vm.ballooned -= unballoon;
                if !partial {
                    self.added_at = Some(now + 1);
                }
            }
            Action::Remove { size } | Action::Trim { size } => {
                vm.assigned -= size;
                vm.ballooned += size;
            }
            other => panic!("{other:?} is nothing for a VM that runs"),
        }
    }
}

/// A node with guests.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) node: Node,
    pub(super) guests: Vec<Guest>,
    pub(super) now: u64,
    /// Seconds between trim ticks.
    pub(super) tick: u64,
}

impl World {
    pub(super) fn new(node: Node, vms: impl IntoIterator<Item = Vm>) -> Self {
        Self {
            node,
            guests: vms.into_iter().map(Guest::new).collect(),
            now: 0,
            tick: TRIM_INTERVAL.into(),
        }
    }

    /// The guests have had low pressure for so many seconds, if they have it now.
    pub(super) fn has_run_for(&mut self, seconds: u64) {
        for guest in &mut self.guests {
            guest.dwell.note(self.now, 0, 0);
        }
        self.now += seconds;
    }

    /// One second: reports of these demands, a round, and what it orders.
    pub(super) fn second(&mut self, demand: impl Fn(&Vm) -> u64) -> Round {
        for guest in &mut self.guests {
            let demand = demand(&guest.vm);
            guest.report(self.now, demand);
        }
        let vms: Vec<Vm> = self.guests.iter().map(|guest| guest.vm).collect();
        let round = round(&Input {
            unit: Unit::Mebibyte,
            node: self.node,
            vms: &vms,
            starts: &[],
            trim_tick: self.now.is_multiple_of(self.tick),
        });
        for Operation { vm, action } in &round.operations {
            let now = self.now;
            self.guest(*vm).obey(now, *action);
        }
        self.now += 1;
        round
    }

    pub(super) fn guest(&mut self, id: VmId) -> &mut Guest {
        let mut guests = self.guests.iter_mut();
        guests.find(|guest| guest.vm.id == id).expect("a guest")
    }

    /// Assigned, visible, and current pressure of a VM.
    pub(super) fn shown(&mut self, id: u64) -> (u64, u64, u64) {
        let guest = self.guest(VmId(id));
        let pressure = crate::pressure(guest.demand.newest(), guest.vm.assigned);
        (guest.vm.assigned, guest.visible(), pressure)
    }
}

/// All that a round gives, takes or starts.
pub(super) fn moved(round: &Round) -> u64 {
    let moved = round
        .operations
        .iter()
        .map(|operation| match operation.action {
            Action::Remove { size } | Action::Trim { size } => size,
            other => other.given(),
        });
    moved.sum()
}
