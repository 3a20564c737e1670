//! Pages that the processor itself reads and writes.

use core::ptr::NonNull;

use crate::mem::addr::{PAGE_SIZE, Spa};

/// A 4 KiB page, or several in a row, owned by one object and also used by the processor by physical address.
#[derive(Debug)]
pub struct HwPages {
    start: NonNull<u8>,
    spa: Spa,
    pages: usize,
}

// SAFETY: the page belongs to this value alone (obligation of `new`), so it moves between processors with it.
unsafe impl Send for HwPages {}

impl HwPages {
    /// Takes over `pages` pages mapped at `start` and lying at `spa`, and zeroes them.
    ///
    /// # Safety
    /// * `start` must be page-aligned, mapped writable for all the pages, for as long as the value lives;
    /// * the physical memory at `spa` must be the one mapped at `start`, contiguous, ordinary RAM;
    /// * nothing else may use the memory while the value lives.
    pub unsafe fn new(start: NonNull<u8>, spa: Spa, pages: usize) -> Self {
        // SAFETY: writable for `pages` pages and unused by others, by this function's own obligations.
        unsafe { core::ptr::write_bytes(start.as_ptr(), 0, pages * PAGE_SIZE as usize) };
        Self { start, spa, pages }
    }

    /// Physical address of the first page.
    pub const fn spa(&self) -> Spa {
        self.spa
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped and owned (`new`); zeroed, hence initialized; `&self` excludes writers.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len()) }
    }

    /// The bytes, to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` excludes other users.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.len()) }
    }

    /// Bytes in all pages.
    pub const fn len(&self) -> usize {
        self.pages * PAGE_SIZE as usize
    }

    /// True for a range of no pages.
    pub const fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// The first page as a structure of the processor.
    pub(super) const fn cast<T>(&self) -> NonNull<T> {
        const { assert!(size_of::<T>() <= PAGE_SIZE as usize && align_of::<T>() <= PAGE_SIZE as usize) };
        self.start.cast()
    }
}

#[cfg(test)]
impl HwPages {
    /// Pages of a test: real memory, an invented physical address.
    pub fn for_test(spa: u64, pages: usize) -> Self {
        let layout = std::alloc::Layout::from_size_align(pages * 4096, 4096).unwrap();
        // SAFETY: the layout's size is not zero; the memory is leaked, so it stays valid and ours.
        unsafe {
            Self::new(
                NonNull::new(std::alloc::alloc(layout)).unwrap(),
                Spa(spa),
                pages,
            )
        }
    }
}
