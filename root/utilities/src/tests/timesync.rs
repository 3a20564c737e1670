use super::*;
use crate::timesync::{DEFAULT_SYNC_PERIOD, PATIENCE, SAMPLE_PERIOD, Settings};
use crate::{SECOND, TimeSync, Version};
use guest::{Did, v};

const ALL: [Version; 3] = [v(4, 0), v(3, 0), v(1, 0)];
const START: Time = 100 * SECOND;

fn ready(versions: &[Version], settings: Settings) -> (TimeSync, Linux) {
    let mut service = TimeSync::new(settings);
    let mut guest = Linux::new(versions);
    open(&mut service, &mut guest, START);
    (service, guest)
}

fn is_set(did: &Did) -> bool {
    matches!(did, Did::SetClock { .. })
}

#[test]
fn the_clock_is_set_right_after_negotiation_in_every_version() {
    for newest in 0..ALL.len() {
        let (service, guest) = ready(&ALL[newest..], Settings::default());
        let reference = (newest == 0).then_some(START - CREATED);
        assert_eq!(
            guest.did,
            [Did::SetClock {
                wall: WALL + START,
                reference
            }]
        );
        assert_eq!(service.next_deadline(), Some(START + SAMPLE_PERIOD));
    }
}

#[test]
fn a_sample_follows_every_five_seconds() {
    for newest in 0..ALL.len() {
        let (mut service, mut guest) = ready(&ALL[newest..], Settings { sync_period: None });
        run(&mut service, &mut guest, START, START + 100 * SECOND);
        assert_eq!(guest.did.len(), 21);
        for (n, did) in (1..).zip(&guest.did[1..]) {
            let now = START + n * SAMPLE_PERIOD;
            let reference = (newest == 0).then_some(now - CREATED);
            assert_eq!(
                *did,
                Did::Sample {
                    wall: WALL + now,
                    reference
                }
            );
        }
    }
}

#[test]
fn a_clock_set_wrongly_in_the_vm_is_set_right_within_the_period() {
    let (mut service, mut guest) = ready(&ALL, Settings::default());
    for minute in 1..5 {
        guest.did.clear();
        let begin = START + (minute - 1) * DEFAULT_SYNC_PERIOD;
        run(&mut service, &mut guest, begin, begin + DEFAULT_SYNC_PERIOD);
        assert_eq!(guest.did.len(), 12);
        assert_eq!(guest.did.iter().filter(|did| is_set(did)).count(), 1);
        assert!(is_set(guest.did.last().unwrap()));
    }
}

#[test]
fn a_guest_that_keeps_its_own_time_is_only_set_when_asked_for() {
    let (mut service, mut guest) = ready(&ALL, Settings { sync_period: None });
    run(&mut service, &mut guest, START, START + 3600 * SECOND);
    assert_eq!(guest.did.iter().filter(|did| is_set(did)).count(), 1);
    service.sync_now();
    pump(&mut service, &mut guest, START + 3600 * SECOND);
    assert!(is_set(guest.did.last().unwrap()));
}

#[test]
fn a_sync_that_is_asked_for_does_not_wait_for_the_next_sample() {
    let (mut service, mut guest) = ready(&ALL, Settings::default());
    let now = START + SECOND;
    service.sync_now();
    pump(&mut service, &mut guest, now);
    assert_eq!(
        guest.did[1..],
        [Did::SetClock {
            wall: WALL + now,
            reference: Some(now - CREATED)
        }]
    );
    assert_eq!(service.next_deadline(), Some(now + SAMPLE_PERIOD));
}

#[test]
fn a_sync_that_is_asked_for_while_a_sample_is_under_way_follows_it() {
    let (mut service, mut guest) = ready(&ALL, Settings::default());
    let now = START + SAMPLE_PERIOD;
    service.tick(now);
    let sample = take(&mut service, now).unwrap();
    service.sync_now();
    assert_eq!(take(&mut service, now), None, "one at a time");
    service
        .received(&guest.answer(&sample).unwrap(), sample.transaction, now)
        .unwrap();
    pump(&mut service, &mut guest, now);
    assert!(!is_set(&guest.did[1]) && is_set(&guest.did[2]) && guest.did.len() == 3);
}

#[test]
fn the_guest_follows_when_the_hosts_clock_is_set() {
    for (set, follows) in [(3600, true), (-3600, true), (2, true), (0, false)] {
        let (mut service, mut guest) = ready(&ALL, Settings { sync_period: None });
        let now = START + SAMPLE_PERIOD;
        service.tick(now);
        let set = set * SECOND as i64;
        let packet = service.take_packet(now, &mut || clocks(now, set)).unwrap();
        guest.answer(&packet).unwrap();
        assert_eq!(is_set(&guest.did[1]), follows, "{set}");
    }
}

#[test]
fn the_sample_is_as_old_as_its_packet() {
    let (mut service, mut guest) = ready(&ALL, Settings { sync_period: None });
    service.tick(START + SAMPLE_PERIOD);
    // The ring had no room for three seconds.
    let now = START + SAMPLE_PERIOD + 3 * SECOND;
    assert!(service.packet_len().is_some());
    pump(&mut service, &mut guest, now);
    assert_eq!(
        guest.did[1],
        Did::Sample {
            wall: WALL + now,
            reference: Some(now - CREATED)
        }
    );
}

#[test]
fn a_guest_that_reads_nothing_is_not_sent_old_times_and_is_set_when_it_is_back() {
    let (mut service, mut guest) = ready(&ALL, Settings { sync_period: None });
    let mut now = START + SAMPLE_PERIOD;
    service.tick(now);
    let mut packets = 0;
    while now < START + 10 * PATIENCE {
        packets += usize::from(take(&mut service, now).is_some());
        now = service.next_deadline().unwrap();
        service.tick(now);
    }
    assert!((9..=11).contains(&packets), "{packets}");
    pump(&mut service, &mut guest, now);
    assert!(is_set(&guest.did[1]));
}

#[test]
fn the_clock_is_set_again_when_the_channel_is_opened_again() {
    let (mut service, mut guest) = ready(&ALL, Settings::default());
    service.closed(START);
    open(&mut service, &mut guest, START + SECOND);
    assert_eq!(guest.did.iter().filter(|did| is_set(did)).count(), 2);
}
