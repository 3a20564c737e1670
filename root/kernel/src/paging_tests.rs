//! Tests of the page tables.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Tables by frame number; frame 1 is the top.
struct Fake {
    tables: BTreeMap<Pfn, Vec<u64>>,
    next: u64,
    most: usize,
    returned: Vec<(Pfn, u8)>,
}

impl Fake {
    fn new(most: usize) -> Self {
        Self {
            tables: BTreeMap::from([(Pfn(1), vec![0; ENTRIES])]),
            next: 2,
            most,
            returned: Vec::new(),
        }
    }

    fn tree(&mut self) -> Tables<'_, Self> {
        Tables::new(Pfn(1), self)
    }
}

impl TableMemory for Fake {
    fn read(&self, table: Pfn, index: usize) -> u64 {
        self.tables[&table][index]
    }
    fn write(&mut self, table: Pfn, index: usize, entry: u64) {
        // The rule of the house, checked at every write: nothing is writable and executable.
        let leaf = entry & PRESENT != 0 && !self.tables.contains_key(&frame(entry));
        assert!(!leaf || entry & WRITABLE == 0 || entry & NO_EXECUTE != 0);
        self.tables.get_mut(&table).unwrap()[index] = entry;
    }
    fn allocate(&mut self) -> Option<Pfn> {
        (self.tables.len() < self.most).then_some(())?;
        let new = Pfn(self.next);
        self.next += 1;
        self.tables.insert(new, vec![0; ENTRIES]);
        Some(new)
    }
    fn free(&mut self, table: Pfn) {
        assert!(self.tables.remove(&table).is_some());
    }
    fn free_leaf(&mut self, first: Pfn, order: u8) {
        self.returned.push((first, order));
    }
}

const FRAME: Pfn = Pfn(0x12_3400);

#[test]
fn a_page_is_found_with_its_rights_and_nothing_around_it() {
    let mut fake = Fake::new(10);
    let mut tree = fake.tree();
    tree.map(0x40_0000, FRAME, Attributes::owned(Rights::ReadExecute))
        .unwrap();
    tree.map(0x40_1000, FRAME, Attributes::borrowed(Rights::ReadWrite))
        .unwrap();
    let code = tree.lookup(0x40_0FFF).unwrap();
    assert_eq!(
        code,
        Mapping {
            pfn: FRAME,
            large: false,
            user: true,
            writable: false,
            owned: true
        }
    );
    let data = tree.lookup(0x40_1000).unwrap();
    assert!(data.writable && !data.owned);
    assert_eq!(
        (tree.lookup(0x3F_FFFF), tree.lookup(0x40_2000)),
        (None, None)
    );
}

#[test]
fn a_large_page_gives_each_of_its_frames() {
    let mut fake = Fake::new(10);
    let mut tree = fake.tree();
    tree.map_large(0x20_0000, Pfn(0x1200), Attributes::owned(Rights::ReadWrite))
        .unwrap();
    let found = tree.lookup(0x20_0000 + 5 * 4096 + 7).unwrap();
    assert_eq!((found.pfn, found.large), (Pfn(0x1205), true));
    assert_eq!(
        tree.map(0x20_1000, FRAME, Attributes::owned(Rights::Read)),
        Err(MapError::Occupied(0x20_1000))
    );
}

#[test]
fn the_kernels_pages_are_not_for_ring_3() {
    let mut fake = Fake::new(10);
    let mut tree = fake.tree();
    tree.map(
        0xFFFF_A000_0000_0000,
        FRAME,
        Attributes::kernel(Rights::ReadWrite),
    )
    .unwrap();
    assert!(!tree.lookup(0xFFFF_A000_0000_0000).unwrap().user);
}

#[test]
fn a_mapping_is_not_replaced_and_missing_memory_is_an_answer() {
    let mut fake = Fake::new(4);
    let mut tree = fake.tree();
    tree.map(0x40_0000, FRAME, Attributes::owned(Rights::Read))
        .unwrap();
    let again = tree.map(0x40_0000, FRAME, Attributes::owned(Rights::Read));
    assert_eq!(again, Err(MapError::Occupied(0x40_0000)));
    let far = tree.map(0x80_0000_0000, FRAME, Attributes::owned(Rights::Read));
    assert_eq!(far, Err(MapError::NoMemory));
    assert_eq!(tree.unmap(0x40_0000), Some(FRAME));
    assert_eq!(
        (tree.lookup(0x40_0000), tree.unmap(0x40_0000)),
        (None, None)
    );
}

#[test]
fn a_large_page_becomes_small_ones_that_translate_as_it_did() {
    for rights in [Rights::Read, Rights::ReadWrite, Rights::ReadExecute] {
        for attributes in [Attributes::owned(rights), Attributes::borrowed(rights)] {
            let mut fake = Fake::new(10);
            let mut tree = fake.tree();
            tree.map_large(0x20_0000, Pfn(0x1200), attributes).unwrap();
            let before = tree.lookup(0x20_0000).unwrap();
            assert_eq!(tree.split_large(0x3F_FFFF), Ok(()));
            for page in 0..512 {
                let expected = Mapping {
                    pfn: Pfn(0x1200 + page),
                    large: false,
                    ..before
                };
                assert_eq!(tree.lookup(0x20_0000 + page * 4096), Some(expected));
            }
            assert_eq!(tree.split_large(0x20_0000), Ok(()), "it is split already");
            assert_eq!(tree.unmap_large(0x20_0000), None);
        }
    }
}

#[test]
fn a_split_without_memory_for_a_table_changes_nothing() {
    // The top table and two below.
    let mut fake = Fake::new(3);
    let mut tree = fake.tree();
    tree.map_large(0x20_0000, Pfn(0x1200), Attributes::owned(Rights::ReadWrite))
        .unwrap();
    assert_eq!(tree.split_large(0x20_0000), Err(MapError::NoMemory));
    assert!(tree.lookup(0x20_0000).unwrap().large);
    assert_eq!(tree.unmap(0x20_0000), None, "it is no small page");
    assert_eq!(tree.unmap_large(0x20_1000), Some(Pfn(0x1200)));
    assert_eq!(tree.lookup(0x20_0000), None);
}

#[test]
fn a_table_goes_with_its_last_page_and_not_before() {
    let mut fake = Fake::new(10);
    let mut tree = fake.tree();
    tree.map(0x20_0000, FRAME, Attributes::owned(Rights::Read))
        .unwrap();
    tree.map(0x3F_F000, FRAME, Attributes::owned(Rights::Read))
        .unwrap();
    assert_eq!(tree.unmap(0x20_0000), Some(FRAME));
    assert_eq!(tree.unlink_empty(0x20_0000), None);
    assert_eq!(tree.unmap(0x3F_F000), Some(FRAME));
    let table = tree.unlink_empty(0x20_0000).unwrap();
    assert_eq!(tree.unlink_empty(0x20_0000), None);
    tree.map_large(0x20_0000, Pfn(0x1200), Attributes::owned(Rights::ReadWrite))
        .unwrap();
    assert_eq!(tree.unlink_empty(0x20_0000), None, "that is no table");
    fake.free(table);
}

/// Changes of a few large pages' worth, some of them far from the others.
#[derive(Clone, Debug)]
enum Step {
    Map(u64),
    MapLarge(u64),
    Unmap(u64),
    UnmapLarge(u64),
    Split(u64),
    Unlink(u64),
}

/// Large pages: at the ends of tables of all levels.
const PLACES: [u64; 6] = [1, 2, 511, 512, (1 << 18) - 1, 1 << 18];

fn step() -> impl Strategy<Value = Step> {
    let page = (
        0usize..PLACES.len(),
        prop_oneof![Just(0u64), Just(511), 0u64..512],
    );
    let page = page.prop_map(|(place, page)| (PLACES[place] << 21) + (page << 12));
    (page, 0..6).prop_map(|(page, kind)| match kind {
        0 => Step::Map(page),
        1 => Step::MapLarge(page & !0x1F_FFFF),
        2 => Step::Unmap(page),
        3 => Step::UnmapLarge(page),
        4 => Step::Split(page),
        _ => Step::Unlink(page),
    })
}

/// What is mapped, by page, and whether a large page maps it.
type Pages = BTreeMap<u64, (Pfn, bool)>;

fn around(pages: &Pages, address: u64) -> Vec<u64> {
    let start = address & !0x1F_FFFF;
    pages
        .range(start..start + 0x20_0000)
        .map(|(page, _)| *page)
        .collect()
}

/// Does a step in the tree and in the model.
fn go(tree: &mut Tables<'_, Fake>, pages: &mut Pages, next: &mut u64, step: &Step) {
    let owned = Attributes::owned(Rights::ReadWrite);
    *next += 512;
    let new = Pfn(*next);
    match *step {
        Step::Map(page) => {
            let large = around(pages, page)
                .first()
                .is_some_and(|first| pages[first].1);
            let mapped = tree.map(page, new, owned);
            let free = !large && !pages.contains_key(&page);
            assert_eq!(
                mapped,
                if free {
                    Ok(())
                } else {
                    Err(MapError::Occupied(page))
                }
            );
            if free {
                pages.insert(page, (new, false));
            }
        }
        Step::MapLarge(page) => {
            // A table that is empty but there is in the way as well.
            if tree.map_large(page, new, owned).is_ok() {
                assert!(around(pages, page).is_empty());
                pages.extend((0..512).map(|at| (page + at * 4096, (new.plus(at), true))));
            }
        }
        Step::Unmap(page) => {
            let small = pages
                .get(&page)
                .filter(|found| !found.1)
                .map(|found| found.0);
            assert_eq!(tree.unmap(page), small);
            if small.is_some() {
                pages.remove(&page);
            }
        }
        Step::UnmapLarge(page) => {
            let start = page & !0x1F_FFFF;
            let large = pages
                .get(&start)
                .filter(|found| found.1)
                .map(|found| found.0);
            assert_eq!(tree.unmap_large(page), large);
            if large.is_some() {
                pages.retain(|other, _| other & !0x1F_FFFF != start);
            }
        }
        Step::Split(page) => {
            assert_eq!(tree.split_large(page), Ok(()));
            for other in around(pages, page) {
                pages.get_mut(&other).unwrap().1 = false;
            }
        }
        Step::Unlink(page) => {
            if let Some(table) = tree.unlink_empty(page) {
                assert!(around(pages, page).is_empty());
                tree.memory.free(table);
            }
        }
    }
}

/// The 2 MiB with that number are in the tree as in the model.
fn compare(tree: &Tables<'_, Fake>, pages: &Pages, place: u64) {
    let (start, end) = (place << 21, (place + 1) << 21);
    for page in (start..end).step_by(4096) {
        let found = tree.lookup(page).map(|found| (found.pfn, found.large));
        assert_eq!(found, pages.get(&page).copied());
    }
    let first = pages.range(start..).next().map(|(page, _)| *page);
    assert_eq!(tree.first_mapped(start, 1 << 41), first);
    let within = first.filter(|first| *first < end);
    assert_eq!(tree.first_mapped(start, end), within);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn what_is_not_unmapped_stays_where_it_is_and_nothing_is_lost(steps in proptest::collection::vec(step(), 1..60)) {
        let mut fake = Fake::new(usize::MAX);
        let mut tree = fake.tree();
        let (mut pages, mut next) = (Pages::new(), 0);
        for step in &steps {
            go(&mut tree, &mut pages, &mut next, step);
            let (Step::Map(at) | Step::MapLarge(at) | Step::Unmap(at) | Step::UnmapLarge(at) | Step::Split(at)
                | Step::Unlink(at)) = *step;
            compare(&tree, &pages, at >> 21);
        }
        for place in PLACES {
            compare(&tree, &pages, place);
        }
        while !tree.dismantle_some(0) {}
        let returned = std::mem::take(&mut fake.returned);
        let frames = returned.iter().flat_map(|(first, order)| (0..1 << order).map(|at| first.plus(at)));
        let mut frames: Vec<_> = frames.collect();
        frames.sort();
        let mut expected: Vec<_> = pages.values().map(|found| found.0).collect();
        expected.sort();
        prop_assert_eq!(frames, expected);
        prop_assert_eq!(fake.tables.len(), 1, "the top table");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn dismantling_returns_every_owned_leaf_once_and_all_tables(
        pages in proptest::collection::btree_map(0u64..1 << 24, any::<bool>(), 0..40),
        large in proptest::collection::btree_set(0u64..1 << 10, 0..5),
        at_once in 0u64..5000,
    ) {
        let mut fake = Fake::new(usize::MAX);
        let mut tree = fake.tree();
        tree.map(0xFFFF_A000_0000_0000, FRAME, Attributes::kernel(Rights::Read)).unwrap();
        let mut expected = Vec::new();
        for page in &large {
            let pfn = Pfn((page + 1) << 9);
            // Above everything the small pages use.
            tree.map_large((1 << 40) + (page << 21), pfn, Attributes::owned(Rights::ReadWrite)).unwrap();
            expected.push((pfn, 9));
        }
        for (page, owned) in pages {
            let pfn = Pfn(0x100_0000 + page);
            let attributes = Attributes { owned, ..Attributes::owned(Rights::Read) };
            tree.map(page << 12, pfn, attributes).unwrap();
            if owned {
                expected.push((pfn, 0));
            }
        }
        while !tree.dismantle_some(at_once) {}
        prop_assert!(tree.lookup(0xFFFF_A000_0000_0000).is_some());
        let mut returned = std::mem::take(&mut fake.returned);
        returned.sort();
        expected.sort();
        prop_assert_eq!(returned, expected);
        prop_assert_eq!(fake.tables.len(), 4, "top table and the kernel's three");
    }
}

#[test]
fn dismantling_goes_on_where_it_has_stopped_after_so_many_entries() {
    let mut fake = Fake::new(usize::MAX);
    let mut tree = fake.tree();
    let pages = 4 * ENTRIES as u64;
    for page in 0..pages {
        let attributes = Attributes::owned(Rights::ReadWrite);
        tree.map(page << 12, Pfn(page + 8), attributes).unwrap();
    }
    let mut before = 0;
    while !tree.dismantle_some(600) {
        let done = tree.memory.returned.len();
        assert!(
            (before + 1..=before + 600).contains(&done),
            "{before} {done}"
        );
        let next = done as u64;
        assert!(tree.lookup((next - 1) << 12).is_none());
        assert!(tree.lookup(next << 12).is_some() || next.is_multiple_of(512));
        before = done;
    }
    assert!(before >= 3 * 300);
    assert_eq!(fake.returned.len() as u64, pages);
    assert_eq!(fake.tables.len(), 1);
}
