//! What a VM has for messages and time: the SynIC with its SINTs, synthetic timers in every mode, sleeping by GUEST_IDLE, and
//! interrupts that need no EOI. Needs two processors.
#![no_std]
#![no_main]

mod assist;
mod idle;
mod page;
mod sints;
mod timers;

use core::sync::atomic::{AtomicU64, Ordering};

use guests::child;
use guests::metal::cpu::{disable_interrupts, enable_interrupts, read_msr, wrmsr};
use guests::metal::trap::{Frame, Handler, expect_protection, set_handler};
use guests::metal::{Boot, apic, test, time};

child!(main);

/// Microseconds.
const SECOND: u64 = 1_000_000;
/// How long anything may take, in an emulator on a busy machine.
const PATIENCE: u64 = 20 * SECOND;
/// Vector of a timer in direct mode (the first of four where there are several), and of the two SINTs that the tests use:
/// each of a class of its own.
const DIRECT: u8 = 0x41;
const FIRST: u8 = 0x51;
const SECOND_SINT: u8 = 0x61;

/// Interrupts taken, by vector.
static TAKEN: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];

fn main(_: &Boot) {
    apic::enable();
    for vector in (DIRECT..DIRECT + 4).chain([FIRST, SECOND_SINT]) {
        set_handler(vector, Some(take as Handler));
    }
    timers::tests();
    sints::tests();
    assist::tests();
    idle::tests();
    test("all is off again", || {
        for timer in 0..4 {
            assert_eq!(timers::config(timer).into_bits(), 0);
        }
    });
}

/// Counts an interrupt, and ends it.
fn take(frame: &mut Frame) {
    TAKEN[frame.vector as usize & 0xFF].fetch_add(1, Ordering::SeqCst);
    apic::eoi();
}

fn taken(vector: u8) -> u64 {
    TAKEN[usize::from(vector)].load(Ordering::SeqCst)
}

/// Takes interrupts until there have been so many of a vector.
#[track_caller]
fn await_taken(vector: u8, count: u64) {
    let came = with_interrupts(PATIENCE, || taken(vector) >= count);
    assert!(came, "{} of {count} at {vector:#x}", taken(vector));
    assert_eq!(taken(vector), count);
}

/// Takes interrupts until something is so, for so many microseconds at most.
fn with_interrupts(micros: u64, done: impl FnMut() -> bool) -> bool {
    enable_interrupts();
    let is_done = time::wait(micros, done);
    disable_interrupts();
    is_done
}

/// Waits as [`with_interrupts`] does, and takes none: the task priority holds them back.
///
/// With RFLAGS.IF clear it would be the same to any processor. Bochs does not look for interrupts of its host's at the entry to
/// a guest that takes none.
fn holding_back(micros: u64, done: impl FnMut() -> bool) -> bool {
    apic::write(apic::register::TPR, 0xF0);
    let is_done = with_interrupts(micros, done);
    apic::write(apic::register::TPR, 0);
    is_done
}

#[track_caller]
fn refused(msr: u32, value: u64) {
    let before = read_msr(msr);
    expect_protection(
        format_args!("{value:#x} in MSR {msr:#x}"),
        wrmsr(msr, value),
    );
    assert_eq!(read_msr(msr), before, "MSR {msr:#x} after {value:#x}");
}
