//! The virtual local APIC in xAPIC mode: its page by every form of MOV, interrupts, timer, another processor, and the way to
//! x2APIC mode. Needs two processors, and `apic = "xapic"`.
#![no_std]
#![no_main]

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use guests::metal::cell::Pages;
use guests::metal::cpu::{
    disable_interrupts, enable_interrupts, interrupt_window, rdmsr, wait_for_interrupt, wrmsr,
};
use guests::metal::trap::{self, Frame, Handler, set_handler};
use guests::metal::{Boot, apic, startup, test, time};
use guests::{child, println};
use tlfs::{HV_X64_MSR_EOI, HV_X64_MSR_ICR, HV_X64_MSR_TPR};

child!(main);

const PAGE: u64 = 0xFEE0_0000;
/// APIC base: enabled, of the bootstrap processor.
const XAPIC: u64 = PAGE | 0x900;
/// In x2APIC mode besides.
const X2APIC: u64 = PAGE | 0xD00;

/// Registers, by their offset in the page.
mod offset {
    pub const ID: u64 = 0x20;
    pub const VERSION: u64 = 0x30;
    pub const TPR: u64 = 0x80;
    pub const EOI: u64 = 0xB0;
    pub const LDR: u64 = 0xD0;
    pub const DFR: u64 = 0xE0;
    pub const SVR: u64 = 0xF0;
    pub const ESR: u64 = 0x280;
    pub const ICR: u64 = 0x300;
    pub const DESTINATION: u64 = 0x310;
    pub const LVT_TIMER: u64 = 0x320;
    pub const INITIAL_COUNT: u64 = 0x380;
    pub const CURRENT_COUNT: u64 = 0x390;
    pub const DIVIDE: u64 = 0x3E0;
}

const CALL: u8 = 0x40;
const TIMER: u8 = 0x50;
const SECOND: u64 = 1_000_000;
/// ICR: the destination is logical; to the sender; to all but the sender.
const LOGICAL: u32 = 1 << 11;
const SELF: u32 = 1 << 18;
const OTHERS: u32 = 3 << 18;

static STACK: Pages<0x4000> = Pages::new();
static ARRIVED: AtomicU64 = AtomicU64::new(0);
/// Interrupts that each processor has taken under [`CALL`], and those of the timer.
static CALLS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static TICKS: AtomicU64 = AtomicU64::new(0);

fn read(offset: u64) -> u32 {
    let value;
    // SAFETY: see the module `metal`.
    unsafe { asm!("mov {:e}, [{}]", out(reg) value, in(reg) PAGE + offset, options(nostack)) };
    value
}

fn write(offset: u64, value: u32) {
    // SAFETY: see the module `metal`.
    unsafe { asm!("mov [{}], {:e}", in(reg) PAGE + offset, in(reg) value, options(nostack)) };
}

fn end() {
    write(offset::EOI, 0);
}

fn send(destination: u32, command: u32) {
    write(offset::DESTINATION, destination << 24);
    write(offset::ICR, command);
}

fn switch_on() {
    write(offset::SVR, 0x1FF);
    write(offset::TPR, 0);
}

/// This processor's number. The page is there in xAPIC mode only, and the others stay in it.
fn number() -> usize {
    if rdmsr(apic::APIC_BASE).is_ok_and(|base| base & 0x400 != 0) {
        return 0;
    }
    (read(offset::ID) >> 24) as usize
}

fn called(_: &mut Frame) {
    CALLS[number() % 2].fetch_add(1, Ordering::SeqCst);
    end();
}

fn ticked(_: &mut Frame) {
    TICKS.fetch_add(1, Ordering::SeqCst);
    end();
}

fn calls(number: usize) -> u64 {
    CALLS[number].load(Ordering::SeqCst)
}

fn main(_: &Boot) {
    set_handler(CALL, Some(called as Handler));
    set_handler(TIMER, Some(ticked as Handler));
    startup::install(arrive);
    test("starts in xapic mode", identity);
    switch_on();
    test("every form of mov", forms);
    test("registers that are not there", absent);
    test("interrupts to itself", to_itself);
    test("the timer", timer);
    test("hyper-v's msrs", synthetic);
    test("another processor", another);
    test("logical destinations", logical);
    test("x2apic mode and back", modes);
}

fn identity() {
    assert_eq!(rdmsr(apic::APIC_BASE), Ok(XAPIC));
    let (id, version) = (read(offset::ID), read(offset::VERSION));
    println!("APIC id {:#x}, version {version:#x}", id >> 24);
    assert_eq!(id, 0);
    assert!(version & 0xFF >= 0x10 && version >> 16 & 0xFF >= 5);
    assert_eq!((read(offset::LDR), read(offset::DFR)), (0, u32::MAX));
    expect_fault(rdmsr(apic::register::ID).map(drop));
    expect_fault(wrmsr(apic::register::EOI, 0));
    // The page does not move, and there is no such mode.
    expect_fault(wrmsr(apic::APIC_BASE, XAPIC + 0x1000));
    expect_fault(wrmsr(apic::APIC_BASE, XAPIC ^ 0xC00));
}

#[track_caller]
fn expect_fault(result: Result<(), trap::Fault>) {
    trap::expect_protection("an access", result);
}

/// Each form writes another task priority, or reads it.
fn forms() {
    const TPR: u64 = PAGE + offset::TPR;
    let check = |value: u64, form: &str| assert_eq!(value, 0x30, "{form}");
    let store = |form: &str, value: u32| assert_eq!(read(offset::TPR), value, "{form}");
    // SAFETY: see the module `metal`; each accesses the task priority, and nothing else.
    unsafe {
        asm!("mov dword ptr [{}], 0x10", in(reg) TPR, options(nostack));
        store("number", 0x10);
        asm!("mov dword ptr [{} + rcx * 8 + 0x40], 0x20", in(reg) PAGE, in("rcx") 8, options(nostack));
        store("number, with index", 0x20);
        asm!("mov [r13], r14d", in("r13") TPR, in("r14") 0x40, options(nostack));
        store("from R14", 0x40);
        asm!("movabs [{page}], eax", page = const TPR, in("eax") 0x50, options(nostack));
        store("to an address in the instruction", 0x50);
        asm!("mov [{:e}], {:e}", in(reg) TPR, in(reg) 0x60, options(nostack));
        store("by a 32-bit address", 0x60);
        asm!("mov gs:[{}], {:e}", in(reg) TPR - gs_base(), in(reg) 0x30, options(nostack));
        store("by GS", 0x30);
        let mut value: u64;
        asm!("mov eax, [{}]", in(reg) TPR, inout("rax") u64::MAX => value, options(nostack));
        check(value, "to RAX");
        asm!("mov r9d, [r12]", in("r12") TPR, inout("r9") u64::MAX => value, options(nostack));
        check(value, "to R9");
        asm!("movabs eax, [{page}]", page = const TPR, inout("rax") u64::MAX => value, options(nostack));
        check(value, "from an address in the instruction");
    }
    write(offset::TPR, 0);
}

fn gs_base() -> u64 {
    rdmsr(0xC000_0101).expect("GS base")
}

/// Errors up to now, which are then forgotten.
fn errors() -> u32 {
    write(offset::ESR, 0);
    let errors = read(offset::ESR);
    write(offset::ESR, 0);
    errors
}

fn absent() {
    assert_eq!(errors(), 0);
    assert_eq!(read(0x40), 0);
    assert_eq!(errors(), 0x80, "illegal register");
    write(0x3F0, u32::from(CALL));
    assert_eq!(errors(), 0x80, "the self IPI register is the x2APIC's");
    write(offset::VERSION, 0);
    assert_eq!(errors(), 0, "read-only ones are none");
    interrupt_window();
    assert_eq!(calls(0), 0);
}

fn to_itself() {
    let sends: [(u32, u32); 4] = [
        (0, u32::from(CALL)),
        (0xFF, u32::from(CALL) | SELF),
        (0x80, u32::from(CALL) | LOGICAL),
        (0xFF, u32::from(CALL)),
    ];
    write(offset::LDR, 0x8000_0000);
    for (before, (destination, command)) in (calls(0)..).zip(sends) {
        send(destination, command);
        interrupt_window();
        assert_eq!(calls(0), before + 1, "{destination:#x} {command:#x}");
    }
    // To nobody.
    let before = calls(0);
    send(0x40, u32::from(CALL) | LOGICAL);
    send(9, u32::from(CALL));
    send(0, u32::from(CALL) | OTHERS);
    interrupt_window();
    assert_eq!((calls(0), errors()), (before, 0));
}

fn timer() {
    let micros = 2_000;
    let count = (time::apic_hz() * micros / SECOND) as u32;
    let start = time::reference();
    write(offset::DIVIDE, apic::DIVIDE_BY_1 as u32);
    write(offset::LVT_TIMER, u32::from(TIMER));
    write(offset::INITIAL_COUNT, count);
    assert!(read(offset::CURRENT_COUNT) <= count);
    enable_interrupts();
    let came = time::wait(2 * SECOND, || TICKS.load(Ordering::SeqCst) != 0);
    disable_interrupts();
    let took = (time::reference() - start) / 10;
    assert!(came && took >= micros, "{took} us");
    // Asleep, and again and again.
    write(offset::LVT_TIMER, apic::PERIODIC as u32 | u32::from(TIMER));
    write(offset::INITIAL_COUNT, count);
    while TICKS.load(Ordering::SeqCst) < 5 {
        wait_for_interrupt();
    }
    write(offset::INITIAL_COUNT, 0);
    assert_eq!(read(offset::CURRENT_COUNT), 0);
    interrupt_window();
}

fn synthetic() {
    fn ended_by_msr(_: &mut Frame) {
        CALLS[0].fetch_add(1, Ordering::SeqCst);
        wrmsr(HV_X64_MSR_EOI, 0).expect("EOI");
    }
    set_handler(CALL, Some(ended_by_msr as Handler));
    let before = calls(0);
    for _ in 0..2 {
        wrmsr(HV_X64_MSR_ICR, u64::from(CALL)).expect("ICR");
        interrupt_window();
    }
    assert_eq!(calls(0), before + 2);
    wrmsr(HV_X64_MSR_TPR, 0x70).expect("TPR");
    assert_eq!(read(offset::TPR), 0x70);
    write(offset::TPR, 0);
    set_handler(CALL, Some(called as Handler));
}

/// Where the other one arrives.
extern "C" fn arrive(number: u64) -> ! {
    trap::load_idt();
    assert_eq!(rdmsr(apic::APIC_BASE), Ok(XAPIC & !0x100));
    assert_eq!(u64::from(read(offset::ID) >> 24), number);
    switch_on();
    write(offset::LDR, 0x0200_0000);
    ARRIVED.store(number, Ordering::SeqCst);
    loop {
        wait_for_interrupt();
    }
}

fn another() {
    startup::prepare(1, STACK.end());
    send(1, apic::INIT as u32);
    send(1, apic::STARTUP as u32 | (startup::START >> 12) as u32);
    let arrived = || ARRIVED.load(Ordering::SeqCst) == 1;
    assert!(time::wait(30 * SECOND, arrived), "it does not start");
    call_other(1, u32::from(CALL));
    call_other(0, u32::from(CALL) | OTHERS);
}

/// A command reaches the other one, and not this one.
#[track_caller]
fn call_other(destination: u32, command: u32) {
    let before = (calls(0), calls(1));
    send(destination, command);
    let came = time::wait(30 * SECOND, || calls(1) == before.1 + 1);
    interrupt_window();
    assert!(came, "{destination:#x} {command:#x}");
    assert_eq!(calls(0), before.0, "{destination:#x} {command:#x}");
}

fn logical() {
    // Flat: this one has bit 7, the other one bit 1.
    call_other(0x02, u32::from(CALL) | LOGICAL);
    call_other(0x7F, u32::from(CALL) | LOGICAL);
    let before = (calls(0), calls(1));
    send(0x82, u32::from(CALL) | LOGICAL);
    interrupt_window();
    let both = || (calls(0), calls(1)) == (before.0 + 1, before.1 + 1);
    assert!(time::wait(30 * SECOND, both));
}

fn modes() {
    let id = read(offset::ID) >> 24;
    wrmsr(apic::APIC_BASE, X2APIC).expect("x2APIC mode");
    assert_eq!(apic::read(apic::register::ID), u64::from(id));
    assert_eq!(apic::read(apic::register::SVR), 0x1FF, "the state is kept");
    assert_eq!(apic::read(apic::register::LDR), 1, "that of its id");
    fn by_msr(_: &mut Frame) {
        CALLS[0].fetch_add(1, Ordering::SeqCst);
        apic::eoi();
    }
    set_handler(CALL, Some(by_msr as Handler));
    let before = calls(0);
    apic::self_ipi(CALL);
    interrupt_window();
    assert_eq!(calls(0), before + 1);
    expect_fault(wrmsr(apic::APIC_BASE, XAPIC));
    wrmsr(apic::APIC_BASE, PAGE | 0x100).expect("off");
    expect_fault(wrmsr(apic::APIC_BASE, X2APIC));
    wrmsr(apic::APIC_BASE, XAPIC).expect("xAPIC mode");
    assert_eq!(read(offset::SVR), 0xFF, "its state is lost");
    set_handler(CALL, None);
    println!("x2APIC mode and back");
}
