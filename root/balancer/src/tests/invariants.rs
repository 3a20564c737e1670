//! The invariants I1 to I7 and I9 of section 4.7, and what else holds in every round. I8 is in `convergence`, I6 in `model`, I10
//! a figure of `cargo xtask bench`.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::strategy::{Case, case, node, nonsense, vm};
use crate::{Action, FP, Levels, Round, Vm, VmId, Weight, round};

/// What a VM that runs has after an operation.
fn after(vm: &Vm, action: Action) -> u64 {
    match action {
        Action::Add { .. } => vm.assigned + action.given(),
        Action::Remove { size } | Action::Trim { size } => vm.assigned - size,
        other => panic!("{other:?} is nothing for a VM that runs"),
    }
}

/// The operations of VMs that run.
fn changes<'a>(case: &'a Case, round: &'a Round) -> impl Iterator<Item = (&'a Vm, Action)> {
    let operations = round.operations.iter();
    let running =
        operations.filter(|operation| case.starts.iter().all(|start| start.id != operation.vm));
    running.map(|operation| (case.vm(operation.vm), operation.action))
}

/// Maximum RAM, and that of a 32-bit guest.
fn most(vm: &Vm) -> u64 {
    if vm.is_32_bit {
        vm.maximum.min(4096)
    } else {
        vm.maximum
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn i1_nothing_is_lost_and_nothing_made(case in case()) {
        let round = round(&case.input());
        let mut accounted = round.free_after + i128::from(case.node.reserve + case.node.fixed);
        for vm in &case.vms {
            let change = round.operations.iter().find(|operation| operation.vm == vm.id);
            let after = change.map_or(vm.assigned, |operation| after(vm, operation.action));
            accounted += i128::from(after.max(vm.assigned));
        }
        for operation in &round.operations {
            if let Action::Start { startup } = operation.action {
                accounted += i128::from(startup);
            }
        }
        prop_assert_eq!(accounted, i128::from(case.node.total));
    }

    #[test]
    fn i2_no_more_is_given_than_is_free(case in case()) {
        let round = round(&case.input());
        let given: u64 = round.operations.iter().map(|operation| operation.action.given()).sum();
        prop_assert!(given <= round.available);
        prop_assert!(i128::from(round.available) == round.free.max(0));
    }

    #[test]
    fn i3_operations_stay_within_the_limits_or_lead_there(case in case()) {
        for (vm, action) in changes(&case, &round(&case.input())) {
            let after = after(vm, action);
            prop_assert!(after >= vm.minimum.min(vm.assigned) && after <= most(vm).max(vm.assigned));
            prop_assert!(vm.assigned >= vm.minimum || after > vm.assigned);
            prop_assert!(vm.assigned <= most(vm) || after < vm.assigned);
            if let Action::Add { unballoon, hot_add, .. } = action {
                prop_assert!(unballoon <= vm.ballooned);
                let visible = vm.assigned + vm.ballooned + hot_add;
                prop_assert!(hot_add == 0 || vm.can_hot_add && visible <= most(vm));
            } else {
                prop_assert!(vm.can_balloon && vm.since_refusal >= 60);
            }
        }
    }

    #[test]
    fn i4_a_vm_has_one_operation_and_a_frozen_one_none(case in case()) {
        let round = round(&case.input());
        let ids: BTreeSet<VmId> = round.operations.iter().map(|operation| operation.vm).collect();
        prop_assert_eq!(ids.len(), round.operations.len());
        prop_assert!(case.starts.iter().all(|start| ids.contains(&start.id)));
        prop_assert!(changes(&case, &round).all(|(vm, _)| vm.is_live()));
        prop_assert!(changes(&case, &round).all(|(vm, action)| after(vm, action) != vm.assigned));
    }

    #[test]
    fn i5_hot_add_is_aligned_and_comes_after_the_whole_balloon(case in case()) {
        for (vm, action) in changes(&case, &round(&case.input())) {
            if let Action::Add { unballoon, hot_add, .. } = action {
                prop_assert_eq!(hot_add % vm.alignment.max(1), 0);
                prop_assert!(hot_add == 0 || unballoon == vm.ballooned);
                prop_assert!(unballoon == vm.ballooned || unballoon % 2 == 0);
            }
        }
    }

    #[test]
    fn i6_goals_fit_or_the_minimums_do_not(case in case()) {
        let round = round(&case.input());
        let live = || case.vms.iter().filter(|vm| vm.is_live());
        let capacity = round.free + live().map(|vm| i128::from(vm.assigned)).sum::<i128>();
        let goals: i128 = round.goals.iter().map(|goal| i128::from(goal.size)).sum();
        prop_assert_eq!(round.goals.len(), live().count());
        prop_assert!(round.target.over_commit || goals <= capacity);
        prop_assert!(round.goals.is_sorted_by_key(|goal| goal.vm));
    }

    #[test]
    fn i7_the_order_of_the_lists_does_not_matter(
        (case, vms, starts) in case().prop_flat_map(|case| {
            let (vms, starts) = (case.vms.clone(), case.starts.clone());
            (Just(case), Just(vms).prop_shuffle(), Just(starts).prop_shuffle())
        })
    ) {
        let shuffled = Case { vms, starts, ..case.clone() };
        prop_assert_eq!(round(&case.input()), round(&shuffled.input()));
    }

    #[test]
    fn i9_in_shortage_the_heavier_of_two_alike_has_no_less(
        mut twin in vm(), others in prop::collection::vec(vm(), 0..4), weight in 1_u64..=10_000, less in 0_i64..4000,
    ) {
        twin.id = VmId(1);
        let mut heavier = twin;
        heavier.id = VmId(2);
        heavier.weight = Weight::new(weight.max(twin.weight.get())).unwrap();
        let mut vms = vec![twin, heavier];
        for (id, mut other) in (10..).zip(others) {
            other.id = VmId(id);
            vms.push(other);
        }
        let node = node(&vms, -less);
        let case = Case { node, vms, starts: vec![], trim_tick: false };
        let round = round(&case.input());
        if let [lighter, heavier, ..] = round.goals.as_slice() && lighter.vm == VmId(1) {
            prop_assert!(lighter.size <= heavier.size);
        }
    }

    /// DM-17: one target pressure for all.
    #[test]
    fn equal_weights_and_buffers_end_at_the_same_pressure(
        demands in prop::collection::vec(1000_u64..8000, 2..8), missing in 0_u64..60,
    ) {
        let vms: Vec<Vm> = (0..).zip(&demands).map(|(id, demand)| Vm {
            assigned: demand * (120 - missing) / 100,
            settled: *demand,
            smoothed: *demand,
            minimum: 32,
            maximum: 1 << 20,
            ..super::text::default_vm(id)
        }).collect();
        let case = Case { node: node(&vms, 0), vms, starts: vec![], trim_tick: false };
        let round = round(&case.input());
        prop_assert!(round.target.k >= FP - 8192);
        for goal in &round.goals {
            let pressure = crate::pressure(case.vm(goal.vm).settled, goal.size);
            prop_assert!(pressure.abs_diff(round.target.pressure().into()) <= 1);
        }
    }

    /// A start takes from heavier VMs only what they do not need (section 4.5, step 1).
    #[test]
    fn a_start_leaves_heavier_vms_what_they_need(case in case()) {
        let round = round(&case.input());
        let accepted = case.starts.iter().filter(|start| {
            let action = round.operations.iter().find(|operation| operation.vm == start.id);
            !matches!(action.unwrap().action, Action::Reject { .. })
        });
        let Some(lightest) = accepted.map(|start| start.weight).min() else { return Ok(()) };
        for goal in &round.goals {
            let vm = case.vm(goal.vm);
            let needed = Levels::of(vm.smoothed, vm.settled, vm.buffer).buffer;
            if vm.weight > lightest {
                prop_assert!(goal.size >= needed.min(vm.assigned).min(most(vm)));
            }
        }
    }

    /// Numbers that make no sense make no sense of the orders either, but nothing wraps and nothing panics.
    #[test]
    fn nonsense_is_survived(case in nonsense()) {
        let round = round(&case.input());
        let given: u64 = round.operations.iter().map(|operation| operation.action.given()).sum();
        prop_assert!(given <= round.available);
        for (vm, action) in changes(&case, &round) {
            if let Action::Remove { size } | Action::Trim { size } = action {
                prop_assert!(size <= vm.assigned);
            }
        }
        let _ = round.target.pressure();
    }
}
