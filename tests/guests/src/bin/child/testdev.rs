//! The device of the field's Hyper-V guest tests, which a VM has by `hyperv_testdev = true`: SINTs that it raises, messages and
//! events that come back, and what it refuses. Needs one processor.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering};

use guests::child;
use guests::metal::apic::register::ISR;
use guests::metal::cell::Pages;
use guests::metal::cpu::{
    disable_interrupts, enable_interrupts, inb, inl, interrupt_window, outb, outl, outw, write_msr,
};
use guests::metal::slot::Slot;
use guests::metal::trap::{Frame, Handler, set_handler};
use guests::metal::{Boot, apic, hypercall, memory, test, time};
use tlfs::{
    HV_X64_MSR_EOM, HV_X64_MSR_SCONTROL, HV_X64_MSR_SIEFP, HV_X64_MSR_SIMP, HV_X64_MSR_SINT0,
    HvCallCode, HvHypercallInput, HvMessageType, HvStatus, HvSynicSint,
};

child!(main);

/// The device.
const PORT: u16 = 0x3000;
/// What it does.
const ROUTE_CREATE: u32 = 1;
const ROUTE_DESTROY: u32 = 2;
const RAISE: u32 = 3;
const MESSAGE_CREATE: u32 = 4;
const MESSAGE_DESTROY: u32 = 5;
const EVENT_CREATE: u32 = 6;
const EVENT_DESTROY: u32 = 7;

/// The SINTs that the tests use, and their vectors: each of a class of its own.
const SINT: u32 = 8;
const OTHER: u32 = 9;
const VECTOR: u8 = 0x51;
const OTHER_VECTOR: u8 = 0x61;
/// The one connection id, for messages and for events.
const ID: u32 = 0x10;
const TYPE: u32 = 0x1234;

/// Microseconds that anything may take in an emulator on a busy machine, and that something is given that must not come.
const PATIENCE: u64 = 20_000_000;
const QUIET: u64 = 3_000;

static MESSAGES: Pages<4096> = Pages::new();
static FLAGS: Pages<4096> = Pages::new();
/// Interrupts taken.
static TAKEN: AtomicU64 = AtomicU64::new(0);

fn main(_: &Boot) {
    apic::enable();
    for vector in [VECTOR, OTHER_VECTOR] {
        set_handler(vector, Some(take as Handler));
    }
    write_msr(HV_X64_MSR_SCONTROL, 1);
    test("a route raises its sint", raised);
    test("a sint that is masked is not raised", masked);
    test("an automatic eoi is none to do", automatic);
    write_msr(HV_X64_MSR_SIMP, MESSAGES.gpa() | 1);
    write_msr(HV_X64_MSR_SIEFP, FLAGS.gpa() | 1);
    test("a message comes back", message);
    test("a full slot keeps one message waiting", busy);
    test("an event comes back once", event);
    test("what is not there is refused", refused);
    test("a synic that is off takes nothing", off);
    test("the device is four bytes wide", width);
}

/// Counts an interrupt. Each test ends what is to be ended.
fn take(_: &mut Frame) {
    TAKEN.fetch_add(1, Ordering::SeqCst);
}

fn taken() -> u64 {
    TAKEN.load(Ordering::SeqCst)
}

/// Takes interrupts until there have been so many, and ends the last one.
#[track_caller]
fn await_taken(count: u64) {
    enable_interrupts();
    let came = time::wait(PATIENCE, || taken() >= count);
    disable_interrupts();
    assert!(came, "{} of {count} interrupts", taken());
    assert_eq!(taken(), count);
    apic::eoi();
}

/// Makes sure that no interrupt comes.
#[track_caller]
fn none_come() {
    let before = taken();
    enable_interrupts();
    let came = time::wait(QUIET, || taken() != before);
    disable_interrupts();
    assert!(!came, "an interrupt");
}

fn open(sint: u32, how: HvSynicSint) {
    write_msr(HV_X64_MSR_SINT0 + sint, how.into_bits());
}

fn plain(vector: u8) -> HvSynicSint {
    HvSynicSint::new().with_vector(vector)
}

/// A control word, for VP 0.
fn control(what: u32, sint: u32, id: u32) {
    outl(PORT, id << 24 | what << 16 | sint);
}

/// HvCallPostMessage with eight bytes.
fn post(id: u32, value: u64) -> HvStatus {
    let mut input = [0; 256];
    for (place, word) in input.chunks_exact_mut(4).zip([id, 0, TYPE, 8]) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    input[16..24].copy_from_slice(&value.to_le_bytes());
    let control = HvHypercallInput::simple(HvCallCode::POST_MESSAGE);
    hypercall::call(control, &input, &mut []).call_status()
}

fn signal(id: u32, flag: u64) -> HvStatus {
    hypercall::fast(HvCallCode::SIGNAL_EVENT, [flag << 32 | u64::from(id), 0])
}

fn slot() -> Slot {
    Slot::of(&MESSAGES, SINT)
}

/// The value of the message in the slot, if there is one, and whether another one waits.
fn arrived() -> Option<(u64, bool)> {
    let slot = slot();
    let kind = slot.kind();
    if kind == HvMessageType::NONE {
        return None;
    }
    assert_eq!(kind, HvMessageType(TYPE));
    assert_eq!(slot.size(), 8, "its size");
    Some((slot.payload(0), slot.is_pending()))
}

/// Empties the slot and says so.
fn empty() {
    slot().empty();
    write_msr(HV_X64_MSR_EOM, 0);
}

fn raised() {
    control(RAISE, SINT, 0);
    open(SINT, plain(VECTOR));
    none_come();
    control(ROUTE_CREATE, SINT, 0);
    for _ in 0..3 {
        let before = taken();
        control(RAISE, SINT, 0);
        await_taken(before + 1);
    }
    control(RAISE, OTHER, 0);
    none_come();
    control(ROUTE_DESTROY, SINT, 0);
    control(RAISE, SINT, 0);
    none_come();
}

fn masked() {
    control(ROUTE_CREATE, SINT, 0);
    for how in [
        plain(VECTOR).with_masked(true),
        plain(VECTOR).with_polling(true),
    ] {
        open(SINT, how);
        control(RAISE, SINT, 0);
        none_come();
    }
    control(ROUTE_DESTROY, SINT, 0);
}

fn automatic() {
    control(ROUTE_CREATE, SINT, 0);
    open(SINT, plain(VECTOR).with_auto_eoi(true));
    let before = taken();
    for round in 1..=2 {
        control(RAISE, SINT, 0);
        enable_interrupts();
        let came = time::wait(PATIENCE, || taken() == before + round);
        disable_interrupts();
        assert!(came);
        assert!(!apic::has(ISR, VECTOR), "it has ended itself");
    }
    control(ROUTE_DESTROY, SINT, 0);
    open(SINT, HvSynicSint::RESET);
}

fn message() {
    control(MESSAGE_CREATE, SINT, ID);
    open(SINT, plain(VECTOR));
    let before = taken();
    for (round, value) in (1..).zip([0x55, u64::MAX]) {
        assert_eq!(post(ID, value), HvStatus::SUCCESS);
        await_taken(before + round);
        assert_eq!(arrived(), Some((value, false)));
        empty();
    }
    assert_eq!(arrived(), None);
}

fn busy() {
    let before = taken();
    assert_eq!(post(ID, 1), HvStatus::SUCCESS);
    await_taken(before + 1);
    assert_eq!(post(ID, 2), HvStatus::SUCCESS);
    assert_eq!(post(ID, 3), HvStatus::INSUFFICIENT_BUFFERS);
    none_come();
    assert_eq!(arrived(), Some((1, true)));
    empty();
    await_taken(before + 2);
    assert_eq!(arrived(), Some((2, false)));
    empty();
    assert_eq!(arrived(), None);
    control(MESSAGE_DESTROY, 0, ID);
    assert_eq!(post(ID, 4), HvStatus::INVALID_CONNECTION_ID);
}

fn event() {
    control(EVENT_CREATE, OTHER, ID);
    open(OTHER, plain(OTHER_VECTOR));
    let flags = FLAGS.gpa() + u64::from(OTHER) * 256;
    let before = taken();
    assert_eq!(signal(ID, 0), HvStatus::SUCCESS);
    await_taken(before + 1);
    assert_eq!(memory::read::<u64>(flags), 1 << ID);
    // It is set already: nobody is told again.
    assert_eq!(signal(ID, 0), HvStatus::SUCCESS);
    none_come();
    memory::write(flags, 0_u64);
    assert_eq!(signal(ID, 0), HvStatus::SUCCESS);
    await_taken(before + 2);
    assert_eq!(signal(ID, 1), HvStatus::INVALID_PORT_ID);
    assert_eq!(post(ID, 0), HvStatus::INVALID_CONNECTION_ID, "for events");
    control(EVENT_DESTROY, 0, ID);
    assert_eq!(signal(ID, 0), HvStatus::INVALID_CONNECTION_ID);
}

fn refused() {
    // A VP and a SINT that there are not, and words without a meaning.
    outl(PORT, ID << 24 | MESSAGE_CREATE << 16 | 1 << 8 | SINT);
    control(MESSAGE_CREATE, 16, ID);
    control(EVENT_CREATE, 255, ID);
    for what in [0, 8, 255] {
        control(what, SINT, ID);
    }
    assert_eq!(post(ID, 0), HvStatus::INVALID_CONNECTION_ID);
    for id in [ID, 0x1234, 0xFF_FFFF] {
        assert_eq!(signal(id, 0), HvStatus::INVALID_CONNECTION_ID);
    }
    // The first one made is the one that counts.
    control(MESSAGE_CREATE, SINT, ID);
    control(MESSAGE_CREATE, OTHER, ID);
    let before = taken();
    assert_eq!(post(ID, 5), HvStatus::SUCCESS);
    await_taken(before + 1);
    assert_eq!(arrived(), Some((5, false)));
    empty();
}

fn off() {
    write_msr(HV_X64_MSR_SCONTROL, 0);
    assert_eq!(post(ID, 6), HvStatus::INVALID_SYNIC_STATE);
    control(EVENT_CREATE, OTHER, ID);
    assert_eq!(signal(ID, 0), HvStatus::INVALID_SYNIC_STATE);
    control(ROUTE_CREATE, SINT, 0);
    control(RAISE, SINT, 0);
    none_come();
    write_msr(HV_X64_MSR_SCONTROL, 1);
    none_come();
    assert_eq!(arrived(), None);
}

fn width() {
    assert_eq!((inl(PORT), inb(PORT)), (0, 0xFF));
    outb(PORT + 2, RAISE as u8);
    outw(PORT, SINT as u16);
    interrupt_window();
    none_come();
}
