use super::*;
use crate::{
    DeadReason, Heartbeat, Kvp, LinkState, SECOND, Shutdown, Status, TimeSync, Version, Versions,
};
use guest::v;

fn services() -> [(Box<dyn Service>, Vec<Version>); 4] {
    [
        (Box::new(Heartbeat::default()), vec![v(3, 0), v(1, 0)]),
        (
            Box::new(Shutdown::default()),
            vec![v(3, 2), v(3, 1), v(3, 0), v(1, 0)],
        ),
        (
            Box::new(TimeSync::default()),
            vec![v(4, 0), v(3, 0), v(1, 0)],
        ),
        (Box::new(Kvp::default()), vec![v(4, 0), v(3, 0), v(1, 0)]),
    ]
}

/// Offers versions to a guest whose answer is changed by `change`.
fn negotiate(change: impl FnOnce(&mut Vec<u8>)) -> (Heartbeat, Result<(), DeadReason>) {
    let mut service = Heartbeat::default();
    let mut guest = Linux::new(&[v(3, 0)]);
    service.opened(0);
    let packet = take(&mut service, 0).unwrap();
    let mut answer = guest.answer(&packet).unwrap();
    change(&mut answer);
    let result = service.received(&answer, packet.transaction, 0);
    (service, result)
}

/// The service is dead for this reason, says so once, and sends nothing.
fn assert_dead(mut service: Heartbeat, reason: DeadReason) {
    assert_eq!(service.state(), LinkState::Dead(reason));
    assert_eq!(events(&mut service), [Event::Dead(reason)]);
    assert_eq!(service.next_deadline(), None);
    service.tick(100 * SECOND);
    assert_eq!(
        (service.packet_len(), take(&mut service, 100 * SECOND)),
        (None, None)
    );
}

#[test]
fn every_linux_gets_the_newest_versions_it_knows() {
    for (mut service, all) in services() {
        for newest in 0..all.len() {
            for frameworks in [vec![v(3, 0), v(1, 0)], vec![v(1, 0)], vec![v(3, 0)]] {
                let mut guest = Linux::new(&all[newest..]);
                guest.frameworks = frameworks.clone();
                service.closed(0);
                events(&mut *service);
                let happened = open(&mut *service, &mut guest, 0);
                let versions = Versions {
                    framework: frameworks[0],
                    message: all[newest],
                };
                assert_eq!(
                    happened[0],
                    Event::Negotiated(versions),
                    "{}",
                    service.id().name
                );
                assert!(guest.types[1..].iter().all(|&t| t != 0), "one negotiation");
            }
        }
    }
}

#[test]
fn nothing_is_sent_before_the_channel_is_open() {
    for (mut service, _) in services() {
        service.tick(SECOND);
        assert_eq!(
            (service.packet_len(), service.next_deadline()),
            (None, None)
        );
        assert_eq!(take(&mut *service, SECOND), None);
        service.opened(SECOND);
        assert!(take(&mut *service, SECOND).is_some());
        assert_eq!(take(&mut *service, SECOND), None, "one packet at a time");
        service.closed(SECOND);
        assert_eq!(
            (service.packet_len(), service.next_deadline()),
            (None, None)
        );
    }
}

#[test]
fn an_answer_that_takes_minutes_is_waited_for_without_a_timer() {
    for (mut service, all) in services() {
        let mut guest = Linux::new(&all);
        service.opened(0);
        let packet = take(&mut *service, 0).unwrap();
        let late = 1000 * SECOND;
        assert_eq!(service.next_deadline(), None);
        service.tick(late);
        assert_eq!(take(&mut *service, late), None);
        service
            .received(&guest.answer(&packet).unwrap(), packet.transaction, late)
            .unwrap();
        assert!(matches!(events(&mut *service)[0], Event::Negotiated(_)));
    }
}

#[test]
fn a_guest_without_a_common_version_ends_the_service() {
    let mut service = Heartbeat::default();
    let mut guest = Linux::new(&[v(7, 7)]);
    service.opened(0);
    let packet = take(&mut service, 0).unwrap();
    let answer = guest.answer(&packet).unwrap();
    assert_eq!(
        service.received(&answer, packet.transaction, 0),
        Err(DeadReason::NoCommonVersion)
    );
    assert_dead(service, DeadReason::NoCommonVersion);
}

#[test]
fn absurd_counts_end_the_service() {
    for counts in [[0u16, 1], [1, 0], [2, 1], [0xFFFF, 0xFFFF]] {
        let (service, result) = negotiate(|answer| {
            answer[28..30].copy_from_slice(&counts[0].to_le_bytes());
            answer[30..32].copy_from_slice(&counts[1].to_le_bytes());
        });
        let reason = DeadReason::VersionCounts {
            frameworks: counts[0],
            messages: counts[1],
        };
        assert_eq!(result, Err(reason));
        assert_dead(service, reason);
    }
}

#[test]
fn versions_that_were_not_offered_end_the_service() {
    for (at, framework, message) in [(36, v(2, 0), v(3, 0)), (40, v(3, 0), v(2, 0))] {
        let (service, _) = negotiate(|answer| answer[at] = 2);
        assert_dead(
            service,
            DeadReason::VersionNotOffered(Versions { framework, message }),
        );
    }
}

#[test]
fn a_failed_or_short_or_unrelated_choice_ends_the_service() {
    let (service, _) = negotiate(|answer| answer[20] = 9);
    assert_dead(service, DeadReason::NegotiationFailed(Status(9)));
    let (service, _) = negotiate(|answer| answer[18] = 15);
    assert_dead(
        service,
        DeadReason::ShortBody {
            expected: 16,
            got: 15,
        },
    );
    let (service, _) = negotiate(|answer| answer[18] = 0);
    assert_dead(
        service,
        DeadReason::ShortBody {
            expected: 16,
            got: 0,
        },
    );
    let (service, result) = negotiate(|answer| answer[12] = 1);
    assert!(matches!(result, Err(DeadReason::MessageType { .. })));
    assert_dead(service, result.unwrap_err());
}

#[test]
fn a_dead_service_comes_back_when_the_channel_is_opened_again() {
    let (mut service, _) = negotiate(|answer| answer[20] = 9);
    events(&mut service);
    let mut guest = Linux::new(&[v(3, 0)]);
    service.closed(SECOND);
    assert!(matches!(
        open(&mut service, &mut guest, SECOND)[0],
        Event::Negotiated(_)
    ));
}

#[test]
fn guids_are_in_memory_order() {
    let id = Heartbeat::default().id();
    let expected = [
        0x39, 0x4f, 0x16, 0x57, 0x15, 0x91, 0x78, 0x4e, 0xab, 0x55, 0x38, 0x2f, 0x3b, 0xd5, 0x42,
        0x2d,
    ];
    assert_eq!((id.interface, id.instance), (expected, None));
}
