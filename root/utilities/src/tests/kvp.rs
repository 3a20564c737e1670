use super::*;
use crate::frame::Status;
use crate::kvp::{
    Change, ChangeRefused, KvpEvent, MAX_PAIRS, PATIENCE, ROUND_PERIOD, RoundEnd, Value, ValueType,
    keys,
};
use crate::{DeadReason, Kvp, SECOND};
use guest::{Did, v};

fn daemon() -> Vec<(String, String)> {
    keys::ALL
        .iter()
        .map(|&key| (key.into(), format!("{key} of a guest, ünïcödé 🦀")))
        .collect()
}

fn ready(daemon: Option<Vec<(String, String)>>) -> (Kvp, Linux, Vec<Event>) {
    let mut service = Kvp::default();
    let mut guest = Linux::new(&[v(4, 0), v(3, 0), v(1, 0)]);
    guest.daemon = daemon;
    let happened = open(&mut service, &mut guest, 0);
    (service, guest, happened)
}

fn round(pairs: u32, end: RoundEnd) -> Event {
    Event::Kvp(KvpEvent::Round { pairs, end })
}

fn changed(change: Change, status: Option<Status>) -> Event {
    Event::Kvp(KvpEvent::Changed { change, status })
}

/// The service's reaction to an answer to its first question that `change` has changed.
fn first_pair(change: impl FnOnce(&mut [u8])) -> (Result<(), DeadReason>, Vec<Event>) {
    let mut service = Kvp::default();
    let mut guest = Linux::new(&[v(4, 0)]);
    guest.daemon = Some(daemon());
    service.opened(0);
    let packet = take(&mut service, 0).unwrap();
    service
        .received(&guest.answer(&packet).unwrap(), packet.transaction, 0)
        .unwrap();
    events(&mut service);
    let packet = take(&mut service, 0).unwrap();
    let mut answer = guest.answer(&packet).unwrap();
    change(&mut answer);
    let result = service.received(&answer, packet.transaction, 0);
    (result, events(&mut service))
}

#[test]
fn the_daemons_pairs_come_after_negotiation_and_every_minute() {
    let (mut service, mut guest, happened) = ready(Some(daemon()));
    let expected: Vec<Event> = daemon()
        .into_iter()
        .map(|(key, value)| {
            Event::Kvp(KvpEvent::Pair {
                key,
                value: Value::Text(value),
            })
        })
        .chain([round(10, RoundEnd::Complete)])
        .collect();
    assert_eq!(happened[1..], expected);
    assert_eq!(service.next_deadline(), Some(ROUND_PERIOD));
    assert_eq!(run(&mut service, &mut guest, 0, ROUND_PERIOD - 1), []);
    assert_eq!(
        run(&mut service, &mut guest, ROUND_PERIOD - 1, ROUND_PERIOD),
        expected
    );
}

#[test]
fn a_guest_without_a_daemon_is_asked_again_a_minute_later() {
    let (mut service, mut guest, happened) = ready(None);
    assert_eq!(happened[1..], [round(0, RoundEnd::Failed(Status::FAIL))]);
    guest.daemon = Some(daemon());
    let happened = run(&mut service, &mut guest, 0, ROUND_PERIOD);
    assert_eq!(happened.last(), Some(&round(10, RoundEnd::Complete)));
}

#[test]
fn a_guest_that_never_answers_costs_a_packet_in_two_minutes() {
    let (mut service, mut guest, _) = ready(Some(daemon()));
    let (mut now, mut packets) = (0, 0);
    while now < 3600 * SECOND {
        now = service.next_deadline().unwrap();
        service.tick(now);
        packets += core::iter::from_fn(|| take(&mut service, now)).count();
        assert!(
            events(&mut service)
                .iter()
                .all(|event| *event == round(0, RoundEnd::Unanswered))
        );
    }
    assert_eq!(packets as u64, 3600 * SECOND / (PATIENCE + ROUND_PERIOD));
    // It is back with the next round.
    let happened = run(&mut service, &mut guest, now, now + PATIENCE + ROUND_PERIOD);
    assert_eq!(happened.last(), Some(&round(10, RoundEnd::Complete)));
}

#[test]
fn a_daemon_that_takes_half_a_minute_is_waited_for() {
    let (mut service, mut guest, _) = ready(Some(daemon()));
    service.tick(ROUND_PERIOD);
    let packet = take(&mut service, ROUND_PERIOD).unwrap();
    let now = ROUND_PERIOD + 35 * SECOND;
    service.tick(now);
    assert_eq!(events(&mut service), []);
    service
        .received(&guest.answer(&packet).unwrap(), packet.transaction, now)
        .unwrap();
    assert!(matches!(
        events(&mut service)[..],
        [Event::Kvp(KvpEvent::Pair { .. })]
    ));
}

#[test]
fn a_guest_with_pairs_without_end_is_stopped() {
    let many = (0..1000)
        .map(|n| (format!("key {n}"), String::new()))
        .collect();
    let (_, guest, happened) = ready(Some(many));
    assert_eq!(happened.last(), Some(&round(MAX_PAIRS, RoundEnd::TooMany)));
    assert_eq!(guest.types.len(), 1 + MAX_PAIRS as usize);
}

#[test]
fn sizes_beyond_the_fields_end_the_service() {
    for (at, limit) in [(40, 512), (44, 2048)] {
        for size in [limit + 1, 0x8000_0000, u32::MAX] {
            let (result, _) =
                first_pair(|answer| answer[at..at + 4].copy_from_slice(&size.to_le_bytes()));
            assert_eq!(
                result,
                Err(DeadReason::FieldSize {
                    size,
                    limit: limit as usize
                })
            );
        }
    }
}

#[test]
fn a_short_pair_ends_the_service_but_an_error_needs_no_pair() {
    let short = |answer: &mut [u8]| answer[18..20].copy_from_slice(&2579u16.to_le_bytes());
    let (result, _) = first_pair(short);
    assert_eq!(
        result,
        Err(DeadReason::ShortBody {
            expected: 2580,
            got: 2579
        })
    );
    let (result, happened) = first_pair(|answer| {
        answer[18..20].copy_from_slice(&[0, 0]);
        answer[20..24].copy_from_slice(&Status::NO_MORE_ITEMS.0.to_le_bytes());
    });
    assert_eq!(
        (result, happened),
        (Ok(()), vec![round(0, RoundEnd::Complete)])
    );
}

#[test]
fn text_is_decoded_lossily_and_within_bounds() {
    let (result, happened) = first_pair(|answer| {
        answer[40..44].copy_from_slice(&512u32.to_le_bytes());
        answer[44..48].copy_from_slice(&2047u32.to_le_bytes());
        answer[48..48 + 512].fill(0xD8);
        answer[560..560 + 2048].fill(b'a');
    });
    assert_eq!(result, Ok(()));
    let [
        Event::Kvp(KvpEvent::Pair {
            key,
            value: Value::Text(value),
        }),
    ] = &happened[..]
    else {
        panic!("{happened:?}")
    };
    assert_eq!(*key, "\u{FFFD}".repeat(256));
    assert_eq!(*value, "\u{6161}".repeat(1023));
    let (_, happened) = first_pair(|answer| answer[40..48].fill(0));
    let empty = KvpEvent::Pair {
        key: String::new(),
        value: Value::Text(String::new()),
    };
    assert_eq!(happened, [Event::Kvp(empty)]);
}

#[test]
fn numbers_and_unknown_types_are_values() {
    let value = |value_type: u32, size: u32| {
        let (result, happened) = first_pair(|answer| {
            answer[36..40].copy_from_slice(&value_type.to_le_bytes());
            answer[44..48].copy_from_slice(&size.to_le_bytes());
            answer[560..568].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        });
        match happened.into_iter().next() {
            Some(Event::Kvp(KvpEvent::Pair { value, .. })) => Ok(value),
            _ => Err(result.unwrap_err()),
        }
    };
    assert_eq!(value(4, 4), Ok(Value::Number(0x0403_0201)));
    assert_eq!(value(8, 8), Ok(Value::Number(0x0807_0605_0403_0201)));
    assert_eq!(value(11, 8), Ok(Value::Number(0x0807_0605_0403_0201)));
    assert_eq!(value(77, 0), Ok(Value::Other(ValueType(77))));
    assert_eq!(
        value(4, 3),
        Err(DeadReason::ShortBody {
            expected: 4,
            got: 3
        })
    );
    assert_eq!(
        value(11, 7),
        Err(DeadReason::ShortBody {
            expected: 8,
            got: 7
        })
    );
}

#[test]
fn the_host_sets_and_deletes_pairs_of_the_external_pool() {
    let (mut service, mut guest, _) = ready(Some(daemon()));
    service.set("ñame", "välue").unwrap();
    assert_eq!(
        pump(&mut service, &mut guest, 0),
        [changed(Change::Set, Some(Status::OK))]
    );
    assert_eq!(guest.external, [("ñame".into(), "välue".into())]);
    service.delete("ñame").unwrap();
    assert_eq!(
        pump(&mut service, &mut guest, 0),
        [changed(Change::Delete, Some(Status::OK))]
    );
    service.delete("ñame").unwrap();
    assert_eq!(
        pump(&mut service, &mut guest, 0),
        [changed(Change::Delete, Some(Status::NO_MORE_ITEMS))]
    );
    assert_eq!(
        guest.did,
        [
            Did::Set { pool: 0 },
            Did::Delete { pool: 0 },
            Did::Delete { pool: 0 }
        ]
    );
}

#[test]
fn a_change_goes_before_the_rest_of_a_round_and_the_round_goes_on() {
    let (mut service, mut guest, _) = ready(Some(daemon()));
    service.tick(ROUND_PERIOD);
    let packet = take(&mut service, ROUND_PERIOD).unwrap();
    service.set("k", "v").unwrap();
    assert_eq!(service.set("k", "w"), Err(ChangeRefused::Outstanding));
    assert_eq!(take(&mut service, ROUND_PERIOD), None, "one at a time");
    service
        .received(
            &guest.answer(&packet).unwrap(),
            packet.transaction,
            ROUND_PERIOD,
        )
        .unwrap();
    let happened = pump(&mut service, &mut guest, ROUND_PERIOD);
    assert_eq!(happened[1], changed(Change::Set, Some(Status::OK)));
    assert_eq!(happened.last(), Some(&round(10, RoundEnd::Complete)));
}

#[test]
fn keys_and_values_that_do_not_fit_are_refused() {
    let (mut service, _, _) = ready(Some(daemon()));
    for key in [
        String::new(),
        "k".repeat(256),
        "🦀".repeat(128),
        "k\0".into(),
    ] {
        assert_eq!(service.set(&key, "v"), Err(ChangeRefused::Key));
        assert_eq!(service.delete(&key), Err(ChangeRefused::Key));
    }
    for value in ["v".repeat(1024), "\0".into()] {
        assert_eq!(service.set("k", &value), Err(ChangeRefused::Value));
    }
    assert_eq!(service.set(&"k".repeat(255), &"v".repeat(1023)), Ok(()));
    assert_eq!(Kvp::default().set("k", "v"), Err(ChangeRefused::NotReady));
}

#[test]
fn a_change_without_an_answer_is_told() {
    let (mut service, mut guest, _) = ready(Some(daemon()));
    service.set("k", "v").unwrap();
    take(&mut service, 0).unwrap();
    assert_eq!(service.delete("k"), Err(ChangeRefused::Outstanding), "sent");
    service.tick(PATIENCE);
    assert_eq!(events(&mut service), [changed(Change::Set, None)]);
    let happened = pump(&mut service, &mut guest, PATIENCE);
    assert_eq!(
        happened.last(),
        Some(&round(10, RoundEnd::Complete)),
        "the round that was due meanwhile"
    );
    service.delete("k").unwrap();
    service.closed(PATIENCE);
    assert_eq!(
        events(&mut service),
        [changed(Change::Delete, None)],
        "never sent"
    );
}
