//! From the bytes of a range buffer to a checked list.

use alloc::vec::Vec;

use super::{Gpadl, PageRange};
use crate::bulk::{Span, append};
use crate::gpa::PFN_LIMIT;
use crate::protocol::PageRangeHeader;
use tlfs::{HV_PAGE_SHIFT, HV_PAGE_SIZE};
use zerocopy::FromBytes;

/// Bytes of what a range buffer is made of: a range's header, or a page number.
pub const GPADL_UNIT: usize = 8;

/// What the guest's memory is made of.
pub trait GuestMemoryMap {
    /// Whether the page is RAM of the guest: not a hole, not a device.
    fn is_ram(&self, pfn: u64) -> bool;
}

impl<F: Fn(u64) -> bool> GuestMemoryMap for F {
    fn is_ram(&self, pfn: u64) -> bool {
        self(pfn)
    }
}

/// Why a GPADL was refused. The guest is told so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpadlError {
    /// The handle names another one, complete or not.
    #[error("the handle is in use")]
    HandleInUse,
    /// 0 is no handle.
    #[error("handle 0")]
    NoHandle,
    /// The guest or the channel has too many, or too many pages in them.
    #[error("a limit is reached")]
    Limit,
    /// A range buffer is a multiple of 8 bytes, and each range has a header and at least a page.
    #[error("{ranges} ranges in a buffer of {len} bytes")]
    BufferLength {
        /// Bytes stated.
        len: u16,
        /// Ranges stated.
        ranges: u16,
    },
    /// The messages have more bytes than stated.
    #[error("more bytes than stated")]
    Surplus,
    /// The ranges do not fill the buffer exactly.
    #[error("ranges and buffer do not agree")]
    RangesMismatch,
    /// A range without bytes.
    #[error("range without bytes")]
    EmptyRange,
    /// A range that starts behind its first page.
    #[error("range starts at byte {0} of its first page")]
    RangeOffset(u32),
    /// A page that is not RAM.
    #[error("page {0:#x} is not RAM")]
    NotRam(u64),
    /// A page that is there twice. No guest needs it, Linux never does it; and in a ring a data page that is also the header
    /// page would let our own writes move the guest's index, so that a fault would name the wrong party.
    #[error("page {0:#x} is there twice")]
    Duplicate(u64),
}

/// Decodes a whole range buffer.
pub(super) fn decode(
    buffer: &[u8],
    range_count: u16,
    memory: &impl GuestMemoryMap,
) -> Result<Gpadl, GpadlError> {
    let (ranges, mut pfns) = split(buffer, range_count)?;
    for pfn in &pfns {
        if *pfn >= PFN_LIMIT || !memory.is_ram(*pfn) {
            return Err(GpadlError::NotRam(*pfn));
        }
    }
    let spans = merge(&pfns);
    pfns.sort_unstable();
    for pair in pfns.windows(2) {
        if let [first, second] = pair
            && first == second
        {
            return Err(GpadlError::Duplicate(*first));
        }
    }
    Ok(Gpadl {
        ranges: ranges.into_boxed_slice(),
        spans: spans.into_boxed_slice(),
    })
}

/// Takes headers and page numbers apart.
fn split(buffer: &[u8], range_count: u16) -> Result<(Vec<PageRange>, Vec<u64>), GpadlError> {
    let mut ranges = Vec::with_capacity(usize::from(range_count));
    let mut pfns = Vec::with_capacity(buffer.len() / GPADL_UNIT);
    let mut rest = buffer;
    for _ in 0..range_count {
        let (header, behind) =
            PageRangeHeader::read_from_prefix(rest).map_err(|_| GpadlError::RangesMismatch)?;
        if !header.starts_in_first_page() {
            return Err(GpadlError::RangeOffset(header.byte_offset));
        }
        if header.byte_count == 0 {
            return Err(GpadlError::EmptyRange);
        }
        let (numbers, behind) = usize::try_from(header.pages())
            .ok()
            .and_then(|pages| pages.checked_mul(GPADL_UNIT))
            .and_then(|len| behind.split_at_checked(len))
            .ok_or(GpadlError::RangesMismatch)?;
        let (numbers, _) = numbers.as_chunks::<GPADL_UNIT>();
        pfns.extend(numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)));
        ranges.push(PageRange {
            byte_count: header.byte_count,
            byte_offset: header.byte_offset,
            // As many as there are numbers.
            pages: numbers.len() as u32,
        });
        rest = behind;
    }
    if !rest.is_empty() {
        return Err(GpadlError::RangesMismatch);
    }
    Ok((ranges, pfns))
}

/// Contiguous runs of the pages, in a vector of exactly their number.
fn merge(pfns: &[u64]) -> Vec<Span> {
    let follows =
        |pair: &[u64]| matches!(pair, [first, second] if first.checked_add(1) == Some(*second));
    let breaks = pfns.windows(2).filter(|pair| !follows(pair)).count();
    let mut spans = Vec::with_capacity(breaks.saturating_add(1));
    for pfn in pfns {
        append(&mut spans, *pfn << HV_PAGE_SHIFT, HV_PAGE_SIZE as u64);
    }
    spans
}
