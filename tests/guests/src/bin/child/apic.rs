//! The virtual local APIC as its guest sees it: registers, priorities, timer, errors, NMI, and when interrupts come.
#![no_std]
#![no_main]

use guests::metal::apic::{self, DIVIDE_BY_1, MASKED, PERIODIC, SVR_ENABLE, register};
use guests::metal::cell::Global;
use guests::metal::cpu::{
    cpuid, disable_interrupts, enable_interrupts, interrupt_window, rdmsr, wait_for_interrupt,
};
use guests::metal::trap::{Frame, Handler, count, set_handler, vector};
use guests::metal::{Boot, test, time};
use guests::{child, read_cr, with_hypercall, write_cr};

child!(main);

/// What handlers wrote down, in order.
static LOG: Global<[u8; 16]> = Global::new([0; 16]);
static LOGGED: Global<usize> = Global::new(0);
/// RIP of the last interrupt.
static RIP: Global<u64> = Global::new(0);

const LOW: u8 = 0x40;
const MIDDLE: u8 = 0x90;
const HIGH: u8 = 0xA0;
const TIMER: u8 = 0x50;
const ERROR: u8 = 0x61;

fn note(vector: u64) {
    let (mut log, at) = (LOG.get(), LOGGED.get());
    if let Some(place) = log.get_mut(at) {
        *place = vector as u8;
    }
    LOG.set(log);
    LOGGED.set(at + 1);
}

fn take_log() -> ([u8; 16], usize) {
    (LOG.replace([0; 16]), LOGGED.replace(0))
}

/// Asserts what handlers wrote down since the last time.
#[track_caller]
fn expect_log(wanted: &[u8]) {
    let (log, count) = take_log();
    assert_eq!(count, wanted.len(), "{log:02x?}");
    assert_eq!(&log[..count.min(16)], wanted);
}

fn simple(frame: &mut Frame) {
    note(frame.vector);
    RIP.set(frame.rip);
    apic::eoi();
}

fn main(_: &Boot) {
    apic::enable();
    for vector in [LOW, MIDDLE, HIGH, TIMER, ERROR] {
        set_handler(vector, Some(simple as Handler));
    }
    test("identity", identity);
    test(
        "registers that are not there, read-only or reserved",
        illegal_registers,
    );
    test("every vector", every_vector);
    test("request, service, end", request_service_end);
    test("priorities", priorities);
    test("task priority and cr8", task_priority);
    test("nested interrupts", nested);
    test("illegal vectors and the error interrupt", errors);
    test("interrupt shadow", shadow);
    test("one-shot timer", one_shot);
    test("masked timer", masked_timer);
    test("periodic timer", periodic);
    test("divisors", divisors);
    test("halt until the timer", halt);
    test("nmi", nmi);
    test("software disable", software_disable);
}

fn identity() {
    assert!(apic::is_offered());
    let base = rdmsr(apic::APIC_BASE).expect("APIC base");
    assert_eq!(base & 0xD00, 0xD00, "bootstrap processor, x2APIC, enabled");
    let id = apic::read(register::ID);
    assert_eq!(id, u64::from(cpuid(0xB, 0).edx), "leaf 0xB");
    assert_eq!(id & 0xFF, u64::from(cpuid(1, 0).ebx >> 24), "leaf 1");
    assert_eq!(
        apic::read(register::LDR),
        id >> 4 << 16 | 1 << (id & 15),
        "logical id"
    );
    let version = apic::read(register::VERSION);
    assert!(
        version & 0xFF >= 0x10 && version >> 16 & 0xFF >= 5,
        "{version:#x}"
    );
}

#[track_caller]
fn expect_protection<T: core::fmt::Debug + Copy>(
    result: Result<T, guests::metal::trap::Fault>,
    what: &str,
    register: u32,
) {
    guests::metal::trap::expect_protection(format_args!("{what} {register:#x}"), result);
}

fn illegal_registers() {
    let absent = [
        0x800, 0x801, 0x804, 0x805, 0x806, 0x807, 0x809, 0x80C, 0x80E, 0x831,
    ]
    .into_iter()
    .chain(0x83A..=0x83D)
    .chain(0x840..=0x8FF)
    .chain(0x829..=0x82E);
    for register in absent {
        expect_protection(rdmsr(register), "reading", register);
        expect_protection(apic::try_write(register, 0), "writing", register);
    }
    let read_only = [
        register::ID,
        register::VERSION,
        register::PPR,
        register::LDR,
    ]
    .into_iter()
    .chain(register::ISR..register::ESR)
    .chain([register::CURRENT_COUNT]);
    for register in read_only {
        apic::read(register);
        expect_protection(apic::try_write(register, 0), "writing", register);
    }
    for register in [register::EOI, register::SELF_IPI] {
        expect_protection(rdmsr(register), "reading", register);
    }
    let reserved = [
        (register::TPR, 0x100),
        (register::TPR, 1 << 32),
        (register::EOI, 1),
        (register::ESR, 1),
        (register::SVR, 1 << 16),
        (register::ICR, 1 << 13),
        (register::ICR, 1 << 20),
        (register::LVT_TIMER, 1 << 19),
        (register::LVT_TIMER, 1 << 32),
        (register::LVT_ERROR, 1 << 17),
        (register::DIVIDE, 1 << 2),
        (register::DIVIDE, 1 << 4),
        (register::INITIAL_COUNT, 1 << 32),
        (register::SELF_IPI, 0x100),
        (apic::APIC_BASE, 1 << 60),
        // From x2APIC mode straight back to xAPIC mode.
        (apic::APIC_BASE, 0xFEE0_0900),
    ];
    for (register, value) in reserved {
        expect_protection(
            apic::try_write(register, value),
            "a reserved bit of",
            register,
        );
    }
    expect_log(&[]);
}

fn every_vector() {
    for vector in 32..=255u8 {
        set_handler(vector, Some(simple as Handler));
        let before = count(vector);
        apic::self_ipi(vector);
        interrupt_window();
        assert_eq!(count(vector), before + 1, "vector {vector:#x}");
        expect_log(&[vector]);
        assert!(!apic::has(register::ISR, vector) && !apic::has(register::IRR, vector));
    }
    for vector in 32..=255u8 {
        if ![LOW, MIDDLE, HIGH, TIMER, ERROR].contains(&vector) {
            set_handler(vector, None);
        }
    }
}

fn request_service_end() {
    apic::self_ipi(LOW);
    assert!(apic::has(register::IRR, LOW) && !apic::has(register::ISR, LOW));
    assert!(!apic::has(register::TMR, LOW), "edge triggered");
    expect_log(&[]);
    // A second request while the first one waits is the same request.
    apic::self_ipi(LOW);
    fn look(frame: &mut Frame) {
        let vector = frame.vector as u8;
        assert!(!apic::has(register::IRR, vector) && apic::has(register::ISR, vector));
        assert_eq!(apic::read(register::PPR) & 0xF0, u64::from(vector & 0xF0));
        // One that comes during service waits for its end.
        if LOGGED.get() == 0 {
            apic::self_ipi(vector);
            assert!(apic::has(register::IRR, vector));
        }
        simple(frame);
        assert!(!apic::has(register::ISR, vector));
        assert_eq!(apic::read(register::PPR), 0);
    }
    set_handler(LOW, Some(look as Handler));
    interrupt_window();
    interrupt_window();
    expect_log(&[LOW, LOW]);
    set_handler(LOW, Some(simple as Handler));
    // An EOI with nothing in service is nothing.
    apic::eoi();
}

fn priorities() {
    for vector in [LOW, HIGH, MIDDLE] {
        apic::self_ipi(vector);
    }
    interrupt_window();
    interrupt_window();
    interrupt_window();
    expect_log(&[HIGH, MIDDLE, LOW]);
}

fn task_priority() {
    apic::write(register::TPR, u64::from(MIDDLE));
    assert_eq!(read_cr!(8), u64::from(MIDDLE >> 4), "CR8 is the class");
    assert_eq!(apic::read(register::PPR), u64::from(MIDDLE));
    for vector in [LOW, MIDDLE, HIGH] {
        apic::self_ipi(vector);
    }
    interrupt_window();
    interrupt_window();
    expect_log(&[HIGH]);
    write_cr!(8, u64::from(MIDDLE >> 4) - 1).expect("CR8");
    assert_eq!(apic::read(register::TPR), u64::from(MIDDLE - 0x10));
    interrupt_window();
    expect_log(&[MIDDLE]);
    expect_protection(write_cr!(8, 16), "writing 16 to CR", 8);
    write_cr!(8, 0).expect("CR8");
    interrupt_window();
    expect_log(&[LOW]);
    assert_eq!(apic::read(register::TPR), 0);
}

/// In a handler with interrupts on, a higher class comes in and a lower or equal one waits for the EOI.
fn nested() {
    fn middle(frame: &mut Frame) {
        note(frame.vector);
        apic::self_ipi(MIDDLE + 1);
        apic::self_ipi(LOW);
        interrupt_window();
        apic::self_ipi(HIGH);
        interrupt_window();
        note(0);
        apic::eoi();
    }
    set_handler(MIDDLE, Some(middle as Handler));
    set_handler(MIDDLE + 1, Some(simple as Handler));
    apic::self_ipi(MIDDLE);
    interrupt_window();
    interrupt_window();
    interrupt_window();
    expect_log(&[MIDDLE, HIGH, 0, MIDDLE + 1, LOW]);
    set_handler(MIDDLE, Some(simple as Handler));
    set_handler(MIDDLE + 1, None);
}

/// Vectors below 16: noted in the ESR, and told by the error interrupt once until the ESR is written.
fn errors() {
    apic::take_errors();
    apic::write(register::LVT_ERROR, u64::from(ERROR));
    apic::self_ipi(3);
    assert_eq!(
        apic::read(register::ESR),
        0,
        "the ESR shows nothing before it is written"
    );
    let own = apic::read(register::ID) << 32;
    interrupt_window();
    expect_log(&[ERROR]);
    let seen = apic::take_errors();
    assert_ne!(seen & (1 << 5), 0, "send illegal vector: {seen:#x}");
    assert_eq!(apic::take_errors(), 0);
    apic::write(register::ICR, own | 1 << 14 | 5);
    interrupt_window();
    expect_log(&[ERROR]);
    assert_ne!(apic::take_errors() & (1 << 5 | 1 << 6), 0);
    // Masked, it is only noted.
    apic::write(register::LVT_ERROR, MASKED | u64::from(ERROR));
    apic::self_ipi(0);
    interrupt_window();
    expect_log(&[]);
    assert_ne!(apic::take_errors(), 0);
    // Through the ICR a legal vector comes as by the self IPI register, by id and by shorthand.
    apic::write(register::ICR, own | 1 << 14 | u64::from(LOW));
    interrupt_window();
    apic::write(register::ICR, 1 << 18 | u64::from(HIGH));
    interrupt_window();
    apic::write(
        register::ICR,
        apic::read(register::LDR) << 32 | 1 << 11 | u64::from(MIDDLE),
    );
    interrupt_window();
    expect_log(&[LOW, HIGH, MIDDLE]);
    // To others than this one, nobody is there.
    apic::write(register::ICR, 3 << 18 | u64::from(HIGH));
    apic::write(register::ICR, (own + (5 << 32)) | u64::from(HIGH));
    interrupt_window();
    expect_log(&[]);
    assert_eq!(apic::take_errors(), 0);
}

/// After STI one more instruction runs before an interrupt, an intercepted one too.
fn shadow() {
    let after: u64;
    apic::self_ipi(LOW);
    // SAFETY: handlers preserve all registers; CPUID and hypercalls change the ones named.
    unsafe {
        core::arch::asm!("sti", "nop", "2:", "nop", "cli", "lea {}, [rip + 2b]", out(reg) after);
    }
    assert_eq!(RIP.get(), after, "NOP in the shadow");
    apic::self_ipi(LOW);
    let after: u64;
    // SAFETY: as above; RBX is brought back.
    unsafe {
        core::arch::asm!(
            "mov {saved}, rbx",
            "xor eax, eax",
            "sti",
            "cpuid",
            "2:",
            "nop",
            "cli",
            "lea {after}, [rip + 2b]",
            "mov rbx, {saved}",
            saved = out(reg) _,
            after = out(reg) after,
            out("rax") _,
            out("rcx") _,
            out("rdx") _,
        );
    }
    assert_eq!(RIP.get(), after, "CPUID in the shadow");
    apic::self_ipi(LOW);
    let after: u64;
    // SAFETY: as above; a hypercall with code 0xFFFF only reports that.
    unsafe {
        use core::arch::asm;
        with_hypercall!(asm!(
            "sti", @, "2:\nnop\ncli\nlea {after}, [rip + 2b]",
            after = out(reg) after,
            inout("rcx") 0xFFFFu64 => _,
            out("rax") _,
            out("rdx") _,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
        ));
    }
    assert_eq!(RIP.get(), after, "a hypercall in the shadow");
    apic::self_ipi(LOW);
    let after: u64;
    // SAFETY: as above; SS gets the selector that it has.
    unsafe {
        core::arch::asm!(
            "mov {ss:e}, ss",
            "sti",
            "mov ss, {ss:e}",
            "2:",
            "nop",
            "3:",
            "cli",
            "lea {after}, [rip + 2b]",
            ss = out(reg) _,
            after = out(reg) after,
        );
    }
    // MOV SS in STI's shadow: the shadow of the second of two such instructions need not be honoured.
    assert!(
        (after..=after + 1).contains(&RIP.get()),
        "{:#x}, {after:#x}",
        RIP.get()
    );
    // STI with interrupts on already has no shadow: the interrupt comes at the next boundary.
    enable_interrupts();
    apic::self_ipi(LOW);
    disable_interrupts();
    expect_log(&[LOW; 5]);
}

/// Timer ticks of a number of microseconds.
fn ticks(micros: u64) -> u32 {
    (time::apic_hz() * micros / 1_000_000) as u32
}

fn one_shot() {
    for micros in [100, 1000, 5000] {
        let start = time::reference();
        apic::start_timer(u64::from(TIMER), ticks(micros));
        enable_interrupts();
        let came = time::wait(2_000_000, || LOGGED.get() != 0);
        disable_interrupts();
        let took = (time::reference() - start) / 10;
        assert!(came, "no interrupt from a timer of {micros} us");
        expect_log(&[TIMER]);
        assert!(took >= micros, "{took} us instead of {micros}: too early");
        assert_eq!(apic::read(register::CURRENT_COUNT), 0);
        // It does not come again.
        enable_interrupts();
        time::wait(2 * micros, || false);
        disable_interrupts();
        expect_log(&[]);
    }
    // Stopped before its time.
    apic::start_timer(u64::from(TIMER), ticks(100_000));
    apic::write(register::INITIAL_COUNT, 0);
    assert_eq!(apic::read(register::CURRENT_COUNT), 0);
    enable_interrupts();
    time::wait(200_000, || false);
    disable_interrupts();
    expect_log(&[]);
}

/// A masked timer counts and does not interrupt.
fn masked_timer() {
    apic::start_timer(MASKED | u64::from(TIMER), ticks(100_000));
    let first = apic::read(register::CURRENT_COUNT);
    time::wait(500, || false);
    let second = apic::read(register::CURRENT_COUNT);
    assert!(
        first <= u64::from(ticks(100_000)) && second < first && second > 0,
        "{first}, {second}"
    );
    assert!(
        first - second >= u64::from(ticks(450)),
        "{first}, {second}: too slow"
    );
    assert!(time::wait(2_000_000, || apic::read(
        register::CURRENT_COUNT
    ) == 0));
    interrupt_window();
    expect_log(&[]);
    assert!(!apic::has(register::IRR, TIMER));
    apic::stop_timer();
}

fn periodic() {
    const PERIOD: u64 = 1000;
    let start = time::reference();
    apic::start_timer(PERIODIC | u64::from(TIMER), ticks(PERIOD));
    enable_interrupts();
    let came = time::wait(5_000_000, || LOGGED.get() >= 8);
    disable_interrupts();
    let took = (time::reference() - start) / 10;
    assert!(came);
    assert!(took >= 8 * PERIOD, "8 periods in {took} us");
    let count = apic::read(register::CURRENT_COUNT);
    assert!(count > 0 && count <= u64::from(ticks(PERIOD)));
    apic::stop_timer();
    interrupt_window();
    interrupt_window();
    take_log();
    enable_interrupts();
    time::wait(3 * PERIOD, || false);
    disable_interrupts();
    expect_log(&[]);
}

/// The same count takes as many times as long as the divisor says.
fn divisors() {
    let codes = [
        (0b1011, 1u64),
        (0b0000, 2),
        (0b0001, 4),
        (0b0010, 8),
        (0b0011, 16),
    ];
    for (code, divisor) in codes {
        apic::write(register::LVT_TIMER, MASKED | u64::from(TIMER));
        apic::write(register::DIVIDE, code);
        assert_eq!(apic::read(register::DIVIDE), code);
        let count = ticks(400);
        let start = time::reference();
        apic::write(register::INITIAL_COUNT, u64::from(count));
        assert!(time::wait(2_000_000, || apic::read(
            register::CURRENT_COUNT
        ) == 0));
        let took = (time::reference() - start) / 10;
        assert!(took >= 400 * divisor, "divide by {divisor}: {took} us");
    }
    apic::write(register::DIVIDE, DIVIDE_BY_1);
    apic::stop_timer();
}

fn halt() {
    for _ in 0..10 {
        let start = time::reference();
        apic::start_timer(u64::from(TIMER), ticks(500));
        wait_for_interrupt();
        assert!(
            time::reference() - start >= 5000,
            "halted for less than 500 us"
        );
        expect_log(&[TIMER]);
    }
    // An interrupt that is below the task priority does not end a halt; the one above does.
    apic::write(register::TPR, 0x40);
    apic::self_ipi(LOW);
    apic::start_timer(u64::from(TIMER), ticks(500));
    wait_for_interrupt();
    expect_log(&[TIMER]);
    apic::write(register::TPR, 0);
    interrupt_window();
    expect_log(&[LOW]);
    apic::stop_timer();
}

fn nmi() {
    fn handler(frame: &mut Frame) {
        note(frame.vector);
        // Another one waits for IRET.
        if LOGGED.get() == 1 {
            apic::nmi_to_self();
            assert_eq!(LOGGED.get(), 1, "an NMI within an NMI");
        }
    }
    set_handler(vector::NMI, Some(handler as Handler));
    // With interrupts off, at once.
    apic::nmi_to_self();
    assert!(
        time::wait(1000, || LOGGED.get() == 2),
        "{} NMIs",
        LOGGED.get()
    );
    expect_log(&[vector::NMI, vector::NMI]);
    set_handler(vector::NMI, None);
}

/// A software-disabled APIC masks its LVT and takes no interrupts; what was programmed comes back only by programming it.
fn software_disable() {
    apic::write(register::LVT_TIMER, u64::from(TIMER));
    apic::write(register::SVR, 0xFF);
    assert_ne!(apic::read(register::LVT_TIMER) & MASKED, 0);
    apic::write(register::LVT_TIMER, u64::from(TIMER));
    assert_ne!(
        apic::read(register::LVT_TIMER) & MASKED,
        0,
        "the mask cannot be removed"
    );
    apic::write(register::INITIAL_COUNT, u64::from(ticks(100)));
    enable_interrupts();
    time::wait(1000, || false);
    disable_interrupts();
    expect_log(&[]);
    apic::write(register::SVR, SVR_ENABLE | 0xFF);
    assert_ne!(apic::read(register::LVT_TIMER) & MASKED, 0);
    apic::self_ipi(LOW);
    interrupt_window();
    expect_log(&[LOW]);
}
