//! The length of intercepted instructions, compared with a full disassembler's.
#![no_main]

use hypervisor::insn::{CodeMode, MAX_LENGTH, decode};
use iced_x86::{Decoder, DecoderOptions};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((selector, bytes)) = data.split_first() else {
        return;
    };
    let (mode, bits) = match selector % 3 {
        0 => (CodeMode::Code16, 16),
        1 => (CodeMode::Code32, 32),
        _ => (CodeMode::Code64, 64),
    };
    let Ok(decoded) = decode(bytes, mode) else {
        return;
    };
    let length = usize::from(decoded.length);
    assert!(
        (1..=MAX_LENGTH.min(bytes.len())).contains(&length),
        "length {length} of {bytes:02x?}"
    );
    // What the disassembler takes for invalid, a processor may not have executed: nothing to compare.
    let instruction = Decoder::new(bits, bytes, DecoderOptions::AMD).decode();
    if !instruction.is_invalid() {
        assert_eq!(
            instruction.len(),
            length,
            "{instruction:?} in {bytes:02x?} as {mode:?}"
        );
    }
});
