//! Why a kernel cannot be started.

use super::Protocol;
use crate::ram::OutOfRam;

/// Why a kernel cannot be started; the text is what an operator reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Zero bytes.
    #[error("the kernel file is empty")]
    Empty,
    /// None of the known formats.
    #[error("not a kernel: neither a Linux bzImage nor an ELF image nor a multiboot image")]
    NotAKernel,
    /// A protocol was asked for that the image does not offer.
    #[error("the kernel cannot be started by {0}")]
    NotOfProtocol(Protocol),
    /// The file ends inside of what it announces.
    #[error("the kernel file is truncated: {what} at {offset:#x} is missing")]
    Truncated {
        /// What should be there.
        what: &'static str,
        /// Where, in bytes from the start of the file.
        offset: u64,
    },
    /// bzImage of a protocol without 64-bit entry.
    #[error("the bzImage has boot protocol {version:#06x}, 0x020c or later is needed")]
    ProtocolTooOld {
        /// The header's version.
        version: u16,
    },
    /// bzImage of a 32-bit kernel.
    #[error("the bzImage has no 64-bit entry: a 32-bit kernel?")]
    No64BitEntry,
    /// bzImage that loads below 1 MiB.
    #[error("the bzImage is a zImage: it wants to be loaded below 1 MiB")]
    LoadedLow,
    /// An address in the image that cannot be meant.
    #[error("the kernel's {what} {value:#x} makes no sense")]
    BadField {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// The ELF parser refused the file.
    #[error("the ELF image is malformed: {0}")]
    Elf(&'static str),
    /// ELF for another machine, or not an executable.
    #[error("the ELF image is not an x86 executable (machine {machine}, type {kind})")]
    ElfKind {
        /// `e_machine`.
        machine: u16,
        /// `e_type`.
        kind: u16,
    },
    /// ELF with neither a PVH note nor a multiboot header.
    #[error("the ELF image has neither a PVH entry note nor a multiboot header")]
    ElfWithoutProtocol,
    /// ELF with nothing to load.
    #[error("the ELF image has no loadable segment")]
    NothingToLoad,
    /// Multiboot header that asks for what is not there.
    #[error("the multiboot header asks for an unknown feature (flags {flags:#x})")]
    MultibootFlags {
        /// The header's flags.
        flags: u32,
    },
    /// Multiboot header without addresses in a file that is no ELF.
    #[error("the multiboot header has no addresses and the file is no ELF image")]
    MultibootWithoutAddresses,
    /// A part of the kernel lies where it may not.
    #[error("the kernel wants {start:#x}..{end:#x}: not free guest memory ({memory} MiB in all)")]
    Place {
        /// First address.
        start: u64,
        /// End address.
        end: u64,
        /// Guest memory in MiB.
        memory: u64,
    },
    /// The entry point is outside of the image.
    #[error("the entry point {0:#x} is outside of the loaded image")]
    Entry(u64),
    /// Not even 1 MiB.
    #[error("{have} bytes of guest memory are too little")]
    TooLittleMemory {
        /// Bytes.
        have: u64,
    },
    /// The initrd does not fit between kernel and top of memory.
    #[error("the initrd of {len} bytes does not fit between {start:#x} and {end:#x}")]
    InitrdTooBig {
        /// Bytes.
        len: u64,
        /// End of the kernel.
        start: u64,
        /// Top of usable memory.
        end: u64,
    },
    /// The command line is longer than the kernel takes.
    #[error("the command line has {len} bytes, the kernel takes {max}")]
    CommandLineTooLong {
        /// Bytes.
        len: usize,
        /// Most bytes.
        max: usize,
    },
    /// The command line has a NUL in it.
    #[error("the command line contains a NUL")]
    CommandLineNul,
    /// Guest memory ended unexpectedly.
    #[error(transparent)]
    OutOfRam(#[from] OutOfRam),
}
