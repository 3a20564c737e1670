//! The hypervisor's own block of memory, given out from the bottom and never taken back.

use core::ptr::NonNull;

use crate::arch::page::HwPages;
use crate::mem::addr::{PAGE_SIZE, Spa, Spfn};
use crate::mem::page_box::Frame;
use crate::mem::phys::PhysMap;
use crate::mem::table::FrameSource;

/// What is left of the block. Whatever is taken lies in the direct map, zeroed, and belongs to the taker for ever.
#[derive(Debug)]
pub struct Pool {
    phys: PhysMap,
    next: u64,
    end: u64,
}

impl Pool {
    /// A pool of the pages from `start` to `end`.
    ///
    /// # Safety
    /// The pages are RAM in the direct map that nobody else uses, now or later.
    pub const unsafe fn new(phys: PhysMap, start: Spa, end: Spa) -> Self {
        Self {
            phys,
            next: start.0,
            end: end.0,
        }
    }

    /// The first page not given out, and the number of them.
    pub const fn left(&self) -> (Spfn, u64) {
        (Spa(self.next).page(), (self.end - self.next) / PAGE_SIZE)
    }

    /// Takes `pages` pages in a row and zeroes them.
    pub fn take(&mut self, pages: u64) -> Option<Spa> {
        let start = Spa(self.next);
        let end = start.checked_add(pages.checked_mul(PAGE_SIZE)?)?.0;
        if end > self.end {
            return None;
        }
        for i in 0..pages {
            self.phys.zero_page(start.page().checked_add(i)?).ok()?;
        }
        self.next = end;
        Some(start)
    }

    /// One frame.
    pub fn frame(&mut self) -> Option<Frame> {
        let start = self.take(1)?;
        // SAFETY: RAM of the pool, given out once.
        Some(unsafe { Frame::from_spfn(start.page()) })
    }

    /// Pages for the processor.
    pub fn hw_pages(&mut self, pages: usize) -> Option<HwPages> {
        let start = self.take(pages as u64)?;
        let mapped = self.phys.frame_ptr(start.page())?;
        // SAFETY: taken, so unused by others; mapped and contiguous in the direct map for ever.
        Some(unsafe { HwPages::new(mapped.cast(), start, pages) })
    }

    /// A place for a `T` that lives for ever, holding `value`.
    pub fn place<T>(&mut self, value: T) -> Option<&'static mut T> {
        const { assert!(align_of::<T>() <= PAGE_SIZE as usize) };
        let start = self.take((size_of::<T>() as u64).div_ceil(PAGE_SIZE))?;
        let target: NonNull<T> = self.phys.frame_ptr(start.page())?.cast();
        // SAFETY: taken, so unused by others; mapped, large enough and page-aligned, for ever.
        unsafe {
            target.write(value);
            Some(&mut *target.as_ptr())
        }
    }

    /// An array of `count` objects, each made by `make` from its index.
    pub fn array<T>(
        &mut self,
        count: usize,
        mut make: impl FnMut(usize) -> T,
    ) -> Option<&'static mut [T]> {
        const { assert!(align_of::<T>() <= PAGE_SIZE as usize) };
        let bytes = (count as u64).checked_mul(size_of::<T>() as u64)?;
        let start = self.take(bytes.div_ceil(PAGE_SIZE))?;
        let first: NonNull<T> = self.phys.frame_ptr(start.page())?.cast();
        for i in 0..count {
            // SAFETY: within the pages just taken.
            unsafe { first.add(i).write(make(i)) };
        }
        // SAFETY: initialized above; unused by others; mapped and page-aligned, for ever.
        Some(unsafe { core::slice::from_raw_parts_mut(first.as_ptr(), count) })
    }
}

impl FrameSource for Pool {
    fn allocate(&mut self) -> Option<Frame> {
        self.frame()
    }

    /// The pool takes nothing back: a table of ours that is no longer needed is lost.
    fn release(&mut self, _: Frame) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::testing::TestMemory;

    #[test]
    fn what_is_taken_is_zeroed_and_taken_once() {
        let memory = TestMemory::new(2);
        memory.phys().copy_to(Spa(0), &[0xFF; 0x8000]).unwrap();
        // SAFETY: the test's memory, used by nothing else.
        let mut pool = unsafe { Pool::new(memory.phys(), Spa(0x1000), Spa(0x6000)) };
        assert_eq!(pool.take(2), Some(Spa(0x1000)));
        assert_eq!(memory.phys().read_u64(Spa(0x2FF8)), Ok(0));
        assert_eq!(memory.phys().read_u64(Spa(0x3000)), Ok(u64::MAX));
        let pages = pool.hw_pages(1).unwrap();
        assert_eq!((pages.spa(), pages.len()), (Spa(0x3000), 4096));
        assert_eq!(pool.left(), (Spfn(4), 2));
        assert_eq!(pool.take(3), None);
        assert_eq!(pool.left(), (Spfn(4), 2), "a failure takes nothing");
        assert_eq!(pool.take(u64::MAX), None);
    }

    #[test]
    fn arrays_hold_what_was_made() {
        let memory = TestMemory::new(2);
        // SAFETY: the test's memory, used by nothing else.
        let mut pool = unsafe { Pool::new(memory.phys(), Spa(0x1000), Spa(0x4000)) };
        let array = pool.array(600, |i| i as u64).unwrap();
        assert_eq!((array[0], array[599], pool.left().1), (0, 599, 1));
        assert!(pool.array(513, |i| i as u64).is_none());
    }
}
