//! On the loader's page tables and stack: check the machine, choose the block, build the tables, and depart.

use bootloader_api::BootInfo;
use bootloader_api::info::PixelFormat;

use super::image::Segments;
use super::machine::{Archive, FrameBuffer};
use super::memory::{MemoryKind, MemoryMap, find_space};
use super::paging::{DEVICES, HostTables, IMAGE, PHYSICAL_MEMORY, map, new_tables, translate};
use super::pool::Pool;
use super::stacks::{self, Stacks};
use super::{BootError, Machine, arrival};
use crate::arch::Capabilities;
use crate::arch::cpuid::ThisProcessor;
use crate::cpu::apic::Mode;
use crate::log::{PixelOrder, Screen};
use crate::mem::addr::{PAGE_SIZE, Spa};
use crate::mem::format::{MemoryType, Rights};
use crate::mem::phys::PhysMap;

/// RAM needed: the hypervisor's block and a root that can do something.
pub(super) const MINIMUM_MIB: u64 = 128;
/// Bytes for the integrating code's own use, besides what grows with the machine.
const POOL_BYTES: u64 = 16 << 20;
/// Alignment of the block.
const BLOCK_ALIGNMENT: u64 = 2 << 20;
/// Bytes set aside for every frame of machine memory: its entry in the frame table, and its entry in a table of the
/// root's address space, should all large leaves there be split.
const BYTES_PER_FRAME: u64 = 8 + 8;
/// Where the local APIC is mapped.
pub(super) const LOCAL_APIC: u64 = DEVICES;
/// Where the frame buffer is mapped.
const SCREEN: u64 = DEVICES + (1 << 30);

/// What crosses over to our own tables, in the block and at the same address on both sides.
pub(super) struct Handover {
    pub phys: PhysMap,
    pub tables: HostTables,
    pub memory: MemoryMap,
    pub own: (Spa, Spa),
    pub pool: Pool,
    pub archive: Archive,
    pub rsdp: Option<Spa>,
    pub frame_buffer: Option<FrameBuffer>,
    pub capabilities: Capabilities,
    pub apic_mode: Mode,
    pub stacks: Stacks,
    pub start: fn(Machine) -> !,
}

/// Tables, stack and hand-over are ready; the image is not copied yet.
pub(super) struct Departure {
    segments: Segments,
    image: Spa,
    phys: PhysMap,
    root: Spa,
    stack: u64,
    handover: &'static mut Handover,
}

/// The loader's frame buffer becomes the screen of refusals.
pub(super) fn screen_of(info: &mut BootInfo) {
    let Some(buffer) = info.framebuffer.as_mut() else {
        return;
    };
    let layout = buffer.info();
    let order = match layout.pixel_format {
        PixelFormat::Rgb => PixelOrder::Rgb,
        PixelFormat::U8 => PixelOrder::Grey,
        _ => PixelOrder::Bgr,
    };
    let start = buffer.buffer_mut().as_mut_ptr();
    // SAFETY: the loader mapped the buffer for good; nothing else of ours uses it. The screen of our own tables replaces
    // this one before the mapping goes.
    let pixels = unsafe { core::slice::from_raw_parts_mut(start, layout.byte_len) };
    let size = (layout.width, layout.height, layout.stride);
    crate::log::set_screen(Screen::new(pixels, size, layout.bytes_per_pixel, order));
}

/// Checks everything that can refuse, and builds the block.
///
/// # Safety
/// The loader's page tables are active, and `info` is its hand-over.
pub(super) unsafe fn prepare(
    info: &mut BootInfo,
    start: fn(Machine) -> !,
) -> Result<Departure, BootError> {
    let cpu = ThisProcessor;
    // SAFETY: the loader runs us in ring 0.
    let capabilities = unsafe { crate::arch::probe_here() }.map_err(BootError::Processor)?;

    let mut memory =
        MemoryMap::from_loader(&info.memory_regions).map_err(|_| BootError::TooManyRanges)?;
    let offset = info.physical_memory_offset.into_option();
    if offset != Some(PHYSICAL_MEMORY) {
        return Err(BootError::Loader("map of the physical memory"));
    }
    let end = memory.end_of_memory();
    // SAFETY: the loader maps all of it there, and so will our own tables. What we own of it is given out by the pool
    // only.
    let phys = unsafe { PhysMap::new(PHYSICAL_MEMORY as usize, end.0) };
    let cr3: u64;
    // SAFETY: reads a control register in ring 0.
    unsafe {
        core::arch::asm!("mov {}, cr3", out(reg) cr3, options(nomem, nostack, preserves_flags))
    };
    let old = |va| translate(phys, Spa(cr3), va);

    let total = memory.total(MemoryKind::Ram) >> 20;
    if total < MINIMUM_MIB {
        return Err(BootError::TooLittleMemory(total));
    }
    let archive = archive(info, old, phys)?;

    // SAFETY: the loader leaves the file there and tells its length; it is within RAM and never written.
    let file = unsafe { phys.slice_mut::<u8>(Spa(info.kernel_addr), info.kernel_len as usize) };
    let segments = Segments::parse(file.ok_or(BootError::Loader("image"))?)
        .map_err(|_| BootError::Loader("image that is understood"))?;
    if info.kernel_image_offset != IMAGE {
        return Err(BootError::Loader("image at its address"));
    }
    let (image_start, image_end) = segments.span();
    let image_pages = (image_end - image_start) / PAGE_SIZE;

    let frames = end.0 / PAGE_SIZE;
    // Without 1 GiB pages: a table for every GiB of the direct map, and of the root's address space.
    let tables = 64 + 2 * end.0.div_ceil(1 << 30);
    let bytes =
        POOL_BYTES + frames * BYTES_PER_FRAME + (image_pages + tables + stacks::PAGES) * PAGE_SIZE;
    let bytes = bytes.next_multiple_of(BLOCK_ALIGNMENT);
    let block = find_space(&info.memory_regions, bytes, BLOCK_ALIGNMENT)
        .ok_or(BootError::TooLittleMemory(total))?;
    let own = (block, Spa(block.0 + bytes));
    memory
        .set(own.0, own.1, MemoryKind::Reserved)
        .map_err(|_| BootError::TooManyRanges)?;
    // SAFETY: free RAM by the loader's map, chosen once.
    let mut pool = unsafe { Pool::new(phys, own.0, own.1) };

    let no_memory = BootError::TooLittleMemory(total);
    let image = pool.take(image_pages).ok_or(no_memory)?;
    let mut new = new_tables(&cpu, phys, &mut pool)?;
    let range = (PHYSICAL_MEMORY, Spa(0), end.0);
    map(
        &mut new,
        &mut pool,
        range,
        Rights::RW,
        MemoryType::WriteBack,
    )?;
    for segment in segments.iter() {
        let place = Spa(image.0 + (segment.start - image_start));
        let range = (IMAGE + segment.start, place, segment.end - segment.start);
        map(
            &mut new,
            &mut pool,
            range,
            segment.rights,
            MemoryType::WriteBack,
        )?;
    }
    let apic_mode = Mode::choose(&cpu);
    if let Mode::XApic(registers) = apic_mode {
        let range = (LOCAL_APIC, registers, PAGE_SIZE);
        map(
            &mut new,
            &mut pool,
            range,
            Rights::RW,
            MemoryType::Uncacheable,
        )?;
    }
    let frame_buffer = frame_buffer(info, old);
    if let Some(buffer) = frame_buffer {
        let first = buffer.start.0 & !(PAGE_SIZE - 1);
        let range = (SCREEN, Spa(first), buffer.start.0 + buffer.bytes - first);
        map(
            &mut new,
            &mut pool,
            range,
            Rights::RW,
            MemoryType::WriteCombining,
        )?;
    }
    let stacks = stacks::map(&mut new, &mut pool, 0)?;
    let root = new.root().address();
    let handover = Handover {
        phys,
        tables: new,
        memory,
        own,
        // Replaced below: the hand-over itself comes out of the pool.
        // SAFETY: an empty range.
        pool: unsafe { Pool::new(phys, own.1, own.1) },
        archive,
        rsdp: info.rsdp_addr.into_option().map(Spa),
        frame_buffer,
        capabilities,
        apic_mode,
        stacks,
        start,
    };
    let handover = pool.place(handover).ok_or(no_memory)?;
    handover.pool = pool;
    Ok(Departure {
        segments,
        image,
        phys,
        root,
        stack: stacks.main,
        handover,
    })
}

/// Where the archive lies and what its header says.
fn archive(
    info: &BootInfo,
    old: impl Fn(u64) -> Option<Spa>,
    phys: PhysMap,
) -> Result<Archive, BootError> {
    let address = info
        .ramdisk_addr
        .into_option()
        .ok_or(BootError::NoArchive)?;
    let last = info
        .ramdisk_len
        .checked_sub(1)
        .ok_or(BootError::NoArchive)?;
    let start = old(address).ok_or(BootError::NoArchive)?;
    if old(address + last) != start.checked_add(last) || !start.is_aligned(PAGE_SIZE) {
        return Err(BootError::Loader("archive in one piece"));
    }
    // SAFETY: the loader's memory, which nothing writes before the root runs; the slice does not live on.
    let bytes = unsafe { phys.slice_mut::<u8>(start, info.ramdisk_len as usize) }
        .ok_or(BootError::NoArchive)?;
    let header = boot_archive::HeaderView::parse(bytes).map_err(BootError::DamagedArchive)?;
    Ok(Archive {
        start,
        length: header.total_length(),
        loader_offset: header.loader_offset(),
        loader_length: header.loader().len() as u64,
    })
}

fn frame_buffer(info: &mut BootInfo, old: impl Fn(u64) -> Option<Spa>) -> Option<FrameBuffer> {
    let buffer = info.framebuffer.as_mut()?;
    let layout = buffer.info();
    let start = old(buffer.buffer().as_ptr() as u64)?;
    Some(FrameBuffer {
        start,
        bytes: layout.byte_len as u64,
        width: layout.width,
        height: layout.height,
        stride: layout.stride,
        bytes_per_pixel: layout.bytes_per_pixel,
        order: match layout.pixel_format {
            PixelFormat::Rgb => PixelOrder::Rgb,
            PixelFormat::U8 => PixelOrder::Grey,
            _ => PixelOrder::Bgr,
        },
    })
}

impl FrameBuffer {
    /// The screen on our own page tables.
    ///
    /// # Safety
    /// Those tables, as `prepare` made them, are active, and this is called once.
    pub(super) unsafe fn screen(&self) -> Screen {
        let start = (SCREEN + self.start.offset() as u64) as *mut u8;
        // SAFETY: `prepare` mapped the buffer there for good.
        let pixels = unsafe { core::slice::from_raw_parts_mut(start, self.bytes as usize) };
        let size = (self.width, self.height, self.stride);
        Screen::new(pixels, size, self.bytes_per_pixel, self.order)
    }
}

impl Departure {
    /// Copies the image and goes on in the copy.
    ///
    /// # Safety
    /// Interrupts are off, the loader's tables are active, and no other processor runs.
    pub(super) unsafe fn go(self) -> ! {
        let (start, _) = self.segments.span();
        // From here on nothing may be written to a static: the copy would lack it.
        for segment in self.segments.iter() {
            for offset in (segment.start..segment.end).step_by(PAGE_SIZE as usize) {
                let target = Spa(self.image.0 + (offset - start));
                let Some(target) = self.phys.frame_ptr(target.page()) else {
                    continue;
                };
                // SAFETY: the source is a page of the running image, the target a page of the block, in the direct map.
                unsafe {
                    core::ptr::copy_nonoverlapping(
                        (IMAGE + offset) as *const u8,
                        target.cast().as_ptr(),
                        4096,
                    );
                }
            }
        }
        // SAFETY: the new tables map the image at the same address, the stack, and the hand-over; global translations of
        // the old ones go with CR4.PGE, which the arrival sets again.
        unsafe {
            core::arch::asm!(
                "mov rax, cr4",
                "and rax, ~0x80",
                "mov cr4, rax",
                "mov cr3, {root}",
                "mov rsp, {stack}",
                "xor ebp, ebp",
                "call {arrive}",
                "ud2",
                root = in(reg) self.root.0,
                stack = in(reg) self.stack,
                arrive = sym arrival::arrive,
                in("rdi") self.handover,
                in("rax") 0,
                options(noreturn)
            );
        }
    }
}
