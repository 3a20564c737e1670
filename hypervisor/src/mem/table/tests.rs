//! The walker, case by case: what map makes.

use super::fake::{FakeMemory, FakeSource, Hardware, for_each_format};
use super::*;
use crate::mem::format::Rights;

pub(super) type Table<'m, F> = PageTable<F, &'m FakeMemory>;

pub(super) const GIB: u64 = 512 * 512;

/// The page with this number.
pub(super) fn at<F: Format>(number: u64) -> F::Page {
    F::Page::from_number(number)
}

pub(super) fn table<'m, F: Hardware>(
    memory: &'m FakeMemory,
    source: &mut FakeSource,
) -> Table<'m, F> {
    PageTable::new(F::sample(LeafSize::Size1G), memory, source).unwrap()
}

pub(super) fn size_of<F: Format>(table: &Table<'_, F>, number: u64) -> Option<LeafSize> {
    table.query(at::<F>(number)).map(|found| found.size)
}

pub(super) fn leaf(frame: u64) -> Leaf {
    Leaf::new(Spfn(frame), Rights::RWX)
}

fn alignment_decides_the_leaf_size<F: Hardware>() {
    let (memory, mut source) = (FakeMemory::new(), FakeSource::new(20));
    let mut table = table::<F>(&memory, &mut source);
    table
        .map(
            &mut source,
            at::<F>(511),
            2 * GIB,
            leaf(511),
            LeafSize::Size1G,
        )
        .unwrap();
    assert_eq!(size_of(&table, 510), None);
    assert_eq!(size_of(&table, 511), Some(LeafSize::Size4K));
    assert_eq!(size_of(&table, 512), Some(LeafSize::Size2M));
    assert_eq!(size_of(&table, GIB), Some(LeafSize::Size1G));
    assert_eq!(size_of(&table, 2 * GIB + 510), Some(LeafSize::Size4K));
    assert_eq!(size_of(&table, 2 * GIB + 511), None);
    assert_eq!(
        table
            .query(at::<F>(GIB + 77))
            .unwrap()
            .frame_of(at::<F>(GIB + 77)),
        Some(Spfn(GIB + 77))
    );
    let sizes: Vec<_> = table
        .leaves(at::<F>(0), 3 * GIB)
        .map(|found| found.size)
        .collect();
    assert_eq!(sizes.len(), 1 + 511 + 1 + 511);
}

fn frames_that_are_not_aligned_alike_get_small_leaves<F: Hardware>() {
    let (memory, mut source) = (FakeMemory::new(), FakeSource::new(20));
    let mut table = table::<F>(&memory, &mut source);
    table
        .map(&mut source, at::<F>(0), 512, leaf(1), LeafSize::Size1G)
        .unwrap();
    assert_eq!(size_of(&table, 0), Some(LeafSize::Size4K));
    assert_eq!(
        table.query(at::<F>(511)).unwrap().leaf.frame,
        Some(Spfn(512))
    );
}

fn single_pages_in_any_order_become_one_large_leaf<F: Hardware>() {
    let (memory, mut source) = (FakeMemory::new(), FakeSource::new(20));
    let mut table = table::<F>(&memory, &mut source);
    for page in (0..512).map(|i| i * 77 % 512) {
        assert_eq!(size_of(&table, page), None);
        table
            .map(
                &mut source,
                at::<F>(page),
                1,
                leaf(1024 + page),
                LeafSize::Size4K,
            )
            .unwrap();
    }
    assert_eq!(size_of(&table, 5), Some(LeafSize::Size2M));
    assert_eq!(source.retired.len(), 1);
    for part in 1..512 {
        table
            .map(
                &mut source,
                at::<F>(512 * part),
                512,
                leaf(1024 + 512 * part),
                LeafSize::Size2M,
            )
            .unwrap();
    }
    assert_eq!(
        size_of(&table, 5),
        Some(LeafSize::Size2M),
        "1024 is not aligned to 1 GiB"
    );
    table
        .map(&mut source, at::<F>(0), GIB, leaf(GIB), LeafSize::Size2M)
        .unwrap();
    assert_eq!(size_of(&table, 5), Some(LeafSize::Size1G));
    assert_eq!(source.live.len(), 2);
    assert_eq!(memory.tables::<F>(table.root()), source.live);
}

fn joining_can_be_switched_off<F: Hardware>() {
    let (memory, mut source) = (FakeMemory::new(), FakeSource::new(20));
    let mut table = table::<F>(&memory, &mut source);
    table.set_join(false);
    table
        .map(&mut source, at::<F>(0), 512, leaf(512), LeafSize::Size4K)
        .unwrap();
    assert_eq!(size_of(&table, 5), Some(LeafSize::Size4K));
}

fn a_page_without_access_is_mapped_and_can_become_ram_and_back<F: Hardware>() {
    let (memory, mut source) = (FakeMemory::new(), FakeSource::new(20));
    let mut table = table::<F>(&memory, &mut source);
    table
        .map(
            &mut source,
            at::<F>(0),
            1024,
            Leaf::NO_ACCESS,
            LeafSize::Size2M,
        )
        .unwrap();
    let found = table.query(at::<F>(700)).unwrap();
    assert_eq!(
        (found.leaf, found.size),
        (Leaf::NO_ACCESS, LeafSize::Size2M)
    );
    assert_eq!(found.frame_of(at::<F>(700)), None);
    table
        .map(&mut source, at::<F>(512), 512, leaf(2048), LeafSize::Size2M)
        .unwrap();
    assert_eq!(source.removed, [(LeafSize::Size2M, Leaf::NO_ACCESS)]);
    table
        .map(
            &mut source,
            at::<F>(600),
            1,
            Leaf::NO_ACCESS,
            LeafSize::Size4K,
        )
        .unwrap();
    assert_eq!(source.removed[1], (LeafSize::Size4K, leaf(2048 + 88)));
    assert_eq!(table.query(at::<F>(600)).unwrap().leaf, Leaf::NO_ACCESS);
    assert_eq!(table.query(at::<F>(601)).unwrap().leaf.rights, Rights::RWX);
}

fn a_large_leaf_over_small_ones_reports_each_of_them<F: Hardware>() {
    let (memory, mut source) = (FakeMemory::new(), FakeSource::new(20));
    let mut table = table::<F>(&memory, &mut source);
    table
        .map(&mut source, at::<F>(10), 20, leaf(3), LeafSize::Size4K)
        .unwrap();
    let live = source.live.len();
    table
        .map(&mut source, at::<F>(0), 512, leaf(512), LeafSize::Size2M)
        .unwrap();
    assert_eq!(
        source.removed_pages(),
        (3..23).map(Some).collect::<Vec<_>>()
    );
    assert_eq!(source.live.len(), live - 1);
}

for_each_format! {
    alignment_decides_the_leaf_size
    frames_that_are_not_aligned_alike_get_small_leaves
    single_pages_in_any_order_become_one_large_leaf
    joining_can_be_switched_off
    a_page_without_access_is_mapped_and_can_become_ram_and_back
    a_large_leaf_over_small_ones_reports_each_of_them
}
