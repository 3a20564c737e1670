//! The states of the pages of one piece of RAM, two bits each.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

use crate::run::PageRun;

/// What a page of the guest's RAM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageState {
    /// Machine memory is behind it, and it is the guest's.
    Backed,
    /// The guest has given it back, and it has been taken.
    Ballooned,
    /// The guest has given it back, but something passing still uses it, or it could not be taken: machine memory is behind it
    /// until that ends, or works.
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

/// Words of a [`Chunk`]: 16 KiB, for 256 MiB of RAM. Memory that is taken in pieces of one size, and never moved when there is
/// more, cannot be lacking for being in the wrong places.
const CHUNK_WORDS: usize = 1024;
/// Pages of a [`Chunk`].
const CHUNK_PAGES: u64 = 64 * CHUNK_WORDS as u64;

/// A part of a segment's bits: [`CHUNK_WORDS`] words.
#[derive(Debug)]
pub(crate) struct Chunk(Vec<Word>);

impl Chunk {
    /// Bytes of a chunk, and of its place in a list that doubles when it is full.
    pub(crate) const BYTES: u64 = (CHUNK_WORDS * size_of::<Word>() + 3 * size_of::<Self>()) as u64;

    /// Bits of backed pages.
    pub(crate) fn new() -> Result<Self, TryReserveError> {
        let mut words = Vec::new();
        words.try_reserve_exact(CHUNK_WORDS)?;
        words.resize(CHUNK_WORDS, Word::default());
        Ok(Self(words))
    }
}

/// Chunks that so many pages in one segment take.
pub(crate) const fn chunks_for(pages: u64) -> u64 {
    pages.div_ceil(CHUNK_PAGES)
}

/// RAM without a hole: 64 KiB of bits for each GiB, whatever the guest does.
#[derive(Debug)]
pub(crate) struct Segment {
    run: PageRun,
    /// It came by hot-add, and goes with a reset.
    hot_added: bool,
    /// As many as the run takes.
    chunks: Vec<Chunk>,
}

/// The word that a page of a segment is in, and its bit.
fn place(index: u64) -> (usize, u32) {
    let bit = u32::try_from(index % 64).unwrap_or(0);
    (usize::try_from(index / 64).unwrap_or(usize::MAX), bit)
}

impl Segment {
    /// RAM that is backed. `chunks` has enough for it.
    pub(crate) fn new(run: PageRun, hot_added: bool, chunks: &mut Vec<Chunk>) -> Self {
        let mut segment = Self {
            run: PageRun::new(run.start, 0),
            hot_added,
            chunks: Vec::new(),
        };
        segment.extend(run.count, chunks);
        segment
    }

    fn word(&self, word: usize) -> Option<Word> {
        let chunk = self.chunks.get(word / CHUNK_WORDS)?;
        chunk.0.get(word % CHUNK_WORDS).copied()
    }

    fn word_mut(&mut self, word: usize) -> Option<&mut Word> {
        let chunk = self.chunks.get_mut(word / CHUNK_WORDS)?;
        chunk.0.get_mut(word % CHUNK_WORDS)
    }

    /// Chunks that it has.
    #[cfg(test)]
    pub(crate) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Chunks that `count` pages more would take.
    pub(crate) fn chunks_to_extend(&self, count: u64) -> u64 {
        let all = chunks_for(self.run.count.saturating_add(count));
        all.saturating_sub(self.chunks.len() as u64)
    }

    pub(crate) fn run(&self) -> PageRun {
        self.run
    }

    pub(crate) fn is_hot_added(&self) -> bool {
        self.hot_added
    }

    /// More RAM behind it, backed. `chunks` has enough for it.
    pub(crate) fn extend(&mut self, count: u64, chunks: &mut Vec<Chunk>) {
        let wanted = usize::try_from(self.chunks_to_extend(count)).unwrap_or(usize::MAX);
        let left = chunks.len().saturating_sub(wanted);
        self.chunks.extend(chunks.drain(left..));
        self.run.count = self.run.count.saturating_add(count);
    }

    /// The state of `page`, and how many pages from there on have it, at most `most`. `None` outside.
    pub(crate) fn leading(&self, page: u64, most: u64) -> Option<(PageState, u64)> {
        if !self.run.contains(page) {
            return None;
        }
        let from = page.checked_sub(self.run.start)?;
        let limit = from.saturating_add(most).min(self.run.count);
        let (mut word, bit) = place(from);
        let state = self.word(word)?.state(bit);
        let mut at = from;
        while at < limit {
            let (_, bit) = place(at);
            let equal = self.word(word)?.equal(state) >> bit;
            let same = u64::from(equal.trailing_ones());
            at = at.saturating_add(same);
            if same < 64_u64.saturating_sub(bit.into()) {
                break;
            }
            word = word.saturating_add(1);
        }
        Some((state, at.min(limit).saturating_sub(from)))
    }

    /// The first page at or behind `from` that has that state.
    pub(crate) fn find(&self, state: PageState, from: u64) -> Option<u64> {
        let mut at = from.saturating_sub(self.run.start);
        while at < self.run.count {
            let (word, bit) = place(at);
            let equal = self.word(word)?.equal(state) >> bit;
            if equal != 0 {
                at = at.saturating_add(equal.trailing_zeros().into());
                let page = self.run.start.saturating_add(at);
                return self.run.contains(page).then_some(page);
            }
            at = at.saturating_add(64_u64.saturating_sub(bit.into()));
        }
        None
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
            if let Some(word) = self.word_mut(word) {
                word.set(ones << bit, state);
            }
            at = at.saturating_add(count);
        }
    }

    /// The driver that gave pages back is gone: what is ballooned is lost, what is withheld is the guest's again.
    pub(crate) fn forget(&mut self) {
        let words = self.chunks.iter_mut().flat_map(|chunk| &mut chunk.0);
        for word in words {
            word.high = word.low;
        }
    }
}

/// Which of these sorted pieces a page lies in, or the next one behind it.
pub(crate) fn at_or_behind(segments: &[Segment], page: u64) -> usize {
    segments.partition_point(|segment| segment.run().end() <= page)
}
