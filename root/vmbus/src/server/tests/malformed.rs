//! Messages that are wrong in themselves.

use alloc::vec;
use alloc::vec::Vec;

use tlfs::HvVpIndex;
use zerocopy::IntoBytes;

use super::guest::Guest;
use crate::protocol::*;
use crate::server::*;

const RELID: Relid = Relid(1);

/// A proper message of each type that a guest sends and that has fields.
pub fn messages(guest: &Guest) -> Vec<Vec<u8>> {
    vec![
        Guest::open_message(RELID, GpadlHandle(5))
            .as_bytes()
            .to_vec(),
        Guest::close_message(RELID).as_bytes().to_vec(),
        GpadlHeader::empty().as_bytes().to_vec(),
        GpadlBody::empty().as_bytes().to_vec(),
        Guest::teardown_message(RELID, GpadlHandle(5))
            .as_bytes()
            .to_vec(),
        RelidReleased::empty().as_bytes().to_vec(),
        guest.contact(Version::V5_3).as_bytes().to_vec(),
        TlConnectRequest::empty().as_bytes().to_vec(),
        ModifyChannel::empty().as_bytes().to_vec(),
    ]
}

#[test]
fn a_message_that_is_too_short_changes_nothing() {
    let mut guest = Guest::with_offers(1);
    for message in messages(&guest) {
        for len in 0..message.len() {
            let received = guest.post_bytes(&message[..len]);
            assert_eq!(received, Received::Dropped(DropReason::TooShort));
            guest.silence();
        }
    }
    guest.open(RELID);
}

#[test]
fn a_message_that_is_longer_than_its_type_is_fine() {
    let mut guest = Guest::with_offers(1);
    let ring = guest.gpadl(RELID, 0x400, 8);
    let mut longest = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes.resize(MAX_MESSAGE_SIZE, 0xFF);
        assert_eq!(guest.post_bytes(&bytes), Received::Taken);
        guest.serve().len()
    };
    assert_eq!(longest(Guest::open_message(RELID, ring).as_bytes()), 1);
    assert_eq!(longest(Guest::close_message(RELID).as_bytes()), 1);
    assert_eq!(longest(Guest::teardown_message(RELID, ring).as_bytes()), 1);
    assert_eq!(longest(Unload::empty().as_bytes()), 1);
}

#[test]
fn types_that_a_guest_does_not_send_are_dropped() {
    let mut guest = Guest::with_offers(1);
    for message_type in [
        0,
        1,
        2,
        4,
        6,
        10,
        12,
        15,
        17,
        18,
        19,
        20,
        23,
        24,
        25,
        100,
        u32::MAX,
    ] {
        let header = ChannelMessageHeader::new(ChannelMessageType(message_type));
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(MAX_MESSAGE_SIZE, 1);
        let received = guest.post_bytes(&bytes);
        assert_eq!(received, Received::Dropped(DropReason::UnknownType));
        guest.silence();
    }
    assert_eq!(guest.server.drops().total(), 17);
}

#[test]
fn nothing_but_a_contact_is_listened_to_without_a_connection() {
    let mut guest = Guest::new(1);
    for message in messages(&guest).into_iter().chain([
        Unload::empty().as_bytes().to_vec(),
        RequestOffers::empty().as_bytes().to_vec(),
    ]) {
        if message[0] == 14 {
            continue;
        }
        let received = guest.post_bytes(&message);
        assert_eq!(received, Received::Dropped(DropReason::NotConnected));
        guest.silence();
    }
}

#[test]
fn channels_that_do_not_exist_are_named_in_vain() {
    let mut guest = Guest::with_offers(1);
    for relid in [0, 2, 2047, 2048, 0x1_0001, u32::MAX].map(Relid) {
        let unknown = DropReason::UnknownChannel;
        guest.dropped(&Guest::open_message(relid, GpadlHandle(1)), unknown);
        guest.dropped(&Guest::close_message(relid), unknown);
        let header = GpadlHeader {
            relid,
            ..GpadlHeader::empty()
        };
        guest.dropped(&header, unknown);
        let modify = ModifyChannel {
            relid,
            target_vp: HvVpIndex(0),
            ..ModifyChannel::empty()
        };
        guest.dropped(&modify, unknown);
        let released = RelidReleased {
            relid,
            ..RelidReleased::empty()
        };
        guest.dropped(&released, unknown);
    }
}
