//! Status reports, and what is made of them (sheet 1.9, 2.3, 2.4, 4.3, 4.8).

use super::*;
use crate::reports::{OVERDUE, Report, Reports, Use};
use crate::{Demand, Dropped, Oddity, pressure};

#[test]
fn pressure_has_the_sheets_numbers() {
    let cases = [
        (6144, 4096, 150),
        (6144, 8192, 75),
        (1000, 1000, 100),
        (1000, 1200, 83),
        (800, 1000, 80),
        (1333, 1000, 133),
        (0, 512, 0),
        (7, 0, 0),
    ];
    for (demand, assigned, percent) in cases {
        assert_eq!(pressure(demand, assigned), percent);
    }
    assert_eq!(pressure(u64::MAX, 1), u64::MAX);
}

fn averages(demands: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut reports = Reports::default();
    let note = |(second, committed): (usize, u64)| {
        let report = Report {
            committed,
            available: 0,
            held: 0,
            visible: 4096,
            assigned: 4096,
            is_busy: false,
        };
        assert_eq!(reports.note(report, second as Time * SECOND), Use::Counted);
        reports.demand().unwrap().average
    };
    demands.into_iter().enumerate().map(note).collect()
}

#[test]
fn the_average_is_the_sheets_over_settled_demands() {
    // Two reports more than the sheet's vectors, which begin with a settled demand.
    let up = averages([500, 500, 1500, 1500].into_iter().chain([1500; 7]));
    assert_eq!(
        up,
        [500, 500, 500, 500, 625, 734, 829, 912, 985, 1049, 1105]
    );
    let down = averages([1500].into_iter().chain([500; 12]));
    assert_eq!(
        down[1..],
        [
            1375, 1265, 1169, 1085, 1011, 947, 891, 842, 799, 761, 728, 699
        ]
    );
}

fn report(vm: &mut Vm, committed: u64) -> Vec<Event> {
    let message = vm.guest.report_of(committed);
    vm.now += SECOND;
    vm.receive(&message)
}

#[test]
fn a_spike_of_one_second_is_no_demand() {
    let mut vm = Vm::live();
    for committed in [mb(100), mb(100), mb(400)] {
        report(&mut vm, committed);
    }
    let demand = vm.status().demand.unwrap();
    assert_eq!((demand.settled, demand.newest), (mb(100), mb(400)));
    report(&mut vm, mb(400));
    report(&mut vm, mb(400));
    assert_eq!(vm.status().demand.unwrap().settled, mb(400));
}

#[test]
fn the_balloon_is_no_demand() {
    let mut vm = Vm::live();
    vm.guest.committed = mb(200);
    vm.removed(mb(256));
    vm.seconds(3);
    let status = vm.status();
    assert_eq!(status.demand.map(|demand| demand.newest), Some(mb(200)));
    assert_eq!(status.current_pressure, 100 * mb(200) / status.assigned);
}

#[test]
fn pages_that_wait_to_be_taken_are_no_demand() {
    let mut vm = Vm::live();
    vm.guest.committed = mb(200);
    let top = vm.machine.book.top();
    vm.machine.passing.extend(256..top);
    vm.remove(mb(2)).unwrap();
    vm.pump();
    assert_eq!(vm.status().ballooned, 0);
    vm.seconds(1);
    assert_eq!(
        vm.status().demand.map(|demand| demand.newest),
        Some(mb(200))
    );
}

#[test]
fn absurd_reports_are_dropped_and_do_not_keep_the_vm_alive() {
    let mut vm = Vm::live();
    let before = vm.status().demand;
    let limit = vm.status().visible * 64;
    for committed in [limit + 1, 1 << 63, u64::MAX] {
        assert_eq!(
            report(&mut vm, committed),
            [Event::Dropped(Dropped::Absurd(committed))]
        );
    }
    assert_eq!(vm.status().demand, before);
    vm.wait(OVERDUE - 3 * SECOND);
    assert_eq!(vm.wait(1), [Event::Frozen]);
    assert_eq!(report(&mut vm, limit), [Event::Thawed]);
}

#[test]
fn less_committed_than_ballooned_is_no_demand() {
    let mut vm = Vm::live();
    vm.removed(mb(256));
    for committed in [0, mb(256) - 1] {
        let odd = Event::Odd(Oddity::CommittedBelowBalloon(committed));
        assert_eq!(report(&mut vm, committed), [odd]);
        assert_eq!(vm.status().demand, Some(Demand::default()));
        assert_eq!(vm.status().current_pressure, 0);
    }
}

#[test]
fn a_flood_of_reports_moves_nothing_faster() {
    let mut vm = Vm::live();
    report(&mut vm, mb(100));
    let before = vm.status().demand;
    let message = vm.guest.report_of(mb(500));
    for _ in 0..1000 {
        assert!(vm.receive(&message).is_empty());
    }
    assert_eq!(vm.status().demand, before);
    assert_eq!(vm.dm.counters().reports_ignored, 1000);
}

#[test]
fn reports_during_an_operation_show_life_only() {
    let mut vm = Vm::live();
    let before = vm.status().demand;
    vm.remove(1000).unwrap();
    for _ in 0..10 {
        assert!(report(&mut vm, mb(500)).is_empty());
        assert!(vm.wait(0).is_empty());
    }
    assert_eq!(vm.status().demand, before);
    assert_eq!(vm.status().report_age, Some(0));
}

#[test]
fn who_stops_reporting_is_frozen_and_thaws_with_the_next_report() {
    let mut vm = Vm::live();
    assert_eq!(vm.wait(OVERDUE), []);
    assert_eq!(vm.wait(1), [Event::Frozen]);
    assert_eq!(vm.wait(OVERDUE), [], "said once");
    assert_eq!(vm.remove(1), Err(Refused::Frozen));
    assert_eq!(vm.add(0, mb(128)), Err(Refused::Frozen));
    assert_eq!(vm.seconds(1), [Event::Thawed]);
    assert_eq!(vm.remove(1), Ok(1));
}

#[test]
fn the_vm_is_low_for_as_long_as_its_average_is() {
    let mut vm = Vm::live();
    vm.guest.committed = mb(100);
    vm.seconds(10);
    assert!(vm.status().low_for >= 9 * SECOND);
    vm.guest.committed = mb(512);
    vm.seconds(20);
    assert_eq!(vm.status().low_for, 0);
}
