//! Prefixes, opcode, and what follows it.

use super::operand::{AddressSize, Operand};
use super::{CodeMode, Instruction, LengthError, MAX_LENGTH};
use crate::arch::state::SegmentName;

/// An instruction that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Which one.
    pub instruction: Instruction,
    /// Bytes, 1 to 15.
    pub length: u8,
    modrm: u8,
    rex: u8,
}

impl Decoded {
    /// The general register of a MOV to or from a control or debug register, 0 to 15 in the order of the encoding (RAX,
    /// RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, …); without meaning for other instructions.
    pub const fn general_register(&self) -> u8 {
        self.modrm & 7 | (self.rex & 1) << 3
    }

    /// The control or debug register of such a MOV, 0 to 15. A LOCK prefix, AMD's way to CR8 outside long mode, is not
    /// looked at.
    pub const fn special_register(&self) -> u8 {
        self.modrm >> 3 & 7 | (self.rex & 4) << 1
    }
}

/// The bytes, and how many of them are read.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bytes that are read: at most [`MAX_LENGTH`].
    pub(super) const fn length(&self) -> u8 {
        self.position as u8
    }

    pub(super) fn next(&mut self) -> Result<u8, LengthError> {
        if self.position >= MAX_LENGTH {
            return Err(LengthError::TooLong);
        }
        let byte = *self.bytes.get(self.position).ok_or(LengthError::NeedMore)?;
        self.position += 1;
        Ok(byte)
    }

    fn skip(&mut self, count: usize) -> Result<(), LengthError> {
        (0..count).try_for_each(|_| self.next().map(drop))
    }

    /// The next `count` bytes, at most eight, as a number.
    pub(super) fn number(&mut self, count: u32) -> Result<u64, LengthError> {
        (0..count).try_fold(0, |number, place| {
            Ok(number | u64::from(self.next()?) << (8 * place))
        })
    }

    /// The next `count` bytes, one to eight, as a number whose sign is extended.
    pub(super) fn signed(&mut self, count: u32) -> Result<u64, LengthError> {
        let unused = u64::BITS - 8 * count;
        let number = self.number(count)?;
        Ok(((number << unused) as i64 >> unused) as u64)
    }
}

/// What the prefixes say, as far as it matters.
#[derive(Default)]
pub(super) struct Prefixes {
    /// 0x67.
    address_size: bool,
    /// 0x66.
    operand_size: bool,
    /// 0xF0.
    pub(super) lock: bool,
    /// The last that names a segment; in 64-bit code of those for FS and GS.
    pub(super) segment: Option<SegmentName>,
    /// The last of 0xF2 and 0xF3.
    repeat: u8,
    /// The REX prefix, if it stands right before the opcode; elsewhere it has no effect.
    pub(super) rex: u8,
}

impl Prefixes {
    /// Reads the prefixes and returns the opcode's first byte.
    pub(super) fn read(cursor: &mut Cursor, mode: CodeMode) -> Result<(Self, u8), LengthError> {
        let mut prefixes = Self::default();
        loop {
            let byte = cursor.next()?;
            let rex = match byte {
                0x26 | 0x2E | 0x36 | 0x3E | 0x64 | 0x65 => {
                    prefixes.note_segment(byte, mode);
                    0
                }
                0x66 => {
                    prefixes.operand_size = true;
                    0
                }
                0x67 => {
                    prefixes.address_size = true;
                    0
                }
                0xF0 => {
                    prefixes.lock = true;
                    0
                }
                0xF2 | 0xF3 => {
                    prefixes.repeat = byte;
                    0
                }
                0x40..=0x4F if mode == CodeMode::Code64 => byte,
                opcode => return Ok((prefixes, opcode)),
            };
            prefixes.rex = rex;
        }
    }

    fn note_segment(&mut self, prefix: u8, mode: CodeMode) {
        let segment = match prefix {
            0x64 => SegmentName::Fs,
            0x65 => SegmentName::Gs,
            _ if mode == CodeMode::Code64 => return,
            0x26 => SegmentName::Es,
            0x2E => SegmentName::Cs,
            0x36 => SegmentName::Ss,
            _ => SegmentName::Ds,
        };
        self.segment = Some(segment);
    }

    pub(super) const fn address_size(&self, mode: CodeMode) -> AddressSize {
        match (mode, self.address_size) {
            (CodeMode::Code16, false) | (CodeMode::Code32, true) => AddressSize::Bits16,
            (CodeMode::Code64, false) => AddressSize::Bits64,
            _ => AddressSize::Bits32,
        }
    }

    /// Of an instruction that has no size of its own.
    pub(super) const fn has_32_bit_operands(&self, mode: CodeMode) -> bool {
        match mode {
            CodeMode::Code16 => self.operand_size,
            CodeMode::Code32 => !self.operand_size,
            CodeMode::Code64 => !self.operand_size && self.rex & 8 == 0,
        }
    }
}

/// Finds the instruction at the start of `bytes`. [`LengthError::NotThisInstruction`] stands for any that is not an
/// [`Instruction`].
pub fn decode(bytes: &[u8], mode: CodeMode) -> Result<Decoded, LengthError> {
    let mut cursor = Cursor::new(bytes);
    let (prefixes, opcode) = Prefixes::read(&mut cursor, mode)?;
    let (instruction, modrm) = if opcode == 0x0F {
        two_bytes(&mut cursor, &prefixes, mode)?
    } else {
        (one_byte(&mut cursor, &prefixes, opcode, mode)?, 0)
    };
    Ok(Decoded {
        instruction,
        length: cursor.length(),
        modrm,
        rex: prefixes.rex,
    })
}

fn one_byte(
    cursor: &mut Cursor,
    prefixes: &Prefixes,
    opcode: u8,
    mode: CodeMode,
) -> Result<Instruction, LengthError> {
    let (instruction, immediate) = match opcode {
        0x6C | 0x6D => (Instruction::Ins, 0),
        0x6E | 0x6F => (Instruction::Outs, 0),
        0x90 if prefixes.repeat == 0xF3 => (Instruction::Pause, 0),
        0xCC => (Instruction::Int3, 0),
        0xCD => (Instruction::Int, 1),
        0xCE if mode != CodeMode::Code64 => (Instruction::Into, 0),
        0xE4 | 0xE5 => (Instruction::In, 1),
        0xE6 | 0xE7 => (Instruction::Out, 1),
        0xEC | 0xED => (Instruction::In, 0),
        0xEE | 0xEF => (Instruction::Out, 0),
        0xF4 => (Instruction::Hlt, 0),
        _ => return Err(LengthError::NotThisInstruction),
    };
    cursor.skip(immediate)?;
    Ok(instruction)
}

/// The opcodes after 0x0F, with the ModRM byte of those that have one.
fn two_bytes(
    cursor: &mut Cursor,
    prefixes: &Prefixes,
    mode: CodeMode,
) -> Result<(Instruction, u8), LengthError> {
    let instruction = match cursor.next()? {
        0x01 => return group_7(cursor, prefixes, mode),
        0x06 => Instruction::Clts,
        0x08 => Instruction::Invd,
        0x09 => Instruction::Wbinvd,
        // The register forms only: the mod field is ignored.
        0x20 => return Ok((Instruction::MovFromCr, cursor.next()?)),
        0x21 => return Ok((Instruction::MovFromDr, cursor.next()?)),
        0x22 => return Ok((Instruction::MovToCr, cursor.next()?)),
        0x23 => return Ok((Instruction::MovToDr, cursor.next()?)),
        0x30 => Instruction::Wrmsr,
        0x31 => Instruction::Rdtsc,
        0x32 => Instruction::Rdmsr,
        0x33 => Instruction::Rdpmc,
        0xA2 => Instruction::Cpuid,
        _ => return Err(LengthError::NotThisInstruction),
    };
    Ok((instruction, 0))
}

/// 0F 01: an instruction by the whole ModRM byte, or by its reg field with an operand.
fn group_7(
    cursor: &mut Cursor,
    prefixes: &Prefixes,
    mode: CodeMode,
) -> Result<(Instruction, u8), LengthError> {
    let modrm = cursor.next()?;
    let instruction = match (modrm, modrm >> 3 & 7) {
        (0xC1, _) => Instruction::Vmcall,
        (0xD1, _) => Instruction::Xsetbv,
        (0xD9, _) => Instruction::Vmmcall,
        (0xF9, _) => Instruction::Rdtscp,
        (_, 4) => Instruction::Smsw,
        (_, 6) => Instruction::Lmsw,
        _ => return Err(LengthError::NotThisInstruction),
    };
    Operand::read(cursor, prefixes, mode, modrm)?;
    Ok((instruction, modrm))
}
