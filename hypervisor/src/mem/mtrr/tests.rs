//! The MTRRs against the manual's rules for a byte, written down once more.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::arch::cpuid::Recorded;
use crate::mem::format::Ept;
use crate::mem::table::fake::{FakeMemory, FakeSource, Hardware};

const CPU: Recorded = Recorded(&[(0, 0, [1, 0, 0, 0]), (1, 0, [0, 0, 0, 1 << 12])]);
const BITS: u8 = 40;

#[derive(Debug)]
struct Msrs(BTreeMap<u32, u64>);

impl MsrSource for Msrs {
    fn read(&self, msr: u32) -> u64 {
        *self.0.get(&msr).expect("an MSR that exists")
    }
}

impl Msrs {
    /// Two variable ranges that are not valid.
    fn new(default: u64) -> Self {
        let fixed = MSR_FIXED.map(|msr| (msr, 0x0606_0606_0606_0606));
        let ranges = (0x200..0x204).map(|msr| (msr, 0));
        let all = [(MSR_CAPABILITIES, 0x502), (MSR_DEFAULT_TYPE, default)];
        Self(all.into_iter().chain(fixed).chain(ranges).collect())
    }

    fn set(mut self, msr: u32, value: u64) -> Self {
        self.0.insert(msr, value);
        self
    }

    fn types(&self, first: u64, pages: u64) -> Vec<(u64, u64, MemoryType)> {
        let mtrrs = Mtrrs::read(&CPU, self, BITS);
        let types = mtrrs.types(Spfn(first), pages);
        types
            .map(|range| (range.first.0, range.pages, range.memory_type))
            .collect()
    }
}

/// The type of a byte, from the manual once more.
fn type_of(msrs: &Msrs, address: u64) -> u8 {
    let default = msrs.read(0x2FF);
    if default >> 11 & 1 == 0 {
        return 0;
    }
    let byte = |msr, byte: u64| (msrs.read(msr) >> (8 * byte)) as u8;
    if default >> 10 & 1 == 1 && address < 0x10_0000 {
        return match address {
            0..0x8_0000 => byte(0x250, address >> 16),
            0x8_0000..0xC_0000 => byte(0x258 + (address >> 17 & 1) as u32, address >> 14 & 7),
            _ => byte(
                0x268 + ((address - 0xC_0000) >> 15) as u32,
                address >> 12 & 7,
            ),
        };
    }
    let ranges = (0..msrs.read(0xFE) as u8).map(|range| 0x200 + 2 * u32::from(range));
    let mut types: Vec<u8> = ranges
        .map(|msr| (msrs.read(msr), msrs.read(msr + 1)))
        .filter(|(_, mask)| mask >> 11 & 1 == 1)
        .filter(|(base, mask)| (address ^ base) & mask & !0xFFF == 0)
        .map(|(base, _)| base as u8)
        .collect();
    types.sort();
    types.dedup();
    match types[..] {
        [] => default as u8,
        [one] => one,
        [4, 6] => 4,
        _ => 0,
    }
}

#[test]
fn a_machine_with_a_hole_for_devices() {
    // OVMF's with 8 GiB of address space: WB, but for 2 GiB to 4 GiB and the screen's window.
    let msrs = Msrs::new(0xC06)
        .set(0x200, 0x8000_0000)
        .set(0x201, 0xFF_8000_0800)
        .set(0x259, 0);
    let (wb, uc) = (MemoryType::WriteBack, MemoryType::Uncacheable);
    assert_eq!(
        msrs.types(0, 0x20_0000),
        [
            (0, 0xA0, wb),
            (0xA0, 0x20, uc),
            (0xC0, 0x8_0000 - 0xC0, wb),
            (0x8_0000, 0x8_0000, uc),
            (0x10_0000, 0x10_0000, wb),
        ]
    );
    assert_eq!(msrs.types(0x9_0000, 1), [(0x9_0000, 1, uc)]);
    assert_eq!(msrs.types(5, 0), []);
}

#[test]
fn ranges_that_overlap_follow_the_precedence() {
    let all = 0xFF_FFFF_F800;
    let of = |one: u64, other: u64| {
        let msrs = Msrs::new(0x805);
        let msrs = msrs.set(0x200, 0x1000 | one).set(0x201, all);
        msrs.set(0x202, 0x1000 | other).set(0x203, all).types(1, 1)[0].2
    };
    assert_eq!(of(6, 6), MemoryType::WriteBack);
    assert_eq!(of(6, 4), MemoryType::WriteThrough);
    assert_eq!(of(4, 6), MemoryType::WriteThrough);
    assert_eq!(of(6, 0), MemoryType::Uncacheable);
    assert_eq!(of(1, 6), MemoryType::Uncacheable, "undefined");
    assert_eq!(of(6, 3), MemoryType::Uncacheable, "reserved");
}

#[test]
fn without_mtrrs_everything_is_wb_and_with_them_off_uc() {
    let none = Recorded(&[(0, 0, [1, 0, 0, 0])]);
    let absent = Mtrrs::read(&none, &Msrs(BTreeMap::new()), BITS);
    let all = |memory_type| TypedRange {
        first: Spfn(0),
        pages: 1 << 28,
        memory_type,
    };
    assert!(
        absent
            .types(Spfn(0), 1 << 28)
            .eq([all(MemoryType::WriteBack)])
    );
    let off = Mtrrs::read(&CPU, &Msrs::new(0x406), BITS);
    assert!(
        off.types(Spfn(0), 1 << 28)
            .eq([all(MemoryType::Uncacheable)])
    );
}

#[test]
fn tables_that_name_types_say_what_the_machine_has() {
    let msrs = Msrs::new(0xC06)
        .set(0x200, 0x8000_0000)
        .set(0x201, 0xFF_8000_0800)
        .set(0x259, 0);
    let mtrrs = Mtrrs::read(&CPU, &msrs, BITS);
    let (memory, mut source) = (FakeMemory::new(), FakeSource::new(20));
    let ept = Ept::sample(LeafSize::Size1G);
    let mut table = PageTable::new(ept, &memory, &mut source).unwrap();
    let all = (Spfn(0), 0x20_0000);
    for (types, device) in [
        (None, MemoryType::WriteBack),
        (Some(&mtrrs), MemoryType::Uncacheable),
    ] {
        map_as_it_is(&mut table, &mut source, types, all, Rights::RWX).unwrap();
        let at = |page| {
            let found = table.query(Gpfn(page)).unwrap();
            assert_eq!(found.frame_of(Gpfn(page)), Some(Spfn(page)));
            (found.leaf.memory_type, found.size)
        };
        assert_eq!(at(0x9F).0, MemoryType::WriteBack);
        assert_eq!(at(0xA5).0, device, "the screen's window");
        assert_eq!(at(0x8_0000), (device, LeafSize::Size1G));
        assert_eq!(at(0x10_0000), (MemoryType::WriteBack, LeafSize::Size1G));
    }
    source.allowance = 0;
    let stopped = map_as_it_is(
        &mut table,
        &mut source,
        Some(&mtrrs),
        (Spfn(0x7_FFFF), 2),
        Rights::RW,
    );
    assert_eq!(stopped.map_err(|stopped| stopped.done), Err(0));
    source.allowance = 2;
    let stopped = map_as_it_is(
        &mut table,
        &mut source,
        Some(&mtrrs),
        (Spfn(0x7_FFFF), 2),
        Rights::RW,
    );
    assert_eq!(stopped.map_err(|stopped| stopped.done), Err(1));
}

/// Types, some of them twice.
fn memory_types() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![0u64, 1, 4, 4, 5, 6, 6, 6])
}

/// Base and mask that are not too far from what is looked at. Masks may have holes.
fn ranges() -> impl Strategy<Value = (u64, u64)> {
    let low = prop_oneof![
        (0..13u32).prop_map(|bits| 0x1FFF << bits & 0x1FFF),
        0..0x2000u64,
    ];
    let high = prop_oneof![4 => Just(0xFFF_E000), 1 => Just(0), 1 => 0..0x1_0000u64];
    let valid = prop::bool::weighted(0.9);
    let base = prop_oneof![Just(0), 0..0x2000u64];
    (base, low, high, memory_types(), valid).prop_map(|(base, low, high, of, valid)| {
        let mask = (low | high) << 12 | u64::from(valid) << 11;
        (base << 12 | of, mask)
    })
}

fn machines() -> impl Strategy<Value = Msrs> {
    let fixed = prop::array::uniform11(prop::array::uniform8(memory_types()));
    let variable = prop::collection::vec(ranges(), 0..6);
    let default = (memory_types(), any::<bool>(), prop::bool::weighted(0.95));
    (fixed, variable, default).prop_map(|(fixed, variable, (default, use_fixed, on))| {
        let enable = u64::from(use_fixed) << 10 | u64::from(on) << 11;
        let mut msrs = Msrs::new(default | enable);
        msrs.0.insert(0xFE, 0x500 | variable.len() as u64);
        for (msr, types) in MSR_FIXED.into_iter().zip(fixed) {
            let bytes = types.map(|memory_type| memory_type as u8);
            msrs.0.insert(msr, u64::from_le_bytes(bytes));
        }
        for (msr, (base, mask)) in (0x200..).step_by(2).zip(variable) {
            msrs.0.extend([(msr, base), (msr + 1, mask)]);
        }
        msrs
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn each_byte_has_the_type_that_the_manual_gives_it(msrs in machines(), first in 0..0x3000u64, pages in 1..0x3000u64) {
        let (mut next, mut last) = (first, None);
        for (start, length, memory_type) in msrs.types(first, pages) {
            prop_assert_eq!(start, next);
            prop_assert!(length > 0);
            prop_assert_ne!(Some(memory_type), last, "pieces are as large as there are");
            for page in start..start + length {
                for byte in [0, 0x7FF, 0xFFF] {
                    prop_assert_eq!(type_of(&msrs, page << 12 | byte), memory_type as u8, "page {:#x}", page);
                }
            }
            (next, last) = (start + length, Some(memory_type));
        }
        prop_assert_eq!(next, first + pages);
    }

    #[test]
    fn wide_ranges_are_cut_where_single_pages_change(msrs in machines(), probes in prop::collection::vec(0..1u64 << 28, 64)) {
        // A mask with holes may make very many pieces.
        let mtrrs = Mtrrs::read(&CPU, &msrs, BITS);
        let pieces: Vec<_> = mtrrs.types(Spfn(0), 1 << 28).take(2000).collect();
        for page in probes {
            let piece = pieces.iter().find(|piece| (piece.first.0..piece.first.0 + piece.pages).contains(&page));
            if let Some(piece) = piece {
                prop_assert_eq!(type_of(&msrs, page << 12), piece.memory_type as u8);
            }
        }
    }
}
