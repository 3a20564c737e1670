//! Page tables: a walk finds what was mapped, with the rights and caching asked for.

use std::collections::HashMap;

use boot_archive::start_info::MemoryMapEntry;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::layout::Layout;
use crate::paging::{Cache, MapError, Mapping, Rights, TableMemory, Tables};
use crate::{DIRECT_MAP, PAGE, ROOT_IMAGE};

const POOL: u64 = 0x10_0000;

#[derive(Default)]
struct Memory(HashMap<(u64, usize), u64>);

impl TableMemory for &mut Memory {
    fn load(&self, table: u64, index: usize) -> u64 {
        // Reading a table that was never written is a mistake: new tables must be cleared.
        self.0[&(table, index)]
    }
    fn store(&mut self, table: u64, index: usize, entry: u64) {
        assert!(index < 512 && table.is_multiple_of(PAGE));
        self.0.insert((table, index), entry);
    }
}

impl Memory {
    /// What the processor finds: physical address, entry's flags, page size.
    fn walk(&self, top: u64, virt: u64) -> Option<(u64, u64, u64)> {
        let mut table = top;
        for level in (0..4).rev() {
            let shift = 12 + 9 * level;
            let entry = self.0[&(table, (virt >> shift) as usize & 511)];
            if entry & 1 == 0 {
                return None;
            }
            if level == 0 || entry & 0x80 != 0 {
                let size = 1u64 << shift;
                let base = entry & 0x000F_FFFF_FFFF_F000;
                assert_eq!(
                    base % size,
                    0,
                    "a page's address must be aligned to its size"
                );
                return Some((
                    base | virt & (size - 1),
                    entry & !0x000F_FFFF_FFFF_F000,
                    size,
                ));
            }
            table = entry & 0x000F_FFFF_FFFF_F000;
        }
        None
    }
}

fn ram(virt: u64, gpa: u64, bytes: u64) -> Mapping {
    Mapping {
        virt,
        gpa,
        bytes,
        rights: Rights::READ_WRITE,
        cache: Cache::WriteBack,
    }
}

fn mapped(mappings: &[Mapping], huge: bool) -> (Memory, u64) {
    let mut memory = Memory::default();
    let mut tables = Tables::new(&mut memory, POOL..POOL + 0x1000_0000, huge).expect("room");
    mappings
        .iter()
        .for_each(|mapping| tables.map(mapping).expect("no conflict"));
    let top = tables.top();
    (memory, top)
}

#[test]
fn huge_pages_are_used_only_if_the_processor_has_them() {
    let mapping = ram(DIRECT_MAP, 0, 2 << 30);
    for (huge, size) in [(true, 1 << 30), (false, 2 << 20)] {
        let (memory, top) = mapped(&[mapping], huge);
        assert_eq!(
            memory.walk(top, DIRECT_MAP + 0x1234_5678),
            Some((0x1234_5678, 0x8000_0000_0000_0083, size))
        );
    }
}

#[test]
fn rights_and_caching_are_in_the_leaf() {
    let base = ROOT_IMAGE;
    let mapping = |page: u64, rights, cache| Mapping {
        virt: base + page * PAGE,
        gpa: page * PAGE,
        bytes: PAGE,
        rights,
        cache,
    };
    let (memory, top) = mapped(
        &[
            mapping(0, Rights::READ, Cache::WriteBack),
            mapping(1, Rights::READ_EXECUTE, Cache::WriteBack),
            mapping(2, Rights::READ_WRITE, Cache::Uncached),
        ],
        true,
    );
    let flags = |page: u64| memory.walk(top, base + page * PAGE).map(|found| found.1);
    assert_eq!(flags(0), Some(1 | 1 << 63));
    assert_eq!(flags(1), Some(1));
    assert_eq!(flags(2), Some(0b11 | 0x18 | 1 << 63));
    assert_eq!(flags(3), None);
}

#[test]
fn conflicts_and_odd_sizes_are_refused() {
    let mut memory = Memory::default();
    let mut tables = Tables::new(&mut memory, POOL..POOL + 0x10_0000, true).expect("room");
    tables.map(&ram(DIRECT_MAP, 0, 2 << 20)).expect("first");
    let inside = DIRECT_MAP + 5 * PAGE;
    assert_eq!(
        tables.map(&ram(inside, 0, PAGE)),
        Err(MapError::Conflict { virt: inside })
    );
    assert_eq!(
        tables.map(&ram(DIRECT_MAP, 0, 2 << 20)),
        Err(MapError::Conflict { virt: DIRECT_MAP })
    );
    assert_eq!(
        tables.map(&ram(0, 0, 5)),
        Err(MapError::Unaligned { virt: 0, bytes: 5 })
    );
    assert_eq!(
        tables.map(&ram(0, u64::MAX - 4095, 8192)),
        Err(MapError::Unaligned {
            virt: 0,
            bytes: 8192
        })
    );
}

#[test]
fn pool_that_is_too_small_is_an_error() {
    let mut memory = Memory::default();
    assert!(Tables::new(&mut memory, POOL..POOL, false).is_err());
    let mut tables = Tables::new(&mut memory, POOL..POOL + 3 * PAGE, false).expect("one page");
    assert_eq!(
        tables.map(&ram(DIRECT_MAP, 0, PAGE)),
        Err(MapError::OutOfTables { virt: DIRECT_MAP })
    );
}

#[test]
fn last_page_of_the_address_space_can_be_mapped() {
    let (memory, top) = mapped(&[ram(u64::MAX - 4095, 0x5000, PAGE)], false);
    assert_eq!(
        memory.walk(top, u64::MAX).map(|found| found.0),
        Some(0x5FFF)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn walk_finds_every_byte_of_a_direct_map(
        entries in vec((0..0x400_0000u64, 0..0x400_0000u64, 0u32..5), 0..12),
        probes in vec(any::<prop::sample::Index>(), 20),
        huge in any::<bool>(),
    ) {
        let unit = 0x40;
        let map = entries.into_iter().map(|(addr, size, kind)| {
            MemoryMapEntry { addr: addr * unit, size: size * unit, kind, reserved: 0 }
        });
        let layout = Layout::new(map, []).expect("few");
        let mappings = layout.direct_map().collect::<Vec<_>>();
        let (memory, top) = mapped(&mappings, huge);
        for (index, probe) in probes.into_iter().enumerate() {
            let mapping = mappings[index % mappings.len()];
            let offset = probe.index(mapping.bytes as usize) as u64;
            let (gpa, flags, _) = memory.walk(top, mapping.virt + offset).expect("mapped");
            prop_assert_eq!(gpa, mapping.gpa + offset);
            prop_assert_eq!(flags & 0x18 == 0, mapping.cache == Cache::WriteBack);
            prop_assert!(flags >> 63 == 1 && flags & 2 != 0, "the direct map is writable, not executable");
        }
    }

    #[test]
    fn tables_needed_is_an_upper_bound(
        virt in 0..0x8_0000u64, gpa in prop_oneof![Just(None), (0..0x8_0000u64).prop_map(Some)], pages in 1..0xC_0000u64,
        huge in any::<bool>(),
    ) {
        let mapping = ram(DIRECT_MAP + virt * PAGE, gpa.unwrap_or(virt) * PAGE, pages * PAGE);
        // Ranges of other offset are made of small pages; keep those small.
        let mapping = Mapping { bytes: if gpa.is_some() { mapping.bytes % 0x1000_0000 } else { mapping.bytes }, ..mapping };
        prop_assume!(mapping.bytes > 0);
        let bound = mapping.tables_needed(huge);
        let mut memory = Memory::default();
        let mut tables = Tables::new(&mut memory, POOL..POOL + (1 + bound) * PAGE, huge).expect("room");
        prop_assert_eq!(tables.map(&mapping), Ok(()));
    }
}
