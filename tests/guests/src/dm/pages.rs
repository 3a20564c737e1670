//! Pages of a guest: runs of them, and sets.

/// Pages that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Run {
    /// Number of the first.
    pub start: u64,
    /// How many.
    pub count: u64,
}

/// Bits of a page number in a range of a message.
const START_BITS: u32 = 40;

impl Run {
    /// Pages from `start` on.
    pub const fn new(start: u64, count: u64) -> Self {
        Self { start, count }
    }

    /// The page behind the last one.
    pub const fn end(self) -> u64 {
        self.start + self.count
    }

    /// As a message has it; what is too large for that is cut off.
    pub const fn to_bits(self) -> u64 {
        self.start & ((1 << START_BITS) - 1) | self.count << START_BITS
    }

    /// Out of a message.
    pub const fn from_bits(bits: u64) -> Self {
        Self::new(bits & ((1 << START_BITS) - 1), bits >> START_BITS)
    }
}

/// Pages below 4 GiB.
const PAGES: usize = 1 << 20;

/// A set of pages below 4 GiB; others are never in it.
pub struct PageSet {
    words: [u64; PAGES / 64],
    count: u64,
}

impl Default for PageSet {
    fn default() -> Self {
        Self::new()
    }
}

impl PageSet {
    /// No page.
    pub const fn new() -> Self {
        Self {
            words: [0; PAGES / 64],
            count: 0,
        }
    }

    /// How many there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether a page is in it.
    pub fn contains(&self, page: u64) -> bool {
        let word = self.words.get((page / 64) as usize);
        word.is_some_and(|word| word & 1 << (page % 64) != 0)
    }

    /// Whether all pages of a run are.
    pub fn contains_all(&self, run: Run) -> bool {
        (run.start..run.end()).all(|page| self.contains(page))
    }

    /// Puts pages in.
    pub fn insert(&mut self, run: Run) {
        self.change(run, true);
    }

    /// Takes pages out.
    pub fn remove(&mut self, run: Run) {
        self.change(run, false);
    }

    fn change(&mut self, run: Run, into: bool) {
        for page in run.start..run.end().min(PAGES as u64) {
            if self.contains(page) == into {
                continue;
            }
            self.words[(page / 64) as usize] ^= 1 << (page % 64);
            self.count = if into { self.count + 1 } else { self.count - 1 };
        }
    }

    /// The first run at or behind a page, at most `most` pages of it; `None` if there is none.
    pub fn run_from(&self, page: u64, most: u64) -> Option<Run> {
        let start = self.next_from(page)?;
        let run = (start..).take(most as usize);
        let count = run.take_while(|page| self.contains(*page)).count();
        Some(Run::new(start, count as u64))
    }

    /// As [`Self::run_from`], from the first page on again if there is none behind `page`.
    pub fn run_around(&self, page: u64, most: u64) -> Option<Run> {
        self.run_from(page, most).or_else(|| self.run_from(0, most))
    }

    /// Runs of at most `most` pages, from the first page on.
    pub fn runs(&self, most: u64) -> impl Iterator<Item = Run> {
        core::iter::successors(self.run_from(0, most), move |run| {
            self.run_from(run.end(), most)
        })
    }

    fn next_from(&self, page: u64) -> Option<u64> {
        let first = (page / 64) as usize;
        let words = self.words.get(first..)?.iter().zip(first as u64..);
        for (word, at) in words {
            let from = if at == page / 64 { page % 64 } else { 0 };
            let word = word & u64::MAX << from;
            if word != 0 {
                return Some(at * 64 + u64::from(word.trailing_zeros()));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::boxed::Box;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_of_a_message_has_both_numbers() {
        let run = Run::new(0x123456, 512);
        assert_eq!(run.to_bits(), 0x0002_0000_0012_3456);
        assert_eq!(Run::from_bits(run.to_bits()), run);
        assert_eq!(Run::from_bits(u64::MAX), Run::new((1 << 40) - 1, 0xFF_FFFF));
    }

    #[test]
    fn pages_beyond_the_set_are_never_in_it() {
        let mut set = Box::new(PageSet::new());
        set.insert(Run::new(PAGES as u64 - 1, 5));
        assert_eq!(set.count(), 1);
        assert!(!set.contains(PAGES as u64));
        assert_eq!(set.run_from(PAGES as u64, 1), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_set_is_a_set(changes in prop::collection::vec((0_u64..300, 0_u64..80, any::<bool>()), 0..30), from in 0_u64..400) {
            let mut set = Box::new(PageSet::new());
            let mut model = BTreeSet::new();
            for (start, count, into) in changes {
                let run = Run::new(start, count);
                if into {
                    set.insert(run);
                    model.extend(start..run.end());
                } else {
                    set.remove(run);
                    model.retain(|page| !(start..run.end()).contains(page));
                }
            }
            prop_assert_eq!(set.count(), model.len() as u64);
            let all: Vec<u64> = set.runs(7).flat_map(|run| run.start..run.end()).collect();
            prop_assert_eq!(&all, &model.iter().copied().collect::<Vec<_>>());
            prop_assert!(set.runs(7).all(|run| run.count <= 7 && set.contains_all(run)));
            let next = set.run_from(from, 1).map(|run| run.start);
            prop_assert_eq!(next, model.range(from..).next().copied());
            let around = set.run_around(from, 1).map(|run| run.start);
            prop_assert_eq!(around, next.or(model.first().copied()));
        }
    }
}
