//! Memory that the guest returns (sheet 2.3, 2.4, 2.6, 2.8).

use super::*;
use crate::wire::MAX_RANGES;
use crate::{BALLOON_WITHIN, Dropped, MAX_BALLOON_REQUEST, Oddity, PageState, SEND_WITHIN};

/// A VM that has been asked for 1000 pages and has the request.
fn asked() -> Vm {
    let mut vm = Vm::live();
    assert_eq!(vm.remove(1000), Ok(1000));
    vm.take().unwrap();
    vm
}

fn respond(vm: &mut Vm, more: bool, runs: &[PageRun]) -> Vec<Event> {
    let message = vm.guest.balloon_response(more, runs);
    vm.receive(&message)
}

#[test]
fn pages_are_free_as_soon_as_their_part_is_there() {
    let mut vm = asked();
    let free = vm.machine.free.len() as u64;
    assert_eq!(respond(&mut vm, true, &[PageRun::new(512, 512)]), []);
    assert_eq!(vm.machine.free.len() as u64, free + 512);
    assert!(vm.status().in_flight);
    let singles: Vec<PageRun> = (0..488)
        .map(|index| PageRun::new(2000 + 2 * index, 1))
        .collect();
    let happened = respond(&mut vm, false, &singles);
    assert_eq!(finished(&happened).end(), End::Done);
    let status = vm.status();
    assert_eq!((status.ballooned, status.removed), (1000, 1000));
    assert_eq!(status.assigned, status.visible - 1000);
}

#[test]
fn nothing_is_taken_on_a_request_or_a_time_out() {
    let mut vm = asked();
    let before = vm.status().assigned;
    let happened = vm.wait(BALLOON_WITHIN);
    assert!(happened.contains(&Event::BalloonOff));
    assert_eq!(finished(&happened).end(), End::TimedOut);
    assert_eq!(vm.status().assigned, before);
    assert!(!vm.status().can_balloon);
    vm.seconds(1);
    assert_eq!(vm.remove(1), Err(Refused::NoBalloon));
    assert!(vm.add(0, mb(128)).is_ok(), "only the balloon is off");
}

#[test]
fn ranges_after_the_time_out_are_honoured() {
    let mut vm = asked();
    vm.wait(BALLOON_WITHIN);
    assert_eq!(
        respond(&mut vm, false, &[PageRun::new(512, 100)]),
        [Event::Late(100)]
    );
    assert_eq!(vm.status().ballooned, 100);
    assert_eq!(respond(&mut vm, true, &[]), [], "nothing came");
    vm.seconds(1);
    assert_eq!(vm.add(100, 0).map(|add| add.unballoon), Ok(100));
    // Such a part may come in the midst of another operation.
    assert_eq!(
        respond(&mut vm, true, &[PageRun::new(2048, 512)]),
        [Event::Late(512)]
    );
    vm.guest.ballooned.extend((512..612).chain(2048..2560));
    assert_eq!(finished(&vm.pump()).end(), End::Done);
}

#[test]
fn a_guest_that_opens_the_channel_again_can_balloon_again() {
    let mut vm = asked();
    vm.wait(BALLOON_WITHIN);
    let again = vm.guest.reconnect();
    vm.connect(&again);
    assert!(vm.status().can_balloon);
    let unasked = Dropped::Unasked(MessageType::BALLOON_RESPONSE);
    let happened = respond(&mut vm, false, &[PageRun::new(512, 1)]);
    assert_eq!(happened, [Event::Dropped(unasked)]);
}

#[test]
fn parts_without_pages_do_not_hold_the_vm_for_ever() {
    let mut vm = asked();
    respond(&mut vm, true, &[PageRun::new(512, 1)]);
    for _ in 0..59 {
        vm.wait(SECOND);
        assert_eq!(respond(&mut vm, true, &[]), []);
        respond(&mut vm, true, &[PageRun::new(512, 1)]);
    }
    assert_eq!(finished(&vm.wait(SECOND)).end(), End::TimedOut);
}

#[test]
fn each_part_with_pages_gives_the_guest_time() {
    let mut vm = asked();
    for index in 0..10 {
        vm.wait(BALLOON_WITHIN - 1);
        assert_eq!(respond(&mut vm, true, &[PageRun::new(512 + index, 1)]), []);
    }
    assert_eq!(finished(&respond(&mut vm, false, &[])).end(), End::Short);
}

#[test]
fn an_empty_last_part_ends_an_answer_that_had_pages() {
    let mut vm = asked();
    respond(&mut vm, true, &[PageRun::new(512, 1000)]);
    assert_eq!(finished(&respond(&mut vm, false, &[])).end(), End::Done);
}

#[test]
fn an_empty_part_that_is_not_the_last_is_no_refusal() {
    let mut vm = asked();
    respond(&mut vm, true, &[]);
    assert_eq!(
        finished(&respond(&mut vm, false, &[PageRun::new(512, 1000)])).end(),
        End::Done
    );
}

#[test]
fn who_returns_less_is_left_alone_for_a_minute() {
    for given in [0, 999] {
        let mut vm = asked();
        let runs = [PageRun::new(512, given)];
        let happened = respond(&mut vm, false, if given == 0 { &[] } else { &runs });
        let end = Finished::Removed {
            asked: 1000,
            given,
            freed: given,
            end: End::Short,
        };
        assert_eq!(finished(&happened), end);
        vm.seconds(59);
        assert_eq!(vm.remove(1), Err(Refused::BackOff));
        vm.seconds(1);
        assert_eq!(vm.remove(1), Ok(1));
    }
}

#[test]
fn who_returns_more_has_given_it_up() {
    let mut vm = asked();
    let happened = respond(&mut vm, false, &[PageRun::new(512, 1500)]);
    assert!(happened.contains(&Event::Odd(Oddity::TooMany(500))));
    assert_eq!(finished(&happened).end(), End::Done);
    assert_eq!(vm.status().ballooned, 1500);
}

#[test]
fn a_page_counts_once() {
    let mut vm = asked();
    let run = PageRun::new(512, 10);
    let happened = respond(&mut vm, true, &[run, PageRun::new(516, 10), run]);
    assert_eq!(happened, [Event::Odd(Oddity::Repeated(16))]);
    assert_eq!(vm.status().ballooned, 14);
    let happened = respond(&mut vm, true, &[run]);
    assert_eq!(happened, [Event::Odd(Oddity::Repeated(10))]);
}

#[test]
fn ranges_outside_ram_are_skipped_and_the_rest_counts() {
    let mut vm = asked();
    let top = vm.machine.book.top();
    let bad = [
        PageRun::new(512, 0),
        PageRun::new(top - 1, 2),
        PageRun::new(top, 1),
        PageRun::new((1 << 40) - 1, (1 << 24) - 1),
        PageRun::new(0, (1 << 24) - 1),
        PageRun::new(top - 1, 1),
    ];
    let happened = respond(&mut vm, true, &bad);
    assert_eq!(happened, [Event::Odd(Oddity::Ranges(5))]);
    assert_eq!(vm.status().ballooned, 1);
    // Across the hole between the two pieces of RAM.
    let happened = respond(&mut vm, true, &[PageRun::new(100, 200)]);
    assert_eq!(happened, [Event::Odd(Oddity::NotRam(96))]);
    assert_eq!(vm.status().ballooned, 1 + 104);
}

#[test]
fn ranges_that_overlap_cost_one_look_at_the_map() {
    let mut vm = asked();
    let top = vm.machine.book.top();
    let happened = respond(&mut vm, true, &[PageRun::new(256, top - 256); MAX_RANGES]);
    assert_eq!(happened, [Event::Odd(Oddity::Ranges(509))]);
}

#[test]
fn overlays_and_rings_stay_the_guests() {
    let mut vm = asked();
    vm.machine.lasting.extend([515, 516, 520]);
    let happened = respond(&mut vm, true, &[PageRun::new(512, 10)]);
    assert_eq!(happened, [Event::Odd(Oddity::Pinned(3))]);
    assert_eq!(vm.status().ballooned, 7);
    assert_eq!(vm.machine.book.state(515), Some(PageState::Backed));
}

#[test]
fn pages_in_passing_use_are_taken_when_it_ends() {
    let mut vm = asked();
    vm.machine.passing.extend([515, 516, 520]);
    respond(&mut vm, false, &[PageRun::new(512, 10)]);
    let status = vm.status();
    assert_eq!((status.ballooned, status.removed), (7, 7));
    vm.machine.passing.remove(&515);
    vm.dm
        .unpinned(PageRun::new(515, 1), vm.now, &mut vm.machine);
    assert_eq!(vm.status().ballooned, 8);
    vm.dm
        .unpinned(PageRun::new(0, u64::MAX), vm.now, &mut vm.machine);
    assert_eq!(vm.status().ballooned, 8, "the others are still in use");
    vm.machine.passing.clear();
    vm.dm
        .unpinned(PageRun::new(0, u64::MAX), vm.now, &mut vm.machine);
    assert_eq!(vm.status().ballooned, 10);
    vm.machine.check_pages();
}

#[test]
fn pages_that_go_later_count_against_the_minimum_now() {
    let mut vm = Vm::live();
    assert_eq!(vm.remove(10), Ok(10));
    vm.take().unwrap();
    vm.machine.passing.extend(512..522);
    respond(&mut vm, false, &[PageRun::new(512, 10)]);
    assert_eq!(vm.machine.book.count(PageState::Withheld), 10);
    let status = vm.status();
    let spare = status.assigned - status.minimum;
    assert_eq!(vm.remove(u64::MAX), Ok(spare - 10));
}

#[test]
fn what_cannot_be_taken_is_nobodys_is_not_given_and_is_tried_again() {
    let mut vm = asked();
    vm.machine.takes = 3;
    let happened = respond(&mut vm, true, &[PageRun::new(512, 10)]);
    assert_eq!(happened, [Event::TakeFailed(7)]);
    assert_eq!(vm.status().ballooned, 3);
    assert_eq!(vm.machine.book.count(PageState::Withheld), 7);
    vm.machine.check_pages();
    let happened = respond(&mut vm, false, &[PageRun::new(600, 1)]);
    let Finished::Removed { given, .. } = finished(&happened) else {
        panic!("{happened:?}");
    };
    assert_eq!(given, 3, "and a page that failed as well is none either");
    // Not before it is time, and again and again.
    let failed = |happened: Vec<Event>| {
        let failed = |event: &Event| matches!(event, Event::TakeFailed(_));
        happened.into_iter().filter(failed).collect::<Vec<_>>()
    };
    assert_eq!(failed(vm.seconds(59)), []);
    vm.machine.takes = 5;
    assert_eq!(failed(vm.seconds(1)), [Event::TakeFailed(3)]);
    assert_eq!(vm.status().ballooned, 8);
    vm.machine.takes = u64::MAX;
    assert_eq!(failed(vm.seconds(60)), []);
    assert_eq!(vm.status().ballooned, 11);
    vm.machine.check_pages();
}

#[test]
fn what_could_not_be_taken_goes_back_to_the_guest_with_the_last_of_its_balloon() {
    let mut vm = asked();
    vm.machine.takes = 3;
    respond(&mut vm, false, &[PageRun::new(512, 10)]);
    let add = Add {
        unballoon: 3,
        ..Add::default()
    };
    vm.dm.add(add, vm.now, &mut vm.machine).unwrap();
    vm.take().expect("all ten, or the test's machine would say");
    assert_eq!(
        vm.machine.book.count(PageState::Backed),
        vm.status().visible
    );
    vm.machine.check_pages();
}

#[test]
fn large_amounts_are_several_requests_one_after_the_other() {
    let mut vm = Vm::live();
    vm.machine = Machine::new(&[PageRun::new(0, mb(4096))], 0);
    let all = MAX_BALLOON_REQUEST + 5;
    assert_eq!(vm.remove(all), Ok(all));
    let first = vm.take().unwrap();
    assert_eq!(first[8..12], (MAX_BALLOON_REQUEST as u32).to_le_bytes());
    assert_eq!(vm.take(), None);
    let happened = respond(&mut vm, false, &[PageRun::new(0, MAX_BALLOON_REQUEST)]);
    assert_eq!(happened, []);
    let second = vm.take().unwrap();
    assert_eq!(second[8..12], 5_u32.to_le_bytes());
    assert_ne!(first[4..8], second[4..8], "an id of its own");
    let happened = respond(&mut vm, false, &[PageRun::new(mb(3000), 5)]);
    assert_eq!(finished(&happened).end(), End::Done);
}

#[test]
fn no_order_takes_more_than_down_to_the_minimum() {
    let mut vm = Vm::live();
    let spare = vm.status().assigned - mb(32);
    assert_eq!(vm.remove(u64::MAX), Ok(spare));
    vm.pump();
    assert_eq!(vm.status().assigned, mb(32));
    assert_eq!(vm.remove(1), Err(Refused::Nothing));
}

#[test]
fn one_operation_at_a_time() {
    let mut vm = asked();
    assert_eq!(vm.remove(1), Err(Refused::Busy));
    assert_eq!(vm.add(0, mb(128)), Err(Refused::Busy));
    assert_eq!(vm.take(), None);
    // Answers to what was not asked end nothing.
    for message in [
        vm.guest.unballoon_response(),
        vm.guest.hot_add_response(1, 1),
    ] {
        assert!(matches!(
            vm.receive(&message)[..],
            [Event::Dropped(Dropped::Unasked(_))]
        ));
    }
    assert!(vm.status().in_flight);
}

#[test]
fn a_request_without_room_in_the_ring_is_given_up_and_nothing_is_off() {
    let mut vm = Vm::live();
    vm.remove(1000).unwrap();
    let unasked = Dropped::Unasked(MessageType::BALLOON_RESPONSE);
    let early = respond(&mut vm, false, &[PageRun::new(512, 1)]);
    assert_eq!(early, [Event::Dropped(unasked)]);
    let happened = vm.wait(SEND_WITHIN);
    assert_eq!(finished(&happened).end(), End::NotSent);
    assert_eq!(vm.take(), None);
    assert!(vm.status().can_balloon);
}

#[test]
fn a_guest_with_acpi_s4_that_never_answers_is_left_alone() {
    let mut vm = Vm::live();
    vm.guest.is_silent = true;
    vm.remove(1000).unwrap();
    vm.pump();
    let happened = vm.seconds(60);
    assert_eq!(finished(&happened).end(), End::TimedOut);
    assert!(!vm.status().is_frozen);
}

#[test]
fn linux_returns_large_pieces_first_and_keeps_its_floor() {
    let mut vm = Vm::live();
    vm.guest.floor = mb(400);
    let spare = vm.guest.free.len() as u64 - mb(400);
    vm.remove(mb(400)).unwrap();
    let happened = vm.pump();
    let end = Finished::Removed {
        asked: mb(400),
        given: spare,
        freed: spare,
        end: End::Short,
    };
    assert_eq!(finished(&happened), end);
}

#[test]
fn messages_with_pages_and_their_ranges_are_counted() {
    let mut vm = asked();
    respond(&mut vm, true, &[PageRun::new(512, 512)]);
    let rest = [PageRun::new(1024, 400), PageRun::new(1500, 88)];
    assert_eq!(finished(&respond(&mut vm, false, &rest)).end(), End::Done);
    let unasked = respond(&mut vm, false, &rest);
    assert!(matches!(unasked[..], [Event::Dropped(_)]));
    vm.seconds(1);
    assert_eq!(vm.add(1000, 0).map(|add| add.unballoon), Ok(1000));
    vm.guest.ballooned.extend((512..1424).chain(1500..1588));
    assert_eq!(finished(&vm.pump()).end(), End::Done);
    let counters = vm.dm.counters();
    assert_eq!((counters.balloon_messages, counters.balloon_ranges), (2, 3));
    let back = (counters.unballoon_messages, counters.unballoon_ranges);
    assert_eq!(back, (1, 2), "two ranges lay next to each other");
}
