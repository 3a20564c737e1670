//! Console input by polling: the line status is read over and over, so that intercepts come as fast as they can while
//! somebody types, and the machine's serial interrupt meets the root in every state that there is.
#![no_std]
#![no_main]

use guests::metal::{Boot, console};
use guests::{child, println};

child!(main);

fn main(_: &Boot) {
    println!("polling");
    let (mut line, mut length) = ([0; 64], 0);
    loop {
        let Some(byte) = console::get() else { continue };
        if byte == b'\r' {
            let text = core::str::from_utf8(&line[..length]).unwrap_or_default();
            println!("polled {text:?}");
            if text == "end" {
                break;
            }
            length = 0;
        } else if let Some(place) = line.get_mut(length) {
            *place = byte;
            length += 1;
        }
    }
    println!("ok console-poll");
}
