//! Host to guest: what is written, what is refused, when the guest is signalled.

use alloc::vec;

use zerocopy::{FromBytes, IntoBytes};

use super::fake::{Access, Fake, set_word};
use crate::protocol::{PacketType, TransferPageRange, TransferPagesHeader};
use crate::ring::*;

fn ring(memory: &Fake) -> OutgoingRing<Fake> {
    OutgoingRing::new(memory.clone(), 1 << 20).unwrap()
}

#[test]
fn a_packet_has_descriptor_payload_padding_and_trailer_wherever_it_wraps() {
    for start in (3968..4096).step_by(8) {
        let memory = Fake::new(1).starting_at(start);
        memory.put(start, &[0xEE; 200]);
        let mut ring = ring(&memory);
        ring.write_in_band(0xFFFF_FFFF_0000_0001, true, &[&[1; 9], &[2; 20]])
            .unwrap();
        assert_eq!(memory.peek(WRITE_INDEX), start, "not shown yet");
        assert_eq!(ring.publish().unwrap(), Signal::Needed);
        assert_eq!(memory.peek(WRITE_INDEX), (start + 16 + 32 + 8) % 4096);
        let descriptor = memory.descriptor(start);
        assert_eq!(descriptor.packet_type, PacketType::DATA_IN_BAND);
        assert_eq!(descriptor.data_offset8, 2);
        assert_eq!(descriptor.length8, 6);
        assert_eq!(descriptor.flags, 1);
        assert_eq!(descriptor.transaction_id, 0xFFFF_FFFF_0000_0001);
        let expected = [vec![1; 9], vec![2; 20], vec![0; 3]].concat();
        assert_eq!(memory.get(start + 16, 32), expected);
        let trailer = u64::from(start) << 32;
        assert_eq!(memory.get(start + 48, 8), trailer.to_le_bytes());
        assert_eq!(memory.get(start + 56, 8), [0xEE; 8], "and not more");
    }
}

#[test]
fn a_completion_wants_no_completion() {
    let memory = Fake::new(1);
    ring(&memory)
        .write_completion(u64::MAX, &[&[5; 8]])
        .unwrap();
    let descriptor = memory.descriptor(0);
    assert_eq!(descriptor.packet_type, PacketType::COMPLETION);
    assert_eq!((descriptor.flags, descriptor.transaction_id), (0, u64::MAX));
}

#[test]
fn transfer_pages_come_between_descriptor_and_payload() {
    let memory = Fake::new(1);
    let ranges = [1, 2, 3].map(|byte_count| TransferPageRange {
        byte_count,
        byte_offset: byte_count * 1728,
    });
    ring(&memory)
        .write_transfer_pages(7, true, 0xCAFE, &ranges, &[&[9; 40]])
        .unwrap();
    let descriptor = memory.descriptor(0);
    assert_eq!(
        descriptor.packet_type,
        PacketType::DATA_USING_TRANSFER_PAGES
    );
    assert_eq!((descriptor.data_offset8, descriptor.length8), (3 + 3, 11));
    let header = TransferPagesHeader::read_from_bytes(&memory.get(16, 8)).unwrap();
    assert_eq!((header.page_set_id, header.range_count), (0xCAFE, 3));
    assert_eq!(memory.get(24, 24), ranges.as_bytes());
    assert_eq!(memory.get(48, 40), [9; 40]);
}

#[test]
fn a_payload_of_8_kib_is_copied_once_or_in_two_parts_around_the_end() {
    let size = 4 * DATA;
    for at in (0..size).step_by(8) {
        let memory = Fake::new(4).starting_at(at);
        ring(&memory)
            .write_in_band(1, false, &[&vec![7; 8192]])
            .unwrap();
        let log = memory.log.borrow();
        let large = log
            .iter()
            .filter(|access| matches!(access, Access::Write(_, len) if *len > 16));
        let bytes: u32 = large
            .clone()
            .map(|access| match access {
                Access::Write(_, len) => *len,
                _ => 0,
            })
            .sum();
        // A part of up to 16 bytes is a move or two.
        assert!(large.count() <= 2 && bytes >= 8192 - 16, "at {at}");
        assert_eq!(memory.get((at + 16) % size, 8192), [7; 8192]);
    }
}

#[test]
fn packets_of_all_lengths_lie_one_behind_the_other_around_the_end() {
    let memory = Fake::new(1);
    let mut ring = ring(&memory);
    let mut at = 0;
    for round in 0..2000u32 {
        let payload = vec![round as u8; (round % 97) as usize];
        ring.write_in_band(u64::from(round), false, &[&payload])
            .unwrap();
        assert_eq!(ring.publish().unwrap(), Signal::Needed);
        assert_eq!(memory.descriptor(at).transaction_id, u64::from(round));
        assert_eq!(memory.get((at + 16) % DATA, round % 97), payload);
        at = (at + 24 + (round % 97).next_multiple_of(8)) % DATA;
        assert_eq!(memory.peek(WRITE_INDEX), at);
        memory.poke(READ_INDEX, at);
    }
}

#[test]
fn the_ring_never_becomes_full() {
    let memory = Fake::new(1);
    let mut ring = ring(&memory);
    // 127 packets of 32 bytes leave 32, which is not more than a packet needs.
    for _ in 0..127 {
        ring.write_in_band(1, false, &[&[0; 8]]).unwrap();
    }
    let full = WriteError::Full { needed: 32 };
    assert_eq!(ring.write_in_band(1, false, &[&[0; 8]]), Err(full));
    let _ = ring.publish().unwrap();
    assert_eq!(memory.peek(WRITE_INDEX), 127 * 32);
    // 24 fit into 32.
    ring.write_in_band(1, false, &[]).unwrap();
}

#[test]
fn a_packet_that_the_driver_does_not_take_is_refused() {
    let memory = Fake::new(1);
    let mut ring = OutgoingRing::new(memory.clone(), 80).unwrap();
    ring.write_completion(1, &[&[0; 64]]).unwrap();
    assert_eq!(
        ring.write_completion(1, &[&[0; 65]]),
        Err(WriteError::TooLong(81))
    );
    // And one that can never fit.
    let mut ring = OutgoingRing::new(Fake::new(1), u32::MAX).unwrap();
    ring.write_in_band(1, false, &[&vec![0; 4096 - 8 - 8 - 16]])
        .unwrap();
    let _ = ring.publish().unwrap();
    let mut ring = OutgoingRing::new(Fake::new(1), u32::MAX).unwrap();
    assert_eq!(
        ring.write_in_band(1, false, &[&vec![0; 4096 - 8 - 16 - 7]]),
        Err(WriteError::TooLong(4096 - 15))
    );
    // And one whose length a descriptor cannot hold.
    let mut ring = OutgoingRing::new(Fake::new(256), u32::MAX).unwrap();
    ring.write_in_band(1, false, &[&vec![0; 65535 * 8 - 16]])
        .unwrap();
    assert!(matches!(
        ring.write_in_band(1, false, &[&vec![0; 65535 * 8 - 15]]),
        Err(WriteError::TooLong(_))
    ));
}

#[test]
fn the_guest_is_signalled_when_the_ring_was_empty_and_it_has_no_mask() {
    let memory = Fake::new(1);
    let mut ring = ring(&memory);
    let mut send = |count| {
        for _ in 0..count {
            ring.write_in_band(1, false, &[&[0; 8]]).unwrap();
        }
        ring.publish().unwrap()
    };
    assert_eq!(send(0), Signal::NotNeeded, "nothing to tell");
    assert_eq!(send(2), Signal::Needed, "one for a batch");
    assert_eq!(send(1), Signal::NotNeeded, "it has not read the first");
    memory.poke(READ_INDEX, 64);
    assert_eq!(send(1), Signal::NotNeeded, "it has not read all");
    memory.poke(READ_INDEX, 128);
    memory.poke(INTERRUPT_MASK, 1);
    assert_eq!(send(1), Signal::NotNeeded, "it looks by itself");
    memory.poke(READ_INDEX, 160);
    memory.poke(INTERRUPT_MASK, 0);
    assert_eq!(send(1), Signal::Needed);
}

#[test]
fn the_index_follows_the_data_and_the_mask_is_read_behind_a_fence() {
    let memory = Fake::new(1);
    let mut ring = ring(&memory);
    memory.log.borrow_mut().clear();
    ring.write_in_band(1, false, &[&[0; 8]]).unwrap();
    let _ = ring.publish().unwrap();
    let log = memory.log.borrow();
    let last = log.len() - 4;
    let is_write = |access: &Access| matches!(access, Access::Write(..));
    assert_eq!(
        log[..last].iter().filter(|access| is_write(access)).count(),
        3
    );
    assert_eq!(
        log[last..],
        [
            Access::Store(WRITE_INDEX, 32),
            Access::Fence,
            Access::Load(INTERRUPT_MASK),
            Access::Load(READ_INDEX)
        ]
    );
}

#[test]
fn read_indices_that_cannot_be_are_named() {
    let beyond = |to| RingError::ReadIndexBeyondWritten { from: 32, to };
    for (value, error) in [
        (
            4096,
            RingError::IndexOutOfRange {
                index: Index::Read,
                value: 4096,
            },
        ),
        (
            63,
            RingError::IndexUnaligned {
                index: Index::Read,
                value: 63,
            },
        ),
        // Packets that were written, but not shown yet.
        (96, beyond(96)),
        // Backwards.
        (24, beyond(24)),
    ] {
        let memory = Fake::new(1);
        let mut ring = ring(&memory);
        ring.write_in_band(1, false, &[&[0; 8]]).unwrap();
        let _ = ring.publish().unwrap();
        memory.poke(READ_INDEX, 32);
        ring.write_in_band(1, false, &[&[0; 8]]).unwrap();
        let _ = ring.publish().unwrap();
        ring.write_in_band(1, false, &[&[0; 8]]).unwrap();
        memory.poke(READ_INDEX, value);
        let needed = 4096;
        let result = ring.request_room(needed);
        // The request shows the third packet, so its end can be read then.
        if value == 96 {
            assert!(!result.unwrap().room);
            continue;
        }
        assert_eq!(result.unwrap_err(), error);
        assert_eq!(ring.publish().unwrap_err(), error);
        assert_eq!(
            ring.write_in_band(1, false, &[]),
            Err(WriteError::Ring(error))
        );
    }
}

#[test]
fn packets_that_are_not_shown_cannot_have_been_read() {
    let memory = Fake::new(1);
    let mut ring = ring(&memory);
    for _ in 0..127 {
        ring.write_in_band(1, false, &[&[0; 8]]).unwrap();
    }
    memory.poke(READ_INDEX, 32);
    let error = RingError::ReadIndexBeyondWritten { from: 0, to: 32 };
    assert_eq!(
        ring.write_in_band(1, false, &[&[0; 8]]),
        Err(WriteError::Ring(error))
    );
}

#[test]
fn a_wish_for_room_is_written_looked_at_again_and_taken_back() {
    let memory = Fake::new(1);
    let mut ring = ring(&memory);
    ring.write_in_band(1, false, &[&[0; 4000]]).unwrap();
    assert_eq!(
        ring.write_in_band(1, false, &[&[0; 100]]),
        Err(WriteError::Full { needed: 128 })
    );
    let request = ring.request_room(128).unwrap();
    assert_eq!(request.signal, Signal::Needed, "for the packet before");
    assert!(!request.room);
    assert_eq!(memory.peek(PENDING_SEND_SIZE), 128);
    // The guest reads on and signals.
    memory.poke(READ_INDEX, memory.peek(WRITE_INDEX));
    ring.write_in_band(1, false, &[&[0; 100]]).unwrap();
    assert_eq!(memory.peek(PENDING_SEND_SIZE), 0);
}

#[test]
fn a_shorter_packet_that_goes_first_leaves_the_wish() {
    let memory = Fake::new(1);
    let mut ring = ring(&memory);
    ring.write_in_band(1, false, &[&[0; 3900]]).unwrap();
    assert!(!ring.request_room(256).unwrap().room);
    for _ in 0..2 {
        ring.write_in_band(2, false, &[&[0; 8]]).unwrap();
        assert_eq!(memory.peek(PENDING_SEND_SIZE), 256);
    }
    let _ = ring.publish().unwrap();
    memory.poke(READ_INDEX, memory.peek(WRITE_INDEX));
    ring.write_in_band(1, false, &[&[0; 232]]).unwrap();
    assert_eq!(memory.peek(PENDING_SEND_SIZE), 0);
}

#[test]
fn room_that_appears_while_it_is_wished_for_is_not_missed() {
    let memory = Fake::new(1);
    let mut ring = ring(&memory);
    ring.write_in_band(1, false, &[&[0; 4000]]).unwrap();
    let _ = ring.publish().unwrap();
    memory.before_each(|access, bytes| {
        if access == Access::Store(PENDING_SEND_SIZE, 128) {
            set_word(bytes, READ_INDEX, 4024);
        }
    });
    assert!(ring.request_room(128).unwrap().room);
    assert_eq!(memory.peek(PENDING_SEND_SIZE), 0);
}

#[test]
fn a_guest_without_flow_control_is_not_asked_for_room() {
    let memory = Fake::new(1);
    memory.poke(FEATURE_BITS, 0);
    let mut ring = ring(&memory);
    assert!(!ring.has_flow_control());
    ring.write_in_band(1, false, &[&[0; 4000]]).unwrap();
    assert!(!ring.request_room(128).unwrap().room);
    assert_eq!(memory.peek(PENDING_SEND_SIZE), 0);
}

#[test]
fn memory_that_goes_away_ends_the_ring_wherever_it_happens() {
    for lives in 0..24 {
        let memory = Fake::new(1).starting_at(4088);
        memory.lives.set(lives);
        let result = (|| {
            let mut ring = OutgoingRing::new(memory.clone(), 4096)?;
            ring.write_in_band(1, false, &[&[0; 11]])?;
            let _ = ring.publish()?;
            let _ = ring.request_room(4095)?;
            Ok(())
        })();
        let needed = memory.log.borrow().len();
        let gone = Err(WriteError::Ring(RingError::Gone));
        // A fence cannot fail, but what follows it does.
        assert_eq!(result, if lives < needed { gone } else { Ok(()) });
    }
}
