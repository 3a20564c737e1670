//! Linux' 64-bit boot protocol (guest sheet 12.1, 12.2).

use alloc::vec;

use super::bytes::{Table, u16_at, u32_at, u64_at};
use super::{BootImage, InitialState, LoadError, Protocol, place, registers};
use crate::layout::{
    BOOT_INFO, BOOT_LISTS, COMMAND_LINE, GDT, ONE_MIB, PAGE, PAGE_TABLES, memory_map,
};
use crate::ram::GuestRam;

// Offsets in the setup header; the same in the file and in the zero page.
const SETUP_SECTS: usize = 0x1F1;
const SYSSIZE: usize = 0x1F4;
const BOOT_FLAG: usize = 0x1FE;
const JUMP_OFFSET: usize = 0x201;
const HEADER: usize = 0x202;
const VERSION: usize = 0x206;
const TYPE_OF_LOADER: usize = 0x210;
const LOADFLAGS: usize = 0x211;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21C;
const CMD_LINE_PTR: usize = 0x228;
const INITRD_ADDR_MAX: usize = 0x22C;
const XLOADFLAGS: usize = 0x236;
const CMDLINE_SIZE: usize = 0x238;
const SETUP_DATA: usize = 0x250;
const PREF_ADDRESS: usize = 0x258;
const INIT_SIZE: usize = 0x260;
/// First byte after the room for the setup header in the zero page.
const HEADER_LIMIT: usize = 0x290;

// Offsets in the zero page alone.
const ACPI_RSDP_ADDR: usize = 0x070;
const E820_ENTRIES: usize = 0x1E8;
const E820_TABLE: usize = 0x2D0;

const HDRS: u32 = 0x5372_6448;
/// First protocol with `xloadflags`.
const MIN_VERSION: u16 = 0x020C;
/// `loadflags`: the kernel is loaded at 1 MiB or above.
const LOADED_HIGH: u8 = 1;
/// `loadflags`: the loader set up a heap; without meaning for the 64-bit entry.
const CAN_USE_HEAP: u8 = 0x80;
/// `xloadflags`: there is a 64-bit entry at 0x200.
const XLF_KERNEL_64: u16 = 1;
/// `xloadflags`: initrd and boot information may be anywhere.
const XLF_CAN_BE_LOADED_ABOVE_4G: u16 = 2;
/// A loader without a number of its own.
const UNDEFINED_LOADER: u8 = 0xFF;
/// Type of the `setup_data` entry with a seed for the random number generator.
const SETUP_RNG_SEED: u32 = 9;
const ENTRY_64: u64 = 0x200;

/// Whether the file says that it is a bzImage.
pub fn is_bzimage(image: &[u8]) -> bool {
    u16_at(image, BOOT_FLAG, "") == Ok(0xAA55) && u32_at(image, HEADER, "") == Ok(HDRS)
}

/// What the setup header says, checked.
struct Setup<'a> {
    /// The protected-mode kernel.
    kernel: &'a [u8],
    /// The setup header itself, from [`SETUP_SECTS`] on.
    header: &'a [u8],
    load_address: u64,
    init_size: u64,
    max_command_line: usize,
    initrd_limit: u64,
}

impl<'a> Setup<'a> {
    fn parse(image: &'a [u8]) -> Result<Self, LoadError> {
        let what = "setup header";
        let version = u16_at(image, VERSION, what)?;
        if version < MIN_VERSION {
            return Err(LoadError::ProtocolTooOld { version });
        }
        let [loadflags] = super::bytes::field(image, LOADFLAGS, what)?;
        if loadflags & LOADED_HIGH == 0 {
            return Err(LoadError::LoadedLow);
        }
        let xloadflags = u16_at(image, XLOADFLAGS, what)?;
        if xloadflags & XLF_KERNEL_64 == 0 {
            return Err(LoadError::No64BitEntry);
        }
        let load_address = u64_at(image, PREF_ADDRESS, what)?;
        if load_address < ONE_MIB || !load_address.is_multiple_of(PAGE) {
            return Err(LoadError::BadField {
                what: "preferred address",
                value: load_address,
            });
        }
        let initrd_limit = if xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G != 0 {
            u64::MAX
        } else {
            u64::from(u32_at(image, INITRD_ADDR_MAX, what)?) + 1
        };
        Ok(Self {
            kernel: protected_mode_part(image)?,
            header: header_bytes(image)?,
            load_address,
            init_size: u64::from(u32_at(image, INIT_SIZE, what)?),
            max_command_line: u32_at(image, CMDLINE_SIZE, what)? as usize,
            initrd_limit,
        })
    }
}

fn protected_mode_part(image: &[u8]) -> Result<&[u8], LoadError> {
    let [sects] = super::bytes::field(image, SETUP_SECTS, "setup header")?;
    let sects = if sects == 0 { 4 } else { usize::from(sects) };
    let offset = (sects + 1) * 512;
    let truncated = |offset| LoadError::Truncated {
        what: "protected-mode kernel",
        offset,
    };
    let kernel = image.get(offset..).ok_or(truncated(offset as u64))?;
    // The size is told in units of 16 bytes, the last of which the file need not fill.
    let told = u64::from(u32_at(image, SYSSIZE, "setup header")?) * 16;
    if (kernel.len() as u64) + 15 < told || (kernel.len() as u64) <= ENTRY_64 {
        return Err(truncated(image.len() as u64));
    }
    Ok(kernel)
}

/// The part of the file that goes into the zero page: it ends where the jump at its start leads to.
fn header_bytes(image: &[u8]) -> Result<&[u8], LoadError> {
    let [jump] = super::bytes::field(image, JUMP_OFFSET, "setup header")?;
    let end = HEADER + usize::from(jump);
    let value = end as u64;
    if !(INIT_SIZE + 4..=HEADER_LIMIT).contains(&end) {
        let what = "setup header length";
        return Err(LoadError::BadField { what, value });
    }
    image.get(SETUP_SECTS..end).ok_or(LoadError::Truncated {
        what: "setup header",
        offset: value,
    })
}

/// Loads a bzImage.
pub fn load<R: GuestRam>(ram: &mut R, image: &BootImage<'_>) -> Result<InitialState, LoadError> {
    let setup = Setup::parse(image.kernel)?;
    let room = setup.init_size.max(setup.kernel.len() as u64);
    let kernel_end = place::check(ram, setup.load_address, room)?;
    ram.write(setup.load_address, setup.kernel)?;
    place::command_line(ram, image.command_line, setup.max_command_line)?;
    let initrd = match image.initrd {
        Some(bytes) => {
            let address = place::initrd(ram, bytes, kernel_end, setup.initrd_limit)?;
            Some((address, bytes.len() as u64))
        }
        None => None,
    };
    if let Some(seed) = image.rng_seed {
        write_seed(ram, &seed)?;
    }
    write_zero_page(ram, image, &setup, initrd)?;
    write_identity_map(ram)?;
    ram.write(GDT, &registers::gdt(true))?;
    Ok(InitialState {
        protocol: Protocol::Linux64,
        registers: registers::long_mode(setup.load_address + ENTRY_64, BOOT_INFO),
    })
}

fn write_seed<R: GuestRam>(ram: &mut R, seed: &[u8; 32]) -> Result<(), LoadError> {
    let mut entry = Table::default();
    entry.u64(0).u32(SETUP_RNG_SEED).u32(seed.len() as u32);
    entry.0.extend_from_slice(seed);
    Ok(ram.write(BOOT_LISTS, &entry.0)?)
}

/// The zero page: the file's setup header and nothing else of the file. In particular not the byte at 0x1EF, which
/// would make the kernel wipe the RSDP's address.
fn write_zero_page<R: GuestRam>(
    ram: &mut R,
    image: &BootImage<'_>,
    setup: &Setup<'_>,
    initrd: Option<(u64, u64)>,
) -> Result<(), LoadError> {
    let mut page = vec![0; PAGE as usize];
    let mut put = |offset: usize, bytes: &[u8]| {
        page[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    put(SETUP_SECTS, setup.header);
    put(TYPE_OF_LOADER, &[UNDEFINED_LOADER]);
    let [loadflags] = super::bytes::field(image.kernel, LOADFLAGS, "setup header")?;
    put(LOADFLAGS, &[loadflags & !CAN_USE_HEAP]);
    // Everything is below 4 GiB: the high halves in the zero page stay 0.
    let (address, len) = initrd.unwrap_or((0, 0));
    put(RAMDISK_IMAGE, &(address as u32).to_le_bytes());
    put(RAMDISK_SIZE, &(len as u32).to_le_bytes());
    put(CMD_LINE_PTR, &(COMMAND_LINE as u32).to_le_bytes());
    let seed = if image.rng_seed.is_some() {
        BOOT_LISTS
    } else {
        0
    };
    put(SETUP_DATA, &seed.to_le_bytes());
    put(ACPI_RSDP_ADDR, &image.rsdp.to_le_bytes());
    let mut count = 0;
    for (index, range) in memory_map(ram.layout()).enumerate() {
        let mut entry = Table::default();
        entry.u64(range.start).u64(range.len).u32(range.kind as u32);
        put(E820_TABLE + index * 20, &entry.0);
        count = index as u8 + 1;
    }
    put(E820_ENTRIES, &[count]);
    Ok(ram.write(BOOT_INFO, &page)?)
}

/// Identity map of the first 4 GiB with 2 MiB pages: one PML4, one PDPT, four page directories.
fn write_identity_map<R: GuestRam>(ram: &mut R) -> Result<(), LoadError> {
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 0x80;
    let pdpt = PAGE_TABLES + PAGE;
    let directories = pdpt + PAGE;
    ram.write(PAGE_TABLES, &(pdpt | PRESENT_WRITABLE).to_le_bytes())?;
    let mut entries = Table::default();
    for index in 0..4 {
        entries.u64((directories + index * PAGE) | PRESENT_WRITABLE);
    }
    ram.write(pdpt, &entries.0)?;
    let mut entries = Table::default();
    for index in 0..4 * 512 {
        entries.u64((index << 21) | LARGE | PRESENT_WRITABLE);
    }
    Ok(ram.write(directories, &entries.0)?)
}
