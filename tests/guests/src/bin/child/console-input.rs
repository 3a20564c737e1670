//! Console input by interrupt: COM1's line through the I/O APIC to a vector, halting until a byte comes.
#![no_std]
#![no_main]

use guests::metal::cell::Global;
use guests::metal::cpu::wait_for_interrupt;
use guests::metal::trap::{self, Frame};
use guests::metal::{Boot, apic, serial_input};
use guests::{child, print, println};

child!(main);

const VECTOR: u8 = 0x44;

static LINE: Global<[u8; 64]> = Global::new([0; 64]);
static LENGTH: Global<usize> = Global::new(0);

/// Takes what there is, as an interrupt of the UART tells.
fn receive(_: &mut Frame) {
    serial_input::take(|byte| {
        let (mut line, length) = (LINE.get(), LENGTH.get());
        if let Some(place) = line.get_mut(length) {
            *place = byte;
            LENGTH.set(length + 1);
        }
        LINE.set(line);
    });
    apic::eoi();
}

fn main(_: &Boot) {
    serial_input::start(VECTOR, receive);
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
    serial_input::stop();
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
