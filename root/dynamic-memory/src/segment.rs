//! The states of the pages of one piece of RAM, two bits each.

use alloc::vec;
use alloc::vec::Vec;

use crate::run::PageRun;

/// What a page of the guest's RAM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageState {
    /// Machine memory is behind it, and it is the guest's.
    Backed,
    /// The guest has given it back, and it has been taken.
    Ballooned,
    /// The guest has given it back, but something passing still uses it: machine memory is behind it until that ends.
    Withheld,
    /// A former instance of the guest's driver has given it back, and the present one does not know of it (sheet 2.5).
    Lost,
}

impl PageState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Backed, Self::Ballooned, Self::Withheld, Self::Lost];

    /// Whether machine memory is behind it.
    pub const fn is_backed(self) -> bool {
        matches!(self, Self::Backed | Self::Withheld)
    }

    /// Its bits in both planes. [`Segment::forget`] stands on this choice.
    const fn bits(self) -> (bool, bool) {
        match self {
            Self::Backed => (false, false),
            Self::Ballooned => (true, false),
            Self::Withheld => (false, true),
            Self::Lost => (true, true),
        }
    }

    const fn from_bits(low: bool, high: bool) -> Self {
        match (low, high) {
            (false, false) => Self::Backed,
            (true, false) => Self::Ballooned,
            (false, true) => Self::Withheld,
            (true, true) => Self::Lost,
        }
    }
}

/// One bit of 64 pages' states, and the other bit.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    low: u64,
    high: u64,
}

impl Word {
    /// A bit for each page whose state it is.
    const fn equal(self, state: PageState) -> u64 {
        let (low, high) = state.bits();
        let low = if low { self.low } else { !self.low };
        let high = if high { self.high } else { !self.high };
        low & high
    }

    const fn state(self, bit: u32) -> PageState {
        PageState::from_bits(self.low >> bit & 1 != 0, self.high >> bit & 1 != 0)
    }

    fn set(&mut self, mask: u64, state: PageState) {
        let (low, high) = state.bits();
        self.low = if low {
            self.low | mask
        } else {
            self.low & !mask
        };
        self.high = if high {
            self.high | mask
        } else {
            self.high & !mask
        };
    }
}

/// RAM without a hole: 64 KiB of bits for each GiB, whatever the guest does.
#[derive(Debug)]
pub(crate) struct Segment {
    run: PageRun,
    /// It came by hot-add, and goes with a reset.
    hot_added: bool,
    words: Vec<Word>,
}

/// The word that a page of a segment is in, and its bit.
fn place(index: u64) -> (usize, u32) {
    let bit = u32::try_from(index % 64).unwrap_or(0);
    (usize::try_from(index / 64).unwrap_or(usize::MAX), bit)
}

fn words_for(pages: u64) -> usize {
    usize::try_from(pages.div_ceil(64)).unwrap_or(usize::MAX)
}

impl Segment {
    /// RAM that is backed.
    pub(crate) fn new(run: PageRun, hot_added: bool) -> Self {
        let words = vec![Word::default(); words_for(run.count)];
        Self {
            run,
            hot_added,
            words,
        }
    }

    pub(crate) fn run(&self) -> PageRun {
        self.run
    }

    pub(crate) fn is_hot_added(&self) -> bool {
        self.hot_added
    }

    /// More RAM behind it, backed.
    pub(crate) fn extend(&mut self, count: u64) {
        self.run.count = self.run.count.saturating_add(count);
        self.words
            .resize(words_for(self.run.count), Word::default());
    }

    /// The state of `page`, and how many pages from there on have it, at most `most`. `None` outside.
    pub(crate) fn leading(&self, page: u64, most: u64) -> Option<(PageState, u64)> {
        if !self.run.contains(page) {
            return None;
        }
        let from = page.checked_sub(self.run.start)?;
        let limit = from.saturating_add(most).min(self.run.count);
        let (mut word, bit) = place(from);
        let state = self.words.get(word)?.state(bit);
        let mut at = from;
        while at < limit {
            let (_, bit) = place(at);
            let equal = self.words.get(word)?.equal(state) >> bit;
            let same = u64::from(equal.trailing_ones());
            at = at.saturating_add(same);
            if same < 64_u64.saturating_sub(bit.into()) {
                break;
            }
            word = word.saturating_add(1);
        }
        Some((state, at.min(limit).saturating_sub(from)))
    }

    /// Gives pages a state. What is outside is left out.
    pub(crate) fn set(&mut self, run: PageRun, state: PageState) {
        let from = run.start.saturating_sub(self.run.start);
        let end = run.end().min(self.run.end()).saturating_sub(self.run.start);
        let mut at = from;
        while at < end {
            let (word, bit) = place(at);
            let count = (64_u64.saturating_sub(bit.into())).min(end.saturating_sub(at));
            let ones = u64::MAX >> 64_u64.saturating_sub(count).min(63);
            if let Some(word) = self.words.get_mut(word) {
                word.set(ones << bit, state);
            }
            at = at.saturating_add(count);
        }
    }

    /// The driver that gave pages back is gone: what is ballooned is lost, what is withheld is the guest's again.
    pub(crate) fn forget(&mut self) {
        for word in &mut self.words {
            word.high = word.low;
        }
    }
}
