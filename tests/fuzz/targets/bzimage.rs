//! The loader of Linux kernels.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| board::fuzz_bzimage(data));
