//! Page tables in RAM, made of the frame allocator's frames.

use crate::addr::Pfn;
use crate::frames::{Frames, Owner};
use crate::paging::TableMemory;

/// RAM, as page tables need it.
pub trait Ram {
    /// An entry of a table. `index` is below [`ENTRIES`](crate::paging::ENTRIES).
    fn read(&self, table: Pfn, index: usize) -> u64;
    /// Writes an entry of a table. `index` is below [`ENTRIES`](crate::paging::ENTRIES).
    fn write(&mut self, table: Pfn, index: usize, entry: u64);
    /// Fills frames with zeros. They are the caller's: just allocated, and in nobody else's use.
    fn zero(&mut self, first: Pfn, count: u64);
}

impl<R: Ram> Ram for &mut R {
    fn read(&self, table: Pfn, index: usize) -> u64 {
        (**self).read(table, index)
    }

    fn write(&mut self, table: Pfn, index: usize, entry: u64) {
        (**self).write(table, index, entry);
    }

    fn zero(&mut self, first: Pfn, count: u64) {
        (**self).zero(first, count);
    }
}

/// Tables whose frames come from the allocator.
pub struct FrameTables<'f, 't, R> {
    /// Where they are.
    pub ram: R,
    /// Where new ones come from.
    pub frames: &'f mut Frames<'t>,
    /// Whose they are.
    pub owner: Owner,
}

impl<R: Ram> TableMemory for FrameTables<'_, '_, R> {
    fn read(&self, table: Pfn, index: usize) -> u64 {
        self.ram.read(table, index)
    }

    fn write(&mut self, table: Pfn, index: usize, entry: u64) {
        self.ram.write(table, index, entry);
    }

    fn allocate(&mut self) -> Option<Pfn> {
        let frame = self.frames.allocate(0, self.owner)?;
        self.ram.zero(frame, 1);
        Some(frame)
    }

    fn free(&mut self, table: Pfn) {
        if let Err(error) = self.frames.release(table, 0, self.owner) {
            panic!("page table: {error}");
        }
    }

    fn free_leaf(&mut self, first: Pfn, order: u8) {
        if let Err(error) = self.frames.release_process(first, order, self.owner.slot) {
            panic!("process memory: {error}");
        }
    }
}
