//! A machine with two NUMA nodes: who starts where, and whose memory is moved.

use proptest::prelude::*;

use super::{A, B, C, MIB, Machine, add, dynamic, remove, state};
use crate::host::Home;
use crate::memory::Scope;
use crate::tests::fake::{Effect, vm};
use crate::{NodeMemory, State, VmId};

const BOUND: &str = "spanning = false";

fn bound(node: u32) -> String {
    format!("node = {node}\n{BOUND}")
}

/// Two nodes of 8192 MiB, with 440 of the host's reserve and 1024 more that are its own in each: as in B36 to B38.
fn machine(definitions: &[(String, String)]) -> Machine {
    let mut machine = Machine::new(2 * 8192, definitions);
    machine.host.nodes = 2;
    let report = &mut machine.host.report;
    report.root_kernel = 2 * 1464 * MIB;
    let node = NodeMemory {
        total: 8192 * MIB,
        root: 1464 * MIB,
        ..NodeMemory::default()
    };
    report.nodes = vec![node; 2];
    machine.books();
    machine
}

/// Starts a VM, which has all its memory at once.
fn run(machine: &mut Machine, id: VmId, mib: [u64; 2]) {
    let name = machine.manager.name(id).expect("there").to_string();
    let answer = machine.type_in(&format!("vm start {name}"));
    assert!(answer.contains("is starting"), "{answer}");
    machine.ram_in(id, mib);
    machine.manager.worker_running(&mut machine.host, id);
    machine.host.done();
}

/// VMs of B36 and B37, one in each node and as large as they must be, and one that wants 2 GiB.
fn full(keys: [&str; 2], more: &str) -> Machine {
    let size = [5192, 5192, 8192];
    let definitions = [
        dynamic("a", size, &format!("node = 0\n{}", keys[0])),
        dynamic("b", size, &format!("node = 1\n{}", keys[1])),
        dynamic("c", [2048, 512, 4096], more),
    ];
    let mut machine = machine(&definitions);
    run(&mut machine, A, [5192, 0]);
    run(&mut machine, B, [0, 5192]);
    for id in [A, B] {
        machine.tell(id, state(5192, 0, 4000));
    }
    machine
}

fn names(machine: &Machine) -> Vec<String> {
    let balancers = machine.manager.balancers();
    balancers.into_iter().map(|(name, _)| name).collect()
}

fn event(machine: &mut Machine, text: &str) {
    let events = machine.type_in("events");
    assert!(events.contains(text), "{events}");
}

#[test]
fn b36_b37_a_start_is_refused_in_a_node_although_the_sum_would_do() {
    for node in [0, 1] {
        for others in ["", BOUND] {
            let mut machine = full([others; 2], &bound(node));
            let answer = machine.type_in("vm start c");
            let words = format!(
                "2056 MiB of memory are needed and 1536 MiB are free beyond the host's reserve of 440 MiB in NUMA node {node}, which it may not leave"
            );
            assert!(answer.contains(&words), "{answer}");
            event(&mut machine, &words);
            assert!(matches!(machine.manager.state(C), Some(State::Failed(_))));
        }
    }
}

#[test]
fn b38_the_same_start_is_allowed_if_it_may_span() {
    for others in ["", BOUND] {
        let mut machine = full([others; 2], "node = 1");
        assert!(machine.type_in("vm start c").contains("is starting"));
        let home = Home {
            node: 1,
            spanning: true,
            ..Home::default()
        };
        assert_eq!(machine.host.homes[&C], home);
        machine.host.done();
        // What it has still to get is nobody's, and nobody is asked for it.
        for mib in [[0, 0], [0, 600], [0, 1530], [518, 1530]] {
            machine.ram_in(C, mib);
            assert_eq!(machine.second(), [], "{mib:?}");
        }
        machine.manager.worker_running(&mut machine.host, C);
        assert_eq!(machine.second(), []);
    }
}

#[test]
fn a_static_vm_is_refused_by_its_node_too() {
    let size = "memory = 7000";
    let text = |name: &str, more: &str| {
        let (file, text) = vm(name, more);
        (file, text.replace("memory = 64", size))
    };
    let definitions = [text("a", &bound(1)), text("b", "node = 1")];
    let mut machine = machine(&definitions);
    let answer = machine.type_in("vm start a");
    let words = "7008 MiB of memory are needed and 6728 MiB are free in NUMA node 1, which it may not leave; stop another VM there, lower \"memory\", or allow \"spanning\"";
    assert!(answer.contains(words), "{answer}");
    event(&mut machine, words);
    assert!(machine.type_in("vm start b").contains("is starting"));
}

#[test]
fn there_is_one_balancer_unless_a_vm_may_not_span() {
    let mut one = full(["", ""], "");
    one.second();
    assert_eq!(names(&one), ["System Balancer"]);
    let mut two = full(["", BOUND], "");
    two.second();
    assert_eq!(names(&two), ["Node 0 Balancer", "Node 1 Balancer"]);
    let available = two
        .manager
        .balancers()
        .into_iter()
        .map(|(_, values)| values[0].1);
    assert_eq!(available.collect::<Vec<_>>(), [1536, 1536]);
    two.ends(B);
    two.second();
    assert_eq!(names(&two), ["System Balancer"]);
    // On a machine with one node nothing can be spanned.
    let mut small = Machine::new(8192, &[dynamic("a", [1024, 512, 2048], BOUND)]);
    small.run(A, 1024);
    small.second();
    assert_eq!(names(&small), ["System Balancer"]);
}

#[test]
fn a_vm_without_a_node_is_at_home_where_most_is_free() {
    let definitions = [
        dynamic("a", [5000, 512, 8192], "node = 0"),
        dynamic("b", [3000, 512, 8192], "node = 1"),
        dynamic("c", [2048, 512, 4096], BOUND),
    ];
    let mut machine = machine(&definitions);
    run(&mut machine, A, [5000, 0]);
    run(&mut machine, B, [0, 3000]);
    assert!(machine.type_in("vm start c").contains("is starting"));
    let home = Home {
        node: 1,
        spanning: false,
        ..Home::default()
    };
    assert_eq!(machine.host.homes[&C], home);
}

/// One in each node, of which the first needs more and the second has more than it needs; all memory is in use.
fn uneven(more: &str) -> Machine {
    let size = [6728, 512, 8192];
    let definitions = [
        dynamic("a", size, &format!("node = 0\n{more}")),
        dynamic("b", size, &format!("node = 1\n{more}")),
    ];
    let mut machine = machine(&definitions);
    machine.host.report.nodes[0].total += 16 * MIB;
    machine.host.report.nodes[1].total += 16 * MIB;
    machine.host.report.total += 32 * MIB;
    machine.books();
    run(&mut machine, A, [6728, 0]);
    run(&mut machine, B, [0, 6728]);
    machine.host.report.nodes[0].total -= 16 * MIB;
    machine.host.report.nodes[1].total -= 16 * MIB;
    machine.host.report.total -= 32 * MIB;
    machine.books();
    machine.tell(A, state(6728, 0, 6700));
    machine.tell(B, state(6728, 0, 1000));
    machine
}

#[test]
fn each_nodes_balancer_moves_only_its_own_memory() {
    let mut machine = uneven("");
    let orders = machine.second();
    assert!(
        matches!(orders.as_slice(), [Effect::Memory(B, order)] if order.remove > 0),
        "{orders:?}"
    );
    let mut machine = uneven(BOUND);
    assert_eq!(machine.second(), []);
    // What B gives up is its node's, and stays there.
    machine.ram_in(B, [0, 4000]);
    assert_eq!(machine.second(), []);
    machine.tell(B, state(4000, 0, 5000));
    let orders = machine.second();
    assert!(
        matches!(orders.as_slice(), [Effect::Memory(B, order)] if order.hot_add > 0),
        "{orders:?}"
    );
}

#[test]
fn a_start_in_a_node_waits_for_those_in_it_to_give() {
    let definitions = [
        dynamic("a", [6000, 512, 8192], &bound(0)),
        dynamic("b", [6000, 512, 8192], &bound(1)),
        dynamic("c", [2048, 512, 4096], &bound(1)),
    ];
    let mut machine = machine(&definitions);
    run(&mut machine, A, [6000, 0]);
    run(&mut machine, B, [0, 6000]);
    // The other node's has much more to give.
    machine.tell(A, state(6000, 0, 400));
    machine.tell(B, state(6000, 0, 3000));
    let answer = machine.type_in("vm start c");
    assert!(answer.contains("c waits for memory"), "{answer}");
    assert!(machine.type_in("vm list").contains("waiting"));
    assert_eq!(machine.second(), [remove(B, 2056 - 728)]);
    machine.ram_in(B, [0, 6000 - 1328]);
    machine.tell(B, state(6000, 1328, 3000));
    assert_eq!(machine.second(), [Effect::Start(C, "c".into())]);
}

#[test]
fn one_that_spans_and_waits_starts_as_soon_as_the_sum_is_free() {
    let definitions = [
        dynamic("a", [6700, 6700, 8192], "node = 0"),
        dynamic("b", [6000, 512, 8192], &bound(1)),
        dynamic("c", [2048, 512, 4096], "node = 0"),
    ];
    let mut machine = machine(&definitions);
    run(&mut machine, A, [6700, 0]);
    run(&mut machine, B, [0, 6000]);
    machine.tell(A, state(6700, 0, 5000));
    machine.tell(B, state(6000, 0, 3000));
    let answer = machine.type_in("vm start c");
    assert!(answer.contains("c waits for memory"), "{answer}");
    // The other node's is not asked to give for it.
    assert_eq!(machine.second(), []);
    machine.ram_in(B, [0, 4000]);
    machine.tell(B, state(6000, 2000, 3000));
    assert_eq!(machine.second(), [Effect::Start(C, "c".into())]);
    assert_eq!(machine.host.homes[&C].node, 0);
}

#[test]
fn a_vm_that_spans_is_balanced_at_home_with_all_that_it_has() {
    let definitions = [
        dynamic("a", [4096, 512, 8192], "node = 0"),
        dynamic("b", [1024, 512, 8192], &bound(1)),
    ];
    let mut machine = machine(&definitions);
    run(&mut machine, A, [1024, 3072]);
    run(&mut machine, B, [0, 1024]);
    machine.tell(A, state(4096, 0, 6000));
    machine.tell(B, state(1024, 0, 700));
    // It gets of its home's, as much as it needs.
    assert_eq!(machine.second(), [add(A, 0, 3968)]);
    let available = machine.manager.balancers();
    let available: Vec<_> = available.iter().map(|(_, values)| values[0].1).collect();
    assert_eq!(available, [8192 - 1464 - 1024, 8192 - 1464 - 3072 - 1024]);
    assert!(machine.type_in("mem").contains("1     a: guest RAM"));
}

/// The host does not use all of its reserve, in no node.
#[test]
fn a_vm_that_spans_takes_nothing_of_what_its_node_keeps_for_the_host() {
    let definitions = [
        dynamic("a", [4000, 512, 8192], &bound(0)),
        dynamic("b", [4000, 512, 8192], &bound(1)),
        dynamic("c", [4096, 512, 8192], "node = 0"),
    ];
    let mut machine = machine(&definitions);
    machine.host.report.root_kernel = 200 * MIB;
    for node in &mut machine.host.report.nodes {
        node.root = 100 * MIB;
    }
    run(&mut machine, A, [4000, 0]);
    run(&mut machine, B, [0, 4000]);
    for id in [A, B] {
        machine.tell(id, state(4000, 0, 3000));
    }
    assert!(machine.type_in("vm start c").contains("is starting"));
    let keep = machine.host.homes[&C].keep;
    assert_eq!(keep[..3], [340 * MIB, 340 * MIB, 0]);
    machine.host.done();
    // All of what node 0 has free but for that, less the deposits; as the kernel does it.
    let at_home = 8192 - 440 - 4000 - 4;
    for part in [0, 1000, at_home] {
        machine.ram_in(C, [part, 0]);
        assert_eq!(machine.second(), [], "{part}");
    }
    machine.ram_in(C, [at_home, 4096 - at_home]);
    assert_eq!(machine.second(), []);
}

#[test]
fn an_alert_says_which_node_it_is_about() {
    let mut machine = uneven(BOUND);
    machine.second();
    event(
        &mut machine,
        "0 of 8192 MiB are available in node 0: critical",
    );
}

proptest! {
    /// Whoever has what where: nothing that is not free is to give in a node, and every VM is balanced once.
    #[test]
    fn nodes_give_no_more_than_they_have_free(
        has in prop::collection::vec(([0u64..2000, 0u64..2000], 0u32..2, any::<bool>(), any::<bool>()), 3),
    ) {
        let definitions: Vec<_> = has.iter().enumerate().map(|(at, (_, node, spanning, _))| {
            dynamic(&format!("vm{at}"), [2048, 512, 8192], &format!("node = {node}\nspanning = {spanning}"))
        }).collect();
        let mut machine = machine(&definitions);
        let ids = [A, B, C];
        for (id, (mib, node, spanning, runs)) in ids.into_iter().zip(&has) {
            let mut mib = *mib;
            if !spanning {
                mib[1 - *node as usize] = 0;
            }
            let answer = machine.type_in(&format!("vm start vm{}", id.0));
            prop_assert!(answer.contains("is starting"), "{}", answer);
            machine.ram_in(id, mib);
            if *runs {
                machine.manager.worker_running(&mut machine.host, id);
            }
        }
        let report = machine.host.report.clone();
        let mut seen = Vec::new();
        for (at, node) in report.nodes.iter().enumerate() {
            let look = machine.manager.look(&machine.host, &report, true, Scope::Node(at));
            prop_assert!(look.free() <= node.free);
            prop_assert!(look.unclaimed() <= node.free << 12);
            prop_assert_eq!(look.size(), node.total);
            let assigned: u64 = look.vms.iter().map(|vm| vm.assigned).sum();
            let accounted = look.node.reserve + look.node.fixed + assigned + look.free();
            prop_assert!(accounted >= look.node.total);
            seen.extend(look.vms.iter().map(|vm| vm.id.0));
        }
        seen.sort_unstable();
        prop_assert_eq!(seen, [0, 1, 2]);
    }
}
