//! The loader's own image, by the linker script's symbols.

use core::ops::Range;

use root_loader::LOADER_IMAGE;
use root_loader::paging::{Cache, Mapping, Rights};

unsafe extern "C" {
    static loader_start: u8;
    static loader_text: u8;
    static loader_rodata: u8;
    static loader_data: u8;
    static loader_guard: u8;
    static loader_stack: u8;
    static loader_end: u8;
}

/// Where the image is in physical memory, when it was put at `base`.
pub fn frames(base: u64) -> Range<u64> {
    base..base + (address(&raw const loader_end) - LOADER_IMAGE)
}

/// How the image is mapped: code is not writable, data not executable, the stub neither; the guard page below the stack
/// is missing.
pub fn mappings(base: u64) -> [Mapping; 5] {
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
    [
        part(
            &raw const loader_start,
            &raw const loader_text,
            Rights::READ,
        ),
        part(
            &raw const loader_text,
            &raw const loader_rodata,
            Rights::READ_EXECUTE,
        ),
        part(
            &raw const loader_rodata,
            &raw const loader_data,
            Rights::READ,
        ),
        part(
            &raw const loader_data,
            &raw const loader_guard,
            Rights::READ_WRITE,
        ),
        part(
            &raw const loader_stack,
            &raw const loader_end,
            Rights::READ_WRITE,
        ),
    ]
}

fn address(symbol: *const u8) -> u64 {
    symbol as u64
}
