//! Access to guest memory, always bounds-checked.

use alloc::collections::TryReserveError;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use crate::layout::{PAGE, RamLayout};

/// A range of guest physical addresses that is not, or not wholly, RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes at {gpa:#x} are not guest RAM")]
pub struct OutOfRam {
    /// First address of the range.
    pub gpa: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// The guest's RAM by guest physical address.
///
/// An access lies wholly in RAM or fails as a whole: a partial access never happens. Guest code runs on other VPs at
/// the same time, so two reads of the same bytes may differ: read once, check what was read.
pub trait GuestRam {
    /// Where the RAM is that the guest starts with, whether all of it is there now or not.
    fn layout(&self) -> RamLayout;

    /// Whether all of that is RAM of the guest now.
    fn is_ram(&self, gpa: u64, len: u64) -> bool;

    /// Copies guest memory at `gpa` into `buf`.
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), OutOfRam>;

    /// Copies `data` into guest memory at `gpa`.
    fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), OutOfRam>;
}

/// Words of bits for [`CHUNK_PAGES`] pages, or none. In pieces of one size, which never move, more memory cannot be lacking for
/// being in the wrong places.
type Chunk = Vec<u64>;

/// Words of a chunk: 16 KiB.
const CHUNK_WORDS: usize = 2048;
/// Pages of a chunk: 512 MiB.
const CHUNK_PAGES: u64 = CHUNK_WORDS as u64 * BITS;

/// Makes a chunk have its words.
fn fill(chunk: &mut Chunk) -> Result<(), TryReserveError> {
    chunk.try_reserve_exact(CHUNK_WORDS.saturating_sub(chunk.len()))?;
    chunk.resize(CHUNK_WORDS, 0);
    Ok(())
}

/// The guest's memory map: which addresses are RAM, now. Pages leave it when they are taken from the guest, and may come back.
///
/// Its linear backing may have room for more than the guest starts with: those pages are away until they are given to it.
#[derive(Clone, Debug)]
pub struct RamMap {
    /// What the guest starts with.
    layout: RamLayout,
    /// What it can ever have.
    reach: RamLayout,
    /// Pages of the linear backing from here on are away: no page of them has ever been there.
    top: u64,
    /// A bit for each page below that which is away. Short while the last ones are not, and empty where none ever was.
    away: Vec<Chunk>,
    /// Pages below `top` that are away.
    count: u64,
}

impl RamMap {
    /// The map in which all RAM of a layout is there.
    pub const fn new(layout: RamLayout) -> Self {
        Self::with_reach(layout, layout)
    }

    /// The map of a guest that starts with `layout`, and may be given pages of `reach` beyond that. It takes memory only for
    /// what the guest gets.
    pub const fn with_reach(layout: RamLayout, reach: RamLayout) -> Self {
        Self {
            layout,
            reach,
            top: layout.size().div_ceil(PAGE),
            away: Vec::new(),
            count: 0,
        }
    }

    /// The layout of what the guest starts with.
    pub fn layout(&self) -> RamLayout {
        self.layout
    }

    /// Where `len` bytes at `gpa` are within a linear backing; `None` unless all of them are RAM that is there.
    #[inline]
    pub fn offset(&self, gpa: u64, len: u64) -> Option<u64> {
        let offset = self.reach.offset(gpa, len)?;
        let end = (offset + len).div_ceil(PAGE);
        let is_there = end <= self.top && (self.count == 0 || self.is_there(offset / PAGE..end));
        is_there.then_some(offset)
    }

    /// Most bytes that the map of a guest takes that may be given pages of `reach`: 32 KiB for each GiB.
    pub const fn most_bytes(reach: RamLayout) -> u64 {
        // A place in a list that doubles when it is full is counted three times.
        const BYTES: u64 = (CHUNK_WORDS * size_of::<u64>() + 3 * size_of::<Chunk>()) as u64;
        reach
            .size()
            .div_ceil(CHUNK_PAGES * PAGE)
            .saturating_mul(BYTES)
    }

    /// Takes the memory that the map needs for telling of each page below the end of these, and of these themselves, whether it
    /// is there. Without that [`set_present`](Self::set_present) takes it when it is needed, and must get it.
    ///
    /// # Errors
    /// There is none. What was taken is kept.
    pub fn make_room(&mut self, pages: Range<u64>) -> Result<(), TryReserveError> {
        let [low, high] = self.parts(&pages);
        let end = low.end.max(high.end);
        let chunks = usize::try_from(end.div_ceil(CHUNK_PAGES)).unwrap_or(usize::MAX);
        if chunks > self.away.len() {
            self.away.try_reserve(chunks - self.away.len())?;
            self.away.resize_with(chunks, Chunk::new);
        }
        self.away.iter_mut().take(chunks).try_for_each(fill)
    }

    /// Pages of the guest leave the map, or come back. Those that are no RAM at all, or are so already, stay as they are.
    pub fn set_present(&mut self, pages: Range<u64>, present: bool) {
        for part in self.parts(&pages) {
            self.set_linear(part, present);
        }
    }

    /// The parts of these pages that the guest can ever have, as pages of the linear backing: one on each side of the devices.
    fn parts(&self, pages: &Range<u64>) -> [Range<u64>; 2] {
        self.reach.regions().map(|region| {
            let part = pages.start.max(region.start / PAGE)..pages.end.min(region.end / PAGE);
            let offset = self.reach.offset(part.start.saturating_mul(PAGE), 0);
            match offset.map(|offset| offset / PAGE) {
                Some(first) if !part.is_empty() => first..first + (part.end - part.start),
                _ => 0..0,
            }
        })
    }

    /// The same for pages of the linear backing.
    fn set_linear(&mut self, pages: Range<u64>, present: bool) {
        if present && pages.end > self.top {
            // What lies between stays away.
            let before = core::mem::replace(&mut self.top, pages.end);
            for page in before..pages.start.max(before) {
                self.set_page(page, false);
            }
        }
        for page in pages.start..pages.end.min(self.top) {
            self.set_page(page, present);
        }
    }

    /// `page` is below `top`.
    fn set_page(&mut self, page: u64, present: bool) {
        let (at, word) = place(page);
        let is_known = self.away.get(at).is_some_and(|chunk| !chunk.is_empty());
        if !is_known {
            if present {
                return;
            }
            if at >= self.away.len() {
                self.away.resize_with(at + 1, Chunk::new);
            }
        }
        let Some(chunk) = self.away.get_mut(at) else {
            return;
        };
        chunk.resize(CHUNK_WORDS, 0);
        let Some(word) = chunk.get_mut(word) else {
            return;
        };
        let bit = 1 << (page % BITS);
        if (*word & bit == 0) == present {
            return;
        }
        *word ^= bit;
        if present {
            self.count -= 1;
        } else {
            self.count += 1;
        }
    }

    /// Bytes that it takes now.
    #[cfg(test)]
    fn bytes(&self) -> u64 {
        let words: usize = self.away.iter().map(Vec::capacity).sum();
        (words * size_of::<u64>() + self.away.capacity() * size_of::<Chunk>()) as u64
    }

    #[cold]
    fn is_there(&self, mut pages: Range<u64>) -> bool {
        let is_away = |page: u64| {
            let (at, word) = place(page);
            let word = self.away.get(at).and_then(|chunk| chunk.get(word));
            word.is_some_and(|word| word & 1 << (page % BITS) != 0)
        };
        !pages.any(is_away)
    }
}

/// Bits of a word of the map.
const BITS: u64 = u64::BITS as u64;

/// The chunk of a page of the linear backing, and the word in it.
const fn place(page: u64) -> (usize, usize) {
    let word = (page / BITS) as usize;
    (word / CHUNK_WORDS, word % CHUNK_WORDS)
}

/// Guest RAM in a vector: for tests and fuzzing.
#[derive(Clone, Debug)]
pub struct VecRam {
    map: RamMap,
    bytes: Vec<u8>,
}

impl VecRam {
    /// Zeroed RAM of `size` bytes.
    pub fn new(size: usize) -> Self {
        Self {
            map: RamMap::new(RamLayout::new(size as u64)),
            bytes: vec![0; size],
        }
    }

    /// As [`Self::new`], for a guest that may be given more: pages of `reach` bytes beyond the first `size`.
    pub fn with_reach(size: usize, reach: usize) -> Self {
        let layouts = [size, reach].map(|size| RamLayout::new(size as u64));
        Self {
            map: RamMap::with_reach(layouts[0], layouts[1]),
            bytes: vec![0; reach],
        }
    }

    /// [`RamMap::make_room`].
    ///
    /// # Errors
    /// As there.
    pub fn make_room(&mut self, pages: Range<u64>) -> Result<(), TryReserveError> {
        self.map.make_room(pages)
    }

    /// [`RamMap::set_present`]. The bytes stay.
    pub fn set_present(&mut self, pages: Range<u64>, present: bool) {
        self.map.set_present(pages, present);
    }

    fn range(&self, gpa: u64, len: usize) -> Result<Range<usize>, OutOfRam> {
        let error = OutOfRam {
            gpa,
            len: len as u64,
        };
        let start = self.map.offset(gpa, len as u64).ok_or(error)? as usize;
        Ok(start..start + len)
    }
}

impl GuestRam for VecRam {
    fn layout(&self) -> RamLayout {
        self.map.layout()
    }

    fn is_ram(&self, gpa: u64, len: u64) -> bool {
        self.map.offset(gpa, len).is_some()
    }

    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), OutOfRam> {
        let range = self.range(gpa, buf.len())?;
        buf.copy_from_slice(&self.bytes[range]);
        Ok(())
    }

    fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), OutOfRam> {
        let range = self.range(gpa, data.len())?;
        self.bytes[range].copy_from_slice(data);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::FOUR_GIB;

    #[test]
    fn an_access_that_crosses_the_end_of_ram_changes_nothing() {
        let mut ram = VecRam::new(0x1000);
        assert!(ram.write(0xFFE, &[1, 2, 3]).is_err());
        let mut end = [9; 2];
        ram.read(0xFFE, &mut end).unwrap();
        assert_eq!(end, [0, 0]);
        assert!(ram.read(u64::MAX, &mut end).is_err());
    }

    #[test]
    fn pages_that_are_away_fail_every_access_that_touches_them() {
        let mut ram = VecRam::new(0x5000);
        ram.write(0x1FFE, &[1, 2, 3, 4]).unwrap();
        ram.set_present(1..2, false);
        ram.set_present(1..2, false);
        let mut bytes = [9; 4];
        assert!(ram.read(0x1FFE, &mut bytes).is_err());
        assert!(ram.write(0xFFE, &[7; 4]).is_err());
        assert_eq!(bytes, [9; 4]);
        assert!(ram.is_ram(0x2000, 0x3000) && ram.is_ram(0, 0x1000));
        assert!(!ram.is_ram(0, 0x5000) && !ram.is_ram(0x1FFF, 1));
        ram.set_present(0..u64::MAX, true);
        ram.read(0x1FFE, &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 3, 4]);
        ram.read(0xFFE, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 4]);
    }

    #[test]
    fn pages_beyond_the_start_are_away_until_they_are_given() {
        let (start, reach) = (RamLayout::new(0x3000), RamLayout::new(0x8000));
        let mut map = RamMap::with_reach(start, reach);
        assert_eq!(map.layout(), start);
        assert!(map.offset(0, 0x3000).is_some());
        assert_eq!(map.offset(0x2000, 0x2000), None);
        assert_eq!(map.offset(0x7000, 1), None);
        map.set_present(5..6, true);
        assert_eq!(map.offset(0x5000, 0x1000), Some(0x5000));
        assert_eq!(map.offset(0x3000, 0x1000), None);
        assert_eq!(map.offset(0x4000, 0x2000), None);
        map.set_present(4..7, false);
        map.set_present(3..5, true);
        assert_eq!(map.offset(0x2000, 0x3000), Some(0x2000));
        assert_eq!(map.offset(0x5000, 1), None);
        map.set_present(0..u64::MAX, true);
        assert!(map.offset(0, 0x8000).is_some());
        assert_eq!(map.offset(0x8000, 1), None);
        assert_eq!(map.count, 0);
    }

    #[test]
    fn a_map_that_reaches_far_is_small() {
        let (start, reach) = (RamLayout::new(0x10_0000), RamLayout::new(16 << 40));
        let mut map = RamMap::with_reach(start, reach);
        map.set_present(0..u64::MAX, false);
        map.set_present(FOUR_GIB / PAGE..FOUR_GIB / PAGE + 1, true);
        assert!(map.offset(FOUR_GIB, 0x1000).is_some());
        assert_eq!(map.offset(0, 1), None);
        let below = RamLayout::new(crate::layout::MMIO_START + PAGE);
        assert!(map.bytes() <= RamMap::most_bytes(below));
    }

    #[test]
    fn a_map_with_room_takes_no_more_for_whatever_pages_go() {
        let (start, reach) = (RamLayout::new(1 << 30), RamLayout::new(10 << 30));
        let mut map = RamMap::with_reach(start, reach);
        let most = RamMap::most_bytes(reach);
        assert!(most <= 11 * (32 << 10), "{most}");
        let pages = FOUR_GIB / PAGE..(FOUR_GIB + (5 << 30)) / PAGE;
        map.make_room(pages.clone()).unwrap();
        let before = map.bytes();
        map.set_present(pages.clone(), true);
        assert!(map.offset(FOUR_GIB, 5 << 30).is_some() && map.offset(1 << 30, 1).is_none());
        for page in pages.step_by(1000) {
            map.set_present(page..page + 1, false);
        }
        assert_eq!(map.bytes(), before);
        map.make_room(0..u64::MAX).unwrap();
        assert!(map.bytes() > before && map.bytes() <= most);
    }

    #[test]
    fn pages_above_4_gib_are_pages_of_their_own() {
        let high = FOUR_GIB / PAGE;
        let mut map = RamMap::new(RamLayout::new(crate::layout::MMIO_START + 0x4000));
        map.set_present(high + 1..high + 2, false);
        assert_eq!(map.offset(FOUR_GIB + 0x1000, 1), None);
        assert!(map.offset(FOUR_GIB, 0x1000).is_some());
        assert!(map.offset(FOUR_GIB + 0x2000, 0x2000).is_some());
        assert!(map.offset(0, crate::layout::MMIO_START).is_some());
        // What is no RAM is nothing to take away or to give.
        map.set_present(high - 1..high, false);
        map.set_present(high + 4..u64::MAX, true);
        assert_eq!(map.count, 1);
        map.set_present(0..u64::MAX, false);
        assert_eq!(map.count, (crate::layout::MMIO_START + 0x4000) / PAGE);
    }
}
