//! Arbitrary nodes.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::{
    Action, Buffer, FP, Input, LONG_AGO, Levels, Node, PendingStart, Unit, Vm, VmId, Weight, round,
};

/// What an [`Input`] borrows, and the rest of it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) node: Node,
    pub(super) vms: Vec<Vm>,
    pub(super) starts: Vec<PendingStart>,
    pub(super) trim_tick: bool,
}

impl Case {
    pub(super) fn input(&self) -> Input<'_> {
        Input {
            unit: Unit::Mebibyte,
            node: self.node,
            vms: &self.vms,
            starts: &self.starts,
            trim_tick: self.trim_tick,
        }
    }

    pub(super) fn vm(&self, id: VmId) -> &Vm {
        let mut vms = self.vms.iter();
        vms.find(|vm| vm.id == id).expect("a VM of the case")
    }
}

/// Few different ones, so that many are equal.
fn weight() -> impl Strategy<Value = Weight> {
    select(vec![0, 1, 1000, 5000, 5001, 10_000]).prop_map(|weight| Weight::new(weight).unwrap())
}

fn buffer() -> impl Strategy<Value = Buffer> {
    select(vec![5, 20, 20, 50, 100, 2000]).prop_map(|percent| Buffer::new(percent).unwrap())
}

/// Seconds around a limit, or never.
fn seconds(limit: u32) -> impl Strategy<Value = u32> {
    prop_oneof![2 => Just(LONG_AGO), 1 => limit - 3..limit + 3, 1 => 0..limit]
}

fn rarely() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.15)
}

prop_compose! {
    /// A VM whose minimum and maximum are in order, also for a 32-bit guest. It may be outside of them.
    pub(super) fn vm()(
        (weight, buffer) in (weight(), buffer()),
        (minimum, room) in (32_u64..3000, 0_u64..9000),
        (assigned, ballooned) in (0_u64..7000, prop_oneof![Just(0), 0_u64..3000]),
        (settled, behind) in (0_u64..8000, prop_oneof![2 => Just(0), 1 => -500_i64..2000]),
        alignment in select(vec![0, 1, 2, 128, 128, 2048]),
        is_32_bit in rarely(),
        unable in (rarely(), rarely()),
        frozen in (rarely(), rarely(), prop_oneof![6 => Just(1), 1 => 4..8_u32]),
        since in (seconds(30), seconds(60), seconds(180)),
    ) -> Vm {
        Vm {
            id: VmId(0),
            weight,
            buffer,
            minimum,
            maximum: minimum + room,
            is_32_bit,
            alignment,
            can_balloon: !unable.0,
            can_hot_add: !unable.1,
            assigned,
            ballooned,
            settled,
            smoothed: settled.saturating_add_signed(behind),
            reporting: !frozen.0,
            in_flight: frozen.1,
            report_age: frozen.2,
            since_add: since.0,
            since_refusal: since.1,
            low_for: since.2,
        }
    }
}

prop_compose! {
    fn start()(weight in weight(), startup in 32_u64..4000) -> PendingStart {
        PendingStart { id: VmId(0), weight, startup }
    }
}

/// Each has a name, in an order that says nothing.
fn named(mut vms: Vec<Vm>, mut starts: Vec<PendingStart>) -> (Vec<Vm>, Vec<PendingStart>) {
    let names = vms.iter_mut().map(|vm| &mut vm.id);
    let names = names.chain(starts.iter_mut().map(|start| &mut start.id));
    for (index, id) in (0_u64..).zip(names) {
        *id = VmId(index * 7 % 31);
    }
    (vms, starts)
}

/// A node with so much more than its VMs have, reserve and the like, or less.
pub(super) fn node(vms: &[Vm], more: i64) -> Node {
    let assigned: u64 = vms.iter().map(|vm| vm.assigned).sum();
    let used = assigned + 4000;
    let total = used.saturating_add_signed(more);
    Node {
        total,
        reserve: 1000,
        fixed: 3000,
    }
}

/// How much more there has to be so that the VMs can have their buffers and so many per cent of the spare above, whatever
/// their limits.
fn between_the_levels(vms: &[Vm], percent: u64) -> i64 {
    let wanted = vms.iter().filter(|vm| vm.is_live()).map(|vm| {
        let levels = Levels::of(vm.smoothed, vm.settled, vm.buffer);
        let spare = (levels.ample - levels.buffer) * percent / 100;
        let wanted = (levels.buffer + spare).clamp(vm.minimum, vm.maximum);
        wanted.cast_signed() - vm.assigned.cast_signed()
    });
    wanted.sum()
}

prop_compose! {
    /// A node with up to 12 VMs and 6 that wait to start.
    pub(super) fn case()(
        vms in vec(vm(), 0..=12),
        starts in prop_oneof![Just(vec![]), vec(start(), 0..=6)],
        more in prop_oneof![-3000_i64..6000, Just(0), 6000_i64..40_000],
        spare in proptest::option::weighted(0.3, 1_u64..100),
        trim_tick in any::<bool>(),
    ) -> Case {
        let (vms, starts) = named(vms, starts);
        let more = spare.map_or(more, |percent| between_the_levels(&vms, percent));
        Case { node: node(&vms, more), vms, starts, trim_tick }
    }
}

/// Sizes that nobody has.
fn absurd() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(u64::MAX / 3),
        any::<u64>(),
        0..10_000_u64
    ]
}

prop_compose! {
    /// Numbers without any sense.
    pub(super) fn nonsense()(
        vms in vec((vm(), prop::array::uniform7(absurd())), 0..=6),
        starts in vec((start(), absurd()), 0..=4),
        node in prop::array::uniform3(absurd()),
        trim_tick in any::<bool>(),
    ) -> Case {
        let vms = vms.into_iter().map(|(mut vm, sizes)| {
            [vm.minimum, vm.maximum, vm.alignment, vm.assigned, vm.ballooned, vm.settled, vm.smoothed] = sizes;
            vm
        });
        let starts = starts.into_iter().map(|(start, startup)| PendingStart { startup, ..start });
        let (vms, starts) = named(vms.collect(), starts.collect());
        let [total, reserve, fixed] = node;
        Case { node: Node { total, reserve, fixed }, vms, starts, trim_tick }
    }
}

/// What a round has in it: kinds of operations, and where the search ended.
fn kinds(case: &Case) -> Vec<&'static str> {
    let round = round(&case.input());
    let operations = round
        .operations
        .iter()
        .map(|operation| match operation.action {
            Action::Add { partial: true, .. } => "partial add",
            Action::Add { hot_add: 0, .. } => "unballoon",
            Action::Add { unballoon: 0, .. } => "hot-add",
            Action::Add { .. } => "unballoon and hot-add",
            Action::Remove { .. } if round.free < 0 => "remove for the host",
            Action::Remove { .. } => "remove",
            Action::Trim { .. } => "trim",
            Action::Start { .. } => "start",
            Action::Hold { .. } => "hold",
            Action::Reject { .. } => "reject",
        });
    let search = match round.target.k {
        _ if round.target.over_commit => "over-commit",
        0 => "ample",
        1..=FP => "spare is shared",
        _ => "shortage is shared",
    };
    operations.chain([search]).collect()
}

/// Properties of rounds in which nothing happens say little.
#[test]
fn arbitrary_nodes_have_everything_in_their_rounds() {
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for _ in 0..400 {
        let case = case().new_tree(&mut runner).expect("a case").current();
        for kind in kinds(&case) {
            *seen.entry(kind).or_default() += 1;
        }
    }
    assert_eq!(seen.len(), 14, "{seen:?}");
    assert!(seen.values().all(|times| *times >= 10), "{seen:?}");
}
