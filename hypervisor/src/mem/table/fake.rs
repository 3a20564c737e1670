//! Fake memory that remembers every write, and a hardware walker that knows nothing of the code under test.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use super::{FrameSource, Leaf, LeafSize, TableMemory};
use crate::mem::addr::{Spa, Spfn};
use crate::mem::page_box::Frame;

const FRAMES: usize = 96;

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
    pub fn touch(&self, root: Spfn, page: u64, write: bool) -> bool {
        let words: Vec<u64> = self.words.iter().map(Cell::get).collect();
        let Some((index, _)) =
            leaf_word(&words, root, page).filter(|&(_, raw)| !write || raw & 2 != 0)
        else {
            return false;
        };
        let word = &self.words[index];
        word.set(word.get() | 0x20 | if write { 0x40 } else { 0 });
        true
    }

    /// Frames of all tables that the root leads to.
    pub fn tables(&self, root: Spfn) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        self.collect(root.0, 4, &mut found);
        found
    }

    fn collect(&self, table: u64, level: u8, found: &mut BTreeSet<u64>) {
        assert!(found.insert(table), "two entries lead to table {table}");
        for word in self
            .words
            .iter()
            .skip(table as usize * 512)
            .take(512)
            .map(Cell::get)
        {
            if level > 1 && word & 1 != 0 && word & 0x80 == 0 {
                self.collect(address(word), level - 1, found);
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

fn leaf_word(words: &[u64], root: Spfn, page: u64) -> Option<(usize, u64)> {
    let mut table = root.0;
    for level in [3, 2, 1, 0] {
        let index = (table * 512 + (page >> (9 * level) & 511)) as usize;
        let word = words[index];
        if word & 1 == 0 {
            return None;
        }
        if level == 0 || word & 0x80 != 0 {
            assert_ne!(level, 3, "no leaves at level 4");
            return Some((index, word));
        }
        table = address(word);
    }
    None
}

/// Translates a page as the processor does.
pub fn walk(words: &[u64], root: Spfn, page: u64) -> Seen {
    let (index, word) = leaf_word(words, root, page)?;
    // The size follows from where the walk ended; walk again to know.
    let mut table = root.0;
    let mut covered = 1u64 << 27;
    while (table * 512 + (page / covered % 512)) as usize != index {
        table = address(words[(table * 512 + (page / covered % 512)) as usize]);
        covered >>= 9;
    }
    let low = if covered > 1 {
        !(covered - 1)
    } else {
        u64::MAX
    };
    Some((
        (address(word) & low) + page % covered,
        word & 2 != 0,
        word >> 63 == 0,
    ))
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
