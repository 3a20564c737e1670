//! The forms of MOV that compilers make for 32-bit device registers in memory, and no other instruction.
//!
//! | Opcode | From, to |
//! |---|---|
//! | 89 /r | general register to memory |
//! | 8B /r | memory to general register |
//! | A1, A3 | offset in the instruction to EAX, and back |
//! | C7 /0 | number in the instruction to memory |
//!
//! With 32-bit operands, by prefixes and mode, and memory on one side: everything else is
//! [`LengthError::NotThisInstruction`].

use super::decode::{Cursor, Prefixes};
use super::operand::Operand;
use super::{CodeMode, LengthError};

/// What moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Memory to a general register, 0 to 15. Its upper half becomes zero.
    Load {
        /// Number of the register.
        to: u8,
    },
    /// A general register, 0 to 15, to memory.
    Store {
        /// Number of the register.
        from: u8,
    },
    /// A number to memory.
    StoreNumber {
        /// The number.
        value: u32,
    },
}

/// A MOV of 32 bits from or to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mov {
    /// Bytes, 1 to 15.
    pub length: u8,
    /// What moves.
    pub transfer: Transfer,
    /// Where the memory is.
    pub operand: Operand,
}

/// Finds the MOV at the start of `bytes`.
///
/// # Errors
/// [`LengthError::NotThisInstruction`] for anything but the forms above.
pub fn decode_mov(bytes: &[u8], mode: CodeMode) -> Result<Mov, LengthError> {
    const LOAD: u8 = 0x8B;
    const STORE: u8 = 0x89;
    const LOAD_EAX: u8 = 0xA1;
    const STORE_EAX: u8 = 0xA3;
    const STORE_NUMBER: u8 = 0xC7;
    let mut cursor = Cursor::new(bytes);
    let (prefixes, opcode) = Prefixes::read(&mut cursor, mode)?;
    let known = matches!(opcode, LOAD | STORE | LOAD_EAX | STORE_EAX | STORE_NUMBER);
    // LOCK with a MOV is #UD.
    if !known || prefixes.lock || !prefixes.has_32_bit_operands(mode) {
        return Err(LengthError::NotThisInstruction);
    }
    let (transfer, operand) = match opcode {
        LOAD_EAX | STORE_EAX => {
            let operand = Operand::absolute(&mut cursor, &prefixes, mode)?;
            let transfer = match opcode {
                LOAD_EAX => Transfer::Load { to: 0 },
                _ => Transfer::Store { from: 0 },
            };
            (transfer, operand)
        }
        _ => {
            let modrm = cursor.next()?;
            let field = modrm >> 3 & 7;
            if opcode == STORE_NUMBER && field != 0 {
                return Err(LengthError::NotThisInstruction);
            }
            let operand = Operand::read(&mut cursor, &prefixes, mode, modrm)?
                .ok_or(LengthError::NotThisInstruction)?;
            let register = field | (prefixes.rex & 4) << 1;
            let transfer = match opcode {
                LOAD => Transfer::Load { to: register },
                STORE => Transfer::Store { from: register },
                _ => Transfer::StoreNumber {
                    value: cursor.number(4)? as u32,
                },
            };
            (transfer, operand)
        }
    };
    Ok(Mov {
        length: cursor.length(),
        transfer,
        operand,
    })
}
