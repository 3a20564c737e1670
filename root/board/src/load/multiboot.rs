//! Multiboot 1, as small kernels and test payloads use it.

use super::bytes::{Table, u32_at};
use super::elf_image::ElfImage;
use super::{BootImage, InitialState, LoadError, Protocol, place, registers};
use crate::layout::{
    BOOT_INFO, BOOT_LISTS, COMMAND_LINE, COMMAND_LINE_ROOM, CONVENTIONAL_END, GDT, ONE_MIB,
    memory_map,
};
use crate::ram::GuestRam;

const HEADER_MAGIC: u32 = 0x1BAD_B002;
/// What EAX holds at the entry.
const LOADER_MAGIC: u32 = 0x2BAD_B002;
/// The header lies within the first 8 KiB, 4-byte aligned.
const SEARCH_LEN: usize = 8192;
/// Header flags: modules page aligned (they are), memory information (there is).
const KNOWN_REQUIREMENTS: u32 = 0x3;
/// Header flags below this bit are requirements, those above are hints.
const REQUIREMENTS: u32 = 0xFFFF;
/// Header flag: the address fields are valid.
const HAS_ADDRESSES: u32 = 1 << 16;

// Information flags: memory sizes, command line, modules, memory map, loader name.
const INFO_MEMORY: u32 = 1;
const INFO_COMMAND_LINE: u32 = 1 << 2;
const INFO_MODULES: u32 = 1 << 3;
const INFO_MEMORY_MAP: u32 = 1 << 6;
const INFO_LOADER_NAME: u32 = 1 << 9;
/// Bytes of the information structure up to and including the VBE fields.
const INFO_LEN: usize = 116;

/// The module's list entry, then the loader's name, then the memory map.
const NAME_OFFSET: u64 = 16;
const MAP_OFFSET: u64 = 32;
const LOADER_NAME: &[u8; 8] = b"Partita\0";

/// A multiboot header.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Where it is in the file.
    offset: usize,
    flags: u32,
}

impl Header {
    /// Looks for a header with a right checksum.
    pub fn find(image: &[u8]) -> Option<Self> {
        let searched = image.get(..SEARCH_LEN).unwrap_or(image);
        (0..searched.len().saturating_sub(11))
            .step_by(4)
            .find_map(|offset| {
                let word = |index: usize| u32_at(searched, offset + index * 4, "").ok();
                let (magic, flags, checksum) = (word(0)?, word(1)?, word(2)?);
                let sum = magic.wrapping_add(flags).wrapping_add(checksum);
                (magic == HEADER_MAGIC && sum == 0).then_some(Self { offset, flags })
            })
    }
}

/// The addresses of a header that has some.
struct Addresses {
    header: u32,
    load: u32,
    load_end: u32,
    bss_end: u32,
    entry: u32,
}

impl Addresses {
    fn read(image: &[u8], header: Header) -> Result<Self, LoadError> {
        let word = |index: usize| u32_at(image, header.offset + index * 4, "multiboot header");
        Ok(Self {
            header: word(3)?,
            load: word(4)?,
            load_end: word(5)?,
            bss_end: word(6)?,
            entry: word(7)?,
        })
    }

    /// Copies the image as the addresses say. Returns the end of it in memory.
    fn copy<R: GuestRam>(
        &self,
        ram: &mut R,
        image: &[u8],
        header: Header,
    ) -> Result<u64, LoadError> {
        let bad = |what, value: u32| LoadError::BadField {
            what,
            value: u64::from(value),
        };
        // The header's distance from the load address is the same in the file and in memory.
        let before = self
            .header
            .checked_sub(self.load)
            .ok_or(bad("load address", self.load))?;
        let start = header
            .offset
            .checked_sub(before as usize)
            .ok_or(bad("header address", self.header))?;
        let file = image.get(start..).unwrap_or_default();
        let len = match self.load_end {
            0 => file.len() as u64,
            end => u64::from(
                end.checked_sub(self.load)
                    .ok_or(bad("load end address", end))?,
            ),
        };
        let data = file.get(..len as usize).ok_or(LoadError::Truncated {
            what: "multiboot image",
            offset: image.len() as u64,
        })?;
        let load = u64::from(self.load);
        let end = (load + len).max(u64::from(self.bss_end));
        let end = place::check(ram, load, end - load)?;
        ram.write(load, data)?;
        if !(load..end).contains(&u64::from(self.entry)) {
            return Err(LoadError::Entry(u64::from(self.entry)));
        }
        Ok(end)
    }
}

/// Loads a multiboot image: by the header's addresses if it has some, else as ELF.
pub fn load<R: GuestRam>(
    ram: &mut R,
    image: &BootImage<'_>,
    header: Header,
    elf: Option<&ElfImage<'_>>,
) -> Result<InitialState, LoadError> {
    if header.flags & REQUIREMENTS & !KNOWN_REQUIREMENTS != 0 {
        let flags = header.flags;
        return Err(LoadError::MultibootFlags { flags });
    }
    let (entry, kernel_end) = if header.flags & HAS_ADDRESSES != 0 {
        let addresses = Addresses::read(image.kernel, header)?;
        let end = addresses.copy(ram, image.kernel, header)?;
        (addresses.entry, end)
    } else {
        let elf = elf.ok_or(LoadError::MultibootWithoutAddresses)?;
        let end = elf.copy_segments(ram)?;
        let entry = elf.entry()?;
        let entry = u32::try_from(entry).map_err(|_| LoadError::Entry(entry))?;
        (entry, end)
    };
    place::command_line(ram, image.command_line, COMMAND_LINE_ROOM as usize)?;
    let module = match image.initrd {
        Some(bytes) => {
            let address = place::initrd(ram, bytes, kernel_end, u64::MAX)?;
            Some((address as u32, address as u32 + bytes.len() as u32))
        }
        None => None,
    };
    write_info(ram, module)?;
    ram.write(GDT, &registers::gdt(false))?;
    Ok(InitialState {
        protocol: Protocol::Multiboot,
        registers: registers::protected_mode(entry, LOADER_MAGIC, BOOT_INFO),
    })
}

fn write_info<R: GuestRam>(ram: &mut R, module: Option<(u32, u32)>) -> Result<(), LoadError> {
    let mut lists = Table::default();
    let (start, end) = module.unwrap_or((0, 0));
    lists.u32(start).u32(end).u32(0).u32(0);
    lists.0.extend_from_slice(LOADER_NAME);
    lists.0.resize(MAP_OFFSET as usize, 0);
    for range in memory_map(ram.layout()) {
        // The size field counts what follows it.
        lists.u32(20).u64(range.start).u64(range.len);
        lists.u32(range.kind as u32);
    }
    ram.write(BOOT_LISTS, &lists.0)?;

    let flags = INFO_MEMORY | INFO_COMMAND_LINE | INFO_MEMORY_MAP | INFO_LOADER_NAME;
    let lower = CONVENTIONAL_END >> 10;
    let upper = ram.layout().low_end().saturating_sub(ONE_MIB) >> 10;
    let mut info = Table::default();
    info.u32(match module {
        Some(_) => flags | INFO_MODULES,
        None => flags,
    });
    info.u32(lower as u32).u32(upper as u32).u32(0);
    info.u32(COMMAND_LINE as u32);
    info.u32(u32::from(module.is_some())).u32(BOOT_LISTS as u32);
    // No symbols, then the memory map.
    info.u64(0).u64(0);
    info.u32((lists.0.len() as u64 - MAP_OFFSET) as u32);
    info.u32((BOOT_LISTS + MAP_OFFSET) as u32);
    // Drives and the ROM configuration table, then the loader's name.
    info.u64(0).u32(0);
    info.u32((BOOT_LISTS + NAME_OFFSET) as u32);
    info.0.resize(INFO_LEN, 0);
    Ok(ram.write(BOOT_INFO, &info.0)?)
}
