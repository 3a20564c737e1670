use super::*;
use crate::shutdown::{
    ANSWER_WITHIN, ShutdownEvent, ShutdownKind, ShutdownRefused, ShutdownRequest,
};
use crate::{SECOND, Shutdown, Status, Version};
use guest::{Did, u32_at, v};

const ALL: [Version; 4] = [v(3, 2), v(3, 1), v(3, 0), v(1, 0)];

fn ready(versions: &[Version]) -> (Shutdown, Linux) {
    let mut service = Shutdown::default();
    let mut guest = Linux::new(versions);
    open(&mut service, &mut guest, 0);
    (service, guest)
}

fn ask(kind: ShutdownKind, force: bool) -> ShutdownRequest {
    ShutdownRequest {
        kind,
        force,
        timeout_seconds: 30,
    }
}

const OFF: ShutdownRequest = ShutdownRequest {
    kind: ShutdownKind::PowerOff,
    force: false,
    timeout_seconds: 30,
};

#[test]
fn linux_begins_what_it_is_asked_for() {
    let kinds = [
        ShutdownKind::PowerOff,
        ShutdownKind::Reboot,
        ShutdownKind::Hibernate,
    ];
    for (kind, flags) in kinds.into_iter().zip([0, 2, 4]) {
        for force in [false, true] {
            let (mut service, mut guest) = ready(&ALL);
            guest.hibernation = true;
            let request = ask(kind, force);
            service.request(request, SECOND).unwrap();
            let happened = pump(&mut service, &mut guest, SECOND);
            assert_eq!(guest.did, [Did::Shutdown(flags | u32::from(force))]);
            assert_eq!(
                happened,
                [Event::Shutdown(ShutdownEvent::Answered {
                    request,
                    status: Status::OK
                })]
            );
            assert_eq!(service.next_deadline(), None);
        }
    }
}

#[test]
fn the_packet_is_as_long_as_linux_insists_on() {
    let (mut service, _) = ready(&ALL);
    service.request(OFF, 0).unwrap();
    let packet = take(&mut service, 0).unwrap();
    assert_eq!(packet.payload.len(), 2088);
    assert_eq!(
        (u32_at(&packet.payload, 28), u32_at(&packet.payload, 32)),
        (0x8000_0000, 30)
    );
    assert!(packet.payload[40..].iter().all(|&byte| byte == 0));
}

#[test]
fn a_guest_that_cannot_says_so() {
    let (mut service, mut guest) = ready(&ALL);
    let request = ask(ShutdownKind::Hibernate, false);
    service.request(request, 0).unwrap();
    let happened = pump(&mut service, &mut guest, 0);
    assert_eq!(
        happened,
        [Event::Shutdown(ShutdownEvent::Answered {
            request,
            status: Status::FAIL
        })]
    );
    assert_eq!(
        service.request(OFF, 0),
        Ok(()),
        "and can be asked for something else"
    );
}

#[test]
fn nothing_is_asked_of_a_guest_that_is_not_there() {
    let mut service = Shutdown::default();
    assert_eq!(service.request(OFF, 0), Err(ShutdownRefused::NotReady));
    service.opened(0);
    assert_eq!(
        service.request(OFF, 0),
        Err(ShutdownRefused::NotReady),
        "versions are not agreed on"
    );
    let packet = take(&mut service, 0).unwrap();
    assert!(service.received(&[], packet.transaction, 0).is_err());
    assert_eq!(
        service.request(OFF, 0),
        Err(ShutdownRefused::NotReady),
        "dead"
    );
}

#[test]
fn a_second_request_is_refused_until_the_first_is_answered() {
    let (mut service, mut guest) = ready(&ALL);
    service.request(OFF, 0).unwrap();
    assert_eq!(
        service.request(OFF, 0),
        Err(ShutdownRefused::Outstanding),
        "not sent"
    );
    let packet = take(&mut service, 0).unwrap();
    assert_eq!(
        service.request(OFF, 0),
        Err(ShutdownRefused::Outstanding),
        "sent"
    );
    assert_eq!(take(&mut service, 0), None);
    service
        .received(&guest.answer(&packet).unwrap(), packet.transaction, 0)
        .unwrap();
    assert_eq!(service.request(OFF, 0), Ok(()));
}

#[test]
fn an_older_guest_is_not_asked_for_what_its_version_lacks() {
    let refused = |agreed, kind: ShutdownKind| {
        Err(ShutdownRefused::Version {
            agreed,
            needed: kind.since(),
        })
    };
    for newest in 0..ALL.len() {
        let (mut service, _) = ready(&ALL[newest..]);
        let agreed = ALL[newest];
        for kind in [
            ShutdownKind::Hibernate,
            ShutdownKind::Reboot,
            ShutdownKind::PowerOff,
        ] {
            let (mut fresh, _) = ready(&ALL[newest..]);
            let expected = if agreed >= kind.since() {
                Ok(())
            } else {
                refused(agreed, kind)
            };
            assert_eq!(fresh.request(ask(kind, false), 0), expected);
        }
        assert_eq!(service.request(OFF, 0), Ok(()));
    }
}

#[test]
fn a_request_without_an_answer_is_told_once_and_never_sent_again() {
    let (mut service, mut guest) = ready(&ALL);
    service.request(OFF, 0).unwrap();
    let packet = take(&mut service, 0).unwrap();
    assert_eq!(service.next_deadline(), Some(ANSWER_WITHIN));
    service.tick(ANSWER_WITHIN);
    assert_eq!(
        events(&mut service),
        [Event::Shutdown(ShutdownEvent::NoAnswer(OFF))]
    );
    assert_eq!(service.next_deadline(), None);
    service.tick(3600 * SECOND);
    assert_eq!(
        (events(&mut service), take(&mut service, 3600 * SECOND)),
        (vec![], None)
    );
    assert_eq!(service.request(OFF, 0), Err(ShutdownRefused::Outstanding));
    service
        .received(
            &guest.answer(&packet).unwrap(),
            packet.transaction,
            3600 * SECOND,
        )
        .unwrap();
    let answered = ShutdownEvent::Answered {
        request: OFF,
        status: Status::OK,
    };
    assert_eq!(events(&mut service), [Event::Shutdown(answered)]);
}

#[test]
fn a_request_is_abandoned_when_the_channel_closes() {
    let (mut service, mut guest) = ready(&ALL);
    service.request(OFF, 0).unwrap();
    let packet = take(&mut service, 0).unwrap();
    service.closed(SECOND);
    assert_eq!(
        events(&mut service),
        [Event::Shutdown(ShutdownEvent::Abandoned(OFF))]
    );
    open(&mut service, &mut guest, 2 * SECOND);
    service
        .received(
            &guest.answer(&packet).unwrap(),
            packet.transaction,
            2 * SECOND,
        )
        .unwrap();
    assert_eq!(
        events(&mut service),
        [],
        "the answer of the channel's last life"
    );
}
