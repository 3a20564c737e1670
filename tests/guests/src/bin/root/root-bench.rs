//! Placeholder.
#![no_std]
#![no_main]
guests::root!(main);
fn main(_: &guests::metal::Boot) {}
