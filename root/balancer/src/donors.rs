//! Who has to give memory that others want (section 4.5, step 5).

use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::levels::{Live, gives};
use crate::math::{round_down, round_up};
use crate::round::{Action, Operation};
use crate::serve::Pool;
use crate::target::FP;

/// Seconds after an add in which a VM is no donor, unless the host itself needs memory.
pub const DONOR_QUIET_TIME: u32 = 30;

/// Asks those that have most in proportion to what they need, until the shortage is met. What they give is not there before
/// their guests have answered (trap T31).
pub(crate) fn ask(
    live: &mut [Live<'_>],
    pool: &mut Pool,
    host_is_short: bool,
    operations: &mut Vec<Operation>,
) {
    if pool.shortage == 0 {
        return;
    }
    let donors = live.iter_mut().filter(|live| can_give(live, host_is_short));
    let key = |live: &Live<'_>| (Reverse(excess(live)), live.vm.weight, live.vm.id);
    let mut donors: Vec<_> = donors.map(|live| (key(live), live)).collect();
    donors.sort_unstable_by_key(|(key, _)| *key);
    for (_, live) in donors {
        if pool.shortage == 0 {
            break;
        }
        let most = round_down(live.vm.assigned - live.goal, pool.granule);
        let size = round_up(pool.shortage, pool.granule).map_or(most, |wanted| wanted.min(most));
        if size == 0 {
            continue;
        }
        pool.shortage = pool.shortage.saturating_sub(size);
        live.busy = true;
        let vm = live.vm.id;
        let action = Action::Remove { size };
        operations.push(Operation { vm, action });
    }
}

fn can_give(live: &Live<'_>, host_is_short: bool) -> bool {
    let vm = live.vm;
    let is_quiet = host_is_short || vm.since_add >= DONOR_QUIET_TIME;
    !live.busy && gives(vm) && vm.assigned > live.goal && is_quiet
}

/// What a VM has in proportion to what it shall have in any case: `⌊assigned × FP ÷ max(1, n)⌋`.
fn excess(live: &Live<'_>) -> u128 {
    u128::from(live.vm.assigned) * u128::from(FP) / u128::from(live.levels.buffer.max(1))
}
