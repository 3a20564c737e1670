//! A VM's other processors: started one by one, called by interrupts, all at work at once, stopped and started anew.
//!
//! There are `processors=N` in all. At the end the others go on, each in its way, so that a VM that ends then, or waits for
//! it, has processors in all conditions.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering};

use guests::child;
use guests::metal::cell::Pages;
use guests::metal::cpu::{
    cpuid, disable_interrupts, enable_interrupts, outb, rdmsr, wait_for_interrupt,
};
use guests::metal::trap::{self, Handler, set_handler};
use guests::metal::{Boot, apic, startup, test, time};
use tlfs::HV_X64_MSR_VP_INDEX;

child!(main);

/// Most processors of a VM.
const MOST: usize = 16;
/// Vector that calls the others to their task, vector by which the last one of a lap tells the first one, and timer.
const CALL: u8 = 0x40;
const BACK: u8 = 0x50;
const TIMER: u8 = 0x60;
/// ICR: to all but the sender.
const OTHERS: u64 = 3 << 18;
const SECOND: u64 = 1_000_000;
/// How often each one adds to the sum, and how many laps the call makes.
const ROUNDS: u64 = 20;
const LAPS: u64 = 20;

static STACKS: [Pages<0x4000>; MOST] = [const { Pages::new() }; MOST];
static COUNT: AtomicU64 = AtomicU64::new(1);
static ARRIVED: AtomicU64 = AtomicU64::new(0);
static TASK: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);
static SUM: AtomicU64 = AtomicU64::new(0);
static CAME_BACK: AtomicU64 = AtomicU64::new(0);

/// What those do who are called.
mod task {
    /// Calls the next one.
    pub const PASS_ON: u64 = 1;
    /// Adds to the sum, with exits in between.
    pub const ADD: u64 = 2;
    /// Goes on for good.
    pub const GO_ON: u64 = 3;
}

fn main(boot: &Boot) {
    let count = boot.number("processors").unwrap_or(1);
    assert!((1..=MOST as u64).contains(&count), "{count} processors");
    COUNT.store(count, Ordering::SeqCst);
    set_handler(CALL, Some((|_| apic::eoi()) as Handler));
    set_handler(TIMER, Some((|_| apic::eoi()) as Handler));
    set_handler(BACK, Some(came_back as Handler));
    apic::enable();
    startup::install(arrive);
    test("as many processors as the command line says", || {
        assert_eq!(u64::from(cpuid(0xB, 1).ebx), count);
    });
    test("the others start", || (1..count).for_each(start));
    test("a call makes its laps", laps);
    test("all add at once", add);
    if count > 1 {
        test("one is stopped, and starts anew", anew);
    }
    call_all(task::GO_ON);
    test("the others have their last task", || wait_done(count - 1));
}

/// Starts one and waits for it.
fn start(number: u64) {
    let before = ARRIVED.load(Ordering::SeqCst);
    startup::start(number, STACKS[number as usize].end());
    let arrived = || ARRIVED.load(Ordering::SeqCst) > before;
    assert!(time::wait(30 * SECOND, arrived), "{number} does not start");
}

/// Where one arrives that was started.
extern "C" fn arrive(number: u64) -> ! {
    trap::load_idt();
    apic::enable();
    assert_eq!(apic::read(apic::register::ID), number, "APIC id");
    assert_eq!(rdmsr(HV_X64_MSR_VP_INDEX), Ok(number), "VP index");
    ARRIVED.fetch_add(1, Ordering::SeqCst);
    loop {
        wait_for_interrupt();
        match TASK.load(Ordering::SeqCst) {
            task::PASS_ON => pass_on(number),
            task::ADD => {
                exits_and_sums();
                DONE.fetch_add(1, Ordering::SeqCst);
            }
            task::GO_ON => {
                DONE.fetch_add(1, Ordering::SeqCst);
                go_on(number);
            }
            other => panic!("task {other}"),
        }
    }
}

fn call(number: u64, vector: u8) {
    apic::command(number, apic::ASSERT | u64::from(vector));
}

fn call_all(task: u64) {
    DONE.store(0, Ordering::SeqCst);
    TASK.store(task, Ordering::SeqCst);
    apic::command(0, OTHERS | apic::ASSERT | u64::from(CALL));
}

fn wait_done(count: u64) {
    let done = || DONE.load(Ordering::SeqCst) == count;
    let all = time::wait(60 * SECOND, done);
    assert!(all, "{} of {count}", DONE.load(Ordering::SeqCst));
}

/// The one behind the last one is the first one again.
fn pass_on(number: u64) {
    if number + 1 == COUNT.load(Ordering::SeqCst) {
        call(0, BACK);
    } else {
        call(number + 1, CALL);
    }
}

fn came_back(_: &mut trap::Frame) {
    CAME_BACK.fetch_add(1, Ordering::SeqCst);
    apic::eoi();
}

/// Each processor sleeps until it is called; the first one every other time.
fn laps() {
    TASK.store(task::PASS_ON, Ordering::SeqCst);
    for lap in 1..=LAPS {
        let is_back = || CAME_BACK.load(Ordering::SeqCst) == lap;
        pass_on(0);
        if lap % 2 == 0 {
            while !is_back() {
                wait_for_interrupt();
            }
        }
        enable_interrupts();
        assert!(time::wait(30 * SECOND, is_back), "lap {lap}");
        disable_interrupts();
    }
}

/// Exits that the hypervisor serves and exits that the worker serves.
fn exits_and_sums() {
    for round in 0..ROUNDS {
        cpuid(0, 0);
        outb(0x80, round as u8);
        SUM.fetch_add(1, Ordering::SeqCst);
    }
}

fn add() {
    let count = COUNT.load(Ordering::SeqCst);
    call_all(task::ADD);
    exits_and_sums();
    wait_done(count - 1);
    assert_eq!(SUM.load(Ordering::SeqCst), count * ROUNDS);
}

fn anew() {
    startup::stop(1);
    TASK.store(task::ADD, Ordering::SeqCst);
    DONE.store(0, Ordering::SeqCst);
    call(1, CALL);
    let runs = time::wait(SECOND / 20, || DONE.load(Ordering::SeqCst) != 0);
    assert!(!runs, "it runs after INIT");
    start(1);
    call(1, CALL);
    wait_done(1);
}

/// With exits, without any, or mostly asleep.
fn go_on(number: u64) -> ! {
    enable_interrupts();
    match number % 3 {
        1 => loop {
            cpuid(0, 0);
            outb(0x80, number as u8);
        },
        2 => loop {
            core::hint::spin_loop();
        },
        _ => loop {
            apic::start_timer(u64::from(TIMER), (time::apic_hz() / 1_000) as u32);
            wait_for_interrupt();
        },
    }
}
