//! Guest memory in the process.

use alloc::rc::Rc;
use core::cell::RefCell;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};

use board::layout::{FOUR_GIB, RamLayout};
use board::ram::{GuestRam, OutOfRam, RamMap};
use worker::SharedRam;

/// The addresses that stand for the guest's RAM. Behind those of the pages that are in the map is memory.
#[derive(Clone)]
pub struct MappedRam {
    map: Rc<RefCell<RamMap>>,
    /// Of guest physical address 0.
    low: *mut u8,
    /// Of 4 GiB, if there is RAM.
    high: *mut u8,
}

impl MappedRam {
    /// RAM of the layout `reach`, of which the first `startup` bytes are there. Its parts below and above 4 GiB begin at these
    /// addresses.
    ///
    /// # Safety
    /// For the rest of the process's life the addresses of the layout's RAM are this RAM's alone, and no Rust reference points
    /// into them. The first `startup` bytes are mapped, for reading and writing. Whoever calls [`SharedRam::set_present`] has
    /// memory mapped like that as long as pages are present.
    pub unsafe fn new(reach: RamLayout, startup: u64, low: *mut u8, high: *mut u8) -> Self {
        let map = RamMap::with_reach(RamLayout::new(startup), reach);
        let map = Rc::new(RefCell::new(map));
        Self { map, low, high }
    }

    fn pointer(&self, gpa: u64, len: usize) -> Result<*mut u8, OutOfRam> {
        let len = len as u64;
        let there = self.map.borrow().offset(gpa, len);
        there.ok_or(OutOfRam { gpa, len })?;
        // SAFETY: all of it is RAM of the layout, which does not reach across 4 GiB, and is present: `new`'s caller vouched for
        // memory there.
        Ok(unsafe {
            match gpa.checked_sub(FOUR_GIB) {
                Some(above) => self.high.add(above as usize),
                None => self.low.add(gpa as usize),
            }
        })
    }

    /// An aligned word, to be used as such: nothing of this process refers to it for longer than one access.
    fn word(&self, gpa: u64) -> Result<&AtomicU32, OutOfRam> {
        const LEN: usize = size_of::<AtomicU32>();
        let word = self.pointer(gpa, LEN)?.cast::<u32>();
        if !word.is_aligned() {
            return Err(OutOfRam {
                gpa,
                len: LEN as u64,
            });
        }
        // SAFETY: 1. The word is aligned, and mapped until somebody takes its page out of the map, which nobody does during an
        // access. 2. The guest accesses it at the same
        // time, as another processor would: that is what an atomic is for. This process has one thread, whose other accesses
        // are copies that are over when the next begins.
        Ok(unsafe { AtomicU32::from_ptr(word) })
    }
}

impl GuestRam for MappedRam {
    fn layout(&self) -> RamLayout {
        self.map.borrow().layout()
    }

    fn is_ram(&self, gpa: u64, len: u64) -> bool {
        self.map.borrow().offset(gpa, len).is_some()
    }

    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), OutOfRam> {
        let source = self.pointer(gpa, buf.len())?;
        // SAFETY: 1. `source` has `buf.len()` mapped bytes. 2. `buf` is no guest memory, so they do not overlap. 3. The
        // guest may change the bytes meanwhile; they are only copied, and any byte is a valid byte.
        unsafe { core::ptr::copy_nonoverlapping(source, buf.as_mut_ptr(), buf.len()) };
        Ok(())
    }

    fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), OutOfRam> {
        self.write_shared(gpa, data)
    }
}

impl SharedRam for MappedRam {
    fn write_shared(&self, gpa: u64, data: &[u8]) -> Result<(), OutOfRam> {
        let target = self.pointer(gpa, data.len())?;
        // SAFETY: 1. `target` has `data.len()` mapped bytes. 2. `data` is no guest memory, so they do not overlap. 3. No
        // reference points into guest memory.
        unsafe { core::ptr::copy_nonoverlapping(data.as_ptr(), target, data.len()) };
        Ok(())
    }

    fn load_acquire(&self, gpa: u64) -> Result<u32, OutOfRam> {
        Ok(self.word(gpa)?.load(Ordering::Acquire))
    }

    fn store_release(&self, gpa: u64, value: u32) -> Result<(), OutOfRam> {
        self.word(gpa)?.store(value, Ordering::Release);
        Ok(())
    }

    fn make_room(&self, pages: Range<u64>) -> bool {
        self.map.borrow_mut().make_room(pages).is_ok()
    }

    fn set_present(&self, pages: Range<u64>, present: bool) {
        self.map.borrow_mut().set_present(pages, present);
    }
}
