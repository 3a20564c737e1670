//! ELF files as they lie in memory.

use anyhow::{Context, Result, bail};
use elf::ElfBytes;
use elf::abi::PT_LOAD;
use elf::endian::LittleEndian;
use elf::segment::ProgramHeader;

/// Size of a page, bytes.
const PAGE: usize = 4096;
/// No program of ours is larger, bytes; more is a file gone wrong.
const LARGEST: u64 = 64 << 20;

/// The loadable segments of an ELF file, zeroed data included, from the lowest address on; whole pages.
///
/// # Errors
/// If it is no ELF file, or its first instruction is not its first byte.
pub fn flatten(file: &[u8]) -> Result<Vec<u8>> {
    let (elf, segments) = parse(file)?;
    let start = segments
        .iter()
        .map(|segment| segment.p_vaddr)
        .min()
        .context("nothing to load")?;
    if elf.ehdr.e_entry != start {
        bail!(
            "the entry is at {:#x}, not at the first byte, {start:#x}",
            elf.ehdr.e_entry
        );
    }
    let mut image = Vec::new();
    for segment in &segments {
        if segment.p_memsz > LARGEST || segment.p_vaddr - start > LARGEST {
            bail!(
                "a segment at {:#x} is {} bytes long",
                segment.p_vaddr,
                segment.p_memsz
            );
        }
        let from = usize::try_from(segment.p_vaddr - start)?;
        let end = from + usize::try_from(segment.p_memsz)?;
        if image.len() < end {
            image.resize(end.next_multiple_of(PAGE), 0);
        }
        let content = elf.segment_data(segment)?;
        image
            .get_mut(from..from + content.len())
            .context("a segment is larger in the file than in memory")?
            .copy_from_slice(content);
    }
    Ok(image)
}

/// Bytes of memory that the loadable segments of an ELF file take.
///
/// # Errors
/// If it is no ELF file.
pub fn loaded_bytes(file: &[u8]) -> Result<u64> {
    Ok(parse(file)?.1.iter().map(|segment| segment.p_memsz).sum())
}

fn parse(file: &[u8]) -> Result<(ElfBytes<'_, LittleEndian>, Vec<ProgramHeader>)> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file)?;
    let segments = elf.segments().context("no segments")?;
    let loadable = segments
        .iter()
        .filter(|segment| segment.p_type == PT_LOAD && segment.p_memsz > 0)
        .collect();
    Ok((elf, loadable))
}
