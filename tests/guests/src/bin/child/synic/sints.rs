//! SINTs and their slots, filled by timers in message mode (guest sheet 4.9, 7).

use guests::metal::cpu::{interrupt_window, read_msr, write_msr};
use guests::metal::{apic, test, time};
use tlfs::{
    HV_X64_MSR_EOM, HV_X64_MSR_SCONTROL, HV_X64_MSR_SIEFP, HV_X64_MSR_SIMP, HV_X64_MSR_SINT0,
    HV_X64_MSR_SVERSION, HvStimerConfig, HvSynicSint,
};

use crate::page::{self, Message};
use crate::timers::{MILLISECOND, config, reset, set_config, set_count};
use crate::{
    FIRST, PATIENCE, SECOND_SINT, await_taken, holding_back, refused, taken, with_interrupts,
};

/// The SINT that most tests use, and another one.
const SINT: u32 = 5;
const OTHER: u32 = 6;

pub fn tests() {
    test("the synic is as after reset", fresh);
    page::lay();
    write_msr(HV_X64_MSR_SCONTROL, 1);
    test("a message tells of a timer", one);
    test("a full slot keeps the next message waiting", busy);
    test("an eoi brings the next message as well", by_eoi);
    test("a masked sint keeps its messages back", masked);
    test("a polled sint interrupts nobody", polled);
    test("an automatic eoi is none to do", automatic);
    test("two sints do not disturb each other", two);
    test("a synic that is off keeps messages back", off);
    test("a period of messages loses none and doubles none", period);
    write_msr(HV_X64_MSR_SCONTROL, 0);
    page::remove();
}

fn sint(sint: u32) -> u32 {
    HV_X64_MSR_SINT0 + sint
}

fn open(number: u32, how: HvSynicSint) {
    write_msr(sint(number), how.into_bits());
}

fn shut(number: u32) {
    open(number, HvSynicSint::RESET);
}

fn plain(vector: u8) -> HvSynicSint {
    HvSynicSint::new().with_vector(vector)
}

/// Message mode, enabled by a count.
fn messages(sint: u32) -> HvStimerConfig {
    HvStimerConfig::new()
        .with_auto_enable(true)
        .with_sintx(sint as u8)
}

fn eom() {
    write_msr(HV_X64_MSR_EOM, 0);
}

/// Lets a timer fire now; its message may have to wait.
fn fire(timer: u32, sint: u32) -> u64 {
    set_config(timer, messages(sint));
    let due = time::reference();
    set_count(timer, due);
    due
}

#[track_caller]
fn await_expiry(timer: u32) {
    let expired = holding_back(PATIENCE, || !config(timer).enable());
    assert!(expired, "timer {timer} does not expire");
}

#[track_caller]
fn await_message(sint: u32) -> Message {
    let came = holding_back(PATIENCE, || page::message(sint).is_some());
    assert!(came, "no message");
    page::take(sint).expect("a message")
}

fn fresh() {
    assert_eq!(read_msr(HV_X64_MSR_SVERSION), 1);
    assert_eq!(
        [HV_X64_MSR_SCONTROL, HV_X64_MSR_SIMP, HV_X64_MSR_SIEFP].map(|msr| read_msr(msr) & 1),
        [0; 3]
    );
    for number in 0..16 {
        assert_eq!(read_msr(sint(number)), HvSynicSint::RESET.into_bits());
        for vector in [0, 15] {
            refused(sint(number), plain(vector).into_bits());
        }
    }
    refused(HV_X64_MSR_SVERSION, 2);
}

fn one() {
    open(SINT, plain(FIRST));
    let before = taken(FIRST);
    let due = fire(2, SINT);
    await_taken(FIRST, before + 1);
    let message = page::take(SINT).expect("a message");
    assert_eq!(
        (message.timer, message.expiration, message.pending),
        (2, due, false)
    );
    assert!((due..=time::reference()).contains(&message.delivery));
    assert!(!config(2).enable());
    eom();
    assert_eq!(page::message(SINT), None);
    reset(2);
    shut(SINT);
}

/// Timers 0, 1 and 2 in this order; each message comes when the one before is taken.
fn busy() {
    open(SINT, plain(FIRST));
    let before = taken(FIRST);
    for timer in 0..3 {
        fire(timer, SINT);
        // Each has expired before the next one is set.
        await_expiry(timer);
    }
    await_taken(FIRST, before + 1);
    let mut seen = [false; 3];
    for round in 0..3 {
        let message = await_message(SINT);
        seen[message.timer as usize] = true;
        assert_eq!(message.pending, round < 2, "{message:?}");
        eom();
        // Each by itself: two that wait are one.
        interrupt_window();
    }
    assert_eq!((seen, page::message(SINT)), ([true; 3], None));
    assert_eq!(taken(FIRST), before + 3);
    (0..3).for_each(reset);
    shut(SINT);
}

fn by_eoi() {
    open(SINT, plain(FIRST));
    let before = taken(FIRST);
    for timer in 0..2 {
        fire(timer, SINT);
        await_expiry(timer);
    }
    assert!(page::take(SINT).is_some_and(|message| message.pending));
    // No EOM: the handler's EOI of the first message's interrupt is enough.
    assert!(with_interrupts(PATIENCE, || taken(FIRST) == before + 2));
    assert!(page::take(SINT).is_some_and(|message| !message.pending));
    (0..2).for_each(reset);
    shut(SINT);
}

fn masked() {
    open(SINT, plain(FIRST).with_masked(true));
    let before = taken(FIRST);
    fire(0, SINT);
    assert!(!holding_back(5_000, || page::message(SINT).is_some()));
    open(SINT, plain(FIRST));
    await_taken(FIRST, before + 1);
    assert_eq!(await_message(SINT).timer, 0);
    eom();
    reset(0);
    shut(SINT);
}

fn polled() {
    open(SINT, plain(FIRST).with_polling(true));
    let before = taken(FIRST);
    fire(0, SINT);
    assert_eq!(await_message(SINT).timer, 0);
    assert!(!with_interrupts(5_000, || taken(FIRST) != before));
    eom();
    reset(0);
    shut(SINT);
}

fn automatic() {
    open(SINT, plain(FIRST).with_auto_eoi(true));
    let before = taken(FIRST);
    for round in 1..=2 {
        fire(0, SINT);
        assert_eq!(await_message(SINT).timer, 0);
        // The handler's EOI ends nothing.
        await_taken(FIRST, before + round);
        assert!(!apic::has(apic::register::ISR, FIRST));
        eom();
    }
    reset(0);
    shut(SINT);
}

fn two() {
    open(SINT, plain(FIRST));
    open(OTHER, plain(SECOND_SINT));
    let before = (taken(FIRST), taken(SECOND_SINT));
    fire(0, SINT);
    fire(1, OTHER);
    await_taken(FIRST, before.0 + 1);
    await_taken(SECOND_SINT, before.1 + 1);
    assert_eq!(await_message(OTHER).timer, 1);
    // The first one's slot is still full, and the second one's gets the next message.
    fire(1, OTHER);
    await_taken(SECOND_SINT, before.1 + 2);
    assert_eq!(
        (await_message(SINT).timer, await_message(OTHER).timer),
        (0, 1)
    );
    eom();
    (0..2).for_each(reset);
    shut(SINT);
    shut(OTHER);
}

fn off() {
    open(SINT, plain(FIRST));
    let before = taken(FIRST);
    write_msr(HV_X64_MSR_SCONTROL, 0);
    fire(0, SINT);
    assert!(!with_interrupts(5_000, || taken(FIRST) != before));
    write_msr(HV_X64_MSR_SCONTROL, 1);
    await_taken(FIRST, before + 1);
    assert_eq!(await_message(SINT).timer, 0);
    eom();
    reset(0);
    shut(SINT);
}

/// Expirations that find the last message still waiting are one with it.
fn period() {
    open(SINT, plain(FIRST));
    set_config(0, messages(SINT).with_periodic(true));
    set_count(0, 2 * MILLISECOND);
    let mut last = 0;
    for _ in 0..8 {
        let message = await_message(SINT);
        assert!(message.expiration > last && message.delivery >= message.expiration);
        last = message.expiration;
        eom();
    }
    reset(0);
    // One may have been under way.
    let _ = page::take(SINT);
    eom();
    interrupt_window();
    assert_eq!(page::message(SINT), None);
    shut(SINT);
}
