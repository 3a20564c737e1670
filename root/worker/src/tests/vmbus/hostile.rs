//! Guests that lie, and guests that flood.

use tlfs::HvConnectionId;
use utilities::SECOND;

use super::super::*;
use super::guest::*;

#[test]
fn connections_that_nobody_has_do_not_exist() {
    let mut guest = Guest::new();
    let unknown = Err(HvStatus::INVALID_CONNECTION_ID);
    for connection in [0, 2, 3, 5, 0x2001] {
        assert_eq!(guest.post_to(connection, &words(&[3, 0])), unknown);
    }
    for connection in [0, 1, 4, 0x2000, 0x2001, 0x2800, u32::MAX] {
        assert_eq!(
            guest.vmbus.signal_event(HvConnectionId(connection), 0),
            unknown
        );
    }
    let message = board::exit::PostedMessage {
        connection: HvConnectionId(4),
        kind: HvMessageType(2),
        payload: &[],
    };
    let refused = guest.vmbus.post_message(&guest.ram, &message);
    assert_eq!(refused, Err(HvStatus::INVALID_PARAMETER));
    assert_eq!(guest.vmbus.deadline(), u64::MAX, "nothing has happened");
}

#[test]
fn rings_outside_of_memory_are_refused() {
    let mut guest = Guest::connected();
    // 8 MiB are 0x800 pages.
    for pfn in [0x800, 0xD_0000, u64::MAX, 1 << 52] {
        guest.gpadl(HEARTBEAT, &[1, 2, 3, pfn, 5, 6]).unwrap();
        guest.run();
        let created = guest.messages().pop().unwrap();
        assert_ne!(u32_at(&created.payload, 16), 0, "{pfn:#x}");
    }
}

#[test]
fn a_broken_ring_ends_its_channel_and_no_other() {
    let mut guest = Guest::connected();
    guest.start(HEARTBEAT);
    guest.start(SHUTDOWN);
    guest.rings[&HEARTBEAT].0.set_word(0, 0x7777_7777);
    guest.signal(HEARTBEAT).unwrap();
    guest.run();
    let logs = guest.logs();
    assert!(
        logs.iter()
            .any(|line| line.starts_with("heartbeat: Write index")),
        "{logs:?}"
    );
    assert!(guest.signal(HEARTBEAT).is_err(), "it is not open any more");
    guest.vmbus.shut_down(
        &mut guest.fake,
        utilities::shutdown::ShutdownKind::Reboot,
        0,
    );
    guest.run();
    assert!(guest.answer(SHUTDOWN).is_some());
    // The guest closes it, and may try again.
    guest.post(&words(&[7, 0, HEARTBEAT])).unwrap();
    guest.post(&words(&[11, 0, HEARTBEAT, HEARTBEAT])).unwrap();
    guest.run();
    guest.start(HEARTBEAT);
}

/// What breaks a ring: what the guest does to the ring that it writes and to the one that it reads, what it says of them, and
/// whether only the host's next packet brings it to light.
type Break = (fn(&GuestRing, &GuestRing), &'static str, bool);

const BREAKS: [Break; 11] = [
    (
        |ring, _| ring.set_word(0, 0x2000),
        "Write index 0x2000 is outside",
        false,
    ),
    (
        |ring, _| ring.set_word(0, u32::MAX),
        "Write index 0xffffffff is outside",
        false,
    ),
    (
        |ring, _| ring.set_word(0, ring.word(0) + 4),
        "no multiple of 8",
        false,
    ),
    (
        |ring, _| ring.send_raw(&[6; 8]),
        "8 bytes are no packet",
        false,
    ),
    (
        |ring, _| ring.send_raw(&packet(0, 2, 3)),
        "packet of type INVALID",
        false,
    ),
    (
        |ring, _| ring.send_raw(&packet(6, 1, 3)),
        "starts at unit 1",
        false,
    ),
    (
        |ring, _| ring.send_raw(&packet(6, 3, 2)),
        "payload at unit 3",
        false,
    ),
    (
        |ring, _| ring.send_raw(&packet(6, 2, 4)),
        "packet of 40 bytes, 32 are",
        false,
    ),
    (
        |_, ring| ring.set_word(4, 0x2000),
        "Read index 0x2000 is outside",
        true,
    ),
    (
        |_, ring| ring.set_word(4, ring.word(4) + 1),
        "no multiple of 8",
        true,
    ),
    (
        |_, ring| ring.set_word(4, ring.word(0) + 8),
        "which was not written",
        true,
    ),
];

/// 32 bytes with this descriptor.
fn packet(packet_type: u32, data_offset8: u32, length8: u32) -> Vec<u8> {
    words(&[packet_type | data_offset8 << 16, length8, 0, 0, 0, 0, 0, 0])
}

/// The channel was closed with an event that says this, another one works on, and the guest may try again.
fn is_closed_with(guest: &mut Guest, text: &str) {
    let logs = guest.logs();
    let told = |line: &String| line.starts_with("heartbeat: ") && line.contains(text);
    assert!(logs.iter().any(told), "{text}: {logs:?}");
    assert!(guest.signal(HEARTBEAT).is_err(), "{text}: it is open");
    assert!(guest.signal(SHUTDOWN).is_ok(), "{text}: no other one");
    guest.post(&words(&[7, 0, HEARTBEAT])).unwrap();
    guest.post(&words(&[11, 0, HEARTBEAT, HEARTBEAT])).unwrap();
    guest.run();
    guest.start(HEARTBEAT);
}

#[test]
fn every_rule_that_a_ring_breaks_ends_its_channel_with_an_event() {
    for (does, text, needs_packet) in BREAKS {
        let mut guest = Guest::connected();
        guest.start(SHUTDOWN);
        guest.start(HEARTBEAT);
        assert!(guest.answer(HEARTBEAT).is_some());
        let (incoming, outgoing) = guest.rings[&HEARTBEAT].clone();
        does(&incoming, &outgoing);
        if needs_packet {
            guest.pass(guest.now + 3 * SECOND);
        } else {
            guest.signal(HEARTBEAT).unwrap();
            guest.run();
        }
        is_closed_with(&mut guest, text);
    }
}

#[test]
fn a_write_index_that_moves_back_over_packets_ends_the_channel() {
    let mut guest = Guest::connected();
    guest.start(SHUTDOWN);
    guest.start(HEARTBEAT);
    let ring = guest.rings[&HEARTBEAT].0.clone();
    for _ in 0..72 {
        ring.send(99, &[]);
    }
    guest.signal(HEARTBEAT).unwrap();
    guest.run();
    // 32 are taken; the next round looks again while 8 are left.
    ring.set_word(0, ring.word(0) - 24);
    guest.run();
    is_closed_with(&mut guest, "moved backwards");
}

#[test]
fn a_ring_that_is_broken_when_it_is_opened_is_not_opened() {
    let mut guest = Guest::connected();
    let pages = [0x100, 0x101, 0x102, 0x103, 0x104, 0x105];
    guest.gpadl(HEARTBEAT, &pages).unwrap();
    guest.ram.write_shared(0x10_0000, &[0xFF; 64]).unwrap();
    guest.post(&Guest::open_message(HEARTBEAT, 0)).unwrap();
    guest.run();
    let result = guest.messages().pop().unwrap();
    assert_eq!(u32_at(&result.payload, 0), 6);
    assert_ne!(u32_at(&result.payload, 16), 0);
}

#[test]
fn a_guest_that_asks_and_does_not_listen_is_told_to_ask_later() {
    let mut guest = Guest::connected();
    guest.answers(HvCallCode::POST_MESSAGE_DIRECT, HvStatus::OBJECT_IN_USE);
    let full = Err(HvStatus::INSUFFICIENT_BUFFERS);
    let refused = (0..1000).any(|number| {
        let teardown = guest.post(&words(&[11, 0, HEARTBEAT, number]));
        guest.run();
        teardown == full
    });
    assert!(refused);
    let tries = guest.tries(HvCallCode::POST_MESSAGE_DIRECT);
    assert_eq!(tries.len(), 1, "none while the slot is known to be full");
}

#[test]
fn a_guest_whose_requests_pile_up_is_told_to_ask_later() {
    let mut guest = Guest::connected();
    // Without answers to MODIFYCHANNEL, whose places would be full before.
    guest.contact(5 << 16 | 2).unwrap();
    guest.post(&words(&[3, 0])).unwrap();
    guest.run();
    guest.open(HEARTBEAT);
    let moved = words(&[22, 0, HEARTBEAT, 1]);
    let taken = (0..1000).take_while(|_| guest.post(&moved).is_ok());
    assert_eq!(taken.count(), ::vmbus::server::MAX_WAITING_EFFECTS);
    assert_eq!(guest.post(&moved), Err(HvStatus::INSUFFICIENT_BUFFERS));
    guest.run();
    guest.post(&moved).unwrap();
}

#[test]
fn a_flood_of_signals_is_one_round_of_work() {
    let mut guest = Guest::connected();
    guest.start(HEARTBEAT);
    for _ in 0..10_000 {
        guest.signal(HEARTBEAT).unwrap();
        assert!(guest.signal(SHUTDOWN).is_err(), "it is not open");
    }
    assert_eq!(guest.vmbus.deadline(), 0);
    let lines = guest.logs().len();
    guest.run();
    assert_ne!(guest.vmbus.deadline(), 0);
    assert_eq!(guest.logs().len(), lines, "nothing to tell");
}

#[test]
fn pages_that_are_there_twice_or_too_many_are_refused() {
    let mut guest = Guest::connected();
    let mut status = |pages: &[u64]| {
        guest.gpadl(HEARTBEAT, pages).unwrap();
        guest.run();
        u32_at(&guest.messages().pop().unwrap().payload, 16)
    };
    assert_ne!(status(&[1, 2, 3, 4, 5, 1]), 0);
    assert_eq!(status(&[1, 2, 3, 4, 5, 6]), 0);
    assert_ne!(status(&[1, 2, 3, 4, 5, 6]), 0, "the handle is in use");
    // One more than a channel may have; the first is there already.
    let mut refused = 0;
    for handle in 100..116 {
        let message = words(&[8, 0, HEARTBEAT, handle, 16 | 1 << 16, 4096, 0, 7, 0]);
        guest.post(&message).unwrap();
        guest.run();
        refused += u32::from(u32_at(&guest.messages().pop().unwrap().payload, 16) != 0);
    }
    assert_eq!(refused, 1);
}

#[test]
fn a_flood_of_packets_is_taken_in_parts() {
    let mut guest = Guest::connected();
    guest.start(HEARTBEAT);
    for _ in 0..200 {
        guest.rings[&HEARTBEAT].0.send(99, &[]);
    }
    guest.signal(HEARTBEAT).unwrap();
    let mut rounds = 0;
    while guest.vmbus.deadline() == 0 {
        guest.run();
        rounds += 1;
    }
    assert!((6..=8).contains(&rounds), "{rounds}");
    let ring = &guest.rings[&HEARTBEAT].0;
    assert_eq!(ring.word(0), ring.word(4), "all are taken");
}

#[test]
fn a_guest_cannot_fill_the_event_list() {
    let mut guest = Guest::connected();
    for _ in 0..1000 {
        guest.contact(5 << 16 | 3).unwrap();
        guest.run();
    }
    assert!(guest.logs().len() <= 40);
    guest.now += 100 * SECOND;
    guest.contact(5 << 16 | 3).unwrap();
    guest.run();
    assert!(
        guest
            .logs()
            .iter()
            .any(|line| line.contains("lines about VMBus are left out"))
    );
}

proptest::proptest! {
    /// Whatever is posted and signalled, and whatever lies in the rings, the worker goes on.
    #[test]
    fn nothing_that_a_guest_does_ends_the_worker(
        steps in proptest::collection::vec(
            (0u8..6, proptest::collection::vec(proptest::prelude::any::<u32>(), 0..60), 0u32..6), 0..60),
    ) {
        let mut guest = Guest::connected();
        guest.start(HEARTBEAT);
        for (step, values, relid) in steps {
            match step {
                0 => {
                    let _ = guest.post(&words(&values));
                }
                1 => {
                    // A message of a type that exists, for a channel that may.
                    let mut message = words(&values);
                    message.resize(message.len().max(16), 0);
                    message[..4].copy_from_slice(&(relid + 3 * (values.len() as u32 % 7)).to_le_bytes());
                    message[8..12].copy_from_slice(&relid.to_le_bytes());
                    message.truncate(240);
                    let _ = guest.post(&message);
                }
                2 => {
                    let _ = guest.signal(relid);
                }
                3 => guest.pass(guest.now + SECOND),
                4 => {
                    let bytes = words(&values);
                    for (incoming, outgoing) in guest.rings.values() {
                        let at = values.first().map_or(0, |value| value % 4);
                        incoming.set_word(at * 4, values.last().copied().unwrap_or(0) % 9000);
                        let ring = if relid % 2 == 0 { incoming } else { outgoing };
                        ring.send_raw(&bytes);
                    }
                }
                _ => guest.answer_any(relid),
            }
            guest.run();
        }
        // It can still be connected to.
        guest.contact(5 << 16 | 3).unwrap();
        guest.run();
        let last = guest.messages().pop();
        proptest::prop_assert_eq!(last.map(|message| message.payload), Some(words(&[15, 0, 1, 4])));
    }
}
