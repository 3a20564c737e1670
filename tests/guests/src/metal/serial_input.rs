//! Bytes from COM1 by interrupt, through the I/O APIC.

use super::apic;
use super::cpu::{inb, outb};
use super::memory;
use super::trap::{Handler, set_handler};

const COM1: u16 = 0x3F8;
/// GSI of COM1.
const PIN: u32 = 4;
const IOAPIC: u64 = 0xFEC0_0000;
/// Redirection entry, low half: level triggered, active low bits are zero here; masked.
const LEVEL: u32 = 1 << 15;

fn ioapic(index: u32, value: u32) {
    memory::write(IOAPIC, index);
    memory::write(IOAPIC + 0x10, value);
}

/// From now on `handler` is called when there are bytes; it has to [`take`] them, and to end the interrupt.
pub fn start(vector: u8, handler: Handler) {
    apic::enable();
    set_handler(vector, Some(handler));
    let id = apic::read(apic::register::ID) as u32;
    ioapic(0x10 + PIN * 2 + 1, id << 24);
    ioapic(0x10 + PIN * 2, LEVEL | u32::from(vector));
    // Interrupt for received bytes; OUT2 lets the line through.
    outb(COM1 + 4, 0x0B);
    outb(COM1 + 1, 1);
}

/// No more interrupts.
pub fn stop() {
    outb(COM1 + 1, 0);
}

/// Takes all bytes that there are.
pub fn take(mut each: impl FnMut(u8)) {
    // Interrupt identification: no reason is bit 0; a byte, or a time-out of the FIFO, is 4 or 12.
    while inb(COM1 + 2) & 1 == 0 {
        while inb(COM1 + 5) & 1 != 0 {
            each(inb(COM1));
        }
    }
}
