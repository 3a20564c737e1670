//! Ports.

use core::arch::asm;

use guests::metal::console;
use guests::metal::cpu::{inb, inl, inw, outb, outl, outw};
use guests::program::Program;

use crate::pages::PLAYGROUND;

/// Serial line, clock, system control, what kernels look for, sleep status, and where nothing is.
const PORTS: &[u16] = &[
    0x3F8, 0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x3FD, 0x3FE, 0x3FF, 0x70, 0x71, 0x61, 0x20, 0x21, 0xA0,
    0xA1, 0x40, 0x43, 0x60, 0x4D0, 0x4D1, 0xCF8, 0xCFC, 0x601, 0x80, 0xED, 0x2F8, 0xFFFF, 0xFFFD,
];
/// Those that end the VM when they are written: keyboard controller, debug exit, sleep control, reset.
const ENDS: [u16; 4] = [0x64, 0xF4, 0x600, 0x602];
const COM1: core::ops::Range<u16> = 0x3F8..0x400;
/// Devices that string instructions reach; anywhere else these end the VM.
const STRINGS: &[u16] = &[0x3FD, 0x3FF, 0x70, 0x71];

/// Accesses a port. Whether something answered: all ones come from nobody.
pub fn operation(program: &mut Program<'_>, which: u8) -> bool {
    if which == 0 {
        strings(program);
        return true;
    }
    let port = match which {
        1..=3 => program.number(2) as u16,
        _ => program.pick(PORTS),
    };
    let width = program.pick(&[1, 1, 2, 4]);
    let read = program.one_in(2);
    let touched = |other: u16| other.wrapping_sub(port) < width;
    let value = program.odd_value() as u32;
    let answer = match (read, width) {
        (true, 1) => u32::from(inb(port)) | !0xFF,
        (true, 2) => u32::from(inw(port)) | !0xFFFF,
        (true, _) => inl(port),
        (false, _) if ENDS.into_iter().any(touched) => return false,
        (false, 1) => {
            outb(port, value as u8);
            u32::MAX
        }
        (false, 2) => {
            outw(port, value as u16);
            u32::MAX
        }
        (false, _) => {
            outl(port, value);
            u32::MAX
        }
    };
    if !read && COM1.into_iter().any(touched) {
        // What is said from here on is to be heard.
        console::init();
    }
    answer != u32::MAX
}

/// REP INS and OUTS of a few elements, from and to the playground.
fn strings(program: &mut Program<'_>) {
    let port = program.pick(STRINGS);
    let count = program.below(16);
    let place = PLAYGROUND.address() + program.below(0x1000);
    // SAFETY: 64 bytes from there on are the playground's, which no Rust reference covers; the direction flag is clear.
    unsafe {
        match program.below(4) {
            0 => asm!("rep insb", in("dx") port, inout("rcx") count => _, inout("rdi") place => _),
            1 => asm!("rep insd", in("dx") port, inout("rcx") count => _, inout("rdi") place => _),
            2 => asm!("rep outsw", in("dx") port, inout("rcx") count => _, inout("rsi") place => _),
            _ => asm!("rep outsb", in("dx") port, inout("rcx") count => _, inout("rsi") place => _),
        }
    }
    if COM1.contains(&port) {
        console::init();
    }
}
