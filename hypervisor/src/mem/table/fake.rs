//! Fake memory that remembers every write, and a hardware walker that knows nothing of the code under test.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use super::{Format, FrameSource, Leaf, LeafSize, TableMemory};
use crate::mem::addr::{Spa, Spfn};
use crate::mem::format::{Ept, EptFeatures, Host, Npt, Pat};
use crate::mem::page_box::Frame;

const FRAMES: usize = 96;

/// A format, and what its processor makes of an entry: the manual's bits once more.
pub trait Hardware: Format {
    /// The first page that a table of [`Self::sample`] does not cover.
    const LIMIT: u64;
    /// The bit of a leaf that was used, and of one that was written.
    const MARKS: (u64, u64);

    /// Tables of a processor with 40 bits of physical address.
    fn sample(max_leaf: LeafSize) -> Self;

    /// The processor goes on at this entry, or ends there.
    fn present(word: u64) -> bool;

    /// A leaf may be executed.
    fn executable(word: u64) -> bool;

    /// A present entry is one that the processor accepts, and one of a table narrows nothing.
    fn accepts(word: u64, level: u8) -> bool;
}

/// Address bits above 40.
const TOO_WIDE: u64 = 0x000F_FF00_0000_0000;
const LARGE: u64 = 1 << 7;

fn leads_on(word: u64, level: u8) -> bool {
    level > 1 && word & LARGE == 0
}

macro_rules! long_mode {
    ($format:ty, $limit:expr, $sample:expr, $table:literal) => {
        impl Hardware for $format {
            const LIMIT: u64 = $limit;
            const MARKS: (u64, u64) = (1 << 5, 1 << 6);

            fn sample(max_leaf: LeafSize) -> Self {
                $sample(max_leaf)
            }

            fn present(word: u64) -> bool {
                word & 1 != 0
            }

            fn executable(word: u64) -> bool {
                word >> 63 == 0
            }

            fn accepts(word: u64, level: u8) -> bool {
                let rights = !leads_on(word, level) || word & (7 | 1 << 63) == $table;
                rights && word & TOO_WIDE == 0 && (level < 4 || word & LARGE == 0)
            }
        }
    };
}

long_mode!(
    Npt,
    1 << 28,
    |max_leaf| Npt::new(40, 40, Pat::PARTITA, max_leaf),
    7
);
long_mode!(
    Host,
    1 << 35,
    |max_leaf| Host::new(40, Pat::PARTITA, max_leaf),
    7
);

impl Hardware for Ept {
    const LIMIT: u64 = 1 << 28;
    const MARKS: (u64, u64) = (1 << 8, 1 << 9);

    fn sample(max_leaf: LeafSize) -> Self {
        let features = EptFeatures {
            max_leaf,
            execute_only: false,
            access_bits: true,
            large_code: true,
            guest_pat: true,
        };
        Self::new(40, 40, features)
    }

    fn present(word: u64) -> bool {
        word & 7 != 0
    }

    fn executable(word: u64) -> bool {
        word & 4 != 0
    }

    /// Anything else is an EPT misconfiguration.
    fn accepts(word: u64, level: u8) -> bool {
        let rights = word & 1 != 0 && word & TOO_WIDE == 0;
        rights
            && if leads_on(word, level) {
                word & 0xFF == 7
            } else {
                level < 4 && matches!(word >> 3 & 7, 0 | 1 | 4 | 5 | 6)
            }
    }
}

/// Makes a test of each function for each format.
macro_rules! for_each_format {
    ($($test:ident)+) => {
        mod npt { $(#[test] fn $test() { super::$test::<crate::mem::format::Npt>(); })+ }
        mod ept { $(#[test] fn $test() { super::$test::<crate::mem::format::Ept>(); })+ }
        mod host { $(#[test] fn $test() { super::$test::<crate::mem::format::Host>(); })+ }
    };
}
pub(super) use for_each_format;

/// Table memory: frames 0 to 95.
pub struct FakeMemory {
    words: Vec<Cell<u64>>,
    log: RefCell<Vec<(u64, u64)>>,
}

/// What the processor makes of a page: frame, writable, executable.
pub type Seen = Option<(u64, bool, bool)>;

impl FakeMemory {
    pub fn new() -> Self {
        // Not zeros: a table that is linked before it was cleared shows.
        Self {
            words: vec![Cell::new(0x0DDF_00D7); FRAMES * 512],
            log: RefCell::default(),
        }
    }

    fn word(&self, slot: Spa) -> &Cell<u64> {
        &self.words[slot.0 as usize / 8]
    }

    fn store(&self, slot: Spa, value: u64) {
        self.word(slot).set(value);
        self.log.borrow_mut().push((slot.0 / 8, value));
    }

    /// The contents now; what is written from now on is in the log.
    pub fn snapshot(&self) -> Vec<u64> {
        self.log.borrow_mut().clear();
        self.words.iter().map(Cell::get).collect()
    }

    /// Writes since the snapshot: index of the word, value.
    pub fn log(&self) -> Vec<(u64, u64)> {
        self.log.borrow().clone()
    }

    /// The processor uses a page: sets the accessed and dirty bits of its leaf.
    pub fn touch<F: Hardware>(&self, root: Spfn, page: u64, write: bool) -> bool {
        let words: Vec<u64> = self.words.iter().map(Cell::get).collect();
        let Some((index, _, _)) =
            leaf_word::<F>(&words, root, page).filter(|&(_, raw, _)| !write || raw & 2 != 0)
        else {
            return false;
        };
        let (accessed, dirty) = F::MARKS;
        let word = &self.words[index];
        word.set(word.get() | accessed | if write { dirty } else { 0 });
        true
    }

    /// Frames of all tables that the root leads to.
    pub fn tables<F: Hardware>(&self, root: Spfn) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        self.collect::<F>(root.0, 4, &mut found);
        found
    }

    fn collect<F: Hardware>(&self, table: u64, level: u8, found: &mut BTreeSet<u64>) {
        assert!(found.insert(table), "two entries lead to table {table}");
        for word in self
            .words
            .iter()
            .skip(table as usize * 512)
            .take(512)
            .map(Cell::get)
        {
            if F::present(word) && leads_on(word, level) {
                self.collect::<F>(address(word), level - 1, found);
            }
        }
    }
}

impl TableMemory for &FakeMemory {
    fn read(self, slot: Spa) -> u64 {
        self.word(slot).get()
    }

    fn write(self, slot: Spa, entry: u64) {
        self.store(slot, entry);
    }

    fn compare_exchange(self, slot: Spa, old: u64, new: u64) -> u64 {
        let found = self.word(slot).get();
        if found == old {
            self.store(slot, new);
        }
        found
    }

    fn zero(self, table: Spfn) {
        (0..512).for_each(|index| self.store(Spa(table.address().0 + 8 * index), 0));
    }
}

fn address(word: u64) -> u64 {
    (word & 0x000F_FFFF_FFFF_F000) >> 12
}

/// Index and contents of the entry where the walk for a page ends, and the pages that it covers.
fn leaf_word<F: Hardware>(words: &[u64], root: Spfn, page: u64) -> Option<(usize, u64, u64)> {
    let mut table = root.0;
    for level in [4, 3, 2, 1] {
        let covered = 1 << (9 * (level - 1));
        let index = (table * 512 + page / covered % 512) as usize;
        let word = words[index];
        if !F::present(word) {
            return None;
        }
        assert!(F::accepts(word, level), "{word:#x} at level {level}");
        if !leads_on(word, level) {
            return Some((index, word, covered));
        }
        table = address(word);
    }
    None
}

/// Translates a page as the processor does.
pub fn walk<F: Hardware>(words: &[u64], root: Spfn, page: u64) -> Seen {
    let (_, word, covered) = leaf_word::<F>(words, root, page)?;
    let frame = address(word) / covered * covered + page % covered;
    Some((frame, word & 2 != 0, F::executable(word)))
}

/// Frames for tables, as many as `allowance` says.
#[derive(Default)]
pub struct FakeSource {
    next: u64,
    free: Vec<u64>,
    pub allowance: u64,
    pub live: BTreeSet<u64>,
    pub retired: Vec<u64>,
    pub removed: Vec<(LeafSize, Leaf)>,
}

impl FakeSource {
    pub fn new(allowance: u64) -> Self {
        Self {
            allowance,
            ..Self::default()
        }
    }

    /// The shootdown is done: frames may be used again.
    pub fn flush(&mut self) {
        self.free.append(&mut self.retired);
    }

    /// Frames of the removed leaves, page by page, sorted.
    pub fn removed_pages(&mut self) -> Vec<Option<u64>> {
        let pages = |(size, leaf): (LeafSize, Leaf)| {
            (0..size.pages()).map(move |i| leaf.advanced(i).frame.map(|f| f.0))
        };
        let mut frames: Vec<_> = self.removed.drain(..).flat_map(pages).collect();
        frames.sort();
        frames
    }
}

impl FrameSource for FakeSource {
    fn allocate(&mut self) -> Option<Frame> {
        self.allowance = self.allowance.checked_sub(1)?;
        let frame = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        self.live.insert(frame);
        // SAFETY: fake frames, each handed out once.
        Some(unsafe { Frame::from_spfn(Spfn(frame)) })
    }

    fn release(&mut self, frame: Frame) {
        assert!(self.live.remove(&frame.spfn().0), "released twice");
        self.retired.push(frame.into_spfn().0);
    }

    fn removed(&mut self, size: LeafSize, leaf: Leaf) {
        self.removed.push((size, leaf));
    }
}
