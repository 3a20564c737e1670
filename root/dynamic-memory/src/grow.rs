//! Pages that the guest gets: back from the balloon, and new ones (sheet 2.3, 2.4, 1.7).

use alloc::vec::Vec;

use crate::event::{Dropped, End, Event, HotAddOff, Oddity};
use crate::memory::{Memory, Pin};
use crate::order::{Kind, Order, Step};
use crate::run::PageRun;
use crate::segment::PageState;
use crate::vsp::{DynamicMemory, Watch};
use crate::wire::{self, MAX_RANGES, MessageType, Version, WireRange};
use crate::{BACK_OFF, OFFLINE_WATCH, Time};

/// A part of an unballoon.
#[derive(Default)]
struct Part {
    ranges: Vec<WireRange>,
    pages: u64,
    /// Free memory was used up.
    is_short: bool,
}

impl Part {
    /// Backs ballooned runs, the long ones first, `left` pages at most, and lists them.
    fn of_balloon(left: u64, memory: &mut dyn Memory) -> Self {
        let mut part = Self::default();
        while part.ranges.len() < MAX_RANGES && part.pages < left {
            let Some(run) = memory.book().next_back(PageState::Ballooned) else {
                break;
            };
            let (run, _) = run.split(left.saturating_sub(part.pages));
            let (backed, missing) = run.split(memory.back(run));
            if !backed.is_empty() {
                memory.book().set(backed, PageState::Backed);
                part.pages = part.pages.saturating_add(backed.count);
                part.ranges.extend(WireRange::new(backed));
            }
            if !missing.is_empty() {
                part.is_short = true;
                break;
            }
        }
        part
    }

    /// Lists pages that the guest returned and that could not be taken yet: with the last of the balloon they go back.
    fn add_withheld(&mut self, memory: &mut dyn Memory) {
        while self.ranges.len() < MAX_RANGES
            && let Some(run) = memory.book().next_back(PageState::Withheld)
        {
            memory.book().set(run, PageState::Backed);
            self.ranges.extend(WireRange::new(run));
        }
    }
}

impl DynamicMemory {
    /// The next part of an unballoon. Its pages are backed first (N7), and named in no other part: they are backed.
    pub(crate) fn unballoon_part(
        &mut self,
        order: Order,
        left: u64,
        is_begun: bool,
        now: Time,
        memory: &mut dyn Memory,
    ) -> Option<Vec<u8>> {
        let Kind::Add {
            asked,
            unballooned,
            left: hot_left,
            hot_added,
        } = order.kind
        else {
            return None;
        };
        let mut part = Part::of_balloon(left, memory);
        let left = left.saturating_sub(part.pages);
        let is_empty = memory.book().count(PageState::Ballooned) == 0;
        if is_empty {
            part.add_withheld(memory);
        }
        let has_withheld = is_empty && memory.book().count(PageState::Withheld) != 0;
        let more = !part.is_short && (has_withheld || (left != 0 && !is_empty));
        let kind = Kind::Add {
            asked,
            unballooned: unballooned.saturating_add(part.pages),
            left: hot_left,
            hot_added,
        };
        let order = Order { kind, ..order };
        if part.ranges.is_empty() && !is_begun {
            let end = if part.is_short {
                End::NoMemory
            } else {
                End::Short
            };
            self.finish(order, end, now);
            return None;
        }
        let step = if more {
            Step::UnballoonDue {
                left,
                is_begun: true,
            }
        } else {
            Step::UnballoonOut {
                is_short: part.is_short,
            }
        };
        self.wait(order, step, now);
        let counters = &mut self.counters;
        counters.unballoon_messages = counters.unballoon_messages.saturating_add(1);
        let ranges = part.ranges.len() as u64;
        counters.unballoon_ranges = counters.unballoon_ranges.saturating_add(ranges);
        Some(wire::unballoon(order.trans_id, more, &part.ranges))
    }

    /// The guest has what it was given back.
    pub(crate) fn unballoon_response(&mut self, now: Time) -> Result<(), Dropped> {
        let unasked = Dropped::Unasked(MessageType::UNBALLOON_RESPONSE);
        let order = self.order.ok_or(unasked)?;
        let (Step::UnballoonOut { is_short }, Kind::Add { left, .. }) = (order.step, order.kind)
        else {
            return Err(unasked);
        };
        if is_short {
            self.finish(order, End::NoMemory, now);
        } else if left != 0 {
            self.begin(order.kind, self.hot_add_step(left), now);
        } else {
            self.finish(order, End::Done, now);
        }
        Ok(())
    }

    /// Offers new memory, which is backed first (N7).
    pub(crate) fn hot_add_packet(
        &mut self,
        order: Order,
        pages: u64,
        version: Version,
        now: Time,
        memory: &mut dyn Memory,
    ) -> Option<Vec<u8>> {
        let place = self.place(pages, memory);
        let Some((run, range)) = place.and_then(|run| Some((run, WireRange::new(run)?))) else {
            self.finish(order, End::NoAddress, now);
            return None;
        };
        if memory.book().make_room(run).is_err() {
            self.finish(order, End::NoMemory, now);
            return None;
        }
        let (backed, missing) = run.split(memory.back(run));
        if !missing.is_empty() {
            if !backed.is_empty() {
                let (_, kept) = backed.split(memory.take(backed));
                self.keep(kept, memory);
            }
            self.finish(order, End::NoMemory, now);
            return None;
        }
        memory.book().offer(run);
        self.wait(order, Step::HotAddOut { pages }, now);
        Some(wire::hot_add(order.trans_id, version, range))
    }

    /// Where that much memory goes: the next aligned address above all RAM and outside the holes.
    fn place(&self, pages: u64, memory: &mut dyn Memory) -> Option<PageRun> {
        let block = self.block();
        let mut run = PageRun::new(memory.book().top().checked_next_multiple_of(block)?, pages);
        // Each turn leaves a hole behind for good.
        while let Some(hole) = self.settings.holes.iter().find(|hole| hole.overlaps(run)) {
            run.start = hole.end().checked_next_multiple_of(block)?;
        }
        let fits = !run.is_empty()
            && run.start.checked_add(run.count)? <= self.settings.end_of_addresses
            && memory.book().check_new(run).is_ok();
        fits.then_some(run)
    }

    /// Pages that could not be taken although they are not the guest's stay in the book, as RAM.
    fn keep(&mut self, run: PageRun, memory: &mut dyn Memory) {
        if !run.is_empty() {
            memory.book().offer(run);
            memory.book().accept(run.count);
            self.events.push(Event::TakeFailed(run.count));
        }
    }

    /// The guest says how much of the new memory it has (sheet 1.7).
    pub(crate) fn hot_add_response(
        &mut self,
        page_count: u32,
        result: bool,
        now: Time,
        memory: &mut dyn Memory,
    ) -> Result<(), Dropped> {
        let unasked = Dropped::Unasked(MessageType::MEM_HOT_ADD_RESPONSE);
        let order = self.order.ok_or(unasked)?;
        let Step::HotAddOut { pages } = order.step else {
            return Err(unasked);
        };
        if u64::from(page_count) > pages {
            self.events
                .push(Event::Odd(Oddity::HotAddCount(page_count)));
        }
        let count = u64::from(page_count).min(pages);
        let count = self.settle_offer(count, memory);
        let order = added(order, count);
        self.watch_from(count, now);
        if !result {
            self.hold_hot_add(now.saturating_add(BACK_OFF), HotAddOff::Failed);
            self.finish(order, End::Short, now);
        } else if u64::from(page_count) < pages {
            self.hot_add_ends(HotAddOff::Refused);
            self.finish(order, End::Short, now);
        } else if let Kind::Add { left, .. } = order.kind
            && left != 0
        {
            self.begin(order.kind, self.hot_add_step(left), now);
        } else {
            self.finish(order, End::Done, now);
        }
        Ok(())
    }

    /// Takes back what the guest did not take of an offer. What it has of it now: more than it said if it uses the
    /// rest already (trap 21), or if the rest cannot be taken.
    fn settle_offer(&mut self, count: u64, memory: &mut dyn Memory) -> u64 {
        let Some(offered) = memory.book().offered() else {
            return 0;
        };
        let (_, rest) = offered.split(count);
        if is_pinned(rest, memory) {
            self.events.push(Event::Odd(Oddity::HotAddUsed(rest.count)));
            memory.book().accept(offered.count);
            self.hot_add_ends(HotAddOff::Refused);
            return offered.count;
        }
        let rest = memory.book().accept(count);
        if !rest.is_empty() {
            let (_, kept) = rest.split(memory.take(rest));
            self.keep(kept, memory);
        }
        count
    }

    fn watch_from(&mut self, pages: u64, now: Time) {
        let demand = self.reports.demand().map_or(0, |demand| demand.newest);
        self.watch = (pages != 0).then_some(Watch {
            until: now.saturating_add(OFFLINE_WATCH),
            demand,
            pages,
        });
    }

    pub(crate) fn hot_add_ends(&mut self, why: HotAddOff) {
        if !core::mem::replace(&mut self.hot_add_off, true) {
            self.events.push(Event::HotAddOff(why));
        }
    }

    /// What the guest was offered may be in use, and no answer will come: it is the guest's (sheet 2.5).
    pub(crate) fn keep_offered(&mut self, order: Order, memory: &mut dyn Memory) -> Order {
        let Some(offered) = memory.book().offered() else {
            return order;
        };
        memory.book().accept(offered.count);
        self.hot_add_ends(HotAddOff::Unanswered);
        added(order, offered.count)
    }
}

/// The order with that much more added.
fn added(order: Order, pages: u64) -> Order {
    let Kind::Add {
        asked,
        unballooned,
        left,
        hot_added,
    } = order.kind
    else {
        return order;
    };
    let kind = Kind::Add {
        asked,
        unballooned,
        left: left.saturating_sub(pages),
        hot_added: hot_added.saturating_add(pages),
    };
    Order { kind, ..order }
}

/// Whether anything uses any of these pages.
fn is_pinned(run: PageRun, memory: &mut dyn Memory) -> bool {
    let mut rest = run;
    while !rest.is_empty() {
        let (pin, pages) = memory.pin(rest);
        if pin != Pin::None {
            return true;
        }
        rest = rest.split(pages.max(1)).1;
    }
    false
}
