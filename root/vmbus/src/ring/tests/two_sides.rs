//! Both rings of a channel between the host and a guest: packets and rings of any size, wrapping everywhere.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::fake::Fake;
use crate::protocol::{DESCRIPTOR_SIZE, PacketType, TRAILER_SIZE};
use crate::ring::*;

/// The guest's end of both rings, as Linux has it: whole packets, and an index of its own for each.
struct Guest {
    incoming: Fake,
    outgoing: Fake,
    size: u32,
}

impl Guest {
    /// With rings of so many pages of data, whose indices are at `start`.
    fn new(pages: u32, start: u32) -> Self {
        let size = pages * DATA;
        Self {
            incoming: Fake::new(pages).starting_at(start % size),
            outgoing: Fake::new(pages).starting_at(start % size),
            size,
        }
    }

    /// Sends a packet, if there is room that Linux would use.
    fn send(&self, id: u64, payload: &[u8]) -> bool {
        let used = self.size + self.incoming.peek(WRITE_INDEX) - self.incoming.peek(READ_INDEX);
        let needed = DESCRIPTOR_SIZE + payload.len() as u32 + TRAILER_SIZE;
        let fits = self.size - used % self.size > needed;
        if fits {
            self.incoming
                .produce(PacketType::DATA_IN_BAND, id, &[], payload);
        }
        fits
    }

    /// Takes a packet, if one is shown: its id and payload. Descriptor and trailer have to be right.
    fn take(&self) -> Option<(u64, Vec<u8>)> {
        let read = self.outgoing.peek(READ_INDEX);
        if read == self.outgoing.peek(WRITE_INDEX) {
            return None;
        }
        let descriptor = self.outgoing.descriptor(read);
        assert_eq!(descriptor.packet_type, PacketType::DATA_IN_BAND);
        assert_eq!(descriptor.data_offset8, 2);
        let len = u32::from(descriptor.length8) * 8;
        let payload = self
            .outgoing
            .get(read + DESCRIPTOR_SIZE, len - DESCRIPTOR_SIZE);
        let trailer = self.outgoing.get(read + len, TRAILER_SIZE);
        assert_eq!(trailer, (u64::from(read) << 32).to_le_bytes());
        let next = (read + len + TRAILER_SIZE) % self.size;
        self.outgoing.poke(READ_INDEX, next);
        Some((descriptor.transaction_id, payload))
    }
}

/// A packet of the host's, or `None` if nothing is shown.
fn read(ring: &mut IncomingRing<Fake>) -> Option<(u64, Vec<u8>)> {
    let mut packet = ring.read_packet().unwrap()?;
    let mut payload = vec![0xEE; packet.payload_len() as usize];
    assert_eq!(packet.read_payload(&mut payload), Ok(payload.len()));
    Some((packet.transaction_id(), payload))
}

/// Bytes that differ from those of other packets, and each from its neighbours.
fn payload(id: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u64 * 7 + id * 31) as u8).collect()
}

/// What the other side sees of it: units of 8 bytes.
fn padded(mut payload: Vec<u8>) -> Vec<u8> {
    payload.resize(payload.len().next_multiple_of(8), 0);
    payload
}

#[derive(Clone, Debug)]
enum Action {
    HostWrites(usize),
    HostPublishes,
    HostReads,
    HostFinishes,
    GuestWrites(usize),
    GuestReads,
}

fn action(longest: usize) -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0..longest).prop_map(Action::HostWrites),
        2 => Just(Action::HostPublishes),
        4 => Just(Action::HostReads),
        2 => Just(Action::HostFinishes),
        4 => (0..longest).prop_map(Action::GuestWrites),
        4 => Just(Action::GuestReads),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Wherever the first of these packets starts, which is everywhere, each of their bytes comes to lie on both sides of
    /// the end.
    #[test]
    fn packets_of_any_size_wrap_at_every_position(
        pages in 1u32..4,
        sizes in prop::collection::vec(0usize..300, 1..4),
    ) {
        for start in (0..pages * DATA).step_by(8) {
            let guest = Guest::new(pages, start);
            let mut outgoing = OutgoingRing::new(guest.outgoing.clone(), u32::MAX).unwrap();
            let mut incoming = IncomingRing::new(guest.incoming.clone()).unwrap();
            let packets: Vec<_> = (1u64..).zip(&sizes).map(|(id, len)| (id, payload(id, *len))).collect();
            for (id, payload) in &packets {
                outgoing.write_in_band(*id, false, &[payload]).unwrap();
                prop_assert!(guest.send(*id, &padded(payload.clone())));
            }
            prop_assert_eq!(guest.take(), None, "not shown yet");
            let _ = outgoing.publish().unwrap();
            for (id, payload) in packets {
                let expected = Some((id, padded(payload)));
                prop_assert_eq!(guest.take(), expected.clone());
                prop_assert_eq!(read(&mut incoming), expected);
            }
            prop_assert_eq!(guest.take(), None);
            prop_assert!(!incoming.finish().unwrap().more);
            prop_assert_eq!(guest.incoming.peek(READ_INDEX), guest.incoming.peek(WRITE_INDEX));
        }
    }
}

proptest! {
    #[test]
    fn both_sides_get_what_the_other_one_sent_in_any_order_of_steps(
        (pages, actions) in (1u32..6).prop_flat_map(|pages| {
            // Some packets are nearly as long as the ring.
            let longest = (pages * DATA) as usize - 64;
            let action = prop_oneof![4 => action(200), 1 => action(longest)];
            (Just(pages), prop::collection::vec(action, 1..300))
        }),
        start in 0u32..5 * 512,
    ) {
        let guest = Guest::new(pages, start * 8);
        let mut outgoing = OutgoingRing::new(guest.outgoing.clone(), u32::MAX).unwrap();
        let mut incoming = IncomingRing::new(guest.incoming.clone()).unwrap();
        let (mut to_guest, mut to_host) = (VecDeque::new(), VecDeque::new());
        let mut shown = 0;
        for (id, action) in (1u64..).zip(actions) {
            match action {
                Action::HostWrites(len) => {
                    let payload = payload(id, len);
                    match outgoing.write_in_band(id, false, &[&payload]) {
                        Ok(()) => to_guest.push_back((id, padded(payload))),
                        Err(error) => prop_assert!(matches!(error, WriteError::Full { .. }), "{}", error),
                    }
                }
                Action::HostPublishes => {
                    let _ = outgoing.publish().unwrap();
                    shown = to_guest.len();
                }
                Action::GuestReads => {
                    let expected = (shown > 0).then(|| to_guest.pop_front()).flatten();
                    prop_assert_eq!(guest.take(), expected);
                    shown = shown.saturating_sub(1);
                }
                Action::GuestWrites(len) => {
                    let payload = padded(payload(id, len));
                    if guest.send(id, &payload) {
                        to_host.push_back((id, payload));
                    }
                }
                Action::HostReads => prop_assert_eq!(read(&mut incoming), to_host.pop_front()),
                Action::HostFinishes => {
                    prop_assert_eq!(incoming.finish().unwrap().more, !to_host.is_empty());
                }
            }
        }
    }
}
