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
