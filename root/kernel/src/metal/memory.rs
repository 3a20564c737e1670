//! All of RAM: the frame allocator, the direct map, the kernel's page tables.

use core::ptr;

use boot_archive::start_info::{MemoryMapEntry, PhysicalMemory, kind};
use root_kernel::addr::{LARGE_PAGE_SIZE, PAGE_SIZE, Pfn};
use root_kernel::frame_tables::{FrameTables, Ram};
use root_kernel::frames::{Claim, Class, Frames, Layout, Owner, Record, Span};
use root_kernel::paging::{Attributes, MapError, Rights, TableMemory, Tables};
use x86_64::registers::control::Cr3;

use super::cell::Global;
use super::layout;

/// What the loader has mapped of the direct map at least.
const MAPPED_AT_START: u64 = 1 << 32;

/// The frame allocator.
pub static FRAMES: Global<Frames<'static>> = Global::empty();
static KERNEL_ROOT: Global<Pfn> = Global::empty();
static DEVICES_END: Global<u64> = Global::new(layout::DEVICES);

/// Where a physical address is in the direct map.
pub fn direct(address: u64) -> *mut u8 {
    layout::DIRECT.wrapping_add(address) as *mut u8
}

/// RAM by the direct map. Tables are the root of a tree and what [`TableMemory::allocate`] gave.
pub struct Direct;

impl Ram for Direct {
    fn read(&self, table: Pfn, index: usize) -> u64 {
        read_entry(table, index)
    }

    fn write(&mut self, table: Pfn, index: usize, entry: u64) {
        let place = direct(table.address())
            .cast::<u64>()
            .wrapping_add(index % 512);
        // SAFETY: `table` is a page table frame (see the type), and all frames of RAM are in the direct map. The processor may
        // read the entry at any time, hence volatile.
        unsafe { place.write_volatile(entry) };
    }

    fn zero(&mut self, first: Pfn, count: u64) {
        zero(first, count);
    }
}

/// Tables in the direct map.
pub type DirectTables<'f> = FrameTables<'f, 'static, Direct>;

fn read_entry(table: Pfn, index: usize) -> u64 {
    let place = direct(table.address())
        .cast::<u64>()
        .wrapping_add(index % 512);
    // SAFETY: as in `write`.
    unsafe { place.read_volatile() }
}

/// Tables that can only be read: for looking up addresses of a process.
pub struct ReadTables;

impl TableMemory for ReadTables {
    fn read(&self, table: Pfn, index: usize) -> u64 {
        read_entry(table, index)
    }

    fn write(&mut self, _table: Pfn, _index: usize, _entry: u64) {}

    fn allocate(&mut self) -> Option<Pfn> {
        None
    }

    fn free(&mut self, _table: Pfn) {}

    fn free_leaf(&mut self, _first: Pfn, _order: u8) {}
}

/// Fills frames with zeros. They must be the caller's: just allocated and in nobody else's use.
pub fn zero(first: Pfn, count: u64) {
    // SAFETY: 1. Frames are RAM and in the direct map, and the caller owns these. 2. Nobody else accesses them, also where they
    // were a guest's a moment ago: a frame is free only when the hypervisor has unmapped it in the guest, which ends when no
    // processor has a translation to it any more, and when it has left its process's tables and this processor's translations
    // (`root_kernel::backing`); no other processor had some.
    unsafe {
        ptr::write_bytes(
            direct(first.address()),
            0,
            (count.wrapping_mul(PAGE_SIZE)) as usize,
        )
    };
}

/// Copies into a frame that the caller owns, or that a process shares with the kernel: then it was found in the process's tables
/// since the kernel's lock was last let go. `at + bytes.len()` must not exceed a page: what does is cut off.
pub fn write_frame(frame: Pfn, at: usize, bytes: &[u8]) {
    let len = bytes.len().min((PAGE_SIZE as usize).saturating_sub(at));
    // SAFETY: 1. The target lies within one frame of RAM in the direct map, where all RAM stays mapped. 2. The frame is still whose
    // it was when it was found: memory leaves a process by its own `take_guest_memory` only, or with the process, both of which
    // change its tables under the kernel's lock, which has been kept; a process that runs, or one that does not run yet, is not at
    // such a call now, since it has one thread, which is here. 3. The process does not access it at this moment, for the same
    // reason; its guest may, if it is the guest's memory: the bytes are copied, and any byte is a valid byte. 4. Nothing holds a
    // Rust reference to it: pages of a process or of its guest are never the kernel's own data.
    unsafe {
        ptr::copy(
            bytes.as_ptr(),
            direct(frame.address()).wrapping_add(at),
            len,
        )
    };
}

/// Copies out of a frame; the counterpart of [`write_frame`], with the same demands.
pub fn read_frame(frame: Pfn, at: usize, bytes: &mut [u8]) {
    let len = bytes.len().min((PAGE_SIZE as usize).saturating_sub(at));
    // SAFETY: 1. to 4. as in `write_frame`, of which this reads what that writes; `bytes` is the caller's alone, and no frame of a
    // process.
    unsafe {
        ptr::copy(
            direct(frame.address()).wrapping_add(at).cast_const(),
            bytes.as_mut_ptr(),
            len,
        )
    };
}

/// Physical memory as the reader of the start info sees it.
#[derive(Debug)]
pub struct StartMemory;

impl PhysicalMemory for StartMemory {
    fn bytes(&self, gpa: u64, len: usize) -> Option<&[u8]> {
        let end = gpa.checked_add(len as u64)?;
        if end > MAPPED_AT_START {
            return None;
        }
        // SAFETY: the range is in the part of the direct map that the loader has made. What it contains (start info,
        // archive) is claimed in the frame table and never written.
        Some(unsafe { core::slice::from_raw_parts(direct(gpa), len) })
    }
}

/// Memory that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Nowhere to put the frame table.
    #[error("no room below 4 GiB for a frame table of {0} pages")]
    NoRoom(u64),
    /// A table could not be made.
    #[error("kernel page tables: {0}")]
    Map(#[from] MapError),
}

/// Takes over all RAM. `claims` says what is in it already.
///
/// # Errors
/// [`InitError`], after which there is no memory to work with.
pub fn init(map: &[MemoryMapEntry], claims: &mut [Claim; 8], used: usize) -> Result<(), InitError> {
    let (known, rest) = claims.split_at_mut(used.min(7));
    let layout = Layout::new(map, known);
    let frames = layout.frames();
    let bytes = frames.saturating_mul(size_of::<Record>() as u64);
    let pages = bytes.div_ceil(PAGE_SIZE);
    let place = layout
        .find_free(pages, MAPPED_AT_START / PAGE_SIZE)
        .ok_or(InitError::NoRoom(pages))?;
    if let Some(claim) = rest.first_mut() {
        *claim = Claim {
            span: place,
            owner: Owner::kernel(Class::FrameTable),
        };
    }
    let start = direct(place.pfn().address()).cast::<Record>();
    // SAFETY: the place is free RAM in the mapped part of the direct map, page aligned, from now on claimed for the
    // table alone; it has room for `frames` records, and all of them are written before the slice exists.
    let table = unsafe {
        for index in 0..frames as usize {
            start.wrapping_add(index).write(Record::HOLE);
        }
        core::slice::from_raw_parts_mut(start, frames as usize)
    };
    let layout = Layout::new(
        map,
        claims.get(..used.saturating_add(1)).unwrap_or_default(),
    );
    FRAMES.set(Frames::new(table, &layout));
    KERNEL_ROOT.set(Pfn::containing(Cr3::read().0.start_address().as_u64()));
    reserve_kernel_half()?;
    extend_direct_map(map)
}

/// Works on the kernel's own tables.
pub fn with_kernel_tables<R>(work: impl FnOnce(&mut Tables<'_, DirectTables<'_>>) -> R) -> R {
    let root = kernel_root();
    FRAMES.with(|frames| {
        let mut memory = DirectTables {
            ram: Direct,
            frames,
            owner: Owner::KERNEL,
        };
        work(&mut Tables::new(root, &mut memory))
    })
}

/// The kernel's top table: its upper half is that of every process.
pub fn kernel_root() -> Pfn {
    KERNEL_ROOT.with(|root| *root)
}

/// The windows of the kernel get their second tables now, so that top tables of processes can be copies.
fn reserve_kernel_half() -> Result<(), MapError> {
    with_kernel_tables(|tables| {
        [
            layout::DEVICES,
            layout::HYPERCALL_PAGE,
            layout::STACKS,
            layout::HEAP,
        ]
        .into_iter()
        .try_for_each(|window| tables.reserve(window))
    })
}

/// Maps the RAM that the loader may have left out, ACPI tables included.
fn extend_direct_map(map: &[MemoryMapEntry]) -> Result<(), InitError> {
    let above = map.iter().filter(|entry| entry.end() > MAPPED_AT_START);
    for entry in above.filter(|entry| matches!(entry.kind, kind::RAM | kind::ACPI | kind::NVS)) {
        let span = Span::within(
            entry.addr.max(MAPPED_AT_START),
            entry.end() - entry.addr.max(MAPPED_AT_START),
        );
        let mut at = span.pfn().address() & !(LARGE_PAGE_SIZE - 1);
        while at < span.end * PAGE_SIZE {
            with_kernel_tables(|tables| {
                let address = layout::DIRECT.wrapping_add(at);
                if tables.lookup(address).is_some() {
                    return Ok(());
                }
                tables.map_large(
                    address,
                    Pfn::containing(at),
                    Attributes::kernel(Rights::ReadWrite),
                )
            })?;
            at += LARGE_PAGE_SIZE;
        }
    }
    Ok(())
}

/// Where a frame that the hypervisor provides is in the direct map. It need not be RAM of the root, so it may have to be
/// mapped first.
///
/// # Errors
/// [`MapError`] if there is no memory for tables.
pub fn map_provided(frame: Pfn) -> Result<*mut u8, MapError> {
    let place = direct(frame.address());
    with_kernel_tables(|tables| match tables.lookup(place as u64) {
        Some(_) => Ok(()),
        None => tables.map(place as u64, frame, Attributes::kernel(Rights::ReadWrite)),
    })?;
    Ok(place)
}

/// Maps device registers; returns where. Devices stay mapped for ever.
///
/// # Errors
/// [`MapError`] if there is no memory for tables.
pub fn map_device(address: u64, len: u64) -> Result<u64, MapError> {
    let span = Span::touching(address, len);
    DEVICES_END.with(|end| {
        let start = *end;
        for page in 0..span.count() {
            with_kernel_tables(|tables| {
                tables.map(*end, span.pfn().plus(page), Attributes::DEVICE)
            })?;
            *end += PAGE_SIZE;
        }
        Ok(start + address % PAGE_SIZE)
    })
}
