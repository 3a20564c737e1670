//! Interrupts that need no EOI (guest sheet 4.8).

use core::sync::atomic::{AtomicU64, Ordering};

use guests::metal::apic::register::ISR;
use guests::metal::cell::Pages;
use guests::metal::cpu::{cpuid, interrupt_window, write_msr};
use guests::metal::trap::{Frame, Handler, set_handler};
use guests::metal::{apic, memory, test};
use tlfs::HV_X64_MSR_VP_ASSIST_PAGE;

/// The higher one's class is above the lower one's.
const LOW: u8 = 0x71;
const HIGH: u8 = 0x81;

static PAGE: Pages<4096> = Pages::new();
/// Interrupts that needed an EOI, and those that did not.
static ENDED: AtomicU64 = AtomicU64::new(0);
static SPARED: AtomicU64 = AtomicU64::new(0);

pub fn tests() {
    for vector in [LOW, HIGH] {
        set_handler(vector, Some(end as Handler));
    }
    write_msr(HV_X64_MSR_VP_ASSIST_PAGE, PAGE.gpa() | 1);
    assert_eq!(memory::read::<u32>(PAGE.gpa()), 0);
    test("a lone interrupt needs no eoi", lone);
    test("one before another needs it", followed);
    test("a guest that ends all by itself comes through", stubborn);
    write_msr(HV_X64_MSR_VP_ASSIST_PAGE, 0);
    test("without the page each needs it", || {
        let before = counts();
        apic::self_ipi(LOW);
        interrupt_window();
        assert_eq!(counts(), (before.0 + 1, before.1));
    });
}

fn counts() -> (u64, u64) {
    (ENDED.load(Ordering::SeqCst), SPARED.load(Ordering::SeqCst))
}

/// As Linux does it: takes the word, and writes EOI if it was not set.
fn end(_: &mut Frame) {
    let word = memory::read::<u32>(PAGE.gpa());
    if word & 1 != 0 {
        memory::write(PAGE.gpa(), 0_u32);
        SPARED.fetch_add(1, Ordering::SeqCst);
    } else {
        ENDED.fetch_add(1, Ordering::SeqCst);
        apic::eoi();
    }
}

fn lone() {
    let before = counts();
    for _ in 0..3 {
        apic::self_ipi(LOW);
        interrupt_window();
        // Over, whoever looks.
        assert!(!apic::has(ISR, LOW));
    }
    assert_eq!(counts(), (before.0, before.1 + 3));
}

fn followed() {
    let before = counts();
    apic::self_ipi(LOW);
    apic::self_ipi(HIGH);
    interrupt_window();
    cpuid(0, 0);
    interrupt_window();
    // The first one has the second one waiting for its end.
    assert_eq!(counts(), (before.0 + 1, before.1 + 1));
    assert!(!apic::has(ISR, LOW) && !apic::has(ISR, HIGH));
}

fn stubborn() {
    set_handler(LOW, Some((|_| apic::eoi()) as Handler));
    for _ in 0..3 {
        apic::self_ipi(LOW);
        interrupt_window();
        assert!(!apic::has(ISR, LOW));
    }
    memory::write(PAGE.gpa(), 0_u32);
    set_handler(LOW, Some(end as Handler));
    let before = counts();
    apic::self_ipi(LOW);
    interrupt_window();
    let after = counts();
    assert_eq!(after.0 + after.1, before.0 + before.1 + 1);
}
