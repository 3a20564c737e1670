//! Memory that is taken although nobody needs it (section 4.5, step 6; DM-21).

use alloc::vec::Vec;

use crate::levels::{Live, gives};
use crate::math::round_down;
use crate::pressure::pressure;
use crate::round::{Action, Operation};

/// Per cent of average pressure up to which a VM holds far too much.
pub const TRIM_PRESSURE: u64 = 50;
/// Seconds for which it has to (trap T33).
pub const TRIM_DWELL: u32 = 180;
/// Seconds from one trim tick to the next.
pub const TRIM_INTERVAL: u32 = 300;

/// Trims what has no operation in this round, by id, down to what is ample.
pub(crate) fn trim(live: &mut [Live<'_>], granule: u64, operations: &mut Vec<Operation>) {
    for live in live.iter_mut().filter(|live| is_due(live)) {
        let ample = live.limited(live.levels.ample);
        let size = round_down(live.vm.assigned.saturating_sub(ample), granule);
        if size == 0 {
            continue;
        }
        live.busy = true;
        let vm = live.vm.id;
        let action = Action::Trim { size };
        operations.push(Operation { vm, action });
    }
}

fn is_due(live: &Live<'_>) -> bool {
    let vm = live.vm;
    !live.busy
        && gives(vm)
        && pressure(vm.smoothed, vm.assigned) <= TRIM_PRESSURE
        && vm.low_for >= TRIM_DWELL
}
