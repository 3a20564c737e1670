use super::*;
use iced_x86::{Code, Decoder, DecoderOptions, Mnemonic};
use proptest::prelude::*;

const MODES: [CodeMode; 3] = [CodeMode::Code16, CodeMode::Code32, CodeMode::Code64];

/// Every encoding, without operand bytes. Group 7 has LMSW and SMSW for some of the bytes that may follow.
const ENCODINGS: [(&[u8], Instruction); 35] = [
    (&[0x0F, 0xA2], Instruction::Cpuid),
    (&[0xF4], Instruction::Hlt),
    (&[0x0F, 0x32], Instruction::Rdmsr),
    (&[0x0F, 0x30], Instruction::Wrmsr),
    (&[0x0F, 0x01, 0xD9], Instruction::Vmmcall),
    (&[0x0F, 0x01, 0xC1], Instruction::Vmcall),
    (&[0x0F, 0x01, 0xD1], Instruction::Xsetbv),
    (&[0x0F, 0x08], Instruction::Invd),
    (&[0x0F, 0x09], Instruction::Wbinvd),
    (&[0x0F, 0x33], Instruction::Rdpmc),
    (&[0x0F, 0x31], Instruction::Rdtsc),
    (&[0x0F, 0x01, 0xF9], Instruction::Rdtscp),
    (&[0xF3, 0x90], Instruction::Pause),
    (&[0xCC], Instruction::Int3),
    (&[0xCD], Instruction::Int),
    (&[0xCE], Instruction::Into),
    (&[0xE4], Instruction::In),
    (&[0xE5], Instruction::In),
    (&[0xEC], Instruction::In),
    (&[0xED], Instruction::In),
    (&[0xE6], Instruction::Out),
    (&[0xE7], Instruction::Out),
    (&[0xEE], Instruction::Out),
    (&[0xEF], Instruction::Out),
    (&[0x6C], Instruction::Ins),
    (&[0x6D], Instruction::Ins),
    (&[0x6E], Instruction::Outs),
    (&[0x6F], Instruction::Outs),
    (&[0x0F, 0x20], Instruction::MovFromCr),
    (&[0x0F, 0x22], Instruction::MovToCr),
    (&[0x0F, 0x21], Instruction::MovFromDr),
    (&[0x0F, 0x23], Instruction::MovToDr),
    (&[0x0F, 0x06], Instruction::Clts),
    (&[0x0F, 0x01], Instruction::Lmsw),
    (&[0x0F, 0x01], Instruction::Smsw),
];

fn bits(mode: CodeMode) -> u32 {
    match mode {
        CodeMode::Code16 => 16,
        CodeMode::Code32 => 32,
        CodeMode::Code64 => 64,
    }
}

/// What the library finds. Prefixes that make an encoding invalid do not matter here, since the processor has taken the
/// instruction for what it is: LOCK, and 66, F2 and F3 where the manuals have "NP", which are tried again without.
fn oracle(bytes: &[u8], mode: CodeMode) -> (Option<Instruction>, usize) {
    let found = library(bytes, mode);
    let Some(first) = bytes
        .iter()
        .position(|byte| matches!(byte, 0x66 | 0xF2 | 0xF3))
    else {
        return found;
    };
    let opcode = bytes.iter().position(|&byte| byte == 0x0F);
    if found.0.is_some() || opcode.is_none_or(|opcode| first > opcode) {
        return found;
    }
    let mut without = bytes.to_vec();
    without.remove(first);
    let (instruction, length) = oracle(&without, mode);
    (instruction.filter(|_| length < MAX_LENGTH), length + 1)
}

fn library(bytes: &[u8], mode: CodeMode) -> (Option<Instruction>, usize) {
    let mut decoder = Decoder::new(bits(mode), bytes, DecoderOptions::NO_INVALID_CHECK);
    let found = decoder.decode();
    (known(found.code(), found.mnemonic()), found.len())
}

fn known(code: Code, mnemonic: Mnemonic) -> Option<Instruction> {
    Some(match mnemonic {
        Mnemonic::Cpuid => Instruction::Cpuid,
        Mnemonic::Hlt => Instruction::Hlt,
        Mnemonic::Rdmsr => Instruction::Rdmsr,
        Mnemonic::Wrmsr => Instruction::Wrmsr,
        Mnemonic::Vmmcall | Mnemonic::Vmgexit => Instruction::Vmmcall,
        Mnemonic::Vmcall => Instruction::Vmcall,
        Mnemonic::Xsetbv => Instruction::Xsetbv,
        Mnemonic::Invd => Instruction::Invd,
        Mnemonic::Wbinvd | Mnemonic::Wbnoinvd => Instruction::Wbinvd,
        Mnemonic::Rdpmc => Instruction::Rdpmc,
        Mnemonic::Rdtsc => Instruction::Rdtsc,
        Mnemonic::Rdtscp => Instruction::Rdtscp,
        Mnemonic::Pause => Instruction::Pause,
        Mnemonic::Int3 => Instruction::Int3,
        Mnemonic::Int => Instruction::Int,
        Mnemonic::Into => Instruction::Into,
        Mnemonic::In => Instruction::In,
        Mnemonic::Out => Instruction::Out,
        Mnemonic::Insb | Mnemonic::Insw | Mnemonic::Insd => Instruction::Ins,
        Mnemonic::Outsb | Mnemonic::Outsw | Mnemonic::Outsd => Instruction::Outs,
        Mnemonic::Clts => Instruction::Clts,
        Mnemonic::Lmsw => Instruction::Lmsw,
        Mnemonic::Smsw => Instruction::Smsw,
        Mnemonic::Mov => match code {
            Code::Mov_r32_cr | Code::Mov_r64_cr => Instruction::MovFromCr,
            Code::Mov_cr_r32 | Code::Mov_cr_r64 => Instruction::MovToCr,
            Code::Mov_r32_dr | Code::Mov_r64_dr => Instruction::MovFromDr,
            Code::Mov_dr_r32 | Code::Mov_dr_r64 => Instruction::MovToDr,
            _ => return None,
        },
        _ => return None,
    })
}

fn mode() -> impl Strategy<Value = CodeMode> {
    prop::sample::select(MODES.to_vec())
}

fn prefix() -> impl Strategy<Value = u8> {
    prop_oneof![
        8 => prop::sample::select(vec![0x26u8, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3]),
        1 => 0x40u8..0x50,
    ]
}

fn prefixed(longest: usize) -> impl Strategy<Value = (Vec<u8>, Instruction)> {
    (
        prop::collection::vec(prefix(), 0..longest),
        prop::sample::select(ENCODINGS.to_vec()),
        any::<[u8; 8]>(),
    )
        .prop_map(|(mut bytes, (opcode, instruction), rest)| {
            bytes.extend_from_slice(opcode);
            bytes.extend_from_slice(&rest);
            (bytes, instruction)
        })
}

#[test]
fn a_stock_linux_executes_ds_wrmsr() {
    let bytes = [0x3E, 0x0F, 0x30, 0x90];
    assert_eq!(length(Instruction::Wrmsr, &bytes, CodeMode::Code64), Ok(3));
}

#[test]
fn every_bare_encoding_is_known() {
    for (opcode, instruction) in ENCODINGS {
        let mut bytes = opcode.to_vec();
        // A register operand that says which of the two this is.
        match instruction {
            Instruction::Lmsw => bytes.push(0xF0),
            Instruction::Smsw => bytes.push(0xE0),
            _ => {}
        }
        bytes.extend([0x00; 4]);
        for mode in MODES {
            let (oracle, expected) = oracle(&bytes, mode);
            assert_eq!(
                oracle == Some(instruction),
                instruction != Instruction::Into || mode != CodeMode::Code64
            );
            if oracle.is_some() {
                assert_eq!(length(instruction, &bytes, mode), Ok(expected as u8));
            }
        }
    }
}

#[test]
fn another_instruction_is_an_error() {
    let error = Err(LengthError::NotThisInstruction);
    assert_eq!(
        length(Instruction::Rdmsr, &[0x0F, 0x30], CodeMode::Code64),
        error
    );
    assert_eq!(
        length(Instruction::Pause, &[0x90], CodeMode::Code64),
        error,
        "NOP"
    );
    assert_eq!(length(Instruction::Into, &[0xCE], CodeMode::Code64), error);
    // 0x48 is DEC outside 64-bit code.
    assert_eq!(
        length(Instruction::Hlt, &[0x48, 0xF4], CodeMode::Code32),
        error
    );
    assert_eq!(
        length(Instruction::Hlt, &[0x48, 0xF4], CodeMode::Code64),
        Ok(2)
    );
}

#[test]
fn fifteen_bytes_are_the_limit() {
    let mut bytes = [0x66; 16];
    bytes[14] = 0xF4;
    assert_eq!(length(Instruction::Hlt, &bytes, CodeMode::Code64), Ok(15));
    bytes[14..].copy_from_slice(&[0x0F, 0xA2]);
    assert_eq!(
        length(Instruction::Cpuid, &bytes, CodeMode::Code64),
        Err(LengthError::TooLong)
    );
    assert_eq!(
        length(Instruction::Hlt, &[0x66; 15], CodeMode::Code64),
        Err(LengthError::TooLong)
    );
    assert_eq!(
        length(Instruction::Hlt, &[0x66; 14], CodeMode::Code64),
        Err(LengthError::NeedMore)
    );
}

#[test]
fn the_registers_of_a_move_are_found() {
    // mov cr3, r9 and mov rbx, dr7
    let to_cr = decode(&[0x41, 0x0F, 0x22, 0xD9], CodeMode::Code64).unwrap();
    assert_eq!((to_cr.special_register(), to_cr.general_register()), (3, 9));
    let from_dr = decode(&[0x0F, 0x21, 0xFB], CodeMode::Code32).unwrap();
    assert_eq!(
        (from_dr.special_register(), from_dr.general_register()),
        (7, 3)
    );
    // mov cr8, rax
    let cr8 = decode(&[0x44, 0x0F, 0x22, 0xC0], CodeMode::Code64).unwrap();
    assert_eq!((cr8.special_register(), cr8.general_register()), (8, 0));
    // A REX prefix that another prefix follows has no effect.
    let ignored = decode(&[0x44, 0x2E, 0x0F, 0x22, 0xC0], CodeMode::Code64).unwrap();
    assert_eq!(ignored.special_register(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn lengths_are_the_oracles((bytes, instruction) in prefixed(10), mode in mode()) {
        let (found, len) = oracle(&bytes, mode);
        match length(instruction, &bytes, mode) {
            Ok(length) => {
                prop_assert_eq!(found, Some(instruction));
                prop_assert_eq!(usize::from(length), len);
            }
            Err(LengthError::NotThisInstruction) => prop_assert_ne!(found, Some(instruction)),
            // The library says "invalid" to what is longer than 15 bytes, and to nothing else here.
            Err(LengthError::TooLong) => prop_assert_eq!(found, None),
            Err(LengthError::NeedMore) => prop_assert!(false, "there are enough bytes"),
        }
    }

    #[test]
    fn what_another_vp_has_written_over_is_measured_as_what_it_is(
        (mut bytes, _) in prefixed(4),
        place in 0usize..8,
        byte: u8,
        mode in mode(),
    ) {
        bytes[place] = byte;
        if let Ok(decoded) = decode(&bytes, mode) {
            let (found, len) = oracle(&bytes, mode);
            prop_assert_eq!(found, Some(decoded.instruction));
            prop_assert_eq!(usize::from(decoded.length), len);
        }
    }

    #[test]
    fn fewer_bytes_are_answered_with_need_more((bytes, instruction) in prefixed(6), mode in mode()) {
        if let Ok(length) = length(instruction, &bytes, mode) {
            for cut in 0..usize::from(length) {
                prop_assert_eq!(
                    super::length(instruction, &bytes[..cut], mode),
                    Err(LengthError::NeedMore)
                );
            }
        }
    }
}
