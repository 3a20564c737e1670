//! Starts that wait: what is set aside for them, in which order they are served, and VMs whose guest has reset.

use super::starts::{short, started};
use super::{A, B, C, Machine, dynamic, remove, state};
use crate::life::{SECOND, WAIT_TIME};
use crate::tests::fake::{Effect, vm};
use crate::{State, VmId};

/// `b` waits, and `a` is asked for what it lacks; `c`, which is lighter, waits too. 1000 MiB of 1540 have come.
fn half_way() -> Machine {
    let others = [
        dynamic("b", [2048, 512, 4096], "start_order = 2"),
        dynamic("c", [1024, 512, 4096], "start_order = 3\nweight = 1000"),
    ];
    let mut machine = short(512, &others);
    machine.tell(A, state(7040, 0, 2000));
    assert!(machine.type_in("vm start b").contains("waits"));
    assert!(machine.type_in("vm start c").contains("waits"));
    let [Effect::Memory(A, order)] = machine.second()[..] else {
        panic!("one order");
    };
    assert!(order.remove >= 1536 * super::MIB);
    machine.ram(A, 7040 - 1000);
    machine
}

#[test]
fn what_is_being_freed_for_a_start_is_given_to_no_lighter_one() {
    let mut machine = half_way();
    // The giver is busy, so that the balancer sees no way for the heavier.
    assert_eq!(machine.second(), []);
    machine.ram(A, 7040 - 1600);
    assert_eq!(started(&machine.second()), [B]);
    machine.ram(B, 2048);
    machine.ram(A, 7040 - 2600);
    assert_eq!(started(&machine.second()), [C]);
}

#[test]
fn what_is_being_freed_for_a_start_is_added_to_no_other_vm() {
    let others = [
        dynamic("b", [2048, 512, 4096], "start_order = 2"),
        dynamic("c", [1024, 512, 4096], "start_order = 3\nweight = 9000"),
    ];
    let mut machine = short(1536, &others);
    machine.run(C, 1024);
    machine.tell(A, state(6016, 0, 2000));
    machine.tell(C, state(1024, 0, 700));
    assert!(machine.type_in("vm start b").contains("waits"));
    let orders = machine.second();
    assert!(matches!(orders[..], [Effect::Memory(A, _)]), "{orders:?}");
    // Now it needs more, and is heavier; but the memory was freed for another.
    machine.tell(C, state(1024, 0, 1000));
    machine.ram(A, 6016 - 1000);
    assert_eq!(machine.second(), []);
    machine.ram(A, 6016 - 2000);
    let effects = machine.second();
    assert_eq!(started(&effects), [B], "{effects:?}");
    // What is beyond that it gets.
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Memory(C, _)))
    );
}

#[test]
fn what_is_set_aside_is_let_go_with_the_start() {
    for command in ["vm stop b", "vm kill b"] {
        let mut machine = half_way();
        assert_eq!(machine.second(), []);
        let available = |machine: &Machine| machine.balancer().expect("VMs")[0].1;
        assert_eq!(available(&machine), 1512, "nobody has it");
        machine.type_in(command);
        assert_eq!(started(&machine.second()), [C]);
    }
}

#[test]
fn a_vm_that_has_reset_is_served_before_the_heavier() {
    let others = [
        dynamic("b", [2048, 512, 4096], "start_order = 2\nweight = 1000"),
        dynamic("c", [2048, 512, 4096], "start_order = 3\nweight = 9000"),
    ];
    let mut machine = short(2100, &others);
    machine.run(B, 2048);
    machine.tell(A, state(5452, 0, 5452));
    machine.ram(A, 6500);
    resets(&mut machine, B);
    machine.tell(A, state(6500, 0, 2000));
    assert!(machine.type_in("vm start c").contains("waits"));
    assert!(!machine.second().is_empty());
    machine.ram(A, 6500 - 1052);
    assert_eq!(started(&machine.second()), [B]);
}

#[test]
fn a_reset_waits_if_the_memory_is_gone() {
    let mut machine = short(0, &[dynamic("b", [2048, 512, 4096], "")]);
    machine.ram(A, 5000);
    machine.tell(A, state(7552, 2552, 2000));
    machine.run(B, 2048);
    // What the guest had given back others have now.
    machine.ram(A, 6500);
    machine.tell(A, state(7552, 1052, 2000));
    machine.ram(B, 0);
    let end = crate::tests::fake::exited(root_abi::ExitReason::Reset);
    machine.manager.worker_ended(&mut machine.host, B, &end);
    assert!(
        machine
            .host
            .seen()
            .contains("[b: waits for memory: 2056 MiB")
    );
    assert!(matches!(machine.manager.state(B), Some(State::Waiting(_))));
    assert_eq!(machine.second(), [remove(A, 1000)]);
}

/// A guest resets, and its memory is not free any more.
fn resets(machine: &mut Machine, vm: VmId) -> String {
    machine.ram(vm, 0);
    let end = crate::tests::fake::exited(root_abi::ExitReason::Reset);
    machine.manager.worker_ended(&mut machine.host, vm, &end);
    machine.host.seen()
}

#[test]
fn a_reset_waits_for_as_long_as_it_takes() {
    let mut machine = short(2100, &[dynamic("b", [2048, 512, 4096], "weight = 1000")]);
    machine.run(B, 2048);
    machine.tell(A, state(5452, 0, 5000));
    machine.ram(B, 512);
    machine.ram(A, 6900);
    // A heavier VM has and needs what it lacks: another start would be refused.
    machine.tell(A, state(6900, 0, 6900));
    let told = resets(&mut machine, B);
    assert!(told.contains("[b: waits for memory: 2056 MiB"), "{told}");
    for _ in 0..5 * WAIT_TIME / SECOND {
        machine.tell(A, state(6900, 0, 6900));
        machine.second();
        assert!(matches!(machine.manager.state(B), Some(State::Waiting(_))));
    }
    let list = machine.type_in("vm list");
    assert!(list.contains("number 1, as long as it takes, after a reset: 2056"));
    machine.ends(A);
    assert_eq!(started(&machine.second()), [B]);
    let events = machine.type_in("events");
    assert_eq!(events.matches("b       waits for memory").count(), 1);
}

#[test]
fn a_reset_without_any_dynamic_memory_waits_as_well_and_does_not_need_the_hosts_reserve() {
    let mut machine = Machine::new(300, &[vm("a", ""), vm("b", "")]);
    machine.run(A, 64);
    machine.run(B, 64);
    // Somebody has taken it.
    machine.ram(A, 136);
    assert!(resets(&mut machine, B).contains("[b: waits for memory: 72 MiB"));
    machine.second();
    assert!(matches!(machine.manager.state(B), Some(State::Waiting(_))));
    machine.ram(A, 64);
    assert_eq!(started(&machine.second()), [B]);
}

#[test]
fn the_list_numbers_those_that_wait_in_the_order_in_which_they_are_served() {
    let others = [
        dynamic("b", [2048, 512, 4096], "weight = 1000"),
        dynamic("c", [2048, 512, 4096], "weight = 9000"),
        dynamic("d", [1024, 512, 4096], "weight = 100"),
    ];
    let mut machine = short(1100, &others);
    let d = machine.manager.find("d").expect("d");
    machine.run(d, 1024);
    machine.ram(A, 7400);
    machine.tell(A, state(7400, 0, 2000));
    resets(&mut machine, d);
    assert!(machine.type_in("vm start b").contains("waits"));
    assert!(machine.type_in("vm start c").contains("waits"));
    let list = machine.type_in("vm list");
    for (name, number) in [("d", 1), ("c", 2), ("b", 3)] {
        let row = list.lines().find(|line| line.starts_with(name));
        let words = format!(" number {number}, ");
        assert!(row.is_some_and(|row| row.contains(&words)), "{list}");
    }
}

#[test]
fn those_that_waited_are_stopped_by_when_they_did_start() {
    let others = [
        dynamic("b", [2048, 512, 4096], "start_order = 2\nweight = 1000"),
        dynamic("c", [2048, 512, 4096], "start_order = 3\nweight = 9000"),
    ];
    let mut machine = short(0, &others);
    machine.tell(A, state(7552, 0, 1000));
    assert!(machine.type_in("vm start b").contains("waits"));
    assert!(machine.type_in("vm start c").contains("waits"));
    machine.second();
    machine.ram(A, 3000);
    assert_eq!(started(&machine.second()), [C, B]);
    machine.type_in("vm stop all");
    assert_eq!(machine.host.done(), [Effect::Stop(B)]);
}

#[test]
fn stop_all_says_that_it_ends_those_that_wait() {
    let mut machine = short(512, &[dynamic("b", [2048, 512, 4096], "")]);
    assert!(machine.type_in("vm start b").contains("waits"));
    let answer = machine.type_in("vm stop all");
    assert!(answer.contains("1 to stop, the one started last is the first\nb will not be"));
    // Nobody runs any more, and one waits.
    assert!(machine.type_in("vm start b").contains("waits"));
    machine.ends(A);
    let answer = machine.type_in("vm stop all");
    assert!(answer.contains("vm stop all\nb will not be started again"));
    assert!(machine.type_in("vm stop all").contains("no VM is running"));
    machine.host.done();
    assert_eq!(machine.second(), []);
}

#[test]
fn the_list_has_what_a_vm_has_and_not_what_it_started_with() {
    let mut machine = Machine::new(8192, &[dynamic("a", [1024, 512, 4096], ""), vm("c", "")]);
    let row = |machine: &mut Machine, name: &str| {
        let list = machine.type_in("vm list");
        let row = list.lines().find(|line| line.starts_with(name));
        let cells = row.expect("a row").split_ascii_whitespace();
        cells.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(row(&mut machine, "a")[4], "1024", "what it will start with");
    machine.run(A, 1024);
    machine.ram(A, 668);
    assert_eq!(row(&mut machine, "a")[4], "668");
    machine.run(B, 60);
    assert_eq!(
        row(&mut machine, "c")[4],
        "64",
        "what it was given for good"
    );
}
