//! The machine's memory as the start info describes it: frames to give away, and what is not ours.

use core::arch::asm;

use boot_archive::start_info::{MemoryMapEntry, kind};

use spin::Mutex;

use crate::metal::Boot;
use crate::metal::memory::virtual_address;
use crate::read_cr;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Bytes of a large page.
pub const LARGE_PAGE: u64 = 2 << 20;

/// Frames below are left alone: firmware data, old DMA.
const LOWEST: u64 = 16 << 20;
/// The direct map is sure below.
const HIGHEST: u64 = 4 << 30;
const MAX_RANGES: usize = 64;

/// Reads 8 bytes of RAM.
pub fn read(gpa: u64) -> u64 {
    crate::metal::memory::read(gpa)
}

/// Writes 8 bytes of a frame of the caller's.
pub fn write(gpa: u64, value: u64) {
    crate::metal::memory::write(gpa, value);
}

/// Fills frames of the caller's with a byte.
pub fn fill(gpa: u64, byte: u8, len: u64) {
    // SAFETY: frames come from the allocator, and no Rust reference is kept to them.
    unsafe { core::ptr::write_bytes(virtual_address(gpa) as *mut u8, byte, len as usize) };
}

/// Copies bytes to frames of the caller's.
pub fn copy_to(gpa: u64, bytes: &[u8]) {
    let to = virtual_address(gpa) as *mut u8;
    // SAFETY: as in `fill`; the bytes are the image's or the stack's, never the frame's.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
}

/// Copies bytes from frames.
pub fn copy_from(gpa: u64, bytes: &mut [u8]) {
    let from = virtual_address(gpa) as *const u8;
    // SAFETY: as in `copy_to`.
    unsafe { core::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
}

/// Whether a page is all zeros.
pub fn is_zero(gpa: u64) -> bool {
    (0..PAGE / 8).all(|word| read(gpa + 8 * word) == 0)
}

#[derive(Clone, Copy, Default)]
struct Range {
    start: u64,
    end: u64,
}

impl Range {
    fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// The machine's memory, of which all VPs of the root take frames.
#[derive(Clone, Copy)]
pub struct Memory {
    boot: Boot,
}

static FRAMES: Mutex<Frames> = Mutex::new(Frames {
    ranges: [Range { start: 0, end: 0 }; MAX_RANGES],
    count: 0,
    free: 0,
    used: 0,
});

/// Free frames.
struct Frames {
    ranges: [Range; MAX_RANGES],
    count: usize,
    /// First frame of the list of frames given back; each holds the address of the next, then its complement.
    free: u64,
    /// Frames handed out and not given back.
    used: u64,
}

impl Memory {
    /// All RAM that is neither a module's nor the firmware's: the same for all who ask.
    pub fn new(boot: &Boot) -> Self {
        let mut frames = FRAMES.lock();
        if frames.count != 0 {
            return Self { boot: *boot };
        }
        for entry in boot.memory_map().filter(|entry| entry.kind == kind::RAM) {
            frames.add(Range {
                start: entry.addr.next_multiple_of(PAGE).max(LOWEST),
                end: ((entry.addr + entry.size) & !(PAGE - 1)).min(HIGHEST),
            });
        }
        for module in boot.start_info().modules() {
            frames.cut(Range {
                start: module.paddr & !(PAGE - 1),
                end: (module.paddr + module.size).next_multiple_of(PAGE),
            });
        }
        Self { boot: *boot }
    }

    /// A frame; its contents are undefined.
    pub fn frame(&mut self) -> u64 {
        FRAMES.lock().frame()
    }

    /// A frame of zeros.
    pub fn zeroed(&mut self) -> u64 {
        let frame = self.frame();
        fill(frame, 0, PAGE);
        frame
    }

    /// `pages` consecutive 2 MiB pages, from the largest range's end. They are never given back.
    pub fn large(&mut self, pages: u64) -> u64 {
        FRAMES.lock().large(pages)
    }

    /// Gives a frame back.
    pub fn give_back(&mut self, frame: u64) {
        FRAMES.lock().give_back(frame);
    }

    /// Frames handed out and not given back.
    pub fn used(&self) -> u64 {
        FRAMES.lock().used
    }

    /// The memory map.
    pub fn map(&self) -> impl Iterator<Item = MemoryMapEntry> {
        self.boot.memory_map()
    }

    /// The type of the range that an address lies in; `None` in a hole.
    pub fn kind_of(&self, gpa: u64) -> Option<u32> {
        self.map()
            .find(|entry| entry.addr <= gpa && gpa - entry.addr < entry.size)
            .map(|entry| entry.kind)
    }

    /// First byte and length of the entry of the memory map that an address lies in.
    pub fn entry_of(&self, gpa: u64) -> Option<(u64, u64)> {
        self.map()
            .find(|entry| entry.addr <= gpa && gpa - entry.addr < entry.size)
            .map(|entry| (entry.addr, entry.size))
    }
}

impl Frames {
    fn add(&mut self, range: Range) {
        if range.start < range.end && self.count < MAX_RANGES {
            self.ranges[self.count] = range;
            self.count += 1;
        }
    }

    /// Takes a range out of all ranges.
    fn cut(&mut self, taken: Range) {
        for index in 0..self.count {
            let range = self.ranges[index];
            if taken.start >= range.end || range.start >= taken.end {
                continue;
            }
            self.ranges[index].end = range.start.max(taken.start);
            self.add(Range {
                start: taken.end.min(range.end),
                end: range.end,
            });
        }
    }

    fn frame(&mut self) -> u64 {
        self.used += 1;
        if self.free != 0 {
            let frame = self.free;
            self.free = read(frame);
            check!(
                read(frame + 8) == !self.free,
                "somebody wrote to the free frame {frame:#x}"
            );
            return frame;
        }
        // The smallest range first, so that the largest stays whole for large pages.
        let ranges = self.ranges[..self.count].iter_mut();
        match ranges
            .filter(|range| range.len() >= PAGE)
            .min_by_key(|range| range.len())
        {
            Some(range) => {
                range.start += PAGE;
                range.start - PAGE
            }
            None => fail!("the machine has too little memory"),
        }
    }

    fn large(&mut self, pages: u64) -> u64 {
        let ranges = self.ranges[..self.count].iter_mut();
        if let Some(range) = ranges.max_by_key(|range| range.len()) {
            let start = range.end.saturating_sub(pages * LARGE_PAGE) & !(LARGE_PAGE - 1);
            if start >= range.start {
                range.end = start;
                return start;
            }
        }
        fail!("the machine has no {pages} large pages")
    }

    fn give_back(&mut self, frame: u64) {
        check!(self.used > 0, "more frames come back than went out");
        self.used -= 1;
        write(frame, self.free);
        write(frame + 8, !self.free);
        self.free = frame;
    }
}

/// Makes the page at a virtual address executable, in the loader's page tables.
pub fn make_executable(address: u64) {
    const PRESENT: u64 = 1;
    const LARGE: u64 = 1 << 7;
    const NO_EXECUTE: u64 = 1 << 63;
    const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
    let mut table = read_cr!(3) & ADDRESS;
    for shift in [39, 30, 21, 12] {
        let at = table + (address >> shift & 0x1FF) * 8;
        let entry = read(at);
        check!(entry & PRESENT != 0, "{address:#x} is not mapped");
        write(at, entry & !NO_EXECUTE);
        if entry & LARGE != 0 {
            break;
        }
        table = entry & ADDRESS;
    }
    forget_translations();
}

/// After a change of the page tables.
pub fn forget_translations() {
    // SAFETY: the same page tables again.
    unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack)) };
}
