//! ELF images of guests: segments, the PVH note, entry addresses.

use elf::ElfBytes;
use elf::abi::{EM_386, EM_X86_64, ET_EXEC, PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::note::Note;
use elf::parse::ParseError;
use elf::segment::ProgramHeader;

use super::{LoadError, place};
use crate::ram::GuestRam;

/// Xen's ELF note with the physical address of the 32-bit entry.
const XEN_ELFNOTE_PHYS32_ENTRY: u64 = 18;

/// Whether the file says that it is ELF.
pub fn is_elf(image: &[u8]) -> bool {
    image.starts_with(&elf::abi::ELFMAGIC)
}

/// An x86 ELF executable, 32 or 64 bits.
pub struct ElfImage<'a> {
    elf: ElfBytes<'a, LittleEndian>,
}

impl<'a> ElfImage<'a> {
    /// Reads the headers.
    pub fn parse(image: &'a [u8]) -> Result<Self, LoadError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(image).map_err(explain)?;
        let (machine, kind) = (elf.ehdr.e_machine, elf.ehdr.e_type);
        if !matches!(machine, EM_386 | EM_X86_64) || kind != ET_EXEC {
            return Err(LoadError::ElfKind { machine, kind });
        }
        Ok(Self { elf })
    }

    fn headers(&self) -> impl Iterator<Item = ProgramHeader> + '_ {
        self.elf
            .segments()
            .into_iter()
            .flat_map(|table| table.iter())
    }

    fn loads(&self) -> impl Iterator<Item = ProgramHeader> + '_ {
        self.headers()
            .filter(|header| header.p_type == PT_LOAD && header.p_memsz != 0)
    }

    /// The 32-bit physical entry of the PVH note, if there is one.
    pub fn pvh_entry(&self) -> Option<u32> {
        self.headers()
            .filter(|header| header.p_type == PT_NOTE)
            .filter_map(|header| self.elf.segment_data_as_notes(&header).ok())
            .flatten()
            .find_map(|note| match note {
                Note::Unknown(note)
                    if note.n_type == XEN_ELFNOTE_PHYS32_ENTRY && note.name == b"Xen\0" =>
                {
                    // The descriptor has the image's word size; the address is below 4 GiB in either.
                    let low = note.desc.first_chunk::<4>()?;
                    Some(u32::from_le_bytes(*low))
                }
                _ => None,
            })
    }

    /// Copies the segments to their physical addresses. Guest memory is zero already, so what is beyond a segment's
    /// file contents needs no writing. Returns the end of the highest one.
    pub fn copy_segments<R: GuestRam>(&self, ram: &mut R) -> Result<u64, LoadError> {
        let mut top = None;
        for header in self.loads() {
            if header.p_filesz > header.p_memsz {
                return Err(LoadError::BadField {
                    what: "segment file size",
                    value: header.p_filesz,
                });
            }
            let end = place::check(ram, header.p_paddr, header.p_memsz)?;
            let data = self.elf.segment_data(&header).map_err(explain)?;
            ram.write(header.p_paddr, data)?;
            top = top.max(Some(end));
        }
        top.ok_or(LoadError::NothingToLoad)
    }

    /// Physical address of the ELF entry point, which is a virtual address.
    pub fn entry(&self) -> Result<u64, LoadError> {
        let entry = self.elf.ehdr.e_entry;
        self.loads()
            .find_map(|header| {
                let offset = entry.checked_sub(header.p_vaddr)?;
                (offset < header.p_memsz).then(|| header.p_paddr.checked_add(offset))?
            })
            .ok_or(LoadError::Entry(entry))
    }

    /// Checks that a physical address is inside of a loaded segment.
    pub fn check_entry(&self, entry: u64) -> Result<(), LoadError> {
        let inside = self.loads().any(|header| {
            entry
                .checked_sub(header.p_paddr)
                .is_some_and(|offset| offset < header.p_memsz)
        });
        inside.then_some(()).ok_or(LoadError::Entry(entry))
    }
}

fn explain(error: ParseError) -> LoadError {
    LoadError::Elf(match error {
        ParseError::UnsupportedElfClass(_) => "neither 32 nor 64 bits",
        ParseError::UnsupportedElfEndianness(_) => "not little-endian",
        ParseError::UnsupportedVersion(_) => "unknown version",
        ParseError::SliceReadError(_) => "a part is beyond the end of the file",
        ParseError::IntegerOverflow | ParseError::TryFromIntError(_) => "an offset overflows",
        ParseError::BadEntsize(_) => "wrong size of a header entry",
        _ => "inconsistent headers",
    })
}
