//! Guest memory that a packet names.

use alloc::vec::Vec;

use tlfs::{HV_PAGE_SHIFT, HV_PAGE_SIZE};

use super::RingError;
use crate::gpa::{GpaRun, PFN_LIMIT};

/// Most ranges of a packet. Linux's netvsc sends up to 32, storvsc one.
pub const MAX_GPA_RANGES: u32 = 64;
/// Most pages of a packet, 4 MiB: devices here offer smaller transfers.
pub const MAX_GPA_PAGES: usize = 1024;

/// The memory that a packet names, as contiguous runs in order; the boundaries of its ranges are gone. Made once and used
/// again for each packet, so that the data path does not allocate.
///
/// The addresses are the guest's claim. Whoever accesses them checks that they are RAM.
#[derive(Clone, Debug)]
pub struct GpaList {
    runs: Vec<GpaRun>,
    len: u64,
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
            runs: Vec::with_capacity(MAX_GPA_PAGES),
            len: 0,
            pages: 0,
        }
    }

    /// The runs.
    #[inline]
    pub fn runs(&self) -> &[GpaRun] {
        &self.runs
    }

    /// Bytes of all runs.
    #[inline]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// No bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all.
    #[inline]
    pub fn clear(&mut self) {
        self.runs.clear();
        self.len = 0;
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
        match self.runs.last_mut() {
            Some(last) if last.end() == gpa => last.len += u64::from(len),
            _ => self.runs.push(GpaRun {
                gpa,
                len: u64::from(len),
            }),
        }
        self.len += u64::from(len);
        Ok(len)
    }
}
