//! Instructions that touch device memory.
//!
//! Known are the moves, with and without extension, the arithmetic and logical operations, XCHG and the string moves:
//! what compilers make of accesses to a device register. Anything else ends the VM with the instruction's bytes as the
//! reason.

use iced_x86::{Instruction, Mnemonic, OpKind};
use tlfs::{HvInterceptAccessType, HvX64MemoryInterceptMessage};

use super::alu::{self, Operation};
use super::fetch::Fetched;
use super::operand::{self, General};
use super::port::truncate;
use super::{Bus, Fault, Guest, Handled, InstructionBytes, Machine};
use crate::layout::PAGE;

/// The register or immediate beside the memory operand, or the lack of one.
struct Access<'a> {
    instruction: &'a Instruction,
    /// Number of the memory operand.
    operand: u32,
    gpa: u64,
    /// Bytes at `gpa`.
    size: u8,
}

impl<B: Bus, G: Guest> Machine<'_, '_, B, G> {
    /// An access to a GPA that is not RAM.
    pub(super) fn memory(&mut self, intercept: &HvX64MemoryInterceptMessage) -> Handled {
        let gpa = intercept.guest_physical_address;
        let rip = intercept.header.rip;
        if intercept.header.intercept_access_type == HvInterceptAccessType::EXECUTE {
            return Err(Fault::ExecuteOutsideRam { rip, gpa }.into());
        }
        if self.guest.is_ram(gpa, 1) {
            return Err(Fault::RamAccess { rip, gpa }.into());
        }
        let given = intercept
            .instruction_bytes
            .get(..usize::from(intercept.instruction_byte_count))
            .unwrap_or_default();
        let fetched = self.fetch(&intercept.header, given)?;
        if let Some(handled) = self.string_memory(&intercept.header, &fetched) {
            return handled;
        }
        if let Some(handled) = self.bad_parameters(&intercept.header, &fetched) {
            return handled;
        }
        match Access::new(&fetched, gpa).and_then(|access| self.emulate(&access)) {
            Some(()) => self.advance(&intercept.header, fetched.len()),
            None => Err(Fault::CannotEmulate {
                rip,
                gpa,
                bytes: InstructionBytes::new(fetched.bytes()),
            }
            .into()),
        }
    }

    /// `None` if the instruction is not known here. Nothing has happened then.
    fn emulate(&mut self, access: &Access<'_>) -> Option<()> {
        match access.instruction.mnemonic() {
            Mnemonic::Mov | Mnemonic::Movnti => self.mov(access),
            Mnemonic::Movzx => {
                let register = access.register(0)?;
                let value = self.read(access);
                register.set(self.registers, value);
                Some(())
            }
            Mnemonic::Movsx | Mnemonic::Movsxd => {
                let register = access.register(0)?;
                let value = sign_extend(self.read(access), access.size);
                register.set(self.registers, value);
                Some(())
            }
            Mnemonic::Xchg => {
                let register = access.register(1 - access.operand)?;
                let new = register.get(self.registers);
                let old = self.read(access);
                self.write(access, new);
                register.set(self.registers, old);
                Some(())
            }
            Mnemonic::Not => {
                let value = self.read(access);
                self.write(access, !value);
                Some(())
            }
            Mnemonic::Inc => self.step(access, Operation::Add),
            Mnemonic::Dec => self.step(access, Operation::Sub),
            Mnemonic::Cmp => self.arithmetic(access, Operation::Sub, false),
            Mnemonic::Test => self.arithmetic(access, Operation::And, false),
            Mnemonic::Add => self.arithmetic(access, Operation::Add, true),
            Mnemonic::Adc => self.arithmetic(access, Operation::Adc, true),
            Mnemonic::Sub => self.arithmetic(access, Operation::Sub, true),
            Mnemonic::Sbb => self.arithmetic(access, Operation::Sbb, true),
            Mnemonic::And => self.arithmetic(access, Operation::And, true),
            Mnemonic::Or => self.arithmetic(access, Operation::Or, true),
            Mnemonic::Xor => self.arithmetic(access, Operation::Xor, true),
            _ => None,
        }
    }

    fn mov(&mut self, access: &Access<'_>) -> Option<()> {
        if access.operand == 0 {
            let value = operand::value(access.instruction, 1, self.registers)?;
            self.write(access, value);
        } else {
            let register = access.register(0)?;
            let value = self.read(access);
            register.set(self.registers, value);
        }
        Some(())
    }

    fn arithmetic(&mut self, access: &Access<'_>, operation: Operation, store: bool) -> Option<()> {
        let other = operand::value(access.instruction, 1 - access.operand, self.registers)?;
        let destination = if access.operand == 0 || !store {
            None
        } else {
            Some(access.register(0)?)
        };
        let here = self.read(access);
        let (left, right) = if access.operand == 0 {
            (here, other)
        } else {
            (other, here)
        };
        let (result, flags) =
            alu::compute(operation, left, right, access.size, self.registers.flags());
        match destination {
            Some(register) => register.set(self.registers, result),
            None if store => self.write(access, result),
            None => {}
        }
        self.registers.set_flags(flags);
        Some(())
    }

    /// INC or DEC, which leave CF alone.
    fn step(&mut self, access: &Access<'_>, operation: Operation) -> Option<()> {
        let value = self.read(access);
        let before = self.registers.flags();
        let (result, flags) = alu::compute(operation, value, 1, access.size, before);
        self.write(access, result);
        self.registers
            .set_flags(flags & !alu::CF | before & alu::CF);
        Some(())
    }

    fn read(&mut self, access: &Access<'_>) -> u64 {
        let value = self.bus.memory_read(access.gpa, access.size, self.now);
        truncate(value, access.size)
    }

    fn write(&mut self, access: &Access<'_>, value: u64) {
        let value = truncate(value, access.size);
        self.bus
            .memory_write(access.gpa, access.size, value, self.now);
    }
}

impl<'a> Access<'a> {
    /// `None` unless the instruction has one memory operand of 1, 2, 4 or 8 bytes in one page.
    fn new(fetched: &'a Fetched, gpa: u64) -> Option<Self> {
        let instruction = &fetched.instruction;
        let operand = (0..instruction.op_count())
            .find(|index| instruction.op_kind(*index) == OpKind::Memory)?;
        let size = u8::try_from(instruction.memory_size().size()).ok()?;
        let whole = (gpa & (PAGE - 1)) + u64::from(size) <= PAGE;
        (operand <= 1 && matches!(size, 1 | 2 | 4 | 8) && whole).then_some(Self {
            instruction,
            operand,
            gpa,
            size,
        })
    }

    /// The general register that is operand number `operand`.
    fn register(&self, operand: u32) -> Option<General> {
        if self.instruction.op_kind(operand) != OpKind::Register {
            return None;
        }
        General::new(self.instruction.op_register(operand))
    }
}

fn sign_extend(value: u64, size: u8) -> u64 {
    match size {
        1 => value as u8 as i8 as u64,
        2 => value as u16 as i16 as u64,
        4 => value as u32 as i32 as u64,
        _ => value,
    }
}
