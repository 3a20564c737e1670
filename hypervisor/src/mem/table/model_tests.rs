//! The walker against a map of single pages, for random sequences. After every single write of an operation, each page
//! must have its old or its new translation: updates are atomic.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::fake::{FakeMemory, FakeSource, Hardware, Seen, walk};
use super::*;
use crate::mem::format::{Ept, Host, Npt, Rights};

const GIB: u64 = 512 * 512;

#[derive(Clone, Debug)]
enum Step {
    /// First page, pages, difference to the frame, rights, largest leaf, frames for tables.
    Map(u64, u64, u64, Rights, LeafSize, u64),
    NoAccess(u64, u64, u64),
    Unmap(u64, u64, u64),
    Protect(u64, u64, Rights, u64),
    Split(u64, u64, u64),
    Touch(u64, bool),
}

fn first() -> impl Strategy<Value = u64> {
    let region = prop::sample::select(vec![0, 512, 1024, GIB - 512, GIB]);
    (region, prop::sample::select(vec![0, 0, 0, 1, 5, 511]))
        .prop_map(|(region, offset)| region + offset)
}

fn count() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![1, 1, 2, 3, 511, 512, 512, 513, 1024])
}

fn steps() -> impl Strategy<Value = Step> {
    let rights = || prop::sample::select(vec![Rights::READ, Rights::RW, Rights::RX, Rights::RWX]);
    let size = prop::sample::select(vec![LeafSize::Size4K, LeafSize::Size2M, LeafSize::Size1G]);
    let shift = prop::sample::select(vec![4096, 4096, 4096, 4097, 8192]);
    let frames = || prop_oneof![3 => Just(9u64), 1 => 0..4u64];
    prop_oneof![
        4 => (first(), count(), shift, rights(), size, frames()).prop_map(|(p, n, d, r, s, f)| Step::Map(p, n, d, r, s, f)),
        1 => (first(), count(), frames()).prop_map(|(p, n, f)| Step::NoAccess(p, n, f)),
        2 => (first(), count(), frames()).prop_map(|(p, n, f)| Step::Unmap(p, n, f)),
        2 => (first(), count(), prop_oneof![rights(), Just(Rights::empty())], frames())
            .prop_map(|(p, n, r, f)| Step::Protect(p, n, r, f)),
        1 => (first(), count(), frames()).prop_map(|(p, n, f)| Step::Split(p, n, f)),
        2 => (first(), any::<bool>()).prop_map(|(p, w)| Step::Touch(p, w)),
    ]
}

/// A page of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Page {
    frame: Option<u64>,
    rights: Rights,
    /// Written since it was mapped: must be reported.
    dirty: bool,
}

struct World<'m, F> {
    memory: &'m FakeMemory,
    source: FakeSource,
    table: PageTable<F, &'m FakeMemory>,
    model: BTreeMap<u64, Page>,
}

impl<'m, F: Hardware> World<'m, F> {
    fn new(memory: &'m FakeMemory) -> Self {
        let mut source = FakeSource::new(1);
        let format = F::sample(LeafSize::Size1G);
        let table = PageTable::new(format, memory, &mut source).unwrap();
        Self {
            memory,
            source,
            table,
            model: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        let before = self.memory.snapshot();
        let (source, table) = (&mut self.source, &mut self.table);
        match *step {
            Step::Map(first, pages, shift, rights, size, frames) => {
                source.allowance = frames;
                let leaf = Leaf::new(Spfn(first + shift), rights);
                let done = completed(
                    table.map(source, F::Page::from_number(first), pages, leaf, size),
                    pages,
                );
                let new = |page| Page {
                    frame: Some(page + shift),
                    rights,
                    dirty: false,
                };
                self.replaced(first..first + done, |page| Some(new(page)));
            }
            Step::NoAccess(first, pages, frames) => {
                source.allowance = frames;
                let result = table.map(
                    source,
                    F::Page::from_number(first),
                    pages,
                    Leaf::NO_ACCESS,
                    LeafSize::Size1G,
                );
                let new = Page {
                    frame: None,
                    rights: Rights::empty(),
                    dirty: false,
                };
                self.replaced(first..first + completed(result, pages), |_| Some(new));
            }
            Step::Unmap(first, pages, frames) => {
                source.allowance = frames;
                let done = completed(
                    table.unmap(source, F::Page::from_number(first), pages),
                    pages,
                );
                self.replaced(first..first + done, |_| None);
            }
            Step::Protect(first, pages, rights, frames) => {
                source.allowance = frames;
                let done = completed(
                    table.protect(source, F::Page::from_number(first), pages, rights),
                    pages,
                );
                for (_, page) in self
                    .model
                    .range_mut(first..first + done)
                    .filter(|(_, page)| page.frame.is_some())
                {
                    page.rights = rights;
                }
            }
            Step::Split(first, pages, frames) => {
                source.allowance = frames;
                completed(
                    table.split_range(source, F::Page::from_number(first), pages, LeafSize::Size4K),
                    pages,
                );
            }
            Step::Touch(first, write) => {
                let needed = if write { Rights::RW } else { Rights::READ };
                let page = self
                    .model
                    .get_mut(&first)
                    .filter(|page| page.rights.contains(needed));
                assert_eq!(
                    self.memory.touch::<F>(table.root(), first, write),
                    page.is_some()
                );
                if let Some(page) = page {
                    page.dirty |= write;
                }
            }
        }
        self.check_writes(before);
        self.check_pages();
        assert_eq!(self.memory.tables::<F>(self.table.root()), self.source.live);
        assert_eq!(self.source.removed_pages(), []);
        self.source.flush();
    }

    /// Puts new pages into the model; what was there before must have been reported.
    fn replaced(&mut self, range: core::ops::Range<u64>, new: impl Fn(u64) -> Option<Page>) {
        let mut expected = Vec::new();
        for page in range {
            let old = match new(page) {
                Some(new) => self.model.insert(page, new),
                None => self.model.remove(&page),
            };
            expected.extend(old.map(|old| old.frame));
        }
        expected.sort();
        assert_eq!(self.source.removed_pages(), expected);
    }

    /// Replays the writes one by one.
    fn check_writes(&self, mut words: Vec<u64>) {
        let root = self.table.root();
        let log = self.memory.log();
        let mut after = words.clone();
        log.iter()
            .for_each(|&(index, value)| after[index as usize] = value);
        let probes: Vec<(u64, Seen, Seen)> =
            [0, 512, 1024, 1536, GIB - 512, GIB, GIB + 512, GIB + 1024]
                .iter()
                .flat_map(|&region| [0, 1, 2, 4, 5, 6, 7, 300, 511].map(|offset| region + offset))
                .map(|page| {
                    (
                        page,
                        walk::<F>(&words, root, page),
                        walk::<F>(&after, root, page),
                    )
                })
                .collect();
        let mut reachable: BTreeSet<u64> = tables_of::<F>(&words, root);
        for (index, value) in log {
            words[index as usize] = value;
            // Writes to a table that no entry leads to change nothing.
            if !reachable.contains(&(index / 512)) {
                continue;
            }
            reachable = tables_of::<F>(&words, root);
            for &(page, old, new) in &probes {
                let seen = walk::<F>(&words, root, page);
                assert!(
                    seen == old || seen == new,
                    "page {page:#x}: {old:?}, then {seen:?}, then {new:?}"
                );
            }
        }
    }

    fn check_pages(&self) {
        for page in (0..2560).chain(GIB - 512..GIB + 1600) {
            let found = self.table.query(F::Page::from_number(page));
            match (self.model.get(&page), found) {
                (None, None) => {}
                (Some(model), Some(found)) => {
                    assert_eq!(
                        found
                            .frame_of(F::Page::from_number(page))
                            .map(|frame| frame.0),
                        model.frame
                    );
                    assert_eq!(found.leaf.rights, model.rights, "page {page:#x}");
                    assert!(
                        found.leaf.dirty || !model.dirty,
                        "page {page:#x} lost its dirty bit"
                    );
                }
                (model, found) => panic!("page {page:#x}: model {model:?}, found {found:?}"),
            }
        }
        let leaves = || self.table.leaves(F::Page::from_number(0), 2 * GIB);
        let listed: u64 = leaves().map(|found| found.size.pages()).sum();
        assert_eq!(listed, self.model.len() as u64);
        for size in [LeafSize::Size4K, LeafSize::Size2M, LeafSize::Size1G] {
            let listed = leaves().filter(|found| found.size == size).count();
            assert_eq!(self.table.counts().of(size), listed as u64, "{size:?}");
        }
    }
}

fn tables_of<F: Hardware>(words: &[u64], root: Spfn) -> BTreeSet<u64> {
    let mut found = BTreeSet::from([root.0]);
    let mut layer = vec![root.0];
    for _ in 1..4 {
        let entries = layer
            .iter()
            .flat_map(|&table| &words[table as usize * 512..][..512]);
        layer = entries
            .filter(|&&word| F::present(word) && word & 0x80 == 0)
            .map(|word| (word & 0x000F_FFFF_FFFF_F000) >> 12)
            .collect();
        found.extend(&layer);
    }
    found
}

fn completed(result: Result<(), Stopped>, pages: u64) -> u64 {
    match result {
        Ok(()) => pages,
        Err(Stopped { done, error }) => {
            assert_eq!(error, TableError::NoMemory);
            assert!(done < pages);
            done
        }
    }
}

fn run<F: Hardware>(sequence: &[Step], budget: u64) -> Result<(), TestCaseError> {
    let memory = FakeMemory::new();
    let mut world = World::<F>::new(&memory);
    for step in sequence {
        world.step(step);
    }
    let mut expected: Vec<_> = world.model.values().map(|page| page.frame).collect();
    expected.sort();
    let (mut table, mut source) = (world.table, world.source);
    if budget.is_multiple_of(2) {
        table
            .unmap(&mut source, F::Page::from_number(0), 4 * GIB)
            .unwrap();
        prop_assert_eq!(source.live.len(), 1, "tables that are empty go");
    }
    while !table.free_some(&mut source, budget) {}
    table.release_root(&mut source);
    prop_assert_eq!(source.removed_pages(), expected);
    prop_assert!(source.live.is_empty());
    Ok(())
}

macro_rules! updates_are_atomic_and_give_what_was_asked_for {
    ($($name:ident: $format:ty;)+) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(64))]
            $(#[test]
            fn $name(sequence in prop::collection::vec(steps(), 1..24), budget in 1..2000u64) {
                run::<$format>(&sequence, budget)?;
            })+
        }
    };
}

updates_are_atomic_and_give_what_was_asked_for! {
    in_nested_tables: Npt;
    in_extended_tables: Ept;
    in_host_tables: Host;
}
