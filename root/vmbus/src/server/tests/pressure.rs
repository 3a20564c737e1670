//! A guest that asks and does not listen.

use super::guest::Guest;
use crate::protocol::*;
use crate::server::*;

const RELID: Relid = Relid(1);

#[test]
fn a_guest_that_does_not_take_its_answers_has_to_post_again() {
    let mut guest = Guest::with_offers(1);
    let teardown = Guest::teardown_message(RELID, GpadlHandle(1));
    for _ in 0..MAX_MESSAGES {
        guest.taken(&teardown);
    }
    for _ in 0..10 {
        assert_eq!(guest.post(&teardown), Received::Busy);
        assert_eq!(guest.post(&RequestOffers::empty()), Received::Busy);
    }
    guest.torn_down(GpadlHandle(1));
    guest.taken(&teardown);
    assert_eq!(guest.post(&teardown), Received::Busy);
    for _ in 0..MAX_MESSAGES {
        guest.torn_down(GpadlHandle(1));
    }
    guest.silence();
}

#[test]
fn answers_that_come_later_have_their_place_from_the_beginning() {
    let mut guest = Guest::with_offers(1);
    let ring = guest.gpadl(RELID, 0x400, 8);
    guest.taken(&Guest::open_message(RELID, ring));
    let teardown = Guest::teardown_message(RELID, GpadlHandle(1));
    for _ in 1..MAX_MESSAGES {
        guest.taken(&teardown);
    }
    assert_eq!(guest.post(&teardown), Received::Busy);
    assert_eq!(guest.server.outbox.places(), (MAX_MESSAGES - 1, 1));
    guest.serve();
    assert_eq!(guest.server.outbox.places(), (MAX_MESSAGES, 0));
}

#[test]
fn offers_and_rescinds_wait_for_room_and_keep_their_order() {
    let mut guest = Guest::new(200);
    guest.connect(Version::V5_3);
    guest.taken(&RequestOffers::empty());
    for relid in 1..=100 {
        assert_eq!(guest.next::<OfferChannel>().relid, Relid(relid));
        let (messages, promised) = guest.server.outbox.places();
        assert!(messages + promised <= MAX_MESSAGES);
    }
    // One that the guest knows, one whose offer is in the queue, and one that it has not heard of.
    let in_queue = 100 + guest.server.outbox.places().0 as u32;
    guest.server.rescind(RELID).unwrap();
    guest.server.rescind(Relid(in_queue)).unwrap();
    guest.server.rescind(Relid(199)).unwrap();
    let (mut offers, mut rescinds) = (100, alloc::vec::Vec::new());
    loop {
        match guest.server.message().unwrap().payload[0] {
            1 => {
                offers += 1;
                assert_ne!(guest.next::<OfferChannel>().relid, Relid(199));
            }
            2 => rescinds.push((offers, guest.next::<RescindChannelOffer>().relid)),
            _ => break,
        }
    }
    assert_eq!(offers, 199);
    let relids: alloc::vec::Vec<_> = rescinds.iter().map(|(_, relid)| *relid).collect();
    assert_eq!(relids, [RELID, Relid(in_queue)]);
    assert!(rescinds[1].0 >= in_queue, "behind its offer");
    guest.next::<AllOffersDelivered>();
}

#[test]
fn unload_and_contact_are_always_taken() {
    let mut guest = Guest::with_offers(1);
    let teardown = Guest::teardown_message(RELID, GpadlHandle(1));
    while guest.post(&teardown) == Received::Taken {}
    guest.taken(&Unload::empty());
    guest.next::<UnloadResponse>();
    guest.effects();
    guest.silence();
    guest.connect(Version::V5_3);
    guest.serve();
    while guest.post(&teardown) == Received::Taken {}
    guest.connect(Version::V5_3);
}

#[test]
fn a_caller_that_does_not_take_effects_gets_no_more_messages() {
    let mut guest = Guest::with_offers(1);
    guest.open(RELID);
    let modify = ModifyChannel {
        relid: RELID,
        ..ModifyChannel::empty()
    };
    for _ in 0..MAX_WAITING_EFFECTS {
        guest.taken(&modify);
        guest.next::<ModifyChannelResponse>();
    }
    assert_eq!(guest.post(&modify), Received::Busy);
    assert_eq!(guest.post(&guest.contact(Version::V5_3)), Received::Busy);
    assert_eq!(guest.effects().len(), MAX_WAITING_EFFECTS);
    guest.taken(&modify);
}

#[test]
fn a_message_that_was_taken_back_by_a_reconnect_is_not_counted_as_posted() {
    let mut guest = Guest::with_offers(1);
    guest.taken(&Guest::teardown_message(RELID, GpadlHandle(1)));
    let sequence = guest.server.message().unwrap().sequence;
    guest.taken(&Unload::empty());
    guest.server.posted(sequence);
    guest.next::<UnloadResponse>();
}
