//! Memory that the guest gets (sheet 1.7, 2.3, 2.4, 2.8).

use super::linux::HotAddPolicy;
use super::*;
use crate::Memory;
use crate::wire::Version;
use crate::{
    BACK_OFF, Dropped, HOT_ADD_BLOCK_WITHIN, HOT_ADD_WITHIN, HotAddOff, OFFLINE_HOLD, Oddity, Pin,
    SEND_WITHIN, UNBALLOON_WITHIN,
};

fn added(happened: &[Event]) -> (u64, u64, End) {
    match finished(happened) {
        Finished::Added {
            unballooned,
            hot_added,
            end,
            ..
        } => (unballooned, hot_added, end),
        other => panic!("{other:?}"),
    }
}

/// The range counts and more-bits of the unballoon messages.
fn parts(vm: &Vm) -> Vec<(u32, u32)> {
    let word =
        |packet: &[u8], at: usize| u32::from_le_bytes(packet[at..at + 4].try_into().unwrap());
    let unballoons = vm.sent.iter().filter(|packet| packet[0] == 8);
    unballoons
        .map(|packet| (word(packet, 12), word(packet, 8)))
        .collect()
}

#[test]
fn the_balloon_comes_back_first_and_the_rest_is_new() {
    let mut vm = Vm::live();
    vm.removed(mb(100));
    vm.add(mb(100), mb(256)).unwrap();
    let happened = vm.pump();
    assert_eq!(added(&happened), (mb(100), mb(256), End::Done));
    let status = vm.status();
    assert_eq!((status.ballooned, status.offered), (0, 0));
    assert_eq!(status.visible, status.assigned);
    assert_eq!(status.added, mb(356));
    assert_eq!(vm.dm.counters().add_operations, 1);
    assert_eq!(status.since_add, Some(0));
    vm.machine.check_pages();
}

#[test]
fn new_memory_comes_only_with_the_whole_balloon() {
    let mut vm = Vm::live();
    vm.removed(mb(100));
    let asked = vm.add(mb(98), mb(256)).unwrap();
    assert_eq!((asked.unballoon, asked.hot_add), (mb(98), 0));
    assert_eq!(added(&vm.pump()), (mb(98), 0, End::Done));
}

#[test]
fn a_balloon_of_single_pages_comes_back_in_full_messages() {
    let mut vm = Vm::live();
    // Every other page, so that no two are one run.
    let singles: Vec<PageRun> = (0..1500)
        .map(|index| PageRun::new(1000 + 2 * index, 1))
        .collect();
    vm.remove(1500).unwrap();
    vm.take().unwrap();
    let last = singles.len().div_ceil(500) - 1;
    for (index, part) in singles.chunks(500).enumerate() {
        let message = vm.guest.balloon_response(index != last, part);
        vm.receive(&message);
    }
    vm.guest
        .ballooned
        .extend(singles.iter().map(|run| run.start));
    vm.seconds(1);
    vm.add(1500, 0).unwrap();
    assert_eq!(added(&vm.pump()), (1500, 0, End::Done));
    assert_eq!(parts(&vm), [(510, 1), (510, 1), (480, 0)]);
    let ids: Vec<u8> = vm
        .sent
        .iter()
        .filter(|packet| packet[0] == 8)
        .map(|packet| packet[4])
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "one id in all parts");
}

#[test]
fn the_largest_runs_come_back_first() {
    let mut vm = Vm::live();
    vm.remove(1000).unwrap();
    vm.take();
    let runs = [
        PageRun::new(301, 1),
        PageRun::new(1024, 512),
        PageRun::new(4096, 487),
    ];
    let message = vm.guest.balloon_response(false, &runs);
    vm.receive(&message);
    vm.guest
        .ballooned
        .extend(runs.iter().flat_map(|run| run.start..run.end()));
    vm.add(600, 0).unwrap();
    vm.pump();
    let runs = vm.machine.book.runs();
    let left: Vec<PageRun> = runs
        .filter(|(state, _)| *state == crate::PageState::Ballooned)
        .map(|(_, run)| run)
        .collect();
    assert_eq!(left, [PageRun::new(301, 1), PageRun::new(4096 + 88, 399)]);
}

#[test]
fn pages_in_passing_use_go_back_with_the_last_of_the_balloon() {
    let mut vm = Vm::live();
    vm.machine.passing.extend(600..700);
    vm.remove(1000).unwrap();
    vm.take();
    let message = vm.guest.balloon_response(false, &[PageRun::new(512, 1000)]);
    vm.receive(&message);
    vm.guest.ballooned.extend(512..1512);
    assert_eq!(vm.status().returnable, 900);
    vm.add(400, 0).unwrap();
    assert_eq!(added(&vm.pump()), (400, 0, End::Done));
    assert_eq!(vm.guest.ballooned.len(), 600);
    vm.add(500, 0).unwrap();
    assert_eq!(added(&vm.pump()), (500, 0, End::Done));
    assert!(vm.guest.ballooned.is_empty());
    assert_eq!(vm.status().added, 900);
    vm.machine.check_pages();
}

#[test]
fn an_unballoon_ends_where_free_memory_does() {
    let mut vm = Vm::live();
    vm.removed(mb(100));
    vm.machine.free.truncate(0);
    assert_eq!(vm.add(mb(50), 0).map(|add| add.unballoon), Ok(mb(50)));
    let happened = {
        vm.machine.is_stopped = true;
        vm.dm.take_packet(vm.now, &mut vm.machine);
        vm.events()
    };
    assert_eq!(added(&happened), (0, 0, End::NoMemory));
    assert_eq!(vm.dm.packet_len(), None);
}

#[test]
fn a_part_that_free_memory_did_not_suffice_for_is_the_last() {
    let mut vm = Vm::with(settings(), 0);
    vm.go_live();
    vm.removed(mb(100));
    // Another VM gets half of it.
    let other: Vec<u64> = vm.machine.free.split_off(mb(50) as usize);
    vm.add(mb(100), 0).unwrap();
    let packet = vm.dm.take_packet(vm.now, &mut vm.machine).unwrap();
    assert_eq!(packet[8..12], [0; 4], "no more parts");
    vm.machine.free.extend(other);
    vm.machine.check();
    let answer = vm.guest.receive(&packet).remove(0);
    assert_eq!(added(&vm.receive(&answer)), (mb(50), 0, End::NoMemory));
    assert_eq!(vm.status().ballooned, mb(50));
}

#[test]
fn an_unballoon_without_an_answer_is_over_after_a_minute() {
    let mut vm = Vm::live();
    vm.removed(mb(10));
    vm.guest.is_silent = true;
    vm.add(mb(10), 0).unwrap();
    vm.pump();
    assert_eq!(vm.status().ballooned, 0, "it is the guest's already");
    let happened = vm.wait(UNBALLOON_WITHIN);
    assert_eq!(added(&happened), (mb(10), 0, End::TimedOut));
    let late = vm.guest.unballoon_response();
    let unasked = Dropped::Unasked(MessageType::UNBALLOON_RESPONSE);
    assert_eq!(vm.receive(&late), [Event::Dropped(unasked)]);
    vm.guest.is_silent = false;
    vm.seconds(1);
    assert!(vm.remove(1).is_ok());
}

#[test]
fn a_full_ring_ends_an_unballoon_between_parts() {
    let mut vm = Vm::live();
    vm.removed(mb(10));
    vm.add(mb(10), 0).unwrap();
    assert_eq!(added(&vm.wait(SEND_WITHIN)), (0, 0, End::NotSent));
    assert_eq!(vm.status().ballooned, mb(10));
}

#[test]
fn new_memory_is_aligned_above_all_ram_and_outside_holes() {
    let mut vm = Vm::live();
    vm.add(0, mb(128 * 8)).unwrap();
    // 512 MB of RAM end at 512 MB, and the hole from 1024 MB to 1124 MB is in the way.
    let packet = vm.take().unwrap();
    let start = mb(1152);
    assert_eq!(
        vm.machine.book.offered(),
        Some(PageRun::new(start, mb(1024)))
    );
    assert_eq!(packet[8..16], packet[16..24], "the region is the range");
    let mut vm = Vm::live();
    vm.add(0, mb(512)).unwrap();
    vm.pump();
    assert_eq!(vm.machine.book.top(), mb(1024));
}

#[test]
fn there_is_no_new_memory_beyond_what_the_guest_can_address() {
    let mut vm = Vm::with(
        Settings {
            end_of_addresses: mb(640),
            ..settings()
        },
        mb(512),
    );
    vm.go_live();
    vm.add(0, mb(256)).unwrap();
    assert_eq!(added(&vm.pump()), (0, 0, End::NoAddress));
    vm.add(0, mb(128)).unwrap();
    assert_eq!(added(&vm.pump()), (0, mb(128), End::Done));
}

#[test]
fn a_guest_of_version_0_3_gets_the_short_request_in_whole_blocks() {
    let mut vm = Vm::new();
    vm.guest.versions = vec![Version::WIN7];
    vm.guest.capabilities = 3;
    vm.go_live();
    let asked = vm.add(0, mb(200)).unwrap();
    assert_eq!(asked.hot_add, mb(128));
    assert_eq!(vm.take().unwrap().len(), 16);
}

#[test]
fn large_hot_adds_are_several_requests() {
    let mut vm = Vm::with(
        Settings {
            maximum: mb(8192),
            holes: Vec::new(),
            ..settings()
        },
        mb(2304),
    );
    vm.go_live();
    vm.add(0, mb(2304)).unwrap();
    assert_eq!(added(&vm.pump()), (0, mb(2304), End::Done));
    assert_eq!(vm.sent.iter().filter(|packet| packet[0] == 10).count(), 2);
}

#[test]
fn new_memory_within_the_maximum_and_the_alignment_only() {
    let mut vm = Vm::live();
    assert_eq!(vm.add(0, mb(100)), Err(Refused::Nothing));
    let room = mb(2048) - vm.status().visible;
    let asked = vm.add(0, u64::MAX).unwrap().hot_add;
    assert!(asked <= room && asked + mb(128) > room && asked.is_multiple_of(mb(128)));
    let mut vm = Vm::live();
    vm.dm.set_limits(0, vm.status().visible);
    vm.removed(mb(10));
    vm.dm.set_limits(0, vm.status().assigned + 5);
    assert_eq!(vm.add(mb(10), 0).map(|add| add.unballoon), Ok(5));
}

#[test]
fn without_free_memory_nothing_is_offered() {
    let mut vm = Vm::with(settings(), mb(127));
    vm.go_live();
    vm.add(0, mb(128)).unwrap();
    assert_eq!(added(&vm.pump()), (0, 0, End::NoMemory));
    assert_eq!(vm.machine.free.len() as u64, mb(127));
}

#[test]
fn offered_memory_is_assigned_and_not_visible() {
    let mut vm = Vm::live();
    let before = vm.status();
    vm.add(0, mb(128)).unwrap();
    vm.take().unwrap();
    let status = vm.status();
    assert_eq!(status.assigned, before.assigned + mb(128));
    assert_eq!((status.visible, status.offered), (before.visible, mb(128)));
}

/// A hot-add of 512 MB, answered like that: pages that the guest has, events.
fn answered(page_count: u64, result: u32) -> (Vm, u64, Vec<Event>) {
    let mut vm = Vm::live();
    vm.add(0, mb(512)).unwrap();
    vm.take().unwrap();
    let before = vm.status().visible;
    let message = vm.guest.hot_add_response(page_count as u32, result);
    let happened = vm.receive(&message);
    let more = vm.status().visible - before;
    vm.machine.check_pages();
    (vm, more, happened)
}

#[test]
fn a_partial_hot_add_is_kept_and_is_the_last() {
    let (mut vm, more, happened) = answered(mb(128), 1);
    assert_eq!(more, mb(128));
    assert!(happened.contains(&Event::HotAddOff(HotAddOff::Refused)));
    assert_eq!(added(&happened), (0, mb(128), End::Short));
    vm.wait(10 * OFFLINE_HOLD);
    vm.seconds(1);
    assert_eq!(vm.add(0, mb(128)), Err(Refused::NoHotAdd));
    vm.machine.is_stopped = true;
    vm.dm.reset(vm.now, &mut vm.machine).unwrap();
    vm.machine.is_stopped = false;
    vm.go_live();
    assert!(vm.add(0, mb(128)).is_ok(), "until reset");
}

#[test]
fn success_with_no_page_is_the_permanent_refusal() {
    let (vm, more, happened) = answered(0, 1);
    assert_eq!(more, 0);
    assert!(happened.contains(&Event::HotAddOff(HotAddOff::Refused)));
    assert_eq!(vm.machine.free.len() as u64, mb(1024));
    assert!(!vm.status().can_hot_add);
}

#[test]
fn a_failure_that_may_pass_is_retried_after_a_minute() {
    for pages in [0, mb(128), mb(512)] {
        let (mut vm, more, happened) = answered(pages, 0);
        assert_eq!(more, pages);
        assert!(happened.contains(&Event::HotAddOff(HotAddOff::Failed)));
        vm.wait(BACK_OFF - SECOND);
        assert!(vm.receive(&[]).len() == 1);
        assert!(!vm.status().can_hot_add);
        vm.seconds(1);
        assert!(vm.add(0, mb(128)).is_ok());
    }
}

#[test]
fn more_pages_than_offered_are_as_many_as_offered() {
    let (vm, more, happened) = answered(mb(512) + 1, 1);
    assert_eq!(more, mb(512));
    assert_eq!(
        happened[0],
        Event::Odd(Oddity::HotAddCount(mb(512) as u32 + 1))
    );
    assert_eq!(added(&happened), (0, mb(512), End::Done));
    assert!(vm.status().can_hot_add);
}

#[test]
fn new_memory_that_the_guest_refuses_and_uses_is_not_taken() {
    let mut vm = Vm::live();
    vm.add(0, mb(256)).unwrap();
    vm.take().unwrap();
    let offered = vm.machine.book.offered().unwrap();
    vm.machine.lasting.insert(offered.end() - 1);
    assert_eq!(
        vm.machine.pin(PageRun::new(offered.end() - 1, 1)).0,
        Pin::Lasting
    );
    let message = vm.guest.hot_add_response(mb(128) as u32, 1);
    let happened = vm.receive(&message);
    assert!(happened.contains(&Event::Odd(Oddity::HotAddUsed(mb(128)))));
    assert_eq!(added(&happened), (0, mb(256), End::Short));
    assert!(!vm.status().can_hot_add);
}

#[test]
fn a_rest_that_cannot_be_taken_stays_in_the_book() {
    let mut vm = Vm::live();
    vm.add(0, mb(256)).unwrap();
    vm.take().unwrap();
    vm.machine.takes = 100;
    let message = vm.guest.hot_add_response(mb(128) as u32, 1);
    let happened = vm.receive(&message);
    assert!(happened.contains(&Event::TakeFailed(mb(128) - 100)));
    vm.machine.check_pages();
}

#[test]
fn a_hot_add_has_time_for_each_block_and_then_stays_the_guests() {
    let mut vm = Vm::live();
    vm.guest.hot_add = HotAddPolicy::Silent;
    let before = vm.status();
    vm.add(0, mb(512)).unwrap();
    vm.pump();
    let time = HOT_ADD_WITHIN + 4 * HOT_ADD_BLOCK_WITHIN;
    assert!(
        !vm.wait(time - 1)
            .contains(&Event::HotAddOff(HotAddOff::Unanswered))
    );
    let happened = vm.wait(1);
    assert_eq!(added(&happened), (0, mb(512), End::TimedOut));
    assert!(happened.contains(&Event::HotAddOff(HotAddOff::Unanswered)));
    let status = vm.status();
    assert_eq!(status.visible, before.visible + mb(512));
    assert_eq!(status.assigned, before.assigned + mb(512));
    let late = vm.guest.hot_add_response(0, 1);
    let unasked = Dropped::Unasked(MessageType::MEM_HOT_ADD_RESPONSE);
    assert_eq!(vm.receive(&late), [Event::Dropped(unasked)]);
    vm.seconds(1);
    assert_eq!(vm.add(0, mb(128)), Err(Refused::NoHotAdd));
}

#[test]
fn linux_takes_what_it_can_and_no_more_is_offered() {
    let mut vm = Vm::live();
    vm.guest.hot_add = HotAddPolicy::Limit(3);
    vm.add(0, mb(512)).unwrap();
    assert_eq!(added(&vm.pump()), (0, mb(384), End::Short));
    vm.guest.hot_add = HotAddPolicy::Fail;
    assert_eq!(vm.add(0, mb(512)), Err(Refused::NoHotAdd));
}

#[test]
fn memory_that_is_not_put_online_stops_hot_add_for_a_while() {
    let mut vm = Vm::live();
    vm.guest.committed = mb(300);
    vm.seconds(3);
    vm.add(0, mb(128)).unwrap();
    vm.pump();
    vm.guest.committed += mb(128) * 9 / 10;
    vm.seconds(1);
    assert!(vm.status().can_hot_add, "just below nine tenths");
    vm.guest.committed += 1;
    assert!(
        vm.seconds(1)
            .contains(&Event::HotAddOff(HotAddOff::NotOnline))
    );
    assert_eq!(vm.add(0, mb(128)), Err(Refused::NoHotAdd));
    vm.seconds(OFFLINE_HOLD / SECOND);
    assert!(vm.add(0, mb(128)).is_ok());
}

/// What the guest gets is offline, and counts as its demand; or it is not.
fn hot_added(vm: &mut Vm, is_offline: bool) {
    vm.add(0, mb(128)).unwrap();
    vm.pump();
    vm.guest.committed += if is_offline { mb(128) } else { 0 };
    vm.seconds(11);
}

#[test]
fn who_leaves_memory_offline_again_and_again_waits_longer_each_time() {
    let mut vm = Vm::live();
    let hold = OFFLINE_HOLD / SECOND;
    let held = |vm: &mut Vm, seconds| {
        hot_added(vm, true);
        vm.seconds(seconds - 30);
        assert!(!vm.status().can_hot_add);
        vm.seconds(30);
        assert!(vm.status().can_hot_add);
    };
    for hold in [hold, 2 * hold, 4 * hold] {
        held(&mut vm, hold);
    }
    hot_added(&mut vm, false);
    held(&mut vm, hold);
}

#[test]
fn demand_that_rises_later_stops_nothing() {
    let mut vm = Vm::live();
    vm.add(0, mb(128)).unwrap();
    vm.pump();
    vm.seconds(10);
    vm.guest.committed += mb(128);
    vm.seconds(5);
    assert!(vm.status().can_hot_add);
}

#[test]
fn a_partial_add_does_not_restart_the_cool_down() {
    let mut vm = Vm::live();
    let add = Add {
        unballoon: 0,
        hot_add: mb(128),
        partial: true,
    };
    vm.dm.add(add, vm.now, &mut vm.machine).unwrap();
    vm.pump();
    assert_eq!(vm.status().since_add, None);
}
