//! Runs of guest physical memory.

use tlfs::HV_PAGE_SHIFT;

/// Page numbers at and above this do not exist: guest physical addresses have at most 52 bits.
pub(crate) const PFN_LIMIT: u64 = 1 << (52 - HV_PAGE_SHIFT);

/// A contiguous range of guest physical memory, never empty. That it is RAM is for whoever accesses it to check, unless its
/// source says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpaRun {
    /// First address.
    pub gpa: u64,
    /// Bytes.
    pub len: u64,
}
