//! Pages that the processor itself reads and writes.

use core::ptr::NonNull;

use crate::mem::addr::{PAGE_SIZE, Spa};
use crate::mem::page_box::Frame;
use crate::mem::phys::PhysMap;

/// A 4 KiB page, or several in a row, owned by one object and also used by the processor by physical address.
#[derive(Debug)]
pub struct HwPages {
    start: NonNull<u8>,
    spa: Spa,
    pages: usize,
}

// SAFETY: the page belongs to this value alone (obligation of `new`), so it moves between processors with it.
unsafe impl Send for HwPages {}
// SAFETY: a shared value only reads the memory.
unsafe impl Sync for HwPages {}

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

    /// One page: a frame that the caller owns. It comes back when the direct map does not cover it.
    ///
    /// # Errors
    /// The frame.
    pub fn from_frame(phys: PhysMap, frame: Frame) -> Result<Self, Frame> {
        match phys.frame_ptr(frame.spfn()) {
            // SAFETY: mapped for ever by the contract of `PhysMap`, and used by nobody else by that of `Frame`.
            Some(page) => Ok(unsafe { Self::new(page.cast(), frame.into_spfn().address(), 1) }),
            None => Err(frame),
        }
    }

    /// The frame of a single page, to be given back to its pool. `None`, with the pages lost, for several.
    pub fn into_frame(self) -> Option<Frame> {
        // SAFETY: RAM that belonged to this value alone, which ends here.
        (self.pages == 1).then(|| unsafe { Frame::from_spfn(self.spa.page()) })
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

#[cfg(any(test, feature = "test-support"))]
impl HwPages {
    /// Pages of a test: real memory, an invented physical address.
    ///
    /// # Panics
    /// For no pages, and when the host has no memory.
    pub fn for_test(spa: u64, pages: usize) -> Self {
        extern crate alloc;
        use alloc::alloc::{Layout, alloc, handle_alloc_error};
        let layout = Layout::from_size_align(pages * 4096, 4096).expect("size of the test pages");
        assert_ne!(layout.size(), 0);
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc(layout) });
        let start = start.unwrap_or_else(|| handle_alloc_error(layout));
        // SAFETY: the memory is leaked, so it stays valid and ours; nothing reaches it by physical address.
        unsafe { Self::new(start, Spa(spa), pages) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::addr::Spfn;
    use crate::mem::testing::TestMemory;

    #[test]
    fn a_frame_becomes_a_zeroed_page_and_comes_back() {
        let memory = TestMemory::new(2);
        memory.phys().write_u64(Spa(0x3008), 7).unwrap();
        // SAFETY: the test's memory; each frame is named once.
        let (inside, outside) = unsafe { (Frame::from_spfn(Spfn(3)), Frame::from_spfn(Spfn(512))) };
        let page = HwPages::from_frame(memory.phys(), inside).unwrap();
        assert_eq!(memory.phys().read_u64(Spa(0x3008)), Ok(0));
        assert_eq!(page.into_frame().map(Frame::into_spfn), Some(Spfn(3)));
        let back = HwPages::from_frame(memory.phys(), outside).unwrap_err();
        assert_eq!(back.into_spfn(), Spfn(512));
        assert!(HwPages::for_test(0x1000, 2).into_frame().is_none());
    }
}
