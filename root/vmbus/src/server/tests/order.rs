//! Messages that are right in themselves and come at the wrong time.

use alloc::vec::Vec;

use tlfs::HvVpIndex;
use zerocopy::IntoBytes;

use super::guest::Guest;
use super::malformed::messages;
use crate::protocol::*;
use crate::server::*;

const RELID: Relid = Relid(1);
const HANDLE: GpadlHandle = GpadlHandle(77);

/// A GPADL of 40 pages: the header's message and the body's.
fn gpadl_in_two() -> (Vec<u8>, Vec<u8>) {
    let header = GpadlHeader {
        relid: RELID,
        handle: HANDLE,
        range_buflen: 8 + 40 * 8,
        range_count: 1,
        ..GpadlHeader::empty()
    };
    let body = GpadlBody {
        handle: HANDLE,
        ..GpadlBody::empty()
    };
    let range = PageRangeHeader {
        byte_count: 40 * 4096,
        byte_offset: 0,
    };
    let pfns: Vec<u64> = (0x400..0x400 + 40).collect();
    (
        [header.as_bytes(), range.as_bytes(), pfns[..26].as_bytes()].concat(),
        [body.as_bytes(), pfns[26..].as_bytes()].concat(),
    )
}

#[test]
fn while_a_connection_ends_nothing_but_a_contact_is_heard() {
    let mut guest = Guest::with_offers(1);
    guest.open(RELID);
    guest.taken(&Unload::empty());
    // The device has not stopped yet.
    assert!(!guest.effects().is_empty());
    let all = messages(&guest).into_iter().chain([
        Unload::empty().as_bytes().to_vec(),
        RequestOffers::empty().as_bytes().to_vec(),
    ]);
    for message in all.filter(|message| message[0] != 14) {
        let received = guest.post_bytes(&message);
        assert_eq!(received, Received::Dropped(DropReason::NotConnected));
        guest.silence();
    }
}

#[test]
fn a_body_before_its_header_and_one_too_many_belong_to_nothing() {
    let mut guest = Guest::with_offers(1);
    let (header, body) = gpadl_in_two();
    let unexpected = Received::Dropped(DropReason::UnexpectedBody);
    assert_eq!(guest.post_bytes(&body), unexpected);
    guest.silence();
    assert_eq!(guest.post_bytes(&header), Received::Taken);
    guest.silence();
    assert_eq!(guest.post_bytes(&body), Received::Taken);
    assert_eq!(guest.next::<GpadlCreated>().status, Status::SUCCESS);
    assert_eq!(guest.post_bytes(&body), unexpected);
    guest.silence();
}

#[test]
fn a_second_header_is_refused_and_the_first_gpadl_goes_on() {
    let mut guest = Guest::with_offers(1);
    let (header, body) = gpadl_in_two();
    assert_eq!(guest.post_bytes(&header), Received::Taken);
    assert_eq!(guest.post_bytes(&header), Received::Taken);
    assert_ne!(guest.next::<GpadlCreated>().status, Status::SUCCESS);
    assert_eq!(guest.post_bytes(&body), Received::Taken);
    assert_eq!(guest.next::<GpadlCreated>().status, Status::SUCCESS);
    guest.silence();
}

#[test]
fn a_channel_does_not_open_with_memory_that_is_incomplete_or_on_its_way_out() {
    let mut guest = Guest::with_offers(1);
    let (header, body) = gpadl_in_two();
    let refused = |guest: &mut Guest, ring| {
        guest.taken(&Guest::open_message(RELID, ring));
        let result: OpenChannelResult = guest.next();
        assert_eq!(result.status, Status::INVALID_PARAMETER);
        guest.silence();
    };
    assert_eq!(guest.post_bytes(&header), Received::Taken);
    refused(&mut guest, HANDLE);
    assert_eq!(guest.post_bytes(&body), Received::Taken);
    guest.next::<GpadlCreated>();
    guest.taken(&Guest::teardown_message(RELID, HANDLE));
    let (relid, handle) = (RELID, HANDLE);
    guest.effect(&Effect::ReleaseGpadl { relid, handle });
    refused(&mut guest, HANDLE);
    guest.server.gpadl_released(HANDLE).unwrap();
    guest.torn_down(HANDLE);
    refused(&mut guest, HANDLE);
}

#[test]
fn a_channel_that_is_opening_or_closing_is_not_opened_closed_or_moved() {
    let mut guest = Guest::with_offers(1);
    let ring = guest.gpadl(RELID, 0x200, 8);
    let open = Guest::open_message(RELID, ring);
    let close = Guest::close_message(RELID);
    let modify = ModifyChannel {
        relid: RELID,
        target_vp: HvVpIndex(1),
        ..ModifyChannel::empty()
    };
    let state = DropReason::ChannelState;
    let not_moved = |guest: &mut Guest| {
        guest.taken(&modify);
        let response: ModifyChannelResponse = guest.next();
        assert_ne!(response.status, Status::SUCCESS);
        guest.silence();
    };
    guest.taken(&open);
    assert!(matches!(guest.effects()[..], [Effect::OpenChannel(_)]));
    guest.dropped(&open, state);
    not_moved(&mut guest);
    guest.server.open_result(RELID, Ok(())).unwrap();
    guest.next::<OpenChannelResult>();
    guest.taken(&close);
    guest.effect(&Effect::CloseChannel { relid: RELID });
    guest.dropped(&close, state);
    not_moved(&mut guest);
    guest.server.closed(RELID).unwrap();
    guest.dropped(&close, state);
    not_moved(&mut guest);
}
