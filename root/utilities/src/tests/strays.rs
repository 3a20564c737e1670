//! Packets that answer nothing outstanding, for all services.

use super::*;
use crate::heartbeat::HeartbeatState;
use crate::{DeadReason, FrameError, Heartbeat, LinkState, SECOND};
use guest::v;

fn beating() -> (Heartbeat, Linux) {
    let mut service = Heartbeat::default();
    let mut guest = Linux::new(&[v(3, 0)]);
    let happened = open(&mut service, &mut guest, 0);
    assert!(happened.contains(&Event::Heartbeat(HeartbeatState::Ok)));
    (service, guest)
}

#[test]
fn an_answer_given_twice_counts_once() {
    let (mut service, mut guest) = beating();
    service.tick(2 * SECOND);
    let packet = take(&mut service, 2 * SECOND).unwrap();
    let answer = guest.answer(&packet).unwrap();
    for _ in 0..3 {
        assert_eq!(
            service.received(&answer, packet.transaction, 2 * SECOND),
            Ok(())
        );
    }
    assert_eq!((service.counters().strays, service.beats().right), (2, 2));
}

#[test]
fn packets_of_other_transactions_are_ignored_whatever_is_in_them() {
    let (mut service, _) = beating();
    for payload in [&[][..], &[0xFF; 28], &[0; 5000], &[7; 100_000]] {
        for transaction in [0, 1, 2, 3, u64::MAX] {
            assert_eq!(service.received(payload, transaction, SECOND), Ok(()));
        }
    }
    assert_eq!(service.counters().strays, 20);
    assert_eq!(
        (events(&mut service), service.contact()),
        (vec![], HeartbeatState::Ok)
    );
}

#[test]
fn packets_are_ignored_while_the_channel_is_closed_or_the_service_dead() {
    let (mut service, mut guest) = beating();
    service.tick(2 * SECOND);
    let packet = take(&mut service, 2 * SECOND).unwrap();
    let answer = guest.answer(&packet).unwrap();
    service.closed(3 * SECOND);
    assert_eq!(
        service.received(&answer, packet.transaction, 3 * SECOND),
        Ok(())
    );
    service.opened(3 * SECOND);
    let offer = take(&mut service, 3 * SECOND).unwrap();
    assert_eq!(
        service.received(&answer, packet.transaction, 3 * SECOND),
        Ok(()),
        "of the channel's last life"
    );
    assert!(
        service
            .received(&[], offer.transaction, 3 * SECOND)
            .is_err()
    );
    assert_eq!(
        service.received(&[], offer.transaction, 3 * SECOND),
        Ok(()),
        "already dead"
    );
    assert_eq!(service.counters().strays, 3);
}

#[test]
fn an_answer_that_cannot_be_decoded_ends_the_service() {
    let (mut service, mut guest) = beating();
    service.tick(2 * SECOND);
    let packet = take(&mut service, 2 * SECOND).unwrap();
    let answer = guest.answer(&packet).unwrap();
    let reason = DeadReason::Frame(FrameError::Truncated(27));
    assert_eq!(
        service.received(&answer[..27], packet.transaction, 2 * SECOND),
        Err(reason)
    );
    assert_eq!(service.state(), LinkState::Dead(reason));
    assert_eq!(
        events(&mut service),
        [
            Event::Heartbeat(HeartbeatState::NoContact),
            Event::Dead(reason)
        ]
    );
}

#[test]
fn an_answer_of_another_type_or_with_another_frame_transaction_ends_the_service() {
    for (at, value) in [(12, 4), (24, 0x77)] {
        let (mut service, mut guest) = beating();
        service.tick(2 * SECOND);
        let packet = take(&mut service, 2 * SECOND).unwrap();
        let mut answer = guest.answer(&packet).unwrap();
        answer[at] = value;
        let result = service.received(&answer, packet.transaction, 2 * SECOND);
        assert!(
            matches!(
                result,
                Err(DeadReason::MessageType { .. } | DeadReason::Transaction { .. })
            ),
            "{result:?}"
        );
    }
}

#[test]
fn events_of_a_caller_who_takes_none_are_bounded() {
    let mut service = Heartbeat::default();
    for now in 0..1000 {
        service.opened(now);
        let packet = take(&mut service, now).unwrap();
        assert!(service.received(&[], packet.transaction, now).is_err());
    }
    assert_eq!(
        (
            events(&mut service).len(),
            service.counters().events_dropped
        ),
        (32, 968)
    );
}
