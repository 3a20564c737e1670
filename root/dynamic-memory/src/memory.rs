//! What the state machine does to memory.

use crate::book::GuestPages;
use crate::run::PageRun;

/// What keeps a page from being taken (sheet 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// Nothing.
    None,
    /// Something that ends: a GPADL, a mapping of an I/O buffer, DMA. The page is taken when
    /// [`DynamicMemory::unpinned`](crate::DynamicMemory::unpinned) says so.
    Passing,
    /// An overlay, a ring, a monitor page. The page stays the guest's.
    Lasting,
}

/// The memory manager of one VM.
///
/// The state machine calls it so that the invariants N1 to N7 of the sheet (2.2) hold: [`take`](Self::take) only for
/// pages that the guest has returned, that are backed and not pinned; [`back`](Self::back) before the guest is told of
/// a page. `run` is never empty. Who implements it keeps the machine's books.
pub trait Memory {
    /// The book of the VM's pages.
    fn book(&mut self) -> &mut GuestPages;

    /// What keeps the first page of `run` from being taken, and for how many pages from there on the answer is the
    /// same (at least 1, at most all of `run`).
    fn pin(&mut self, run: PageRun) -> (Pin, u64);

    /// Takes machine memory away: unmaps, flushes every processor and IOMMU, waits for that, zeroes, frees (N3, N4).
    /// How many pages from the start on have been taken: fewer than all only if something failed, and what follows is
    /// as it was.
    fn take(&mut self, run: PageRun) -> u64;

    /// Puts zeroed machine memory behind pages that have none, and maps it. How many pages from the start on have it
    /// now: fewer than all if free memory is used up.
    fn back(&mut self, run: PageRun) -> u64;

    /// Whether the guest runs in long mode (EFER.LMA of its first processor). Asked once, at its first report.
    fn long_mode(&mut self) -> bool;
}
