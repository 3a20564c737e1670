//! Memory for tests on the host.

extern crate alloc;

use alloc::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

use super::phys::PhysMap;

/// A zeroed piece of host memory, 2 MiB aligned, that plays the machine's RAM from SPA 0 on.
pub struct TestMemory {
    start: *mut u8,
    layout: Layout,
}

// SAFETY: the memory is plain; all access goes through a PhysMap, which is made for sharing.
unsafe impl Send for TestMemory {}
// SAFETY: as above.
unsafe impl Sync for TestMemory {}

impl TestMemory {
    /// `mebibytes` MiB of RAM. The memory must outlive every copy of its [`PhysMap`].
    ///
    /// # Panics
    ///
    /// When `mebibytes` is 0 or too much for the host.
    pub fn new(mebibytes: usize) -> Self {
        let layout =
            Layout::from_size_align(mebibytes << 20, 2 << 20).expect("size of the test memory");
        assert_ne!(layout.size(), 0);
        // SAFETY: the size is not 0.
        let start = unsafe { alloc_zeroed(layout) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        Self { start, layout }
    }

    /// The direct map of this memory.
    pub fn phys(&self) -> PhysMap {
        // SAFETY: mapped, aligned, and used by the test alone.
        unsafe { PhysMap::new(self.start as usize, self.layout.size() as u64) }
    }
}

impl Drop for TestMemory {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout.
        unsafe { dealloc(self.start, self.layout) };
    }
}
