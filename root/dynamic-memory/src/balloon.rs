//! Pages that the guest returns (sheet 2.3, 2.4, 2.6).

use crate::event::{Dropped, End, Event, Oddity};
use crate::memory::{Memory, Pin};
use crate::order::{Kind, Order, Step, balloon_step};
use crate::run::PageRun;
use crate::segment::PageState;
use crate::vsp::DynamicMemory;
use crate::wire::{MAX_PAGE, MessageType, WireRange};
use crate::{BACK_OFF, Time};

/// What became of the pages of a BALLOON_RESPONSE.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    freed: u64,
    /// Given up, but in passing use.
    withheld: u64,
    /// Given up by a driver that came after the one that gave them up first.
    found: u64,
    bad_ranges: u64,
    not_ram: u64,
    repeated: u64,
    pinned: u64,
    /// Given up, but not to be had: withheld, and not counted as given.
    failed: u64,
}

impl Taken {
    fn given(&self) -> u64 {
        self.freed
            .saturating_add(self.withheld)
            .saturating_add(self.found)
    }
}

/// Adds, as all counts here do: sums of pages of one VM, below 2^40, or of what it sent.
fn count(sum: &mut u64, pages: u64) {
    *sum = sum.saturating_add(pages);
}

/// Takes what can be taken of pages that the guest has returned.
///
/// All ranges together are looked at as far as they could all be different pages of RAM. So a message costs at most one
/// look at the whole map, however often it names the same pages.
fn take_ranges(ranges: &[WireRange], memory: &mut dyn Memory) -> Taken {
    let mut taken = Taken::default();
    let (top, mut budget) = (memory.book().top(), memory.book().visible());
    for range in ranges {
        let run = range.run();
        if run.is_empty() || run.end() > top || run.count > budget {
            count(&mut taken.bad_ranges, 1);
            continue;
        }
        budget = budget.saturating_sub(run.count);
        take_run(run, memory, &mut taken);
    }
    taken
}

fn take_run(run: PageRun, memory: &mut dyn Memory, taken: &mut Taken) {
    let mut rest = run;
    while !rest.is_empty() {
        let (state, part) = memory.book().leading(rest);
        rest = rest.split(part.count).1;
        match state {
            None => count(&mut taken.not_ram, part.count),
            Some(PageState::Backed) => take_backed(part, memory, taken),
            Some(PageState::Ballooned | PageState::Withheld) => {
                count(&mut taken.repeated, part.count)
            }
            // A kernel that came after the one with the balloon uses such pages as RAM, so it can return them
            // untouched. Then they are in its balloon.
            Some(PageState::Lost) => {
                memory.book().set(part, PageState::Ballooned);
                count(&mut taken.found, part.count);
            }
        }
    }
}

/// Takes backed pages that are not pinned.
fn take_backed(run: PageRun, memory: &mut dyn Memory, taken: &mut Taken) {
    let mut rest = run;
    while !rest.is_empty() {
        let (pin, pages) = memory.pin(rest);
        let (part, behind) = rest.split(pages.max(1));
        rest = behind;
        match pin {
            Pin::Lasting => count(&mut taken.pinned, part.count),
            Pin::Passing => {
                memory.book().set(part, PageState::Withheld);
                count(&mut taken.withheld, part.count);
            }
            Pin::None => {
                let (gone, kept) = part.split(memory.take(part));
                if !gone.is_empty() {
                    memory.book().set(gone, PageState::Ballooned);
                }
                // The guest does not use them any more, so they are no RAM to it; and they are not free, so they are not given.
                if !kept.is_empty() {
                    memory.book().set(kept, PageState::Withheld);
                }
                count(&mut taken.freed, gone.count);
                count(&mut taken.failed, kept.count);
            }
        }
    }
}

impl DynamicMemory {
    /// A part of the answer to a request, or what comes after the host gave up waiting for it.
    pub(crate) fn balloon_response(
        &mut self,
        more: bool,
        ranges: &[WireRange],
        now: Time,
        memory: &mut dyn Memory,
    ) -> Result<(), Dropped> {
        if let Some(order) = self.order
            && let Step::BalloonOut { pages, given } = order.step
        {
            let taken = self.take_listed(ranges, memory);
            self.tell(&taken, now);
            self.balloon_part(order, pages, given, taken, more, now);
            return Ok(());
        }
        if !self.balloon_off {
            return Err(Dropped::Unasked(MessageType::BALLOON_RESPONSE));
        }
        let taken = self.take_listed(ranges, memory);
        self.tell(&taken, now);
        if taken.given() != 0 {
            self.events.push(Event::Late(taken.given()));
        }
        Ok(())
    }

    /// Takes the pages of a message that was asked for.
    fn take_listed(&mut self, ranges: &[WireRange], memory: &mut dyn Memory) -> Taken {
        count(&mut self.counters.balloon_messages, 1);
        count(&mut self.counters.balloon_ranges, ranges.len() as u64);
        take_ranges(ranges, memory)
    }

    fn tell(&mut self, taken: &Taken, now: Time) {
        self.events.odd(taken.bad_ranges, Oddity::Ranges);
        self.events.odd(taken.not_ram, Oddity::NotRam);
        self.events.odd(taken.repeated, Oddity::Repeated);
        self.events.odd(taken.pinned, Oddity::Pinned);
        self.take_failed(taken.failed, now);
    }

    /// Pages that the guest has returned could not be taken. They are tried again.
    fn take_failed(&mut self, pages: u64, now: Time) {
        if pages != 0 {
            self.events.push(Event::TakeFailed(pages));
            self.take_again_at = Some(now.saturating_add(BACK_OFF));
        }
    }

    /// Tries to take what could not be taken, when it is time.
    pub(crate) fn take_again(&mut self, now: Time, memory: &mut dyn Memory) {
        if self.take_again_at.is_some_and(|at| at <= now) {
            self.take_again_at = None;
            self.collect_withheld(PageRun::new(0, MAX_PAGE), now, memory);
        }
    }

    fn balloon_part(
        &mut self,
        order: Order,
        pages: u32,
        given: u64,
        taken: Taken,
        more: bool,
        now: Time,
    ) {
        let Kind::Remove {
            asked,
            left,
            given: all_given,
            freed,
        } = order.kind
        else {
            return;
        };
        let given = given.saturating_add(taken.given());
        let order = Order {
            kind: Kind::Remove {
                asked,
                left,
                given: all_given.saturating_add(taken.given()),
                freed: freed.saturating_add(taken.freed),
            },
            ..order
        };
        if !more {
            self.balloon_done(order, pages.into(), given, now);
            return;
        }
        // Who sends parts without pages is as silent as who sends nothing: else they would freeze the VM for ever.
        let since = if taken.given() != 0 { now } else { order.since };
        self.wait(order, Step::BalloonOut { pages, given }, since);
    }

    /// The guest has sent the last part of an answer.
    fn balloon_done(&mut self, order: Order, pages: u64, given: u64, now: Time) {
        self.events
            .odd(given.saturating_sub(pages), Oddity::TooMany);
        let Kind::Remove {
            asked,
            left,
            given: all_given,
            freed,
        } = order.kind
        else {
            return;
        };
        if given < pages {
            self.refused_at = Some(now);
            self.finish(order, End::Short, now);
            return;
        }
        let left = left.saturating_sub(given);
        if left == 0 {
            self.finish(order, End::Done, now);
            return;
        }
        let kind = Kind::Remove {
            asked,
            left,
            given: all_given,
            freed,
        };
        self.begin(kind, balloon_step(left), now);
    }

    /// Takes withheld pages of that range that nothing uses any more.
    pub(crate) fn collect_withheld(&mut self, within: PageRun, now: Time, memory: &mut dyn Memory) {
        let mut rest = within;
        let mut taken = Taken::default();
        while !rest.is_empty() && memory.book().count(PageState::Withheld) != 0 {
            let (state, part) = memory.book().leading(rest);
            rest = rest.split(part.count).1;
            if state == Some(PageState::Withheld) {
                take_withheld(part, memory, &mut taken);
            }
        }
        self.take_failed(taken.failed, now);
    }
}

fn take_withheld(run: PageRun, memory: &mut dyn Memory, taken: &mut Taken) {
    let mut rest = run;
    while !rest.is_empty() {
        let (pin, pages) = memory.pin(rest);
        let (part, behind) = rest.split(pages.max(1));
        rest = behind;
        if pin == Pin::None {
            let (gone, kept) = part.split(memory.take(part));
            if !gone.is_empty() {
                memory.book().set(gone, PageState::Ballooned);
            }
            count(&mut taken.failed, kept.count);
        }
    }
}
