//! Orders: from the balancer's size to requests, one after the other.

use alloc::vec::Vec;

use crate::event::{End, Event, Finished};
use crate::memory::Memory;
use crate::segment::PageState;
use crate::vsp::{DynamicMemory, Link};
use crate::wire::{self, MAX_MESSAGE, MAX_RANGES, Version};
use crate::{
    BACK_OFF, BALLOON_WITHIN, HOT_ADD_BLOCK_WITHIN, HOT_ADD_WITHIN, LEAST_BLOCK,
    MAX_BALLOON_REQUEST, MAX_HOT_ADD, SEND_WITHIN, Time, UNBALLOON_WITHIN,
};

/// Memory to add, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Add {
    /// From the balloon, first.
    pub unballoon: u64,
    /// New memory: only if the whole balloon is given back, and in multiples of the guest's alignment.
    pub hot_add: u64,
    /// Less than the guest should have: such an add does not restart `since_add` (sheet 4.5).
    pub partial: bool,
}

/// Why an order was not taken. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The guest's driver is not there, or the quiet time is not over, or there was no report.
    #[error("the guest's driver is not ready")]
    NotLive,
    /// No report for 5 s, or the VM is paused.
    #[error("the guest does not report")]
    Frozen,
    /// An operation is under way.
    #[error("an operation is under way")]
    Busy,
    /// The guest cannot balloon, or did not answer when it was asked to.
    #[error("the guest cannot return pages")]
    NoBalloon,
    /// The guest cannot take new memory, or not now.
    #[error("the guest cannot take new memory")]
    NoHotAdd,
    /// The guest returned less than it was asked for, not long ago.
    #[error("the guest refused not long ago")]
    BackOff,
    /// Within the VM's limits and the guest's alignment there is nothing to do.
    #[error("there is nothing to do within the limits")]
    Nothing,
}

/// What an order is for, and how far it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Remove {
        asked: u64,
        /// To be asked for, with the present request.
        left: u64,
        given: u64,
        freed: u64,
    },
    Add {
        asked: Add,
        unballooned: u64,
        /// New memory to be offered, with the present request.
        left: u64,
        hot_added: u64,
    },
}

/// The present request of an order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    BalloonDue {
        pages: u32,
    },
    /// `given` are the pages that came.
    BalloonOut {
        pages: u32,
        given: u64,
    },
    /// Parts go out; `left` pages are in none of them.
    UnballoonDue {
        left: u64,
        is_begun: bool,
    },
    UnballoonOut {
        is_short: bool,
    },
    HotAddDue {
        pages: u64,
    },
    HotAddOut {
        pages: u64,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) kind: Kind,
    pub(crate) step: Step,
    /// Of the present request, the same in all its parts.
    pub(crate) trans_id: u32,
    /// When the step's time began.
    pub(crate) since: Time,
}

impl Order {
    /// When it is given up, as a time of the VM. `block` is the guest's unit of hot-add.
    pub(crate) fn deadline(&self, block: u64) -> Time {
        let within = match self.step {
            Step::BalloonDue { .. } | Step::UnballoonDue { .. } | Step::HotAddDue { .. } => {
                SEND_WITHIN
            }
            Step::BalloonOut { .. } => BALLOON_WITHIN,
            Step::UnballoonOut { .. } => UNBALLOON_WITHIN,
            Step::HotAddOut { pages } => {
                let blocks = pages.div_ceil(block.max(LEAST_BLOCK));
                HOT_ADD_WITHIN.saturating_add(HOT_ADD_BLOCK_WITHIN.saturating_mul(blocks))
            }
        };
        self.since.saturating_add(within)
    }

    pub(crate) fn packet_len(&self) -> Option<usize> {
        match self.step {
            Step::BalloonDue { .. } => Some(size_of::<wire::BalloonRequest>()),
            Step::HotAddDue { .. } => Some(size_of::<wire::HotAddRegionRequest>()),
            // Withheld pages may join the last part, so only a full message is surely enough.
            Step::UnballoonDue { .. } => Some(MAX_MESSAGE),
            _ => None,
        }
    }

    pub(crate) fn pages_left(&self) -> u64 {
        match (self.kind, self.step) {
            (Kind::Add { left, .. }, Step::UnballoonDue { left: more, .. }) => {
                left.saturating_add(more)
            }
            (Kind::Remove { left, .. } | Kind::Add { left, .. }, _) => left,
        }
    }

    fn finished(&self, end: End) -> Finished {
        match self.kind {
            Kind::Remove {
                asked,
                given,
                freed,
                ..
            } => Finished::Removed {
                asked,
                given,
                freed,
                end,
            },
            Kind::Add {
                asked,
                unballooned,
                hot_added,
                ..
            } => Finished::Added {
                asked,
                unballooned,
                hot_added,
                end,
            },
        }
    }
}

const _: () = assert!(MAX_MESSAGE == size_of::<wire::UnballoonRequest>() + 8 * MAX_RANGES);

impl DynamicMemory {
    /// The unit of hot-add in pages, for address and size.
    pub(crate) fn block(&self) -> u64 {
        let alignment = self.capabilities.alignment();
        match self.link {
            Link::Ready(version) if version >= Version::WIN8 => alignment,
            _ => alignment.max(LEAST_BLOCK),
        }
    }

    /// Whether an order can be taken at all.
    pub(crate) fn check_idle(&self, now: Time) -> Result<(), Refused> {
        if self.order.is_some() {
            return Err(Refused::Busy);
        }
        if !self.is_live || self.is_resetting {
            return Err(Refused::NotLive);
        }
        let is_overdue = self.reports.overdue_at().is_none_or(|at| at <= now);
        if self.clock.is_paused() || is_overdue {
            return Err(Refused::Frozen);
        }
        Ok(())
    }

    /// Whether the guest takes new memory.
    pub(crate) fn check_hot_add(&self, now: Time) -> Result<(), Refused> {
        let is_held = self.hot_add_hold.is_some_and(|until| now < until);
        if !self.capabilities.hot_add() || self.hot_add_off || is_held {
            return Err(Refused::NoHotAdd);
        }
        Ok(())
    }

    /// Asks the guest to return pages, but not so many that it would have less than its minimum. How many it is asked
    /// for; what becomes of it is an [`Event::Finished`].
    ///
    /// # Errors
    ///
    /// See [`Refused`].
    pub fn remove(
        &mut self,
        pages: u64,
        now: Time,
        memory: &mut dyn Memory,
    ) -> Result<u64, Refused> {
        let now = self.clock.at(now);
        self.check_idle(now)?;
        if !self.capabilities.balloon() || self.balloon_off {
            return Err(Refused::NoBalloon);
        }
        if self
            .refused_at
            .is_some_and(|at| now < at.saturating_add(BACK_OFF))
        {
            return Err(Refused::BackOff);
        }
        let book = memory.book();
        // What is withheld goes by itself, once nothing uses it any more.
        let staying = book
            .assigned()
            .saturating_sub(book.count(PageState::Withheld));
        let spare = staying.saturating_sub(self.settings.minimum);
        let asked = pages.min(spare);
        if asked == 0 {
            return Err(Refused::Nothing);
        }
        let kind = Kind::Remove {
            asked,
            left: asked,
            given: 0,
            freed: 0,
        };
        self.begin(kind, balloon_step(asked), now);
        Ok(asked)
    }

    /// Adds memory: what is in the balloon first. What will be done: within the limits, in the guest's units. What
    /// becomes of it is an [`Event::Finished`].
    ///
    /// # Errors
    ///
    /// See [`Refused`].
    pub fn add(&mut self, add: Add, now: Time, memory: &mut dyn Memory) -> Result<Add, Refused> {
        let now = self.clock.at(now);
        self.check_idle(now)?;
        let book = memory.book();
        let returnable = book.count(PageState::Ballooned);
        let room = self.upper().saturating_sub(book.assigned());
        let unballoon = add.unballoon.min(returnable).min(room);
        let wants_hot_add = add.hot_add != 0 && unballoon == returnable;
        let hot_add = match self.check_hot_add(now) {
            Ok(()) if wants_hot_add => {
                let room = self.upper().saturating_sub(book.visible());
                self.in_blocks(add.hot_add.min(room))
            }
            Err(refused) if wants_hot_add && unballoon == 0 => return Err(refused),
            _ => 0,
        };
        let asked = Add {
            unballoon,
            hot_add,
            partial: add.partial,
        };
        let step = if unballoon != 0 {
            Step::UnballoonDue {
                left: unballoon,
                is_begun: false,
            }
        } else if hot_add != 0 {
            self.hot_add_step(hot_add)
        } else {
            return Err(Refused::Nothing);
        };
        let kind = Kind::Add {
            asked,
            unballooned: 0,
            left: hot_add,
            hot_added: 0,
        };
        self.begin(kind, step, now);
        Ok(asked)
    }

    /// Whole blocks only.
    fn in_blocks(&self, pages: u64) -> u64 {
        pages.saturating_sub(pages.checked_rem(self.block()).unwrap_or(pages))
    }

    pub(crate) fn hot_add_step(&self, left: u64) -> Step {
        let most = MAX_HOT_ADD.max(self.block());
        Step::HotAddDue {
            pages: self.in_blocks(left.min(most)),
        }
    }

    /// The next request of an order, with an id of its own.
    pub(crate) fn begin(&mut self, kind: Kind, step: Step, now: Time) {
        let trans_id = self.next_id();
        self.order = Some(Order {
            kind,
            step,
            trans_id,
            since: now,
        });
    }

    /// The order is over.
    pub(crate) fn finish(&mut self, order: Order, end: End, now: Time) {
        self.order = None;
        match order.kind {
            Kind::Remove { freed, .. } => {
                if freed != 0 {
                    self.counters.remove_operations =
                        self.counters.remove_operations.saturating_add(1);
                }
            }
            Kind::Add {
                asked,
                unballooned,
                hot_added,
                ..
            } => {
                if unballooned != 0 || hot_added != 0 {
                    self.counters.add_operations = self.counters.add_operations.saturating_add(1);
                }
                if end == End::Done && !asked.partial {
                    self.added_at = Some(now);
                }
            }
        }
        self.events.push(Event::Finished(order.finished(end)));
    }

    /// The order's request, or the next part of it.
    pub(crate) fn order_packet(
        &mut self,
        version: Version,
        now: Time,
        memory: &mut dyn Memory,
    ) -> Option<Vec<u8>> {
        let order = self.order?;
        match order.step {
            Step::BalloonDue { pages } => {
                self.wait(order, Step::BalloonOut { pages, given: 0 }, now);
                Some(wire::balloon(order.trans_id, pages))
            }
            Step::UnballoonDue { left, is_begun } => {
                self.unballoon_part(order, left, is_begun, now, memory)
            }
            Step::HotAddDue { pages } => self.hot_add_packet(order, pages, version, now, memory),
            _ => None,
        }
    }

    /// The order goes on with that step from now on.
    pub(crate) fn wait(&mut self, order: Order, step: Step, now: Time) {
        self.order = Some(Order {
            step,
            since: now,
            ..order
        });
    }

    /// Ends an order whose time is over (sheet 2.8).
    pub(crate) fn order_timeout(&mut self, now: Time, memory: &mut dyn Memory) {
        let Some(order) = self
            .order
            .filter(|order| order.deadline(self.block()) <= now)
        else {
            return;
        };
        match order.step {
            Step::BalloonOut { .. } => {
                self.balloon_off = true;
                self.events.push(Event::BalloonOff);
                self.finish(order, End::TimedOut, now);
            }
            Step::HotAddOut { .. } => {
                let order = self.keep_offered(order, memory);
                self.finish(order, End::TimedOut, now);
            }
            Step::UnballoonOut { .. } => self.finish(order, End::TimedOut, now),
            _ => self.finish(order, End::NotSent, now),
        }
    }

    /// The channel is gone (sheet 2.5).
    pub(crate) fn interrupt(&mut self, now: Time, memory: &mut dyn Memory) {
        if let Some(order) = self.order {
            let order = self.keep_offered(order, memory);
            self.finish(order, End::Closed, now);
        }
    }
}

/// The next request of an order to remove that much.
pub(crate) fn balloon_step(left: u64) -> Step {
    let pages = left.min(MAX_BALLOON_REQUEST);
    Step::BalloonDue {
        pages: u32::try_from(pages).unwrap_or(u32::MAX),
    }
}
