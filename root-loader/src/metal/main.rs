//! The root loader on the bare machine: checks the boot archive, loads the root image and jumps to it.
//!
//! `boot.s` brings it here from the PVH entry state. Everything that can be decided without the machine is decided in the
//! library. What ends the loader early is said on COM1, and the processor is halted.
#![no_std]
#![no_main]

mod console;
mod error;
mod memory;
mod own;
mod region;

use core::arch::{asm, global_asm};
use core::fmt::Write as _;
use core::ops::Range;
use core::panic::PanicInfo;

use boot_archive::start_info::{self, Module, StartInfo};
use boot_archive::{Archive, Member};
use root_loader::image::{Image, MAX_IMAGE};
use root_loader::layout::Layout;
use root_loader::paging::{Cache, Mapping, Rights, Tables};
use root_loader::{DIRECT_MAP, DIRECT_MAP_LIMIT, FOUR_GIB, PAGE, ROOT_IMAGE};
use x86_64::structures::DescriptorTablePointer;
use x86_64::{PhysAddr, VirtAddr};

use console::Console;
use error::LoadError;
use memory::{DirectMap, TableFrames};
use region::Region;

global_asm!(include_str!("boot.s"), options(att_syntax));

/// CPUID 8000_0001 EDX: 1 GiB pages.
const FEATURE_HUGE_PAGES: u32 = 1 << 26;

/// A processor state in which the root image can run.
struct Handover {
    entry: u64,
    stack_top: u64,
    start_info: u64,
}

/// Called by `boot.s` in long mode, interrupts off, on the loader's stack, with the first 4 GiB in the direct map.
///
/// `start` is the start info's address, `base` where the image lies in physical memory, `features` CPUID 8000_0001 EDX.
#[unsafe(no_mangle)]
extern "C" fn loader_main(start: u64, base: u64, features: u32) -> ! {
    // SAFETY: the root owns COM1, and the loader is all of the root that runs.
    let mut console = unsafe { Console::open() };
    // SAFETY: the stub has mapped the first 4 GiB at the direct map, and `load` maps them again the same way.
    let direct = unsafe { DirectMap::new() };
    match load(&mut console, direct, start, base, features) {
        Ok(handover) => {
            let _ = writeln!(
                console,
                "root-loader: starting the root at {:#x}",
                handover.entry
            );
            // SAFETY: `load` returned it, so its page tables are in force.
            unsafe { enter(&handover) }
        }
        Err(error) => {
            let _ = writeln!(
                console,
                "root-loader: {error}\nroot-loader: the root cannot be started; halted"
            );
            halt()
        }
    }
}

fn load(
    console: &mut Console,
    direct: DirectMap,
    start: u64,
    base: u64,
    features: u32,
) -> Result<Handover, LoadError> {
    let info = StartInfo::read(&direct, start)?;
    let archive_entry = info
        .modules()
        .nth(start_info::module::ARCHIVE)
        .ok_or(LoadError::NoArchive)?;
    let archive_end = archive_entry
        .paddr
        .checked_add(archive_entry.size)
        .ok_or(LoadError::MemoryMap)?;
    let archive_range = archive_entry.paddr..archive_end;

    let kept = info
        .ranges()
        .chain([own::frames(base), archive_range.clone()]);
    let mut layout = Layout::new(info.memory_map(), kept).ok_or(LoadError::MemoryMap)?;
    if !layout.is_ram(&archive_range) {
        return Err(LoadError::MemoryMap);
    }
    let (region, mut tables) = map_memory(
        &mut layout,
        direct,
        base,
        features & FEATURE_HUGE_PAGES != 0,
    )?;

    // SAFETY: the archive is RAM, so in the direct map; the layout hands nothing of it out, so nobody writes to it.
    let archive = Archive::open(unsafe { direct.slice(&archive_range) })?;
    let megabytes = layout.ram_bytes() >> 20;
    let (kib, at) = (archive.total_length() >> 10, archive_range.start);
    let _ = writeln!(
        console,
        "root-loader: {megabytes} MiB of memory, boot archive of {kib} KiB at {at:#x}"
    );
    archive
        .members()
        .try_for_each(|member| check(console, &member))?;

    let root = archive.member("root").ok_or(LoadError::NoRoot)?;
    let image = Image::parse(root.content())?;
    let frames = place(&image, &mut layout, direct)?;
    image
        .mappings(frames.start)
        .try_for_each(|mapping| tables.map(&mapping))?;

    let used = region.used(tables.unused());
    let module = |range: &Range<u64>, text| Module {
        gpa: range.start,
        size: range.end - range.start,
        text,
    };
    let modules = [
        module(&archive_range, "boot-archive"),
        module(&frames, "root-image"),
        module(&used, "root-loader"),
    ];
    let cmdline = info.text(info.header().cmdline_paddr).unwrap_or_default();
    let place = region.start_info();
    // SAFETY: this part of the region is RAM below 4 GiB, allocated by us, and used for nothing else.
    let buffer = unsafe { direct.slice_mut(&place) };
    start_info::compose(
        buffer,
        place.start,
        info.header().rsdp_paddr,
        cmdline,
        &modules,
        info.memory_map(),
    )?;
    Ok(Handover {
        entry: image.entry(),
        stack_top: DIRECT_MAP + region.stack().end,
        start_info: place.start,
    })
}

/// Builds the page tables that the root starts with, but for its image, and puts them into force.
fn map_memory(
    layout: &mut Layout,
    direct: DirectMap,
    base: u64,
    huge_pages: bool,
) -> Result<(Region, Tables<TableFrames>), LoadError> {
    // The image is not known yet: room for the largest.
    let largest = Mapping {
        virt: ROOT_IMAGE,
        gpa: PAGE,
        bytes: MAX_IMAGE,
        rights: Rights::READ,
        cache: Cache::WriteBack,
    };
    let needed = mappings(layout, base)
        .chain([largest])
        .map(|mapping| mapping.tables_needed(huge_pages))
        .sum::<u64>();
    let bytes = Region::bytes(1 + needed);
    let no_memory = LoadError::NoMemory(bytes >> 10, "page tables");
    // Below 4 GiB: the stub's tables map no more.
    let region = Region::new(layout.allocate(bytes, FOUR_GIB).ok_or(no_memory)?);

    // SAFETY: the frames are below 4 GiB, free until now, and used for tables alone.
    let frames = unsafe { TableFrames::new(direct) };
    let mut tables = Tables::new(frames, region.tables(), huge_pages)?;
    mappings(layout, base).try_for_each(|mapping| tables.map(&mapping))?;
    // SAFETY: the new tables map the running code, its stack and the direct map as before.
    unsafe { switch_to(tables.top(), direct, &region) };
    Ok((region, tables))
}

/// What is mapped before the root image is known: the direct map and the loader.
fn mappings(layout: &Layout, base: u64) -> impl Iterator<Item = Mapping> + '_ {
    layout.direct_map().chain(own::mappings(base))
}

/// Puts page tables into force, and a descriptor table that they map.
///
/// # Safety
/// The tables map the loader's image and the first 4 GiB as the ones in force do.
unsafe fn switch_to(top: u64, direct: DirectMap, region: &Region) {
    // What the stub's table holds, at the same selectors, so that no segment has to be loaded again.
    const DESCRIPTORS: [u64; 3] = [0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF];
    let place = region.descriptors();
    // SAFETY: this part of the region is RAM below 4 GiB, allocated by us, and used for nothing else.
    let bytes = unsafe { direct.slice_mut(&place) };
    bytes.fill(0);
    for (entry, descriptor) in bytes.chunks_exact_mut(8).zip(DESCRIPTORS) {
        entry.copy_from_slice(&descriptor.to_le_bytes());
    }
    let limit = (size_of_val(&DESCRIPTORS) - 1) as u16;
    let base = VirtAddr::new_truncate(DIRECT_MAP + place.start);
    // SAFETY: 1. the table holds valid descriptors and stays where it is; 2. the new page tables are as the caller says;
    // 3. CR3's other bits are zero: no PCIDs are in use.
    unsafe {
        x86_64::instructions::tables::lgdt(&DescriptorTablePointer { limit, base });
        let frame =
            x86_64::structures::paging::PhysFrame::containing_address(PhysAddr::new_truncate(top));
        x86_64::registers::control::Cr3::write(
            frame,
            x86_64::registers::control::Cr3Flags::empty(),
        );
    }
}

/// Compares a member with its digest, and says so.
fn check(console: &mut Console, member: &Member<'static>) -> Result<(), LoadError> {
    let _ = write!(
        console,
        "root-loader: {:40} {:9} bytes ",
        member.name(),
        member.content().len()
    );
    let result = member.verify();
    let _ = writeln!(console, "{}", if result.is_ok() { "ok" } else { "DAMAGED" });
    Ok(result?)
}

/// Allocates the root image's memory and fills it.
fn place(
    image: &Image<'_>,
    layout: &mut Layout,
    direct: DirectMap,
) -> Result<Range<u64>, LoadError> {
    let no_memory = LoadError::NoMemory(image.bytes() >> 10, "root image");
    let frames = layout
        .allocate(image.bytes(), DIRECT_MAP_LIMIT)
        .ok_or(no_memory)?;
    // SAFETY: the range is free RAM, so in the direct map, and from now on the image's alone.
    let memory = unsafe { direct.slice_mut(&frames) };
    memory.fill(0);
    for (offset, content) in image.contents() {
        // `Image` promises that contents lie within it.
        let target = memory
            .get_mut(offset as usize..)
            .and_then(|rest| rest.get_mut(..content.len()));
        if let Some(target) = target {
            target.copy_from_slice(content);
        }
    }
    Ok(frames)
}

/// Jumps to the root image, with RDI = start info, on the stack of the loader's region.
///
/// # Safety
/// The page tables in force map the entry and the stack.
unsafe fn enter(handover: &Handover) -> ! {
    // SAFETY: nothing of the loader runs after the jump. The zero below the stack's top is the return address of the
    // entry seen as a function: it ends a backtrace, and makes the alignment that of a called function.
    unsafe {
        asm!(
            "mov rsp, {stack}",
            "xor ebp, ebp",
            "push 0",
            "jmp {entry}",
            stack = in(reg) handover.stack_top,
            entry = in(reg) handover.entry,
            in("rdi") handover.start_info,
            options(noreturn)
        )
    }
}

fn halt() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // SAFETY: a panic never returns, so the console that was open is not used any more.
    let mut console = unsafe { Console::open() };
    let _ = writeln!(
        console,
        "root-loader: {info}\nroot-loader: this is a bug; halted"
    );
    halt()
}
