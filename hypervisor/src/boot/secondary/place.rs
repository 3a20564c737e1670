//! Memory where a processor can start.

use super::super::machine::Archive;
use super::super::memory::{MemoryKind, MemoryMap};
use super::trampoline::PAGES;
use crate::mem::addr::{PAGE_SIZE, Spa};

/// Real mode's interrupt table and the firmware's data are below.
const LOWEST: u64 = 0x1000;
/// The firmware's extended data, the screen and ROMs are above.
const END: u64 = 0x9_0000;

/// Pages for the trampoline, in RAM that is the root's later on.
pub(super) fn low_pages(memory: &MemoryMap, archive: Archive) -> Option<Spa> {
    let bytes = PAGES as u64 * PAGE_SIZE;
    let overlaps = |start: u64| {
        let archive_end = archive.start.0.saturating_add(archive.length);
        start < archive_end && archive.start.0 < start + bytes
    };
    let ram = memory.ranges().iter();
    ram.filter(|range| range.kind == MemoryKind::Ram)
        .find_map(|range| {
            let start = range.start.0.max(LOWEST).next_multiple_of(PAGE_SIZE);
            let end = range.end.0.min(END);
            let mut starts = (start..end).step_by(PAGE_SIZE as usize);
            starts.find(|&start| start + bytes <= end && !overlaps(start))
        })
        .map(Spa)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ram: &[(u64, u64)], archive: (u64, u64)) -> Option<u64> {
        let mut memory = MemoryMap::new();
        for &(start, end) in ram {
            memory.set(Spa(start), Spa(end), MemoryKind::Ram).unwrap();
        }
        let archive = Archive {
            start: Spa(archive.0),
            length: archive.1,
            loader_offset: 0,
            loader_length: 0,
        };
        low_pages(&memory, archive).map(|page| page.0)
    }

    #[test]
    fn the_lowest_free_pages_are_taken() {
        let nowhere = (1 << 32, 0x1000);
        assert_eq!(found(&[(0, 0x9_F000)], nowhere), Some(0x1000));
        assert_eq!(
            found(&[(0, 0x3000), (0x5_0000, 0x8_0000)], nowhere),
            Some(0x5_0000)
        );
        assert_eq!(found(&[(0x8_C000, 0xA_0000)], nowhere), Some(0x8_C000));
        assert_eq!(found(&[(0x8_D000, 0xA_0000)], nowhere), None);
        assert_eq!(found(&[(0x10_0000, 1 << 30)], nowhere), None);
    }

    #[test]
    fn the_archive_is_left_alone() {
        let ram = [(0, 0x9_F000)];
        assert_eq!(found(&ram, (0x2000, 0x1_0000)), Some(0x1_2000));
        assert_eq!(found(&ram, (0x4FFF, 0x1_0000)), Some(0x1_5000));
        assert_eq!(found(&ram, (0x5000, 0x1_0000)), Some(0x1000));
        assert_eq!(found(&ram, (0, u64::MAX)), None);
    }
}
