//! Who gets memory that is free now (section 4.5, steps 3 and 4).

use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::input::{PendingStart, Vm, VmId};
use crate::levels::Live;
use crate::math::{mul_div, round_down, round_up};
use crate::pressure::pressure;
use crate::round::{Action, Operation};
use crate::settings::Weight;

/// Per cent of what a VM has by which its goal has to be above that before anything is done.
pub const DEAD_BAND: u64 = 5;
/// Seconds between two adds.
pub const ADD_COOL_DOWN: u32 = 30;
/// The same while the guest needs more than it has.
pub const SHORT_COOL_DOWN: u32 = 5;

/// What is left to give, and what is missing.
pub(crate) struct Pool {
    pub(crate) left: u64,
    pub(crate) shortage: u64,
    pub(crate) granule: u64,
}

/// Somebody who wants memory. In the order of the fields: heavier first, adds before starts, higher pressure first, lower id
/// first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    weight: Reverse<Weight>,
    what: What,
    pressure: Reverse<u64>,
    id: VmId,
    /// Of the live VM, or of the accepted start.
    index: usize,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Add,
    Start,
}

/// Serves all requests in their order.
pub(crate) fn serve(
    live: &mut [Live<'_>],
    starts: &[&PendingStart],
    pool: &mut Pool,
    operations: &mut Vec<Operation>,
) {
    for request in requests(live, starts) {
        let action = match request.what {
            What::Add => live.get_mut(request.index).and_then(|live| {
                let action = pool.add(live);
                live.busy = action.is_some();
                action
            }),
            What::Start => starts
                .get(request.index)
                .map(|start| pool.start(start.startup)),
        };
        let vm = request.id;
        operations.extend(action.map(|action| Operation { vm, action }));
    }
}

fn requests(live: &[Live<'_>], starts: &[&PendingStart]) -> Vec<Request> {
    let adds = live.iter().enumerate().filter(|(_, live)| wants(live));
    let adds = adds.map(|(index, Live { vm, .. })| Request {
        weight: Reverse(vm.weight),
        what: What::Add,
        pressure: Reverse(pressure(vm.settled, vm.assigned)),
        id: vm.id,
        index,
    });
    let starts = starts.iter().enumerate().map(|(index, start)| Request {
        weight: Reverse(start.weight),
        what: What::Start,
        pressure: Reverse(0),
        id: start.id,
        index,
    });
    let mut requests: Vec<Request> = adds.chain(starts).collect();
    requests.sort_unstable();
    requests
}

fn wants(live: &Live<'_>) -> bool {
    let vm = live.vm;
    let cool_down = if vm.settled > vm.assigned {
        SHORT_COOL_DOWN
    } else {
        ADD_COOL_DOWN
    };
    live.goal.saturating_sub(vm.assigned) > mul_div(vm.assigned, DEAD_BAND, 100)
        && vm.since_add >= cool_down
}

impl Pool {
    /// A start has all of its memory at once, or what there is is set aside for it.
    fn start(&mut self, startup: u64) -> Action {
        if startup <= self.left {
            self.left -= startup;
            return Action::Start { startup };
        }
        let set_aside = self.left;
        self.shortage = self.shortage.saturating_add(startup - set_aside);
        self.left = 0;
        Action::Hold { set_aside }
    }

    /// An add is the balloon first and hot-add for the rest (DM-24), as far as memory is left.
    fn add(&mut self, live: &Live<'_>) -> Option<Action> {
        let vm = live.vm;
        let wanted = live.goal.saturating_sub(vm.assigned);
        let returned = wanted.min(vm.ballooned);
        let added = hot_add(vm, wanted - returned, live.upper);
        let whole = returned.saturating_add(added);
        let missing = whole.saturating_sub(self.left);
        self.shortage = self.shortage.saturating_add(missing);

        let mut unballoon = returned.min(self.left);
        let mut hot_add = 0;
        if unballoon == vm.ballooned {
            hot_add = added.min(round_down(self.left - unballoon, vm.alignment));
        } else {
            unballoon = round_down(unballoon, self.granule);
        }
        self.left -= unballoon + hot_add;
        (unballoon + hot_add != 0).then_some(Action::Add {
            unballoon,
            hot_add,
            partial: missing != 0,
        })
    }
}

/// What is hot-added for `rest`: rounded up to the guest's alignment, or down if that would make the VM too large.
fn hot_add(vm: &Vm, rest: u64, upper: u64) -> u64 {
    let visible = vm.assigned.saturating_add(vm.ballooned);
    let fits = |size: &u64| {
        visible
            .checked_add(*size)
            .is_some_and(|after| after <= upper)
    };
    let up = round_up(rest, vm.alignment).filter(fits);
    up.unwrap_or_else(|| round_down(rest, vm.alignment))
}
