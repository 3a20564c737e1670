//! From the loader's ELF file to the flat image that the hypervisor copies and starts at its first byte.

use std::vec::Vec;

use elf::ElfBytes;
use elf::abi;
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::segment::ProgramHeader;
use thiserror::Error;

use crate::format::ALIGNMENT;

/// Longest flat image, bytes: a loader is small, and a stray address must not become gigabytes of zeros.
pub const MAX_FLAT: u64 = 16 << 20;

/// Why an ELF file cannot be flattened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FlattenError {
    /// Not an ELF file, or a damaged one.
    #[error("the loader is not a readable ELF file")]
    Format,
    /// Not an x86-64 executable with fixed addresses.
    #[error(
        "the loader is not a 64-bit x86 executable with fixed addresses; link it with its linker script and --no-pie"
    )]
    Kind,
    /// Nothing to load.
    #[error("the loader has no loadable segment")]
    Empty,
    /// The lowest segment does not start on a page.
    #[error(
        "the loader's first segment is at {0:#x}, which is not on a page; use its linker script"
    )]
    Unaligned(u64),
    /// The first byte is not the entry.
    #[error(
        "the loader's entry {entry:#x} is not its first byte {first:#x}; the stub must come first in the linker script"
    )]
    Entry {
        /// Address of the entry.
        entry: u64,
        /// Address of the first byte.
        first: u64,
    },
    /// Sizes or addresses contradict each other, or segments overlap.
    #[error("the loader's segment at {0:#x} overlaps another one or has contradicting sizes")]
    Segment(u64),
    /// Longer than 16 MiB.
    #[error("the loader would be {0} bytes long; at most 16 MiB are possible")]
    TooLong(u64),
}

/// Lays the loadable segments of an ELF file out as in memory: zeros where the file has nothing, whole pages.
///
/// # Errors
/// [`FlattenError`] saying what the file should be like.
pub fn flatten(file: &[u8]) -> Result<Vec<u8>, FlattenError> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| FlattenError::Format)?;
    let header = &elf.ehdr;
    if header.class != Class::ELF64
        || header.e_machine != abi::EM_X86_64
        || header.e_type != abi::ET_EXEC
    {
        return Err(FlattenError::Kind);
    }
    let loadable = |header: &ProgramHeader| header.p_type == abi::PT_LOAD && header.p_memsz != 0;
    let mut segments = elf
        .segments()
        .ok_or(FlattenError::Empty)?
        .iter()
        .filter(loadable)
        .collect::<Vec<_>>();
    segments.sort_by_key(|segment| segment.p_vaddr);
    let first = segments.first().ok_or(FlattenError::Empty)?.p_vaddr;
    if !first.is_multiple_of(ALIGNMENT) {
        return Err(FlattenError::Unaligned(first));
    }
    if header.e_entry != first {
        return Err(FlattenError::Entry {
            entry: header.e_entry,
            first,
        });
    }
    let mut flat = Vec::new();
    for segment in &segments {
        append(&mut flat, file, segment, first)?;
    }
    flat.resize(flat.len().next_multiple_of(ALIGNMENT as usize), 0);
    Ok(flat)
}

/// Appends a segment; the ones before it, which have lower addresses, are in `flat` already.
fn append(
    flat: &mut Vec<u8>,
    file: &[u8],
    segment: &ProgramHeader,
    first: u64,
) -> Result<(), FlattenError> {
    let bad = FlattenError::Segment(segment.p_vaddr);
    let offset = segment.p_vaddr - first;
    let end = offset.checked_add(segment.p_memsz).ok_or(bad)?;
    if end > MAX_FLAT {
        return Err(FlattenError::TooLong(end));
    }
    let start = usize::try_from(segment.p_offset).map_err(|_| bad)?;
    let size = usize::try_from(segment.p_filesz).map_err(|_| bad)?;
    let content = file
        .get(start..)
        .and_then(|rest| rest.get(..size))
        .ok_or(bad)?;
    if (flat.len() as u64) > offset || segment.p_filesz > segment.p_memsz {
        return Err(bad);
    }
    flat.resize(offset as usize, 0);
    flat.extend_from_slice(content);
    flat.resize(end as usize, 0);
    Ok(())
}
