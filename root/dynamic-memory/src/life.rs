//! What happens to the VM: touches of ballooned pages, reset, end, a new process that takes over (sheet 2.5, 2.7).

use alloc::vec::Vec;

use crate::event::{End, Event, HotAddOff};
use crate::memory::Memory;
use crate::run::PageRun;
use crate::segment::PageState;
use crate::vsp::DynamicMemory;
use crate::wire::MAX_PAGE;
use crate::{TOUCH_LOG, Time};

/// What a page is that the guest touched and that is not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// It is backed now, with zeros: the processor goes on.
    Backed,
    /// It was backed before: another processor was quicker, and this one goes on.
    There,
    /// There is no free memory: the processor waits, and this is called again when there is.
    Waits,
    /// It is no RAM: a device, or nothing.
    NotRam,
}

/// A reset that cannot be finished: free memory lacks this many pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("startup memory lacks {0} pages")]
pub struct Missing(pub u64);

impl DynamicMemory {
    /// A processor of the guest touched a page without memory behind it. That is how a kernel that came after the one
    /// with the balloon (kexec, crash dump) finds its RAM (trap 27).
    pub fn touched(&mut self, page: u64, now: Time, memory: &mut dyn Memory) -> Touch {
        let now = self.clock.at(now);
        let run = PageRun::new(page, 1);
        let is_offered = memory
            .book()
            .offered()
            .is_some_and(|offered| offered.contains(page));
        match memory.book().state(page) {
            None if is_offered => Touch::There,
            None => Touch::NotRam,
            Some(PageState::Backed | PageState::Withheld) => Touch::There,
            Some(PageState::Ballooned | PageState::Lost) => {
                if memory.back(run) == 0 {
                    self.events.push(Event::TouchWaits);
                    return Touch::Waits;
                }
                memory.book().set(run, PageState::Backed);
                self.count_touch(now);
                Touch::Backed
            }
        }
    }

    fn count_touch(&mut self, now: Time) {
        self.counters.touched = self.counters.touched.saturating_add(1);
        self.touches = self.touches.saturating_add(1);
        if self
            .touches_told
            .is_none_or(|told| now >= told.saturating_add(TOUCH_LOG))
        {
            self.touches_told = Some(now);
            self.events
                .push(Event::Touched(core::mem::take(&mut self.touches)));
        }
    }

    /// Something that pinned pages of this range has ended. Those that the guest has returned are taken now. Only while
    /// the channel is open: a kernel that comes after may use them.
    pub fn unpinned(&mut self, within: PageRun, now: Time, memory: &mut dyn Memory) {
        let now = self.clock.at(now);
        if self.is_ready() {
            let (within, _) = within.split(MAX_PAGE);
            self.collect_withheld(within, now, memory);
        }
    }

    /// The process that spoke with the guest died, and this is the new one's: what the old one had offered is the
    /// guest's, as if the channel had been closed.
    pub fn take_over(&mut self, memory: &mut dyn Memory) {
        if let Some(offered) = memory.book().offered() {
            memory.book().accept(offered.count);
            self.hot_add_ends(HotAddOff::Unanswered);
        }
    }

    /// The VM is reset: all its processors have stopped, rings and GPADLs are gone, DMA has ended. Hot-added memory is
    /// freed, the balloon is empty, and startup memory is backed in full, before a processor may run (trap 26).
    ///
    /// # Errors
    ///
    /// Free memory does not suffice. The reset waits: call again when there is more.
    pub fn reset(&mut self, now: Time, memory: &mut dyn Memory) -> Result<(), Missing> {
        let now = self.clock.at(now);
        self.drop_everything(now, memory);
        self.free_hot_added(memory);
        let missing = back_startup(memory);
        if missing != 0 {
            if !core::mem::replace(&mut self.is_resetting, true) {
                self.events.push(Event::ResetWaits(missing));
            }
            return Err(Missing(missing));
        }
        self.is_resetting = false;
        Ok(())
    }

    /// The VM ends: as for [`reset`](Self::reset), but all memory is freed. The book has no more meaning then: it says
    /// that all pages are ballooned.
    pub fn end(&mut self, now: Time, memory: &mut dyn Memory) {
        let now = self.clock.at(now);
        self.drop_everything(now, memory);
        self.is_resetting = true;
        self.free_hot_added(memory);
        let runs: Vec<PageRun> = memory.book().segments().map(|(run, _)| run).collect();
        let failed = free_backed(&runs, memory);
        self.tell_failed(failed);
    }

    fn drop_everything(&mut self, now: Time, memory: &mut dyn Memory) {
        if let Some(order) = self.order {
            self.finish(order, End::Dropped, now);
        }
        self.forget_connection();
        self.is_32_bit = None;
        self.hot_add_off = false;
        self.hot_add_hold = None;
        self.offline_in_turn = 0;
        self.refused_at = None;
        self.added_at = None;
        if let Some(offered) = memory.book().offered() {
            memory.book().accept(offered.count);
        }
    }

    fn free_hot_added(&mut self, memory: &mut dyn Memory) {
        let runs: Vec<PageRun> = memory
            .book()
            .segments()
            .filter(|(_, hot)| *hot)
            .map(|(run, _)| run)
            .collect();
        let failed = free_backed(&runs, memory);
        self.tell_failed(failed);
        // What cannot be freed stays in the book: no page is lost (N5).
        if failed == 0 {
            memory.book().drop_hot_added();
        }
    }

    fn tell_failed(&mut self, failed: u64) {
        if failed != 0 {
            self.events.push(Event::TakeFailed(failed));
        }
    }
}

/// Takes all backed pages of pieces of RAM. How many could not be taken.
fn free_backed(runs: &[PageRun], memory: &mut dyn Memory) -> u64 {
    let mut failed = 0_u64;
    for &run in runs {
        let mut rest = run;
        while !rest.is_empty() {
            let (state, part) = memory.book().leading(rest);
            rest = rest.split(part.count).1;
            if !state.is_some_and(PageState::is_backed) {
                continue;
            }
            let (gone, kept) = part.split(memory.take(part));
            if !gone.is_empty() {
                memory.book().set(gone, PageState::Ballooned);
            }
            failed = failed.saturating_add(kept.count);
        }
    }
    failed
}

/// Backs startup memory as far as free memory goes. How many pages lack.
fn back_startup(memory: &mut dyn Memory) -> u64 {
    let runs: Vec<PageRun> = memory
        .book()
        .segments()
        .filter(|(_, hot)| !*hot)
        .map(|(run, _)| run)
        .collect();
    let mut missing = 0_u64;
    for run in runs {
        let mut rest = run;
        while !rest.is_empty() {
            let (state, part) = memory.book().leading(rest);
            rest = rest.split(part.count).1;
            let has_memory = state.is_none_or(PageState::is_backed);
            let backed = if has_memory {
                part
            } else {
                part.split(memory.back(part)).0
            };
            if !backed.is_empty() {
                memory.book().set(backed, PageState::Backed);
            }
            missing = missing.saturating_add(part.count.saturating_sub(backed.count));
        }
    }
    missing
}
