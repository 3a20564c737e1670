//! Why a VM cannot go on.

use crate::ram::OutOfRam;

/// The bytes of an instruction, for a reason's text.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct InstructionBytes {
    bytes: [u8; 15],
    len: u8,
}

impl InstructionBytes {
    /// At most 15 bytes.
    pub fn new(given: &[u8]) -> Self {
        let mut bytes = [0; 15];
        let len = given.len().min(bytes.len());
        bytes[..len].copy_from_slice(&given[..len]);
        Self {
            bytes,
            len: len as u8,
        }
    }
}

impl core::fmt::Debug for InstructionBytes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let bytes = self.bytes.iter().take(usize::from(self.len));
        for (index, byte) in bytes.enumerate() {
            let gap = if index == 0 { "" } else { " " };
            write!(f, "{gap}{byte:02x}")?;
        }
        Ok(())
    }
}

/// Why a VM cannot go on; the text is what an operator reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// An instruction touched device memory in a way that the board does not know.
    #[error("cannot emulate the instruction {bytes:?} at RIP {rip:#x} (GPA {gpa:#x})")]
    CannotEmulate {
        /// RIP.
        rip: u64,
        /// Address it touched.
        gpa: u64,
        /// The instruction.
        bytes: InstructionBytes,
    },
    /// The intercepted instruction cannot be read.
    #[error("cannot read the instruction at RIP {rip:#x}")]
    CannotFetch {
        /// RIP.
        rip: u64,
    },
    /// The intercepted instruction is not the one the message tells of.
    #[error("the instruction {bytes:?} at RIP {rip:#x} is not the intercepted one")]
    WrongInstruction {
        /// RIP.
        rip: u64,
        /// The instruction.
        bytes: InstructionBytes,
    },
    /// Code is executed where there is no memory.
    #[error("code outside of memory: GPA {gpa:#x}, RIP {rip:#x}")]
    ExecuteOutsideRam {
        /// RIP.
        rip: u64,
        /// Address of the fetch.
        gpa: u64,
    },
    /// An access to RAM was intercepted.
    #[error("no access to RAM at GPA {gpa:#x} (RIP {rip:#x})")]
    RamAccess {
        /// RIP.
        rip: u64,
        /// Address.
        gpa: u64,
    },
    /// The page tables cannot be walked.
    #[error("cannot translate address {gva:#x}: result {result}")]
    Translation {
        /// Linear address.
        gva: u64,
        /// Result code of the translation.
        result: u32,
    },
    /// The hypervisor did not say how long the instruction is.
    #[error("the instruction at RIP {rip:#x} has no known length")]
    NoInstructionLength {
        /// RIP.
        rip: u64,
    },
    /// The hardware refuses the VP's state.
    #[error("invalid processor state")]
    InvalidState,
    /// The hypervisor cannot emulate what the guest does.
    #[error("unsupported processor feature {code} ({parameter:#x})")]
    UnsupportedFeature {
        /// What it was.
        code: u32,
        /// Depends on the code.
        parameter: u64,
    },
    /// A message that a board does not get.
    #[error("unexpected intercept {0:#010x}")]
    UnexpectedMessage(u32),
    /// Guest memory ended unexpectedly.
    #[error(transparent)]
    OutOfRam(#[from] OutOfRam),
}

impl From<Fault> for super::Outcome {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
