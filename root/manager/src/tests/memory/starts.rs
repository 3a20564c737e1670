//! Starts when memory is short: who waits, who goes first, and who is refused.

use super::{A, B, C, Machine, dynamic, remove, state};
use root_abi::news::{self, MemoryState};

use crate::life::{LONGEST_WAIT, SECOND, WAIT_TIME};
use crate::memory::{BOOT_TIME, QUIET_TIME};
use crate::tests::fake::{Effect, Fake, exited, vm};
use crate::{Manager, State, VmId};

/// A VM that fills a machine of 8192 MiB, 640 of them the host's, but for `free`, and others that want to start.
pub fn short(free: u64, others: &[(String, String)]) -> Machine {
    let size = 8192 - 640 - free;
    let mut definitions = vec![dynamic("a", [size, 1024, 8192], "start_order = 1")];
    definitions.extend_from_slice(others);
    let mut machine = Machine::new(8192, &definitions);
    machine.run(A, size);
    machine
}

pub fn started(effects: &[Effect]) -> Vec<VmId> {
    let started = effects.iter().filter_map(|effect| match effect {
        Effect::Start(id, _) => Some(*id),
        _ => None,
    });
    started.collect()
}

#[test]
fn a_start_waits_until_another_vm_has_given_memory() {
    let mut machine = short(512, &[dynamic("b", [2048, 512, 4096], "")]);
    let size = 7040;
    machine.tell(A, state(size, 0, 2000));
    let answer = machine.type_in("vm start b");
    let words = "b waits for memory: 2056 MiB of memory are needed and 512 MiB are free beyond the host's reserve of 640 MiB";
    assert!(answer.contains(words), "{answer}");
    assert!(machine.type_in("vm list").contains("waiting"));
    assert!(
        machine
            .type_in("vm start b")
            .contains("waits for memory already")
    );
    // What is deposited for it counts beside what the host keeps.
    assert_eq!(machine.second(), [remove(A, 1540)]);
    // What is being taken is not there yet, and the VM that gives it cannot be asked.
    assert_eq!(machine.second(), []);
    machine.ram(A, size - 1540);
    machine.tell(A, state(size, 1540, 2000));
    assert_eq!(machine.second(), [Effect::Start(B, "b".into())]);
    assert!(machine.host.seen().contains("[b: starting]"));
    assert_eq!(machine.manager.state(B), Some(&State::Starting));
    let events = machine.type_in("events");
    assert!(events.contains("waits for memory: 2056 MiB"), "{events}");
}

#[test]
fn the_heavier_starts_first_whoever_came_first() {
    let others = [
        dynamic("b", [2048, 512, 4096], "weight = 1000"),
        dynamic("c", [2048, 512, 4096], "weight = 8000"),
    ];
    let mut machine = short(0, &others);
    let (b, c) = (
        machine.manager.find("b").expect("b"),
        machine.manager.find("c").expect("c"),
    );
    let size = 7552;
    machine.tell(A, state(size, 0, 1000));
    assert!(machine.type_in("vm start b").contains("waits"));
    assert!(machine.type_in("vm start c").contains("waits"));
    assert_eq!(machine.second(), [remove(A, 4104)]);
    machine.ram(A, size - 2052);
    machine.tell(A, state(size, 2052, 1000));
    assert_eq!(started(&machine.second()), [c]);
    machine.ram(c, 2048);
    machine.ram(A, size - 4104);
    machine.tell(A, state(size, 4104, 1000));
    assert_eq!(started(&machine.second()), [b]);
}

#[test]
fn a_vm_with_static_memory_waits_as_well() {
    let mut machine = short(32, &[vm("b", "")]);
    machine.tell(A, state(7520, 0, 2000));
    let answer = machine.type_in("vm start b");
    assert!(answer.contains("b waits for memory: 72 MiB"), "{answer}");
    assert_eq!(machine.second(), [remove(A, 36)]);
    machine.ram(A, 7520 - 36);
    machine.tell(A, state(7520, 36, 2000));
    assert_eq!(started(&machine.second()), [B]);
}

#[test]
fn who_waits_in_vain_is_told_after_a_minute() {
    let mut machine = short(512, &[dynamic("b", [2048, 512, 4096], "")]);
    // The guest that could give cannot be asked.
    machine.tell(A, frozen());
    assert!(machine.type_in("vm start b").contains("waits"));
    let end = machine.host.now + WAIT_TIME;
    while machine.host.now < end - SECOND {
        assert_eq!(machine.second(), []);
        assert!(matches!(machine.manager.state(B), Some(State::Waiting(_))));
    }
    assert!(
        machine
            .type_in("vm list")
            .contains("number 1, for 1 s more: 2056 MiB")
    );
    machine.second();
    let told = machine.host.seen();
    assert!(told.contains("no memory became free within 60 s"), "{told}");
    assert!(matches!(machine.manager.state(B), Some(State::Failed(_))));
    let events = machine.type_in("events");
    assert_eq!(
        events.matches("b       cannot be started").count(),
        1,
        "{events}"
    );
}

/// `a` has reported, and does so no more.
fn frozen() -> MemoryState {
    MemoryState {
        report_age: 100 * SECOND,
        ..state(7040, 0, 2000)
    }
}

/// Until when `b` waits if `a` has been started just now, in seconds, and `a` tells this every second. It gives nothing.
fn seconds_of_waiting(told: Option<MemoryState>) -> u64 {
    let mut machine = short(512, &[dynamic("b", [2048, 512, 4096], "")]);
    let begin = machine.host.now;
    assert!(machine.type_in("vm start b").contains("waits"));
    while matches!(machine.manager.state(B), Some(State::Waiting(_))) {
        if let Some(told) = told {
            machine.tell(A, told);
        }
        machine.second();
    }
    (machine.host.now - begin) / SECOND
}

#[test]
fn the_minute_begins_when_nobody_boots_or_is_quiet_who_could_give() {
    let boot = BOOT_TIME / SECOND - 1;
    let quiet = QUIET_TIME / SECOND;
    assert_eq!(seconds_of_waiting(None), boot + 60, "it tells nothing");
    let mut no_driver = state(7040, 0, 0);
    no_driver.flags = 0;
    assert_eq!(seconds_of_waiting(Some(no_driver)), boot + 60);
    let mut not_yet = no_driver;
    not_yet.flags = news::MEMORY_CAN_BALLOON;
    assert_eq!(seconds_of_waiting(Some(not_yet)), boot + quiet + 60);
    assert_eq!(seconds_of_waiting(Some(frozen())), 60);
}

#[test]
fn a_guest_that_resets_again_and_again_makes_nobody_wait_for_ever() {
    let mut machine = short(512, &[dynamic("b", [2048, 512, 4096], "")]);
    let begin = machine.host.now;
    assert!(machine.type_in("vm start b").contains("waits"));
    while matches!(machine.manager.state(B), Some(State::Waiting(_))) {
        machine.second();
        let waited = machine.host.now - begin;
        assert!(waited <= LONGEST_WAIT, "{} s", waited / SECOND);
        if waited.is_multiple_of(50 * SECOND) {
            machine.ram(A, 0);
            let end = exited(root_abi::ExitReason::Reset);
            machine.manager.worker_ended(&mut machine.host, A, &end);
            assert_eq!(machine.manager.state(A), Some(&State::Starting));
            machine.ram(A, 7040);
        }
    }
    assert_eq!(machine.host.now - begin, LONGEST_WAIT);
    assert!(matches!(machine.manager.state(B), Some(State::Failed(_))));
}

#[test]
fn a_guest_that_boots_with_its_minimum_is_no_reason_to_wait() {
    let others = [
        dynamic("b", [2048, 512, 4096], "start_order = 2"),
        dynamic("c", [512, 512, 4096], "start_order = 3"),
    ];
    let mut machine = short(512, &others);
    machine.tell(A, frozen());
    assert!(machine.type_in("vm start b").contains("waits"));
    machine.ram(A, 6000);
    machine.type_in("vm stop b");
    machine.run(C, 512);
    machine.ram(A, 7040);
    assert!(machine.type_in("vm start b").contains("waits"));
    let end = machine.host.now + WAIT_TIME;
    while machine.host.now < end {
        machine.second();
    }
    assert!(matches!(machine.manager.state(B), Some(State::Failed(_))));
}

#[test]
fn a_guest_without_a_driver_gives_nothing_so_nobody_waits_for_it() {
    let mut machine = short(512, &[dynamic("b", [2048, 512, 4096], "")]);
    machine.host.now += BOOT_TIME;
    let answer = machine.type_in("vm start b");
    assert!(answer.contains("b cannot be started"), "{answer}");
    // Its driver came late.
    machine.tell(A, state(7040, 0, 2000));
    assert!(machine.type_in("vm start b").contains("waits"));
}

#[test]
fn what_cannot_be_is_refused_at_once() {
    // Nobody gives so much, nor is there so much.
    for startup in [6600, 20000] {
        let mut machine = short(512, &[dynamic("b", [startup, 512, 20000], "")]);
        let answer = machine.type_in("vm start b");
        assert!(answer.contains("b cannot be started"), "{answer}");
        assert!(answer.contains("stop another VM, or lower \"startup\""));
        machine.tell(A, state(7040, 0, 2000));
        assert!(
            machine
                .type_in("vm start b")
                .contains("b cannot be started")
        );
        assert!(matches!(machine.manager.state(B), Some(State::Failed(_))));
    }
}

#[test]
fn a_lighter_vm_may_not_take_what_a_heavier_needs() {
    let mut machine = short(728, &[dynamic("b", [2048, 512, 4096], "weight = 1000")]);
    machine.tell(A, state(6824, 0, 5000));
    assert!(machine.type_in("vm start b").contains("cannot be started"));
    machine.tell(A, state(6824, 0, 3000));
    assert!(machine.type_in("vm start b").contains("waits"));
    machine.tell(A, state(6824, 0, 5000));
    // A round in which it looks bad is none that refuses it.
    assert_eq!(machine.second(), []);
    assert!(matches!(machine.manager.state(B), Some(State::Waiting(_))));
    machine.tell(A, state(6824, 0, 3000));
    assert!(!machine.second().is_empty());
    machine.ram(A, 5500);
    assert_eq!(started(&machine.second()), [B]);
}

#[test]
fn a_start_that_waits_can_be_given_up() {
    for command in ["vm stop b", "vm kill b", "vm stop all"] {
        let mut machine = short(512, &[dynamic("b", [2048, 512, 4096], "")]);
        assert!(machine.type_in("vm start b").contains("waits"));
        machine.type_in(command);
        assert_eq!(machine.manager.state(B), Some(&State::Off(String::new())));
        machine.ram(A, 1024);
        machine.host.done();
        assert_eq!(machine.second(), []);
        assert!(machine.type_in("vm start b").contains("is starting"));
    }
}

#[test]
fn the_machine_ends_without_starting_what_waits() {
    let mut machine = short(512, &[dynamic("b", [2048, 512, 4096], "")]);
    assert!(machine.type_in("vm start b").contains("waits"));
    machine.type_in("poweroff");
    machine.host.done();
    machine.ends(A);
    assert_eq!(machine.host.done(), [Effect::PowerOff]);
}

#[test]
fn one_that_had_rested_rests_again_when_it_waited_in_vain() {
    let other = dynamic("b", [1024, 512, 4096], "restart = \"on-failure\"");
    let mut machine = short(1100, &[other]);
    machine.run(B, 1024);
    let end = crate::tests::fake::exited(root_abi::ExitReason::GuestFault);
    machine.manager.worker_ended(&mut machine.host, B, &end);
    machine.ram(B, 0);
    machine.ram(A, 7000);
    machine.tell(A, frozen());
    machine.second();
    assert!(matches!(machine.manager.state(B), Some(State::Waiting(_))));
    for _ in 0..WAIT_TIME / SECOND {
        machine.second();
    }
    let told = machine.host.seen();
    assert!(told.contains("tried again in 2 s"), "{told}");
    assert!(matches!(machine.manager.state(B), Some(State::Resting(_))));
}

#[test]
fn what_is_promised_to_a_vm_that_is_being_built_is_not_promised_again() {
    let mut machine = Machine::new(8192, &[vm("a", ""), vm("b", "")]);
    machine.host.free = 100 << 20;
    assert!(machine.type_in("vm start a").contains("is starting"));
    let answer = machine.type_in("vm start b");
    assert!(
        answer.contains("72 MiB of memory are needed and 32 MiB are free; stop"),
        "{answer}"
    );
    // Each page that it gets it claims no more, so that nothing counts twice.
    machine.ram(A, 24);
    machine.host.free = 76 << 20;
    let answer = machine.type_in("vm start b");
    assert!(answer.contains("and 32 MiB are free"), "{answer}");
    // It has its RAM, and what is deposited is still to come.
    machine.ram(A, 64);
    machine.host.free = 75 << 20;
    let answer = machine.type_in("vm start b");
    assert!(answer.contains("and 71 MiB are free"), "{answer}");
    machine.host.report.partitions[0].deposited_available = 4 * super::MIB;
    machine.host.free = 72 << 20;
    assert!(machine.type_in("vm start b").contains("is starting"));
}

#[test]
fn at_the_machines_start_the_heavier_go_first_and_the_lightest_waits() {
    let auto = |name: &str, weight| {
        dynamic(
            name,
            [1024, 512, 4096],
            &format!("autostart = true\nweight = {weight}"),
        )
    };
    let definitions = [auto("a", 1000), auto("b", 5000), auto("c", 9000)];
    let definitions = definitions.iter();
    let mut manager = Manager::new(definitions.map(|(file, text)| (&file[..], text.as_bytes())));
    let mut host = Fake::default();
    host.report.total = 3000 * super::MIB;
    host.report.free = 2900 * super::MIB;
    host.free = 2900 << 20;
    manager.begin(&mut host);
    let effects = host.done();
    let expected = [Effect::Start(A, "c".into()), Effect::Start(B, "b".into())];
    assert_eq!(effects, expected);
    assert!(matches!(manager.state(C), Some(State::Waiting(_))));
    let told = host.seen();
    assert!(
        told.contains("a waits for memory: 1032 MiB of memory are needed and 457 MiB are free"),
        "{told}"
    );
}

#[test]
fn the_hosts_reserve_can_be_another() {
    let mut machine = short(0, &[dynamic("b", [256, 256, 256], "")]);
    assert!(machine.type_in("vm start b").contains("waits for memory"));
    machine.type_in("vm stop b");
    let text = b"reserve = 0\nreserve_extra = 100\n";
    machine.manager.set_host(&mut machine.host, text);
    assert!(machine.type_in("vm start b").contains("is starting"));
}
