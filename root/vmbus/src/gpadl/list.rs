//! A complete GPADL.

use alloc::boxed::Box;

use tlfs::{HV_PAGE_SHIFT, HV_PAGE_SIZE};

use crate::bulk::{GuestBuffer, Span};

/// A range of the guest's: its pages follow those of the range before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageRange {
    pub(super) byte_count: u32,
    pub(super) byte_offset: u32,
    pub(super) pages: u32,
}

/// A complete GPADL. All its pages were RAM when it was made, and no page is in it twice.
///
/// A page may be taken from the guest later; whoever accesses it has to expect that ([`crate::bulk::Transfer`] does).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpadl {
    pub(super) ranges: Box<[PageRange]>,
    pub(super) spans: Box<[Span]>,
}

/// The two rings of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings<'a> {
    /// Guest to host: the first pages (trap 11).
    pub incoming: GuestBuffer<'a>,
    /// Host to guest: the pages from the downstream offset on.
    pub outgoing: GuestBuffer<'a>,
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

impl Gpadl {
    /// Ranges: one, from Linux.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// The bytes of a range.
    pub fn range(&self, index: usize) -> Option<GuestBuffer<'_>> {
        let range = self.ranges.get(index)?;
        let pages = self.ranges.get(..index)?.iter();
        let pages_before: u64 = pages.map(|range| u64::from(range.pages)).sum();
        let start = (pages_before << HV_PAGE_SHIFT) + u64::from(range.byte_offset);
        let all = GuestBuffer::of(&self.spans);
        all.part(start, range.byte_count.into()).ok()
    }

    /// The two rings, of which the second starts at page `downstream` (trap 10).
    ///
    /// # Errors
    /// If it is not one range of whole pages, or a ring would have no data.
    pub fn rings(&self, downstream: u32) -> Result<Rings<'_>, RingLayoutError> {
        let (Some(all), [range]) = (self.range(0), &*self.ranges) else {
            return Err(RingLayoutError::NotWholePages);
        };
        let page = HV_PAGE_SIZE as u64;
        if range.byte_offset != 0 || !all.len().is_multiple_of(page) {
            return Err(RingLayoutError::NotWholePages);
        }
        let pages = (all.len() / page) as u32;
        let wrong = RingLayoutError::Downstream { downstream, pages };
        let middle = u64::from(downstream) << HV_PAGE_SHIFT;
        let second = all.len().saturating_sub(middle);
        if middle < 2 * page || second < 2 * page {
            return Err(wrong);
        }
        Ok(Rings {
            incoming: all.part(0, middle).map_err(|_| wrong)?,
            outgoing: all.part(middle, second).map_err(|_| wrong)?,
        })
    }
}
