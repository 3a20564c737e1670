//! Taking offers back.

use super::guest::{Guest, offer};
use crate::protocol::*;
use crate::server::*;

const RELID: Relid = Relid(1);

fn released(relid: Relid) -> RelidReleased {
    RelidReleased {
        relid,
        ..RelidReleased::empty()
    }
}

#[test]
fn an_open_channel_is_closed_torn_down_and_let_go() {
    let mut guest = Guest::with_offers(2);
    let ring = guest.open(RELID);
    guest.server.rescind(RELID).unwrap();
    guest.server.rescind(RELID).unwrap();
    assert_eq!(guest.next::<RescindChannelOffer>().relid, RELID);
    guest.silence();
    guest.close(RELID, ring);
    guest.taken(&released(RELID));
    guest.effect(&Effect::ChannelRemoved { relid: RELID });
    guest.silence();
    guest.dropped(&released(RELID), DropReason::UnknownChannel);
    guest.open(Relid(2));
}

#[test]
fn a_relid_is_not_used_again_before_the_guest_has_let_it_go() {
    let mut guest = Guest::with_offers(1);
    guest.server.rescind(RELID).unwrap();
    guest.next::<RescindChannelOffer>();
    // The same device again: the guest would refuse it.
    assert_eq!(guest.server.add_offer(offer(0)), Err(OfferError::Duplicate));
    for number in 1..2047 {
        assert_ne!(guest.server.add_offer(offer(number)), Ok(RELID));
        while let Some(message) = guest.server.message() {
            let sequence = message.sequence;
            guest.server.posted(sequence);
        }
    }
    assert_eq!(
        guest.server.add_offer(offer(9999)),
        Err(OfferError::NoRelid)
    );
    guest.taken(&released(RELID));
    assert_eq!(guest.server.add_offer(offer(9999)), Ok(RELID));
}

#[test]
fn relids_rest_before_they_are_used_again() {
    let mut server = Server::new(1);
    let first = server.add_offer(offer(0)).unwrap();
    server.rescind(first).unwrap();
    assert_eq!(
        server.take_effect(),
        Some(Effect::ChannelRemoved { relid: first })
    );
    assert_ne!(server.add_offer(offer(0)).unwrap(), first);
}

#[test]
fn after_a_rescind_only_the_end_of_a_channel_is_listened_to() {
    let mut guest = Guest::with_offers(1);
    let gpadl = guest.gpadl(RELID, 0x400, 8);
    guest.server.rescind(RELID).unwrap();
    guest.dropped_release_before_the_rescind_is_sent();
    guest.next::<RescindChannelOffer>();
    guest.dropped(&Guest::open_message(RELID, gpadl), DropReason::Rescinded);
    let header = GpadlHeader {
        relid: RELID,
        handle: GpadlHandle(9),
        ..GpadlHeader::empty()
    };
    guest.dropped(&header, DropReason::Rescinded);
    guest.taken(&Guest::teardown_message(RELID, gpadl));
    guest.serve();
    guest.torn_down(gpadl);
    assert_eq!(guest.request_offers(), []);
}

impl Guest {
    fn dropped_release_before_the_rescind_is_sent(&mut self) {
        let received = self.post(&released(RELID));
        assert_eq!(received, Received::Dropped(DropReason::ChannelState));
    }
}

#[test]
fn a_guest_that_lets_go_of_an_open_channel_has_it_closed_first() {
    let mut guest = Guest::with_offers(1);
    let ring = guest.open(RELID);
    let handle = ring;
    let relid = RELID;
    guest.server.rescind(RELID).unwrap();
    guest.next::<RescindChannelOffer>();
    guest.taken(&released(RELID));
    guest.effect(&Effect::CloseChannel { relid });
    guest.silence();
    // A teardown that comes late is answered all the same.
    guest.taken(&Guest::teardown_message(RELID, ring));
    guest.silence();
    guest.server.closed(relid).unwrap();
    guest.effect(&Effect::ReleaseGpadl { relid, handle });
    guest.silence();
    guest.server.gpadl_released(handle).unwrap();
    guest.effect(&Effect::ChannelRemoved { relid });
    guest.torn_down(ring);
}

#[test]
fn a_guest_that_does_not_know_of_a_channel_is_not_told_of_its_end() {
    let mut guest = Guest::new(2);
    let relid = RELID;
    guest.server.rescind(relid).unwrap();
    guest.effect(&Effect::ChannelRemoved { relid });
    guest.connect(Version::V5_3);
    assert_eq!(guest.request_offers(), [Relid(2)]);
    // Also when the offer has not left yet.
    let relid = guest.server.add_offer(offer(5)).unwrap();
    guest.server.rescind(relid).unwrap();
    guest.effect(&Effect::ChannelRemoved { relid });
    guest.silence();
}

#[test]
fn a_guest_that_disconnects_has_let_go_of_everything() {
    let mut guest = Guest::with_offers(2);
    guest.open(RELID);
    guest.server.rescind(RELID).unwrap();
    guest.taken(&Unload::empty());
    let relid = RELID;
    assert!(guest.serve().contains(&Effect::ChannelRemoved { relid }));
    guest.next::<UnloadResponse>();
    guest.connect(Version::V5_3);
    assert_eq!(guest.request_offers(), [Relid(2)]);
}

#[test]
fn sub_channels_end_with_the_connection() {
    let mut guest = Guest::with_offers(1);
    let sub = guest.server.add_offer(offer(0).sub_channel(1)).unwrap();
    let message: OfferChannel = guest.next();
    assert_eq!((message.relid, message.sub_channel_index), (sub, 1));
    guest.open(sub);
    assert_eq!(
        guest.server.add_offer(offer(0).sub_channel(1)),
        Err(OfferError::Duplicate)
    );
    guest.taken(&Unload::empty());
    assert!(
        guest
            .serve()
            .contains(&Effect::ChannelRemoved { relid: sub })
    );
    guest.next::<UnloadResponse>();
    guest.connect(Version::V5_3);
    assert_eq!(guest.request_offers(), [RELID]);
}
