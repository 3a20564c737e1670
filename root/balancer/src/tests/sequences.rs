//! The sequences SEQ1 to SEQ3: one round a second, operations done within their second, guests that obey.

use super::text::{Machines, change};
use super::world::World;
use crate::{Node, Round, Vm};

fn world(total: u64, reserve: u64, fixed: u64, vms: &str) -> World {
    let node = Node {
        total,
        reserve,
        fixed,
    };
    World::new(node, Machines::parse(vms).vms)
}

/// The demand that the table gives.
fn steady(vms: &str) -> impl Fn(&Vm) -> u64 + use<> {
    let vms = Machines::parse(vms).vms;
    move |vm| {
        let mut known = vms.iter().filter(|known| known.id == vm.id);
        known.next().expect("a VM of the table").settled
    }
}

/// A line for each operation.
fn log(into: &mut Vec<String>, name: &str, round: &Round) {
    for operation in &round.operations {
        let (vm, what) = (operation.vm.0, change(operation.action));
        into.push(format!("{name}: VM{vm} {what}"));
    }
}

#[test]
fn seq1_the_experiment_with_one_vm() {
    let mut world = world(16384, 880, 2048, "1: min=512 max=4096 A=668 B=356");
    let mut seen = Vec::new();
    for t in 0..1000 {
        let demand = if (10..130).contains(&t) { 1500 } else { 500 };
        for operation in world.second(|_| demand).operations {
            let (assigned, visible, pressure) = world.shown(1);
            let what = change(operation.action);
            seen.push(format!(
                "t = {t} {what} → {assigned} / {visible}, {pressure}"
            ));
        }
        if t == 9 {
            assert_eq!(world.shown(1), (668, 1024, 74));
        }
        if t == 10 {
            assert_eq!(world.shown(1), (668, 1024, 224));
        }
    }
    let expected = [
        "t = 12 unballoon 356 + hot-add 512 → 1536 / 1536, 97",
        "t = 43 hot-add 512 → 2048 / 2048, 73",
        "t = 600 trim 1380 → 668 / 2048, 74",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn seq2_the_published_chart() {
    let vms = "1: A=4096 D=6144 min=2048; 2: A=3200 D=2000 min=3200 max=6144; \
               3: A=3208 D=2000 min=3208 max=6144";
    let mut world = world(12288, 760, 1024, vms);
    let demand = steady(vms);
    let mut seen = Vec::new();
    for t in 0..1000 {
        if t == 100 {
            assert_eq!(world.shown(1), (4096, 4096, 150));
            world.guests.retain(|guest| guest.vm.id.0 == 1);
        }
        let round = world.second(&demand);
        log(&mut seen, &format!("t = {t}"), &round);
    }
    assert_eq!(seen, ["t = 100: VM1 hot-add 4096"]);
    assert_eq!(world.shown(1), (8192, 8192, 75));
}

#[test]
fn seq3_five_vms_settle_in_two_rounds() {
    let vms = "1: min=2048 max=6144 A=2048 D=900; 2: min=2048 max=6144 A=2048 D=900; \
               3: min=512 max=6144 A=1024 D=450; 4: min=512 max=6144 A=1024 D=450; \
               5: min=512 max=8192 A=2048 D=7000";
    let mut world = world(12288, 760, 1024, vms);
    let demand = steady(vms);
    let mut seen = Vec::new();
    for t in 0..1000 {
        let round = world.second(&demand);
        log(&mut seen, &format!("round {t}"), &round);
    }
    let expected = [
        "round 0: VM5 hot-add 2304",
        "round 0: VM3 remove 512",
        "round 0: VM4 remove 512",
        "round 1: VM5 hot-add 1024",
    ];
    assert_eq!(seen, expected);
    let end = [1, 2, 3, 4, 5].map(|id| world.shown(id));
    let (assigned, pressures) = (end.map(|end| end.0), end.map(|end| end.2));
    assert_eq!(assigned, [2048, 2048, 512, 512, 5376]);
    assert_eq!(pressures, [43, 43, 87, 87, 130]);
}
