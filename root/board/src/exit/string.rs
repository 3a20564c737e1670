//! String instructions: INS and OUTS at ports, MOVS, STOS and LODS at device memory.
//!
//! A repetition is done in parts, so that the guest can take interrupts in between: RIP moves on when the count is
//! zero, as in hardware.

use iced_x86::{Code, Mnemonic, OpKind, Register};
use tlfs::{HvX64InterceptMessageHeader, HvX64IoPortInterceptMessage};

use super::completion::single_stepped;
use super::fetch::Fetched;
use super::linear::PageCache;
use super::port::truncate;
use super::registers::Segment;
use super::{Bus, Guest, Handled, Machine, Outcome};

/// Most elements in one intercept.
const MAX_ELEMENTS: u64 = 1024;
/// RFLAGS.DF.
const DIRECTION: u64 = 1 << 10;
const RAX: usize = 0;
const RCX: usize = 1;
const RSI: usize = 6;
const RDI: usize = 7;

/// What an element is moved between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    In(u16),
    Out(u16),
    Movs,
    Stos,
    Lods,
}

/// A decoded string instruction.
#[derive(Clone, Copy, Debug)]
struct StringInstruction {
    operation: Operation,
    /// Bytes of an element.
    size: u8,
    /// Bytes of the address registers and of the count: 2, 4 or 8.
    address_size: u8,
    source: Segment,
    repeated: bool,
}

impl StringInstruction {
    /// `None` if it is none of those known here.
    fn new(fetched: &Fetched, port: u16) -> Option<Self> {
        let instruction = &fetched.instruction;
        let (operation, size) = match instruction.mnemonic() {
            Mnemonic::Insb => (Operation::In(port), 1),
            Mnemonic::Insw => (Operation::In(port), 2),
            Mnemonic::Insd => (Operation::In(port), 4),
            Mnemonic::Outsb => (Operation::Out(port), 1),
            Mnemonic::Outsw => (Operation::Out(port), 2),
            Mnemonic::Outsd => (Operation::Out(port), 4),
            Mnemonic::Movsb => (Operation::Movs, 1),
            Mnemonic::Movsw => (Operation::Movs, 2),
            // The same mnemonic names an SSE instruction.
            Mnemonic::Movsd if instruction.code() == Code::Movsd_m32_m32 => (Operation::Movs, 4),
            Mnemonic::Movsq => (Operation::Movs, 8),
            Mnemonic::Stosb => (Operation::Stos, 1),
            Mnemonic::Stosw => (Operation::Stos, 2),
            Mnemonic::Stosd => (Operation::Stos, 4),
            Mnemonic::Stosq => (Operation::Stos, 8),
            Mnemonic::Lodsb => (Operation::Lods, 1),
            Mnemonic::Lodsw => (Operation::Lods, 2),
            Mnemonic::Lodsd => (Operation::Lods, 4),
            Mnemonic::Lodsq => (Operation::Lods, 8),
            _ => return None,
        };
        let address_size =
            (0..instruction.op_count()).find_map(|index| match instruction.op_kind(index) {
                OpKind::MemorySegSI | OpKind::MemoryESDI => Some(2),
                OpKind::MemorySegESI | OpKind::MemoryESEDI => Some(4),
                OpKind::MemorySegRSI | OpKind::MemoryESRDI => Some(8),
                _ => None,
            })?;
        Some(Self {
            operation,
            size,
            address_size,
            source: match instruction.segment_prefix() {
                Register::ES => Segment::Es,
                Register::CS => Segment::Cs,
                Register::SS => Segment::Ss,
                Register::FS => Segment::Fs,
                Register::GS => Segment::Gs,
                _ => Segment::Ds,
            },
            repeated: instruction.has_rep_prefix() || instruction.has_repne_prefix(),
        })
    }

    fn has_source(&self) -> bool {
        matches!(
            self.operation,
            Operation::Out(_) | Operation::Movs | Operation::Lods
        )
    }

    fn has_destination(&self) -> bool {
        matches!(
            self.operation,
            Operation::In(_) | Operation::Movs | Operation::Stos
        )
    }
}

impl<B: Bus, G: Guest> Machine<'_, '_, B, G> {
    /// INS or OUTS.
    pub(super) fn string_port(&mut self, intercept: &HvX64IoPortInterceptMessage) -> Handled {
        let given = intercept
            .instruction_bytes
            .get(..usize::from(intercept.instruction_byte_count))
            .unwrap_or_default();
        let fetched = self.fetch(&intercept.header, given)?;
        match StringInstruction::new(&fetched, intercept.port_number) {
            Some(string) if matches!(string.operation, Operation::In(_) | Operation::Out(_)) => {
                self.repeat(&intercept.header, &fetched, string)
            }
            _ => Err(self.wrong_instruction(&intercept.header, fetched.bytes())),
        }
    }

    /// MOVS, STOS or LODS. `None` if the instruction is neither.
    pub(super) fn string_memory(
        &mut self,
        header: &HvX64InterceptMessageHeader,
        fetched: &Fetched,
    ) -> Option<Handled> {
        let string = StringInstruction::new(fetched, 0)?;
        match string.operation {
            Operation::In(_) | Operation::Out(_) => None,
            _ => Some(self.repeat(header, fetched, string)),
        }
    }

    fn repeat(
        &mut self,
        header: &HvX64InterceptMessageHeader,
        fetched: &Fetched,
        string: StringInstruction,
    ) -> Handled {
        let mut left = match string.repeated {
            true => truncate(self.registers.get(RCX), string.address_size),
            false => 1,
        };
        let mut sources = PageCache::default();
        let mut destinations = PageCache::default();
        let mut failed = None;
        // A guest that single-steps sees each element.
        let most = if single_stepped(header) {
            1
        } else {
            MAX_ELEMENTS
        };
        for _ in 0..left.min(most) {
            if let Err(outcome) = self.element(&string, &mut sources, &mut destinations) {
                failed = Some(outcome);
                break;
            }
            left -= 1;
        }
        if string.repeated {
            self.registers.set_sized(RCX, string.address_size, left);
        }
        match failed {
            // What is done is done; the guest sees the fault at the element that failed.
            Some(outcome) => Err(outcome),
            None if left == 0 => self.advance(header, fetched.len()),
            None => {
                self.end_part(header);
                Ok(())
            }
        }
    }

    fn element(
        &mut self,
        string: &StringInstruction,
        sources: &mut PageCache,
        destinations: &mut PageCache,
    ) -> Result<(), Outcome> {
        let size = string.size;
        let (rsi, rdi) = (self.registers.get(RSI), self.registers.get(RDI));
        let source = self
            .registers
            .linear(string.source, truncate(rsi, string.address_size));
        let destination = self
            .registers
            .linear(Segment::Es, truncate(rdi, string.address_size));
        match string.operation {
            Operation::In(port) => {
                // The destination first: a port must not be read for nothing.
                self.probe_write(destination, size, destinations)?;
                let value = self.bus.port_read(port, size, self.now);
                self.write_linear(destination, size, u64::from(value), destinations)?;
            }
            Operation::Out(port) => {
                let value = self.read_linear(source, size, sources)?;
                self.bus.port_write(port, size, value as u32, self.now);
            }
            Operation::Movs => {
                // Both before the source is read, which may be a device's register.
                self.probe_read(source, size, sources)?;
                self.probe_write(destination, size, destinations)?;
                let value = self.read_linear(source, size, sources)?;
                self.write_linear(destination, size, value, destinations)?;
            }
            Operation::Stos => {
                let value = self.registers.get(RAX);
                self.write_linear(destination, size, value, destinations)?;
            }
            Operation::Lods => {
                let value = self.read_linear(source, size, sources)?;
                self.registers.set_sized(RAX, size, value);
            }
        }
        if string.has_source() {
            self.step_address(RSI, string);
        }
        if string.has_destination() {
            self.step_address(RDI, string);
        }
        Ok(())
    }

    fn step_address(&mut self, register: usize, string: &StringInstruction) {
        let size = u64::from(string.size);
        let old = self.registers.get(register);
        let new = if self.registers.flags() & DIRECTION == 0 {
            old.wrapping_add(size)
        } else {
            old.wrapping_sub(size)
        };
        self.registers.set_sized(register, string.address_size, new);
    }
}
