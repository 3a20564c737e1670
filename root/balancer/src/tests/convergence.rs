//! I8: with constant demand and guests that obey, the balancer comes to rest, and stays there.
//!
//! The sheet says "within 100 rounds, also with trim ticks". A hot-add that is rounded up to the guest's alignment can bring a VM
//! above its minimum RAM while its demand is next to nothing; a trim takes that back, but not before the dwell time. So the reading
//! here is: within 100 rounds without ticks; and with them within [`ROUNDS`] after the last moment at which a trim can fall due.

use proptest::prelude::*;

use super::strategy::{node, vm};
use super::world::World;
use crate::{LONG_AGO, TRIM_DWELL, TRIM_INTERVAL, Vm, VmId};

/// Rounds within which it comes to rest.
const ROUNDS: u64 = 100;
/// Rounds for which it is watched then.
const WATCHED: u64 = 2 * TRIM_INTERVAL as u64 + 1;

/// No tick while anybody watches.
const NEVER: u64 = u64::MAX;

prop_compose! {
    /// Up to 12 VMs that are never frozen. Their guests may be unable to do something, and may have had low pressure for long.
    fn world()(
        mut vms in prop::collection::vec(vm(), 1..=12),
        more in prop_oneof![0_i64..3000, Just(0), -2000_i64..0, 3000_i64..20_000],
        tick in prop_oneof![2 => Just(NEVER), 1 => Just(7_u64), 1 => Just(20), 1 => Just(300)],
    ) -> (World, Vec<u64>) {
        for (id, vm) in (0..).zip(&mut vms) {
            vm.id = VmId(id);
            (vm.reporting, vm.in_flight, vm.report_age) = (true, false, 0);
            vm.since_refusal = LONG_AGO;
        }
        let demands = vms.iter().map(|vm| vm.settled).collect();
        let mut world = World::new(node(&vms, more), vms);
        world.has_run_for(1000);
        world.tick = tick;
        (world, demands)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn i8_rounds_become_empty_and_stay_empty((mut world, demands) in world()) {
        let demand = |vm: &Vm| demands[usize::try_from(vm.id.0).unwrap()];
        let begin = world.now;
        let mut rounds = ROUNDS;
        if world.tick != NEVER {
            rounds += u64::from(TRIM_DWELL) + world.tick + ROUNDS;
        }
        for _ in 0..rounds {
            world.second(demand);
        }
        for _ in 0..WATCHED {
            let round = world.second(demand);
            prop_assert!(round.operations.is_empty(), "{} s: {:?}", world.now - begin, round);
        }
    }
}
