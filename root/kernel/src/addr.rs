//! Addresses: physical ones of the root partition, and claims of processes about their own memory.

use core::fmt;
use core::ops::Range;

/// Bytes of a page.
pub const PAGE_SIZE: u64 = 4096;
/// Bytes of a large page.
pub const LARGE_PAGE_SIZE: u64 = 2 << 20;
/// 4 KiB frames in a large page.
pub const LARGE_PAGE_FRAMES: u64 = LARGE_PAGE_SIZE / PAGE_SIZE;
/// First address a process may use: the first 64 KiB stay unmapped, to catch null pointers with small offsets.
pub const USER_START: u64 = 0x1_0000;
/// First address after a process's half, without its last page: no `syscall` instruction can end at a non-canonical
/// return address.
pub const USER_END: u64 = 0x7FFF_FFFF_F000;

/// Number of a 4 KiB frame of the root partition: its guest physical address shifted right by 12. The hypervisor maps
/// the root identically, so these are also the machine's frames, and what hypercalls call a pfn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Pfn(pub u64);

impl Pfn {
    /// The frame that contains a physical address.
    pub const fn containing(address: u64) -> Self {
        Self(address / PAGE_SIZE)
    }

    /// Physical address of the first byte. The frame number must come from a real frame (below 2^40).
    pub const fn address(self) -> u64 {
        self.0.wrapping_mul(PAGE_SIZE)
    }

    /// The frame `count` further on, wrapping only for numbers that are no frames.
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.wrapping_add(count))
    }
}

impl fmt::Debug for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pfn {:#x}", self.0)
    }
}

/// A range of a process's address space, checked to lie in the half that processes own.
///
/// Holding one proves that no byte of it is the kernel's. It does not prove that anything is mapped there: the copy
/// functions find out page by page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRange {
    start: u64,
    len: u64,
}

impl UserRange {
    /// Checks a process's claim. An empty range is fine anywhere in the lower half.
    pub fn new(start: u64, len: u64) -> Option<Self> {
        let end = start.checked_add(len)?;
        (start >= USER_START && end <= USER_END).then_some(Self { start, len })
    }

    /// A range of whole pages: start and length are multiples of 4096 and the length is not 0.
    pub fn pages(start: u64, len: u64) -> Option<Self> {
        let aligned = start.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE);
        (aligned && len != 0).then(|| Self::new(start, len))?
    }

    /// First address.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// First address after the range.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the other range lies within this one.
    pub fn contains(&self, other: &UserRange) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }

    /// Whether the two have a byte in common.
    pub fn overlaps(&self, other: &UserRange) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    /// The range cut at page boundaries: for each piece its address and its place in the range.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, Range<usize>)> + use<> {
        let (start, end) = (self.start, self.end());
        let mut at = start;
        core::iter::from_fn(move || {
            let from = at;
            if from >= end {
                return None;
            }
            at = (from / PAGE_SIZE)
                .saturating_add(1)
                .saturating_mul(PAGE_SIZE)
                .min(end);
            // Both differences are below the range's length, which the caller holds as a slice.
            Some((
                from,
                from.saturating_sub(start) as usize..at.saturating_sub(start) as usize,
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_range_reaches_into_the_kernel_or_wraps() {
        assert_eq!(UserRange::new(USER_END - 8, 9), None);
        assert_eq!(UserRange::new(u64::MAX - 3, 8), None);
        assert_eq!(UserRange::new(0xFFFF_8000_0000_0000, 1), None);
        assert_eq!(UserRange::new(0, 1), None);
        assert_eq!(UserRange::new(USER_START, u64::MAX), None);
        assert!(UserRange::new(USER_END - 8, 8).is_some());
    }

    #[test]
    fn page_ranges_are_aligned_and_not_empty() {
        assert!(UserRange::pages(0x40_0000, 0x1000).is_some());
        assert_eq!(UserRange::pages(0x40_0000, 0), None);
        assert_eq!(UserRange::pages(0x40_0001, 0x1000), None);
        assert_eq!(UserRange::pages(0x40_0000, 0x1001), None);
    }

    proptest! {
        #[test]
        fn a_range_that_is_accepted_lies_in_the_lower_half(start: u64, len: u64) {
            if let Some(range) = UserRange::new(start, len) {
                prop_assert!(start >= USER_START);
                prop_assert!(u128::from(start) + u128::from(len) <= u128::from(USER_END));
                prop_assert_eq!((range.start(), range.len()), (start, len));
            }
        }

        #[test]
        fn pieces_cover_the_range_once_and_cross_no_page(offset in 0u64..10_000, len in 0u64..30_000) {
            let range = UserRange::new(USER_START + offset, len).unwrap();
            let mut next = 0;
            for (address, place) in range.pieces() {
                prop_assert_eq!(place.start, next);
                prop_assert_eq!(address, range.start() + next as u64);
                let last = address + place.len() as u64 - 1;
                prop_assert_eq!(address / PAGE_SIZE, last / PAGE_SIZE);
                next = place.end;
            }
            prop_assert_eq!(next as u64, len);
        }
    }
}
