//! Connecting, disconnecting, and doing it again.

use tlfs::{HvConnectionId, HvVpIndex};
use zerocopy::IntoBytes;

use super::guest::Guest;
use crate::protocol::*;
use crate::server::*;

#[test]
fn linux_steps_down_from_6_0_to_5_3() {
    let mut guest = Guest::new(3);
    let response = guest.try_version(Version::new(6, 0));
    assert_eq!(response.version_supported, 0);
    guest.connect(Version::V5_3);
    assert_eq!(guest.connection, MESSAGE_CONNECTION_5);
    assert_eq!(guest.request_offers(), [Relid(1), Relid(2), Relid(3)]);
}

#[test]
fn every_version_that_is_supported_goes_all_the_way() {
    for version in Version::SUPPORTED {
        let mut guest = Guest::new(2);
        guest.connect(version);
        assert_eq!(guest.server.version(), Some(version));
        guest.request_offers();
        let ring = guest.open(Relid(2));
        guest.close(Relid(2), ring);
        guest.taken(&Unload::empty());
        guest.next::<UnloadResponse>();
        assert_eq!(guest.server.version(), None);
    }
}

#[test]
fn old_and_new_versions_are_refused_with_16_bytes() {
    for (major, minor) in [
        (0, 13),
        (1, 1),
        (2, 4),
        (3, 1),
        (5, 4),
        (6, 0),
        (7, 0),
        (u16::MAX, 0),
    ] {
        let mut guest = Guest::new(0);
        // The size is compared by next().
        let response = guest.try_version(Version::new(major, minor));
        assert_eq!(response.version_supported, 0);
        assert_eq!(guest.server.version(), None);
        guest.dropped(&RequestOffers::empty(), DropReason::NotConnected);
    }
}

#[test]
fn a_contact_on_the_other_connection_is_refused() {
    for (version, connection) in [(Version::V5_3, 1), (Version::V4_1, 4), (Version::V5_0, 0)] {
        let mut guest = Guest::new(0);
        guest.connection = HvConnectionId(connection);
        let contact = guest.contact(version);
        guest.taken(&contact);
        assert_eq!(guest.next::<VersionResponse>().version_supported, 0);
    }
}

#[test]
fn messages_have_to_come_through_the_connection_of_the_version() {
    let mut guest = Guest::new(1);
    guest.connect(Version::V4_1);
    guest.connection = MESSAGE_CONNECTION_5;
    guest.dropped(&RequestOffers::empty(), DropReason::WrongConnection);
    guest.connection = MESSAGE_CONNECTION;
    guest.request_offers();
}

#[test]
fn answers_go_to_the_vp_and_sint_of_the_contact() {
    let mut guest = Guest::new(1);
    guest.vp = HvVpIndex(3);
    guest.sint = 7;
    guest.connect(Version::V5_2);
    guest.request_offers();
    // A version that has no SINT in it.
    guest.sint = 2;
    guest.connect(Version::V3_0);
    guest.request_offers();
}

#[test]
fn a_sint_or_trust_level_that_does_not_exist_is_refused_through_sint_2() {
    for (sint, vtl) in [(0, 0), (16, 0), (255, 0), (2, 1)] {
        let mut guest = Guest::new(0);
        let contact = InitiateContact {
            msg_sint: sint,
            msg_vtl: vtl,
            ..guest.contact(Version::V5_3)
        };
        guest.taken(&contact);
        assert_eq!(guest.next::<VersionResponse>().version_supported, 0);
    }
}

#[test]
fn a_contact_for_a_vp_that_does_not_exist_changes_nothing() {
    let mut guest = Guest::with_offers(1);
    guest.open(Relid(1));
    for vp in [4, u32::MAX] {
        let contact = InitiateContact {
            target_vp: HvVpIndex(vp),
            ..guest.contact(Version::V5_3)
        };
        guest.dropped(&contact, DropReason::UnknownVp);
    }
    assert!(guest.server.is_open(Relid(1)));
}

#[test]
fn a_longer_contact_is_fine() {
    let mut guest = Guest::new(0);
    let mut bytes = guest.contact(Version::V5_3).as_bytes().to_vec();
    bytes.extend_from_slice(&[0xAB; 16]);
    assert_eq!(guest.post_bytes(&bytes), Received::Taken);
    assert_eq!(guest.next::<VersionResponse>().version_supported, 1);
}

#[test]
fn offers_wait_until_they_are_asked_for_and_later_ones_come_alone() {
    let mut guest = Guest::new(1);
    guest.connect(Version::V5_3);
    assert_eq!(guest.server.message(), None);
    guest.request_offers();
    let relid = guest.server.add_offer(super::guest::offer(77)).unwrap();
    assert_eq!(guest.next::<OfferChannel>().relid, relid);
    guest.silence();
    // After a resume: everything again.
    assert_eq!(guest.request_offers(), [Relid(1), relid]);
}

#[test]
fn an_offer_is_as_linux_wants_it() {
    let mut guest = Guest::new(0);
    let offer = Offer::new(interface::SHUTDOWN, interface::SHUTDOWN_INSTANCE).message_pipe();
    let relid = guest.server.add_offer(offer).unwrap();
    guest.connect(Version::V5_3);
    guest.taken(&RequestOffers::empty());
    let offer: OfferChannel = guest.next();
    assert_eq!(offer.interface, interface::SHUTDOWN);
    assert_eq!(offer.instance, interface::SHUTDOWN_INSTANCE);
    assert_eq!(offer.monitor_allocated, 0);
    assert_eq!(offer.is_dedicated_interrupt, 1);
    assert_eq!(offer.connection_id, relid.event_connection());
    assert_eq!(offer.flags, ChannelFlags::NAMED_PIPE);
    assert_eq!(offer.user_defined[..5], [4, 0, 0, 0, 0]);
}

#[test]
fn unload_closes_everything_and_only_then_is_answered() {
    let mut guest = Guest::with_offers(3);
    let ring = guest.open(Relid(1));
    let other = guest.gpadl(Relid(2), 0x1000, 60);
    guest.post_gpadl(Relid(3), 0x2000, 2);
    guest.taken(&Unload::empty());
    let relid = Relid(1);
    let release = |relid, handle| Effect::ReleaseGpadl { relid, handle };
    let unanswered = GpadlHandle(other.0 + 1);
    assert_eq!(
        guest.effects(),
        [
            Effect::CloseChannel { relid },
            release(Relid(2), other),
            release(Relid(3), unanswered),
            Effect::Disconnected
        ]
    );
    // The answer to the last GPADL is void.
    guest.silence();
    guest.server.gpadl_released(other).unwrap();
    guest.server.gpadl_released(unanswered).unwrap();
    assert!(
        guest.server.gpadl_released(ring).is_err(),
        "not before it is closed"
    );
    guest.silence();
    guest.server.closed(relid).unwrap();
    guest.effect(&release(relid, ring));
    guest.silence();
    guest.server.gpadl_released(ring).unwrap();
    guest.next::<UnloadResponse>();
    guest.silence();
    guest.dropped(&RequestOffers::empty(), DropReason::NotConnected);
    // And from the beginning, on another VP.
    guest.vp = HvVpIndex(3);
    guest.connect(Version::V5_3);
    assert_eq!(guest.request_offers().len(), 3);
    guest.open(relid);
}

#[test]
fn a_kernel_that_starts_without_unload_finds_everything_closed() {
    let mut guest = Guest::with_offers(2);
    let ring = guest.open(Relid(1));
    // An offer is on its way to the old kernel.
    guest.server.add_offer(super::guest::offer(9)).unwrap();
    assert!(guest.server.message().is_some());
    guest.vp = HvVpIndex(0);
    let contact = guest.contact(Version::new(6, 0));
    guest.taken(&contact);
    guest.serve();
    assert!(!guest.server.is_open(Relid(1)));
    assert!(guest.server.gpadl(Relid(1), ring).is_none());
    // The first that the new kernel hears is the answer to its own contact.
    assert_eq!(guest.next::<VersionResponse>().version_supported, 0);
    guest.connect(Version::V5_3);
    guest.silence();
    assert_eq!(guest.request_offers().len(), 3);
    // Handles start over, too.
    guest.open(Relid(1));
}

#[test]
fn a_contact_waits_for_devices_and_the_last_one_counts() {
    let mut guest = Guest::with_offers(1);
    let ring = guest.open(Relid(1));
    for version in [Version::new(6, 0), Version::V5_3] {
        let contact = guest.contact(version);
        guest.taken(&contact);
        assert_eq!(guest.server.message(), None);
        guest.dropped_while_ending();
    }
    let relid = Relid(1);
    assert_eq!(
        guest.effects(),
        [Effect::CloseChannel { relid }, Effect::Disconnected]
    );
    guest.server.closed(relid).unwrap();
    guest.effect(&Effect::ReleaseGpadl {
        relid,
        handle: ring,
    });
    guest.server.gpadl_released(ring).unwrap();
    assert_eq!(guest.next::<VersionResponse>().version_supported, 1);
    let version = Version::V5_3;
    guest.effect(&Effect::Connected { version });
    guest.silence();
}

impl Guest {
    fn dropped_while_ending(&mut self) {
        let received = self.post(&RequestOffers::empty());
        assert_eq!(received, Received::Dropped(DropReason::NotConnected));
    }
}
