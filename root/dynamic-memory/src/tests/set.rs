//! A set of pages that stays quick without optimisation.

/// Page numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    has: Vec<bool>,
    len: usize,
}

impl Pages {
    pub fn contains(&self, page: &u64) -> bool {
        self.has.get(*page as usize).copied().unwrap_or(false)
    }

    pub fn insert(&mut self, page: u64) -> bool {
        let at = page as usize;
        if self.has.len() <= at {
            self.has.resize(at + 4096, false);
        }
        let is_new = !std::mem::replace(&mut self.has[at], true);
        self.len += usize::from(is_new);
        is_new
    }

    pub fn remove(&mut self, page: &u64) -> bool {
        let had = self.has.get_mut(*page as usize).is_some_and(std::mem::take);
        self.len -= usize::from(had);
        had
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn iter(&self) -> impl Iterator<Item = u64> {
        let pages = (0_u64..).zip(&self.has);
        pages.filter_map(|(page, has)| has.then_some(page))
    }

    pub fn first(&self) -> Option<u64> {
        self.has.iter().position(|has| *has).map(|at| at as u64)
    }

    pub fn last(&mut self) -> Option<u64> {
        while self.has.last() == Some(&false) {
            self.has.pop();
        }
        (self.has.len() as u64).checked_sub(1)
    }

    /// Whether all `count` pages from `start` on are in it.
    pub fn has_all(&self, start: u64, count: u64) -> bool {
        let (from, to) = (start as usize, (start + count) as usize);
        self.has
            .get(from..to)
            .is_some_and(|has| has.iter().all(|has| *has))
    }
}

impl Extend<u64> for Pages {
    fn extend<I: IntoIterator<Item = u64>>(&mut self, pages: I) {
        for page in pages {
            self.insert(page);
        }
    }
}

impl FromIterator<u64> for Pages {
    fn from_iter<I: IntoIterator<Item = u64>>(pages: I) -> Self {
        let mut set = Self::default();
        set.extend(pages);
        set
    }
}
