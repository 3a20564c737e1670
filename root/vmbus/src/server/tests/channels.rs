//! Open, close, open again, signals, MODIFYCHANNEL.

use tlfs::{HvConnectionId, HvVpIndex};

use super::guest::Guest;
use crate::protocol::*;
use crate::server::*;

const RELID: Relid = Relid(1);

fn modify(relid: Relid, vp: u32) -> ModifyChannel {
    ModifyChannel {
        relid,
        target_vp: HvVpIndex(vp),
        ..ModifyChannel::empty()
    }
}

#[test]
fn a_channel_can_be_opened_again_and_again() {
    let mut guest = Guest::with_offers(1);
    for _ in 0..3 {
        let ring = guest.open(RELID);
        guest.close(RELID, ring);
    }
}

#[test]
fn the_device_gets_what_the_guest_said_and_the_two_rings() {
    let mut guest = Guest::with_offers(1);
    let ring_gpadl = guest.gpadl(RELID, 0x200, 9);
    let open = OpenChannel {
        open_id: 0xABCD,
        downstream_pages: 3,
        user_data: [7; 120],
        ..Guest::open_message(RELID, ring_gpadl)
    };
    guest.taken(&open);
    guest.effect(&Effect::OpenChannel(ChannelOpen {
        relid: RELID,
        ring_gpadl,
        downstream_pages: 3,
        target_vp: HvVpIndex(2),
        user_data: [7; 120],
    }));
    let rings = guest.server.open_rings(RELID).unwrap();
    let first = |ring: crate::bulk::GuestBuffer<'_>| ring.pieces().next().unwrap().run;
    assert_eq!(
        (first(rings.incoming).gpa, rings.incoming.len()),
        (0x20_0000, 0x3000)
    );
    assert_eq!(
        (first(rings.outgoing).gpa, rings.outgoing.len()),
        (0x20_3000, 0x6000)
    );
    // The guest is not signalled, and cannot signal, before the device has accepted.
    assert_eq!(guest.server.event_flag(RELID), None);
    assert!(guest.server.event(RELID.event_connection(), 0).is_err());
    assert_eq!(guest.server.message(), None);
    guest.server.open_result(RELID, Ok(())).unwrap();
    assert_eq!(guest.next::<OpenChannelResult>().open_id, 0xABCD);
}

#[test]
fn a_device_that_fails_to_open_leaves_the_channel_closed() {
    let mut guest = Guest::with_offers(1);
    for status in [Status::INSUFFICIENT_RESOURCES, Status::SUCCESS] {
        let ring = guest.gpadl(RELID, 0x200, 8);
        guest.taken(&Guest::open_message(RELID, ring));
        assert_eq!(guest.effects().len(), 1);
        guest.server.open_result(RELID, Err(status)).unwrap();
        let result: OpenChannelResult = guest.next();
        assert_ne!(result.status, Status::SUCCESS);
        assert!(!guest.server.is_open(RELID));
        guest.taken(&Guest::teardown_message(RELID, ring));
        guest.serve();
        guest.torn_down(ring);
    }
    guest.open(RELID);
}

#[test]
fn an_open_without_proper_rings_is_answered_with_a_failure() {
    let mut guest = Guest::with_offers(2);
    let ring = guest.gpadl(RELID, 0x200, 8);
    let foreign = guest.gpadl(Relid(2), 0x300, 8);
    let good = Guest::open_message(RELID, ring);
    let bad = [
        OpenChannel {
            ring_gpadl: foreign,
            ..good
        },
        OpenChannel {
            ring_gpadl: GpadlHandle(1),
            ..good
        },
        OpenChannel {
            downstream_pages: 1,
            ..good
        },
        OpenChannel {
            downstream_pages: 7,
            ..good
        },
        // Bytes instead of pages.
        OpenChannel {
            downstream_pages: 4 * 4096,
            ..good
        },
        OpenChannel {
            target_vp: HvVpIndex(4),
            ..good
        },
    ];
    for open in bad {
        guest.taken(&open);
        let result: OpenChannelResult = guest.next();
        assert_eq!(result.status, Status::INVALID_PARAMETER);
        guest.silence();
    }
    guest.taken(&good);
    assert_eq!(guest.serve().len(), 1);
}

#[test]
fn messages_that_do_not_fit_the_state_are_dropped() {
    let mut guest = Guest::with_offers(1);
    guest.dropped(&Guest::close_message(RELID), DropReason::ChannelState);
    let ring = guest.open(RELID);
    guest.dropped(&Guest::open_message(RELID, ring), DropReason::ChannelState);
    guest.dropped(&Guest::close_message(Relid(2)), DropReason::UnknownChannel);
    guest.dropped(
        &RelidReleased {
            relid: RELID,
            ..RelidReleased::empty()
        },
        DropReason::ChannelState,
    );
    guest.close(RELID, ring);
    guest.dropped(&Guest::close_message(RELID), DropReason::ChannelState);
}

#[test]
fn a_channel_that_was_not_offered_yet_does_not_exist() {
    let mut guest = Guest::new(1);
    guest.connect(Version::V5_3);
    let ring = GpadlHandle(1);
    guest.dropped(
        &Guest::open_message(RELID, ring),
        DropReason::UnknownChannel,
    );
}

#[test]
fn signals_of_the_guest_lead_to_open_channels_only() {
    let mut guest = Guest::with_offers(2);
    guest.open(Relid(2));
    let connection = Relid(2).event_connection();
    assert_eq!(connection, HvConnectionId(0x2002));
    assert_eq!(guest.server.event(connection, 0), Ok(Relid(2)));
    let unknown = Err(DropReason::UnknownEvent);
    assert_eq!(guest.server.event(connection, 1), unknown);
    assert_eq!(guest.server.event(RELID.event_connection(), 0), unknown);
    assert_eq!(guest.server.event(HvConnectionId(2), 0), unknown);
    assert_eq!(guest.server.drops().count(DropReason::UnknownEvent), 3);
}

#[test]
fn signals_to_the_guest_go_to_the_vp_that_it_named_last() {
    let mut guest = Guest::with_offers(1);
    guest.open(RELID);
    let flag = |vp| EventFlag {
        vp: HvVpIndex(vp),
        sint: 2,
        flag: 1,
    };
    assert_eq!(guest.server.event_flag(RELID), Some(flag(2)));
    guest.taken(&modify(RELID, 3));
    guest.effect(&Effect::TargetVpChanged { relid: RELID });
    let response: ModifyChannelResponse = guest.next();
    assert_eq!((response.relid, response.status), (RELID, Status::SUCCESS));
    assert_eq!(guest.server.event_flag(RELID), Some(flag(3)));
    // No interrupts at all.
    guest.taken(&modify(RELID, u32::MAX));
    assert_eq!(guest.server.event_flag(RELID), None);
}

#[test]
fn modify_channel_is_answered_from_5_3_on_and_known_from_4_1_on() {
    for version in Version::SUPPORTED {
        let mut guest = Guest::new(1);
        guest.connect(version);
        guest.request_offers();
        guest.open(RELID);
        if version < Version::V4_1 {
            guest.dropped(&modify(RELID, 0), DropReason::Version);
            continue;
        }
        guest.taken(&modify(RELID, 0));
        guest.serve();
        if version >= Version::V5_3 {
            guest.next::<ModifyChannelResponse>();
        }
        guest.silence();
    }
}

#[test]
fn modify_channel_that_cannot_be_done_is_answered_with_a_failure() {
    let mut guest = Guest::with_offers(1);
    guest.taken(&modify(RELID, 0));
    assert_ne!(
        guest.next::<ModifyChannelResponse>().status,
        Status::SUCCESS
    );
    guest.open(RELID);
    guest.taken(&modify(RELID, 4));
    assert_ne!(
        guest.next::<ModifyChannelResponse>().status,
        Status::SUCCESS
    );
    guest.silence();
    guest.dropped(&modify(Relid(5), 0), DropReason::UnknownChannel);
}

#[test]
fn a_channel_that_is_closed_while_it_opens_is_closed_when_it_is_open() {
    let mut guest = Guest::with_offers(1);
    let ring = guest.gpadl(RELID, 0x200, 8);
    guest.taken(&Guest::open_message(RELID, ring));
    guest.taken(&Guest::close_message(RELID));
    guest.dropped_close();
    guest.taken(&Guest::teardown_message(RELID, ring));
    assert_eq!(guest.effects().len(), 1);
    guest.silence();
    guest.server.open_result(RELID, Ok(())).unwrap();
    guest.next::<OpenChannelResult>();
    let relid = RELID;
    let handle = ring;
    assert_eq!(
        guest.serve(),
        [
            Effect::CloseChannel { relid },
            Effect::ReleaseGpadl { relid, handle }
        ]
    );
    guest.torn_down(ring);
}

impl Guest {
    fn dropped_close(&mut self) {
        let received = self.post(&Self::close_message(RELID));
        assert_eq!(received, Received::Dropped(DropReason::ChannelState));
    }
}

#[test]
fn an_open_that_comes_before_the_device_has_stopped_fails() {
    let mut guest = Guest::with_offers(1);
    guest.open(RELID);
    let other = guest.gpadl(RELID, 0x400, 8);
    guest.taken(&Guest::close_message(RELID));
    guest.taken(&Guest::open_message(RELID, other));
    let result: OpenChannelResult = guest.next();
    assert_ne!(result.status, Status::SUCCESS);
}

#[test]
fn a_failed_device_is_silent_until_the_guest_closes() {
    let mut guest = Guest::with_offers(1);
    let ring = guest.open(RELID);
    guest.server.fail(RELID).unwrap();
    assert_eq!(guest.server.event_flag(RELID), None);
    assert!(guest.server.event(RELID.event_connection(), 0).is_err());
    guest.silence();
    guest.taken(&Guest::close_message(RELID));
    guest.silence();
    guest.taken(&Guest::teardown_message(RELID, ring));
    assert_eq!(guest.serve().len(), 1);
    guest.torn_down(ring);
    guest.open(RELID);
}

#[test]
fn calls_of_the_host_that_do_not_fit_are_errors_and_change_nothing() {
    let mut guest = Guest::with_offers(1);
    let server = &mut guest.server;
    assert_eq!(server.open_result(RELID, Ok(())), Err(HostError::State));
    assert_eq!(server.closed(RELID), Err(HostError::State));
    assert_eq!(server.fail(RELID), Err(HostError::State));
    assert_eq!(
        server.gpadl_released(GpadlHandle(1)),
        Err(HostError::UnknownGpadl)
    );
    let unknown = Err(HostError::UnknownChannel);
    assert_eq!(server.open_result(Relid(9), Ok(())), unknown);
    assert_eq!(server.closed(Relid(9)), unknown);
    assert_eq!(server.fail(Relid(9)), unknown);
    assert_eq!(server.rescind(Relid(9)), unknown);
    guest.silence();
    guest.open(RELID);
}

#[test]
fn hv_sock_is_refused() {
    let mut guest = Guest::with_offers(0);
    let request = TlConnectRequest {
        endpoint: Guid::new(1),
        service: Guid::new(2),
        ..TlConnectRequest::empty()
    };
    guest.taken(&request);
    let result: TlConnectResult = guest.next();
    assert_eq!(
        (result.endpoint, result.service),
        (request.endpoint, request.service)
    );
    assert_ne!(result.status, Status::SUCCESS);
    guest.connect(Version::V3_0);
    guest.serve();
    guest.dropped(&request, DropReason::Version);
}
