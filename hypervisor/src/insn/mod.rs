//! Length of an intercepted instruction, from its bytes; and the MOV that accesses the page of a local APIC.
//!
//! Some processors do not tell where the instruction after an intercepted one begins (no next-RIP save). Then the bytes
//! at RIP are read back and measured here. Another VP may have changed them since the processor looked: what is found is
//! compared with what was intercepted, and a mismatch is an error of that VP alone.
//!
//! Only instructions that can be intercepted are known, and forms of MOV ([`decode_mov`]); this is no disassembler. Redundant prefixes are counted, since
//! real kernels use them (a stock Linux executes `ds wrmsr`).
//!
//! Sources: AMD APM volume 3, "Instruction Encoding"; Intel SDM volume 2, chapter 2.

mod decode;
mod mov;
mod operand;

#[cfg(test)]
mod mov_tests;
#[cfg(test)]
mod tests;

pub use decode::{Decoded, decode};
pub use mov::{Mov, Transfer, decode_mov};
pub use operand::{AddressSize, Base, Operand};

/// No instruction is longer, in bytes.
pub const MAX_LENGTH: usize = 15;

/// An instruction that can be intercepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// CPUID.
    Cpuid,
    /// HLT.
    Hlt,
    /// RDMSR.
    Rdmsr,
    /// WRMSR.
    Wrmsr,
    /// VMMCALL.
    Vmmcall,
    /// VMCALL.
    Vmcall,
    /// XSETBV.
    Xsetbv,
    /// INVD.
    Invd,
    /// WBINVD, or WBNOINVD where the processor does not tell them apart.
    Wbinvd,
    /// RDPMC.
    Rdpmc,
    /// RDTSC.
    Rdtsc,
    /// RDTSCP.
    Rdtscp,
    /// PAUSE.
    Pause,
    /// INT3.
    Int3,
    /// INT n.
    Int,
    /// INTO.
    Into,
    /// IN, from a port in the instruction or in DX.
    In,
    /// OUT, to a port in the instruction or in DX.
    Out,
    /// INS.
    Ins,
    /// OUTS.
    Outs,
    /// MOV from a control register.
    MovFromCr,
    /// MOV to a control register.
    MovToCr,
    /// MOV from a debug register.
    MovFromDr,
    /// MOV to a debug register.
    MovToDr,
    /// CLTS.
    Clts,
    /// LMSW.
    Lmsw,
    /// SMSW.
    Smsw,
}

/// What the code segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeMode {
    /// Real mode, virtual-8086 mode, or a segment with D clear.
    Code16,
    /// A segment with D set.
    Code32,
    /// Long mode, a segment with L set.
    Code64,
}

/// Why there is no length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LengthError {
    /// The bytes end inside the instruction: give more, at most [`MAX_LENGTH`].
    NeedMore,
    /// Another instruction is there.
    NotThisInstruction,
    /// More than [`MAX_LENGTH`] bytes with its prefixes: the processor would not have executed it.
    TooLong,
}

/// The length in bytes, 1 to 15, of `expected` at the start of `bytes`.
pub fn length(expected: Instruction, bytes: &[u8], mode: CodeMode) -> Result<u8, LengthError> {
    let decoded = decode(bytes, mode)?;
    if decoded.instruction == expected {
        Ok(decoded.length)
    } else {
        Err(LengthError::NotThisInstruction)
    }
}

/// The length without prefixes, of those that exit most: what nearly all of them are, in any mode. `first` is the
/// instruction's first eight bytes, little endian.
#[inline(always)]
pub const fn plain_length(expected: Instruction, first: u64) -> Option<u8> {
    let (opcode, length) = match expected {
        Instruction::Cpuid => (0xA20F, 2),
        Instruction::Rdmsr => (0x320F, 2),
        Instruction::Wrmsr => (0x300F, 2),
        Instruction::Vmmcall => (0xD9_010F, 3),
        Instruction::Hlt => (0xF4, 1),
        _ => return None,
    };
    if first & ((1 << (8 * length)) - 1) == opcode {
        Some(length)
    } else {
        None
    }
}
