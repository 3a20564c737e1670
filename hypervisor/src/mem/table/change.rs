//! Removing translations and changing their rights: one traversal.

use super::map::size_at;
use super::{
    Entry, Format, FrameSource, Leaf, LeafSize, PageTable, ROOT_LEVEL, Stopped, TableError,
    TableMemory, level_pages, next_entry, slot_of, starts_table,
};
use crate::mem::addr::{PageNumber, Spa, Spfn};
use crate::mem::format::Rights;

/// What to do with each leaf of a range.
#[derive(Clone, Copy)]
enum Change {
    Unmap,
    Protect(Rights),
    /// Only split leaves that are larger.
    Split(LeafSize),
}

/// A change under way.
struct Job {
    page: u64,
    end: u64,
    change: Change,
}

impl<F: Format, M: TableMemory> PageTable<F, M> {
    /// Removes what is mapped in `pages` 4 KiB pages from `first` on, and reports it to `source.removed`. Pages that
    /// are not mapped count as done. Only a leaf that lies partly in the range is split, and only that needs memory.
    ///
    /// # Errors
    ///
    /// [`Stopped`]
    pub fn unmap<S: FrameSource>(
        &mut self,
        source: &mut S,
        first: F::Page,
        pages: u64,
    ) -> Result<(), Stopped> {
        self.change(source, first, pages, Change::Unmap)
    }

    /// Gives the pages of a range other rights; frames stay as they are. Pages that are not mapped, or have no frame,
    /// count as done. Memory is needed as for [`PageTable::unmap`].
    ///
    /// # Errors
    ///
    /// [`Stopped`]; [`TableError::Unsupported`] for rights that the format does not have.
    pub fn protect<S: FrameSource>(
        &mut self,
        source: &mut S,
        first: F::Page,
        pages: u64,
        rights: Rights,
    ) -> Result<(), Stopped> {
        if self.format.leaf(Leaf::new(Spfn(0), rights), 1).is_none() {
            return Err(Stopped {
                done: 0,
                error: TableError::Unsupported,
            });
        }
        self.change(source, first, pages, Change::Protect(rights))
    }

    /// Splits the leaves of a range that are larger than `largest`. They join again at the next map or protect among
    /// them, unless [`PageTable::set_join`] forbids it.
    ///
    /// # Errors
    ///
    /// [`Stopped`]
    pub fn split_range<S: FrameSource>(
        &mut self,
        source: &mut S,
        first: F::Page,
        pages: u64,
        largest: LeafSize,
    ) -> Result<(), Stopped> {
        self.change(source, first, pages, Change::Split(largest))
    }

    fn change<S: FrameSource>(
        &mut self,
        source: &mut S,
        first: F::Page,
        pages: u64,
        change: Change,
    ) -> Result<(), Stopped> {
        let end = self
            .end_of(first, pages)
            .map_err(|error| Stopped { done: 0, error })?;
        if pages == 0 {
            return Ok(());
        }
        let mut job = Job {
            page: first.number(),
            end,
            change,
        };
        let changed = self.change_table(source, &mut job, self.root, ROOT_LEVEL);
        changed.map(drop).map_err(|error| Stopped {
            done: job.page - first.number(),
            error,
        })
    }

    /// The part of a job that lies in one table. True if it is known to have an entry afterwards: nobody has to look whether
    /// it is empty, which takes some thousand instructions where most entries are.
    fn change_table<S: FrameSource>(
        &mut self,
        source: &mut S,
        job: &mut Job,
        table: Spfn,
        level: u8,
    ) -> Result<bool, TableError> {
        if level == 1 && matches!(job.change, Change::Unmap) {
            self.unmap_leaves(source, job, table);
            return Ok(false);
        }
        let mut in_use = false;
        loop {
            let slot = slot_of(table, job.page, level);
            let found = self.read(slot, level);
            match found {
                Entry::Empty => job.page = next_entry(job.page, level).min(job.end),
                Entry::Leaf(_) if job.takes_leaf(level) => {
                    self.change_leaf(source, slot, level, job.change)?;
                    job.page = next_entry(job.page, level).min(job.end);
                }
                Entry::Leaf(_) | Entry::Table(_) => {
                    let child = self.child_table(source, slot, level, found)?;
                    // A table that was split before memory ran out stays split: a retry needs less.
                    let child_in_use = self.change_table(source, job, child, level - 1)?;
                    in_use |= match job.change {
                        Change::Unmap => {
                            child_in_use || !self.drop_empty(source, slot, level, child)
                        }
                        Change::Protect(_) => {
                            self.join(source, slot, level, child);
                            true
                        }
                        Change::Split(_) => true,
                    };
                }
            }
            if job.page >= job.end || starts_table(job.page, level) {
                return Ok(in_use);
            }
        }
    }

    /// What [`Self::change_table`] does at the lowest level for [`Change::Unmap`], in fewer instructions: a call may do 512
    /// pages at a time. Whatever an entry is, it goes.
    #[inline(never)]
    fn unmap_leaves<S: FrameSource>(&mut self, source: &mut S, job: &mut Job, table: Spfn) {
        let mut removed = 0;
        loop {
            let slot = slot_of(table, job.page, 1);
            if self.memory.read(slot) != 0
                && let Entry::Leaf(leaf) = self.replace(slot, 1, 0)
            {
                source.removed(LeafSize::Size4K, leaf);
                removed += 1;
            }
            job.page += 1;
            if job.page >= job.end || starts_table(job.page, 1) {
                self.counts.remove(1, removed);
                return;
            }
        }
    }

    fn change_leaf<S: FrameSource>(
        &mut self,
        source: &mut S,
        slot: Spa,
        level: u8,
        change: Change,
    ) -> Result<(), TableError> {
        match change {
            Change::Unmap => {
                if let Entry::Leaf(leaf) = self.replace(slot, level, 0) {
                    self.counts.remove(level, 1);
                    source.removed(size_at(level), leaf);
                }
                Ok(())
            }
            Change::Protect(rights) => self.edit_leaf(slot, level, |leaf| Leaf { rights, ..leaf }),
            Change::Split(_) => Ok(()),
        }
    }

    /// Changes a leaf that has a frame, and loses no bit that the processor sets meanwhile.
    fn edit_leaf(
        &self,
        slot: Spa,
        level: u8,
        edit: impl Fn(Leaf) -> Leaf,
    ) -> Result<(), TableError> {
        let mut raw = self.memory.read(slot);
        loop {
            let Entry::Leaf(leaf) = self.format.decode(raw, level) else {
                return Ok(());
            };
            if leaf.frame.is_none() {
                return Ok(());
            }
            let new = self
                .format
                .leaf(edit(leaf), level)
                .ok_or(TableError::Unsupported)?;
            match self.memory.compare_exchange(slot, raw, new) {
                found if found == raw => return Ok(()),
                found => raw = found,
            }
        }
    }
}

impl Job {
    /// Whether a leaf that covers the current page is changed as a whole.
    fn takes_leaf(&self, level: u8) -> bool {
        match self.change {
            Change::Split(largest) => level <= largest as u8,
            _ => {
                self.page.is_multiple_of(level_pages(level))
                    && self.end - self.page >= level_pages(level)
            }
        }
    }
}
