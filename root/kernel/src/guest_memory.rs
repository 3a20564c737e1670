//! The book of a guest's memory: which addresses of its process stand for which guest pages.
//!
//! A range is added for the rest of the process's life, so a guest page has one address and no other: whoever looks up the
//! address finds the frame that the guest has.

use alloc::vec::Vec;

use tlfs::{HV_LARGE_PAGE_PAGES, HvMapGpaFlags};

use crate::addr::PAGE_SIZE;
use crate::hv::HvError;

/// Guest page numbers stay below this: 52 address bits.
const GPFN_LIMIT: u64 = 1 << 40;
/// Most ranges of a guest. A board has two pieces of RAM, around the devices below 4 GiB.
const MOST_RANGES: usize = 16;

/// Guest pages and the addresses that stand for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestRange {
    /// First guest page, a multiple of 512.
    pub gpfn: u64,
    /// Pages.
    pub pages: u64,
    /// Address of the first one in the process, a multiple of 2 MiB.
    pub address: u64,
    /// What the guest may do.
    pub flags: HvMapGpaFlags,
}

/// Pages of a range within 2 MiB of it: what a large page can map, or small ones of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First guest page.
    pub gpfn: u64,
    /// Its address in the process.
    pub address: u64,
    /// Pages, at most 512.
    pub pages: u64,
}

impl Piece {
    /// Whether a large page can map it: then it is one, since a piece does not cross the border of one.
    pub fn is_large(&self) -> bool {
        self.pages == HV_LARGE_PAGE_PAGES
    }

    /// The address of a guest page of the piece.
    pub fn address_of(&self, gpfn: u64) -> u64 {
        let page = gpfn.wrapping_sub(self.gpfn);
        self.address.wrapping_add(page.wrapping_mul(PAGE_SIZE))
    }
}

impl GuestRange {
    /// A range whose address is not known yet. `None` unless there is a page, the first is a multiple of 512, and all have
    /// numbers that there can be.
    pub fn new(gpfn: u64, pages: u64, flags: HvMapGpaFlags) -> Option<Self> {
        let fits = gpfn.checked_add(pages).is_some_and(|end| end <= GPFN_LIMIT);
        let aligned = gpfn.is_multiple_of(HV_LARGE_PAGE_PAGES);
        (pages > 0 && fits && aligned).then_some(Self {
            gpfn,
            pages,
            address: 0,
            flags,
        })
    }

    /// Bytes. The page numbers were checked, so this does not overflow.
    pub fn len(&self) -> u64 {
        self.pages.saturating_mul(PAGE_SIZE)
    }

    /// Whether there is nothing in it: never, if it was made by [`new`](Self::new).
    pub fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// The first pages of `pages` from `gpfn` on, up to the next multiple of 512. All of them lie in the range.
    pub fn piece(&self, gpfn: u64, pages: u64) -> Piece {
        let address = self.whole().address_of(gpfn);
        let border = HV_LARGE_PAGE_PAGES.saturating_sub(gpfn % HV_LARGE_PAGE_PAGES);
        let pages = pages.min(border);
        Piece {
            gpfn,
            address,
            pages,
        }
    }

    /// The address of a guest page in it.
    pub fn address_of(&self, gpfn: u64) -> u64 {
        self.whole().address_of(gpfn)
    }

    fn whole(&self) -> Piece {
        Piece {
            gpfn: self.gpfn,
            address: self.address,
            pages: self.pages,
        }
    }

    fn contains(&self, gpfn: u64, pages: u64) -> bool {
        let end = self.gpfn.saturating_add(self.pages);
        self.gpfn <= gpfn && gpfn.checked_add(pages).is_some_and(|last| last <= end)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.gpfn < other.gpfn.saturating_add(other.pages)
            && other.gpfn < self.gpfn.saturating_add(self.pages)
    }
}

/// The ranges of one guest. They never overlap, and never go.
#[derive(Clone, Debug, Default)]
pub struct GuestMemory {
    ranges: Vec<GuestRange>,
}

impl GuestMemory {
    /// Whether a range may be added.
    ///
    /// # Errors
    /// [`HvError::State`] if it overlaps one that is there, [`HvError::Argument`] if there are too many.
    pub fn admit(&self, range: &GuestRange) -> Result<(), HvError> {
        if self.ranges.len() >= MOST_RANGES {
            return Err(HvError::Argument);
        }
        let taken = self.ranges.iter().any(|other| other.overlaps(range));
        if taken { Err(HvError::State) } else { Ok(()) }
    }

    /// Records a range that was [admitted](Self::admit), with addresses that nothing else has.
    pub fn add(&mut self, range: GuestRange) {
        self.ranges.push(range);
    }

    /// The range that has all of these guest pages.
    pub fn find(&self, gpfn: u64, pages: u64) -> Option<GuestRange> {
        let has = |range: &&GuestRange| range.contains(gpfn, pages);
        self.ranges.iter().find(has).copied()
    }

    /// Whether an address of the process stands for a guest page: what is there may go.
    pub fn has_address(&self, address: u64) -> bool {
        let has = |range: &GuestRange| {
            address
                .checked_sub(range.address)
                .is_some_and(|at| at < range.len())
        };
        self.ranges.iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(gpfn: u64, pages: u64) -> Option<GuestRange> {
        GuestRange::new(gpfn, pages, HvMapGpaFlags::READABLE)
    }

    fn at(gpfn: u64, pages: u64, address: u64) -> GuestRange {
        GuestRange {
            address,
            ..range(gpfn, pages).unwrap()
        }
    }

    #[test]
    fn ranges_that_wrap_are_empty_or_begin_within_a_large_page_are_refused() {
        assert!(range(0, 1).is_some() && range(512, 7).is_some());
        assert!(range(0, 0).is_none());
        assert!(range(511, 1).is_none());
        assert!(range(0u64.wrapping_sub(512), 512).is_none());
        assert!(range(512, u64::MAX).is_none());
        assert!(range(GPFN_LIMIT - 512, 512).is_some());
        assert!(range(GPFN_LIMIT - 512, 513).is_none());
    }

    #[test]
    fn ranges_do_not_overlap_and_are_not_too_many() {
        let mut book = GuestMemory::default();
        book.add(at(512, 600, 0x4000_0000));
        for (gpfn, pages, answer) in [
            (0, 512, Ok(())),
            (0, 513, Err(HvError::State)),
            (1024, 1, Err(HvError::State)),
            (1536, 1, Ok(())),
        ] {
            let range = range(gpfn, pages).unwrap();
            assert_eq!(book.admit(&range), answer, "{gpfn} {pages}");
        }
        for index in 1..MOST_RANGES as u64 {
            let range = at(index * 2048, 1, index << 40);
            assert_eq!(book.admit(&range), Ok(()));
            book.add(range);
        }
        assert_eq!(
            book.admit(&range(1 << 30, 1).unwrap()),
            Err(HvError::Argument)
        );
    }

    #[test]
    fn pages_are_found_only_if_one_range_has_them_all() {
        let mut book = GuestMemory::default();
        book.add(at(0, 512, 0x4000_0000));
        book.add(at(512, 512, 0x8000_0000));
        assert_eq!(book.find(511, 1).unwrap().address_of(511), 0x401F_F000);
        assert_eq!(book.find(512, 512).unwrap().address, 0x8000_0000);
        assert_eq!(book.find(511, 2), None);
        assert_eq!(book.find(1023, 2), None);
        assert_eq!(book.find(1, u64::MAX), None);
    }

    #[test]
    fn addresses_of_guest_pages_are_known_to_the_byte() {
        let mut book = GuestMemory::default();
        book.add(at(0, 3, 0x4000_0000));
        assert!(book.has_address(0x4000_0000) && book.has_address(0x4000_2FFF));
        assert!(!book.has_address(0x3FFF_FFFF) && !book.has_address(0x4000_3000));
    }

    proptest! {
        #[test]
        fn pieces_cover_what_is_asked_for_and_cross_no_large_page(
            gpfn in 0u64..4, first in 0u64..3000, pages in 1u64..3000
        ) {
            let range = at(gpfn * 512, 6000, 0x4000_0000);
            let (mut next, end) = (range.gpfn + first, range.gpfn + first + pages);
            while next < end {
                let piece = range.piece(next, end - next);
                prop_assert!(piece.pages > 0);
                prop_assert_eq!(piece.gpfn, next);
                prop_assert_eq!(piece.address, 0x4000_0000 + (next - range.gpfn) * 4096);
                prop_assert_eq!(next / 512, (next + piece.pages - 1) / 512);
                prop_assert_eq!(piece.is_large(), next % 512 == 0 && end - next >= 512);
                prop_assert_eq!(piece.address_of(next + piece.pages - 1), piece.address + (piece.pages - 1) * 4096);
                next += piece.pages;
            }
            prop_assert_eq!(next, end);
        }
    }
}
