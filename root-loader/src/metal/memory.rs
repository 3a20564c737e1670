//! Guest physical memory through the direct map.

use core::ops::Range;

use boot_archive::start_info::PhysicalMemory;
use root_loader::paging::TableMemory;
use root_loader::{DIRECT_MAP, FOUR_GIB};

/// The proof that a direct map is in force: the stub's (first 4 GiB) or the loader's own (that and all RAM).
///
/// Ranges handed out by this type are checked against nothing: which memory is whose is the caller's knowledge.
#[derive(Clone, Copy)]
pub struct DirectMap(());

impl DirectMap {
    /// # Safety
    /// The first 4 GiB are mapped at [`DIRECT_MAP`] and stay so.
    pub unsafe fn new() -> Self {
        Self(())
    }

    /// The bytes of a range, read-only.
    ///
    /// # Safety
    /// The range is mapped in the direct map, is RAM, and nobody writes to it while the slice is in use.
    pub unsafe fn slice<'m>(self, range: &Range<u64>) -> &'m [u8] {
        let length = (range.end - range.start) as usize;
        // SAFETY: 1. mapped and RAM, says the caller; 2. bytes have no alignment and any value; 3. not written, says the caller.
        unsafe { core::slice::from_raw_parts((DIRECT_MAP + range.start) as *const u8, length) }
    }

    /// The bytes of a range, to be written.
    ///
    /// # Safety
    /// The range is mapped in the direct map, is RAM, and nobody else uses it while the slice is in use.
    pub unsafe fn slice_mut<'m>(self, range: &Range<u64>) -> &'m mut [u8] {
        let length = (range.end - range.start) as usize;
        // SAFETY: 1. mapped and RAM, says the caller; 2. bytes have no alignment and any value; 3. unshared, says the caller.
        unsafe { core::slice::from_raw_parts_mut((DIRECT_MAP + range.start) as *mut u8, length) }
    }
}

impl PhysicalMemory for DirectMap {
    fn bytes(&self, gpa: u64, len: usize) -> Option<&[u8]> {
        let end = gpa.checked_add(len as u64).filter(|end| *end <= FOUR_GIB)?;
        // SAFETY: 1. both direct maps hold the first 4 GiB; 2. the hypervisor's start structures are in RAM, and nothing
        // else is asked for by this way; 3. the loader writes only to memory it has allocated outside of them.
        Some(unsafe { self.slice(&(gpa..end)) })
    }
}

/// Page tables in memory of the loader's own.
pub struct TableFrames(DirectMap);

impl TableFrames {
    /// # Safety
    /// Every table used through this lies in frames below 4 GiB that belong to the loader's page tables alone.
    pub unsafe fn new(direct: DirectMap) -> Self {
        Self(direct)
    }

    fn entry(&self, table: u64, index: usize) -> *mut u64 {
        let _proof = self.0;
        (DIRECT_MAP + table + 8 * (index as u64 % 512)) as *mut u64
    }
}

impl TableMemory for TableFrames {
    fn load(&self, table: u64, index: usize) -> u64 {
        // SAFETY: the table is mapped, aligned and ours (`new`). Volatile: the processor sets accessed bits.
        unsafe { self.entry(table, index).read_volatile() }
    }

    fn store(&mut self, table: u64, index: usize, entry: u64) {
        // SAFETY: as for `load`.
        unsafe { self.entry(table, index).write_volatile(entry) }
    }
}
