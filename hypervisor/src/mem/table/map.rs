//! Making translations.

use super::{
    ENTRIES, Entry, Format, FrameSource, Leaf, LeafSize, PageTable, ROOT_LEVEL, Stopped,
    TableError, TableMemory, entry_of, level_pages, new_table, release_table, slot_of,
    starts_table,
};
use crate::mem::addr::{PageNumber, Spa, Spfn};

/// A mapping under way: `leaf` is what comes at `page`.
struct Job {
    page: u64,
    end: u64,
    leaf: Leaf,
    largest: LeafSize,
}

impl<F: Format, M: TableMemory> PageTable<F, M> {
    /// Maps `pages` 4 KiB pages from `first` on to the frames from `leaf.frame` on (or to none), by the largest leaves
    /// that alignment, the processor and `largest` allow. What was mapped there is replaced and reported to
    /// `source.removed`. A 2 MiB leaf costs a few hundred instructions.
    ///
    /// # Errors
    ///
    /// [`Stopped`], with how far it came; nothing is done for [`TableError::OutOfRange`] and [`TableError::Unsupported`].
    pub fn map<S: FrameSource>(
        &mut self,
        source: &mut S,
        first: F::Page,
        pages: u64,
        leaf: Leaf,
        largest: LeafSize,
    ) -> Result<(), Stopped> {
        let end = self
            .check_map(first, pages, leaf)
            .map_err(|error| Stopped { done: 0, error })?;
        if pages == 0 {
            return Ok(());
        }
        let largest = largest.min(self.format.max_leaf());
        let mut job = Job {
            page: first.number(),
            end,
            leaf,
            largest,
        };
        self.map_table(source, &mut job, self.root, ROOT_LEVEL)
            .map_err(|error| Stopped {
                done: job.page - first.number(),
                error,
            })
    }

    fn check_map(&self, first: F::Page, pages: u64, leaf: Leaf) -> Result<u64, TableError> {
        let end = self.end_of(first, pages)?;
        let last = leaf.advanced(pages.saturating_sub(1));
        let wraps = matches!((leaf.frame, last.frame), (Some(first), Some(last)) if last < first);
        if wraps || self.format.leaf(leaf, 1).is_none() || self.format.leaf(last, 1).is_none() {
            return Err(TableError::Unsupported);
        }
        Ok(end)
    }

    /// The part of a job that lies in one table.
    fn map_table<S: FrameSource>(
        &mut self,
        source: &mut S,
        job: &mut Job,
        table: Spfn,
        level: u8,
    ) -> Result<(), TableError> {
        if level == 1 {
            return self.map_leaves(source, job, table);
        }
        loop {
            let slot = slot_of(table, job.page, level);
            let found = self.read(slot, level);
            match self.leaf_here(job, found, level) {
                Some(raw) => {
                    let old = self.replace(slot, level, raw);
                    self.report(source, old, level);
                    self.counts.add(level, 1);
                    job.leaf = job.leaf.advanced(level_pages(level));
                    job.page += level_pages(level);
                }
                None => {
                    let child = self.child_table(source, slot, level, found)?;
                    // A table that was split before memory ran out stays split: a retry needs less.
                    self.map_table(source, job, child, level - 1)?;
                    self.join(source, slot, level, child);
                }
            }
            if job.page >= job.end || starts_table(job.page, level) {
                return Ok(());
            }
        }
    }

    /// What [`Self::map_table`] does at the lowest level, in fewer instructions: a call may do 512 pages at a time.
    #[inline(never)]
    fn map_leaves<S: FrameSource>(
        &mut self,
        source: &mut S,
        job: &mut Job,
        table: Spfn,
    ) -> Result<(), TableError> {
        let (mut added, mut removed) = (0, 0);
        let done = loop {
            let Some(raw) = self.format.leaf(job.leaf, 1) else {
                break Err(TableError::Unsupported);
            };
            if let Entry::Leaf(old) = self.replace(slot_of(table, job.page, 1), 1, raw) {
                source.removed(LeafSize::Size4K, old);
                removed += 1;
            }
            added += 1;
            job.leaf = job.leaf.advanced(1);
            job.page += 1;
            if job.page >= job.end || starts_table(job.page, 1) {
                break Ok(());
            }
        };
        self.counts.add(1, added);
        self.counts.remove(1, removed);
        done
    }

    /// The entry to write, if the job's next piece is a leaf of this level.
    fn leaf_here(&self, job: &Job, found: Entry, level: u8) -> Option<u64> {
        let size = LeafSize::of_level(level)?;
        if size > job.largest
            || !job.page.is_multiple_of(size.pages())
            || job.end - job.page < size.pages()
        {
            return None;
        }
        // 512 leaves at most are replaced by one entry; what lies below 1 GiB is filled by 2 MiB leaves and then joined.
        if size == LeafSize::Size1G && matches!(found, Entry::Table(_)) {
            return None;
        }
        self.format.leaf(job.leaf, level)
    }

    /// The table below an entry that was found as `found`: made empty, or from the leaf that is there.
    pub(super) fn child_table<S: FrameSource>(
        &mut self,
        source: &mut S,
        slot: Spa,
        level: u8,
        found: Entry,
    ) -> Result<Spfn, TableError> {
        match found {
            Entry::Table(table) => Ok(table),
            Entry::Leaf(_) => self.split(source, slot, level),
            Entry::Empty => {
                let table = new_table(self.memory, source)?;
                self.replace(slot, level, self.format.table(table));
                Ok(table)
            }
        }
    }

    /// Reports the leaves that an entry of the past led to.
    fn report<S: FrameSource>(&mut self, source: &mut S, old: Entry, level: u8) {
        match old {
            Entry::Empty => {}
            Entry::Leaf(leaf) => {
                self.counts.remove(level, 1);
                source.removed(size_at(level), leaf);
            }
            Entry::Table(table) => self.report_table(source, table, level - 1),
        }
    }

    /// Reports the leaves of a table of the past, and gives the table back.
    #[inline(never)]
    fn report_table<S: FrameSource>(&mut self, source: &mut S, table: Spfn, level: u8) {
        let mut removed = 0;
        for index in 0..ENTRIES {
            if let Entry::Leaf(leaf) = self.read(entry_of(table, index), level) {
                source.removed(size_at(level), leaf);
                removed += 1;
            }
        }
        self.counts.remove(level, removed);
        release_table(table, source);
    }
}

/// Size of a leaf that was found at `level`.
pub(super) const fn size_at(level: u8) -> LeafSize {
    match level {
        1 => LeafSize::Size4K,
        2 => LeafSize::Size2M,
        _ => LeafSize::Size1G,
    }
}
