//! Rounds: who gets, who gives, and who is left alone.

use root_abi::news::{self, MemoryState};

use super::{A, B, MIB, Machine, add, dynamic, remove, state};
use crate::life::SECOND;
use crate::tests::fake::{Effect, vm};

fn one() -> Machine {
    let mut machine = Machine::new(16384, &[dynamic("a", [1024, 512, 8192], "")]);
    machine.run(A, 1024);
    machine
}

/// Two that fill a machine of 8192 MiB with a reserve of 640 MiB.
fn full() -> Machine {
    let limits = [3776, 512, 8192];
    let definitions = [dynamic("a", limits, ""), dynamic("b", limits, "")];
    let mut machine = Machine::new(8192, &definitions);
    machine.run(A, 3776);
    machine.run(B, 3776);
    machine
}

#[test]
fn a_machine_without_dynamic_memory_has_no_rounds() {
    let mut machine = Machine::new(1024, &[vm("a", "")]);
    machine.run(A, 64);
    assert_eq!(machine.manager.deadline(), None);
    assert_eq!(machine.second(), []);
}

#[test]
fn rising_demand_is_followed_by_an_order() {
    let mut machine = one();
    assert_eq!(machine.second(), [], "its guest boots");
    machine.tell(A, state(1024, 0, 500));
    assert_eq!(machine.second(), [], "it has enough");
    machine.tell(A, state(1024, 0, 1500));
    assert_eq!(machine.second(), [add(A, 0, 1024)]);
    let due = machine.manager.deadline();
    assert_eq!(due, Some(machine.host.now + SECOND));
}

#[test]
fn the_balloon_returns_before_memory_is_new() {
    let mut machine = one();
    machine.ram(A, 668);
    machine.tell(A, state(1024, 356, 1500));
    assert_eq!(machine.second(), [add(A, 356, 1024)]);
}

#[test]
fn a_lost_balloon_is_no_room_to_grow() {
    let mut machine = Machine::new(16384, &[dynamic("a", [1024, 512, 2048], "")]);
    machine.run(A, 1024);
    machine.ram(A, 768);
    let mut told = state(1024, 256, 4000);
    told.returnable = 0;
    machine.tell(A, told);
    // It would believe that it has 2048.
    assert_eq!(machine.second(), [add(A, 0, 1024)]);
    // A lie about it leads no further than to the minimum.
    told.ballooned = u64::MAX;
    machine.tell(A, told);
    assert_eq!(machine.second(), []);
}

#[test]
fn what_one_needs_another_gives() {
    let mut machine = full();
    machine.tell(A, state(3776, 0, 4000));
    machine.tell(B, state(3776, 0, 800));
    // The need of the one is 4000 MiB at 75 per cent, 5334, rounded up to blocks of 128.
    assert_eq!(machine.second(), [remove(B, 1664)]);
    machine.ram(B, 3776 - 1664);
    machine.tell(A, state(3776, 0, 4000));
    machine.tell(B, state(3776, 1664, 800));
    assert_eq!(machine.second(), [add(A, 0, 1664)]);
}

#[test]
fn a_vm_is_left_alone_until_its_worker_has_answered_for_the_order() {
    let mut machine = full();
    let want = state(3776, 0, 4000);
    machine.tell(A, want);
    machine.tell(B, state(3776, 0, 800));
    assert_eq!(machine.second(), [remove(B, 1664)]);
    machine.tell(A, want);
    assert_eq!(machine.second(), [], "nothing was heard of it");
    let busy = MemoryState {
        flags: state(0, 0, 0).flags | news::MEMORY_IN_FLIGHT,
        ..state(3776, 0, 800)
    };
    machine.tell(A, want);
    machine.tell(B, busy);
    assert_eq!(machine.second(), [], "it is at it");
    machine.tell(A, want);
    machine.tell(B, state(3776, 0, 800));
    assert_eq!(
        machine.second(),
        [remove(B, 1664)],
        "it did not take the order"
    );
}

#[test]
fn what_was_told_before_an_order_arrived_is_no_answer_to_it() {
    let mut machine = full();
    let told = |machine: &mut Machine, order| {
        machine.tell(A, state(3776, 0, 4000));
        let mut state = state(3776, 0, 800);
        state.order = order;
        machine.tell_exactly(B, state);
        machine.second()
    };
    assert_eq!(told(&mut machine, 0), [remove(B, 1664)]);
    assert_eq!(told(&mut machine, 0), [], "they crossed");
    assert_eq!(told(&mut machine, 7), [], "there was no such order");
    assert_eq!(told(&mut machine, 1), [remove(B, 1664)], "it was refused");
    assert_eq!(told(&mut machine, 1), [], "the second has not arrived");
    assert_eq!(told(&mut machine, 2), [remove(B, 1664)]);
}

#[test]
fn what_is_being_given_is_given_once() {
    let limits = [1024, 512, 8192];
    let definitions = [
        dynamic("a", limits, "weight = 6000"),
        dynamic("b", limits, ""),
    ];
    // 640 are the host's, 2048 the VMs': 832 are left.
    let mut machine = Machine::new(3520, &definitions);
    machine.run(A, 1024);
    machine.run(B, 1024);
    let free = 3520 - 503 - 2048;
    machine.tell(A, state(1024, 0, 1150));
    machine.tell(B, state(1024, 0, 300));
    let orders = machine.second();
    assert_eq!(orders, [add(A, 0, 512)]);
    // Its worker has the order, and no memory yet.
    machine.tell(
        A,
        MemoryState {
            flags: state(0, 0, 0).flags | news::MEMORY_IN_FLIGHT,
            ..state(1024, 0, 1150)
        },
    );
    machine.tell(B, state(1024, 0, 1400));
    let given: u64 = machine
        .second()
        .iter()
        .map(|effect| match effect {
            Effect::Memory(_, order) => order.hot_add / MIB,
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(given, (free - 512) / 128 * 128);
}

#[test]
fn a_guest_that_stops_reporting_is_frozen() {
    let mut machine = one();
    let mut late = state(1024, 0, 1500);
    late.report_age = 4 * SECOND;
    machine.tell(A, late);
    // The age grows while nothing is told: six seconds now.
    machine.host.now += SECOND;
    assert_eq!(machine.second(), []);
    let text = machine.type_in("mem");
    assert!(text.contains("frozen"), "{text}");
    machine.tell(A, state(1024, 0, 1500));
    assert_eq!(machine.second(), [add(A, 0, 1024)]);
}

#[test]
fn a_guest_that_is_not_live_or_stops_is_left_alone() {
    let mut machine = one();
    let mut quiet = state(1024, 0, 1500);
    quiet.flags &= !news::MEMORY_LIVE;
    machine.tell(A, quiet);
    assert_eq!(machine.second(), []);
    machine.type_in("vm stop a");
    machine.host.done();
    machine.tell(A, state(1024, 0, 1500));
    assert_eq!(machine.second(), []);
}

#[test]
fn a_refusal_and_an_add_are_remembered_for_their_time() {
    let mut machine = one();
    let mut cooling = state(1024, 0, 900);
    cooling.since_add = 27 * SECOND;
    for _ in 0..2 {
        machine.tell(A, cooling);
        assert_eq!(machine.second(), []);
        cooling.since_add += SECOND;
    }
    machine.tell(A, cooling);
    assert_eq!(machine.second(), [add(A, 0, 256)], "30 seconds");
}

#[test]
fn what_nobody_needs_is_taken_every_five_minutes() {
    let mut machine = one();
    let mut low = state(1024, 0, 300);
    low.low_for = 200 * SECOND;
    let mut orders = Vec::new();
    while machine.host.now < 700 * SECOND {
        machine.tell(A, low);
        for order in machine.second() {
            orders.push((machine.host.now / SECOND, order));
        }
    }
    assert_eq!(orders, [(300, remove(A, 512)), (600, remove(A, 512))]);
}

#[test]
fn a_new_worker_begins_with_nothing_told() {
    let mut machine = one();
    machine.tell(A, state(1024, 0, 1500));
    machine.ends(A);
    machine.host.now += 100 * SECOND;
    machine.run(A, 1024);
    assert_eq!(machine.second(), []);
}

#[test]
fn news_of_memory_from_a_vm_with_static_memory_change_nothing() {
    let mut machine = Machine::new(16384, &[vm("a", "")]);
    machine.run(A, 64);
    machine.tell(A, state(64, 0, 1500));
    assert_eq!(machine.second(), []);
    assert!(!machine.type_in("mem").contains("Dynamic"));
}

#[test]
fn memory_is_taken_when_the_host_lacks_its_reserve() {
    let mut machine = full();
    machine.tell(A, state(3776, 0, 2000));
    machine.tell(B, state(3776, 0, 1000));
    assert_eq!(machine.second(), []);
    // Deposits are beside the reserve.
    for part in &mut machine.host.report.partitions {
        part.deposited_in_use = 30 * MIB;
    }
    machine.host.report.free -= 60 * MIB;
    machine.tell(A, state(3776, 0, 2000));
    machine.tell(B, state(3776, 0, 1000));
    assert_eq!(machine.second(), [remove(B, 60)]);
}

#[test]
fn what_is_deposited_for_a_vm_counts_from_its_start_to_its_end() {
    let mut machine = one();
    machine.ends(A);
    let available = |machine: &mut Machine| {
        machine.host.now += SECOND;
        machine.manager.tick(&mut machine.host);
        machine.balancer().expect("a VM")[0].1
    };
    let whole = 16384 - 880 - 1024;
    machine.type_in("vm start a");
    assert_eq!(available(&mut machine), whole - 4, "nothing is there yet");
    machine.ram(A, 1024);
    let deposit = |machine: &mut Machine, mib| {
        machine.host.report.partitions[0].deposited_in_use = mib * MIB;
        machine.host.report.free = (16384 - 100 - 1024 - mib) * MIB;
    };
    deposit(&mut machine, 3);
    assert_eq!(available(&mut machine), whole - 4);
    deposit(&mut machine, 5);
    assert_eq!(available(&mut machine), whole - 5, "it is more");
    machine.manager.worker_running(&mut machine.host, A);
    assert_eq!(available(&mut machine), whole - 5);
    machine.type_in("vm stop a");
    deposit(&mut machine, 0);
    assert_eq!(available(&mut machine), whole - 4, "it is not over");
}

#[test]
fn what_the_host_uses_of_its_reserve_does_not_count_twice() {
    let mut machine = one();
    let available = |machine: &Machine| {
        let values = machine.balancer().expect("a VM");
        values[0].1
    };
    machine.second();
    assert_eq!(available(&machine), 16384 - 880 - 1024);
    machine.host.report.root_kernel = 880 * MIB;
    machine.books();
    machine.second();
    assert_eq!(available(&machine), 16384 - 880 - 1024);
    machine.host.report.root_kernel = 900 * MIB;
    machine.books();
    machine.second();
    assert_eq!(available(&machine), 16384 - 900 - 1024);
}

#[test]
fn little_available_memory_is_an_event_and_no_flood_of_them() {
    let mut machine = full();
    for round in 0..300 {
        let few = if round % 2 == 0 { 0 } else { 1000 };
        machine.tell(A, state(3776, 0, 3000));
        machine.tell(B, state(3776, 0, 3000));
        machine.ram(B, 3776 - few);
        machine.second();
    }
    let text = machine.type_in("events");
    assert!(
        text.contains("0 of 8192 MiB are available: critical"),
        "{text}"
    );
    assert!(text.matches("are available").count() <= 6, "{text}");
}

#[test]
fn a_guest_that_is_short_for_long_is_an_event() {
    let mut machine = full();
    for _ in 0..310 {
        machine.tell(A, state(3776, 0, 3700));
        machine.tell(B, state(3776, 0, 3400));
        machine.second();
    }
    let text = machine.type_in("events");
    assert_eq!(text.matches("average memory pressure").count(), 1, "{text}");
}

#[test]
fn watch_is_drawn_every_second_with_a_bar_for_each_until_a_key_is_pressed() {
    let mut machine = one();
    let mut screens = Vec::new();
    machine.type_in("mem --watch");
    for pressure in [0, 20, 74, 140, u32::MAX] {
        let mut told = state(1024, 0, 1000);
        told.pressures = [pressure, 75];
        machine.tell(A, told);
        machine.second();
        screens.push(machine.host.seen());
    }
    let expected = "\x1b[H14480 MiB available; any key ends this\x1b[K\r
VM, MiB           HAS   SEES  NEEDS PRES%  AVG% STATE  PRESSURE\x1b[K\r
a                1024   1024   1000 4294M    75 order  ▁▂▄██\x1b[K\r
\x1b[J";
    assert_eq!(screens.last().map(String::as_str), Some(expected));
    for _ in 0..99 {
        machine.tell(A, state(1024, 0, 1000));
        machine.second();
        let screen = machine.host.seen();
        assert!(
            screen.lines().all(|line| line.chars().count() < 80 + 6),
            "{screen}"
        );
    }
    machine.manager.console_input(&mut machine.host, b"x");
    assert!(machine.host.seen().ends_with("partita> "));
    machine.second();
    assert_eq!(machine.host.seen(), "");
}

#[test]
fn watch_is_complete_before_the_first_round() {
    let mut machine = one();
    let mut told = state(1024, 0, 1000);
    told.pressures = [97, 75];
    machine.tell(A, told);
    let shown = machine.type_in("mem --watch");
    assert!(shown.contains("14480 MiB available"), "{shown}");
    let row = "a                1024   1024   1000    97    75 live   ▅";
    assert!(shown.contains(row), "{shown}");
    // From here on there is one for each round.
    machine.second();
    assert!(machine.host.seen().contains(" ▅▅\x1b"), "and the first");
}

#[test]
fn watch_of_many_says_how_many_it_leaves_out() {
    let names: Vec<_> = (0..30).map(|index| format!("vm{index:02}")).collect();
    let definitions: Vec<_> = names
        .iter()
        .map(|name| dynamic(name, [64, 64, 64], ""))
        .collect();
    let mut machine = Machine::new(16384, &definitions);
    assert!(
        machine
            .type_in("mem --watch")
            .contains("no VM with Dynamic Memory runs")
    );
    machine.type_in("qvm start all");
    machine.second();
    let shown = machine.type_in("mem --watch");
    assert!(shown.contains("and 10 more"), "{shown}");
    let frame = shown.split("\x1b[H").nth(1).expect("a frame");
    assert_eq!(frame.lines().count(), 24, "{frame}");
}

#[test]
fn mem_shows_each_vm_with_dynamic_memory_below_the_owners() {
    let definitions = [
        dynamic("a", [1024, 512, 8192], ""),
        dynamic("b", [256, 192, 1024], ""),
        vm("c", ""),
    ];
    let mut machine = Machine::new(16384, &definitions);
    assert!(!machine.type_in("mem").contains("Dynamic"));
    machine.run(A, 1024);
    machine.run(B, 256);
    machine.run(super::C, 64);
    machine.ram(A, 668);
    let mut told = state(1024, 356, 500);
    told.pressures = [74, 75];
    machine.tell(A, told);
    let text = machine.type_in("mem");
    let (owners, table) = text
        .split_once("Dynamic Memory, in MiB\n")
        .expect("a table");
    assert!(owners.ends_with("every page has one owner\n"), "{text}");
    let expected = "\
VM  ASSIGNED  VISIBLE  BALLOONED  DEMAND  PRESS%  AVG%  MINIMUM  MAXIMUM  STATE
a        668     1024        356     500      74    75      512     8192  live
b        256        -          -       -       -     -      192     1024  quiet
partita> ";
    assert_eq!(table, expected);
}
