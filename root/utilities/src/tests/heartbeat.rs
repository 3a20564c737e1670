use super::*;
use crate::heartbeat::{ApplicationState, HeartbeatState, LOST_AFTER, PATIENCE, PERIOD};
use crate::{DeadReason, Heartbeat, SECOND};
use guest::v;

fn beating() -> (Heartbeat, Linux) {
    let mut service = Heartbeat::default();
    let mut guest = Linux::new(&[v(3, 0), v(1, 0)]);
    open(&mut service, &mut guest, 0);
    (service, guest)
}

/// Lets time pass for a guest that reads packets and does not answer; how many came.
fn run_silent(service: &mut Heartbeat, from: Time, to: Time) -> (usize, Vec<Event>) {
    let (mut packets, mut happened, mut now) = (0, Vec::new(), from);
    while let Some(next) = service.next_deadline().filter(|&next| next <= to) {
        assert!(next > now);
        now = next;
        service.tick(now);
        packets += core::iter::from_fn(|| take(service, now)).count();
        happened.extend(events(service));
    }
    (packets, happened)
}

#[test]
fn a_beat_every_two_seconds_keeps_contact() {
    let (mut service, mut guest) = beating();
    assert_eq!(service.contact(), HeartbeatState::Ok);
    let happened = run(&mut service, &mut guest, 0, 60 * SECOND);
    assert_eq!(happened, []);
    assert_eq!(guest.types.iter().filter(|&&t| t == 1).count(), 31);
    assert_eq!((service.beats().right, service.beats().wrong), (31, 0));
}

#[test]
fn there_is_no_contact_before_the_first_answer() {
    let mut service = Heartbeat::default();
    let mut guest = Linux::new(&[v(3, 0)]);
    service.opened(0);
    let packet = take(&mut service, 0).unwrap();
    service
        .received(&guest.answer(&packet).unwrap(), packet.transaction, 0)
        .unwrap();
    let (_, happened) = run_silent(&mut service, 0, 100 * SECOND);
    assert!(
        matches!(happened[..], [] | [Event::Negotiated(_)]),
        "{happened:?}"
    );
    assert_eq!(service.contact(), HeartbeatState::NoContact);
}

#[test]
fn contact_is_lost_after_ten_seconds_and_told_once() {
    let (mut service, _) = beating();
    service.tick(PERIOD);
    let packet = take(&mut service, PERIOD).unwrap();
    let (_, happened) = run_silent(&mut service, PERIOD, LOST_AFTER - 1);
    assert_eq!((happened, service.contact()), (vec![], HeartbeatState::Ok));
    let (_, happened) = run_silent(&mut service, PERIOD, 20 * SECOND);
    assert_eq!(
        happened,
        [Event::Heartbeat(HeartbeatState::Lost { since: 0 })]
    );
    assert_eq!(service.beats().losses, 1);
    drop(packet);
}

#[test]
fn a_late_answer_brings_contact_back() {
    let (mut service, mut guest) = beating();
    service.tick(PERIOD);
    let packet = take(&mut service, PERIOD).unwrap();
    run_silent(&mut service, PERIOD, 20 * SECOND);
    service
        .received(
            &guest.answer(&packet).unwrap(),
            packet.transaction,
            20 * SECOND,
        )
        .unwrap();
    assert_eq!(events(&mut service), [Event::Heartbeat(HeartbeatState::Ok)]);
    assert!(
        take(&mut service, 20 * SECOND).is_some(),
        "the beat that is due by now"
    );
}

#[test]
fn a_hung_guest_gets_a_beat_every_thirty_seconds_only() {
    let (mut service, mut guest) = beating();
    let (packets, _) = run_silent(&mut service, 0, 10 * PATIENCE);
    assert!((9..=11).contains(&packets), "{packets}");
    // A guest that lost an answer is back with the next beat that it answers.
    let happened = run(&mut service, &mut guest, 10 * PATIENCE, 12 * PATIENCE);
    assert_eq!(happened, [Event::Heartbeat(HeartbeatState::Ok)]);
    assert!(service.counters().unanswered >= 9);
}

#[test]
fn a_wrong_sequence_or_status_is_no_sign_of_life() {
    for at in [28, 35, 20] {
        let (mut service, mut guest) = beating();
        let mut now = 0;
        while now < 20 * SECOND {
            now += PERIOD;
            service.tick(now);
            if let Some(packet) = take(&mut service, now) {
                let mut answer = guest.answer(&packet).unwrap();
                answer[at] ^= 0x10;
                assert_eq!(service.received(&answer, packet.transaction, now), Ok(()));
            }
        }
        assert_eq!(service.contact(), HeartbeatState::Lost { since: 0 });
        assert_eq!((service.beats().right, service.beats().wrong), (1, 10));
    }
}

#[test]
fn a_body_without_a_sequence_ends_the_service() {
    let (mut service, mut guest) = beating();
    service.tick(PERIOD);
    let packet = take(&mut service, PERIOD).unwrap();
    let mut answer = guest.answer(&packet).unwrap();
    answer[18] = 7;
    let reason = DeadReason::ShortBody {
        expected: 8,
        got: 7,
    };
    assert_eq!(
        service.received(&answer, packet.transaction, PERIOD),
        Err(reason)
    );
}

#[test]
fn a_sequence_is_enough_of_an_answer() {
    let (mut service, mut guest) = beating();
    service.tick(PERIOD);
    let packet = take(&mut service, PERIOD).unwrap();
    let mut answer = guest.answer(&packet).unwrap();
    answer[18] = 8;
    assert_eq!(
        service.received(&answer, packet.transaction, PERIOD),
        Ok(())
    );
    assert_eq!(service.beats().right, 2);
}

#[test]
fn what_the_guest_says_of_itself_is_kept_until_it_goes() {
    let (mut service, mut guest) = beating();
    assert_eq!(service.application(), ApplicationState::UNKNOWN);
    service.tick(PERIOD);
    let packet = take(&mut service, PERIOD).unwrap();
    let mut answer = guest.answer(&packet).unwrap();
    answer[36] = 2;
    service
        .received(&answer, packet.transaction, PERIOD)
        .unwrap();
    assert_eq!(service.application(), ApplicationState::CRITICAL);
    service.closed(3 * SECOND);
    assert_eq!(
        (service.application(), service.contact()),
        (ApplicationState::UNKNOWN, HeartbeatState::NoContact)
    );
    assert_eq!(
        events(&mut service),
        [Event::Heartbeat(HeartbeatState::NoContact)]
    );
}
