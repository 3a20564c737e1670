//! GPADLs of channels, and their end.

use alloc::vec::Vec;

use super::guest::Guest;
use crate::protocol::*;
use crate::server::*;

const RELID: Relid = Relid(1);

#[test]
fn a_large_buffer_arrives_in_147_messages_with_one_answer() {
    let mut guest = Guest::with_offers(1);
    let handle = guest.gpadl(RELID, 0x1000, 4096);
    guest.silence();
    let gpadl = guest.server.gpadl(RELID, handle).unwrap();
    assert_eq!(gpadl.range(0).unwrap().len(), 16 << 20);
    assert!(guest.server.gpadl(Relid(2), handle).is_none());
}

#[test]
fn a_teardown_is_answered_when_nothing_uses_the_pages_any_more() {
    let mut guest = Guest::with_offers(1);
    let ring = guest.open(RELID);
    let buffer = guest.gpadl(RELID, 0x400, 20);
    let relid = RELID;
    // A buffer of an open channel.
    guest.taken(&Guest::teardown_message(RELID, buffer));
    let handle = buffer;
    guest.effect(&Effect::ReleaseGpadl { relid, handle });
    assert!(
        guest.server.gpadl(RELID, buffer).is_none(),
        "not for new uses"
    );
    guest.silence();
    guest.server.gpadl_released(buffer).unwrap();
    guest.torn_down(buffer);
    // The rings, before the device has stopped.
    guest.taken(&Guest::close_message(RELID));
    guest.taken(&Guest::teardown_message(RELID, ring));
    guest.effect(&Effect::CloseChannel { relid });
    guest.silence();
    guest.server.closed(RELID).unwrap();
    let handle = ring;
    guest.effect(&Effect::ReleaseGpadl { relid, handle });
    guest.silence();
    guest.server.gpadl_released(ring).unwrap();
    guest.torn_down(ring);
    guest.silence();
}

#[test]
fn rings_that_are_torn_down_close_their_channel() {
    let mut guest = Guest::with_offers(1);
    let handle = guest.open(RELID);
    guest.taken(&Guest::teardown_message(RELID, handle));
    let relid = RELID;
    assert_eq!(
        guest.serve(),
        [
            Effect::CloseChannel { relid },
            Effect::ReleaseGpadl { relid, handle }
        ]
    );
    guest.torn_down(handle);
    assert!(!guest.server.is_open(RELID));
}

#[test]
fn every_teardown_is_answered_whatever_it_names() {
    let mut guest = Guest::with_offers(2);
    let handle = guest.gpadl(RELID, 0x400, 2);
    let unknown = GpadlHandle(1);
    guest.taken(&Guest::teardown_message(RELID, unknown));
    guest.torn_down(unknown);
    guest.taken(&Guest::teardown_message(Relid(77), unknown));
    guest.torn_down(unknown);
    // Twice before it is done, and through another channel's relid.
    guest.taken(&Guest::teardown_message(RELID, handle));
    guest.taken(&Guest::teardown_message(Relid(2), handle));
    assert_eq!(guest.serve().len(), 1);
    guest.torn_down(handle);
    guest.torn_down(handle);
    // One whose bodies are missing.
    let header = GpadlHeader {
        relid: RELID,
        handle,
        range_buflen: 24,
        range_count: 1,
        ..GpadlHeader::empty()
    };
    guest.taken(&header);
    guest.taken(&Guest::teardown_message(RELID, handle));
    guest.torn_down(handle);
    guest.silence();
    guest.taken(&header);
}

#[test]
fn a_refused_gpadl_is_answered_once_and_its_bodies_are_ignored() {
    let mut guest = Guest::with_offers(1);
    let header = GpadlHeader {
        relid: RELID,
        handle: GpadlHandle(5),
        range_buflen: 8 + 8 * 8190,
        range_count: 0,
        ..GpadlHeader::empty()
    };
    guest.taken(&header);
    let created: GpadlCreated = guest.next();
    assert_eq!((created.relid, created.handle), (RELID, GpadlHandle(5)));
    assert_eq!(created.status, Status::INVALID_PARAMETER);
    let body = GpadlBody {
        handle: GpadlHandle(5),
        ..GpadlBody::empty()
    };
    guest.dropped(&body, DropReason::UnexpectedBody);
}

#[test]
fn pages_that_are_no_ram_or_twice_there_are_refused() {
    let mut guest = Guest::with_offers(1);
    let mut refused = |pfns: &[u64]| {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&(pfns.len() as u32 * 4096).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend(pfns.iter().flat_map(|pfn| pfn.to_le_bytes()));
        guest.post_range_buffer(RELID, GpadlHandle(7), 1, &bytes);
        guest.next::<GpadlCreated>().status
    };
    assert_eq!(refused(&[0x9F, 0xA0]), Status::INVALID_PARAMETER);
    assert_eq!(refused(&[0xFFFF, 0x1_0000]), Status::INVALID_PARAMETER);
    assert_eq!(refused(&[u64::MAX]), Status::INVALID_PARAMETER);
    assert_eq!(refused(&[3, 3]), Status::INVALID_PARAMETER);
    let mut pages: Vec<u64> = (0x1000..0x1040).collect();
    pages[60] = 0xFE0_0000;
    assert_eq!(refused(&pages), Status::INVALID_PARAMETER);
    assert_eq!(refused(&pages[..60]), Status::SUCCESS);
    assert_eq!(refused(&pages[..20]), Status::INVALID_PARAMETER, "in use");
}

#[test]
fn a_channel_that_has_too_much_is_told_so() {
    let mut guest = Guest::with_offers(1);
    for _ in 0..crate::gpadl::MAX_GPADLS_PER_CHANNEL {
        guest.gpadl(RELID, 0x400, 2);
    }
    guest.post_gpadl(RELID, 0x400, 2);
    let status = guest.next::<GpadlCreated>().status;
    assert_eq!(status, Status::INSUFFICIENT_RESOURCES);
}
