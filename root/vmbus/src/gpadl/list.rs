//! A complete GPADL.

use alloc::boxed::Box;
use core::ops::Range;

use tlfs::{HV_PAGE_SHIFT, HV_PAGE_SIZE};

use crate::gpa::GpaRun;

/// Contiguous pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageRun {
    pub(super) pfn: u64,
    pub(super) pages: u64,
}

/// A range of the guest's: its pages follow those of the range before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageRange {
    pub(super) byte_count: u32,
    pub(super) byte_offset: u32,
    pub(super) pages: u32,
}

/// A complete GPADL. All its pages were RAM when it was made, and no page is in it twice.
///
/// A page may be taken from the guest later; whoever accesses it has to expect that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpadl {
    pub(super) ranges: Box<[PageRange]>,
    pub(super) runs: Box<[PageRun]>,
}

/// The two rings of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings<'a> {
    /// Guest to host: the first pages (trap 11).
    pub incoming: GpadlView<'a>,
    /// Host to guest: the pages from the downstream offset on.
    pub outgoing: GpadlView<'a>,
}

/// Why a GPADL is not a pair of rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingLayoutError {
    /// Not one range of whole pages.
    #[error("the GPADL is not one range of whole pages")]
    NotWholePages,
    /// A ring would have less than a header page and a page of data.
    #[error("second ring at page {downstream} of {pages}")]
    Downstream {
        /// Where the second ring would start.
        downstream: u32,
        /// Pages of the GPADL.
        pages: u32,
    },
}

/// Bytes of a GPADL that are contiguous for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpadlView<'a> {
    runs: &'a [PageRun],
    /// From the first byte of the first run.
    start: u64,
    len: u64,
}

impl Gpadl {
    /// Ranges: one, from Linux.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// The bytes of a range.
    pub fn range(&self, index: usize) -> Option<GpadlView<'_>> {
        let range = self.ranges.get(index)?;
        let pages = self.ranges.get(..index)?.iter();
        let pages_before: u64 = pages.map(|range| u64::from(range.pages)).sum();
        Some(GpadlView {
            runs: &self.runs,
            start: (pages_before << HV_PAGE_SHIFT) + u64::from(range.byte_offset),
            len: u64::from(range.byte_count),
        })
    }

    /// The two rings, of which the second starts at page `downstream` (trap 10).
    ///
    /// # Errors
    /// If it is not one range of whole pages, or a ring would have no data.
    pub fn rings(&self, downstream: u32) -> Result<Rings<'_>, RingLayoutError> {
        let (Some(view), 1) = (self.range(0), self.ranges.len()) else {
            return Err(RingLayoutError::NotWholePages);
        };
        let page = HV_PAGE_SIZE as u64;
        if view.start != 0 || !view.len.is_multiple_of(page) {
            return Err(RingLayoutError::NotWholePages);
        }
        let middle = u64::from(downstream) << HV_PAGE_SHIFT;
        if middle < 2 * page || middle.saturating_add(2 * page) > view.len {
            let pages = (view.len / page) as u32;
            return Err(RingLayoutError::Downstream { downstream, pages });
        }
        Ok(Rings {
            incoming: view.part(0..middle),
            outgoing: view.part(middle..view.len),
        })
    }
}

impl<'a> GpadlView<'a> {
    /// Bytes.
    #[expect(clippy::len_without_is_empty, reason = "there is no empty range")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The contiguous runs of memory that it is made of, in order. Neighbours are merged.
    pub fn runs(&self) -> impl Iterator<Item = GpaRun> + use<'a> {
        let wanted = self.start..self.start + self.len;
        let mut offset = 0;
        self.runs.iter().filter_map(move |run| {
            let len = run.pages << HV_PAGE_SHIFT;
            let here = offset..offset + len;
            offset = here.end;
            let start = wanted.start.max(here.start);
            let end = wanted.end.min(here.end);
            (start < end).then(|| GpaRun {
                gpa: (run.pfn << HV_PAGE_SHIFT) + (start - here.start),
                len: end - start,
            })
        })
    }

    /// Some of the bytes; the range lies in the view.
    fn part(&self, bytes: Range<u64>) -> Self {
        Self {
            runs: self.runs,
            start: self.start + bytes.start,
            len: bytes.end - bytes.start,
        }
    }
}
