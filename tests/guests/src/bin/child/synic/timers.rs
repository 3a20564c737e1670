//! Synthetic timers in direct mode (guest sheet 4.10).

use guests::metal::cpu::{interrupt_window, read_msr, wait_for_interrupt, write_msr};
use guests::metal::{test, time};
use tlfs::{HV_X64_MSR_STIMER0_CONFIG, HV_X64_MSR_STIMER0_COUNT, HvStimerConfig};

use crate::{DIRECT, PATIENCE, await_taken, refused, taken, with_interrupts};

/// 100 ns in a millisecond.
pub const MILLISECOND: u64 = 10_000;

pub fn tests() {
    test("timers are off at the start", || {
        for timer in 0..4 {
            assert_eq!((config(timer).into_bits(), count(timer)), (0, 0));
        }
    });
    test("a timer fires once, and not too early", once);
    test("a time that has passed is now", passed);
    test("a period goes on until it is stopped", periodic);
    test("a count enables a timer that says so", automatic);
    test("a timer without a count does not fire", without_count);
    test("all timers at once", all);
    test("a timer wakes who sleeps", asleep);
    test("what no timer can be is refused", impossible);
}

pub fn config(timer: u32) -> HvStimerConfig {
    HvStimerConfig::from_bits(read_msr(HV_X64_MSR_STIMER0_CONFIG + 2 * timer))
}

pub fn set_config(timer: u32, config: HvStimerConfig) {
    write_msr(HV_X64_MSR_STIMER0_CONFIG + 2 * timer, config.into_bits());
}

pub fn count(timer: u32) -> u64 {
    read_msr(HV_X64_MSR_STIMER0_COUNT + 2 * timer)
}

pub fn set_count(timer: u32, count: u64) {
    write_msr(HV_X64_MSR_STIMER0_COUNT + 2 * timer, count);
}

/// Stops a timer, and forgets how it was.
pub fn reset(timer: u32) {
    set_count(timer, 0);
    set_config(timer, HvStimerConfig::new());
}

/// Direct mode, enabled.
pub fn direct() -> HvStimerConfig {
    HvStimerConfig::new()
        .with_enable(true)
        .with_direct_mode(true)
        .with_apic_vector(DIRECT)
}

fn once() {
    let before = taken(DIRECT);
    set_config(0, direct());
    // Far enough away that an emulator that stands still for a while does not come too late to see it run.
    let due = time::reference() + 100 * MILLISECOND;
    set_count(0, due);
    assert!(config(0).enable());
    await_taken(DIRECT, before + 1);
    assert!(time::reference() >= due, "too early");
    assert_eq!((config(0).enable(), count(0)), (false, due));
    assert!(!with_interrupts(10_000, || taken(DIRECT) != before + 1));
    reset(0);
}

fn passed() {
    for count in [1, time::reference() - 1] {
        let before = taken(DIRECT);
        set_config(1, direct());
        set_count(1, count);
        await_taken(DIRECT, before + 1);
        reset(1);
    }
}

fn periodic() {
    let before = taken(DIRECT);
    set_config(2, direct().with_periodic(true));
    let start = time::reference();
    set_count(2, 2 * MILLISECOND);
    assert!(with_interrupts(PATIENCE, || taken(DIRECT) >= before + 10));
    assert!(time::reference() >= start + 20 * MILLISECOND, "too fast");
    assert!(config(2).enable());
    // Another period from here on.
    let start = time::reference();
    set_count(2, 10 * MILLISECOND);
    interrupt_window();
    let before = taken(DIRECT);
    assert!(with_interrupts(PATIENCE, || taken(DIRECT) >= before + 2));
    assert!(time::reference() >= start + 20 * MILLISECOND, "too fast");
    set_count(2, 0);
    assert!(!config(2).enable(), "no count, no timer");
    interrupt_window();
    let before = taken(DIRECT);
    assert!(!with_interrupts(20_000, || taken(DIRECT) != before));
    reset(2);
}

fn automatic() {
    let before = taken(DIRECT);
    let asleep = direct().with_enable(false).with_auto_enable(true);
    set_config(3, asleep);
    assert!(!config(3).enable());
    for round in 1..=3 {
        set_count(3, time::reference() + MILLISECOND);
        await_taken(DIRECT, before + round);
        assert!(!config(3).enable());
    }
    // Without that bit it stays as it is.
    set_config(3, direct().with_enable(false));
    set_count(3, time::reference());
    assert!(!with_interrupts(5_000, || taken(DIRECT) != before + 3));
    reset(3);
}

fn without_count() {
    let before = taken(DIRECT);
    set_count(0, 0);
    set_config(0, direct());
    assert!(!with_interrupts(5_000, || taken(DIRECT) != before));
    reset(0);
}

fn all() {
    let vectors = DIRECT..DIRECT + 4;
    let before: [u64; 4] = core::array::from_fn(|timer| taken(DIRECT + timer as u8));
    let due = time::reference() + 2 * MILLISECOND;
    for (timer, vector) in (0..).zip(vectors.clone()) {
        set_config(timer, direct().with_apic_vector(vector));
        set_count(timer, due);
    }
    for (vector, before) in vectors.zip(before) {
        await_taken(vector, before + 1);
    }
    (0..4).for_each(reset);
}

fn asleep() {
    let before = taken(DIRECT);
    set_config(0, direct());
    set_count(0, time::reference() + 3 * MILLISECOND);
    while taken(DIRECT) == before {
        wait_for_interrupt();
    }
    reset(0);
}

fn impossible() {
    for bits in [1 << 13, 1 << 15, 1 << 20, 1 << 63] {
        refused(HV_X64_MSR_STIMER0_CONFIG, bits);
    }
    // Message mode needs a SINT that messages can go to: it is not enabled, and that is no fault.
    set_config(0, HvStimerConfig::new().with_enable(true));
    assert!(!config(0).enable());
    reset(0);
}
