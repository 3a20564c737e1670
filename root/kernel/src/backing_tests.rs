//! Guest memory that comes and goes, on a fake hypervisor, with real page tables and the real allocator.

use std::collections::{BTreeMap, BTreeSet};

use boot_archive::start_info::{MemoryMapEntry, kind};
use proptest::prelude::*;
use tlfs::HvStatus;

use super::*;
use crate::frames::{Frames, Home, Layout, Nodes, Record};
use crate::guest_memory::GuestRange;
use crate::hv::Partition;
use crate::hv::fake::Fake;
use crate::paging::ENTRIES;
use crate::srat::MemoryRange;

const RESERVE: u64 = 64;
const PAGES: u64 = 3 * 512 + 100;
const ADDRESS: u64 = 0x2000_0020_0000;

fn slot() -> Slot {
    Slot::new(5).unwrap()
}

fn owner(class: Class) -> Owner {
    Owner::new(slot(), class)
}

fn range() -> GuestRange {
    let flags = HvMapGpaFlags::READABLE | HvMapGpaFlags::WRITABLE;
    GuestRange {
        address: ADDRESS,
        ..GuestRange::new(1024, PAGES, flags).unwrap()
    }
}

/// RAM that knows what is in it, and a processor that remembers every translation until it is told to forget.
#[derive(Default)]
struct Model {
    tables: BTreeMap<Pfn, Vec<u64>>,
    /// Frames that somebody has had since they were zeroed.
    used: BTreeSet<Pfn>,
    /// Entries that were present and have changed since the last flush.
    stale: bool,
}

impl Ram for Model {
    fn read(&self, table: Pfn, index: usize) -> u64 {
        self.tables[&table][index]
    }
    fn write(&mut self, table: Pfn, index: usize, entry: u64) {
        let place = &mut self.tables.get_mut(&table).unwrap()[index];
        let old = std::mem::replace(place, entry);
        self.stale |= old & 1 != 0;
    }
    fn zero(&mut self, first: Pfn, count: u64) {
        assert!(!self.stale, "a frame gets a new owner before a flush");
        for at in 0..count {
            self.used.remove(&first.plus(at));
        }
        if count == 1 {
            self.tables.insert(first, vec![0; ENTRIES]);
        }
    }
}

impl Machine for Model {
    fn flush(&mut self) {
        self.stale = false;
    }
}

/// A guest with memory, and what it should look like.
struct World<'t> {
    fake: Fake,
    frames: Frames<'t>,
    model: Model,
    partition: Partition,
    root: Pfn,
    /// Guest page: frame.
    expected: BTreeMap<u64, Pfn>,
    /// The same for what could not be undone after a failure: the guest may have it or not.
    stuck: BTreeMap<u64, Pfn>,
    free_before: u64,
}

fn with_world(frames: u64, body: impl FnOnce(&mut World<'_>)) {
    let map = [MemoryMapEntry {
        addr: 0x20_0000,
        size: frames * 4096,
        kind: kind::RAM,
        reserved: 0,
    }];
    let layout = Layout::new(&map, &[]);
    let mut table = vec![Record::HOLE; layout.frames() as usize];
    let mut frames = Frames::new(&mut table, &layout);
    let free_before = frames.free();
    let mut fake = Fake::new();
    let mut hv = Hv {
        calls: &mut fake,
        frames: &mut frames,
    };
    let mut partition = Partition::create(&mut hv, slot(), 0, 0).unwrap();
    partition.initialize(&mut hv).unwrap();
    let root = frames.allocate(0, owner(Class::PageTable)).unwrap();
    let mut model = Model::default();
    model.zero(root, 1);
    let mut world = World {
        fake,
        frames,
        model,
        partition,
        root,
        expected: BTreeMap::new(),
        stuck: BTreeMap::new(),
        free_before,
    };
    body(&mut world);
    world.end();
}

impl World<'_> {
    fn backing<R>(&mut self, work: impl FnOnce(&mut Backing<'_, '_, Model>) -> R) -> R {
        work(&mut Backing {
            hv: Hv {
                calls: &mut self.fake,
                frames: &mut self.frames,
            },
            machine: &mut self.model,
            partition: self.partition.id(),
            slot: slot(),
            root: self.root,
        })
    }

    /// As the system call: pieces until one is not done.
    fn each(
        &mut self,
        first: u64,
        pages: u64,
        work: impl Fn(&mut Backing<'_, '_, Model>, &Piece) -> Part,
    ) -> Part {
        let mut done = 0;
        while done < pages {
            let piece = range().piece(first + done, pages - done);
            let part = self.backing(|backing| work(backing, &piece));
            done += part.pages;
            if part.pages < piece.pages {
                return Part {
                    pages: done,
                    ..part
                };
            }
        }
        Part {
            pages: done,
            error: None,
        }
    }

    /// The frame that the process has for a guest page.
    fn mapped(&mut self, gpfn: u64) -> Option<Pfn> {
        let address = range().address_of(gpfn);
        let found = self.backing(|backing| backing.with_tables(|tables| tables.lookup(address)));
        found.map(|found| {
            assert!(found.user && found.writable && found.owned);
            found.pfn
        })
    }

    fn back(&mut self, first: u64, pages: u64) -> Part {
        let flags = range().flags;
        let refusal = self.fake.refuse.is_some();
        let part = self.each(first, pages, |backing, piece| {
            backing.back(piece, flags, RESERVE)
        });
        for gpfn in first..first + part.pages {
            let frame = self.mapped(gpfn).expect("it says that there is memory");
            assert!(self.model.used.insert(frame), "{frame:?} is not zeroed");
            assert_eq!(self.expected.insert(gpfn, frame), None);
        }
        for gpfn in first + part.pages..first + pages {
            if let Some(frame) = self.mapped(gpfn) {
                assert!(
                    refusal && self.fake.refuse.is_none(),
                    "{gpfn} is left behind"
                );
                self.model.used.insert(frame);
                self.stuck.insert(gpfn, frame);
            }
        }
        self.check();
        part
    }

    fn take(&mut self, first: u64, pages: u64) -> Part {
        let part = self.each(first, pages, |backing, piece| backing.take(piece));
        for gpfn in first..first + part.pages {
            let had = self.expected.remove(&gpfn);
            assert!(had.or_else(|| self.stuck.remove(&gpfn)).is_some());
        }
        self.check();
        part
    }

    /// Process, guest and books agree with what was done.
    fn check(&mut self) {
        assert!(!self.model.stale, "a processor may still know something");
        let process: BTreeMap<_, _> = (1024..1024 + PAGES)
            .filter_map(|gpfn| Some((gpfn, self.mapped(gpfn)?)))
            .collect();
        let mut all = self.expected.clone();
        all.extend(&self.stuck);
        assert_eq!(process, all);
        let guest = &self.fake.pool(self.partition.id()).guest;
        let guest: BTreeMap<_, _> = guest.iter().map(|(gpfn, pfn)| (*gpfn, Pfn(*pfn))).collect();
        assert!(
            self.expected
                .iter()
                .all(|page| guest.get(page.0) == Some(page.1))
        );
        assert!(guest.iter().all(|page| process.get(page.0) == Some(page.1)));
        let frames: BTreeSet<_> = process.values().collect();
        assert_eq!(frames.len(), process.len(), "a frame is there twice");
        let of = |class| self.frames.ledger().of(owner(class));
        assert_eq!(of(Class::GuestRam), process.len() as u64);
        for frame in frames {
            assert_eq!(self.frames.owner(*frame), Some(owner(Class::GuestRam)));
        }
        let deposits = self.frames.ledger().class(Class::Deposit);
        assert_eq!(deposits, self.fake.held() as u64);
        let used = of(Class::GuestRam) + of(Class::PageTable) + deposits;
        assert_eq!(
            self.frames.free() + used,
            self.free_before,
            "a frame is nobody's"
        );
    }

    fn end(&mut self) {
        let mut tables = FrameTables {
            ram: &mut self.model,
            frames: &mut self.frames,
            owner: owner(Class::PageTable),
        };
        let teardown = self.partition.destroy(&mut Hv {
            calls: &mut self.fake,
            frames: tables.frames,
        });
        assert_eq!((teardown.error, teardown.gone), (None, true));
        while !Tables::new(self.root, &mut tables).dismantle_some(1000) {}
        tables.free(self.root);
        assert_eq!(self.frames.free(), self.free_before);
    }
}

#[test]
fn memory_comes_in_large_pages_and_zeroed() {
    with_world(8192, |world| {
        assert_eq!(
            world.back(1024, PAGES),
            Part {
                pages: PAGES,
                error: None
            }
        );
        let large = &world.fake.pool(world.partition.id()).large;
        assert!(large.iter().copied().eq([1024, 1536, 2048]));
        assert_eq!(world.take(1024, PAGES).pages, PAGES);
        assert_eq!(world.back(1024, PAGES).pages, PAGES);
        let large = &world.fake.pool(world.partition.id()).large;
        assert_eq!(large.len(), 3);
    });
}

#[test]
fn a_part_of_a_large_page_goes_and_comes_back_as_a_large_page_when_all_of_it_has_gone() {
    with_world(8192, |world| {
        assert_eq!(world.back(1024, PAGES).error, None);
        assert_eq!(world.take(1030, 1).pages, 1);
        assert_eq!(
            world.take(1024, 100).pages,
            6,
            "what has no memory stops it"
        );
        assert_eq!(
            world.take(1031, 600),
            Part {
                pages: 600,
                error: None
            }
        );
        assert_eq!(
            world.back(1024, 512),
            Part {
                pages: 512,
                error: None
            }
        );
        assert!(world.fake.pool(world.partition.id()).large.contains(&1024));
    });
}

#[test]
fn a_split_is_paid_by_a_deposit() {
    with_world(8192, |world| {
        assert_eq!(world.back(1024, 512).error, None);
        let id = world.partition.id();
        let mut hv = Hv {
            calls: &mut world.fake,
            frames: &mut world.frames,
        };
        hv.withdraw(id, slot()).unwrap();
        assert!(world.fake.pool(id).free.is_empty());
        let before = world.fake.pool(id).used.len();
        assert_eq!(
            world.take(1100, 3),
            Part {
                pages: 3,
                error: None
            }
        );
        assert_eq!(world.fake.pool(id).used.len(), before + 1);
    });
}

#[test]
fn the_reserve_stays_free_and_what_is_done_is_told() {
    // Not enough for all of it, and no large page for the rest.
    with_world(1900, |world| {
        let part = world.back(1024, PAGES);
        assert_eq!(
            part.error,
            Some(HvError::NoMemory(HvCallCode::MAP_GPA_PAGES))
        );
        assert!(part.pages > 512 && part.pages < PAGES, "{part:?}");
        // The hypervisor and page tables may take of it.
        assert!(world.frames.free() <= RESERVE);
        assert_eq!(world.back(1024 + part.pages, 1).pages, 0);
        assert_eq!(world.take(1024, part.pages).pages, part.pages);
    });
}

#[test]
fn pages_that_the_guest_does_not_let_go_of_stay_the_processs() {
    with_world(8192, |world| {
        // The hypervisor takes nothing, and lets nothing go.
        world.fake.refuse_all = true;
        let piece = range().piece(1024, 512);
        let flags = range().flags;
        let part = world.backing(|backing| backing.back(&piece, flags, RESERVE));
        assert!(part.pages == 0 && part.error.is_some());
        assert!(world.mapped(1024).is_some());
        world.fake.refuse_all = false;
        let part = world.backing(|backing| backing.take(&piece));
        assert_eq!(
            part,
            Part {
                pages: 512,
                error: None
            }
        );
        world.check();
    });
}

/// Tells two nodes apart, the second of which begins at a frame; the process is at home there.
fn divide(world: &mut World<'_>, border: u64, spanning: bool) -> [Node; 2] {
    let range = |domain, start: u64, end: u64| MemoryRange {
        domain,
        base: start * 4096,
        len: (end - start) * 4096,
    };
    let ranges = [range(0, 0, border), range(1, border, 1 << 20)];
    world.frames.divide(Nodes::new(&ranges));
    let [first, second] = [0, 1].map(|index| Node::new(index).unwrap());
    let node = second;
    world.frames.set_home(
        slot(),
        Home {
            node,
            spanning,
            ..Home::default()
        },
    );
    [first, second]
}

/// Pages of the guest in each of two nodes.
fn spread(world: &World<'_>) -> [u64; 2] {
    let [first, second, ..] = world.frames.ledger().by_node(owner(Class::GuestRam));
    [first, second]
}

#[test]
fn a_guest_that_does_not_span_gets_all_of_its_node_and_no_more() {
    with_world(8192, |world| {
        let [first, second] = divide(world, 8704 - 1300, false);
        let before = world.frames.free_in(first);
        let part = world.back(1024, PAGES);
        // Tables and deposits come from home as well, as long as there is something.
        assert_eq!(spread(world), [0, part.pages]);
        assert!((700..1300).contains(&part.pages), "{part:?}");
        let error = HvError::NoMemory(HvCallCode::MAP_GPA_PAGES);
        assert_eq!(part.error, Some(error));
        assert_eq!(world.frames.free_in(second), 0);
        assert!(before - world.frames.free_in(first) < 300);
        assert_eq!(world.take(1024, part.pages).pages, part.pages);
        // And the tables that are empty then.
        assert!(world.frames.free_in(second) >= part.pages);
    });
}

#[test]
fn a_guest_that_spans_gets_memory_of_its_node_first_and_in_large_pages_from_each() {
    with_world(8192, |world| {
        divide(world, 8704 - 1700, true);
        assert_eq!(world.back(1024, PAGES).pages, PAGES);
        // A piece comes from one node: what is left of the second one is too little for the third large page, not for the
        // rest of 100 pages.
        assert_eq!(spread(world), [512, 2 * 512 + 100]);
        let large = &world.fake.pool(world.partition.id()).large;
        assert!(large.iter().copied().eq([1024, 1536, 2048]));
    });
}

#[test]
fn the_last_pages_of_all_nodes_make_a_piece_if_no_node_has_it_all() {
    with_world(1400, |world| {
        divide(world, 1912 - 400, true);
        let part = world.back(1024, 3 * 512);
        assert!(part.pages > 512, "{part:?}");
        let [first, second] = spread(world);
        assert!(first > 0 && second > 0, "{first} {second}");
        assert!(world.frames.free() <= RESERVE);
    });
}

#[derive(Clone, Debug)]
enum Step {
    Back(u64, u64),
    Take(u64, u64),
    /// The n-th call from now fails.
    Refuse(usize),
    /// The pool is emptied as far as it is not in use.
    Withdraw,
}

fn pages() -> impl Strategy<Value = (u64, u64)> {
    let length = prop_oneof![1u64..4, 1u64..PAGES, Just(512)];
    let start = prop_oneof![0u64..PAGES, (0u64..4).prop_map(|at| at * 512)];
    (start, length).prop_map(|(start, length)| (1024 + start, length.min(PAGES - start)))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => pages().prop_map(|(first, pages)| Step::Back(first, pages)),
        4 => pages().prop_map(|(first, pages)| Step::Take(first, pages)),
        1 => (0usize..8).prop_map(Step::Refuse),
        1 => Just(Step::Withdraw),
    ]
}

impl World<'_> {
    fn step(&mut self, step: Step) {
        let has = |world: &Self, gpfn: &u64| {
            world.expected.contains_key(gpfn) || world.stuck.contains_key(gpfn)
        };
        match step {
            Step::Back(first, pages) => {
                // The system call refuses pages that have memory.
                let bare = (first..first + pages).take_while(|gpfn| !has(self, gpfn));
                let pages = bare.count() as u64;
                let part = self.back(first, pages);
                assert!(part.pages == pages || part.error.is_some());
            }
            Step::Take(first, pages) => {
                let there = (first..first + pages).take_while(|gpfn| has(self, gpfn));
                let there = there.count() as u64;
                let part = self.take(first, pages);
                assert!(
                    part.pages == there || part.error.is_some(),
                    "{part:?} of {there}"
                );
            }
            Step::Refuse(calls) => self.fake.refuse = Some((calls, HvStatus::OPERATION_DENIED)),
            Step::Withdraw => {
                let mut hv = Hv {
                    calls: &mut self.fake,
                    frames: &mut self.frames,
                };
                // It may be refused.
                let _ = hv.withdraw(self.partition.id(), slot());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn process_guest_and_books_agree_whatever_comes_goes_and_fails(
        frames in 900u64..5000, most_reps in 1usize..600, steps in proptest::collection::vec(step(), 1..24),
        border in 0u64..5000, spanning in any::<bool>(),
    ) {
        with_world(frames, |world| {
            divide(world, border, spanning);
            world.fake.most_reps = most_reps;
            for step in steps {
                world.step(step);
                let [first, _] = spread(world);
                assert!(spanning || first == 0, "memory of a node that is not its own");
            }
            world.fake.refuse = None;
        });
    }
}
