//! The machine's memory as the root will see it described: sorted, typed, page-aligned.

use bootloader_api::info::{MemoryRegion, MemoryRegionKind};

use crate::mem::addr::{PAGE_SIZE, Spa};

/// Ranges that fit. Firmware maps have some hundred entries, which merge to a few dozen.
pub const MAX_RANGES: usize = 128;

/// E820 types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MemoryKind {
    /// RAM for the root.
    Ram = 1,
    /// Not to be touched, or the hypervisor's.
    Reserved = 2,
    /// ACPI tables.
    Acpi = 3,
    /// ACPI non-volatile storage.
    Nvs = 4,
}

/// A range of machine memory, page-aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// First byte.
    pub start: Spa,
    /// Byte after the last one.
    pub end: Spa,
    /// What it is.
    pub kind: MemoryKind,
}

impl MemoryRange {
    /// Bytes.
    pub const fn len(&self) -> u64 {
        self.end.0 - self.start.0
    }

    /// Holds no byte.
    pub const fn is_empty(&self) -> bool {
        self.end.0 <= self.start.0
    }
}

/// More ranges than fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRanges;

/// All of the machine's memory: sorted ranges that do not overlap. What is not listed is not memory.
#[derive(Clone, Copy, Debug)]
pub struct MemoryMap {
    ranges: [MemoryRange; MAX_RANGES],
    len: usize,
}

impl MemoryMap {
    /// No memory.
    pub const fn new() -> Self {
        const NOTHING: MemoryRange = MemoryRange {
            start: Spa(0),
            end: Spa(0),
            kind: MemoryKind::Reserved,
        };
        Self {
            ranges: [NOTHING; MAX_RANGES],
            len: 0,
        }
    }

    /// What the UEFI loader found. Its own memory counts as RAM, since nothing of it is needed once the hypervisor has moved.
    ///
    /// # Errors
    /// [`TooManyRanges`], even after merging.
    pub fn from_loader(regions: &[MemoryRegion]) -> Result<Self, TooManyRanges> {
        let mut map = Self::new();
        for region in regions {
            let kind = kind(region.kind);
            // Half a page of RAM is none; half a page of anything else is all of it.
            let (start, end) = match kind {
                MemoryKind::Ram => (
                    region.start.saturating_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1),
                    region.end & !(PAGE_SIZE - 1),
                ),
                _ => (
                    region.start & !(PAGE_SIZE - 1),
                    region.end.saturating_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1),
                ),
            };
            map.set(Spa(start), Spa(end), kind)?;
        }
        Ok(map)
    }

    /// The ranges, by rising address.
    pub fn ranges(&self) -> &[MemoryRange] {
        self.ranges.get(..self.len).unwrap_or(&[])
    }

    /// Bytes of one kind.
    pub fn total(&self, kind: MemoryKind) -> u64 {
        let of_kind = self.ranges().iter().filter(|r| r.kind == kind);
        of_kind.fold(0, |sum, r| sum.saturating_add(r.len()))
    }

    /// End of the highest range that is RAM or holds ACPI tables.
    pub fn end_of_memory(&self) -> Spa {
        let memory = self
            .ranges()
            .iter()
            .filter(|r| r.kind != MemoryKind::Reserved);
        Spa(memory.map(|r| r.end.0).max().unwrap_or(0))
    }

    /// Makes a range be of a kind, whatever parts of it were before. What is not RAM stays so when RAM overlaps it.
    ///
    /// # Errors
    /// [`TooManyRanges`]; the map is unusable then.
    pub fn set(&mut self, start: Spa, end: Spa, kind: MemoryKind) -> Result<(), TooManyRanges> {
        if start >= end {
            return Ok(());
        }
        let new = MemoryRange { start, end, kind };
        let old = *self;
        self.len = 0;
        let wins = |r: &MemoryRange| kind == MemoryKind::Ram && r.kind != MemoryKind::Ram;
        let mut cursor = start;
        let mut finished = false;
        for range in old.ranges() {
            if range.start >= end && !finished {
                self.push(MemoryRange {
                    start: cursor,
                    ..new
                })?;
                finished = true;
            }
            if range.end <= start || range.start >= end {
                self.push(*range)?;
                continue;
            }
            if wins(range) {
                self.push(MemoryRange {
                    start: cursor,
                    end: range.start.max(cursor),
                    kind,
                })?;
                self.push(*range)?;
                cursor = range.end.max(cursor);
                continue;
            }
            self.push(MemoryRange {
                end: range.end.min(start),
                ..*range
            })?;
            if range.end > end {
                self.push(MemoryRange {
                    start: cursor,
                    ..new
                })?;
                self.push(MemoryRange {
                    start: end,
                    ..*range
                })?;
                finished = true;
            }
        }
        if !finished {
            self.push(MemoryRange {
                start: cursor,
                ..new
            })?;
        }
        Ok(())
    }

    /// Appends behind the last range, which it may extend. Empty ranges vanish.
    fn push(&mut self, range: MemoryRange) -> Result<(), TooManyRanges> {
        if range.is_empty() {
            return Ok(());
        }
        if let Some(last) = self.len.checked_sub(1).and_then(|i| self.ranges.get_mut(i))
            && last.end == range.start
            && last.kind == range.kind
        {
            last.end = range.end;
            return Ok(());
        }
        *self.ranges.get_mut(self.len).ok_or(TooManyRanges)? = range;
        self.len += 1;
        Ok(())
    }
}

impl Default for MemoryMap {
    fn default() -> Self {
        Self::new()
    }
}

/// UEFI memory types that are not the loader's business (UEFI specification, 7.2).
const fn kind(kind: MemoryRegionKind) -> MemoryKind {
    match kind {
        MemoryRegionKind::Usable | MemoryRegionKind::Bootloader => MemoryKind::Ram,
        MemoryRegionKind::UnknownUefi(9) => MemoryKind::Acpi,
        MemoryRegionKind::UnknownUefi(10) => MemoryKind::Nvs,
        _ => MemoryKind::Reserved,
    }
}

/// The highest place in the loader's usable regions for `bytes`, aligned to `align` (a power of two) and not below 1 MiB,
/// where processors start. Regions that the loader still uses are not considered.
pub fn find_space(regions: &[MemoryRegion], bytes: u64, align: u64) -> Option<Spa> {
    const LOWEST: u64 = 1 << 20;
    let usable = regions
        .iter()
        .filter(|r| r.kind == MemoryRegionKind::Usable);
    let places = usable.filter_map(|r| {
        let start = r.end.checked_sub(bytes)? & !(align - 1);
        (start >= r.start && start >= LOWEST).then_some(start)
    });
    places.max().map(Spa)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn region(start: u64, end: u64, kind: MemoryRegionKind) -> MemoryRegion {
        MemoryRegion { start, end, kind }
    }

    fn listed(map: &MemoryMap) -> Vec<(u64, u64, u32)> {
        map.ranges()
            .iter()
            .map(|r| (r.start.0, r.end.0, r.kind as u32))
            .collect()
    }

    #[test]
    fn the_loader_s_map_merges_and_gets_e820_types() {
        use MemoryRegionKind::{Bootloader, UnknownUefi, Usable};
        let map = MemoryMap::from_loader(&[
            region(0, 0xA_0000, Usable),
            region(0x10_0000, 0x20_0000, Usable),
            region(0x20_0000, 0x30_0000, Bootloader),
            region(0x30_0000, 0x30_1000, UnknownUefi(9)),
            region(0x30_1000, 0x30_2000, UnknownUefi(10)),
            region(0x30_2000, 0x30_4000, UnknownUefi(6)),
            region(0x30_4000, 0x40_0000, Usable),
        ])
        .unwrap();
        let expected = [
            (0, 0xA_0000, 1),
            (0x10_0000, 0x30_0000, 1),
            (0x30_0000, 0x30_1000, 3),
            (0x30_1000, 0x30_2000, 4),
            (0x30_2000, 0x30_4000, 2),
            (0x30_4000, 0x40_0000, 1),
        ];
        assert_eq!(listed(&map), expected);
        assert_eq!(map.end_of_memory(), Spa(0x40_0000));
        assert_eq!(map.total(MemoryKind::Ram), 0xA_0000 + 0x20_0000 + 0xF_C000);
    }

    #[test]
    fn carving_splits_a_range() {
        let mut map = MemoryMap::new();
        map.set(Spa(0), Spa(0x10000), MemoryKind::Ram).unwrap();
        map.set(Spa(0x4000), Spa(0x6000), MemoryKind::Reserved)
            .unwrap();
        assert_eq!(
            listed(&map),
            [(0, 0x4000, 1), (0x4000, 0x6000, 2), (0x6000, 0x10000, 1)]
        );
        // RAM does not come back over what is reserved.
        map.set(Spa(0x3000), Spa(0x8000), MemoryKind::Ram).unwrap();
        assert_eq!(
            listed(&map),
            [(0, 0x4000, 1), (0x4000, 0x6000, 2), (0x6000, 0x10000, 1)]
        );
    }

    #[test]
    fn a_partial_page_is_never_ram() {
        use MemoryRegionKind::{UnknownUefi, Usable};
        let map = MemoryMap::from_loader(&[
            region(0x1234, 0x5678, Usable),
            region(0x8800, 0x8900, UnknownUefi(0)),
        ])
        .unwrap();
        assert_eq!(listed(&map), [(0x2000, 0x5000, 1), (0x8000, 0x9000, 2)]);
    }

    #[test]
    fn a_map_with_too_many_holes_is_refused() {
        let mut map = MemoryMap::new();
        let mut result = Ok(());
        for i in 0..=MAX_RANGES as u64 {
            result = map.set(Spa(i * 0x2000), Spa(i * 0x2000 + 0x1000), MemoryKind::Ram);
        }
        assert_eq!(result, Err(TooManyRanges));
    }

    #[test]
    fn space_is_found_high_and_never_in_the_loader_s_own_memory() {
        use MemoryRegionKind::{Bootloader, Usable};
        let regions = [
            region(0, 0x10_0000, Usable),
            region(0x10_0000, 0x100_0000, Usable),
            region(0x100_0000, 0x800_0000, Bootloader),
        ];
        assert_eq!(
            find_space(&regions, 0x40_0000, 0x20_0000),
            Some(Spa(0xC0_0000))
        );
        assert_eq!(find_space(&regions, 0x100_0000, 0x20_0000), None);
        assert_eq!(
            find_space(&regions[..1], 0x1000, 0x1000),
            None,
            "not below 1 MiB"
        );
    }

    proptest! {
        #[test]
        fn every_page_has_the_strongest_kind_it_was_given(
            sets in prop::collection::vec((0u64..40, 1u64..12, 1u32..4), 1..20)
        ) {
            let mut map = MemoryMap::new();
            let mut pages = [None; 64];
            for (first, count, kind) in sets {
                let kind = [MemoryKind::Ram, MemoryKind::Reserved, MemoryKind::Acpi][kind as usize - 1];
                map.set(Spa(first * 4096), Spa((first + count) * 4096), kind).unwrap();
                for page in &mut pages[first as usize..(first + count) as usize] {
                    if kind != MemoryKind::Ram || page.is_none() {
                        *page = Some(kind);
                    }
                }
            }
            let mut last_end = 0;
            for r in map.ranges() {
                prop_assert!(r.start.0 >= last_end && !r.is_empty());
                last_end = r.end.0;
            }
            for (i, &expected) in pages.iter().enumerate() {
                let at = Spa(i as u64 * 4096);
                let found = map.ranges().iter().find(|r| r.start <= at && at < r.end).map(|r| r.kind);
                prop_assert_eq!(found, expected, "page {}", i);
            }
        }
    }
}
