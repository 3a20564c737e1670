//! The loader's region: what it leaves behind for the root kernel's first steps (module 2).

use core::ops::Range;

use root_loader::PAGE;

/// Bytes for the start info: 64 modules, 512 memory map entries, texts.
const START_INFO: u64 = 8 * PAGE;
/// Bytes for the descriptor table.
const DESCRIPTORS: u64 = PAGE;
/// Bytes of the stack on which the root kernel starts.
const STACK: u64 = 16 * PAGE;

/// The parts of the region, one after the other; the page tables come last, as only the used part of them is kept.
#[derive(Clone, Debug)]
pub struct Region(Range<u64>);

impl Region {
    /// Bytes needed with `tables` page tables.
    pub fn bytes(tables: u64) -> u64 {
        START_INFO + DESCRIPTORS + STACK + tables * PAGE
    }

    /// Divides up a range of at least [`bytes`](Self::bytes).
    pub fn new(range: Range<u64>) -> Self {
        Self(range)
    }

    /// Where the start info goes.
    pub fn start_info(&self) -> Range<u64> {
        self.0.start..self.0.start + START_INFO
    }

    /// Where the descriptor table goes.
    pub fn descriptors(&self) -> Range<u64> {
        let start = self.start_info().end;
        start..start + DESCRIPTORS
    }

    /// Where the stack goes; it grows down from the end.
    pub fn stack(&self) -> Range<u64> {
        let start = self.descriptors().end;
        start..start + STACK
    }

    /// Where the page tables go.
    pub fn tables(&self) -> Range<u64> {
        self.stack().end..self.0.end
    }

    /// What is in use when the first unused frame of the tables is `unused`.
    pub fn used(&self, unused: u64) -> Range<u64> {
        self.0.start..unused
    }
}
