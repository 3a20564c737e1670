//! Makes round trips through its worker when it is told to, so that somebody can read the machine's counters before and
//! after: `0` makes none, `n` makes ten thousand, `q` ends.
#![no_std]
#![no_main]

use guests::metal::cell::Global;
use guests::metal::cpu::{outb, wait_for_interrupt};
use guests::metal::trap::Frame;
use guests::metal::{Boot, apic, serial_input};
use guests::{child, println};

child!(main);

const VECTOR: u8 = 0x44;
/// A port where nothing is.
const OPEN_PORT: u16 = 0x80;
const TRIPS: u32 = 10_000;

static KEY: Global<u8> = Global::new(0);

fn receive(_: &mut Frame) {
    serial_input::take(|byte| KEY.set(byte));
    apic::eoi();
}

fn main(_: &Boot) {
    serial_input::start(VECTOR, receive);
    println!("ready to count");
    loop {
        wait_for_interrupt();
        let trips = match KEY.get() {
            b'0' => 0,
            b'n' => TRIPS,
            b'q' => break,
            _ => continue,
        };
        KEY.set(0);
        for _ in 0..trips {
            outb(OPEN_PORT, 0);
        }
        println!("made {trips} round trips");
    }
    serial_input::stop();
    println!("ok count-trips");
}
