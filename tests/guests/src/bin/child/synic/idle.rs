//! Sleeping by GUEST_IDLE, which an interrupt ends that the VP does not take (guest sheet 4.11). Linux waits so for a spin lock,
//! in its handlers too.

use core::sync::atomic::{AtomicU64, Ordering};

use guests::metal::apic::register::IRR;
use guests::metal::cell::Pages;
use guests::metal::cpu::{interrupt_window, rdmsr, wait_for_interrupt};
use guests::metal::trap::{self, Frame, Handler, set_handler};
use guests::metal::{apic, startup, test, time};
use tlfs::HV_X64_MSR_GUEST_IDLE;

use crate::timers::{MILLISECOND, direct, reset, set_config, set_count};
use crate::{DIRECT, PATIENCE, taken};

/// Whose handler waits, and what tells it to go on: of one class.
const WAIT: u8 = 0xF3;
const KICK: u8 = 0xF7;

static STACK: Pages<0x4000> = Pages::new();
/// How far the other one is.
static STEP: AtomicU64 = AtomicU64::new(0);

mod step {
    pub const READY: u64 = 1;
    pub const WAITS: u64 = 2;
    pub const WENT_ON: u64 = 3;
    pub const KICKED: u64 = 4;
}

pub fn tests() {
    test("idle ends with an interrupt that is not taken", masked);
    test("idle does not begin with one pending", pending);
    set_handler(WAIT, Some(wait as Handler));
    set_handler(KICK, Some(kicked as Handler));
    startup::install(arrive);
    startup::start(1, STACK.end());
    await_step(step::READY);
    for _ in 0..5 {
        test("idle in a handler ends with one of its class", in_handler);
    }
}

fn idle() {
    rdmsr(HV_X64_MSR_GUEST_IDLE).expect("GUEST_IDLE");
}

/// Interrupts are off in the payload but where it says so.
fn masked() {
    let before = taken(DIRECT);
    set_config(0, direct());
    let due = time::reference() + 5 * MILLISECOND;
    set_count(0, due);
    while !apic::has(IRR, DIRECT) {
        idle();
    }
    assert!(time::reference() >= due);
    assert_eq!(taken(DIRECT), before);
    interrupt_window();
    assert_eq!(taken(DIRECT), before + 1);
    reset(0);
}

fn pending() {
    let before = taken(DIRECT);
    apic::self_ipi(DIRECT);
    idle();
    interrupt_window();
    assert_eq!(taken(DIRECT), before + 1);
}

#[track_caller]
fn await_step(step: u64) {
    let came = time::wait(PATIENCE, || STEP.load(Ordering::SeqCst) >= step);
    assert!(came, "step {} of {step}", STEP.load(Ordering::SeqCst));
}

extern "C" fn arrive(_: u64) -> ! {
    trap::load_idt();
    apic::enable();
    STEP.store(step::READY, Ordering::SeqCst);
    loop {
        wait_for_interrupt();
    }
}

fn wait(_: &mut Frame) {
    STEP.store(step::WAITS, Ordering::SeqCst);
    idle();
    STEP.store(step::WENT_ON, Ordering::SeqCst);
    apic::eoi();
}

fn kicked(_: &mut Frame) {
    STEP.store(step::KICKED, Ordering::SeqCst);
    apic::eoi();
}

fn in_handler() {
    STEP.store(step::READY, Ordering::SeqCst);
    apic::command(1, apic::ASSERT | u64::from(WAIT));
    await_step(step::WAITS);
    // It sleeps by now, and nothing else wakes it.
    let alone = time::wait(3_000, || STEP.load(Ordering::SeqCst) != step::WAITS);
    assert!(!alone, "it did not wait");
    apic::command(1, apic::ASSERT | u64::from(KICK));
    await_step(step::KICKED);
}
