//! Reading and decoding the intercepted instruction.

use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction};
use tlfs::HvX64InterceptMessageHeader;

use super::registers::Segment;
use super::{Access, Bus, Fault, Guest, Machine, Outcome};
use crate::layout::PAGE;

/// Longest x86 instruction.
const MAX_LENGTH: usize = 15;

/// An instruction with the bytes it was decoded from.
pub(super) struct Fetched {
    pub instruction: Instruction,
    bytes: [u8; MAX_LENGTH],
}

impl Fetched {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.instruction.len()
    }

    /// The instruction's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len()).unwrap_or(&self.bytes)
    }
}

impl<B: Bus, G: Guest> Machine<'_, '_, B, G> {
    /// Decodes the intercepted instruction: from the bytes of the message if they suffice, else from guest memory.
    pub(super) fn fetch(
        &mut self,
        header: &HvX64InterceptMessageHeader,
        given: &[u8],
    ) -> Result<Fetched, Outcome> {
        let mut bytes = [0; MAX_LENGTH];
        let given = given.get(..MAX_LENGTH).unwrap_or(given);
        if let Some(start) = bytes.get_mut(..given.len()) {
            start.copy_from_slice(given);
        }
        if let Some(instruction) = self.decode(header.rip, given) {
            return Ok(Fetched { instruction, bytes });
        }
        let read = self.read_code(header.rip, &mut bytes)?;
        let code = bytes.get(..read).unwrap_or_default();
        match self.decode(header.rip, code) {
            Some(instruction) => Ok(Fetched { instruction, bytes }),
            None => Err(self.wrong_instruction(header, code)),
        }
    }

    fn decode(&self, rip: u64, code: &[u8]) -> Option<Instruction> {
        let bits = self.registers.code_size().bits();
        let mut decoder = Decoder::try_with_ip(bits, code, rip, DecoderOptions::NONE).ok()?;
        let instruction = decoder.decode();
        (decoder.last_error() == DecoderError::None).then_some(instruction)
    }

    /// Reads up to 15 bytes at RIP and returns how many there are. The page after the instruction need not exist.
    fn read_code(&mut self, rip: u64, bytes: &mut [u8; MAX_LENGTH]) -> Result<usize, Outcome> {
        let start = self.registers.linear(Segment::Cs, rip);
        let in_page = (PAGE - (start & (PAGE - 1))).min(MAX_LENGTH as u64) as usize;
        let (first, second) = bytes.split_at_mut(in_page);
        match self.read_code_page(start, first) {
            Err(again) if again.is_again() => return Err(again),
            other => other.map_err(|_| Fault::CannotFetch { rip })?,
        }
        if second.is_empty() {
            return Ok(in_page);
        }
        let next = start.wrapping_add(in_page as u64);
        match self.read_code_page(next, second) {
            Err(again) if again.is_again() => Err(again),
            Err(_) => Ok(in_page),
            Ok(()) => Ok(MAX_LENGTH),
        }
    }

    fn read_code_page(&mut self, linear: u64, bytes: &mut [u8]) -> Result<(), Outcome> {
        let gpa = self.translate(linear, Access::Execute)?;
        Ok(self.guest.read(gpa, bytes)?)
    }
}
