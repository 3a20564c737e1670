//! Guest to host: what is read, what is refused, when the guest is signalled.

use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;

use zerocopy::IntoBytes;

use super::fake::{Access, Fake, set_word};
use crate::gpa::GpaRun;
use crate::protocol::{PacketDescriptor, PacketType, PageRangeHeader};
use crate::ring::*;

const IN_BAND: PacketType = PacketType::DATA_IN_BAND;

fn descriptor(data_offset8: u16, length8: u16) -> PacketDescriptor {
    PacketDescriptor {
        packet_type: IN_BAND,
        data_offset8,
        length8,
        flags: 0,
        transaction_id: 0,
    }
}

/// What the first packet of a ring turns out to be.
fn first_error(memory: &Fake) -> RingError {
    let mut ring = IncomingRing::new(memory.clone()).unwrap();
    let error = ring.read_packet().map(|packet| packet.is_some());
    let error = error.unwrap_err();
    // Dead for good, whatever the guest does now.
    memory.poke(WRITE_INDEX, memory.peek(READ_INDEX));
    assert_eq!(ring.read_packet().unwrap_err(), error);
    assert_eq!(ring.finish().unwrap_err(), error);
    assert_eq!(ring.publish().unwrap_err(), error);
    assert_eq!(ring.mask().unwrap_err(), error);
    assert_eq!(ring.error(), Some(error));
    error
}

#[test]
fn a_packet_arrives_with_all_of_its_id_and_its_payload() {
    let memory = Fake::new(1);
    memory.produce(IN_BAND, 0xFFFF_FFFF_FFFF_FFFD, &[], &[7; 24]);
    let mut ring = IncomingRing::new(memory).unwrap();
    let mut packet = ring.read_packet().unwrap().unwrap();
    assert_eq!(packet.packet_type(), IN_BAND);
    assert_eq!(packet.transaction_id(), 0xFFFF_FFFF_FFFF_FFFD);
    assert!(packet.completion_requested());
    assert_eq!(packet.payload_len(), 24);
    let mut payload = [0; 32];
    assert_eq!(packet.read_payload(&mut payload).unwrap(), 24);
    assert_eq!(payload[..24], [7; 24]);
    assert!(ring.read_packet().unwrap().is_none());
}

#[test]
fn the_descriptor_is_read_once() {
    let memory = Fake::new(1);
    memory.produce(IN_BAND, 1, &[], &[0; 8]);
    let mut ring = IncomingRing::new(memory.clone()).unwrap();
    // The guest makes it long as soon as it was read.
    let reads = Cell::new(0);
    memory.before_each(move |access, bytes| {
        if matches!(access, Access::Read(..)) {
            if reads.get() == 1 {
                bytes[DATA as usize + 4] = 0xFF;
            }
            reads.set(reads.get() + 1);
        }
    });
    let mut packet = ring.read_packet().unwrap().unwrap();
    assert_eq!(packet.read_payload(&mut [0; 4096]).unwrap(), 8);
    assert_eq!(packet.payload_len(), 8);
    let log = memory.log.borrow();
    let reads = log
        .iter()
        .filter(|access| matches!(access, Access::Read(..)));
    assert_eq!(
        reads.copied().collect::<Vec<_>>(),
        [Access::Read(DATA, 16), Access::Read(DATA + 16, 8)]
    );
}

#[test]
fn a_payload_of_8_kib_is_copied_once() {
    let memory = Fake::new(4);
    memory.produce(IN_BAND, 1, &[], &vec![3; 8192]);
    let mut ring = IncomingRing::new(memory.clone()).unwrap();
    let mut payload = vec![0; 8192];
    ring.read_packet()
        .unwrap()
        .unwrap()
        .read_payload(&mut payload)
        .unwrap();
    assert_eq!(payload, vec![3; 8192]);
    assert_eq!(
        memory.log.borrow().last(),
        Some(&Access::Read(DATA + 16, 8192))
    );
}

#[test]
fn descriptors_that_lie_are_named() {
    let cases = [
        (descriptor(1, 3), RingError::DataOffset(1)),
        (descriptor(0, 3), RingError::DataOffset(0)),
        (
            descriptor(4, 3),
            RingError::Length {
                length8: 3,
                data_offset8: 4,
            },
        ),
        (
            descriptor(2, 4),
            RingError::BeyondWritten { len: 40, used: 32 },
        ),
        (
            descriptor(2, u16::MAX),
            RingError::BeyondWritten {
                len: 8 * 65535 + 8,
                used: 32,
            },
        ),
        (
            PacketDescriptor {
                packet_type: PacketType::INVALID,
                ..descriptor(2, 3)
            },
            RingError::PacketType(PacketType::INVALID),
        ),
    ];
    for (descriptor, error) in cases {
        let memory = Fake::new(1).starting_at(4072);
        memory.produce_raw(&descriptor, &[], &[0; 8]);
        assert_eq!(first_error(&memory), error);
    }
}

#[test]
fn less_than_a_packet_is_no_packet() {
    let memory = Fake::new(1);
    memory.poke(WRITE_INDEX, 16);
    assert_eq!(first_error(&memory), RingError::NoPacket { used: 16 });
}

#[test]
fn indices_that_cannot_be_are_named() {
    for (value, error) in [
        (
            4096,
            RingError::IndexOutOfRange {
                index: Index::Write,
                value: 4096,
            },
        ),
        (
            u32::MAX,
            RingError::IndexOutOfRange {
                index: Index::Write,
                value: u32::MAX,
            },
        ),
        (
            28,
            RingError::IndexUnaligned {
                index: Index::Write,
                value: 28,
            },
        ),
    ] {
        let memory = Fake::new(1);
        let mut ring = IncomingRing::new(memory.clone()).unwrap();
        memory.poke(WRITE_INDEX, value);
        assert_eq!(ring.read_packet().unwrap_err(), error);
        // Also when the channel is opened with it.
        assert_eq!(IncomingRing::new(memory).unwrap_err(), error);
    }
}

#[test]
fn a_write_index_does_not_move_backwards() {
    let memory = Fake::new(1);
    memory.produce(IN_BAND, 1, &[], &[0; 8]);
    memory.produce(IN_BAND, 2, &[], &[0; 8]);
    let mut ring = IncomingRing::new(memory.clone()).unwrap();
    ring.read_packet().unwrap().unwrap();
    ring.read_packet().unwrap().unwrap();
    // Back over what was read but not given back, which a look from the read index alone would take for a full ring.
    memory.poke(WRITE_INDEX, 32);
    let error = RingError::WriteIndexBackwards { from: 64, to: 32 };
    assert_eq!(ring.read_packet().unwrap_err(), error);
}

#[test]
fn a_read_index_that_the_guest_changes_means_nothing() {
    let memory = Fake::new(1);
    memory.produce(IN_BAND, 1, &[], &[0; 8]);
    let mut ring = IncomingRing::new(memory.clone()).unwrap();
    memory.poke(READ_INDEX, 0xFFFF_FFFF);
    assert!(ring.read_packet().unwrap().is_some());
    assert!(!ring.finish().unwrap().more);
    assert_eq!(memory.peek(READ_INDEX), 32);
}

#[test]
fn a_packet_may_wrap_at_every_unit() {
    let ranges = [range(8192, 0), 5, 6];
    for start in (3800..4096).step_by(8) {
        let memory = Fake::new(1).starting_at(start);
        let header: Vec<u64> = [1 << 32].into_iter().chain(ranges).collect();
        let payload: Vec<u8> = (0..64).collect();
        memory.produce(
            PacketType::DATA_USING_GPA_DIRECT,
            9,
            header.as_bytes(),
            &payload,
        );
        let mut ring = IncomingRing::new(memory.clone()).unwrap();
        let mut packet = ring.read_packet().unwrap().unwrap();
        let mut list = GpaList::new();
        packet.read_gpa_direct(&mut list).unwrap();
        assert_eq!(
            runs(&list),
            [GpaRun {
                gpa: 5 << 12,
                len: 8192
            }]
        );
        let mut copy = [0; 64];
        packet.read_payload(&mut copy).unwrap();
        assert_eq!(copy[..], payload);
        assert!(!ring.finish().unwrap().more);
        assert_eq!(memory.peek(READ_INDEX), (start + 16 + 32 + 64 + 8) % 4096);
    }
}

/// A range's header as it lies in the packet.
fn range(byte_count: u32, byte_offset: u32) -> u64 {
    let header = PageRangeHeader {
        byte_count,
        byte_offset,
    };
    zerocopy::transmute!(header)
}

fn runs(list: &GpaList) -> Vec<GpaRun> {
    list.buffer().pieces().map(|piece| piece.run).collect()
}

/// Decodes GPA direct ranges: their number, and what follows.
fn gpa_direct(count: u32, words: &[u64]) -> Result<(u64, Vec<GpaRun>), RingError> {
    let memory = Fake::new(8);
    let header: Vec<u64> = [u64::from(count) << 32]
        .into_iter()
        .chain(words.iter().copied())
        .collect();
    memory.produce(
        PacketType::DATA_USING_GPA_DIRECT,
        1,
        header.as_bytes(),
        &[0; 8],
    );
    let mut ring = IncomingRing::new(memory).unwrap();
    let mut list = GpaList::new();
    let result = ring
        .read_packet()
        .unwrap()
        .unwrap()
        .read_gpa_direct(&mut list);
    assert_eq!(ring.error(), result.err());
    result.map(|()| (list.buffer().len(), runs(&list)))
}

#[test]
fn gpa_ranges_become_runs_in_order() {
    // The last 0x100 bytes of a page, the next one, then 0x10 bytes of one elsewhere; and a range that follows.
    let words = [
        range(0x1110, 0xF00),
        7,
        8,
        3,
        range(0x20, 0x10),
        3,
        range(0, 0),
    ];
    let (len, runs) = gpa_direct(3, &words).unwrap();
    assert_eq!(len, 0x1130);
    let run = |gpa, len| GpaRun { gpa, len };
    assert_eq!(runs, [run(0x7F00, 0x1100), run(0x3000, 0x30)]);
}

#[test]
fn many_pages_are_read_in_batches() {
    let pfns: Vec<u64> = (0..100).map(|page| page * 2).collect();
    let words: Vec<u64> = [range(100 * 4096, 0)].into_iter().chain(pfns).collect();
    let (len, runs) = gpa_direct(1, &words).unwrap();
    assert_eq!((len, runs.len()), (100 * 4096, 100));
    assert_eq!(runs[99].gpa, 198 << 12);
}

#[test]
fn gpa_ranges_that_lie_are_named() {
    assert_eq!(gpa_direct(1, &[]), Err(RingError::RangesTruncated));
    assert_eq!(
        gpa_direct(1, &[range(8192, 0), 1]),
        Err(RingError::RangesTruncated)
    );
    assert_eq!(
        gpa_direct(2, &[range(4096, 0), 1]),
        Err(RingError::RangesTruncated)
    );
    assert_eq!(gpa_direct(65, &[]), Err(RingError::TooManyRanges(65)));
    assert_eq!(
        gpa_direct(1, &[range(1, 4096), 1]),
        Err(RingError::RangeOffset(4096))
    );
    assert_eq!(
        gpa_direct(1, &[range(u32::MAX, 4095), 1]),
        Err(RingError::TooManyPages)
    );
    assert_eq!(
        gpa_direct(1, &[range(1, 0), 1 << 40]),
        Err(RingError::PageNumber(1 << 40))
    );
    let full: Vec<u64> = [range(1024 * 4096, 0)].into_iter().chain(0..1024).collect();
    assert_eq!(gpa_direct(1, &full).unwrap().0, 1024 * 4096);
    let more: Vec<u64> = full.into_iter().chain([range(1, 0), 1]).collect();
    assert_eq!(gpa_direct(2, &more), Err(RingError::TooManyPages));
}

#[test]
fn another_type_of_packet_has_no_ranges() {
    let memory = Fake::new(1);
    memory.produce(IN_BAND, 1, &[0xFF; 32], &[0; 8]);
    let mut ring = IncomingRing::new(memory).unwrap();
    let mut list = GpaList::new();
    ring.read_packet()
        .unwrap()
        .unwrap()
        .read_gpa_direct(&mut list)
        .unwrap();
    assert!(list.buffer().is_empty());
}

#[test]
fn a_full_ring_is_read_to_its_end() {
    let memory = Fake::new(1).starting_at(1000);
    for id in 0..127 {
        memory.produce(IN_BAND, id, &[], &[0; 8]);
    }
    let mut ring = IncomingRing::new(memory).unwrap();
    for id in 0..127 {
        assert_eq!(ring.read_packet().unwrap().unwrap().transaction_id(), id);
    }
    assert!(ring.read_packet().unwrap().is_none());
}

#[test]
fn what_comes_while_the_mask_is_lifted_is_not_missed() {
    let memory = Fake::new(1);
    let mut ring = IncomingRing::new(memory.clone()).unwrap();
    ring.mask().unwrap();
    assert_eq!(memory.peek(INTERRUPT_MASK), 1);
    // The guest writes when the ring was found empty and the mask is still set, so it does not signal.
    let guest = memory.clone();
    let mut done = false;
    memory.before_each(move |access, bytes| {
        if access == Access::Store(INTERRUPT_MASK, 0) && !done {
            done = true;
            let packet = descriptor(2, 3);
            bytes[DATA as usize..][..16].copy_from_slice(packet.as_bytes());
            set_word(bytes, WRITE_INDEX, 32);
        }
    });
    assert!(ring.read_packet().unwrap().is_none());
    assert!(ring.finish().unwrap().more);
    assert_eq!(guest.peek(INTERRUPT_MASK), 1, "masked while there is more");
    assert!(ring.read_packet().unwrap().is_some());
    assert!(!ring.finish().unwrap().more);
    assert_eq!(guest.peek(INTERRUPT_MASK), 0);
}

#[test]
fn the_guest_is_signalled_when_the_room_it_waits_for_appears_and_only_then() {
    let memory = Fake::new(1);
    for id in 0..127 {
        memory.produce(IN_BAND, id, &[], &[0; 8]);
    }
    // 4064 of 4096 bytes are used. It waits for more than 96.
    memory.poke(PENDING_SEND_SIZE, 96);
    let mut ring = IncomingRing::new(memory.clone()).unwrap();
    let mut signals = Vec::new();
    for _ in 0..6 {
        ring.read_packet().unwrap().unwrap();
        signals.push(ring.publish().unwrap() == Signal::Needed);
    }
    // Free: 64, 96, 128, 160 ...
    assert_eq!(signals, [false, false, true, false, false, false]);
    memory.poke(PENDING_SEND_SIZE, 0);
    ring.read_packet().unwrap().unwrap();
    assert_eq!(ring.finish().unwrap().signal, Signal::NotNeeded);
}

#[test]
fn a_guest_without_flow_control_is_not_signalled_for_room() {
    let memory = Fake::new(1);
    memory.poke(FEATURE_BITS, 0);
    memory.produce(IN_BAND, 1, &[], &[0; 4000]);
    memory.poke(PENDING_SEND_SIZE, 100);
    let mut ring = IncomingRing::new(memory).unwrap();
    ring.read_packet().unwrap().unwrap();
    assert_eq!(ring.finish().unwrap().signal, Signal::NotNeeded);
}

#[test]
fn memory_that_goes_away_ends_the_ring_wherever_it_happens() {
    for lives in 0..20 {
        let memory = Fake::new(1).starting_at(4080);
        let header = [1 << 32, range(4096, 0), 5];
        memory.produce(
            PacketType::DATA_USING_GPA_DIRECT,
            1,
            header.as_bytes(),
            &[0; 8],
        );
        memory.lives.set(lives);
        let result = (|| {
            let mut ring = IncomingRing::new(memory.clone())?;
            ring.mask()?;
            let mut packet = ring.read_packet()?.unwrap();
            packet.read_payload(&mut [0; 8])?;
            packet.read_gpa_direct(&mut GpaList::new())?;
            let finish = ring.finish()?;
            assert!(!finish.more);
            Ok(())
        })();
        let needed = memory.log.borrow().len();
        assert_eq!(
            result,
            if lives < needed {
                Err(RingError::Gone)
            } else {
                Ok(())
            }
        );
    }
}

#[test]
fn sizes_that_are_no_ring_are_refused() {
    assert_eq!(
        IncomingRing::new(Fake::new(0)).unwrap_err(),
        RingError::Size(4096)
    );
    assert_eq!(
        OutgoingRing::new(Fake::new(0), 4096).unwrap_err(),
        RingError::Size(4096)
    );
}
