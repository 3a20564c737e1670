//! The PVH boot protocol: an ELF image entered in 32-bit protected mode with EBX at `hvm_start_info`.

use super::bytes::Table;
use super::elf_image::ElfImage;
use super::{BootImage, InitialState, LoadError, Protocol, place, registers};
use crate::layout::{
    BOOT_INFO, BOOT_LISTS, COMMAND_LINE, COMMAND_LINE_ROOM, GDT, PAGE, memory_map,
};
use crate::ram::GuestRam;

const START_MAGIC: u32 = 0x336E_C578;
/// Bytes of a module entry; the memory map follows the one module.
const MODULE_ENTRY: u64 = 32;

/// Loads an ELF image and starts it at the address of its PVH note.
pub fn load<R: GuestRam>(
    ram: &mut R,
    image: &BootImage<'_>,
    elf: &ElfImage<'_>,
    entry: u32,
) -> Result<InitialState, LoadError> {
    let kernel_end = elf.copy_segments(ram)?;
    elf.check_entry(u64::from(entry))?;
    place::command_line(ram, image.command_line, COMMAND_LINE_ROOM as usize)?;
    let mut lists = Table::default();
    let mut modules = 0;
    if let Some(bytes) = image.initrd {
        let address = place::initrd(ram, bytes, kernel_end, u64::MAX)?;
        // A command line of its own the module has not.
        lists.u64(address).u64(bytes.len() as u64).u64(0).u64(0);
        modules = 1;
    } else {
        lists.0.resize(MODULE_ENTRY as usize, 0);
    }
    let mut ranges = 0;
    for range in memory_map(ram.layout()) {
        let kind = range.kind as u32;
        lists.u64(range.start).u64(range.len).u32(kind).u32(0);
        ranges += 1;
    }
    debug_assert!((lists.0.len() as u64) < PAGE);
    ram.write(BOOT_LISTS, &lists.0)?;
    let mut info = Table::default();
    // Magic, version 1 (the first with a memory map), flags, number of modules, their list.
    info.u32(START_MAGIC).u32(1).u32(0).u32(modules);
    info.u64(if modules == 0 { 0 } else { BOOT_LISTS });
    info.u64(COMMAND_LINE).u64(image.rsdp);
    info.u64(BOOT_LISTS + MODULE_ENTRY).u32(ranges).u32(0);
    ram.write(BOOT_INFO, &info.0)?;
    ram.write(GDT, &registers::gdt(false))?;
    Ok(InitialState {
        protocol: Protocol::Pvh,
        registers: registers::protected_mode(entry, 0, BOOT_INFO),
    })
}
