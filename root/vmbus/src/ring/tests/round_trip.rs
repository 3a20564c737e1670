//! What one ring writes the other one reads.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::fake::Fake;
use crate::protocol::{PacketType, TransferPageRange};
use crate::ring::*;

#[derive(Clone, Debug)]
enum Action {
    Write { parts: Vec<usize>, completion: bool },
    Publish,
    Read,
    Finish,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (prop::collection::vec(0usize..700, 0..4), any::<bool>())
            .prop_map(|(parts, completion)| Action::Write { parts, completion }),
        2 => Just(Action::Publish),
        4 => Just(Action::Read),
        2 => Just(Action::Finish),
    ]
}

proptest! {
    #[test]
    fn packets_arrive_in_order_and_unchanged(
        pages in 1u32..3,
        start in 0u32..512,
        actions in prop::collection::vec(action(), 1..200),
    ) {
        let memory = Fake::new(pages).starting_at(start * 8);
        let mut outgoing = OutgoingRing::new(memory.clone(), u32::MAX).unwrap();
        let mut incoming = IncomingRing::new(memory).unwrap();
        let mut written = VecDeque::new();
        let mut visible = 0;
        let mut id = 0u64;
        for action in actions {
            match action {
                Action::Write { parts, completion } => {
                    id = id.wrapping_sub(1);
                    let parts: Vec<_> = parts.iter().map(|len| vec![id as u8; *len]).collect();
                    let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                    match outgoing.write_in_band(id, completion, &slices) {
                        Ok(()) => written.push_back((id, completion, parts.concat())),
                        Err(WriteError::Full { .. }) => {}
                        Err(error) => prop_assert!(false, "{}", error),
                    }
                }
                Action::Publish => {
                    let _ = outgoing.publish().unwrap();
                    visible = written.len();
                }
                Action::Read => match incoming.read_packet().unwrap() {
                    None => prop_assert_eq!(visible, 0),
                    Some(mut packet) => {
                        let (id, completion, mut payload) = written.pop_front().unwrap();
                        visible -= 1;
                        payload.resize(payload.len().next_multiple_of(8), 0);
                        prop_assert_eq!(packet.packet_type(), PacketType::DATA_IN_BAND);
                        prop_assert_eq!(packet.transaction_id(), id);
                        prop_assert_eq!(packet.completion_requested(), completion);
                        let mut copy = vec![1; packet.payload_len() as usize];
                        packet.read_payload(&mut copy).unwrap();
                        prop_assert_eq!(copy, payload);
                    }
                },
                Action::Finish => {
                    let finish = incoming.finish().unwrap();
                    prop_assert_eq!(finish.more, visible != 0);
                }
            }
        }
    }

    #[test]
    fn no_guest_memory_whatever_makes_a_ring_panic(
        pages in 1u32..3,
        noise in prop::collection::vec((0u32..8192, any::<u64>()), 0..300),
        header in prop::array::uniform4(prop_oneof![any::<u32>(), (0u32..1030).prop_map(|n| n * 8)]),
        changes in prop::collection::vec((0u32..3, any::<u32>()), 0..20),
    ) {
        let memory = Fake::new(pages);
        let data = pages * 4096;
        for (at, value) in noise {
            // Small numbers, so that some descriptors are nearly right.
            let value = value & 0x0000_0000_0003_0FFF_u64.rotate_left((value >> 58) as u32);
            memory.put(at * 8 % data, &value.to_le_bytes());
        }
        for (at, value) in (0..).step_by(4).zip(header) {
            memory.poke(at, value);
        }
        let mut list = GpaList::new();
        let incoming = IncomingRing::new(memory.clone());
        let outgoing = OutgoingRing::new(memory.clone(), 4096);
        let (Ok(mut incoming), Ok(mut outgoing)) = (incoming, outgoing) else {
            return Ok(());
        };
        let ranges = [TransferPageRange::default(); 2];
        for (at, value) in changes {
            let before = incoming.error();
            if let Ok(Some(mut packet)) = incoming.read_packet() {
                let _ = packet.read_payload(&mut [0; 100]);
                let _ = packet.read_gpa_direct(&mut list);
                prop_assert!(list.buffer().pieces().count() <= MAX_GPA_PAGES);
            }
            let _ = outgoing.write_transfer_pages(1, true, 2, &ranges, &[&[0; 33]]);
            let _ = outgoing.publish();
            let _ = incoming.finish();
            prop_assert!(before.is_none() || incoming.error() == before, "dead is dead");
            memory.poke(at * 4, value & 0x1FF8);
        }
    }
}
