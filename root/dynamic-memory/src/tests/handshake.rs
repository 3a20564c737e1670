//! Versions, capabilities, information, quiet time (sheet 1.2, 1.3, 1.8, 2.3).

use super::*;
use crate::wire::{Capabilities, MAX_INCOMING, Malformed, Version};
use crate::{Dropped, HotAddOff};

#[test]
fn linux_connects_and_learns_the_maximum() {
    let mut vm = Vm::new();
    let first = vm.guest.reload();
    let happened = vm.connect(&first);
    let connected = Event::Connected {
        version: Version::WIN10,
        capabilities: Capabilities(0x1f),
    };
    assert_eq!(happened, [connected]);
    assert!(vm.guest.is_initialized);
    assert_eq!(vm.guest.max_pages, Some(mb(2048)));
    let order = [
        MessageType::VERSION_RESPONSE,
        MessageType::CAPABILITIES_RESPONSE,
        MessageType::INFO_MESSAGE,
    ];
    assert_eq!(vm.guest.seen, order);
}

#[test]
fn answers_repeat_the_guests_id_and_requests_have_the_hosts() {
    let mut vm = Vm::live();
    vm.removed(mb(2));
    let ids: Vec<u8> = vm.sent.iter().map(|packet| packet[4]).collect();
    assert_eq!(ids, [1, 2, 1, 2]);
}

#[test]
fn each_of_the_three_versions_is_accepted_and_nothing_else() {
    for version in [Version::WIN7, Version::WIN8, Version::WIN10] {
        let mut vm = Vm::new();
        vm.guest.versions = vec![version];
        vm.go_live();
        assert_eq!(vm.guest.agreed, Some(version));
        assert_eq!(vm.guest.max_pages.is_some(), version >= Version::WIN8);
    }
    let mut vm = Vm::new();
    let strange = [0, 1, 0x0001_0001, 0x0003_0000, u32::MAX].map(Version::from_bits);
    vm.guest.versions = strange.to_vec();
    vm.guest.versions.push(Version::WIN8);
    let first = vm.guest.reload();
    let happened = vm.connect(&first);
    assert_eq!(happened[..5], strange.map(Event::VersionRefused));
    assert_eq!(vm.guest.agreed, Some(Version::WIN8));
}

#[test]
fn a_guest_that_finds_no_version_may_close_and_come_again() {
    let mut vm = Vm::new();
    vm.guest.versions = vec![Version::from_bits(9)];
    let first = vm.guest.reload();
    vm.connect(&first);
    assert_eq!((vm.guest.agreed, vm.dm.packet_len()), (None, None));
    vm.close();
    vm.guest.versions = vec![Version::WIN10];
    vm.go_live();
}

#[test]
fn no_request_is_made_in_the_quiet_time() {
    let mut vm = Vm::new();
    let first = vm.guest.reload();
    vm.connect(&first);
    for _ in 0..49 {
        assert_eq!(vm.seconds(1), []);
        assert_eq!(vm.remove(mb(2)), Err(Refused::NotLive));
        assert_eq!(vm.add(0, mb(128)), Err(Refused::NotLive));
    }
    assert_eq!(vm.seconds(1), [Event::Live { is_32_bit: false }]);
    vm.removed(mb(2));
}

#[test]
fn a_guest_that_never_reports_gets_no_request_and_is_not_dead() {
    let mut vm = Vm::new();
    let first = vm.guest.reload();
    vm.connect(&first);
    assert_eq!(vm.dm.next_deadline(), None);
    assert_eq!(vm.wait(100 * QUIET), []);
    assert_eq!(vm.remove(mb(2)), Err(Refused::NotLive));
    assert_eq!(vm.seconds(1), [Event::Live { is_32_bit: false }]);
}

#[test]
fn a_guest_that_never_connects_keeps_its_memory() {
    let mut vm = Vm::new();
    vm.wait(100 * QUIET);
    assert_eq!(vm.remove(1), Err(Refused::NotLive));
    assert_eq!(vm.status().assigned, vm.status().visible);
    assert!(vm.receive(&[0; 16]).is_empty());
    assert_eq!(vm.dm.counters().strays, 1);
}

#[test]
fn each_answer_of_the_handshake_is_sent_once() {
    let mut vm = Vm::new();
    let first = vm.guest.reload();
    vm.connect(&first);
    let sent = vm.sent.len();
    for message in [first, vm.guest.reconnect()] {
        let unasked = Dropped::Unasked(MessageType::VERSION_REQUEST);
        assert_eq!(vm.receive(&message), [Event::Dropped(unasked)]);
    }
    assert_eq!(vm.take(), None);
    assert_eq!(vm.sent.len(), sent);
}

#[test]
fn messages_before_their_time_are_dropped() {
    let mut vm = Vm::new();
    vm.dm.opened(vm.now, &mut vm.machine);
    let messages = [
        vm.guest.report(),
        vm.guest.balloon_response(false, &[PageRun::new(0, 1)]),
        vm.guest.unballoon_response(),
        vm.guest.hot_add_response(1, 1),
    ];
    for message in &messages {
        assert!(matches!(
            vm.receive(message)[..],
            [Event::Dropped(Dropped::Unasked(_))]
        ));
    }
    assert_eq!(vm.machine.book.ballooned(), 0);
    vm.go_live();
    for message in &messages[1..] {
        assert!(matches!(
            vm.receive(message)[..],
            [Event::Dropped(Dropped::Unasked(_))]
        ));
    }
    assert_eq!(vm.machine.book.ballooned(), 0);
}

#[test]
fn who_asks_and_does_not_read_is_told_once_and_fills_nothing() {
    let mut vm = Vm::new();
    vm.dm.opened(vm.now, &mut vm.machine);
    vm.guest.versions = vec![Version::from_bits(7)];
    let mut floods = 0;
    for _ in 0..100 {
        let request = vm.guest.reconnect();
        floods += vm
            .receive(&request)
            .iter()
            .filter(|event| matches!(event, Event::Dropped(_)))
            .count();
    }
    assert_eq!(floods, 96);
    assert_eq!(std::iter::from_fn(|| vm.take()).count(), 4);
}

#[test]
fn malformed_messages_are_counted_and_stop_nothing() {
    let mut vm = Vm::live();
    let report = vm.guest.report();
    for len in 0..report.len() {
        vm.receive(&report[..len]);
    }
    let long = vec![0; MAX_INCOMING + 1];
    let dropped = Dropped::Malformed(Malformed::Length(long.len()));
    assert_eq!(vm.receive(&long), [Event::Dropped(dropped)]);
    assert_eq!(vm.dm.counters().dropped, 49);
    vm.removed(mb(2));
}

#[test]
fn guests_without_hot_add_or_without_balloon_are_not_asked_for_it() {
    let mut vm = Vm::new();
    vm.guest.capabilities = 0x1d;
    vm.go_live();
    assert_eq!(vm.add(0, mb(128)), Err(Refused::NoHotAdd));
    vm.removed(mb(8));
    assert!(vm.status().can_balloon && !vm.status().can_hot_add);
    let mut vm = Vm::new();
    vm.guest.capabilities = 0x1e;
    vm.go_live();
    assert_eq!(vm.remove(mb(2)), Err(Refused::NoBalloon));
    assert!(vm.add(0, mb(128)).is_ok());
}

#[test]
fn a_guest_outside_long_mode_stays_below_4_gib() {
    let mut vm = Vm::with(
        Settings {
            maximum: mb(8192),
            ..settings()
        },
        mb(16),
    );
    vm.machine.long_mode = false;
    let first = vm.guest.reload();
    vm.connect(&first);
    assert_eq!(vm.status().maximum, mb(8192), "not known yet");
    vm.wait(QUIET);
    assert!(vm.seconds(1).contains(&Event::Live { is_32_bit: true }));
    assert_eq!(vm.status().maximum, mb(4096));
    let asked = vm.add(0, mb(8192)).unwrap();
    assert_eq!(asked.hot_add, mb(3584));
}

#[test]
fn a_new_maximum_is_told_to_a_guest_that_knows_the_message() {
    let mut vm = Vm::live();
    vm.dm.set_limits(mb(16), mb(4096));
    vm.pump();
    assert_eq!(vm.guest.max_pages, Some(mb(4096)));
    vm.dm.set_limits(mb(8), mb(4096));
    assert_eq!(vm.take(), None);
    let off = Event::HotAddOff(HotAddOff::Refused);
    assert!(!vm.seconds(3).contains(&off));
}
