use super::*;
use crate::arch::state::{Gprs, SegmentName};
use iced_x86::{Decoder, DecoderOptions, Instruction as Found, Mnemonic, OpKind, Register};
use proptest::prelude::*;

const MODES: [(CodeMode, u32); 3] = [
    (CodeMode::Code16, 16),
    (CodeMode::Code32, 32),
    (CodeMode::Code64, 64),
];
const REFUSED: Result<Mov, LengthError> = Err(LengthError::NotThisInstruction);

/// Registers with values that tell them apart.
fn gprs() -> Gprs {
    Gprs::from_array(core::array::from_fn(|number| {
        0x1111_0000_1234_0100_u64.wrapping_mul(number as u64 + 1)
    }))
}

/// What the library finds, if it is a MOV of 32 bits between memory and a general register or a number.
fn oracle(bytes: &[u8], bits: u32) -> Option<Found> {
    let mut decoder = Decoder::new(bits, bytes, DecoderOptions::NO_INVALID_CHECK);
    let found = decoder.decode();
    let is_memory = |operand| found.op_kind(operand) == OpKind::Memory;
    let moves = found.mnemonic() == Mnemonic::Mov && (is_memory(0) || is_memory(1));
    let other = u32::from(is_memory(0));
    let fits = match found.op_kind(other) {
        OpKind::Register => found.op_register(other).is_gpr32(),
        kind => kind == OpKind::Immediate32,
    };
    (moves && fits && !found.has_lock_prefix()).then_some(found)
}

fn segment(register: Register) -> SegmentName {
    match register {
        Register::ES => SegmentName::Es,
        Register::CS => SegmentName::Cs,
        Register::SS => SegmentName::Ss,
        Register::FS => SegmentName::Fs,
        Register::GS => SegmentName::Gs,
        _ => SegmentName::Ds,
    }
}

/// The offset in the segment by the library's operands.
fn offset(found: &Found, rip: u64) -> u64 {
    let gprs = gprs();
    if found.is_ip_rel_memory_operand() {
        // It has added RIP already, as if the code lay at zero.
        return found.memory_displacement64().wrapping_add(rip);
    }
    let value = |register: Register| match register {
        Register::None => 0,
        register => gprs.get(register.number()).unwrap(),
    };
    let index = value(found.memory_index()).wrapping_mul(found.memory_index_scale().into());
    value(found.memory_base())
        .wrapping_add(index)
        .wrapping_add(found.memory_displacement64())
}

fn transfer(found: &Found) -> Transfer {
    let register = |operand| found.op_register(operand).number() as u8;
    match (found.op_kind(0), found.op_kind(1)) {
        (OpKind::Memory, OpKind::Register) => Transfer::Store { from: register(1) },
        (OpKind::Memory, _) => Transfer::StoreNumber {
            value: found.immediate32(),
        },
        _ => Transfer::Load { to: register(0) },
    }
}

/// Compares what is found with what the library finds; says whether there is a MOV.
fn compare(bytes: &[u8], (mode, bits): (CodeMode, u32)) -> bool {
    let found = oracle(bytes, bits);
    let Ok(mov) = decode_mov(bytes, mode) else {
        assert_eq!(found, None, "{bytes:02x?} {mode:?}");
        return false;
    };
    let found = found.unwrap_or_else(|| panic!("{mov:?} in {bytes:02x?} {mode:?}"));
    assert_eq!(usize::from(mov.length), found.len(), "{bytes:02x?}");
    assert_eq!(mov.transfer, transfer(&found), "{bytes:02x?}");
    if mode != CodeMode::Code64 || matches!(mov.operand.segment, SegmentName::Fs | SegmentName::Gs)
    {
        let named = segment(found.memory_segment());
        assert_eq!(mov.operand.segment, named, "{bytes:02x?} {mode:?}");
    }
    let mask = match mov.operand.size {
        AddressSize::Bits16 => 0xFFFF,
        AddressSize::Bits32 => 0xFFFF_FFFF,
        AddressSize::Bits64 => u64::MAX,
    };
    let rip = 0x7654_3210;
    let own = mov.operand.offset(&gprs(), rip + u64::from(mov.length));
    assert_eq!(own, offset(&found, rip) & mask, "{bytes:02x?} {mode:?}");
    true
}

/// Each form, in 64-bit code, as compilers make it.
#[test]
fn every_form_is_found() {
    let load = |to| Transfer::Load { to };
    let store = |from| Transfer::Store { from };
    let number = |value| Transfer::StoreNumber { value };
    let table: [(&[u8], Transfer, u64); 12] = [
        // mov eax, [rdi]; mov [rdi], eax
        (&[0x8B, 0x07], load(0), 7),
        (&[0x89, 0x07], store(0), 7),
        // mov r9d, [r15 + 0x20]; mov [r13], r12d
        (&[0x45, 0x8B, 0x4F, 0x20], load(9), 15),
        (&[0x45, 0x89, 0x65, 0x00], store(12), 13),
        // mov dword [rbx + 0xb0], 0
        (&[0xC7, 0x83, 0xB0, 0, 0, 0, 0, 0, 0, 0], number(0), 3),
        // mov dword [rsp], 0x12345678
        (
            &[0xC7, 0x04, 0x24, 0x78, 0x56, 0x34, 0x12],
            number(0x1234_5678),
            4,
        ),
        // mov edx, [rax + rcx * 8 - 1]
        (&[0x8B, 0x54, 0xC8, 0xFF], load(2), 0),
        // mov esi, gs:[rbp - 0x80]
        (&[0x65, 0x8B, 0x75, 0x80], load(6), 5),
        // mov eax, [ecx]
        (&[0x67, 0x8B, 0x01], load(0), 1),
        // mov eax, [absolute] and back
        (&[0xA1, 0x20, 0, 0xE0, 0xFE, 0, 0, 0, 0], load(0), 16),
        (&[0xA3, 0x20, 0, 0xE0, 0xFE, 0, 0, 0, 0], store(0), 16),
        // mov ecx, [rip + 2]
        (&[0x8B, 0x0D, 2, 0, 0, 0], load(1), 17),
    ];
    for (bytes, transfer, base) in table {
        let mov = decode_mov(bytes, CodeMode::Code64).unwrap();
        assert_eq!(usize::from(mov.length), bytes.len(), "{bytes:02x?}");
        assert_eq!(mov.transfer, transfer, "{bytes:02x?}");
        let expected = match base {
            16 => Base::None,
            17 => Base::NextInstruction,
            number => Base::Register(number as u8),
        };
        assert_eq!(mov.operand.base, expected, "{bytes:02x?}");
        assert!(compare(bytes, (CodeMode::Code64, 64)));
    }
}

#[test]
fn other_widths_and_other_instructions_are_refused() {
    let code: [&[u8]; 16] = [
        &[0x48, 0x8B, 0x07],             // mov rax, [rdi]
        &[0x66, 0x8B, 0x07],             // mov ax, [rdi]
        &[0x8A, 0x07],                   // mov al, [rdi]
        &[0x88, 0x07],                   // mov [rdi], al
        &[0xC6, 0x07, 0x01],             // mov byte [rdi], 1
        &[0x48, 0xC7, 0x07, 1, 0, 0, 0], // mov qword [rdi], 1
        &[0xC7, 0x4F, 0x00, 1, 0, 0, 0], // C7 /1
        &[0x89, 0xC7],                   // mov edi, eax
        &[0xF0, 0x89, 0x07],             // lock mov [rdi], eax
        &[0xF3, 0xA5],                   // rep movsd
        &[0x01, 0x07],                   // add [rdi], eax
        &[0x87, 0x07],                   // xchg [rdi], eax
        &[0x0F, 0xB6, 0x07],             // movzx eax, byte [rdi]
        &[0xFF, 0x37],                   // push [rdi]
        &[0x0F, 0x11, 0x07],             // movups [rdi], xmm0
        &[0x0F, 0xC3, 0x07],             // movnti [rdi], eax
    ];
    for bytes in code {
        assert_eq!(decode_mov(bytes, CodeMode::Code64), REFUSED, "{bytes:02x?}");
    }
    // Without its prefix, real mode's is a move of 16 bits.
    assert_eq!(decode_mov(&[0x8B, 0x07], CodeMode::Code16), REFUSED);
    assert!(decode_mov(&[0x66, 0x8B, 0x07], CodeMode::Code16).is_ok());
}

/// Every ModRM byte with some SIB bytes, behind every combination of the prefixes that matter.
#[test]
fn every_operand_is_the_oracles() {
    let mut movs = 0;
    for mode in MODES {
        for opcode in [0x89, 0x8B, 0xA1, 0xA3, 0xC7] {
            for modrm in 0..=255 {
                for prefixes in 0..8 {
                    for (rex, sib) in [(0x40, 0x65), (0x43, 0x25), (0x47, 0xA4), (0x42, 0xE3)] {
                        let mut bytes = Vec::new();
                        let all = [(1, 0x66), (2, 0x67), (4, rex)];
                        let chosen = all.into_iter().filter(|(bit, _)| prefixes & bit != 0);
                        bytes.extend(chosen.map(|(_, prefix)| prefix));
                        bytes.extend([opcode, modrm, sib, 0x90, 0x81, 0x72, 0x63, 0x54, 0xC5]);
                        bytes.extend([0xB6, 0x27, 0x18, 0x09]);
                        movs += usize::from(compare(&bytes, mode));
                    }
                }
            }
        }
    }
    assert!(movs > 10_000, "{movs}");
}

fn any_code() -> impl Strategy<Value = Vec<u8>> {
    let prefix = prop_oneof![
        4 => prop::sample::select(vec![0x26u8, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF2, 0xF3]),
        1 => 0x40u8..0x50,
    ];
    let opcode = prop_oneof![
        8 => prop::sample::select(vec![0x89u8, 0x8B, 0xA1, 0xA3, 0xC7]),
        1 => any::<u8>(),
    ];
    let prefixes = prop::collection::vec(prefix, 0..4);
    (prefixes, opcode, any::<[u8; 16]>()).prop_map(|(mut bytes, opcode, rest)| {
        bytes.push(opcode);
        bytes.extend(rest);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_is_found_is_the_oracles(bytes in any_code(), mode in prop::sample::select(MODES.to_vec())) {
        compare(&bytes, mode);
    }

    #[test]
    fn no_byte_less_is_enough(bytes in any_code(), mode in prop::sample::select(MODES.to_vec())) {
        if let Ok(mov) = decode_mov(&bytes, mode.0) {
            for cut in 0..usize::from(mov.length) {
                prop_assert_eq!(decode_mov(&bytes[..cut], mode.0), Err(LengthError::NeedMore));
            }
        }
    }
}
