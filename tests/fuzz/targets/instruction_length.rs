//! The length of intercepted instructions, and the operands of a MOV, compared with a full disassembler's.
#![no_main]

use hypervisor::insn::{Base, CodeMode, MAX_LENGTH, Mov, Transfer, decode, decode_mov};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, Register};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((selector, bytes)) = data.split_first() else {
        return;
    };
    let (mode, bits) = match selector % 3 {
        0 => (CodeMode::Code16, 16),
        1 => (CodeMode::Code32, 32),
        _ => (CodeMode::Code64, 64),
    };
    // What the disassembler takes for invalid, a processor may not have executed: nothing to compare.
    let instruction = Decoder::new(bits, bytes, DecoderOptions::AMD).decode();
    let compare = |length: u8| {
        let length = usize::from(length);
        assert!(
            (1..=MAX_LENGTH.min(bytes.len())).contains(&length),
            "length {length} of {bytes:02x?}"
        );
        if !instruction.is_invalid() {
            assert_eq!(
                instruction.len(),
                length,
                "{instruction:?} in {bytes:02x?} as {mode:?}"
            );
        }
    };
    if let Ok(decoded) = decode(bytes, mode) {
        compare(decoded.length);
    }
    if let Ok(mov) = decode_mov(bytes, mode) {
        compare(mov.length);
        if !instruction.is_invalid() {
            compare_mov(&mov, &instruction);
        }
    }
});

fn compare_mov(mov: &Mov, instruction: &Instruction) {
    assert_eq!(instruction.mnemonic(), Mnemonic::Mov);
    match mov.transfer {
        Transfer::Load { to } => assert!(is(instruction.op0_register(), to), "{mov:?}"),
        Transfer::Store { from } => assert!(is(instruction.op1_register(), from), "{mov:?}"),
        Transfer::StoreNumber { value } => assert_eq!(instruction.immediate32(), value),
    }
    let base = instruction.memory_base();
    match mov.operand.base {
        Base::None => assert_eq!(base, Register::None, "{mov:?}"),
        Base::Register(number) => assert_eq!(base.number(), usize::from(number), "{mov:?}"),
        Base::NextInstruction => assert!(instruction.is_ip_rel_memory_operand(), "{mov:?}"),
    }
    let index = instruction.memory_index();
    match mov.operand.index {
        None => assert_eq!(index, Register::None, "{mov:?}"),
        Some((number, shift)) => {
            assert_eq!(index.number(), usize::from(number), "{mov:?}");
            assert_eq!(instruction.memory_index_scale(), 1 << shift, "{mov:?}");
        }
    }
}

fn is(register: Register, number: u8) -> bool {
    register.is_gpr32() && register.number() == usize::from(number)
}
