//! The built-in root partition's kernel on the machine: see the library for what it decides, here is how it acts.
#![no_std]
#![no_main]

extern crate alloc;

mod metal;
