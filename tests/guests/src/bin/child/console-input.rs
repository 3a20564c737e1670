//! Console input by interrupt: COM1's line through the I/O APIC to a vector, halting until a byte comes.
#![no_std]
#![no_main]

use guests::metal::cell::Global;
use guests::metal::cpu::{inb, outb, wait_for_interrupt};
use guests::metal::trap::{self, Frame, Handler, set_handler};
use guests::metal::{Boot, apic, memory};
use guests::{child, print, println};

child!(main);

const VECTOR: u8 = 0x44;
const COM1: u16 = 0x3F8;
/// GSI of COM1.
const PIN: u32 = 4;
const IOAPIC: u64 = 0xFEC0_0000;
/// Redirection entry, low half: level triggered, active low bits are zero here; masked.
const LEVEL: u32 = 1 << 15;

static LINE: Global<[u8; 64]> = Global::new([0; 64]);
static LENGTH: Global<usize> = Global::new(0);

fn ioapic(index: u32, value: u32) {
    memory::write(IOAPIC, index);
    memory::write(IOAPIC + 0x10, value);
}

/// Takes what there is, as an interrupt of the UART tells.
fn receive(_: &mut Frame) {
    // Interrupt identification: no reason is bit 0; a byte, or a time-out of the FIFO, is 4 or 12.
    while inb(COM1 + 2) & 1 == 0 {
        while inb(COM1 + 5) & 1 != 0 {
            let (mut line, length) = (LINE.get(), LENGTH.get());
            if let Some(place) = line.get_mut(length) {
                *place = inb(COM1);
                LENGTH.set(length + 1);
            } else {
                inb(COM1);
            }
            LINE.set(line);
        }
    }
    apic::eoi();
}

fn main(_: &Boot) {
    apic::enable();
    set_handler(VECTOR, Some(receive as Handler));
    let id = apic::read(apic::register::ID) as u32;
    ioapic(0x10 + PIN * 2 + 1, id << 24);
    ioapic(0x10 + PIN * 2, LEVEL | u32::from(VECTOR));
    // Interrupt for received bytes; OUT2 lets the line through.
    outb(COM1 + 4, 0x0B);
    outb(COM1 + 1, 1);
    println!("type a line");
    let mut echoed = 0;
    loop {
        wait_for_interrupt();
        let (line, length) = (LINE.get(), LENGTH.get());
        while echoed < length {
            print!("{}", char::from(line[echoed]));
            echoed += 1;
        }
        if line[..length].contains(&b'\r') {
            break;
        }
    }
    println!();
    outb(COM1 + 1, 0);
    let (line, length) = (LINE.get(), LENGTH.get());
    let text = core::str::from_utf8(&line[..length]).unwrap_or_default();
    println!(
        "got {:?} by {} interrupts",
        text.trim_end(),
        trap::count(VECTOR)
    );
    assert!(trap::count(VECTOR) >= 1);
    println!("ok console-input");
}
