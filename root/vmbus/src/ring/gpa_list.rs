//! Guest memory that a packet names.

use alloc::vec::Vec;

use tlfs::{HV_PAGE_SHIFT, HV_PAGE_SIZE};

use super::RingError;
use crate::bulk::{GuestBuffer, Span, append};
use crate::gpa::PFN_LIMIT;

/// Most ranges of a packet. Linux's netvsc sends up to 32, storvsc one.
pub const MAX_GPA_RANGES: u32 = 64;
/// Most pages of a packet, 4 MiB: devices here offer smaller transfers.
pub const MAX_GPA_PAGES: usize = 1024;

/// The memory that a packet names, as contiguous runs in order; the boundaries of its ranges are gone. Made once and used
/// again for each packet, so that the data path does not allocate.
///
/// The addresses are the guest's claim: not RAM, perhaps, or a page twice. A [`crate::bulk::Transfer`] checks them at each
/// access.
#[derive(Clone, Debug)]
pub struct GpaList {
    spans: Vec<Span>,
    pages: usize,
}

impl Default for GpaList {
    fn default() -> Self {
        Self::new()
    }
}

impl GpaList {
    /// An empty list with room for the largest packet.
    pub fn new() -> Self {
        Self {
            spans: Vec::with_capacity(MAX_GPA_PAGES),
            pages: 0,
        }
    }

    /// The bytes.
    #[inline]
    pub fn buffer(&self) -> GuestBuffer<'_> {
        GuestBuffer::of(&self.spans)
    }

    /// Forgets all.
    #[inline]
    pub fn clear(&mut self) {
        self.spans.clear();
        self.pages = 0;
    }

    /// Counts pages in before they are read.
    pub(super) fn reserve_pages(&mut self, pages: u64) -> Result<usize, RingError> {
        let free = MAX_GPA_PAGES.saturating_sub(self.pages);
        let pages = usize::try_from(pages)
            .ok()
            .filter(|pages| *pages <= free)
            .ok_or(RingError::TooManyPages)?;
        self.pages = self.pages.saturating_add(pages);
        Ok(pages)
    }

    /// Adds what lies in a page from `offset` on, at most `most` bytes, and says how many those are. Not more often than
    /// pages were reserved, so the vector never grows.
    #[inline]
    pub(super) fn push_page(&mut self, pfn: u64, offset: u32, most: u32) -> Result<u32, RingError> {
        if pfn >= PFN_LIMIT {
            return Err(RingError::PageNumber(pfn));
        }
        let len = most.min((HV_PAGE_SIZE as u32).saturating_sub(offset));
        if len == 0 {
            return Ok(0);
        }
        let gpa = (pfn << HV_PAGE_SHIFT) + u64::from(offset);
        append(&mut self.spans, gpa, len.into());
        Ok(len)
    }
}
