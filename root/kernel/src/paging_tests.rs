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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn dismantling_returns_every_owned_leaf_once_and_all_tables(
        pages in proptest::collection::btree_map(0u64..1 << 24, any::<bool>(), 0..40),
        large in proptest::collection::btree_set(0u64..1 << 10, 0..5),
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
        tree.dismantle();
        prop_assert!(tree.lookup(0xFFFF_A000_0000_0000).is_some());
        let mut returned = std::mem::take(&mut fake.returned);
        returned.sort();
        expected.sort();
        prop_assert_eq!(returned, expected);
        prop_assert_eq!(fake.tables.len(), 4, "top table and the kernel's three");
    }
}
