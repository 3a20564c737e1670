//! Closes, other drivers, resets, pauses, touches in the middle of everything (sheet 2.5, 2.7, 2.8).

use super::linux::HotAddPolicy;
use super::*;
use crate::{
    BALLOON_WITHIN, HotAddOff, Missing, PageState, QUIET, TOUCH_LOG, Touch, UNBALLOON_WITHIN,
};

/// A VM with 10 MB in its balloon, and an operation of each kind under way.
fn in_balloon_up() -> Vm {
    let mut vm = Vm::live();
    vm.removed(mb(10));
    vm.remove(1000).unwrap();
    vm.take().unwrap();
    let page = vm.guest.free.last().unwrap();
    let part = vm.guest.balloon_response(true, &[PageRun::new(page, 1)]);
    vm.receive(&part);
    vm.guest.ballooned.insert(page);
    vm
}

fn in_unballoon() -> Vm {
    let mut vm = Vm::live();
    vm.removed(mb(20));
    vm.add(mb(10), 0).unwrap();
    let part = vm.take().unwrap();
    vm.guest.receive(&part);
    vm
}

fn in_hot_add() -> Vm {
    let mut vm = Vm::live();
    vm.removed(mb(10));
    vm.add(mb(10), mb(128)).unwrap();
    vm.guest.hot_add = HotAddPolicy::Silent;
    vm.pump();
    vm.guest.hot_add = HotAddPolicy::Take;
    assert_eq!(vm.status().offered, mb(128));
    vm
}

fn all() -> [Vm; 3] {
    [in_balloon_up(), in_unballoon(), in_hot_add()]
}

#[test]
fn a_close_moves_no_memory() {
    for mut vm in all() {
        let before = vm.status();
        let happened = vm.close();
        assert_eq!(finished(&happened).end(), End::Closed);
        let status = vm.status();
        assert_eq!(status.assigned, before.assigned);
        assert_eq!(status.ballooned, before.ballooned);
        assert_eq!(status.visible, before.visible + before.offered);
        assert!(status.is_frozen && !status.in_flight);
        assert_eq!(
            happened.contains(&Event::HotAddOff(HotAddOff::Unanswered)),
            before.offered != 0
        );
        assert_eq!((vm.take(), vm.dm.next_deadline()), (None, None));
    }
}

#[test]
fn the_same_driver_gets_its_balloon_back() {
    for mut vm in all() {
        vm.close();
        vm.wait(1000 * SECOND);
        let ballooned = vm.status().ballooned;
        let again = vm.guest.reconnect();
        assert!(
            !vm.connect(&again)
                .iter()
                .any(|event| matches!(event, Event::BalloonLost(_)))
        );
        assert_eq!(
            vm.add(ballooned, 0),
            Err(Refused::NotLive),
            "quiet time again"
        );
        vm.wait(QUIET);
        vm.seconds(2);
        if ballooned != 0 {
            vm.add(ballooned, 0).unwrap();
            assert_eq!(finished(&vm.pump()).end(), End::Done);
            assert!(vm.guest.ballooned.is_empty());
        }
        vm.machine.check_pages();
    }
}

#[test]
fn another_drivers_balloon_is_lost_and_stays_counted() {
    for mut vm in all() {
        vm.close();
        let before = vm.status();
        let fresh = vm.guest.reload();
        let happened = vm.connect(&fresh);
        let lost = before.ballooned;
        assert_eq!(happened.contains(&Event::BalloonLost(lost)), lost != 0);
        vm.machine.returned.clear();
        let status = vm.status();
        assert_eq!((status.ballooned, status.returnable), (lost, 0));
        assert_eq!(status.assigned, before.assigned);
        vm.wait(QUIET);
        vm.guest.committed = mb(100);
        vm.seconds(3);
        assert_eq!(
            vm.status().demand.unwrap().newest,
            mb(100),
            "not subtracted"
        );
        assert_eq!(vm.add(mb(10), 0), Err(Refused::Nothing), "never returned");
    }
}

#[test]
fn a_channel_opened_without_a_close_is_closed_first() {
    for mut vm in all() {
        let again = vm.guest.reconnect();
        assert_eq!(finished(&vm.connect(&again)).end(), End::Closed);
        vm.wait(QUIET);
        vm.seconds(1);
        assert!(vm.status().is_live);
    }
}

/// A VM that has returned 50 pages which are in use for a while.
fn withholding() -> Vm {
    let mut vm = Vm::live();
    vm.machine.passing.extend(512..600);
    vm.remove(1000).unwrap();
    vm.take();
    let message = vm.guest.balloon_response(false, &[PageRun::new(512, 50)]);
    vm.receive(&message);
    vm
}

#[test]
fn pages_withheld_from_a_driver_that_goes_are_not_taken_later() {
    let mut vm = withholding();
    assert_eq!(vm.machine.book.count(PageState::Withheld), 50);
    vm.close();
    vm.machine.passing.clear();
    vm.dm
        .unpinned(PageRun::new(512, 50), vm.now, &mut vm.machine);
    assert_eq!(vm.status().ballooned, 0, "nobody knows whose they are");
    let fresh = vm.guest.reload();
    vm.connect(&fresh);
    assert_eq!(vm.status().ballooned, 0);
    assert_eq!(vm.machine.book.count(PageState::Withheld), 0);
}

#[test]
fn pages_withheld_from_a_driver_that_comes_back_are_taken_then() {
    let mut vm = withholding();
    vm.close();
    vm.machine.passing.clear();
    let again = vm.guest.reconnect();
    vm.connect(&again);
    assert_eq!(vm.status().ballooned, 50);
}

#[test]
fn a_new_kernel_finds_its_ram_by_touching_it() {
    let mut vm = Vm::live();
    vm.removed(mb(10));
    let page = vm.guest.ballooned.first().unwrap();
    vm.close();
    let fresh = vm.guest.reload();
    vm.connect(&fresh);
    let before = vm.status();
    assert_eq!(vm.dm.touched(page, vm.now, &mut vm.machine), Touch::Backed);
    assert_eq!(vm.events(), [Event::Touched(1)]);
    let status = vm.status();
    assert_eq!(
        (status.assigned, status.ballooned),
        (before.assigned + 1, before.ballooned - 1)
    );
    // Again, by another processor.
    assert_eq!(vm.dm.touched(page, vm.now, &mut vm.machine), Touch::There);
    assert_eq!(vm.status().assigned, before.assigned + 1);
    vm.machine.check_pages();
}

#[test]
fn touches_are_told_once_a_minute() {
    let mut vm = Vm::live();
    vm.removed(mb(10));
    let pages: Vec<u64> = vm.guest.ballooned.iter().take(100).collect();
    let mut told = Vec::new();
    for &page in &pages {
        vm.dm.touched(page, vm.now, &mut vm.machine);
        told.extend(vm.events());
    }
    assert_eq!(told, [Event::Touched(1)]);
    vm.now += TOUCH_LOG;
    vm.dm
        .touched(vm.guest.ballooned.last().unwrap(), vm.now, &mut vm.machine);
    assert_eq!(vm.events(), [Event::Touched(100)]);
    assert_eq!(vm.dm.counters().touched, 101);
}

#[test]
fn a_touch_waits_for_memory_and_elsewhere_is_no_ram() {
    let mut vm = Vm::with(settings(), 0);
    vm.go_live();
    vm.removed(1);
    let page = vm.guest.ballooned.first().unwrap();
    let other = vm.machine.free.pop().unwrap();
    assert_eq!(vm.dm.touched(page, vm.now, &mut vm.machine), Touch::Waits);
    assert_eq!(vm.events(), [Event::TouchWaits]);
    vm.machine.free.push(other);
    assert_eq!(vm.dm.touched(page, vm.now, &mut vm.machine), Touch::Backed);
    for page in [200, vm.machine.book.top(), u64::MAX] {
        assert_eq!(vm.dm.touched(page, vm.now, &mut vm.machine), Touch::NotRam);
    }
    vm.machine.check_pages();
}

#[test]
fn offered_memory_that_is_touched_is_there() {
    let mut vm = in_hot_add();
    let page = vm.machine.book.offered().unwrap().start;
    assert_eq!(vm.dm.touched(page, vm.now, &mut vm.machine), Touch::There);
}

#[test]
fn a_page_touched_during_an_unballoon_is_given_back_once() {
    let mut vm = Vm::live();
    vm.removed(mb(10));
    vm.add(mb(10), 0).unwrap();
    let page = vm.guest.ballooned.first().unwrap();
    vm.dm.touched(page, vm.now, &mut vm.machine);
    assert_eq!(finished(&vm.pump()).end(), End::Done);
    assert_eq!(vm.guest.ballooned.len(), 1);
    vm.machine.check_pages();
}

#[test]
fn a_new_kernel_can_return_lost_pages_that_it_never_touched() {
    let mut vm = Vm::live();
    vm.removed(512);
    let start = vm.guest.ballooned.first().unwrap();
    vm.close();
    vm.machine.returned.clear();
    let fresh = vm.guest.reload();
    vm.connect(&fresh);
    vm.wait(QUIET);
    vm.seconds(1);
    vm.remove(512).unwrap();
    vm.take();
    let message = vm
        .guest
        .balloon_response(false, &[PageRun::new(start, 512)]);
    let happened = vm.receive(&message);
    let end = Finished::Removed {
        asked: 512,
        given: 512,
        freed: 0,
        end: End::Done,
    };
    assert_eq!(finished(&happened), end);
    assert_eq!((vm.status().returnable, vm.status().ballooned), (512, 512));
    vm.guest.ballooned.extend(start..start + 512);
    vm.add(512, 0).unwrap();
    assert_eq!(finished(&vm.pump()).end(), End::Done);
    vm.machine.check_pages();
}

fn reset(vm: &mut Vm) -> Result<(), Missing> {
    vm.machine.is_stopped = true;
    let result = vm.dm.reset(vm.now, &mut vm.machine);
    vm.machine.is_stopped = false;
    vm.machine.check_pages();
    result
}

#[test]
fn a_reset_gives_exactly_startup_memory_and_the_free_memory_back() {
    for mut vm in all() {
        let happened = {
            assert_eq!(reset(&mut vm), Ok(()));
            vm.events()
        };
        assert_eq!(finished(&happened).end(), End::Dropped);
        let status = vm.status();
        let startup = vm.machine.book.startup();
        assert_eq!(
            (status.visible, status.assigned, status.ballooned),
            (startup, startup, 0)
        );
        assert_eq!(vm.machine.free.len() as u64, mb(1024));
        assert_eq!(vm.machine.book.segments().count(), 2);
        vm.machine.returned.clear();
        vm.guest = Linux::new(&STARTUP);
        vm.go_live();
        vm.removed(mb(2));
    }
}

#[test]
fn a_reset_waits_for_memory_and_nobody_can_connect_before() {
    let mut vm = Vm::with(settings(), 0);
    vm.go_live();
    vm.removed(mb(10));
    let taken = vm.machine.free.split_off(100);
    vm.machine.is_stopped = true;
    let lacking = mb(10) - 100;
    assert_eq!(vm.dm.reset(vm.now, &mut vm.machine), Err(Missing(lacking)));
    assert_eq!(vm.events(), [Event::ResetWaits(lacking)]);
    assert_eq!(vm.dm.reset(vm.now, &mut vm.machine), Err(Missing(lacking)));
    assert_eq!(vm.events(), [], "said once");
    vm.dm.opened(vm.now, &mut vm.machine);
    let first = vm.guest.reload();
    vm.dm.received(&first, vm.now, &mut vm.machine);
    assert_eq!(vm.dm.packet_len(), None);
    vm.machine.free.extend(taken);
    assert_eq!(reset(&mut vm), Ok(()));
    vm.machine.returned.clear();
    vm.go_live();
}

#[test]
fn an_end_frees_everything() {
    for mut vm in all() {
        vm.machine.is_stopped = true;
        vm.dm.end(vm.now, &mut vm.machine);
        assert!(vm.machine.frames.is_empty());
        vm.machine.check();
        assert_eq!(finished(&vm.events()).end(), End::Dropped);
        vm.dm.opened(vm.now, &mut vm.machine);
        let first = vm.guest.reload();
        vm.dm.received(&first, vm.now, &mut vm.machine);
        assert_eq!(vm.dm.packet_len(), None);
    }
}

#[test]
fn what_cannot_be_freed_at_a_reset_is_not_lost() {
    let mut vm = Vm::live();
    vm.add(0, mb(128)).unwrap();
    vm.pump();
    vm.machine.takes = 100;
    assert_eq!(reset(&mut vm), Ok(()));
    assert!(vm.events().contains(&Event::TakeFailed(mb(128) - 100)));
}

#[test]
fn all_timers_stand_still_while_the_vm_does() {
    let waits = [BALLOON_WITHIN, UNBALLOON_WITHIN, 35 * SECOND];
    for (mut vm, wait) in all().into_iter().zip(waits) {
        let is_end = |happened: Vec<Event>| {
            happened
                .iter()
                .any(|event| matches!(event, Event::Finished(_)))
        };
        assert!(!is_end(vm.wait(wait / 2)));
        vm.dm.paused(vm.now);
        assert_eq!(vm.dm.next_deadline(), None);
        assert!(vm.wait(100 * wait).is_empty());
        vm.dm.resumed(vm.now);
        assert!(!is_end(vm.wait(wait / 2 - 1)));
        assert!(is_end(vm.wait(1)));
    }
}

#[test]
fn a_pause_is_no_time_without_reports_and_none_of_the_quiet_time() {
    let mut vm = Vm::new();
    let first = vm.guest.reload();
    vm.connect(&first);
    vm.seconds(10);
    vm.dm.paused(vm.now);
    assert_eq!(vm.wait(1000 * SECOND), []);
    vm.dm.paused(vm.now);
    vm.dm.resumed(vm.now);
    vm.dm.resumed(vm.now);
    assert_eq!(vm.seconds(39), []);
    assert_eq!(vm.seconds(1), [Event::Live { is_32_bit: false }]);
    vm.dm.paused(vm.now);
    assert_eq!(vm.remove(1), Err(Refused::Frozen));
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut vm = in_balloon_up();
    let now = vm.now;
    vm.now = 0;
    vm.dm.tick(0, &mut vm.machine);
    assert!(vm.dm.next_deadline().is_some_and(|next| next > now));
    vm.seconds(1);
}

#[test]
fn a_new_process_takes_over_what_the_old_one_had_offered() {
    let mut vm = in_hot_add();
    vm.dm = DynamicMemory::new(settings());
    vm.dm.take_over(&mut vm.machine);
    assert_eq!(vm.events(), [Event::HotAddOff(HotAddOff::Unanswered)]);
    let status = vm.status();
    assert_eq!(
        (status.offered, status.visible),
        (0, status.assigned + status.ballooned)
    );
    let again = vm.guest.reconnect();
    vm.connect(&again);
    vm.wait(QUIET);
    vm.seconds(1);
    vm.removed(mb(2));
    assert!(!vm.status().can_hot_add);
}

#[test]
fn the_ring_is_read_to_its_end_before_a_close() {
    let mut vm = Vm::live();
    vm.remove(1000).unwrap();
    vm.take();
    let message = vm.guest.balloon_response(false, &[PageRun::new(512, 1000)]);
    vm.receive(&message);
    vm.close();
    assert_eq!(vm.status().ballooned, 1000);
}
