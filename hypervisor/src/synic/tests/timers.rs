//! Synthetic timers: what a guest relies on, and what no guest can bring about.

use proptest::prelude::*;
use tlfs::{HV_X64_MSR_STIMER0_CONFIG, HvStimerConfig};

use crate::synic::{DirectInterrupt, Sint, SyntheticTimers};
use crate::time::RefTime;

const CONFIG: u32 = HV_X64_MSR_STIMER0_CONFIG;
const COUNT: u32 = CONFIG + 1;
const ALL: u16 = u16::MAX;
/// What Linux writes: enable, auto-enable, vector 0xED, direct.
const LINUX_DIRECT: u64 = 0x1ED9;
/// Enable, auto-enable, SINT 2.
const LINUX_MESSAGE: u64 = 0x20009;
const PERIODIC: u64 = 1 << 1;

const fn at(units: u64) -> RefTime {
    RefTime::from_units(units)
}

fn timers(config: u64, count: u64, now: u64) -> SyntheticTimers {
    let mut timers = SyntheticTimers::new();
    assert_eq!(timers.write(CONFIG, config, at(now)), Ok(()));
    assert_eq!(timers.write(COUNT, count, at(now)), Ok(()));
    timers
}

fn vectors(timers: &mut SyntheticTimers, now: u64) -> Vec<u8> {
    let expired = timers.expire(at(now)).into_iter().flatten();
    expired.map(|DirectInterrupt { vector }| vector).collect()
}

fn is_enabled(timers: &SyntheticTimers) -> bool {
    timers.read(CONFIG).unwrap() & 1 != 0
}

#[test]
fn an_enabled_timer_without_a_count_does_not_expire() {
    let mut timers = SyntheticTimers::new();
    timers.write(CONFIG, LINUX_DIRECT, at(5)).unwrap();
    assert!(is_enabled(&timers));
    assert_eq!(timers.next_deadline(), None);
    assert!(vectors(&mut timers, u64::MAX - 1).is_empty());
}

#[test]
fn a_one_shot_timer_expires_once_and_not_before_its_time() {
    let mut timers = timers(LINUX_DIRECT, 1000, 5);
    assert_eq!(timers.next_deadline(), Some(at(1000)));
    assert!(vectors(&mut timers, 999).is_empty());
    assert_eq!(vectors(&mut timers, 1000), [0xED]);
    assert!(!is_enabled(&timers));
    assert_eq!(timers.read(COUNT), Ok(1000), "the count stays");
    assert_eq!(timers.next_deadline(), None);
    assert!(vectors(&mut timers, 2000).is_empty());
}

#[test]
fn a_time_in_the_past_is_due_at_once() {
    let mut timers = timers(LINUX_DIRECT, 3, 500);
    assert_eq!(timers.next_deadline(), Some(at(3)));
    assert_eq!(vectors(&mut timers, 500), [0xED]);
}

#[test]
fn a_count_enables_a_timer_again_if_it_may() {
    let mut timers = timers(LINUX_DIRECT, 10, 0);
    assert_eq!(vectors(&mut timers, 10), [0xED]);
    timers.write(COUNT, 20, at(11)).unwrap();
    assert!(is_enabled(&timers));
    assert_eq!(vectors(&mut timers, 20), [0xED]);
    let without_auto_enable = LINUX_DIRECT & !8;
    timers.write(CONFIG, without_auto_enable, at(21)).unwrap();
    assert_eq!(vectors(&mut timers, 21), [0xED], "its count is in the past");
    timers.write(COUNT, 30, at(22)).unwrap();
    assert!(!is_enabled(&timers));
    assert!(vectors(&mut timers, 40).is_empty());
}

#[test]
fn count_zero_stops_a_timer() {
    let mut timers = timers(LINUX_DIRECT, 1000, 5);
    timers.write(COUNT, 0, at(6)).unwrap();
    assert!(!is_enabled(&timers));
    assert_eq!(timers.next_deadline(), None);
}

#[test]
fn periods_stay_on_their_grid_and_missed_ones_count_as_one() {
    let mut timers = timers(LINUX_DIRECT | PERIODIC, 100, 5);
    assert_eq!(timers.next_deadline(), Some(at(105)));
    assert_eq!(vectors(&mut timers, 120), [0xED]);
    assert!(is_enabled(&timers));
    assert_eq!(timers.next_deadline(), Some(at(205)));
    assert_eq!(vectors(&mut timers, 666), [0xED]);
    assert_eq!(timers.next_deadline(), Some(at(705)));
}

#[test]
fn a_message_waits_until_it_is_delivered() {
    let mut timers = timers(LINUX_MESSAGE, 50, 0);
    assert!(vectors(&mut timers, 60).is_empty());
    let sint = Sint::new(2).unwrap();
    assert_eq!(timers.messages(!sint.bit()).count(), 0);
    let [message] = timers.messages(ALL).collect::<Vec<_>>()[..] else {
        panic!("one message")
    };
    assert_eq!((message.sint, message.expired), (sint, at(50)));
    assert_eq!(timers.messages(ALL).count(), 1);
    timers.delivered(message.timer, at(70));
    assert_eq!(timers.messages(ALL).count(), 0);
}

#[test]
fn a_periodic_timer_has_one_message_at_a_time() {
    let mut timers = timers(LINUX_MESSAGE | PERIODIC, 100, 0);
    assert!(vectors(&mut timers, 100).is_empty());
    assert_eq!(timers.next_deadline(), None, "nothing would come of it");
    assert!(vectors(&mut timers, 350).is_empty());
    assert_eq!(timers.messages(ALL).next().unwrap().expired, at(100));
    timers.delivered(0, at(350));
    assert_eq!(timers.next_deadline(), Some(at(400)));
}

#[test]
fn a_timer_that_could_not_notify_is_not_enabled() {
    let mut timers = SyntheticTimers::new();
    timers.write(CONFIG, 1, at(0)).unwrap();
    assert!(!is_enabled(&timers), "SINT0");
    let vector_15 = 1 << 12 | 0xF << 4 | 1;
    timers.write(CONFIG, vector_15, at(0)).unwrap();
    assert!(!is_enabled(&timers));
    // Nor is it by its count.
    let auto_enable = 1 << 3;
    timers
        .write(CONFIG, vector_15 | auto_enable, at(0))
        .unwrap();
    timers.write(COUNT, 5, at(0)).unwrap();
    assert!(!is_enabled(&timers) && vectors(&mut timers, 9).is_empty());
}

#[test]
fn reserved_bits_fault_and_change_nothing() {
    let mut timers = timers(LINUX_DIRECT, 1000, 0);
    let before = timers.clone();
    for bit in (13..16).chain(20..64) {
        assert!(
            timers
                .write(CONFIG, LINUX_DIRECT | 1 << bit, at(1))
                .is_err()
        );
    }
    assert!(timers.write(CONFIG + 8, 0, at(1)).is_err());
    assert!(timers.read(CONFIG + 8).is_err());
    assert_eq!(timers, before);
}

proptest! {
    #[test]
    fn no_sequence_of_writes_makes_a_timer_early_or_loses_it(
        steps in proptest::collection::vec((0u32..8, any::<u16>(), 0u64..400, 0u64..300), 1..60),
    ) {
        let mut timers = SyntheticTimers::new();
        let mut now = 0;
        for (register, config, count, passes) in steps {
            let value = if register % 2 == 0 {
                HvStimerConfig::from_bits(u64::from(config)).with_reserved_13(0).with_sintx(2).into_bits()
            } else {
                count
            };
            prop_assert_eq!(timers.write(CONFIG + register, value, at(now)), Ok(()));
            let deadline = timers.next_deadline();
            now += passes;
            let before = timers.messages(ALL).count();
            let direct = timers.expire(at(now)).into_iter().flatten().count();
            let messages = timers.messages(ALL).count() - before;
            let due = deadline.is_some_and(|deadline| deadline <= at(now));
            prop_assert_eq!(due, direct + messages != 0);
            prop_assert!(timers.next_deadline().is_none_or(|next| next > at(now)));
        }
    }

    #[test]
    fn a_state_that_is_saved_comes_back(
        writes in proptest::collection::vec((0u32..8, any::<u64>()), 0..20), now in 0u64..1 << 40,
    ) {
        let mut timers = SyntheticTimers::new();
        for (register, value) in writes {
            let mask = if register % 2 == 0 { 0xF_1FFF } else { u64::MAX >> 20 };
            prop_assert_eq!(timers.write(CONFIG + register, value & mask, at(now)), Ok(()));
        }
        timers.expire(at(now));
        let mut other = SyntheticTimers::new();
        prop_assert_eq!(other.restore(&timers.save()), Ok(()));
        prop_assert_eq!(other, timers);
    }

    #[test]
    fn no_value_overflows(values: [u64; 8], now: u64, later: u64) {
        let mut timers = SyntheticTimers::new();
        for (register, value) in (0..).zip(values) {
            let mask = if register % 2 == 0 { 0xF_1FFF } else { u64::MAX };
            prop_assert_eq!(timers.write(CONFIG + register, value & mask, at(now)), Ok(()));
        }
        timers.expire(at(later));
        (0..4).for_each(|timer| timers.delivered(timer, at(later)));
        timers.expire(at(u64::MAX));
    }
}
