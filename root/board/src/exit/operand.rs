//! Register and immediate operands of a decoded instruction.

use iced_x86::{Instruction, OpKind, Register};

use super::Registers;
use super::port::truncate;

/// A general register operand: which one, how wide, and whether it is one of AH, CH, DH, BH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct General {
    index: usize,
    size: u8,
    high: bool,
}

impl General {
    /// `None` if it is no general register.
    pub fn new(register: Register) -> Option<Self> {
        let high = matches!(
            register,
            Register::AH | Register::CH | Register::DH | Register::BH
        );
        register.is_gpr().then(|| Self {
            index: register.full_register().number(),
            size: register.size() as u8,
            high,
        })
    }

    /// The value, in the low bytes.
    pub fn get(self, registers: &Registers<'_>) -> u64 {
        let value = registers.get(self.index);
        truncate(if self.high { value >> 8 } else { value }, self.size)
    }

    /// Sets the register as an instruction does.
    pub fn set(self, registers: &mut Registers<'_>, value: u64) {
        if self.high {
            let old = registers.get(self.index);
            registers.set(self.index, old & !0xFF00 | (value & 0xFF) << 8);
        } else {
            registers.set_sized(self.index, self.size, value);
        }
    }
}

/// Value of a register or immediate operand; `None` for every other kind.
pub fn value(instruction: &Instruction, operand: u32, registers: &Registers<'_>) -> Option<u64> {
    if operand >= instruction.op_count() {
        return None;
    }
    match instruction.op_kind(operand) {
        OpKind::Register => {
            General::new(instruction.op_register(operand)).map(|register| register.get(registers))
        }
        // Sign-extended where the instruction does so; the operation truncates.
        _ => instruction.try_immediate(operand).ok(),
    }
}
