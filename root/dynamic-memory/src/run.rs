//! Pages one after the other.

/// Guest pages that follow each other: numbers of 4 KiB pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageRun {
    /// The first page's number.
    pub start: u64,
    /// How many.
    pub count: u64,
}

impl PageRun {
    /// Pages from `start` on.
    pub const fn new(start: u64, count: u64) -> Self {
        Self { start, count }
    }

    /// The page behind the last one.
    pub const fn end(self) -> u64 {
        self.start.saturating_add(self.count)
    }

    /// Whether there is no page in it.
    pub const fn is_empty(self) -> bool {
        self.count == 0
    }

    /// Whether that page is one of them.
    pub const fn contains(self, page: u64) -> bool {
        self.start <= page && page < self.end()
    }

    /// Whether any page is in both.
    pub const fn overlaps(self, other: Self) -> bool {
        !self.is_empty()
            && !other.is_empty()
            && self.start < other.end()
            && other.start < self.end()
    }

    /// The first pages, at most `count`, and what is left behind them.
    pub fn split(self, count: u64) -> (Self, Self) {
        let first = count.min(self.count);
        let rest = Self::new(
            self.start.saturating_add(first),
            self.count.saturating_sub(first),
        );
        (Self::new(self.start, first), rest)
    }
}
