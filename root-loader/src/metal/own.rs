//! The loader's own image, by the linker script's symbols.

use core::ops::Range;

use root_loader::LOADER_IMAGE;
use root_loader::paging::{Cache, Mapping, Rights};

unsafe extern "C" {
    static loader_start: u8;
    static loader_text: u8;
    static loader_rodata: u8;
    static loader_data: u8;
    static loader_end: u8;
}

/// Where the image is in physical memory, when it was put at `base`.
pub fn frames(base: u64) -> Range<u64> {
    base..base + (address(&raw const loader_end) - LOADER_IMAGE)
}

/// How the image is mapped: code is not writable, data not executable, the stub neither.
pub fn mappings(base: u64) -> [Mapping; 4] {
    let part = |start: *const u8, end: *const u8, rights| {
        let (virt, end) = (address(start), address(end));
        Mapping {
            virt,
            gpa: base + (virt - LOADER_IMAGE),
            bytes: end - virt,
            rights,
            cache: Cache::WriteBack,
        }
    };
    let (start, text) = (&raw const loader_start, &raw const loader_text);
    let (rodata, data, end) = (
        &raw const loader_rodata,
        &raw const loader_data,
        &raw const loader_end,
    );
    [
        part(start, text, Rights::READ),
        part(text, rodata, Rights::READ_EXECUTE),
        part(rodata, data, Rights::READ),
        part(data, end, Rights::READ_WRITE),
    ]
}

fn address(symbol: *const u8) -> u64 {
    symbol as u64
}
