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

#[cfg(test)]
mod tests {
    use super::{PAGE, flatten, loaded_bytes};

    /// An ELF file with one segment of four bytes in the file and 5000 in memory.
    fn file(entry: u64) -> Vec<u8> {
        let address: u64 = 0xFFFF_FFFF_C000_0000;
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        file.extend([2_u16, 62].iter().flat_map(|half| half.to_le_bytes()));
        file.extend(1_u32.to_le_bytes());
        file.extend(
            [address + entry, 64, 0]
                .iter()
                .flat_map(|word| word.to_le_bytes()),
        );
        file.extend(0_u32.to_le_bytes());
        file.extend(
            [64_u16, 56, 1, 64, 0, 0]
                .iter()
                .flat_map(|half| half.to_le_bytes()),
        );
        file.extend([1_u32, 7].iter().flat_map(|word| word.to_le_bytes()));
        file.extend(
            [120, address, address, 4, 5000, 4096]
                .iter()
                .flat_map(|word: &u64| word.to_le_bytes()),
        );
        file.extend(b"code");
        file
    }

    #[test]
    fn zeroed_data_is_part_of_the_flat_image() {
        let image = flatten(&file(0)).unwrap();
        assert_eq!(image.len(), 2 * PAGE);
        assert!(image.starts_with(b"code"));
        assert!(image[4..].iter().all(|byte| *byte == 0));
        assert_eq!(loaded_bytes(&file(0)).unwrap(), 5000);
    }

    #[test]
    fn an_entry_inside_the_image_is_refused() {
        assert!(flatten(&file(1)).is_err());
    }
}
