//! Memory layouts: what is handed out is free, what is mapped is right.

use core::ops::Range;

use boot_archive::start_info::{MemoryMapEntry, kind};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::layout::Layout;
use crate::paging::{Cache, Mapping};
use crate::{DIRECT_MAP, DIRECT_MAP_LIMIT, FOUR_GIB, PAGE};

const MIB: u64 = 1 << 20;

fn entry(range: Range<u64>, kind: u32) -> MemoryMapEntry {
    MemoryMapEntry {
        addr: range.start,
        size: range.end - range.start,
        kind,
        reserved: 0,
    }
}

/// A machine with 64 MiB, ACPI tables at the end and a hole from there.
fn machine() -> [MemoryMapEntry; 4] {
    [
        entry(0..0x9_FC00, kind::RAM),
        entry(0x9_FC00..0x10_0000, kind::RESERVED),
        entry(MIB..63 * MIB, kind::RAM),
        entry(63 * MIB..64 * MIB, kind::ACPI),
    ]
}

#[test]
fn allocation_prefers_memory_above_16_mib() {
    let mut layout = Layout::new(machine(), []).expect("small");
    assert_eq!(
        layout.allocate(PAGE, FOUR_GIB),
        Some(16 * MIB..16 * MIB + PAGE)
    );
    assert_eq!(
        layout.allocate(2 * PAGE, FOUR_GIB),
        Some(16 * MIB + PAGE..16 * MIB + 3 * PAGE)
    );
    assert_eq!(layout.allocate(50 * MIB, FOUR_GIB), None);
}

#[test]
fn allocation_falls_back_to_memory_below_16_mib_but_not_below_1() {
    let mut layout = Layout::new(machine(), []).expect("small");
    assert_eq!(
        layout.allocate(47 * MIB, FOUR_GIB),
        Some(16 * MIB..63 * MIB)
    );
    assert_eq!(layout.allocate(15 * MIB, FOUR_GIB), Some(MIB..16 * MIB));
    assert_eq!(
        layout.allocate(PAGE, FOUR_GIB),
        None,
        "only the first MiB is left"
    );
    assert_eq!(layout.allocate(0, FOUR_GIB), None);
}

#[test]
fn kept_ranges_are_ram_but_never_handed_out() {
    let kept = [16 * MIB + 5..62 * MIB, 70 * MIB..71 * MIB];
    let mut layout = Layout::new(machine(), kept).expect("small");
    assert_eq!(
        layout.allocate(PAGE, FOUR_GIB),
        Some(62 * MIB..62 * MIB + PAGE)
    );
    assert!(layout.is_ram(&(16 * MIB..62 * MIB)));
    assert!(
        layout.is_ram(&(70 * MIB..71 * MIB)),
        "kept outside of the memory map"
    );
    assert!(!layout.is_ram(&(70 * MIB..72 * MIB)));
}

#[test]
fn direct_map_covers_4_gib_with_ram_cached() {
    let layout = Layout::new(machine(), []).expect("small");
    let map = layout
        .direct_map()
        .map(|m| (m.gpa, m.bytes, m.cache))
        .collect::<Vec<_>>();
    let expected = [
        (0, 0x9_F000, Cache::WriteBack),
        (0x9_F000, 0x6_1000, Cache::Uncached),
        (MIB, 63 * MIB, Cache::WriteBack),
        (64 * MIB, FOUR_GIB - 64 * MIB, Cache::Uncached),
    ];
    assert_eq!(map, expected);
}

#[test]
fn ram_above_4_gib_is_mapped_and_devices_there_are_not() {
    let high = [
        entry(5 << 30..6 << 30, kind::RAM),
        entry(7 << 30..8 << 30, kind::RESERVED),
    ];
    let layout = Layout::new(machine().into_iter().chain(high), []).expect("small");
    let last = layout.direct_map().last().expect("something");
    assert_eq!(
        (last.virt, last.gpa, last.bytes),
        (DIRECT_MAP + (5 << 30), 5 << 30, 1 << 30)
    );
}

#[test]
fn ram_that_is_also_reserved_is_not_free() {
    let map = [
        entry(MIB..8 * MIB, kind::RAM),
        entry(2 * MIB..8 * MIB, kind::RESERVED),
    ];
    let mut layout = Layout::new(map, []).expect("small");
    assert_eq!(layout.allocate(2 * MIB, FOUR_GIB), None);
    assert_eq!(layout.ram_bytes(), MIB);
}

#[test]
fn too_many_entries_are_refused() {
    let map = (0..600u64).map(|page| entry(page * 2 * PAGE..(page * 2 + 1) * PAGE, kind::RAM));
    assert!(Layout::new(map, []).is_none());
}

fn entries() -> impl Strategy<Value = Vec<MemoryMapEntry>> {
    let address = prop_oneof![0..0x2_0000_0000u64, any::<u64>()];
    let size = prop_oneof![0..0x1000_0000u64, any::<u64>()];
    vec(
        (address, size, 0u32..7).prop_map(|(addr, size, kind)| MemoryMapEntry {
            addr,
            size,
            kind,
            reserved: 0,
        }),
        0..20,
    )
}

proptest! {
    #[test]
    fn allocations_are_free_ram_and_disjoint(
        map in entries(), kept in vec((0..0x1_0000_0000u64, 0..0x100_0000u64), 0..4), sizes in vec(1..0x10_0000u64, 1..8),
    ) {
        let kept = kept.iter().map(|(start, size)| *start..start + size).collect::<Vec<_>>();
        let mut layout = Layout::new(map.clone(), kept.clone()).expect("few");
        let mut before: Vec<Range<u64>> = kept;
        for size in sizes {
            let Some(range) = layout.allocate(size, FOUR_GIB) else { continue };
            prop_assert!(range.end - range.start >= size && range.end <= FOUR_GIB && range.start >= MIB);
            prop_assert!(range.start % PAGE == 0 && range.end % PAGE == 0);
            prop_assert!(layout.is_ram(&range));
            for other in before.iter().filter(|other| other.start < other.end) {
                prop_assert!(range.end <= other.start || other.end <= range.start);
            }
            for entry in map.iter().filter(|entry| entry.kind != kind::RAM && entry.size > 0) {
                prop_assert!(range.end <= entry.addr || entry.end() <= range.start);
            }
            before.push(range);
        }
    }

    #[test]
    fn direct_map_is_sorted_disjoint_and_complete(map in entries()) {
        let layout = Layout::new(map, []).expect("few");
        let mappings = layout.direct_map().collect::<Vec<Mapping>>();
        for pair in mappings.windows(2) {
            prop_assert!(pair[0].gpa + pair[0].bytes <= pair[1].gpa);
        }
        let low: u64 = mappings.iter().map(|m| m.gpa.min(FOUR_GIB)..(m.gpa + m.bytes).min(FOUR_GIB)).map(|r| r.end - r.start).sum();
        prop_assert_eq!(low, FOUR_GIB, "the first 4 GiB have no hole");
        for mapping in &mappings {
            prop_assert!(mapping.bytes > 0 && mapping.bytes % PAGE == 0 && mapping.gpa % PAGE == 0);
            prop_assert!(mapping.gpa + mapping.bytes <= DIRECT_MAP_LIMIT);
            prop_assert_eq!(mapping.virt, DIRECT_MAP + mapping.gpa);
            let range = mapping.gpa..mapping.gpa + mapping.bytes;
            prop_assert_eq!(layout.is_ram(&range), mapping.cache == Cache::WriteBack);
        }
    }
}
