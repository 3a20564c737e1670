//! The serial line COM1: where a payload tells what it found.

use core::fmt;

use super::cpu::{inb, outb};

const COM1: u16 = 0x3F8;
const LINE_CONTROL: u16 = COM1 + 3;
const LINE_STATUS: u16 = COM1 + 5;
/// Line status: a received byte waits.
const DATA_READY: u8 = 1;
/// Line status: the transmitter takes a byte.
const TRANSMITTER_EMPTY: u8 = 1 << 5;

/// Sets 8 data bits, no parity, 115200 baud, FIFOs on, no interrupts.
pub fn init() {
    outb(COM1 + 1, 0);
    outb(LINE_CONTROL, 0x80);
    outb(COM1, 1);
    outb(COM1 + 1, 0);
    outb(LINE_CONTROL, 0x03);
    outb(COM1 + 2, 0x01);
    outb(COM1 + 4, 0x0B);
}

/// Sends a byte.
pub fn put(byte: u8) {
    while inb(LINE_STATUS) & TRANSMITTER_EMPTY == 0 {}
    outb(COM1, byte);
}

/// A received byte, if one waits.
pub fn get() -> Option<u8> {
    (inb(LINE_STATUS) & DATA_READY != 0).then(|| inb(COM1))
}

/// The serial line as a writer.
#[derive(Clone, Copy, Debug)]
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                put(b'\r');
            }
            put(byte);
        }
        Ok(())
    }
}

/// Prints on the serial line.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => {{
        let _ = ::core::fmt::Write::write_fmt(
            &mut $crate::metal::console::Console,
            ::core::format_args!($($argument)*),
        );
    }};
}

/// Prints a line on the serial line.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($argument:tt)*) => {{ $crate::print!("{}\n", ::core::format_args!($($argument)*)) }};
}
