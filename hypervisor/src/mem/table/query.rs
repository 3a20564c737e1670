//! Looking translations up.

use super::map::size_at;
use super::{
    Entry, Format, Leaf, LeafSize, PageTable, ROOT_LEVEL, TableMemory, level_pages, next_entry,
    slot_of,
};
use crate::mem::addr::{PageNumber, Spa, Spfn};

/// A leaf and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<P> {
    /// First page that it translates.
    pub first: P,
    /// Its size.
    pub size: LeafSize,
    /// The leaf.
    pub leaf: Leaf,
}

impl<P: PageNumber> Found<P> {
    /// The frame of one of its pages, if there is one.
    pub fn frame_of(&self, page: P) -> Option<Spfn> {
        let offset = page.number().checked_sub(self.first.number())?;
        (offset < self.size.pages()).then_some(self.leaf.advanced(offset).frame)?
    }
}

impl<F: Format, M: TableMemory> PageTable<F, M> {
    /// The leaf that translates a page. None: not mapped (a page without access is mapped, its leaf has no rights).
    pub fn query(&self, page: F::Page) -> Option<Found<F::Page>> {
        self.end_of(page, 1).ok()?;
        let (_, level, Entry::Leaf(leaf)) = self.descend(page.number()) else {
            return None;
        };
        let first = page.number() / level_pages(level) * level_pages(level);
        Some(Found {
            first: F::Page::from_number(first),
            size: size_at(level),
            leaf,
        })
    }

    /// Whether the tables can translate a page.
    pub fn covers(&self, page: F::Page) -> bool {
        self.end_of(page, 1).is_ok()
    }

    /// The first leaf that translates a page of `first` to `first + pages`. It may begin before and end after them.
    pub fn next(&self, first: F::Page, pages: u64) -> Option<Found<F::Page>> {
        let end = self.end_of(first, pages).ok()?;
        let mut page = first.number();
        while page < end {
            match self.descend(page) {
                (_, level, Entry::Leaf(leaf)) => {
                    let first = page / level_pages(level) * level_pages(level);
                    return Some(Found {
                        first: F::Page::from_number(first),
                        size: size_at(level),
                        leaf,
                    });
                }
                (_, level, _) => page = next_entry(page, level),
            }
        }
        None
    }

    /// The leaves of a range, in ascending order.
    pub fn leaves(&self, first: F::Page, pages: u64) -> Leaves<'_, F, M> {
        Leaves {
            table: self,
            page: first.number(),
            pages,
        }
    }

    /// The entry where the walk for a page ends.
    fn descend(&self, page: u64) -> (Spa, u8, Entry) {
        let (mut table, mut level) = (self.root, ROOT_LEVEL);
        loop {
            let slot = slot_of(table, page, level);
            match self.read(slot, level) {
                Entry::Table(next) if level > 1 => (table, level) = (next, level - 1),
                entry => return (slot, level, entry),
            }
        }
    }
}

/// Iterator over the leaves of a range.
pub struct Leaves<'t, F, M> {
    table: &'t PageTable<F, M>,
    page: u64,
    pages: u64,
}

impl<F: Format, M: TableMemory> Iterator for Leaves<'_, F, M> {
    type Item = Found<F::Page>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self
            .table
            .next(F::Page::from_number(self.page), self.pages)?;
        let end = self.page + self.pages;
        self.page = (found.first.number() + found.size.pages()).min(end);
        self.pages = end - self.page;
        Some(found)
    }
}
