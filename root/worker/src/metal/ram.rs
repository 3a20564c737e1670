//! Guest memory in the process.

use alloc::rc::Rc;
use core::cell::RefCell;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};

use board::layout::RamLayout;
use board::ram::{GuestRam, OutOfRam, RamMap};
use worker::SharedRam;

/// The mapping that backs the guest's RAM. It is never unmapped.
#[derive(Clone)]
pub struct MappedRam {
    map: Rc<RefCell<RamMap>>,
    start: *mut u8,
}

impl MappedRam {
    /// RAM of that layout at `start`.
    ///
    /// # Safety
    /// `layout.size()` bytes at `start` are mapped for reading and writing for the rest of the process's life, and no
    /// Rust reference points into them.
    pub unsafe fn new(layout: RamLayout, start: *mut u8) -> Self {
        let map = Rc::new(RefCell::new(RamMap::new(layout)));
        Self { map, start }
    }

    fn pointer(&self, gpa: u64, len: usize) -> Result<*mut u8, OutOfRam> {
        let len = len as u64;
        let offset = self.map.borrow().offset(gpa, len);
        let offset = offset.ok_or(OutOfRam { gpa, len })?;
        // SAFETY: `offset + len` is within the size of the layout, which `new`'s caller vouched is mapped.
        Ok(unsafe { self.start.add(offset as usize) })
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
        // SAFETY: 1. The word is mapped for the rest of the process's life and aligned. 2. The guest accesses it at the same
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

    fn set_present(&self, pages: Range<u64>, present: bool) {
        self.map.borrow_mut().set_present(pages, present);
    }
}
