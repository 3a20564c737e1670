//! The decisions of the root loader: which memory is whose, where things go, what is mapped how.
//!
//! The loader is the first code of the root partition. It checks the boot archive, loads the root image from it and
//! hands over, as `docs/architecture.md` says ("From power-on to a guest"). This library decides and has no access to the
//! machine; the binary in `src/metal` acts.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod image;
pub mod layout;
pub mod paging;
#[cfg(test)]
mod tests;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Bytes of a large page.
pub const LARGE_PAGE: u64 = 2 << 20;
/// Bytes of a huge page.
pub const HUGE_PAGE: u64 = 1 << 30;
/// End of what 32-bit addresses reach: all of it is in the direct map.
pub const FOUR_GIB: u64 = 4 << 30;

/// Where guest physical address 0 is mapped: the direct map.
pub const DIRECT_MAP: u64 = 0xFFFF_8000_0000_0000;
/// First guest physical address beyond the direct map. RAM from here on is not used: no machine has it.
pub const DIRECT_MAP_LIMIT: u64 = 1 << 46;
/// Root images are linked in `ROOT_IMAGE .. LOADER_IMAGE`.
pub const ROOT_IMAGE: u64 = 0xFFFF_FFFF_8000_0000;
/// Where the loader itself is linked (`loader.ld` has the same number).
pub const LOADER_IMAGE: u64 = 0xFFFF_FFFF_C000_0000;
